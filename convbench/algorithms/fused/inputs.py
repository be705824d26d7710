"""The first half of the engine: a block's inputs, from x to V, and what products in pairs need beside V."""

from __future__ import annotations

from convbench.algorithms.fused.block import Block
from convbench.algorithms.fused.lines import gather
from convbench.algorithms.fused.row_powers import measure, sum_pairs
from convbench.algorithms.fused.sizes import bring_to_size
from convbench.algorithms.fused.stages import Tile, forward_columns, forward_rows
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.team import Fields
from convbench.vector.weights import EVEN_PAIRS, LINE, Weights


class Inputs:
    """Writes the code of each step, for one item of what threads share out or go through."""

    def __init__(
        self, program: Program, code: Code, tile: Tile, weights: Weights, lanes: tuple[int, int, bool], streams: bool,
        f: Fields,
    ) -> None:  # fmt: skip
        """lanes: step, run, alike of gather; streams: V goes past the caches."""
        self.program, self.code, self.tile, self.f = program, code, tile, f
        self.lanes, self.streams, self.is_even = lanes, streams, weights == EVEN_PAIRS

    def place(self, i: Index, first: Index) -> Index:
        """Of all images' blocks of 16 channels, the i-th of those groups that begin with the first."""
        f = self.f
        each = f.block_groups * f.blocks_of_channels
        return i // each * f.groups * f.blocks_of_channels + first * f.blocks_of_channels + i % each

    def channels(self, block: Block, item: Index, ahead: Index, own: Pointer | None = None) -> None:
        """One image's 16 channels; ahead: the input_place of those that will be wanted next.

        own: where they go instead of to V, for an image alone, planes as of f.own_plane_bytes.
        """
        code, f, tile = self.code, self.f, self.tile
        inputs = f.groups * f.blocks_of_channels
        n, channels = item // inputs, item % inputs
        group, number = channels // f.blocks_of_channels, channels % f.blocks_of_channels
        room = block.scratch + f.room_at
        line_bytes = f.tiles * (tile.columns * LINE)
        for line in code.range(0, block.lines, f.buffer_rows):
            rows = code.least(block.lines - line, f.buffer_rows)
            code.call(
                self.program.function("ppiiiiiipii", gather, *self.lanes),
                f.pointer("x") + (block.first_image + n) * f.image_bytes, block.table(f, channels),
                f.height, f.width, f.row_step, block.first_line + line, rows, f.columns,
                block.scratch, f.pitch, ahead - block.input_place(f, item),
            )  # fmt: skip
            code.call(
                self.program.function("pipiii", forward_rows, tile),
                block.scratch, f.pitch, room + line * line_bytes, rows, f.tiles, f.tiles - f.short_columns,
            )  # fmt: skip
        v = own or block.v + group * f.group_bytes + number * f.slab_bytes
        streams = self.streams and own is None
        for kind in block.kinds:
            place = kind.first // block.images if own else kind.first + n * kind.rows * kind.columns
            code.call(
                self.program.function("piipiii" + "p" * self.is_even, forward_columns, tile, streams, self.is_even),
                room + block.line(kind.row) * line_bytes + kind.column * (tile.columns * LINE), line_bytes,
                line_bytes * kind.step, v + place * LINE, f.own_plane_bytes if own else f.plane_bytes,
                kind.rows, kind.columns, *[block.powers(f, group, n, kind.row)] * self.is_even,
            )  # fmt: skip
        if streams:
            code.fence()

    def image(self, block: Block, n: Index, group: Index) -> None:
        """One image's channels of a group, where rows have own powers: first to a place of the thread's own.

        So what is in V is written once, in rows of its size, and past the caches where threads share none.
        """
        code, f = self.code, self.f
        own, first = block.scratch + f.own_at, (n * f.groups + group) * f.blocks_of_channels
        for i in code.range(f.blocks_of_channels):
            ahead = block.input_place(f, first + code.least(i + 1, f.blocks_of_channels - 1))
            self.channels(block, first + i, ahead, own + i * f.own_slab_bytes)
        for kind in block.kinds:
            tiles = kind.rows * kind.columns
            code.call(
                self.program.function("piipiiiii", bring_to_size, self.streams),
                own + kind.first // block.images * LINE, f.own_slab_bytes, f.own_plane_bytes,
                block.v + group * f.group_bytes + (kind.first + n * tiles) * LINE, f.slab_bytes, f.plane_bytes,
                self.tile.planes, f.depth, tiles,
            )  # fmt: skip
        if self.streams:
            code.fence()

    def measure(self, block: Block, group: Index, item: Index) -> None:
        """The power of a row of tiles, by its place among those of all images."""
        code, f = self.code, self.f
        n, row = item // block.rows, item % block.rows
        top = (block.first_line + block.line(row)) * f.row_step + f.under_first
        group_bytes = f.channels * f.height * f.width * 4
        code.call(
            self.program.function("piiiiip", measure, 1 / self.tile.mean_size),
            f.pointer("x") + (block.first_image + n) * f.image_bytes + group * group_bytes,
            f.height, f.width, f.channels, top, f.under_rows, block.powers(f, group, n, row),
        )  # fmt: skip

    def sum_pairs(self, block: Block, group: Index, plane: Index) -> None:
        """What the pairs of a plane of V come to."""
        code, f = self.code, self.f
        v = block.v + group * f.group_bytes
        code.call(
            self.program.function("piiipip", sum_pairs),
            v + plane * f.plane_bytes, f.slab_bytes, f.depth, block.tiles,
            v + f.pairs_at + plane * f.pairs_plane_bytes, f.pairs_chunk_bytes, f.pointer("kept") + plane * LINE,
        )  # fmt: skip
