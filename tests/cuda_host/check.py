"""Whether a plan is right on the CPU: the same bits in every schedule, within tolerance, operands left alone."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from convbench.problem import Problem
from convbench.reference import Truth, judge, truth
from cuda_host.device import HostDevice
from cuda_host.listing import Case

# (seed, guard): each order of threads with each side of the guard page.
SCHEDULES = tuple((seed, guard) for seed in (0, 1, 2) for guard in ("end", "start"))


OUTLIER = 1 << 14  # what float16 still holds


@cache
def _operands(problem: Problem, outliers: bool) -> tuple[Any, Any, Truth]:
    x, w = problem.operands(1)
    if outliers:
        x[::-2, -1, -1, -1] = OUTLIER  # of the last image, and of every second before it, the last number
    return x, w, truth(x, w, problem.shape)


def answer(case: Case, device: HostDevice, runs: int = 1) -> Any:
    """y of a plan made anew, the last of `runs` runs of it; AssertionError where it is wrong in any way."""
    x, w, want = _operands(case.problem, case.outliers)
    my_x, my_w = x.copy(), w.copy()
    plan = case.algorithm.on["cuda"](case.problem, device)  # type: ignore[arg-type]
    prepared = plan.prepare(my_w)
    for _ in range(runs):
        y = np.full(case.problem.shape.y_shape, np.nan, case.problem.storage)
        plan.run(my_x, prepared, y)
    assert np.array_equal(my_x, x), "x was changed"
    assert np.array_equal(my_w, w), "w was changed"
    found = judge(y, want)
    assert not found.unwritten, f"{found.unwritten} outputs of {y.size} not finite"
    assert found.error <= case.algorithm.tolerance_for(case.problem), f"error {found.error:.2e}"
    return y


def check(case: Case, schedules: Iterable[tuple[int, str]] = SCHEDULES, **device: Any) -> HostDevice:
    """Runs the case under each schedule, the last of them twice; returns the last device."""
    first = None
    schedules = tuple(schedules)
    for seed, guard in schedules:
        host = HostDevice(case.capability, seed=seed, guard=guard, **device)
        y = answer(case, host, runs=2 if (seed, guard) == schedules[-1] else 1)
        first = y if first is None else first
        assert y.tobytes() == first.tobytes(), f"schedule {seed}, {guard}: other bits than before"
    return host
