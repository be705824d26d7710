"""One block of images and rows of tiles, as the kernel sees it: its arguments, its extent, the order of its tiles.

Where the last row or column of tiles has fewer outputs than the others, it does not need the point at infinity, on
which only a tile's last output depends: those products are left out. So that each product still takes rows of V that
lie together, the tiles of a block are ordered by which of the two points they need, image by image within each kind:

    y only   |   both   |   x only   |   neither            (x's: the first two kinds; y's: the second and third)

Here "y" means a tile that is in the last row but not in the last column, and so on.
"""

from __future__ import annotations

from convbench.algorithms.fused.stages import Tile
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.product import BLOCK
from convbench.vector.team import Fields

LANE_BYTES = 24  # of a channel in the table of channels

FIELDS = (
    "x", "y", "u", "v", "scratch", "counters", "table", "product",  # addresses
    "images", "image_bytes", "height", "width", "row_step",  # input
    "groups", "depth", "blocks_of_channels", "filters", "panels", "items",  # of a group, channels after the split
    "out_rows", "out_columns", "out_image_bytes", "out_channel_bytes",
    "tile_rows", "tiles", "columns", "pitch",  # of an image; a line row of the buffer
    "block_images", "block_tile_rows", "strips", "blocks",
    "tickets", "slab_bytes", "plane_bytes", "group_bytes", "v_bytes",  # of V
    "short_rows", "short_columns",  # 1: the last row (column) of tiles has fewer outputs
    "m_plane_bytes", "m_bytes", "t_bytes", "scratch_bytes", "room_at", "t_at", "pixels_at", "nowhere_at",
    "past",  # 1: y is too large for the caches
    "clocks",  # where each thread counts the cycles of its PHASES, 64 bytes apart
)  # fmt: skip
PHASES = ("input transform", "products", "output transform")


class Block:
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

    def input_place(self, f: Fields, tile: Tile, item: Index) -> Index:
        """Bytes from x to the first line of one image's 16 channels, wherever padding may put it."""
        inputs = f.groups * f.blocks_of_channels
        n, channels = item // inputs, item % inputs
        plane = (f.pointer("table") + channels * (BLOCK * LANE_BYTES)).integer()
        row = self.first_row * tile.y.outputs * f.row_step
        return (self.first_image + n) * f.image_bytes + plane + row * f.width * 4
