"""Rooms that plans of all kinds share: each finds what another left there, and gives the same bits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from fused_plans import Poisoned, answer
from test_digits import IN_MEMORY

from convbench.algorithms.base import Plan
from convbench.algorithms.direct import int8x3_plan as direct_int8x3
from convbench.algorithms.direct import packed as direct
from convbench.algorithms.direct import wide
from convbench.algorithms.fft import int8x3_plan as fft_int8x3
from convbench.algorithms.fft import vector as fft
from convbench.algorithms.gemm import int8x3_plan as gemm_int8x3
from convbench.algorithms.gemm import packed as gemm
from convbench.algorithms.winograd import int8x3_plan as winograd_int8x3
from convbench.algorithms.winograd import vector as winograd
from convbench.devices.base import Device
from convbench.devices.cpu import Cpu
from convbench.problem import Problem
from convbench.shapes import parse_shape
from convbench.vector import room
from convbench.vector.weights import EVEN_PAIRS, PAIRS


class Counting(Cpu):
    """Counts the bytes that it hands out."""

    asked = 0

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        array = super().empty(shape, precision)
        self.asked += array.nbytes
        return array


MAKERS: dict[str, Callable[[Problem, Device], Plan]] = {
    "direct.blocked": direct.packed,
    "direct.wide": wide.on_cpu,
    "direct.int8x3": partial(direct_int8x3.plan, target=IN_MEMORY),
    "fft.tiled": fft.plan,
    "fft.tiled.pairs": partial(fft.plan, weights=PAIRS),
    "fft.int8x3": partial(fft_int8x3.plan, target=IN_MEMORY),
    "gemm.panel": gemm.packed,
    "gemm.panel.pairs": gemm.in_pairs,
    "gemm.int8x3": partial(gemm_int8x3.plan, target=IN_MEMORY),
    "winograd.f4": partial(winograd.plan, (4, 4)),
    "winograd.f7.pairs": partial(winograd.plan, (7, 7), weights=EVEN_PAIRS),
    "winograd.f3.int8x3": partial(winograd_int8x3.plan, 3, target=IN_MEMORY),
}


def test_plans_of_all_kinds_share_their_rooms_and_nothing_else() -> None:
    device, cases = Poisoned(2), []
    for number, make in enumerate(MAKERS.values()):
        problem = Problem(parse_shape(f"n2c{8 + number}h{9 + number}w11k40r3s3p1"))
        x, w = problem.operands(0)
        cases.append((make(problem, device), problem, x, w, answer(make(problem, Poisoned(2)), problem, x, w)))
    for made, problem, x, w, alone in [*cases, *cases[::-1]]:
        assert np.array_equal(answer(made, problem, x, w), alone)
    held = sum(each.nbytes for each in room._rooms[device].values())
    assert held < sum(case[0].workspace for case in cases) / 2


@pytest.mark.parametrize("name", MAKERS)
def test_a_plan_takes_no_memory_where_there_are_rooms(name: str) -> None:
    problem, device = Problem(parse_shape("n2c8h9w11k40r3s3p1")), Counting(2)
    MAKERS[name](problem, device)
    first, device.asked = device.asked, 0
    made = MAKERS[name](problem, device)
    assert device.asked == 0
    assert 0 < first <= made.workspace
