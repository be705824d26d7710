"""fft.int8x3: fft.tiled with products on units that multiply tiles of bytes (Intel's AMX).

Each number is three signed bytes times a scale (vector/digits.py). The plan is int8x3_plan.py, the kernel
int8x3_kernel.py.
"""

from __future__ import annotations

from convbench.algorithms.amx import ask_for_tiles, saves_nothing
from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.base import Device
from convbench.problem import Problem


def refuses(problem: Problem) -> str | None:
    """What is left to others."""
    if problem.shape.dilation != (1, 1):
        return "the taps of a filter are no neighbours"
    return saves_nothing(problem)


def on_amx(problem: Problem, device: Device) -> Plan:
    """The plan, if the CPU has AMX."""
    from convbench.algorithms.fft.int8x3_plan import plan

    ask_for_tiles()
    return plan(problem, device)


ALGORITHMS = [
    Algorithm(
        "fft.int8x3",
        on={"cpu": on_amx},
        refuses=refuses,
        precisions={"cpu": ("float32",)},
        needs={"cpu": "AMX"},
        summary="fft.tiled, each number as three bytes: float32's accuracy from Intel's AMX",
    )
]
