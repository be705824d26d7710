"""fft.tiled on CUDA: transforms of 8, 16 or 32 points a side by tiled.cu, and between them one product by cuBLAS.

    V [frequencies, groups, tiles, C'];   M = V U [frequencies, groups, tiles, K / groups];   U = conj(spectra of w)

In float32 the product is a complex one. In tf32 and float16 it is one of halves, whose 10 bits are tf32's too, with
halves for M: complex numbers a + i b of V are then pairs (a, b), those of U matrices ((a, b), (-b, a)). fft.split3 does
the same in three terms along the depth, with M in float32, to float32's accuracy (halves).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import ceil, log2, prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.fft.overlap_save import axes_for, words
from convbench.algorithms.gpu import MOST_BYTES
from convbench.algorithms.halves import TOP, filter_exponents, largest_finder, terms_of_filters, unscales
from convbench.algorithms.phased import phases_of, runs
from convbench.algorithms.unit import axes, ceil_div, filter_pieces
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

SIZES = (8, 16, 32)  # of tiled.cu: a thread holds 32 complex numbers at most
THREADS = 128  # tiled.cu's, for each of these sizes
# A model of an H200, in bytes of its memory's traffic: it only has to rank sizes. 4.3 TB/s, beside 45 TFLOP/s of
# complex products in float32, or 600 of halves.
FLOPS_A_BYTE, FLOPS_OF_HALVES_A_BYTE = 10, 140
# A row of a tile ends within a sector of memory, which its neighbour fills later. Where y is so many times the L2
# cache, that costs so many bytes a row more (by sizes tried for conv1).
LARGE_Y, BROKEN_ROW_BYTES = 2, 128
SHARED = 8  # powers of two that V leaves to M where M is in halves too: U and V then keep as many small numbers
COLUMN_STEP = 32  # columns a chunk: a multiple, which cuBLAS's tiles divide
PREPARE_BYTES = 64 << 20  # of each array that transforming the filters needs


def takes(problem: Problem) -> bool:
    """Whether the kernels take this problem: filters slide along both axes, and are shorter than the largest tile."""
    if problem.precision == "float64" or problem.shape.is_matrix_product:
        return False
    return all(axis.window > 1 and axis.length < SIZES[-1] for axis in axes(problem.shape, None))


class Work:
    """How much there is to do with FFTs of one size: the figures of tiled.cu, and what they cost by the model above."""

    def __init__(self, shape: ConvShape, size: tuple[int, int], terms: int = 0) -> None:
        self.shape, self.size, self.terms = shape, size, terms
        self.rows, self.columns = axes_for(shape, size)
        self.channels = shape.c // shape.groups * self.rows.channels * self.columns.channels
        self.filters = shape.k // shape.groups
        self.frequencies = len(frequencies(size))
        self.planes = self.frequencies * shape.groups
        self.phases = self.rows.out_phases * self.columns.out_phases
        self.tiles = shape.n * self.rows.tiles * self.columns.tiles  # "columns" in tiled.cu, of all images
        v_bytes, self.u_bytes = (4 * terms, 8 * terms) if terms else (8, 8)  # of a complex number
        m_bytes = 4 if terms == 1 else 8
        self.tile_bytes = self.planes * (v_bytes * self.channels + m_bytes * self.filters)  # spectra on both sides
        self.filter_bytes = self.u_bytes * self.planes * self.channels * self.filters

    @property
    def product_flops(self) -> int:
        """Of the products for one phase of the outputs."""
        return 8 * max(self.terms, 1) * self.planes * self.channels * self.filters * self.tiles

    @property
    def cost(self) -> float:
        """Products, both sides' spectra written and read, and the filters' read once; as bytes, one after another."""
        moved = 2 * self.tile_bytes * self.tiles + self.filter_bytes
        return self.phases * (self.product_flops / (FLOPS_OF_HALVES_A_BYTE if self.terms else FLOPS_A_BYTE) + moved)

    @property
    def broken_rows_bytes(self) -> int:
        """What rows cost that end within a sector; none where a tile is an image's whole plane."""
        if self.rows.tiles * self.columns.tiles * self.phases == 1:
            return 0
        return BROKEN_ROW_BYTES * self.phases * self.tiles * self.shape.k * self.rows.tile

    @property
    def flops(self) -> int:
        """Executed: products, and 5 L log2 L for a complex FFT of L points, two rows or two real columns in each."""
        h, w = self.size
        item = 5 * h * w // 2 * int(log2(h * w))
        items = self.tiles * self.shape.groups * (self.channels + self.filters)
        return self.phases * (self.product_flops + item * items)

    @property
    def chunk(self) -> int:
        """Tiles at a time: as many as MOST_BYTES allow. (Fewer, for the L2 cache, were never faster on an H200.)"""
        return whole_steps(MOST_BYTES // self.tile_bytes, self.tiles)

    @property
    def headroom(self) -> int:
        """V is at most 2^this times the largest of x: a window's sum, doubled."""
        return ceil(log2(2 * self.rows.window * self.columns.window))

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
        return sides | {"TERMS": self.terms, "HEADROOM": self.headroom, "SHARED": SHARED}


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


def plan(problem: Problem, device: Device, terms: int = 0) -> Plan:
    """The size of the least cost on each side."""
    heights, widths = ([size for size in SIZES if size > axis.length] for axis in axes(problem.shape, None))
    works = [Work(problem.shape, size, terms) for size in product(heights, widths)]
    is_large = prod(problem.shape.y_shape) * problem.number.bytes > LARGE_Y * device.cache_bytes
    return kernels(problem, device, min(works, key=lambda work: work.cost + is_large * work.broken_rows_bytes))


def kernels(problem: Problem, device: Device, work: Work) -> Plan:
    """tiled.cu forward, a product a frequency and group, tiled.cu inverse; in chunks of tiles."""
    import numpy as np

    s, xp, size, chunk, stack = problem.shape, device.xp, work.size, work.chunk, work.planes
    module = device.load(Path(__file__).with_name("tiled.cu"), problem, **work.knobs())
    forward, inverse = module.get_function("forward"), module.get_function("inverse")
    items = 2 * THREADS // max(size)  # a block
    # V and M as cuBLAS sees them: complex numbers, or their parts side by side.
    depth, width, operand, result = work.channels, work.filters, "complex64", "complex64"
    if work.terms:
        depth, width, operand = 2 * work.terms * depth, 2 * width, "float16"
        result = "float16" if work.terms == 1 else "float32"
    before = device.empty((stack * chunk * depth,), operand)
    after = device.empty((stack * chunk * width,), result)
    largest, find_largest = largest_finder(problem, device) if work.terms else (device.empty((0,), "uint32"), None)

    def step(phase: int, first: int) -> tuple[Any, ...]:
        count = min(chunk, work.tiles - first)
        v = before[: stack * count * depth].reshape(stack, count, depth)
        m = after[: stack * count * width].reshape(stack, count, width)
        grids = [(ceil_div(count * each, items) * s.groups,) for each in (work.channels, work.filters)]
        return (*grids, v, m, (np.int64(first), np.int32(count), np.int32(phase)))

    steps = [step(phase, first) for phase in range(work.phases) for first in range(0, work.tiles, chunk)]

    def prepare(w: Any) -> tuple[Any, Any]:
        if not work.terms:
            return filter_spectra(xp, w, work), xp.empty((0,), "float32")
        return filter_spectra_in_halves(xp, w, work)

    def body(x: Any, prepared: tuple[Any, Any], y: Any) -> Iterator[str]:
        spectra, unscale = prepared
        if find_largest:
            find_largest(x)
            yield "largest"
        for forward_grid, inverse_grid, v, m, where in steps:
            device.launch(forward, forward_grid, (THREADS,), (x, largest, v, *where), follows=work.terms > 0)
            yield "forward transform"
            device.matmul(v, spectra, m)
            yield "product"
            device.launch(inverse, inverse_grid, (THREADS,), (m, largest, unscale, y, *where), follows=True)
            yield "inverse transform"

    said = f"{chunk} tiles at a time" if chunk < work.tiles else ""
    return Plan(
        runs(body),
        prepare,
        before.nbytes + after.nbytes + largest.nbytes,
        words(s, size, work.rows.tiles * work.columns.tiles, said),
        work.flops,
        phases_of(body, device),
    )


def transformed(xp: Any, w: Any, work: Work) -> Iterator[tuple[slice, slice, Any, Any]]:
    """Groups, some of their channels, and real and imaginary parts of conj(W) / (2 L_h L_w) in float64 for them.

    The parts are [frequencies, groups, channels, filters]. The 2 is that of tiled.cu's forward transform.
    PREPARE_BYTES bounds each array, or a channel.
    """
    h, w_points = work.size
    flat = flat_filters(xp, w, work)
    chosen = xp.array(frequencies(work.size))
    tap_r, tap_s = xp.arange(work.rows.length)[:, None], xp.arange(work.columns.length)[None, :]
    turns = (chosen[:, :1, None] * tap_r % h) / h + (chosen[:, 1:, None] * tap_s % w_points) / w_points
    angles = (2 * xp.pi * turns).reshape(work.frequencies, len(flat))
    cosines, sines = (wave / (2 * h * w_points) for wave in (xp.cos(angles), xp.sin(angles)))
    planes = max(1, PREPARE_BYTES // (8 * work.frequencies * work.filters))  # of one channel of a group
    some = min(planes, work.channels)
    many = planes // some
    for group, first in product(range(0, work.shape.groups, many), range(0, work.channels, some)):
        groups, channels = slice(group, group + many), slice(first, first + some)
        taps = flat.reshape(len(flat), work.shape.groups, work.channels, -1)[:, groups, channels]
        shape = work.frequencies, *taps.shape[1:]
        waves = taps.reshape(len(flat), -1)
        yield groups, channels, (cosines @ waves).reshape(shape), (sines @ waves).reshape(shape)


def flat_filters(xp: Any, w: Any, work: Work) -> Any:
    """w in float64 as [taps, groups channels filters], phases and pieces among the channels."""
    pieces = filter_pieces(xp, w, work.shape, work.rows, work.columns).astype("float64")
    taps = work.rows.length * work.columns.length
    by_group = pieces.reshape(work.shape.groups, work.filters, work.channels, taps)
    return by_group.transpose(3, 0, 2, 1).reshape(taps, -1)


def filter_spectra(xp: Any, w: Any, work: Work) -> Any:
    """U [frequencies * groups, channels, filters], complex64."""
    spectra = xp.empty((work.frequencies, work.shape.groups, work.channels, work.filters), "complex64")
    for some, of_them, real, imaginary in transformed(xp, w, work):
        spectra.real[:, some, of_them], spectra.imag[:, some, of_them] = real, imaginary
    return spectra.reshape(-1, work.channels, work.filters)


def filter_spectra_in_halves(xp: Any, w: Any, work: Work) -> tuple[Any, Any]:
    """U [frequencies * groups, terms channels 2, filters 2], float16, and 1 / the scale of each filter [K].

    A filter's spectrum is at most the sum of its taps in a channel: scales are made for that. Where M is in halves, for
    that of all channels, times V's largest, 2^(TOP - SHARED), so that no sum ends above float16's range.
    """
    groups, channels, filters = work.shape.groups, work.channels, work.filters
    sums = xp.abs(flat_filters(xp, w, work)).sum(axis=0).reshape(groups, channels, filters)
    bound, top = (2 * sums.sum(axis=1), SHARED) if work.terms == 1 else (sums.max(axis=1), TOP)
    exponents = filter_exponents(xp, bound / (2 * work.size[0] * work.size[1]), top)  # groups, filters
    u = xp.empty((work.frequencies, groups, work.terms, channels, 2, filters, 2), "float16")
    for some, of_them, real, imaginary in transformed(xp, w, work):
        scaled = (xp.ldexp(v, exponents[some, None]) for v in (real, imaginary))
        for term, (a, b) in enumerate(zip(*(terms_of_filters(v, work.terms) for v in scaled), strict=True)):
            to = u[:, some, term, of_them]
            to[..., 0, :, 0], to[..., 0, :, 1], to[..., 1, :, 0], to[..., 1, :, 1] = a, b, -b, a
    return u.reshape(work.planes, 2 * work.terms * channels, 2 * filters), unscales(xp, exponents.reshape(-1))
