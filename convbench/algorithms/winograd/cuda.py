"""winograd.f<m> for float32 on CUDA: both transforms by cuda.cu, the products by cuBLAS, in chunks of tiles.

    V = B^T d B [t^2, groups, C', tiles];   M = U V [t^2, groups, K / groups, tiles];   Y = A^T M A

Tiles lie on a mosaic of the batch's images (mosaic.py); phases of the stride and pieces of the filter are channels C'
that the input transform reads where they lie in x (unit.py). A chunk has as many tiles as MOST_BYTES allow: chunks
whose V and M stay in the L2 cache were slower on an H200, as cuBLAS then has few tiles at a time.

winograd.f<m>.split3 has U and V in float16, three terms along the depth for float32's accuracy (halves), and its
matrices are balanced: V is then no larger than d, which its image's scale keeps in range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from math import ceil, log2, prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.gpu import MOST_BYTES
from convbench.algorithms.halves import filter_exponents, largest_finder, terms_of_filters, unscales
from convbench.algorithms.phased import phases_of, runs
from convbench.algorithms.unit import UnitAxis, axes, ceil_div, filter_pieces
from convbench.algorithms.winograd.filters import MOST_TAPS, matrices, note, transform_filters
from convbench.algorithms.winograd.mosaic import INDICES, Line, Mosaic, mosaic
from convbench.algorithms.winograd.transforms import LARGEST_WINDOW, Transform, transform
from convbench.algorithms.winograd.transforms import Matrix as Exact
from convbench.devices.base import Device, Knob, Matrix
from convbench.problem import Problem
from convbench.shapes import ConvShape

TILES_QUANTUM = 64  # a chunk's tiles are a multiple: columns of the blocks that cuBLAS computes a product in
ROW_QUANTUM = 8  # a row of V or M is a multiple of 16 bytes, of halves too: cuBLAS then reads 16 at once
MOST_TOGETHER = 4  # phases of the columns that neighbouring threads read: 8 tiles of each still write 32 bytes
THREADS, LANES = 128, 32  # a block; of them, those that take the same filter in the output transform
MOST_BLOCKS = (1 << 16) - 1  # of a grid's second dimension


def takes(m: int, problem: Problem) -> bool:
    """Whether the kernels take this problem: float32, something slides, and ints and blocks suffice to count with."""
    s = problem.shape
    if problem.precision != "float32" or s.is_matrix_product:
        return False
    rows, columns = tile_axes(m, s)
    tiles = s.n * prod(axis.out_phases * axis.tiles * axis.tile for axis in (rows, columns))
    planes = max(s.c * rows.channels * columns.channels, s.k)
    return max(s.c * s.h * s.w, s.k * s.p * s.q, tiles) < INDICES and planes <= MOST_BLOCKS


def tile_axes(m: int, s: ConvShape) -> tuple[UnitAxis, UnitAxis]:
    """The axes for tiles of m x m; one tap saves nothing, whatever the tile."""
    rows, columns = axes(s, (m, m), min(MOST_TAPS, LARGEST_WINDOW + 1 - m))
    rows, columns = (replace(axis, tile=1) if axis.length == 1 else axis for axis in (rows, columns))
    return rows, columns


def plan(m: int, problem: Problem, device: Device, terms: int = 0) -> Plan:
    """The plan of winograd.f<m> for float32 on CUDA; with `terms`, on tensor cores."""
    s, xp = problem.shape, device.xp
    rows, columns = tile_axes(m, s)
    f_rows, f_columns = (transform(axis.tile, axis.length) for axis in (rows, columns))
    if terms:
        f_rows, f_columns = balanced(f_rows), balanced(f_columns)
    positions, k = f_rows.products * f_columns.products, s.k // s.groups
    c = s.c // s.groups * rows.channels * columns.channels
    depth, operand = (c * terms, "float16") if terms else (c, problem.storage)
    layout = mosaic(s.n, max(s.c * s.h * s.w, s.k * s.p * s.q), rows, columns)
    together, stack = together_in(columns), positions * s.groups
    counts = chunks(layout.tiles, stack * (depth * (2 if terms else 4) + 4 * k))
    shared_in, shared_out = shared_bytes(f_rows, f_columns, terms)
    facts: dict[str, Knob] = {"SHARED_IN": shared_in, "SHARED_OUT": shared_out, "TERMS": terms}
    facts |= transform_matrices(f_rows, f_columns)
    module = device.load(Path(__file__).with_suffix(".cu"), tile_problem(rows, columns), **facts)
    into, out_of = module.get_function("transform_input"), module.get_function("transform_output")
    into.max_dynamic_shared_size_bytes, out_of.max_dynamic_shared_size_bytes = shared_in, shared_out

    channels = device.put(channel_table(s, rows, columns))
    v = device.empty((stack * depth * max(counts),), operand)
    products = device.empty((stack * k * max(counts),), problem.storage)
    largest, find_largest = largest_finder(problem, device) if terms else (device.empty((0,), "uint32"), None)
    steps = []  # of each chunk: its geometry, V and M, and the blocks of both transforms
    for i, count in enumerate(counts):
        where = device.put(geometry(s, layout, len(channels), sum(counts[:i]), count, together))
        v_chunk = v[: stack * depth * count].reshape(stack, depth, count)
        m_chunk = products[: stack * k * count].reshape(stack, k, count)
        blocks_in = ceil_div(count, THREADS // together), len(channels) // together
        blocks_out = ceil_div(count, LANES), ceil_div(s.k, THREADS // LANES)
        steps.append((where, v_chunk, m_chunk, blocks_in, blocks_out))
    (_, gh, _), (_, gw, _) = (matrices(xp, f, problem.storage) for f in (f_rows, f_columns))

    def prepare(w: Any) -> tuple[Any, Any]:
        pieces = filter_pieces(xp, w, s, rows, columns)
        u = transform_filters(xp, pieces, gh, gw, "float64" if terms else problem.storage).reshape(stack, k, c)
        return in_halves(xp, u, positions, terms) if terms else (u, xp.empty((0,), "float32"))

    def body(x: Any, prepared: tuple[Any, Any], y: Any) -> Iterator[str]:
        u, unscale = prepared
        if find_largest:
            find_largest(x)
            yield "largest"
        for where, v_chunk, m_chunk, blocks_in, blocks_out in steps:
            operands = (x, channels, where, largest, v_chunk)
            device.launch(into, blocks_in, (THREADS,), operands, shared_in, follows=terms > 0)
            yield "input transform"
            device.matmul(u, v_chunk, m_chunk)
            yield "product"
            results = (m_chunk, where, largest, unscale, y)
            device.launch(out_of, blocks_out, (THREADS,), results, shared_out, follows=True)
            yield "output transform"

    words = [note(m, s, f_rows, f_columns), *([layout.note] if layout.note else [])]
    words.append(f"{len(counts)} chunks of {counts[0]} tiles" if len(counts) > 1 else f"{layout.tiles} tiles at once")
    held = v.nbytes + products.nbytes + largest.nbytes + channels.nbytes + sum(step[0].nbytes for step in steps)
    operations = flops(f_rows, f_columns, s.groups * c, s.k, s.groups, max(terms, 1)) * sum(counts)
    return Plan(runs(body), prepare, held, "; ".join(words), operations, phases_of(body, device))


def in_halves(xp: Any, u: Any, positions: int, terms: int) -> tuple[Any, Any]:
    """U [positions * groups, K / groups, C'] in terms of float16 side by side, and 1 / the scale of each filter [K]."""
    by_filter = xp.abs(u).max(axis=2).reshape(positions, -1).max(axis=0)  # groups, K / groups
    exponents = filter_exponents(xp, by_filter)
    scaled = xp.ldexp(u, xp.tile(exponents, positions).reshape(*u.shape[:2], 1))
    return xp.concatenate(terms_of_filters(scaled, terms), axis=2), unscales(xp, exponents)


def balanced(f: Transform) -> Transform:
    """The same F(m, r), where each row of B^T makes of numbers up to 1 numbers up to 1, and no less than 1/2.

    Rows of B^T are divided by powers of two, and those of G multiplied, so that M is what it was. Those of F(4, 5) make
    between 12.5 and 0.08: the squares of both are too far apart for halves with one scale, where numbers of x are too.
    """
    factors = [Fraction(2) ** ceil(log2(sum(abs(value) for value in row))) for row in f.bt]
    bt = [[value / factor for value in row] for row, factor in zip(f.bt, factors, strict=True)]
    g = [[value * factor for value in row] for row, factor in zip(f.g, factors, strict=True)]
    return replace(f, bt=bt, g=g)


def chunks(tiles: int, bytes_a_tile: int) -> list[int]:
    """Tiles of each chunk: as few chunks as MOST_BYTES allow, as even as TILES_QUANTUM allows.

    The last is rounded up to ROW_QUANTUM: tiles past the end read zeros and write nothing.
    """
    most = max(TILES_QUANTUM, MOST_BYTES // bytes_a_tile // TILES_QUANTUM * TILES_QUANTUM)
    even = ceil_div(tiles, ceil_div(tiles, most))
    size = ceil_div(even, TILES_QUANTUM) * TILES_QUANTUM
    last = tiles - (ceil_div(tiles, size) - 1) * size
    return [size] * (ceil_div(tiles, size) - 1) + [ceil_div(last, ROW_QUANTUM) * ROW_QUANTUM]


def shared_bytes(rows: Transform, columns: Transform, terms: int) -> tuple[int, int]:
    """Shared memory of a block of the input and of the output transform: Half and Staging of cuda.cu."""
    pitch = LANES + ceil_div(LANES, columns.m)
    staged = 4 * (THREADS // LANES) * rows.m * columns.products * pitch
    places = 12 * rows.m * LANES + 4 * columns.m * pitch + 4 * (rows.m + columns.m if terms else 1) * pitch
    return 4 * len(rows.bt[0]) * columns.products * THREADS, ceil_div(staged + places, 8) * 8


def tile_problem(rows: UnitAxis, columns: UnitAxis) -> Problem:
    """What cuda.cu is compiled for: the convolution of one tile, so that layers with the same tile share it."""
    return Problem(ConvShape(1, 1, rows.window, columns.window, 1, rows.length, columns.length))


def transform_matrices(rows: Transform, columns: Transform) -> dict[str, Matrix]:
    """The matrices that cuda.cu is compiled with."""
    exact: dict[str, Exact] = {"BT_H": rows.bt, "BT_W": columns.bt, "AT_H": rows.at, "AT_W": columns.at}
    return {name: tuple(tuple(float(v) for v in row) for row in matrix) for name, matrix in exact.items()}


def together_in(columns: UnitAxis) -> int:
    """How many channels are neighbours in a row of x: phases of the stride, a power of two of them."""
    if columns.pieces > 1:
        return 1
    return next(n for n in (MOST_TOGETHER, 2, 1) if columns.in_phases % n == 0)


def channel_table(s: ConvShape, rows: UnitAxis, columns: UnitAxis) -> Any:
    """{plane, first row, first column, 0} of each channel [C * row channels * column channels, 4] int32, for NumPy.

    In the order of filter_pieces: plane, row phase, row piece, column phase, column piece. The first row and column are
    those of x that position 0 of the channel's output phase 0 reads; they are negative on padding.
    """
    import numpy as np

    def starts(axis: UnitAxis) -> Any:
        phase, piece = np.arange(axis.in_phases)[:, None], np.arange(axis.pieces)
        return (axis.dilation * phase + axis.step * axis.length * piece - axis.pad).ravel()

    table = np.zeros((s.c, rows.channels, columns.channels, 4), np.int32)
    table[..., 0] = np.arange(s.c)[:, None, None]
    table[..., 1] = starts(rows)[:, None]
    table[..., 2] = starts(columns)
    return table.reshape(-1, 4)


def geometry(s: ConvShape, layout: Mosaic, channels: int, first: int, tiles: int, together: int) -> Any:
    """cuda.cu's struct Geometry of one chunk, as int32 for NumPy."""
    import numpy as np

    def axis_of(line: Line) -> list[int]:
        axis, wrap = line.axis, line.pitch if line.stitched else 0
        sizes = [axis.out_phases, axis.step, axis.stride, axis.size, axis.outputs]
        return [line.pitch, wrap, *sizes, line.tiles]

    rest = [s.n, layout.across, s.c, channels, s.k, first, tiles, together, channels // s.groups]
    return np.array([*axis_of(layout.rows), *axis_of(layout.columns), *rest], np.int32)


def flops(rows: Transform, columns: Transform, channels: int, filters: int, groups: int, terms: int) -> int:
    """Of one tile: 2 for each number of a matrix that is not zero, and for each multiply-add of the products."""

    def count(matrix: Exact) -> int:
        return sum(value != 0 for row in matrix for value in row)

    into = count(columns.bt) * len(rows.bt[0]) + count(rows.bt) * columns.products
    out_of = count(rows.at) * columns.products + count(columns.at) * rows.m
    products = rows.products * columns.products * terms * channels * filters // groups
    return 2 * (into * channels + out_of * filters + products)
