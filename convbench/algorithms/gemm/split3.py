"""gemm.split3: float32 from tensor cores, each number as two float16: y = high high + 2^-11 (low high + high low).

With w = W_high + 2^-11 W_low and so x, to 22 bits each (split3.cu says how), two products of float16 summed in float32

  sums = W_high X_high,   cross = [W_low | W_high] [X_high ; X_low],   Y = (sums + 2^-11 cross) / scales

leave out low low alone, 2^-22 of a term. Markidis et al., "NVIDIA tensor core programmability, performance and
precision", 2018; Ootomo & Yokota, "Recovering single precision accuracy from tensor cores", 2022. From these come:

- the factor 2^11, without which low parts of small numbers are lost below float16's range. It is why there are two
  products: a sum cannot hold both kinds of term. (With one scale for all and low as it is, one product of three times
  the depth would do, but numbers below 2^-18 of the largest would lose bits.)
- short sums: tensor cores cut off each addition's last bits instead of rounding, so errors of one sign add up with the
  depth. Here sums are made of segments of at most ADDITIONS additions, added up in ordinary float32 by `combine`; cross
  weighs so little that it needs none.

Scales (halves) bring the largest number of each filter, and of each image, to 2^14 .. 2^15: nothing that float32 holds
overflows, and numbers down to 2^-29 of the largest keep their 22 bits. An image's result does not depend on the others
of its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.gemm.chunks import images_at_once
from convbench.algorithms.gemm.im2col import FILTERS_EACH, MOST_COLUMNS, TAPS_EACH, THREADS, pitch_of
from convbench.algorithms.halves import filter_exponents, largest_finder, unscales
from convbench.algorithms.phased import phases_of, runs
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

TOLERANCE = 5e-6  # seen at the depths of AlexNet's layers: 2e-7 with additions that round, 2e-6 with those that cut off
LOW = 2048.0  # 2^11
ADDITIONS = 64  # of a sum, each of which cuts off up to 2^-23 of it; with 576 in one sum fc6 is wrong by 1.5e-5
# Products that tensor cores add up before they cut off, by compute capability: Fasi, Higham, Mikaitis & Pranesh,
# "Numerical behavior of NVIDIA tensor cores", 2021; Khattak & Mikaitis, "Accurate models of NVIDIA tensor cores", 2025.
ADDED_AT_ONCE = ((90, 16), (80, 8), (0, 4))
DEPTH_UNIT = 8  # float16 in 16 bytes, which tensor cores' kernels copy at a time


@dataclass(frozen=True)
class Segments:
    """The depth of the product, cut for exactness: `count` segments of `length` taps, zeros past the last."""

    count: int
    length: int

    @property
    def depth(self) -> int:
        """Rows of a part's matrix."""
        return self.count * self.length


def segments_of(s: ConvShape, capability: int) -> Segments:
    """Equal segments, of at most ADDITIONS additions of such tensor cores."""
    taps = s.c // s.groups * s.r * s.s
    most = ADDITIONS * next(products for least, products in ADDED_AT_ONCE if capability >= least)
    count = -(-taps // most)
    return Segments(count, -(-taps // (count * DEPTH_UNIT)) * DEPTH_UNIT)


def chunk_of(s: ConvShape, cut: Segments) -> int:
    """Images at a time: as many as chunks.py gives memory for their halves and sums."""
    return images_at_once(s.n, 4 * s.p * s.q * (s.groups * cut.depth + (cut.count + 1) * s.k))


def split_filters(xp: Any, w: Any, s: ConvShape, cut: Segments) -> tuple[Any, Any]:
    """[W_low | W_high] [groups, K / groups, 2 depth] in float16, and 1 / the scale of each filter [K] in float32."""
    flat = w.reshape(s.k, -1).astype("float64")
    exponents = filter_exponents(xp, xp.abs(flat).max(axis=1))
    scaled = xp.ldexp(flat, exponents[:, None])
    both = xp.zeros((s.k, 2, cut.depth), "float16")
    high = scaled.astype("float16")
    both[:, 1, : flat.shape[1]] = high
    both[:, 0, : flat.shape[1]] = (LOW * (scaled - high)).astype("float16")
    return both.reshape(s.groups, s.k // s.groups, 2 * cut.depth), unscales(xp, exponents)


def multiply_segments(device: Device, high: Any, planes: Any, parts: Any, cut: Segments) -> None:
    """parts[i, g] = W_high X_high over segment i, in as many calls as the fewer of groups and segments.

    high [groups, K / groups, depth], planes [groups, depth, columns], parts [segments, groups, K / groups, columns].
    """
    groups, k = high.shape[:2]
    if groups < cut.count:
        for g in range(groups):
            filters = high[g].reshape(k, cut.count, cut.length).transpose(1, 0, 2)
            device.matmul(filters, planes[g].reshape(cut.count, cut.length, -1), parts[:, g])
    else:
        for i in range(cut.count):
            rows = slice(i * cut.length, (i + 1) * cut.length)
            device.matmul(high[:, :, rows], planes[:, rows], parts[i])


def on_cuda(problem: Problem, device: Device) -> Plan:
    """Chunks of images joined in one matrix: split, two products, combined. Raises Unsupported for 2^30 columns."""
    s = problem.shape
    k, pixels, cut = s.k // s.groups, s.p * s.q, segments_of(s, device.capability)
    chunk = chunk_of(s, cut)
    columns = chunk * pixels
    if columns >= MOST_COLUMNS:
        raise Unsupported(f"a matrix of {columns} columns: they are counted in 32 bits")
    pitch, each = pitch_of(columns, 2), max(1, TAPS_EACH // (s.r * s.s))
    module = device.load(
        Path(__file__).with_suffix(".cu"), problem, IMAGES=chunk, PITCH=pitch, DEPTH=cut.depth, SEGMENTS=cut.count,
        EACH=each, EACH_FILTERS=FILTERS_EACH,
    )  # fmt: skip
    split, combine = module.get_function("split"), module.get_function("combine")
    largest, find_largest = largest_finder(problem, device)
    planes = device.empty((s.groups, 2, cut.depth, pitch), "float16")
    planes[...] = 0  # rows past the last tap stay so
    parts = device.empty((cut.count + 1, s.groups, k, pitch), "float32")
    split_blocks = -(-(-(-s.c // each) * pitch // 2) // THREADS)
    combine_blocks = -(-(-(-s.k // FILTERS_EACH) * columns) // THREADS)

    def body(x: Any, prepared: tuple[Any, Any], y: Any) -> Iterator[str]:
        both, unscale = prepared
        find_largest(x)
        yield "largest"
        for first in range(0, s.n, chunk):
            inputs, scales, outputs = (array[first : first + chunk] for array in (x, largest, y))
            images = device.xp.int32(len(inputs))
            device.launch(split, (split_blocks,), (THREADS,), (inputs, scales, planes, images), follows=True)
            yield "split"
            multiply_segments(device, both[..., cut.depth :], planes[:, 0], parts[:-1], cut)
            device.matmul(both, planes.reshape(s.groups, 2 * cut.depth, pitch), parts[-1])
            yield "product"
            results = (parts, scales, unscale, outputs, images)
            device.launch(combine, (combine_blocks,), (THREADS,), results, follows=True)
            yield "combine"

    workspace = planes.nbytes + parts.nbytes + largest.nbytes
    note = f"{chunk} images at a time, sums over {cut.count} x {cut.length} taps"
    flops = 3 * 2 * s.n * s.k * pixels * cut.depth
    return Plan(
        runs(body), lambda w: split_filters(device.xp, w, s, cut), workspace, note, flops, phases_of(body, device)
    )


ALGORITHMS = [
    Algorithm(
        "gemm.split3",
        on={"cuda": on_cuda},
        precisions={"cuda": ("float32",)},
        tolerance={"float32": TOLERANCE},
        needs={"cuda": "tensor cores"},
        summary="im2col and three products of float16 halves: float32's accuracy from tensor cores",
    )
]
