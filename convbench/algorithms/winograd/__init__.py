"""winograd.f2, .f4, .f5, .f6, .f7: the same code with another tile."""

from __future__ import annotations

from convbench.algorithms.winograd.tiles import algorithm

ALGORITHMS = [algorithm(m) for m in (2, 4, 5, 6, 7)]
