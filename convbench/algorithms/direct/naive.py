"""direct.naive: y[n,k,p,q] = sum over c,r,s of x[n, c, u p - pad + d r, u q - pad + d s] w[k,c,r,s], by loops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.base import Device
from convbench.problem import Problem


def on_cpu(problem: Problem, device: Device) -> Plan:
    """Seven loops; images and filters are shared out to threads."""
    from convbench.algorithms.direct.loops import seven_loops

    shape = problem.shape
    geometry = shape.stride, shape.pad, shape.dilation
    zero = device.xp.dtype(problem.precision).type(0)

    def run(x: Any, w: Any, y: Any) -> None:
        seven_loops(x, w, y, geometry, zero)

    return Plan(run)


def knobs(problem: Problem) -> dict[str, int]:
    """The constants naive.cu is compiled with beside the shape: threads a block, the same for every problem."""
    return {"THREADS": 256}


def on_cuda(problem: Problem, device: Device) -> Plan:
    """naive.cu: one thread an output, no workspace."""
    chosen = knobs(problem)
    kernel = device.load(Path(__file__).with_suffix(".cu"), problem, **chosen).get_function("naive")
    s, threads = problem.shape, chosen["THREADS"]
    blocks = -(-s.n * s.k * s.p * s.q // threads)

    def run(x: Any, w: Any, y: Any) -> None:
        kernel((blocks,), (threads,), (x, w, y))

    return Plan(run)


ALGORITHMS = [
    Algorithm("direct.naive", on={"cpu": on_cpu, "cuda": on_cuda}, summary="the seven loops of a textbook"),
]
