"""winograd.fused2: Y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A with F(2 x 2, 3 x 3), all in one CUDA kernel.

Transformed inputs and products never leave a multiprocessor (fused2.cu). The block of 64 filters x 32 tiles x 16
positions in registers is that of Gray's maxas and neon kernels and of Yan, Wang & Chu (PPoPP 2020). Stride and dilation
become phases, and filters of more than three taps pieces (unit.py): phases of the input and pieces are more channels,
which a table tells the kernel where to find, and phases of the output are more tiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from pathlib import Path
from typing import Any

from convbench.algorithms.base import Algorithm, Plan, Unsupported
from convbench.algorithms.gpu import MULTIPROCESSORS, adding
from convbench.algorithms.unit import UnitAxis, ceil_div, filter_pieces
from convbench.algorithms.winograd.filters import transform_filters
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

# G for the points 0, 1, -1 and infinity; B^T and A^T, which are then 0 and +-1, stand in fused2.cu.
G = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
OUTPUTS, TAPS, POSITIONS = 2, 3, 16  # of a tile and of a filter along an axis; products a tile
THREADS = 256
MOST_ELEMENTS = 1 << 30  # of one image and group: offsets are 32 bits wide
OUTSIDE = 1 << 30  # a row in no image


@dataclass(frozen=True)
class Block:
    """What a block of threads of fused2.cu computes: filters x tiles, in steps of so many channels."""

    filters: int
    tiles: int
    step: int

    @property
    def shared_bytes(self) -> int:
        """Shared memory: U and V twice, or later M of a round twice."""
        operands = POSITIONS * self.step * (self.filters + self.tiles)
        rows = 256 // self.tiles * (self.step // 4)
        return 4 * 2 * max(operands, POSITIONS * rows * (self.tiles + self.tiles // 8))

    @property
    def cycles(self) -> float:
        """Of a multiprocessor for a channel, if its 4 schedulers issued in each: 2 warps a scheduler."""
        products = POSITIONS * self.filters * self.tiles / THREADS
        reads = 2 * (self.filters * self.tiles / 1024 + 2)  # of 16 bytes: two positions' filters and 8 tiles
        copies = POSITIONS * self.filters / 4 / THREADS
        return 2 * (products + reads + copies + WINDOW_INSTRUCTIONS * self.tiles / THREADS)


# The second has fewer idle filters where 64 do not divide them (conv1 has 96), but transforms each input twice as
# often; the third is for few tiles.
BLOCKS = ((64, 32), (32, 64), (32, 32))
WINDOW_INSTRUCTIONS = 100  # gather a window (16 loads, about 34 for the padding), transform it (32), store it (16)
START_CYCLES = 4000.0  # of a block: its first loads, and its output transform; an estimate from latencies
SECOND_PASS_CYCLES = 3500.0  # 2 us to launch add_parts
BYTES_A_CYCLE = 2400.0  # of memory: 4.3 TB/s at 1.8 GHz
MOST_SHARES = 32  # by which the channels are split: each share writes all outputs once more
# A step of 8 channels takes 96 KB of shared memory, which a block of these GPUs does not get: they take 4.
SMALL_SHARED_MEMORY = (75,)


def refuses(problem: Problem) -> str | None:
    """Where nothing slides over anything, F(2 x 2, 3 x 3) only multiplies the work."""
    s = problem.shape
    if s.is_matrix_product:
        return "each output sees the whole input: a matrix product, no tile has a neighbour to share inputs with"
    if (s.r, s.s) == (1, 1):
        return "a filter of one tap is a matrix product: F(2x2, 3x3) would take 4 multiplications instead of 1"
    return None


def axes(s: ConvShape) -> tuple[UnitAxis, UnitAxis]:
    """Rows and columns in tiles of two outputs, also where there is but one output."""
    rows = UnitAxis(s.h, s.r, s.stride[0], s.pad[0], s.dilation[0], s.p, OUTPUTS, TAPS)
    return rows, UnitAxis(s.w, s.s, s.stride[1], s.pad[1], s.dilation[1], s.q, OUTPUTS, TAPS)


@dataclass(frozen=True)
class Work:
    """A block, the shares the channels are split into, and what that makes."""

    block: Block
    split: int
    steps: int  # of a share
    groups: int
    filter_tiles: int  # blocks along the filters of a group
    tile_blocks: int  # blocks along all tiles
    outputs: int

    @property
    def blocks(self) -> int:
        """Blocks of one launch."""
        return self.filter_tiles * self.groups * self.split * self.tile_blocks

    @property
    def channels(self) -> int:
        """Channels a group, padding included."""
        return self.split * self.steps * self.block.step

    @property
    def cycles(self) -> float:
        """The time of a call by a model: waves of one block on each multiprocessor, then the second pass."""
        one = START_CYCLES + self.steps * self.block.step * self.block.cycles
        second = SECOND_PASS_CYCLES + 2 * 4 * self.split * self.outputs / BYTES_A_CYCLE
        return ceil_div(self.blocks, MULTIPROCESSORS) * one + (second if self.split > 1 else 0)

    @property
    def flops(self) -> int:
        """Executed: 2 for each multiply-add, 1 for each of a transform's 32 or 24 additions, padding included."""
        filters, tiles = self.block.filters, self.block.tiles
        channels = self.steps * self.block.step
        one = channels * (2 * POSITIONS * filters * tiles + 32 * tiles) + 24 * filters * tiles
        return self.blocks * one + (self.split * self.outputs if self.split > 1 else 0)


def choose(problem: Problem, capability: int) -> Work:
    """The block and the number of shares whose call takes the fewest cycles by the model of Work.cycles."""
    s = problem.shape
    rows, columns = axes(s)
    step = 4 if capability in SMALL_SHARED_MEMORY else 8
    channels = ceil_div(s.c // s.groups * rows.channels * columns.channels, step)  # in steps
    tiles = s.n * rows.out_phases * columns.out_phases * rows.tiles * columns.tiles

    def work(block: Block, shares: int) -> Work:
        steps = ceil_div(channels, shares)
        filter_tiles, tile_blocks = ceil_div(s.k // s.groups, block.filters), ceil_div(tiles, block.tiles)
        return Work(block, ceil_div(channels, steps), steps, s.groups, filter_tiles, tile_blocks, prod(s.y_shape))

    return min(
        (work(Block(*sides, step), shares) for sides in BLOCKS for shares in range(1, min(MOST_SHARES, channels) + 1)),
        key=lambda work: work.cycles,
    )


def plan(problem: Problem, device: Device) -> Plan:
    """fused2.cu, and add_parts where the channels are split. Raises Unsupported above 2^30 elements a group."""
    s, xp = problem.shape, device.xp
    if s.c // s.groups * s.h * s.w >= MOST_ELEMENTS:
        raise Unsupported("one image's channels of a group have 2^30 elements or more: offsets would not fit 32 bits")
    chosen, (rows, columns) = choose(problem, device.capability), axes(s)
    block, split = chosen.block, chosen.split
    module = device.load(Path(__file__).with_suffix(".cu"), problem, **knobs(chosen, rows, columns))
    kernel, add_parts = module.get_function("fused2"), module.get_function("add_parts")
    kernel.max_dynamic_shared_size_bytes = block.shared_bytes
    table = device.put(channel_table(s, rows, columns, chosen.channels + block.step))
    parts = device.empty((split, chosen.outputs) if split > 1 else (0,), problem.storage)
    g = xp.array(G)

    def prepare(w: Any) -> Any:
        pieces = filter_pieces(xp, w, s, rows, columns)
        u = transform_filters(xp, pieces, g[:, : rows.length], g[:, : columns.length], problem.storage)
        return pack(xp, u.reshape(POSITIONS, s.groups, s.k // s.groups, -1), chosen)

    def run(x: Any, packed: Any, y: Any) -> None:
        target = parts if split > 1 else y
        kernel((chosen.blocks,), (THREADS,), (x, packed, table, target), shared_mem=block.shared_bytes)
        if split > 1:
            device.launch(add_parts, *adding(chosen.outputs), (parts, y), follows=True)

    return Plan(run, prepare, table.nbytes + parts.nbytes, note(s, chosen), chosen.flops)


def knobs(work: Work, rows: UnitAxis, columns: UnitAxis) -> dict[str, int]:
    """The constants fused2.cu is compiled with beside the shape.

    LANES_C neighbouring threads gather the same window of as many phases of the columns, which lie side by side in a
    row of x: conv1's stride of 4 would else have each read from a sector of its own.
    """
    lanes = gcd(columns.in_phases, 4) if columns.pieces == 1 else 1
    sizes = {"LANES_C": lanes, "TILE_K": work.block.filters, "TILE_T": work.block.tiles, "STEP": work.block.step}
    sizes |= {"STEPS": work.steps, "SPLIT": work.split}
    for side, axis in (("H", rows), ("W", columns)):
        sizes |= {f"JUMP_{side}": axis.step, f"PHASES_{side}": axis.out_phases, f"TILES_{side}": axis.tiles}
    return sizes


def channel_table(s: ConvShape, rows: UnitAxis, columns: UnitAxis, length: int) -> Any:
    """{offset, row, column, 0} of each channel of the polyphase, [length, 4] int32, a NumPy array.

    The order is that of filter_pieces: channel, row phase, row piece, column phase, column piece. Row and column are
    how far below and to the right of a tile's first input the channel's first input is, offset that and its channel
    in elements. Rows past the last channel are OUTSIDE.
    """
    import numpy as np

    dims = (s.c // s.groups, rows.in_phases, rows.pieces, columns.in_phases, columns.pieces)
    c, row_phase, row_piece, column_phase, column_piece = np.indices(dims, np.int64).reshape(5, -1)
    row = row_phase * rows.dilation + row_piece * rows.length * rows.step
    column = column_phase * columns.dilation + column_piece * columns.length * columns.step
    table = np.zeros((length, 4), np.int32)
    table[:, 1] = OUTSIDE
    table[: len(c), 0] = (c * s.h + row) * s.w + column
    table[: len(c), 1] = row
    table[: len(c), 2] = column
    return table


def pack(xp: Any, u: Any, work: Work) -> Any:
    """u [16, groups, K / groups, channels] to [groups, filter tiles, steps, 16, step, filters a tile], 0 at ends."""
    positions, groups, k, channels = u.shape
    block = work.block
    padded = xp.zeros((positions, groups, work.filter_tiles * block.filters, work.channels), u.dtype)
    padded[:, :, :k, :channels] = u
    split = padded.reshape(positions, groups, work.filter_tiles, block.filters, -1, block.step)
    return xp.ascontiguousarray(split.transpose(1, 2, 4, 0, 5, 3))


def note(s: ConvShape, work: Work) -> str:
    """What really ran, for the row."""
    block = work.block
    rows, columns = axes(s)
    words = f"F(2x2, 3x3) in one kernel, {work.blocks} blocks of {block.filters} filters x {block.tiles} tiles"
    if work.split > 1:
        words += f", channels in {work.split} shares"
    if s.stride != (1, 1) or s.dilation != (1, 1):
        words += "; polyphase"
    if rows.pieces * columns.pieces > 1:
        words += "; filters in pieces"
    return words if work.flops < s.flops else words + "; degenerate: saves no multiplication"


ALGORITHMS = [
    Algorithm(
        "winograd.fused2",
        on={"cuda": plan},
        refuses=refuses,
        summary="Winograd F(2 x 2, 3 x 3) in one kernel: transforms and products in registers and shared memory",
        precisions={"cuda": ("float32",)},
    )
]
