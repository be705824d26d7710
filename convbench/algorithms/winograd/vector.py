"""winograd.f<m> for float32 on the CPU: the points of its transforms, and the engine of algorithms/fused.

Up to windows of 7 inputs the points are real. Larger windows take i and -i among them, as rounding errors otherwise
grow tenfold: F(7, 3) errs by 6e-7, F(7, 5) by 2e-6. But a pair of complex points costs three products instead of two.
Where 1e-5 is exact enough, real points alone take fewer: F(7x5, 3x3) 63 for 35 outputs, F(7x7, 3x3) 97 for 49.

The points are those of least float32 error among small fractions. Where their number is even they are pairs p and -p,
without 0: F(5, 3) errs by 2/5 more with the best points that have 0 among them, and F(7, 3) by 1/5 with the pairs 1/2,
1 and 2, which cost fewer multiplications.
"""

from __future__ import annotations

from dataclasses import replace

from convbench.algorithms.base import Plan
from convbench.algorithms.fused.plan import fused
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.unit import axes
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.vector.weights import FLOAT32, Weights

I = (1j,)  # noqa: E741
POINTS: dict[int, tuple[tuple[float, ...], tuple[complex, ...]]] = {
    1: ((), ()),
    2: ((0,), ()),
    3: ((0, 1), ()),
    4: ((0, 1, -1), ()),
    5: ((3 / 8, -3 / 8, 5 / 4, -5 / 4), ()),
    6: ((0, 1.5, -1.5, 2 / 3, -2 / 3), ()),
    7: ((9 / 32, -9 / 32, 7 / 8, -7 / 8, 7 / 4, -7 / 4), ()),
    8: ((0, 13 / 16, -13 / 16, 13 / 8, -13 / 8), I),
    9: ((3 / 8, -3 / 8, 7 / 8, -7 / 8, 7 / 4, -7 / 4), I),
    10: ((0, 1, -1, 2, -2, 0.5, -0.5), I),
    11: ((1 / 4, -1 / 4, 2 / 3, -2 / 3, 1, -1, 2, -2), I),
}
PAIRS = (1 / 4, 2 / 3, 7 / 6, 2)  # with their negatives, of least error for a window of 9
REAL_POINTS: dict[int, tuple[tuple[float, ...], tuple[complex, ...]]] = {
    9: (tuple(sign * point for point in PAIRS for sign in (1, -1)), ())
}
LARGEST_WINDOW = max(POINTS)
MOST_TAPS = 5  # a piece of the filter; longer ones lose accuracy faster than they save multiplications


def plan(
    m: tuple[int, int], problem: Problem, device: Device, weights: Weights = FLOAT32, are_real: bool = False
) -> Plan:
    """The plan of tiles of m[0] x m[1] outputs for float32 on the CPU; are_real: by REAL_POINTS where known."""
    s = problem.shape
    tile = (m[0] if s.r > 1 else 1, m[1] if s.s > 1 else 1)  # one tap saves nothing, whatever the tile
    rows, columns = axes(s, tile, min(MOST_TAPS, LARGEST_WINDOW + 1 - max(m)))
    rows, columns = (replace(axis, tile=1) if axis.length == 1 else axis for axis in (rows, columns))
    points = POINTS | REAL_POINTS if are_real else POINTS
    both = Tile(*(Toom(axis.tile, axis.length, *points[axis.window]) for axis in (rows, columns)))
    words = [f"F({rows.tile}x{columns.tile}, {rows.length}x{columns.length}), {both.planes} products a tile"]
    if s.stride != (1, 1) or s.dilation != (1, 1):
        words.append("polyphase")
    if both.planes >= rows.tile * columns.tile * rows.length * columns.length:
        words.append("degenerate: saves no multiplication")
    return fused(problem, device, both, rows, columns, "; ".join([*words, "vector code"]), weights)
