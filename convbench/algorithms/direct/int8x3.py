"""direct.int8x3: any convolution in float32 on units that multiply tiles of bytes (Intel's AMX), without im2col.

Each number is three signed bytes times a scale (vector/digits.py), of whose nine products six are made. The plan is
int8x3_plan.py, the kernel int8x3_kernel.py.
"""

from __future__ import annotations

from convbench.algorithms.amx import ask_for_tiles
from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.unit import nothing_slides
from convbench.devices.base import Device
from convbench.problem import Problem


def on_amx(problem: Problem, device: Device) -> Plan:
    """The plan, if the CPU has AMX."""
    from convbench.algorithms.direct.int8x3_plan import plan

    ask_for_tiles()
    return plan(problem, device)


ALGORITHMS = [
    Algorithm(
        "direct.int8x3",
        on={"cpu": on_amx},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        needs={"cpu": "AMX"},
        summary="filters slide over rows of x, each number as three bytes: float32's accuracy from Intel's AMX",
    )
]
