"""fft.tiled: overlap-save with small FFTs, of the size that promises the least time.

Array code takes 16 or 32 points a side, whichever needs fewer products; vector code any size with small factors; on a
GPU the transforms of 8, 16 or 32 points a side are kernels (cuda.py).
"""

from __future__ import annotations

from itertools import product

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.fft.full import full_size
from convbench.algorithms.fft.overlap_save import plan, products
from convbench.algorithms.unit import UnitAxis, axes, nothing_slides
from convbench.devices.base import Device
from convbench.problem import USUAL_PRECISIONS, Problem

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


def in_24_bits(problem: Problem, device: Device) -> Plan:
    """Vector code, a quarter less to read for each filter."""
    from convbench.algorithms.fft import vector
    from convbench.vector.weights import FIXED24

    return vector.plan(problem, device, FIXED24)


def in_pairs(problem: Problem, device: Device) -> Plan:
    """Vector code, products of spectra in pairs."""
    from convbench.algorithms.fft import vector
    from convbench.vector.weights import PAIRS

    return vector.plan(problem, device, PAIRS)


def tiled(problem: Problem, device: Device) -> Plan:
    """Each axis takes its own size; an output that one small tile covers is left to the size of fft.full."""
    whole = full_size(problem.shape)
    rows, columns = (sizes(axis, size) for axis, size in zip(axes(problem.shape, None), whole, strict=True))
    best = min(product(rows, columns), key=lambda size: products(problem.shape, size))
    return plan(problem, device, best, "one tile covers the output: as fft.full" if best == whole else "")


def on_cuda(problem: Problem, device: Device) -> Plan:
    """Kernels; array code for float64, and in float32 for what the kernels do not take.

    Raises Unsupported for the latter in tf32 and float16, whose products have operands of 10 bits.
    """
    from convbench.algorithms.fft import cuda

    if problem.precision in ("tf32", "float16"):
        return by_halves(problem, device, 1)
    return cuda.plan(problem, device) if cuda.takes(problem) else tiled(problem, device)


def by_halves(problem: Problem, device: Device, terms: int) -> Plan:
    """Kernels with products of halves. Raises Unsupported for axes of one point and for filters of 32 taps."""
    from convbench.algorithms.fft import cuda

    if not cuda.takes(problem):
        raise Unsupported(f"tiles have {cuda.SIZES[-1]} points a side at most, and more than one")
    return cuda.plan(problem, device, terms)


def split3_on_cuda(problem: Problem, device: Device) -> Plan:
    """Three products of halves for one of float32."""
    from convbench.algorithms.halves import TERMS

    return by_halves(problem, device, TERMS)


ALGORITHMS = [
    Algorithm(
        "fft.tiled",
        on={"cpu": on_cpu, "cuda": on_cuda},
        precisions={"cuda": (*USUAL_PRECISIONS, "tf32", "float16")},
        needs={"cuda": "tf32 and float16: tensor cores"},
        summary="FFTs of 8 to 32 points a side, overlap-save",
    ),
    Algorithm(
        "fft.split3",
        on={"cuda": split3_on_cuda},
        refuses=nothing_slides,
        precisions={"cuda": ("float32",)},
        needs={"cuda": "tensor cores"},
        summary="fft.tiled with three products of float16 halves: float32's accuracy from tensor cores",
    ),
    Algorithm(
        "fft.tiled.w24",
        on={"cpu": in_24_bits},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary="fft.tiled with the filters' spectra kept in 24 bits a number",
    ),
    Algorithm(
        "fft.tiled.pairs",
        on={"cpu": in_pairs},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary="fft.tiled with products of spectra in pairs: of three two as one of sums, which adders make",
    ),
]
