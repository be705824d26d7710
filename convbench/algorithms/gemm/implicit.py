"""gemm.implicit: Y = W [K x C R S] M [C R S x N P Q], where M is gathered tile by tile while it is multiplied.

Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014. M is never stored: a block of threads gathers its
tile of it into shared memory. In float32 and float64 straight from x (implicit.cu); for tensor cores, in tf32 and
float16, from a copy of x with the channels last (implicit_tensor.py).
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.gemm.implicit_tensor import on_tensor_cores
from convbench.algorithms.gemm.tiling import Tile, best_tiling
from convbench.algorithms.gpu import adding
from convbench.algorithms.phased import phases_of, runs
from convbench.devices.base import Device
from convbench.problem import Problem

# Filters, pixels, taps a step; filters and pixels a thread; speed, blocks a multiprocessor.
TILES = (
    Tile(128, 128, 8, 8, 8, 1.0, 2),  # 64 products for each 16 values read from shared memory
    Tile(96, 128, 8, 8, 8, 0.95, 2),  # AlexNet's 96 and 192 filters
    Tile(64, 128, 8, 8, 8, 0.9, 3),  # four would leave too few registers
    Tile(128, 32, 8, 8, 4, 0.7, 4),  # fully connected layers: an image is a pixel
    Tile(64, 64, 8, 8, 4, 0.7, 4),
    Tile(32, 64, 16, 4, 4, 0.5, 4),
    Tile(16, 32, 16, 4, 4, 0.35, 8),
)
# Eight doubles by eight leave too few registers for a second block on a multiprocessor.
TILES_BY_PRECISION = {
    "float32": TILES,
    "float64": (Tile(32, 128, 8, 4, 8, 1.0, 2), Tile(64, 64, 8, 4, 4, 0.9, 2), *TILES[5:]),
}
SUM_COST = 30  # multiply-adds while 4 bytes of a part are written or read: 33e12 beside 4.3e12 bytes a second
MOST_PLANES = 1 << 30  # elements of one image and group: offsets are 32 bits wide
MOST_BITS = 63  # for the rows and columns of a filter that may fall on padding, in implicit.cu's Bits


def padding_bits(problem: Problem) -> tuple[int, int]:
    """ROW_BITS and COLUMN_BITS of implicit.cu: along an axis without padding no tap falls outside."""
    s = problem.shape
    return (s.r if s.pad[0] else 0), (s.s if s.pad[1] else 0)


def tap_table(problem: Problem, length: int) -> Any:
    """{uses, offset} of each tap (c, r, s), [length, 2] int32 (or [length, 4] with uses of 64 bits), a NumPy array.

    offset is where the tap reads relative to the input under the pixel's first tap; uses has the bit of its row and
    that of its column, and in taps past the last the bit after those, which every pixel has set.
    """
    import numpy as np

    s = problem.shape
    rows, columns = padding_bits(problem)
    wide = rows + columns >= 32
    c, r, column = np.indices((s.c // s.groups, s.r, s.s), np.int64).reshape(3, -1)  # in the order of w's elements
    uses = np.full(length, 1 << (rows + columns), np.uint64)
    one = np.uint64(1)
    uses[: len(c)] = 0
    if rows:
        uses[: len(c)] |= one << r.astype(np.uint64)
    if columns:
        uses[: len(c)] |= one << (rows + column).astype(np.uint64)
    table = np.zeros((length, 4 if wide else 2), np.int32)
    table[:, : 2 if wide else 1] = uses.view(np.int32).reshape(-1, 2)[:, : 2 if wide else 1]  # the low half first
    table[: len(c), 2 if wide else 1] = (c * s.h + r * s.dilation[0]) * s.w + column * s.dilation[1]
    return table


def on_cuda(problem: Problem, device: Device) -> Plan:
    """implicit.cu, or implicit_tensor.cu for tf32 and float16; add_parts where the taps are split.

    Raises Unsupported for planes too large for 32-bit offsets, and for padded filters with too many rows and columns.
    """
    if problem.precision in ("tf32", "float16"):
        return on_tensor_cores(problem, device)
    s, xp = problem.shape, device.xp
    if s.c // s.groups * s.h * s.w >= MOST_PLANES:
        raise Unsupported("one image's channels of a group have 2^30 elements or more: offsets would not fit 32 bits")
    if (bits := sum(padding_bits(problem))) > MOST_BITS:
        raise Unsupported(f"{bits} filter rows and columns may fall on padding: a mask has {MOST_BITS} bits for them")
    k, taps, outputs = s.k // s.groups, s.c // s.groups * s.r * s.s, prod(s.y_shape)
    tiling = best_tiling(TILES_BY_PRECISION[problem.precision], s.groups, k, s.n * s.p * s.q, taps, SUM_COST)
    tile, split = tiling.tile, tiling.shares
    module = device.load(
        Path(__file__).with_suffix(".cu"), problem, TILE_K=tile.filters, TILE_P=tile.pixels, TILE_T=tile.depth,
        THREAD_K=tile.worker_filters, THREAD_P=tile.worker_pixels, SPLIT=split, RESIDENT=tile.resident,
    )  # fmt: skip
    kernel, add_parts = module.get_function("implicit"), module.get_function("add_parts")
    table = device.put(tap_table(problem, tiling.depth))
    parts = device.empty((split, outputs) if split > 1 else (0,), problem.precision)

    def prepare(w: Any) -> Any:
        padded = xp.zeros((s.groups, tiling.filter_tiles * tile.filters, tiling.depth), problem.precision)
        padded[:, :k, :taps] = w.reshape(s.groups, k, taps)
        by_tile = padded.reshape(s.groups, tiling.filter_tiles, tile.filters, tiling.depth)
        return xp.ascontiguousarray(by_tile.transpose(0, 1, 3, 2))

    def body(x: Any, packed: Any, y: Any) -> Any:
        kernel((tiling.blocks,), (tile.workers,), (x, packed, table, parts if split > 1 else y))
        yield "product"
        if split > 1:
            device.launch(add_parts, *adding(outputs), (parts, y), follows=True)
            yield "sum"

    phases = phases_of(body, device) if split > 1 else None
    return Plan(runs(body), prepare, table.nbytes + parts.nbytes, tiling.note, tiling.flops, phases)


ALGORITHMS = [
    Algorithm(
        "gemm.implicit",
        on={"cuda": on_cuda},
        summary="matrix product whose stretched operand is gathered tile by tile, never stored",
        precisions={"cuda": ("float32", "float64", "tf32", "float16")},
        needs={"cuda": "tf32 and float16: tensor cores of sm_80 or newer"},
    )
]
