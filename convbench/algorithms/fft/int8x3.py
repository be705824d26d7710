"""fft.int8x3: fft.tiled with products on units that multiply tiles of bytes (Intel's AMX).

Each number is three signed bytes times a scale (vector/digits.py). The plan is int8x3_plan.py, the kernel
int8x3_kernel.py.
"""

from __future__ import annotations

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.devices.base import Device
from convbench.problem import Problem


def refuses(problem: Problem) -> str | None:
    """What is left to others."""
    s = problem.shape
    if s.dilation != (1, 1):
        return "the taps of a filter are no neighbours"
    if s.r == s.s == 1 or s.p == s.q == 1:
        return "nothing slides, so no multiplication is saved"
    return None


def on_amx(problem: Problem, device: Device) -> Plan:
    """The plan, if the CPU has AMX."""
    from convbench.algorithms.fft.int8x3_plan import plan
    from convbench.vector.tiles import why_no_tiles

    if reason := why_no_tiles():
        raise Unsupported(reason)
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
