"""gemm.pairs: fully connected layers for many images, by Winograd's inner product of 1968 (CPU, float32).

Its sums keep adders busy that a plain product leaves idle: it wins where a core has them beside its multiply-add units,
unless images are so few that weights alone decide (gemm.gemv). The kernel is stream.py, its products are paired.py.
"""

from __future__ import annotations

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.gemm import gemv
from convbench.devices.base import Device
from convbench.problem import Problem


def on_cpu(problem: Problem, device: Device) -> Plan:
    """The plan of gemm.gemv with products in pairs."""
    return gemv.streaming(problem, device, in_pairs=True)


ALGORITHMS = [
    Algorithm(
        "gemm.pairs",
        on={"cpu": on_cpu},
        refuses=gemv.refuses,
        precisions={"cpu": ("float32",)},
        summary="fully connected layers alone, many images: of three products two as one of sums, which adders make",
    ),
]
