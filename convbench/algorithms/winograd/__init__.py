"""winograd.f2 to .f7: the same code with another tile."""

from __future__ import annotations

from convbench.algorithms.winograd.tiles import algorithm

ALGORITHMS = [algorithm(m) for m in (2, 3, 4, 5, 6, 7)]
