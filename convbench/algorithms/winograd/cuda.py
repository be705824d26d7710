"""winograd.f<m> for float32 on CUDA: both transforms by cuda.cu, the products by cuBLAS, in chunks of tiles.

    V = B^T d B [t^2, groups, C', tiles];   M = U V [t^2, groups, K / groups, tiles];   Y = A^T M A

A chunk has as many tiles as leave V and M in the last-level cache, so that only x, U and y come from memory. Tiles lie
on a mosaic of the batch's images (mosaic.py); phases of the stride and pieces of the filter are channels C' that the
input transform reads where they lie in x (unit.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.phased import phases_of, runs
from convbench.algorithms.unit import UnitAxis, axes, ceil_div, filter_pieces
from convbench.algorithms.winograd.filters import MOST_TAPS, matrices, note, transform_filters
from convbench.algorithms.winograd.mosaic import INDICES, Line, Mosaic, mosaic
from convbench.algorithms.winograd.transforms import LARGEST_WINDOW, Transform, transform
from convbench.algorithms.winograd.transforms import Matrix as Exact
from convbench.devices.base import Device, Knob, Matrix
from convbench.problem import Problem
from convbench.shapes import ConvShape

CACHE_PART = 0.7  # of the last-level cache for V and M; U streams through the rest
TILES_QUANTUM = 64  # a chunk's tiles are a multiple: columns of the blocks that cuBLAS computes a product in
LEAST_TILES = 2 * TILES_QUANTUM  # of a chunk, however small the cache: each reads all of U
ROW_QUANTUM = 4  # a row of V or M is a multiple of 16 bytes: cuBLAS then reads 16 at once
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


def plan(m: int, problem: Problem, device: Device) -> Plan:
    """The plan of winograd.f<m> for float32 on CUDA."""
    s, xp = problem.shape, device.xp
    rows, columns = tile_axes(m, s)
    f_rows, f_columns = transform(rows.tile, rows.length), transform(columns.tile, columns.length)
    positions, k = f_rows.products * f_columns.products, s.k // s.groups
    c = s.c // s.groups * rows.channels * columns.channels
    layout = mosaic(s.n, max(s.c * s.h * s.w, s.k * s.p * s.q), rows, columns)
    counts = chunks(layout.tiles, positions * s.groups * (c + k) * problem.number.bytes, device.cache_bytes)
    together, stack = together_in(columns), positions * s.groups
    shared_in, shared_out = shared_bytes(f_rows, f_columns)
    facts: dict[str, Knob] = {"SHARED_IN": shared_in, "SHARED_OUT": shared_out}
    facts |= transform_matrices(f_rows, f_columns)
    module = device.load(Path(__file__).with_suffix(".cu"), tile_problem(rows, columns), **facts)
    into, out_of = module.get_function("transform_input"), module.get_function("transform_output")
    into.max_dynamic_shared_size_bytes, out_of.max_dynamic_shared_size_bytes = shared_in, shared_out

    channels = device.put(channel_table(s, rows, columns))
    v = device.empty((stack * c * max(counts),), problem.storage)
    products = device.empty((stack * k * max(counts),), problem.storage)
    steps = []  # of each chunk: its geometry, V and M, and the blocks of both transforms
    for i, count in enumerate(counts):
        where = device.put(geometry(s, layout, len(channels), sum(counts[:i]), count, together))
        v_chunk = v[: stack * c * count].reshape(stack, c, count)
        m_chunk = products[: stack * k * count].reshape(stack, k, count)
        blocks_in = ceil_div(count, THREADS // together), len(channels) // together
        blocks_out = ceil_div(count, LANES), ceil_div(s.k, THREADS // LANES)
        steps.append((where, v_chunk, m_chunk, blocks_in, blocks_out))
    (_, gh, _), (_, gw, _) = (matrices(xp, f, problem.storage) for f in (f_rows, f_columns))

    def prepare(w: Any) -> Any:
        pieces = filter_pieces(xp, w, s, rows, columns)
        return transform_filters(xp, pieces, gh, gw, problem.storage).reshape(stack, k, c)

    def body(x: Any, u: Any, y: Any) -> Iterator[str]:
        for where, v_chunk, m_chunk, blocks_in, blocks_out in steps:
            into(blocks_in, (THREADS,), (x, channels, where, v_chunk), shared_mem=shared_in)
            yield "input transform"
            device.matmul(u, v_chunk, m_chunk)
            yield "product"
            out_of(blocks_out, (THREADS,), (m_chunk, where, y), shared_mem=shared_out)
            yield "output transform"

    words = [note(m, s, f_rows, f_columns), *([layout.note] if layout.note else [])]
    words.append(f"{len(counts)} chunks of {counts[0]} tiles" if len(counts) > 1 else f"{layout.tiles} tiles at once")
    held = v.nbytes + products.nbytes + channels.nbytes + sum(step[0].nbytes for step in steps)
    operations = flops(f_rows, f_columns, s.groups * c, s.k, s.groups) * sum(counts)
    return Plan(runs(body), prepare, held, "; ".join(words), operations, phases_of(body, device))


def chunks(tiles: int, bytes_a_tile: int, cache_bytes: int) -> list[int]:
    """Tiles of each chunk: as few chunks as the cache allows, as even as TILES_QUANTUM allows.

    The last is rounded up to ROW_QUANTUM: tiles past the end read zeros and write nothing.
    """
    room = int(cache_bytes * CACHE_PART) // bytes_a_tile
    most = max(LEAST_TILES, room // TILES_QUANTUM * TILES_QUANTUM)
    even = ceil_div(tiles, ceil_div(tiles, most))
    size = ceil_div(even, TILES_QUANTUM) * TILES_QUANTUM
    last = tiles - (ceil_div(tiles, size) - 1) * size
    return [size] * (ceil_div(tiles, size) - 1) + [ceil_div(last, ROW_QUANTUM) * ROW_QUANTUM]


def shared_bytes(rows: Transform, columns: Transform) -> tuple[int, int]:
    """Shared memory of a block of the input and of the output transform: Half and Staging of cuda.cu."""
    pitch = LANES + ceil_div(LANES, columns.m)
    staged = 4 * (THREADS // LANES) * rows.m * columns.products * pitch
    places = 12 * rows.m * LANES + 4 * columns.m * pitch
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

    rest = [s.n, layout.across, s.c, channels, s.k, first, tiles, together]
    return np.array([*axis_of(layout.rows), *axis_of(layout.columns), *rest], np.int32)


def flops(rows: Transform, columns: Transform, channels: int, filters: int, groups: int) -> int:
    """Of one tile: 2 for each number of a matrix that is not zero, and for each multiply-add of the products."""

    def count(matrix: Exact) -> int:
        return sum(value != 0 for row in matrix for value in row)

    into = count(columns.bt) * len(rows.bt[0]) + count(rows.bt) * columns.products
    out_of = count(rows.at) * columns.products + count(columns.at) * rows.m
    return 2 * (into * channels + out_of * filters + rows.products * columns.products * channels * filters // groups)
