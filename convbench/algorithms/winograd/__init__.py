"""winograd.f2 to .f7: the same code with another tile; one of 7 x 5; some in 24 bits, in halves, in pairs."""

from __future__ import annotations

from convbench.algorithms.winograd import int8x3
from convbench.algorithms.winograd.tiles import (
    algorithm,
    oblong_algorithm,
    pairs_algorithm,
    short_algorithm,
    split_algorithm,
)

ALGORITHMS = [
    *(algorithm(m) for m in (2, 3, 4, 5, 6, 7)),
    oblong_algorithm((7, 5)),
    *(short_algorithm(m) for m in (5, 6)),
    pairs_algorithm(7),
    *(split_algorithm(m) for m in (2, 3, 4)),
    *(int8x3.algorithm(m) for m in (2, 3, 4)),
]
