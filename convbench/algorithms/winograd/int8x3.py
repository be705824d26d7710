"""winograd.f<m>.int8x3: tiles of m x m outputs, products on units that multiply tiles of bytes (Intel's AMX)."""

from __future__ import annotations

from convbench.algorithms.amx import ask_for_tiles, saves_nothing
from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.base import Device
from convbench.problem import Problem

LARGEST_WINDOW = 7  # of points that are all real


def algorithm(m: int) -> Algorithm:
    """winograd.f<m>.int8x3."""

    def refuses(problem: Problem) -> str | None:
        s = problem.shape
        if s.stride != (1, 1) or s.dilation != (1, 1):
            return "filters do not move by one pixel over neighbours"
        if max(s.r, s.s) > LARGEST_WINDOW + 1 - m:
            return f"filters of {max(s.r, s.s)} taps; it has points for {LARGEST_WINDOW + 1 - m}"
        return saves_nothing(problem)

    def on_amx(problem: Problem, device: Device) -> Plan:
        from convbench.algorithms.winograd.int8x3_plan import plan

        ask_for_tiles()
        return plan(m, problem, device)

    return Algorithm(
        f"winograd.f{m}.int8x3",
        on={"cpu": on_amx},
        refuses=refuses,
        precisions={"cpu": ("float32",)},
        needs={"cpu": "AMX"},
        summary=f"tiles of {m} x {m} outputs, each number as three bytes: float32's accuracy from Intel's AMX",
    )
