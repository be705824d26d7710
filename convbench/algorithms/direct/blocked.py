"""direct.blocked: the seven loops in an order that caches and registers like, on packed weights.

On the CPU, in float32, pixels x 16 filters are summed in registers and padding is left out (packed.py, kernel.py). In
float64 the stride's phases become planes with the padding written out, so that tap (c, r, s) reads output pixel o of
the flattened plane at  offset[c, r, s] + o  whatever the stride or dilation; four filters by four taps share their
loads. On CUDA a block of threads computes filters x pixels in registers, from shared memory: where filters slide,
strips of a row from windows of the input that several taps share (strips.cu); else any pixels, gathered (blocked.cu).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.direct.strips import WANTED_THREADS, best_cut, in_strips, shares
from convbench.algorithms.gpu import adding
from convbench.devices.base import Device
from convbench.problem import Problem

SUMS = 512  # outputs a block: four filters' sums are 8 KB in float32, a quarter of the smallest first-level cache


def on_cpu(problem: Problem, device: Device) -> Plan:
    """Vector code in float32; in float64 one image at a time, blocks of four filters shared out to threads."""
    s, xp = problem.shape, device.xp
    if s.is_matrix_product and s.groups == 1:
        return dot_products_on_cpu(problem, device)
    if problem.precision == "float32":
        from convbench.algorithms.direct.packed import packed

        return packed(problem, device)
    from convbench.algorithms.direct.loops import blocked, split_planes

    (uh, uw), (dh, dw) = s.stride, s.dilation
    channels, k = s.c // s.groups, s.k // s.groups
    rows = s.p + (s.r - 1) * dh // uh
    columns = s.q + (s.s - 1) * dw // uw
    planes = device.empty((s.c * uh * uw * rows * columns + SUMS,), problem.precision)
    planes[...] = 0
    split = planes[: s.c * uh * uw * rows * columns].reshape(s.c, uh, uw, rows, columns)
    offsets = tap_offsets(xp, channels, (s.r, s.s), (uh, uw), (dh, dw), (rows, columns))
    sums = device.empty((-(-k // 4), 4, SUMS), problem.precision)
    per_group = channels * uh * uw * rows * columns

    def prepare(w: Any) -> Any:
        taps = channels * s.r * s.s
        padded = xp.zeros((s.groups, -(-k // 4) * 4, len(offsets)), problem.precision)
        padded[:, :k, :taps] = w.reshape(s.groups, k, taps)
        return xp.ascontiguousarray(padded.reshape(s.groups, -1, 4, len(offsets) // 4, 4).transpose(0, 1, 3, 4, 2))

    def run(x: Any, packed: Any, y: Any) -> None:
        for n in range(s.n):
            split_planes(x[n], split, s.stride, s.pad)
            for group in range(s.groups):
                target = y[n, group * k : (group + 1) * k]
                blocked(planes, packed[group], offsets, target, sums, columns, group * per_group)

    return Plan(run, prepare, planes.nbytes + sums.nbytes + offsets.nbytes)


def dot_products_on_cpu(problem: Problem, device: Device) -> Plan:
    """A filter as large as the image has nowhere to slide: four filters by four images of dot products at a time."""
    from convbench.algorithms.direct.loops import dot_products

    s = problem.shape
    zero = device.xp.dtype(problem.precision).type(0)

    def run(x: Any, w: Any, y: Any) -> None:
        dot_products(x.reshape(s.n, -1), w.reshape(s.k, -1), y.reshape(s.n, s.k), zero)

    return Plan(run, note="nothing slides: dot products of 4 filters x 4 images")


def tap_offsets(
    xp: Any,
    channels: int,
    taps: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    plane: tuple[int, int],
) -> Any:
    """Where each tap (c, r, s) begins to read in planes [C, u_h, u_w, rows, columns]; padded to a multiple of four."""
    c, r, s = xp.arange(channels)[:, None, None], xp.arange(taps[0])[:, None], xp.arange(taps[1])
    row, column = r * dilation[0], s * dilation[1]
    phase = (c * stride[0] + row % stride[0]) * stride[1] + column % stride[1]
    offsets = ((phase * plane[0] + row // stride[0]) * plane[1] + column // stride[1]).ravel()
    return xp.concatenate([offsets, xp.zeros(-len(offsets) % 4, offsets.dtype)])


@dataclass(frozen=True)
class Tile:
    """What a block of threads of blocked.cu computes at a time; `speed` guesses its rate beside the first one's."""

    filters: int
    pixels: int
    taps: int
    thread_filters: int
    thread_pixels: int
    speed: float

    @property
    def threads(self) -> int:
        """Threads a block."""
        return self.filters * self.pixels // (self.thread_filters * self.thread_pixels)

    @property
    def knobs(self) -> dict[str, int]:
        """The constants blocked.cu is compiled with beside the shape and SPLIT."""
        thread = {"THREAD_K": self.thread_filters, "THREAD_P": self.thread_pixels}
        return {"TILE_K": self.filters, "TILE_P": self.pixels, "TILE_T": self.taps} | thread


TILES = (
    Tile(128, 128, 8, 8, 8, 1.0),  # 64 products for each 16 values read from shared memory
    Tile(64, 128, 8, 8, 8, 0.95),
    Tile(32, 128, 16, 4, 8, 0.8),
    Tile(64, 64, 16, 4, 4, 0.65),
    Tile(32, 32, 16, 4, 4, 0.5),
    Tile(16, 32, 16, 4, 4, 0.4),
)
# Eight doubles by eight leave too few registers for a second block on a multiprocessor; with the last tile ptxas
# spills.
TILES_BY_PRECISION = {"float32": TILES, "float64": TILES[2:5]}
MOST_PLANES = 1 << 30  # elements of one image and group: offsets are 32 bits wide


def best_tile(problem: Problem) -> tuple[Tile, int]:
    """The cheapest tile of blocked.cu, and the shares the taps go in.

    Cost = products with the tile's waste / speed / part of the wanted threads that there are. Taps are split where the
    tiles alone are too few to fill a GPU.
    """
    s = problem.shape
    filters, pixels, taps = s.k // s.groups, s.n * s.p * s.q, s.c // s.groups * s.r * s.s

    def judge(tile: Tile) -> tuple[float, int]:
        tiles = s.groups * -(-filters // tile.filters) * -(-pixels // tile.pixels)
        split = shares(tiles * tile.threads, -(-taps // tile.taps), tile.taps)
        filled = min(1.0, tiles * tile.threads * split / WANTED_THREADS)
        return tiles * tile.filters * tile.pixels / tile.speed / filled, split

    best = min(TILES_BY_PRECISION[problem.precision], key=lambda tile: judge(tile)[0])
    return best, judge(best)[1]


def on_cuda(problem: Problem, device: Device) -> Plan:
    """strips.cu where filters slide and rows are cut with little waste, else blocked.cu.

    Raises Unsupported where one image's channels of a group have 2^30 elements or more.
    """
    s = problem.shape
    if s.c // s.groups * s.h * s.w >= MOST_PLANES:
        raise Unsupported("one image's channels of a group have 2^30 elements or more: offsets would not fit 32 bits")
    cut = best_cut(problem)
    return in_strips(problem, device, cut) if cut else in_tiles(problem, device, *best_tile(problem))


def in_tiles(problem: Problem, device: Device, tile: Tile, split: int) -> Plan:
    """The plan around blocked.cu, and add_parts where the taps are split."""
    s, xp = problem.shape, device.xp
    module = device.load(Path(__file__).with_suffix(".cu"), problem, **tile.knobs, SPLIT=split)
    kernel, add_parts = module.get_function("blocked"), module.get_function("add_parts")
    k, outputs = s.k // s.groups, prod(s.y_shape)
    filter_tiles, pixel_tiles = -(-k // tile.filters), -(-s.n * s.p * s.q // tile.pixels)
    blocks = filter_tiles * s.groups * split * pixel_tiles
    table = device.put(tap_table(problem, tile.taps * split))
    parts = device.empty((split, outputs) if split > 1 else (0,), problem.precision)

    def prepare(w: Any) -> Any:
        taps = w[0].size
        packed = xp.zeros((s.groups, len(table), filter_tiles * tile.filters), problem.precision)
        packed[:, :taps, :k] = w.reshape(s.groups, k, taps).transpose(0, 2, 1)
        return packed

    def run(x: Any, packed: Any, y: Any) -> None:
        kernel((blocks,), (tile.threads,), (x, packed, table, parts if split > 1 else y))
        if split > 1:
            device.launch(add_parts, *adding(outputs), (parts, y), follows=True)

    words = f"tiles of {tile.filters} filters x {tile.pixels} pixels"
    words += f", taps in {split} shares" if split > 1 else ""
    flops = 2 * blocks // split * tile.filters * tile.pixels * len(table)
    return Plan(run, prepare, table.nbytes + parts.nbytes, words, flops)


def tap_table(problem: Problem, multiple: int) -> Any:
    """{offset, row, column, 0} of each tap (c, r, s), [taps rounded up to `multiple`, 4] int32, a NumPy array.

    offset is where the tap reads relative to the input under the pixel's first tap, row and column how far below and to
    the right of it that is. Taps past the last have a row outside any image.
    """
    import numpy as np

    s = problem.shape
    c, r, column = np.indices((s.c // s.groups, s.r, s.s), np.int64).reshape(3, -1)
    row, column = r * s.dilation[0], column * s.dilation[1]
    table = np.zeros((-(-len(c) // multiple) * multiple, 4), np.int32)
    table[:, 1] = 1 << 30
    table[: len(c), 0] = (c * s.h + row) * s.w + column
    table[: len(c), 1] = row
    table[: len(c), 2] = column
    return table


ALGORITHMS = [
    Algorithm(
        "direct.blocked",
        on={"cpu": on_cpu, "cuda": on_cuda},
        summary="register and cache tiles on packed weights",
    )
]
