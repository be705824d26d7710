"""Plans of the tile engine for tests: on arrays of NaN, between guards, beside what the answer should be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from convbench.algorithms.base import Plan
from convbench.algorithms.fused import plan
from convbench.algorithms.fused.dft import Dft
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.fused.values import Transform
from convbench.algorithms.unit import axes
from convbench.algorithms.winograd.vector import POINTS
from convbench.devices.cpu import Cpu
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape
from convbench.vector.weights import FLOAT32, Weights

GUARD, SENTINEL = 4096, 12345.0  # numbers of sentinel on each side
POISON = 0xFF  # bytes of it are NaN
CACHES = [(1, 1), (40_000, 1 << 20), (1 << 18, 1 << 25), (1 << 20, 1 << 17), (1 << 30, 1 << 30)]


class Poisoned(Cpu):
    """A CPU whose fresh arrays hold NaN: what is read before it was written shows."""

    def __init__(self, threads: int, caches: tuple[int, int] = (1 << 19, 1 << 25)) -> None:
        """caches: bytes of a core's own and of the shared one, which decide how tiles are cut into blocks."""
        super().__init__(threads)
        self.core_cache_bytes, self.cache_bytes = caches

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        array = super().empty(shape, precision)
        array[...] = np.nan if array.dtype.kind == "f" else POISON
        return array


def dft(m: int, taps: int) -> Transform:
    return Dft(m, taps, m + taps - 1)


def toom(m: int, taps: int) -> Transform:
    return Toom(m, taps, *POINTS[m + taps - 1])


def plan_of(
    problem: Problem,
    device: Cpu,
    make: Callable[[int, int], Transform],
    m: tuple[int, int],
    weights: Weights = FLOAT32,
) -> Plan:
    rows, columns = axes(problem.shape, m, 5)
    tile = Tile(make(rows.tile, rows.length), make(columns.tile, columns.length))
    return plan.fused(problem, device, tile, rows, columns, "", weights)


def guarded(size: int) -> tuple[Any, Any]:
    """Room for so many numbers between sentinels: all of it, and the room."""
    slab = np.full(size + 2 * GUARD, SENTINEL, np.float32)
    return slab, slab[GUARD : GUARD + size]


def answer(made: Plan, problem: Problem, x: Any, w: Any) -> Any:
    """y of a call whose x and filters cannot be written, and that wrote nothing but y."""
    slab, room = guarded(int(np.prod(problem.shape.y_shape)))
    y = room.reshape(problem.shape.y_shape)
    prepared = made.prepare(w)
    kept = prepared.copy()
    assert np.isfinite(kept).all()
    x.flags.writeable = w.flags.writeable = False
    made.run(x, prepared, y)
    assert (slab[:GUARD] == SENTINEL).all(), "wrote before y"
    assert (slab[-GUARD:] == SENTINEL).all(), "wrote behind y"
    assert np.array_equal(prepared, kept), "changed the filters"
    return y


def answers_wherever_y_lies(plan_on: Callable[[Cpu], Plan], problem: Problem) -> list[Any]:
    """y in and past the caches, at the beginning of a cache line and within one; nothing beside it is written."""
    x, w = problem.operands(0)
    size = int(np.prod(problem.shape.y_shape))
    answers = []
    for cache_bytes in (1, 1 << 25):
        device = Cpu(2)
        device.cache_bytes = cache_bytes
        made = plan_on(device)
        for offset in (0, 4):
            room = device.empty((size + 32,), "float32")
            room[...] = 7
            y = room[16 + offset : 16 + offset + size].reshape(problem.shape.y_shape)
            made.run(x, made.prepare(w), y)
            assert (room[: 16 + offset] == 7).all()
            assert (room[16 + offset + size :] == 7).all()
            answers.append(y.copy())
    return answers


def phases_of(made: Plan, problem: Problem, device: Cpu) -> list[str]:
    """The names of a plan's phases, which take time, no more than the call does, and leave the same answer."""
    x, w = problem.operands(0)
    y, again, prepared = *(np.empty(problem.shape.y_shape, np.float32) for _ in range(2)), made.prepare(w)
    made.run(x, prepared, y)
    assert made.phases is not None
    begin = device.now()
    spent = made.phases(x, prepared, again)
    assert sum(spent.values()) <= device.now() - begin
    assert all(seconds > 0 for seconds in spent.values())
    assert np.array_equal(y, again)
    return list(spent)


def error_of(y: Any, x: Any, w: Any, shape: ConvShape) -> float:
    """Relative to what random signs would give: a sum that happens to cancel is no error."""
    terms = np.sqrt(convolve(x**2, w**2, shape).sum())
    expected = convolve(x, w, shape)
    return float(np.linalg.norm(y - expected) / max(terms, np.linalg.norm(expected), 1e-30))
