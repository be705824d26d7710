"""fft.tiled: overlap-save with FFTs of 16 or 32 points a side, whichever needs fewer products."""

from __future__ import annotations

from itertools import product

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.fft.full import full_size
from convbench.algorithms.fft.overlap_save import plan, products
from convbench.algorithms.unit import UnitAxis, axes
from convbench.devices.base import Device
from convbench.problem import Problem

SIZES = (16, 32)


def sizes(axis: UnitAxis, whole: int) -> list[int]:
    """FFT sizes to choose from on one axis: SIZES, a larger power of two for longer filters, else `whole`."""
    power = 1 << axis.length.bit_length()  # more than the filter, at most twice it
    fitting = [size for size in {*SIZES, power} if size >= SIZES[0] and axis.length < size < 2 * axis.window]
    return sorted(fitting) or [whole]


def tiled(problem: Problem, device: Device) -> Plan:
    """Each axis takes its own size; an output that one small tile covers is left to the size of fft.full."""
    whole = full_size(problem.shape)
    rows, columns = (sizes(axis, size) for axis, size in zip(axes(problem.shape, None), whole, strict=True))
    best = min(product(rows, columns), key=lambda size: products(problem.shape, size))
    return plan(problem, device, best, "one tile covers the output: as fft.full" if best == whole else "")


ALGORITHMS = [
    Algorithm("fft.tiled", on={"cpu": tiled, "cuda": tiled}, summary="FFTs of 16 or 32 points a side, overlap-save")
]
