"""Panels of 16 filters for all tiles of a block: each point's matrix product, and the inverse transforms.

Two panels go side by side where the CPU's products take two (Target.panels). Where the last has none beside it, its
products are made twice, and the second M is left alone. Elsewhere two may go in turn (blocks.in_turn).
"""

from __future__ import annotations

from typing import NamedTuple

from convbench.algorithms.fused.block import Block
from convbench.algorithms.fused.filters import panel_bytes
from convbench.algorithms.fused.stages import POWER_BYTES, Tile, backward_column, backward_rows
from convbench.vector.build import Program
from convbench.vector.clock import Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.panel import PANEL, RowCut, cut_rows
from convbench.vector.team import Fields
from convbench.vector.weights import BLOCK, EVEN_PAIRS, LINE, Weights

ALL_CHANNELS, AT_Y, AT_X = range(3)  # ways of plan.ways_at_infinity


class _Tiles(NamedTuple):
    """Tiles of a block, from and to, that go through a product together."""

    begin: Index
    end: Index
    cut: RowCut


class _Panels:
    """Panels of a group, being finished for a block: `side` of them at most, `count` in fact."""

    def __init__(
        self, program: Program, code: Code, tile: Tile, side: int, weights: Weights, f: Fields, block: Block,
        item: Index, next_x: tuple[Pointer, Index], clock: Clock,
    ) -> None:  # fmt: skip
        """next_x: what is read when all is done, and the number of the first plane that asks for it."""
        self.next_x = next_x
        self.program, self.code, self.tile, self.f, self.block, self.clock = program, code, tile, f, block, clock
        self.is_even = weights == EVEN_PAIRS
        self.side, self.weights, self.group, self.number = side, weights, item // f.items, item % f.items * side
        self.count = code.least(f.panels - self.number, side)
        self.plane_bytes, self.point_bytes = weights.before(f.depth), weights.point_bytes(f.depth)  # of U
        u_bytes = panel_bytes(tile, weights, f.depth)
        self.u = f.pointer("u") + (self.group * f.panels + self.number) * u_bytes
        self.u_beside = (self.count - 1) * u_bytes
        self.v = block.v + self.group * f.group_bytes
        first_filter, first_line = self.group * f.filters + self.number * BLOCK, block.first_line * f.out_columns
        image = f.pointer("y") + block.first_image * f.out_image_bytes
        self.y = image + first_filter * f.out_channel_bytes + first_line * 4
        self.m, self.t = block.scratch, block.scratch + f.t_at

    def wanted(self, *needs: tuple[Index, Index]) -> _Tiles:
        """The tiles that all of some ranges hold."""
        begin, end = needs[0]
        for other in needs[1:]:
            begin, end = self.code.most(begin, other[0]), self.code.least(end, other[1])
        f, side = self.f, self.side
        cut = cut_rows(self.program, self.code, end - begin, f.depth, f.slab_bytes, side, self.weights)
        return _Tiles(begin, end, cut)

    def products(self, first: Index, numbers: range, reals: int, u: Pointer, tiles: _Tiles, way: int) -> None:
        """M of planes of a point along x, which begin with `first`, their filters with u, for the tiles that need them.

        reals: how many of the point's planes are of real points.
        """
        code, f = self.code, self.f
        of_reals = range(numbers.start, min(numbers.stop, reals))
        for some, is_complex in ((of_reals, False), (range(max(numbers.start, reals), numbers.stop), True)):
            if not some:
                continue
            plane, sums = first + some.start, is_complex and not self.weights.holds_sums
            place = min(some.start, reals) * self.plane_bytes + max(0, some.start - reals) // 3 * self.point_bytes
            pairs = self.v + f.pairs_at + plane * f.pairs_plane_bytes + tiles.begin * self.weights.pairs_pitch
            with code.when(tiles.begin < tiles.end):
                code.call(
                    code.function_at(f.product, PANEL),
                    self.v + plane * f.plane_bytes + tiles.begin * LINE, f.slab_bytes, u + place,
                    self.m + f.m_plane_bytes * some.start + tiles.begin * LINE,
                    f.depth, *tiles.cut, len(some) // 3 if sums else len(some), int(sums),
                    f.plane_bytes, self.plane_bytes, f.m_plane_bytes,
                    self.u_beside, f.m_bytes, self.y, plane, f.y_lines, f.y_run, f.y_step,
                    self.next_x[0], self.next_x[1] + plane, f.x_lines, f.x_run, f.x_step, way,
                    pairs, f.pairs_plane_bytes, f.pairs_chunk_bytes,
                )  # fmt: skip

    def column(
        self, number: Index | int, is_pair: bool, tiles: _Tiles, of_infinity: _Tiles, way: int = ALL_CHANNELS
    ) -> None:
        """All planes of one real point along x, or of a pair, and their inverse transform along y to T.

        way: to go through the channels, but along y at infinity.
        """
        code, f, tile = self.code, self.f, self.tile
        j, x, y = code.index(number), tile.x, tile.y
        real_bytes = self.plane_bytes * y.reals + self.point_bytes * y.pairs  # of U of a real point along x
        pair_bytes = self.point_bytes * (y.reals + 2 * y.pairs)
        count, reals, first, place, u = tile.real_column, y.reals, j * tile.real_column, j, self.u + real_bytes * j
        if is_pair:
            count, reals, place = tile.pair_column, 0, j * 2 + x.reals
            first, u = j * count + tile.real_column * x.reals, self.u + real_bytes * x.reals + pair_bytes * j
        special = tile.infinity_planes(is_pair)
        with self.clock.phase(1):
            for numbers, those, here in (
                (range(special.start), tiles, way), (special, of_infinity, way or AT_Y),
                (range(special.stop, count), tiles, way),
            ):  # fmt: skip
                if numbers:
                    self.products(first, numbers, reals, u, those, here)
        with self.clock.phase(2):
            each = tile.y.outputs * tile.columns * LINE
            for panel in code.range(self.count):
                code.call(
                    self.program.function("pipi", backward_column, tile, is_pair),
                    self.m + (panel * f.m_bytes + tiles.begin * LINE), f.m_plane_bytes,
                    self.t + (panel * f.t_bytes + tiles.begin * each) + place * LINE, tiles.end - tiles.begin,
                )  # fmt: skip

    def columns(self) -> None:
        """All points along x."""
        code, tile, block = self.code, self.tile, self.block
        tiles, of_y = self.wanted((code.index(0), block.tiles)), self.wanted(block.needs_y)
        infinity = tile.x.infinity
        for j in code.range(tile.x.reals if infinity is None else infinity):  # it is the last real one
            self.column(j, False, tiles, of_y)
        if infinity is not None:
            of_x, of_both = self.wanted(block.needs_x), self.wanted(block.needs_x, block.needs_y)
            self.column(infinity, False, of_x, of_both, AT_X)
        if tile.x.pairs:
            for j in code.range(tile.x.pairs):
                self.column(j, True, tiles, of_y)

    def write(self, panel: Index) -> None:
        """The inverse transforms along x of a panel, and the pixels to their places."""
        code, f, tile, block = self.code, self.f, self.tile, self.block
        number = self.number + panel
        t, first = self.t + panel * f.t_bytes, self.group * f.filters + number * BLOCK
        each = tile.y.outputs * tile.columns * LINE
        for n in code.range(block.images):
            output = f.pointer("y") + (block.first_image + n) * f.out_image_bytes + first * f.out_channel_bytes
            for row in code.range(block.rows):
                top = block.first_line + block.line(row)
                outputs = code.choose(row < block.whole_rows, tile.y.outputs, tile.y.outputs - 1)
                whole, short = block.runs(n, row)
                power = [block.powers(f, self.group, n, row) + POWER_BYTES // 2] * self.is_even
                code.call(
                    self.program.function("ppiiiiippiipi" + "p" * self.is_even, backward_rows, tile, self.is_even),
                    t + whole * each, t + short * each, f.tiles - f.short_columns, f.short_columns,
                    code.least(outputs, f.out_rows - top), f.pixel_rows, f.out_columns,
                    block.scratch + f.pixels_at, output + top * f.out_columns * 4, f.out_channel_bytes,
                    f.filters - number * BLOCK, block.scratch + f.nowhere_at, f.past, *power,
                )  # fmt: skip


def finish_panels(
    program: Program, code: Code, tile: Tile, side: int, weights: Weights, f: Fields, block: Block, item: Index,
    next_x: tuple[Pointer, Index], clock: Clock,
) -> None:  # fmt: skip
    """Panels that go side by side, for all tiles of a block, from V to y; next_x as of _Panels."""
    panels = _Panels(program, code, tile, side, weights, f, block, item, next_x, clock)
    panels.columns()
    with clock.phase(2):
        for panel in code.range(panels.count):
            panels.write(panel)
