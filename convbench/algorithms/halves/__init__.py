"""Operands of tensor cores as float16: scales that keep them in range, and float32 numbers as sums of halves.

A product of x = x_high + x_low and w = w_high + w_low, 22 bits each, is three products of halves in one sum over three
times the depth,  [x_low | x_high | x_high] [w_high ; w_low ; w_high];  low low, 2^-22 of a term, is left out. The small
terms come first, while the sum is small: tensor cores cut off each addition instead of rounding it, and so the cut is
that of the large terms' additions. Markidis et al., "NVIDIA tensor core programmability, performance and precision",
2018; Ootomo & Yokota, "Recovering single precision accuracy from tensor cores", 2022.

halves.cuh does the same for x on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

TOP = 15  # the largest number is brought below 2^15; float16 ends at 2^16
THREADS, PART_BYTES = 256, 16 << 10  # a block of largest.cu, and what it reads
TERMS = 3  # along the depth, for float32's accuracy; 1 keeps the high parts alone


def largest_finder(problem: Problem, device: Device) -> tuple[Any, Callable[[Any], None]]:
    """largest [N] uint32, and what fills it from x [N, C, H, W]: the bits of the largest |x| of each image."""
    import numpy as np

    s = problem.shape
    numbers = prod(s.x_shape[1:])
    any_shape = Problem(ConvShape(1, 1, 1, 1, 1, 1, 1), problem.precision)
    knobs = {"THREADS": THREADS, "PART_BYTES": PART_BYTES}
    module = device.load(Path(__file__).with_name("largest.cu"), any_shape, **knobs)
    kernel = module.get_function("find_largest")
    largest = device.empty((s.n,), "uint32")
    parts = -(-numbers * problem.number.bytes // PART_BYTES)

    def find(x: Any) -> None:
        largest.fill(0)
        arguments = (x, largest, np.int64(numbers), np.int32(parts))
        device.launch(kernel, (s.n * parts,), (THREADS,), arguments, follows=True)

    return largest, find


def filter_exponents(xp: Any, largest: Any, top: int = TOP) -> Any:
    """The powers of two that bring filters with these largest numbers below 2^top; 2^-exponent is a float32 too."""
    return xp.clip(top - xp.frexp(largest)[1], -126, 126)


def unscales(xp: Any, exponents: Any) -> Any:
    """2^-exponent in float32."""
    return xp.ldexp(xp.ones(exponents.shape), -exponents).astype("float32")


def terms_of_filters(scaled: Any, terms: int) -> list[Any]:
    """The filters' side of the terms, in the order of halves.cuh: high, low, high; or high alone."""
    high = scaled.astype("float16")
    return [high] if terms == 1 else [high, (scaled - high).astype("float16"), high]
