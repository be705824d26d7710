"""fft.tiled: overlap-save with small FFTs, of the size that promises the least time.

Array code takes 16 or 32 points a side, whichever needs fewer products; vector code any size with small factors.
"""

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


def on_cpu(problem: Problem, device: Device) -> Plan:
    """Vector code for float32; array code for float64, and where nothing slides."""
    if problem.precision != "float32" or problem.shape.is_matrix_product:
        return tiled(problem, device)
    from convbench.algorithms.fft import vector

    return vector.plan(problem, device)


def tiled(problem: Problem, device: Device) -> Plan:
    """Each axis takes its own size; an output that one small tile covers is left to the size of fft.full."""
    whole = full_size(problem.shape)
    rows, columns = (sizes(axis, size) for axis, size in zip(axes(problem.shape, None), whole, strict=True))
    best = min(product(rows, columns), key=lambda size: products(problem.shape, size))
    return plan(problem, device, best, "one tile covers the output: as fft.full" if best == whole else "")


ALGORITHMS = [
    Algorithm("fft.tiled", on={"cpu": on_cpu, "cuda": tiled}, summary="FFTs of 8 to 32 points a side, overlap-save")
]
