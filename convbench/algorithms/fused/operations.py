"""How many FLOPs the code of a transform executes, found by running it on numbers that only count."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.values import Complex, Transform


class _Counted:
    """A stand-in for a vector: knows no value, counts each operation on it in its tally."""

    def __init__(self, tally: list[int]) -> None:
        self.tally = tally

    def _operation(self, other: Any = None) -> _Counted:
        self.tally[0] += 1
        return self

    __add__ = __sub__ = __mul__ = __rmul__ = __neg__ = _operation


@lru_cache(maxsize=64)
def of_axis(axis: Transform) -> tuple[int, int, int, int]:
    """FLOPs of spectrum, complex_spectrum, result and complex_result, for one lane."""
    counts = []
    for which in ("spectrum", "complex_spectrum", "result", "complex_result"):
        tally = [0]
        one: Any = _Counted(tally)
        pair = Complex(one, one)
        if which == "spectrum":
            axis.spectrum([one] * axis.window)
        elif which == "complex_spectrum":
            axis.complex_spectrum([pair] * axis.window)
        elif which == "result":
            axis.result([one] * axis.reals, [pair] * axis.pairs)
        else:
            axis.complex_result([pair] * (axis.reals + 2 * axis.pairs))
        counts.append(tally[0])
    return counts[0], counts[1], counts[2], counts[3]


def of_tile(tile: Tile) -> tuple[int, int]:
    """FLOPs to transform one channel's window, and to transform one filter's products back."""
    y, x = of_axis(tile.y), of_axis(tile.x)
    points = tile.y.reals + 2 * tile.y.pairs  # each complex number is a sum into V, and two multiply-adds out of M
    forward = tile.y.window * x[0] + tile.x.reals * (y[0] + tile.y.pairs) + tile.x.pairs * (y[1] + points)
    backward = tile.y.outputs * x[2] + tile.x.reals * (y[2] + 4 * tile.y.pairs) + tile.x.pairs * (y[3] + 4 * points)
    return forward, backward
