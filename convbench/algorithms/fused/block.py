"""One block of images and rows of tiles, as the kernel sees it: its arguments, its extent, the order of its tiles.

Only the last output of a tile depends on the point at infinity. Where tiles hold more outputs than there are, as many
as possible of the last rows and columns of tiles are short: they give one output less and leave those products out. So
that each product still takes rows of V that lie together, the tiles of a block are ordered by which of the two points
they need, image by image within each kind:

    y only   |   both   |   x only   |   neither            (x's: the first two kinds; y's: the second and third)

Here "y" means a tile in a short row but not in a short column, and so on.
"""

from __future__ import annotations

from typing import NamedTuple

from convbench.algorithms.fused.stages import POWER_BYTES, Tile
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.team import Fields
from convbench.vector.weights import BLOCK

LANE_BYTES = 24  # of a channel in the table of channels

FIELDS = (
    "x", "y", "u", "rooms", "counters", "table", "product",  # addresses
    "images", "image_bytes", "channels", "height", "width", "row_step",  # input; channels of a group
    "groups", "depth", "blocks_of_channels", "filters", "panels", "items",  # of a group, channels after the split
    "out_rows", "out_columns", "out_image_bytes", "out_channel_bytes",
    "tile_rows", "tiles", "columns", "pitch",  # of an image; a line row of the buffer
    "buffer_rows", "pixel_rows",  # of input and output that go through the first cache together
    "block_images", "block_tile_rows", "block_groups", "block_shares", "strips", "blocks",
    "tickets", "slab_bytes", "plane_bytes", "group_bytes",  # of V
    "short_rows", "short_columns",  # of tiles, the last ones, with one output less
    "m_plane_bytes", "m_bytes", "t_bytes", "scratch_bytes", "room_at", "t_at", "pixels_at", "nowhere_at",
    "own_at", "own_slab_bytes", "own_plane_bytes",  # V of an image, before its rows are brought to size (sizes.py)
    "pairs_at", "pairs_plane_bytes", "pairs_chunk_bytes",  # what its pairs come to, from V of a group on
    "powers_at", "under_first", "under_rows", "kept",  # of rows of tiles; the rows of x under one (row_powers.py)
    "y_lines", "y_run", "y_step", "x_lines", "x_run", "x_step",  # asked for during the products (panel.Later)
    "past",  # 1: y is too large for the caches
    "clocks",  # where each thread counts the cycles of its PHASES, 64 bytes apart
)  # fmt: skip
PHASES = ("input transform", "products", "output transform")


class Kind(NamedTuple):
    """Tiles of a block that are alike: the first in V; a rectangle of each image, by its place in the block."""

    first: Index
    row: Index
    column: Index
    rows: Index
    columns: Index
    step: int  # lines from one row of tiles to the next


class Block:
    """Which images and rows of tiles a block is, in which order its tiles lie, where a thread does its part of it."""

    def __init__(self, code: Code, f: Fields, tile: Tile, number: Index, v: Pointer, scratch: Pointer) -> None:
        self.code, self.outputs = code, tile.y.outputs
        self.first_image = number // f.strips * f.block_images
        self.images = code.least(f.block_images, f.images - self.first_image)
        first_row = number % f.strips * f.block_tile_rows
        self.rows = code.least(f.block_tile_rows, f.tile_rows - first_row)
        self.v, self.scratch = v, scratch
        whole_rows = f.tile_rows - f.short_rows  # of an image
        self.whole_rows = code.most(0, code.least(self.rows, whole_rows - first_row))
        short_rows, whole_columns = self.rows - self.whole_rows, f.tiles - f.short_columns
        self.first_line = first_row * self.outputs - code.most(0, first_row - whole_rows)
        self.lines = self.line(self.rows - 1) + tile.y.window
        zero, of_whole, of_short = code.index(0), self.outputs, self.outputs - 1
        sizes = [
            (self.whole_rows, zero, short_rows, whole_columns, of_short),
            (zero, zero, self.whole_rows, whole_columns, of_whole),
            (zero, whole_columns, self.whole_rows, f.short_columns, of_whole),
            (self.whole_rows, whole_columns, short_rows, f.short_columns, of_short),
        ]
        ends = [zero]
        for _, _, rows, columns, _ in sizes:
            ends.append(ends[-1] + self.images * rows * columns)
        self.kinds = [Kind(first, *size) for first, size in zip(ends, sizes, strict=False)]
        self.tiles = ends[-1]
        self.needs_x = (ends[0], ends[2])  # tiles that need the point at infinity of x, from and to
        self.needs_y = (ends[1], ends[3])

    def line(self, row: Index) -> Index:
        """The first line of a row of tiles, and of its outputs, counted from the block's first."""
        return row * self.outputs - self.code.most(0, row - self.whole_rows)

    def runs(self, n: Index, row: Index) -> tuple[Index, Index]:
        """Where the tiles of one image's row begin: those of whole columns, and those of short ones."""
        is_whole = row < self.whole_rows
        starts = []
        for whole, short in ((self.kinds[1], self.kinds[0]), (self.kinds[2], self.kinds[3])):
            place = self.code.choose(is_whole, n * whole.rows + row, n * short.rows + (row - self.whole_rows))
            starts.append(self.code.choose(is_whole, whole.first, short.first) + place * whole.columns)
        return starts[0], starts[1]

    def table(self, f: Fields, channels: Index) -> Pointer:
        """Where the lanes of 16 channels of all groups stand."""
        return f.pointer("table") + channels * (BLOCK * LANE_BYTES)

    def powers(self, f: Fields, group: Index, n: Index, row: Index) -> Pointer:
        """The power of an image's row of tiles."""
        return self.v + group * f.group_bytes + f.powers_at + (n * f.block_tile_rows + row) * POWER_BYTES

    def input_place(self, f: Fields, item: Index) -> Index:
        """Bytes from x to the first line of one image's 16 channels, wherever padding may put it."""
        inputs = f.groups * f.blocks_of_channels
        n, channels = item // inputs, item % inputs
        plane = self.table(f, channels).integer()
        row = self.first_line * f.row_step
        return (self.first_image + n) * f.image_bytes + plane + row * f.width * 4
