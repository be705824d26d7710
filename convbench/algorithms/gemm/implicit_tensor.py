"""gemm.implicit on tensor cores: x with its channels last, then a gathered matrix product in tf32 or float16.

The product is implicit_tensor.cu's, by warps; on Hopper implicit_warpgroup.cu's, by warpgroups.

Tensor cores want operands in pieces of 16 bytes along the depth of the product, and a tap of NCHW has 4. So each call
first copies x to [N, rows, columns, groups, channels] (the phase "layout"), padding and phases of the stride written
out. Chunks of 16 bytes are gathered from there; offsets_and_sources says in which order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product as pairs
from math import prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Plan, Unsupported
from convbench.algorithms.gemm.tiling import Tile, Tiling, best_tiling
from convbench.algorithms.phased import phases_of, runs
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

CHUNK_BYTES = 16  # of an asynchronous copy
ROW = 8  # chunks of a step
# Buffers: two steps are under way while one is multiplied, or two are. More would take the first-level cache's place:
# with eight, conv3 in tf32 at batch 16 took 48 us on an H200, with four 40.
WARP_STAGES, WARPGROUP_STAGES = 3, 4
# Filters, pixels, chunks a step; filters and pixels a warp; speed (on an H200), blocks a multiprocessor.
TILES = (
    Tile(128, 128, ROW, 64, 64, 1.0, 2),
    Tile(96, 128, ROW, 48, 64, 0.87, 2),  # AlexNet's conv1 and conv4
    Tile(128, 256, ROW, 64, 64, 0.81, 1),
    Tile(64, 128, ROW, 32, 64, 0.81, 2),
    Tile(192, 128, ROW, 48, 64, 0.75, 1),
    Tile(64, 64, ROW, 32, 32, 0.74, 3),
    Tile(96, 256, ROW, 48, 64, 0.72, 1),
    Tile(128, 32, ROW, 32, 32, 0.6, 3),  # fully connected layers: an image is a pixel
    Tile(32, 32, ROW, 16, 16, 0.4, 3),
)
# By warpgroups of 64 filters x all pixels, cut into their 4 warps. Shared memory bounds them: each warpgroup reads all
# pixels, so small tiles are slow.
HOPPER = 90
WARPGROUP_TILES = (
    Tile(128, 256, ROW, 16, 256, 1.0, 1),
    Tile(192, 192, ROW, 16, 192, 1.0, 1),
    Tile(128, 192, ROW, 16, 192, 0.9, 1),
    Tile(128, 128, ROW, 16, 128, 0.8, 1),
    Tile(64, 256, ROW, 16, 256, 0.8, 1),
    Tile(64, 128, ROW, 16, 128, 0.7, 2),
    Tile(64, 64, ROW, 16, 64, 0.5, 3),
)
# Multiply-adds of chunks (4 floats or 8 halves), in which depth is counted here, while 4 bytes of a part are written or
# read: about 40e12 beside 4.3e12 bytes a second.
SUM_COST = 36
# Bytes of shared memory a block may have, by capability; others have what the least of sm_80 and newer have.
SHARED_MEMORY = {80: 163 << 10, 87: 163 << 10, 90: 227 << 10, 100: 227 << 10, 103: 227 << 10}
LEAST_SHARED_MEMORY = 99 << 10
MOST_CHUNKS = 1 << 31  # of the copy of x: 32-bit indices


@dataclass(frozen=True)
class Staged:
    """The copy of x, [N, *size, groups, channels], and the convolution without padding that is left on it.

    Of each channel `phases` neighbours become channels. The filter has `taps`, `reach` places apart; pixels are `step`
    places apart.
    """

    phases: tuple[int, int]
    taps: tuple[int, int]
    step: tuple[int, int]
    reach: tuple[int, int]
    size: tuple[int, int]
    channels: int  # of a group, filled up to whole chunks

    @property
    def depth(self) -> int:
        """Terms of an output's sum, zeros included."""
        return prod(self.taps) * self.channels


def staged(shape: ConvShape, chunk: int) -> Staged:
    """The copy with the least depth, then the smallest, for chunks of so many elements.

    A stride u becomes u phases where the filter's neighbours are neighbours (dilation 1): row u p + r is phase r % u of
    row p + r // u. It pays where the channels are few, since chunks are then half empty.
    """
    choices = []
    rows_in, columns_in = ({1, u if d == 1 else 1} for u, d in zip(shape.stride, shape.dilation, strict=True))
    for phases in pairs(rows_in, columns_in):
        taps = -(-shape.r // phases[0]), -(-shape.s // phases[1])
        step = shape.stride[0] // phases[0], shape.stride[1] // phases[1]
        rows = step[0] * (shape.p - 1) + shape.dilation[0] * (taps[0] - 1) + 1
        columns = step[1] * (shape.q - 1) + shape.dilation[1] * (taps[1] - 1) + 1
        channels = -(-shape.c // shape.groups * prod(phases) // chunk) * chunk
        choices.append(Staged(phases, taps, step, shape.dilation, (rows, columns), channels))
    return min(choices, key=lambda copy: (copy.depth, prod(copy.size) * copy.channels, copy.phases))


def offsets_and_sources(shape: ConvShape, copy: Staged, chunk: int, length: int) -> tuple[Any, Any]:
    """Where the chunks of depth lie, and which filter elements they are multiplied by; two NumPy arrays.

    offsets [length] int32: chunks from the one under a pixel's first tap. sources [length, chunk] int64: the element
    (c, r, s) of a filter, counted through, or C R S / groups where there is none. The order is (8 chunks of channels,
    r, s, chunk): a block's pixels see neighbours of one another, in few channels, for as long as possible.
    """
    import numpy as np

    chunks, (rows, columns), channels = copy.channels // chunk, copy.taps, shape.c // shape.groups
    none = channels * shape.r * shape.s
    order = [
        (r, s, i)
        for first in range(0, chunks, ROW)
        for r in range(rows)
        for s in range(columns)
        for i in range(first, min(first + ROW, chunks))
    ]
    r, s, i = np.array(order, np.int64).T
    offsets = np.zeros(length, np.int32)
    places = r * copy.reach[0] * copy.size[1] + s * copy.reach[1]
    offsets[: len(order)] = places * (shape.groups * chunks) + i
    element = i[:, None] * chunk + np.arange(chunk)
    c, phase = np.divmod(element, prod(copy.phases))
    r, s = r[:, None] * copy.phases[0] + phase // copy.phases[1], s[:, None] * copy.phases[1] + phase % copy.phases[1]
    there = (c < channels) & (r < shape.r) & (s < shape.s)
    sources = np.full((length, chunk), none, np.int64)
    sources[: len(order)] = np.where(there, (c * shape.r + r) * shape.s + s, none)
    return offsets, sources


def rounded_to_tf32(xp: Any, w: Any) -> Any:
    """Floats with the 10 bits of mantissa that tensor cores read, the nearest, ties away from zero."""
    return ((w.view(xp.uint32) + xp.uint32(1 << 12)) & xp.uint32(0xFFFFE000)).view(xp.float32)


def on_tensor_cores(problem: Problem, device: Device) -> Plan:
    """implicit_tensor.cu or implicit_warpgroup.cu.

    Raises Unsupported before sm_80, and for copies of x of 32 GB or more.
    """
    if device.capability < 80:
        raise Unsupported(f"tensor cores of sm_80 or newer are needed for {problem.precision}")
    s, xp = problem.shape, device.xp
    chunk = CHUNK_BYTES // problem.number.bytes
    copy = staged(s, chunk)
    per_place = s.groups * copy.channels // chunk
    if s.n * prod(copy.size) * per_place >= MOST_CHUNKS:
        raise Unsupported("x with its channels last has 2^31 pieces of 16 bytes or more: indices would not fit 32 bits")
    k, outputs, depth_chunks = s.k // s.groups, prod(s.y_shape), copy.depth // chunk
    room = SHARED_MEMORY.get(device.capability, LEAST_SHARED_MEMORY)
    # A fully connected layer has few pixels, and nothing they share: there warps were faster at every batch.
    by_warpgroups = device.capability == HOPPER and not s.is_matrix_product
    known: Sequence[Tile] = WARPGROUP_TILES if by_warpgroups else TILES
    stages = WARPGROUP_STAGES if by_warpgroups else WARP_STAGES
    tiles = [tile for tile in known if shared_memory(tile, stages) <= room]
    tiling = best_tiling(tiles, s.groups, k, s.n * s.p * s.q, depth_chunks, SUM_COST)
    tile, split, shared = tiling.tile, tiling.shares, shared_memory(tiling.tile, stages)
    knobs = product_knobs(copy, tiling, stages, depth_chunks)
    here = Path(__file__)
    if by_warpgroups:
        module = device.load_own(here.with_name("implicit_warpgroup.cu"), problem, **knobs)
    else:
        warp = {"WARP_K": tile.worker_filters, "WARP_P": tile.worker_pixels}
        module = device.load(here.with_suffix(".cu"), problem, **knobs, **warp)
    layout, product, add_parts = (module.get_function(name) for name in ("layout", "product", "add_parts"))
    product.max_dynamic_shared_size_bytes = shared
    table, sources = offsets_and_sources(s, copy, chunk, tiling.depth)
    offsets, sources = device.put(table), device.put(sources)
    channels_last = device.empty((s.n, *copy.size, s.groups, copy.channels), problem.storage)
    parts = device.empty((split, outputs) if split > 1 else (0,), "float32")
    turned = min(copy.channels, 64)  # TURNED of staged.cuh
    layout_blocks = -(-copy.channels // turned) * s.groups * -(-s.n * prod(copy.size) // 32)

    def prepare(w: Any) -> Any:
        padded = xp.zeros((s.groups, tiling.filter_tiles * tile.filters, w[0].size + 1), problem.storage)
        padded[:, :k, :-1] = w.reshape(s.groups, k, -1)
        if problem.precision == "tf32":
            padded = rounded_to_tf32(xp, padded)
        gathered = padded[:, :, sources.reshape(tiling.depth // ROW, -1)]  # groups, filters, steps, elements
        by_tile = gathered.reshape(s.groups, tiling.filter_tiles, tile.filters, *gathered.shape[2:])
        return xp.ascontiguousarray(by_tile.transpose(0, 1, 3, 2, 4))

    def body(x: Any, packed: Any, y: Any) -> Any:
        layout((layout_blocks,), (256,), (x, channels_last))
        yield "layout"
        arguments = (channels_last, packed, offsets, parts if split > 1 else y)
        product((tiling.blocks,), (32 * tile.workers,), arguments, shared_mem=shared)
        yield "product"
        if split > 1:
            add_parts((-(-outputs // 256),), (256,), (parts, y))
            yield "sum"

    workspace = channels_last.nbytes + offsets.nbytes + sources.nbytes + parts.nbytes
    note = tiling.note + (f", {copy.phases[0]} x {copy.phases[1]} phases" if prod(copy.phases) > 1 else "")
    return Plan(runs(body), prepare, workspace, note, tiling.flops * chunk, phases_of(body, device))


def product_knobs(copy: Staged, tiling: Tiling, stages: int, depth_chunks: int) -> dict[str, int]:
    """The constants of staged.cuh beside the shape."""
    tile = tiling.tile
    return {
        "STAGED_H": copy.size[0], "STAGED_W": copy.size[1], "STAGED_C": copy.channels, "PHASES_H": copy.phases[0],
        "PHASES_W": copy.phases[1], "STEP_H": copy.step[0], "STEP_W": copy.step[1], "DEPTH_CHUNKS": depth_chunks,
        "DEPTH_STEPS": tiling.depth // ROW, "STAGES": stages, "SPLIT": tiling.shares, "TILE_K": tile.filters,
        "TILE_P": tile.pixels, "RESIDENT": tile.resident,
    }  # fmt: skip


def shared_memory(tile: Tile, stages: int) -> int:
    """Bytes of a block: buffers of a step's pixels and filters."""
    return stages * (tile.filters + tile.pixels) * ROW * CHUNK_BYTES
