"""fft.tiled: overlap-save with small FFTs, of the size that promises the least time.

Array code takes 16 or 32 points a side, whichever needs fewer products; vector code any size with small factors; on a
GPU the transforms of 8, 16 or 32 points a side are kernels (tiled.cu), and cuBLAS makes the products between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import log2
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.fft.full import full_size
from convbench.algorithms.fft.overlap_save import axes_for, plan, products, words
from convbench.algorithms.phased import phases_of, runs
from convbench.algorithms.unit import UnitAxis, axes, ceil_div, filter_pieces, nothing_slides
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

SIZES = (16, 32)
KERNEL_SIZES = (8, 16, 32)  # of tiled.cu: a thread holds 32 complex numbers at most
KERNEL_THREADS = 128  # tiled.cu's, for each of these sizes
# A model of a GPU, in bytes of its memory's traffic: it only has to rank sizes and chunks. For an H200 at 4.3 TB/s
# and 50 TFLOP/s of products; 2 us before and after a launch in which little is computed; L2 half as fast again.
FLOPS_A_BYTE = 12
LAUNCH_BYTES = 8 << 20
CACHED = 2 / 3
CACHE_PART = 0.7  # of the L2 cache that a chunk's spectra may fill
MOST_BYTES = 2 << 30  # of the spectra of a chunk
COLUMN_STEP = 32  # columns a chunk: a multiple, which cuBLAS's tiles divide
PREPARE_BYTES = 64 << 20  # of each array that transforming the filters needs


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


def tiled(problem: Problem, device: Device) -> Plan:
    """Each axis takes its own size; an output that one small tile covers is left to the size of fft.full."""
    whole = full_size(problem.shape)
    rows, columns = (sizes(axis, size) for axis, size in zip(axes(problem.shape, None), whole, strict=True))
    best = min(product(rows, columns), key=lambda size: products(problem.shape, size))
    return plan(problem, device, best, "one tile covers the output: as fft.full" if best == whole else "")


def on_cuda(problem: Problem, device: Device) -> Plan:
    """Kernels for float32; array code for float64, where nothing slides, and for axes of one point or long filters."""
    s = problem.shape
    rows, columns = axes(s, None)
    taken = all(axis.window > 1 and axis.length < KERNEL_SIZES[-1] for axis in (rows, columns))
    if problem.precision != "float32" or s.is_matrix_product or not taken:
        return tiled(problem, device)
    heights, widths = ([size for size in KERNEL_SIZES if size > axis.length] for axis in (rows, columns))
    works = [Work(s, size, gauss) for size in product(heights, widths) for gauss in (False, True)]
    return kernels(problem, device, min(works, key=lambda work: work.cost))


class Work:
    """How much there is to do with FFTs of one size: the figures of tiled.cu, and what they cost by the model above.

    A complex product is four real ones, or with `gauss` three, on spectra of three numbers instead of two.
    """

    def __init__(self, shape: ConvShape, size: tuple[int, int], gauss: bool = False) -> None:
        self.shape, self.size, self.gauss = shape, size, gauss
        self.products, self.number_bytes = (3, 12) if gauss else (4, 8)
        self.rows, self.columns = axes_for(shape, size)
        self.channels = shape.c // shape.groups * self.rows.channels * self.columns.channels
        self.filters = shape.k // shape.groups
        self.frequencies = len(frequencies(size))
        self.planes = self.frequencies * shape.groups
        self.phases = self.rows.out_phases * self.columns.out_phases
        self.tiles = shape.n * self.rows.tiles * self.columns.tiles  # "columns" in tiled.cu, of all images
        self.tile_bytes = self.number_bytes * self.planes * (self.channels + self.filters)  # spectra on both sides
        self.filter_bytes = self.number_bytes * self.planes * self.channels * self.filters

    @property
    def product_flops(self) -> int:
        """Of the products for one phase of the outputs."""
        return 2 * self.products * self.planes * self.channels * self.filters * self.tiles

    @property
    def cost(self) -> float:
        """Products, both sides' spectra written and read, and the filters' read once; as bytes, one after another."""
        moved = 2 * self.tile_bytes * self.tiles + self.filter_bytes
        return self.phases * (self.product_flops / FLOPS_A_BYTE + moved)

    @property
    def flops(self) -> int:
        """Executed: products, and 5 L log2 L for a complex FFT of L points, two rows or two real columns in each."""
        h, w = self.size
        item = 5 * h * w // 2 * int(log2(h * w))
        items = self.tiles * self.shape.groups * (self.channels + self.filters)
        return self.phases * (self.product_flops + item * items)

    def chunk(self, cache_bytes: int) -> int:
        """Tiles at a time: as many as the L2 cache holds spectra for, or as may be, whichever moves fewer bytes.

        Each chunk reads the filters' spectra anew: with many filters a small chunk costs more than it saves.
        """

        def traffic(tiles: int, factor: float) -> float:
            chunks = ceil_div(self.tiles, tiles)
            return chunks * (self.filter_bytes + 3 * LAUNCH_BYTES) + factor * 2 * self.tile_bytes * self.tiles

        cached = whole_steps(int(CACHE_PART * cache_bytes) // self.tile_bytes, self.tiles)
        most = whole_steps(MOST_BYTES // self.tile_bytes, self.tiles)
        return cached if traffic(cached, CACHED) < traffic(most, 1.0) else most

    def knobs(self) -> dict[str, int]:
        """The constants of tiled.cu."""
        names: dict[str, tuple[int, int]] = {"POINTS": self.size}
        for name, fact in (
            ("TILE", "tile"),
            ("TILES", "tiles"),
            ("WINDOW", "window"),
            ("STEP", "step"),
            ("PHASES", "in_phases"),
            ("OUT_PHASES", "out_phases"),
        ):
            names[name] = getattr(self.rows, fact), getattr(self.columns, fact)
        sides = {f"{name}_{side}": pair[i] for name, pair in names.items() for i, side in enumerate("HW")}
        return sides | {"GAUSS": int(self.gauss)}


def whole_steps(tiles: int, all_tiles: int) -> int:
    """At most `tiles`, at least one, in steps of COLUMN_STEP where that is more than one step and not all."""
    if tiles >= all_tiles:
        return all_tiles
    return tiles // COLUMN_STEP * COLUMN_STEP or max(1, tiles)


def frequencies(size: tuple[int, int]) -> list[tuple[int, int]]:
    """The (row, column) frequencies of a real image's spectrum that tiled.cu keeps, in its order.

    Columns 1 .. L_w / 2 - 1 in full; of columns 0 and L_w / 2, which are their own mirror images, half and one.
    """
    h, w = size
    inner = [(f, column) for column in range(1, w // 2) for f in range(h)]
    return inner + [(f, column) for column in (0, w // 2) for f in range(h // 2 + 1)]


def kernels(problem: Problem, device: Device, work: Work) -> Plan:
    """tiled.cu forward, a product a frequency and group, tiled.cu inverse; in chunks of tiles."""
    import numpy as np

    s, size, chunk = problem.shape, work.size, work.chunk(device.cache_bytes)
    stack, numbers = (3 * work.planes, "float32") if work.gauss else (work.planes, "complex64")
    module = device.load(Path(__file__).with_suffix(".cu"), problem, **work.knobs())
    forward, inverse = module.get_function("forward"), module.get_function("inverse")
    items = 2 * KERNEL_THREADS // max(size)  # a block
    before = device.empty((stack * chunk * work.channels,), numbers)
    after = device.empty((stack * chunk * work.filters,), numbers)

    def step(phase: int, first: int) -> tuple[Any, ...]:
        count = min(chunk, work.tiles - first)
        v = before[: stack * count * work.channels].reshape(stack, count, work.channels)
        m = after[: stack * count * work.filters].reshape(stack, count, work.filters)
        grids = [(ceil_div(count * width, items) * s.groups,) for width in (work.channels, work.filters)]
        return (*grids, v, m, (np.int64(first), np.int32(count), np.int32(phase)))

    steps = [step(phase, first) for phase in range(work.phases) for first in range(0, work.tiles, chunk)]

    def body(x: Any, spectra: Any, y: Any) -> Iterator[str]:
        for forward_grid, inverse_grid, v, m, where in steps:
            forward(forward_grid, (KERNEL_THREADS,), (x, v, *where))
            yield "forward transform"
            device.matmul(v, spectra, m)
            yield "product"
            inverse(inverse_grid, (KERNEL_THREADS,), (m, y, *where))
            yield "inverse transform"

    said = ["three real products for a complex one"] if work.gauss else []
    said += [f"{chunk} tiles at a time"] if chunk < work.tiles else []
    return Plan(
        runs(body),
        lambda w: filter_spectra(device.xp, w, work),
        before.nbytes + after.nbytes,
        words(s, size, work.rows.tiles * work.columns.tiles, "; ".join(said)),
        work.flops,
        phases_of(body, device),
    )


def filter_spectra(xp: Any, w: Any, work: Work) -> Any:
    """conj(W) / (2 L_h L_w) [frequencies * groups, channels, filters], complex64; computed in float64.

    The 2 is that of tiled.cu's forward transform. For Gauss's products float32 [3 * frequencies * groups, ...]: real
    parts, imaginary ones, sums. So many filters at a time that PREPARE_BYTES bounds each array.
    """
    s, (h, w_points) = work.shape, work.size
    pieces = filter_pieces(xp, w, s, work.rows, work.columns).astype("float64")
    taps = work.rows.length * work.columns.length
    # groups, filters, channels (phases and pieces among them), taps -> taps, (groups channels filters)
    flat = pieces.reshape(s.groups, work.filters, work.channels, taps).transpose(3, 0, 2, 1).reshape(taps, -1)
    chosen = xp.array(frequencies(work.size))
    tap_r, tap_s = xp.arange(work.rows.length)[:, None], xp.arange(work.columns.length)[None, :]
    turns = (chosen[:, :1, None] * tap_r % h) / h + (chosen[:, 1:, None] * tap_s % w_points) / w_points
    angles = (2 * xp.pi * turns).reshape(work.frequencies, taps)
    cosines, sines = (wave / (2 * h * w_points) for wave in (xp.cos(angles), xp.sin(angles)))
    if work.gauss:
        spectra = xp.empty((3, work.frequencies, flat.shape[1]), "float32")
        parts = [(spectra[0], cosines), (spectra[1], sines), (spectra[2], cosines + sines)]
    else:
        spectra = xp.empty((work.frequencies, flat.shape[1]), "complex64")
        parts = [(spectra.real, cosines), (spectra.imag, sines)]
    width = max(1, PREPARE_BYTES // (8 * work.frequencies))
    for first in range(0, flat.shape[1], width):
        for part, waves in parts:
            part[:, first : first + width] = waves @ flat[:, first : first + width]
    return spectra.reshape(-1, work.channels, work.filters)


ALGORITHMS = [
    Algorithm("fft.tiled", on={"cpu": on_cpu, "cuda": on_cuda}, summary="FFTs of 8 to 32 points a side, overlap-save"),
    Algorithm(
        "fft.tiled.w24",
        on={"cpu": in_24_bits},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary="fft.tiled with the filters' spectra kept in 24 bits a number",
    ),
]
