"""Convolution by tiles with nothing large in between: for a block of images, all inputs are transformed; then, panel by
panel of 16 filters, each point's matrix product goes straight into the inverse transform.

    V [point] [tile, channel]  x  U [panel] [point] [channel, 16]  ->  M [tile, 16]  ->  y

The products of one panel's points along y wait in M, those of all points along x, inverted along y, in T; both stay in
the second-level cache. U is read once a block, in the order it lies in memory.

Where the last row or column of tiles has fewer outputs than the others, it does not need the point at infinity, on
which only a tile's last output depends: those products are left out. So that each product still takes rows of V that
lie together, the tiles of a block are ordered by which of the two points they need, image by image within each kind:

    y only   |   both   |   x only   |   neither            (x's: the first two kinds; y's: the second and third)

Here "y" means a tile that is in the last row but not in the last column, and so on: see _Block.

Blocks are shared out in one of two ways. Where V of a block fits the second-level cache beside the rest, each thread
works on blocks of its own; else all threads transform a block's input together, and then share out the panels.
"""

from __future__ import annotations

from convbench.algorithms.fused.stages import (
    Tile,
    backward_column,
    backward_rows,
    forward_columns,
    forward_rows,
    gather,
)
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.product import BLOCK, LINE, panel_of
from convbench.vector.team import TICKETS, Fields, shared_out

LANE_BYTES = 24  # of a channel in the table of channels

FIELDS = (
    "x", "y", "u", "v", "scratch", "counters", "table",  # addresses
    "images", "image_bytes", "height", "width", "row_step",  # input
    "groups", "depth", "blocks_of_channels", "filters", "panels",  # a group's channels (after the split), its filters
    "out_rows", "out_columns", "out_image_bytes", "out_channel_bytes",
    "tile_rows", "tiles", "columns", "pitch",  # of an image; a line row of the buffer
    "block_images", "block_tile_rows", "strips", "blocks",
    "tile_bytes", "plane_bytes", "group_bytes", "v_bytes",  # of V
    "short_rows", "short_columns",  # 1: the last row (column) of tiles has fewer outputs
    "together", "m_panel_bytes", "t_panel_bytes",  # panels that go through V at once, and their rooms
    "m_plane_bytes", "scratch_bytes", "room_at", "t_at", "pixels_at", "nowhere_at",
    "clocks",  # where each thread counts the cycles of its PHASES, 64 bytes apart
)  # fmt: skip
PHASES = ("input transform", "products", "output transform")


class _Block:
    """Which images and rows of tiles a block is, in which order its tiles lie, and where a thread does its part of it.

    A block's tiles are four rectangles of each image, one kind after another: rows short or whole, columns whole or
    short. `kinds` has for each its first tile in V, its first row and column in the block, its rows and its columns.
    """

    def __init__(self, code: Code, f: Fields, number: Index, v: Pointer, scratch: Pointer) -> None:
        self.first_image = number // f.strips * f.block_images
        self.images = code.least(f.block_images, f.images - self.first_image)
        self.first_row = number % f.strips * f.block_tile_rows
        self.rows = code.least(f.block_tile_rows, f.tile_rows - self.first_row)
        self.v, self.scratch = v, scratch
        is_last = (self.first_row + self.rows).is_equal(f.tile_rows)
        short_rows = code.choose(is_last, f.short_rows, 0)
        self.whole_rows, self.whole_columns = self.rows - short_rows, f.tiles - f.short_columns
        sizes = [
            (self.whole_rows, code.index(0), short_rows, self.whole_columns),
            (code.index(0), code.index(0), self.whole_rows, self.whole_columns),
            (code.index(0), self.whole_columns, self.whole_rows, f.short_columns),
            (self.whole_rows, self.whole_columns, short_rows, f.short_columns),
        ]
        ends = [code.index(0)]
        for _, _, rows, columns in sizes:
            ends.append(ends[-1] + self.images * rows * columns)
        self.kinds = [(first, *size) for first, size in zip(ends, sizes, strict=False)]
        self.tiles = ends[-1]
        self.needs_x = (ends[0], ends[2])  # tiles that need the point at infinity of x, from and to
        self.needs_y = (ends[1], ends[3])


def convolve(program: Program, code: Code, tile: Tile, step: int, run: int, private: bool, clocked: bool) -> None:
    """The kernel. step, run: see gather; private: blocks of their own for threads; clocked: counts cycles by phase."""
    place, thread = code.arguments
    f = Fields(code, place, FIELDS)
    scratch = f.pointer("scratch") + thread * f.scratch_bytes
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    inputs, panels = f.groups * f.blocks_of_channels, f.groups * f.panels // f.together
    if private:
        with shared_out(code, f.pointer("counters"), f.blocks, wait=False) as number:
            block = _Block(code, f, number, f.pointer("v") + thread * f.v_bytes, scratch)
            for item in code.range(block.images * inputs):
                with clock.phase(0):
                    transform_input(program, code, tile, (step, run), f, block, item)
            for item in code.range(panels):
                finish_panels(program, code, tile, f, block, item, clock)
        return
    for number in code.range(f.blocks):
        block = _Block(code, f, number, f.pointer("v"), scratch)
        counters = f.pointer("counters") + number * (2 * TICKETS)
        with shared_out(code, counters, block.images * inputs) as item, clock.phase(0):
            transform_input(program, code, tile, (step, run), f, block, item)
        with shared_out(code, counters + TICKETS, panels) as item:
            finish_panels(program, code, tile, f, block, item, clock)


def transform_input(
    program: Program, code: Code, tile: Tile, steps: tuple[int, int], f: Fields, block: _Block, item: Index
) -> None:
    """One image's 16 channels, from x to V."""
    inputs = f.groups * f.blocks_of_channels
    n, channels = item // inputs, item % inputs
    group, number = channels // f.blocks_of_channels, channels % f.blocks_of_channels
    y = tile.y
    room = block.scratch + f.room_at
    code.call(
        program.function("ppiiiiiipi", gather, *steps),
        f.pointer("x") + (block.first_image + n) * f.image_bytes,
        f.pointer("table") + channels * (BLOCK * LANE_BYTES),
        f.height, f.width, f.row_step,
        block.first_row * y.outputs, block.rows * y.outputs + (y.window - y.outputs), f.columns,
        block.scratch, f.pitch,
    )  # fmt: skip
    code.call(
        program.function("pipii", forward_rows, tile),
        block.scratch, f.pitch, room, block.rows * y.outputs + (y.window - y.outputs), f.tiles,
    )  # fmt: skip
    v = block.v + group * f.group_bytes + number * LINE
    for first, row, column, rows, columns in block.kinds:
        code.call(
            program.function("pipiiii", forward_columns, tile),
            room + (row * y.outputs * f.tiles + column) * (tile.columns * LINE), f.tiles * (tile.columns * LINE),
            v + (first + n * rows * columns) * f.tile_bytes, f.plane_bytes, f.tile_bytes, rows, columns,
        )  # fmt: skip


def finish_panels(
    program: Program, code: Code, tile: Tile, f: Fields, block: _Block, item: Index, clock: Clock
) -> None:
    """`together` panels of 16 filters for all tiles of a block: products and inverse transforms."""
    first_panel = item * f.together
    group, number = first_panel // f.panels, first_panel % f.panels
    v = block.v + group * f.group_bytes
    slice_bytes = f.depth * LINE
    u = f.pointer("u") + first_panel * tile.planes * slice_bytes
    m, t = block.scratch, block.scratch + f.t_at

    def products(plane: Index, number: Index, begin: Index, end: Index) -> None:
        """M of one plane, of all panels, for the tiles that need it."""
        rows = v + plane * f.plane_bytes + begin * f.tile_bytes
        with code.when(begin < end):
            for panel in code.range(f.together):
                weights = u + (plane * f.together + panel) * slice_bytes
                is_last = (panel + 1).is_equal(f.together)
                code.call(
                    panel_of(program), rows, f.tile_bytes, weights,
                    m + panel * f.m_panel_bytes + number * f.m_plane_bytes + begin * LINE,
                    end - begin, f.depth, rows + code.choose(is_last, f.plane_bytes, 0), weights + slice_bytes,
                )  # fmt: skip

    def column(first: Index, into: Pointer, is_pair: bool, needs: tuple[Index, Index]) -> None:
        """All planes of one point along x, for tiles `needs`, and their inverse transform along y."""
        count = tile.pair_column if is_pair else tile.real_column
        special = tile.infinity_planes(is_pair)
        with clock.phase(1):
            for low, high in ((0, special.start), (special.stop, count)):
                for k in code.range(low, high):
                    products(first + k, k, *needs)
            for k in code.range(special.start, special.stop):
                products(first + k, k, code.most(needs[0], block.needs_y[0]), code.least(needs[1], block.needs_y[1]))
        with clock.phase(2):
            for panel in code.range(f.together):
                code.call(
                    program.function("pipi", backward_column, tile, is_pair),
                    m + panel * f.m_panel_bytes + needs[0] * LINE, f.m_plane_bytes,
                    into + panel * f.t_panel_bytes + needs[0] * (tile.y.outputs * tile.columns * LINE),
                    needs[1] - needs[0],
                )  # fmt: skip

    everything = (code.index(0), block.tiles)
    infinity = tile.x.infinity
    finite = tile.x.reals if infinity is None else infinity  # the point at infinity is the last real one
    for j in code.range(finite):
        column(j * tile.real_column, t + j * LINE, False, everything)
    if infinity is not None:
        column(code.index(infinity * tile.real_column), t + infinity * LINE, False, block.needs_x)
    if tile.x.pairs:
        for j in code.range(tile.x.pairs):
            into = t + (j * 2 + tile.x.reals) * LINE
            column(j * tile.pair_column + tile.x.reals * tile.real_column, into, True, everything)
    with clock.phase(2):
        for panel in code.range(f.together):
            write_panel(program, code, tile, f, block, t + panel * f.t_panel_bytes, group, number + panel)


def write_panel(
    program: Program, code: Code, tile: Tile, f: Fields, block: _Block, t: Pointer, group: Index, number: Index
) -> None:
    """The inverse transforms along x, and the pixels to their places."""
    first = group * f.filters + number * BLOCK
    each = tile.y.outputs * tile.columns * LINE
    whole, short = f.tiles - f.short_columns, f.short_columns
    for n in code.range(block.images):
        output = f.pointer("y") + (block.first_image + n) * f.out_image_bytes + first * f.out_channel_bytes
        for row in code.range(block.rows):
            top = (block.first_row + row) * tile.y.outputs
            # A row's tiles lie in two kinds: those of whole columns, and the last one where it is short.
            in_whole = row < block.whole_rows
            left, right = (
                code.choose(
                    in_whole,
                    block.kinds[of_whole][0] + (n * block.whole_rows + row) * columns,
                    block.kinds[of_short][0] + n * columns,
                )
                for of_whole, of_short, columns in ((1, 0, whole), (2, 3, short))
            )
            code.call(
                program.function("ppiiiippiip", backward_rows, tile),
                t + left * each, t + right * each, whole, short,
                code.least(tile.y.outputs, f.out_rows - top), f.out_columns,
                block.scratch + f.pixels_at, output + top * f.out_columns * 4, f.out_channel_bytes,
                f.filters - number * BLOCK, block.scratch + f.nowhere_at,
            )  # fmt: skip
