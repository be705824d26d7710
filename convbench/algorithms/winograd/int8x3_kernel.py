"""winograd.f<m>.int8x3's kernel: tiles of m x m outputs, whose points are multiplied as digits (vector/digits.py).

    x -> lines [row, column, 16 channels] of a row of tiles -> V [channel, point] of a tile, in float32
    V -> A [point] [tile, channel], digits; each point of each tile has its own scale
    C [panel, point] [tile, 16 filters] = A B, for two panels of filters at a time -> pixels -> the filters' planes

A's depth is the channels alone, so a step's filters stay in the first-level cache while all tiles of A meet them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import NamedTuple

from convbench.algorithms.fused.lines import LANE_FIELDS, gather
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.gemm.kernel import write
from convbench.vector import digits
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.digits import LEAST, STEP_BYTES
from convbench.vector.scaling import most_or_broken, size
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.tiles import FOUR, TILE, tiles_of
from convbench.vector.weights import BLOCK, LINE

FIELDS = (
    "x", "y", "w", "rooms", "counters", "table", "clocks",  # addresses
    "items", "groups", "shares", "share_panels", "panels",  # what is shared out: a group's panels of filters in shares
    "tiles", "panel_tiles", "tile_rows", "tile_columns",  # of all images; of a panel; of an image
    "out_rows", "out_columns", "image_bytes", "group_bytes", "height", "width",
    "blocks", "block_bytes", "pitch", "columns",  # of x as lines: blocks of 16 channels, bytes of a row, its columns
    "steps", "rows", "tile_bytes", "point_bytes", "c_bytes",  # of A, rows of a tile; of C of a point and panel
    "filters", "panel_bytes", "pixel_pitch", "out_image_bytes", "out_channel_bytes", "past",
    "v_at", "factors_at", "scales_at", "c_at", "pixels_at", "nowhere_at", "held_at", "a_at",  # behind x as lines
)  # fmt: skip
PHASES = ("digits", "products", "output")
TOGETHER = 2  # panels of filters


class Transforms(NamedTuple):
    """Along the height and along the width."""

    y: Toom
    x: Toom

    @property
    def points(self) -> int:
        """Of a tile."""
        return self.y.reals * self.x.reals


class Run(NamedTuple):
    """Tiles of a panel that lie in one row of tiles of an image."""

    image: Index
    row: Index
    column: Index  # the first one's
    tiles: Index
    number: Index  # the first one's, of the panel


class Set:
    """Which tiles, and filters, a thread works on."""

    def __init__(self, code: Code, f: Fields, item: Index) -> None:
        self.code, self.f = code, f
        share, self.number = item % f.shares, item // f.shares
        self.group, self.first = self.number % f.groups, self.number // f.groups * f.panel_tiles
        self.count = code.least(f.panel_tiles, f.tiles - self.first)
        self.first_panel = share * f.share_panels
        self.panels = code.least(f.share_panels, f.panels - self.first_panel)

    def runs(self) -> Iterator[Run]:
        """A loop over them."""
        code, f, end = self.code, self.f, self.first + self.count
        before = self.first // f.tile_columns
        for i in code.range((end - 1) // f.tile_columns - before + 1):
            line = before + i
            low, high = code.most(self.first, line * f.tile_columns), code.least(end, (line + 1) * f.tile_columns)
            column = low - line * f.tile_columns
            yield Run(line // f.tile_rows, line % f.tile_rows, column, high - low, low - self.first)


def convolve(program: Program, code: Code, both: Transforms, clocked: bool) -> None:
    """The kernel."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    scratch = f.room(thread)
    held, points = scratch + f.held_at, both.points
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    tiles = tiles_of(code, program.target, rows=f.rows)
    tiles.begin()
    held.set_integer(-1)
    with shared_out(code, f.pointer("counters"), f.items, Team(thread, threads), wait=False) as item:
        panel = Set(code, f, item)
        with code.when(code.builder.not_(held.integer().is_equal(panel.number))), clock.phase(0):
            held.set_integer(panel.number)
            for run in panel.runs():
                transform(program, code, f, both, panel, run, scratch)
        for first in code.range(0, panel.panels, TOGETHER):
            number = panel.first_panel + first
            with code.cases(code.least(TOGETHER, panel.panels - first), range(1, TOGETHER + 1)) as cases:
                for together in cases:
                    weights = f.pointer("w") + (panel.group * f.panels + number) * f.panel_bytes * points
                    with clock.phase(1):
                        multiply(program, code, f, points, together, panel, weights, scratch)
                    with clock.phase(2):
                        for i in range(together):
                            c = scratch + f.c_at + f.c_bytes * (i * points)
                            finish(program, code, f, both, panel, (number + i) * BLOCK, c, scratch)
    tiles.end()
    code.fence()


def multiply(
    program: Program, code: Code, f: Fields, points: int, panels: int, panel: Set, weights: Pointer, scratch: Pointer
) -> None:
    """C of all points for some panels of filters; those that follow lie behind them."""
    for point in code.range(points):
        b = weights + point * panels * f.panel_bytes
        code.call(
            program.function("pipi" + "pipi" + "iiip", digits.short_products, panels),
            scratch + f.a_at + point * f.point_bytes, f.tile_bytes, scratch + f.scales_at + point * 4, 4 * points,
            b, f.panel_bytes, scratch + f.c_at + point * f.c_bytes, f.c_bytes * points,
            panel.count, f.rows, f.steps, b + f.panel_bytes * (2 * panels),
        )  # fmt: skip


def transform(
    program: Program, code: Code, f: Fields, both: Transforms, panel: Set, run: Run, scratch: Pointer
) -> None:
    """Rows of A, and their scales, for a run of tiles."""
    image = f.pointer("x") + run.image * f.image_bytes + panel.group * f.group_bytes
    for block in code.range(f.blocks):
        code.call(
            program.function("ppiiiiiipii", gather, 1, 1, True),
            image, f.pointer("table") + block * (BLOCK * LANE_FIELDS * 8), f.height, f.width, 1,
            run.row * both.y.outputs, both.y.window, f.columns, scratch + block * f.block_bytes, f.pitch, 0,
        )  # fmt: skip
    for i in code.range(run.tiles):
        tile, v = run.number + i, scratch + f.v_at
        code.call(
            program.function("piiippp", forward, both),
            scratch + (run.column + i) * (both.x.outputs * LINE), f.block_bytes, f.pitch, f.blocks, v,
            scratch + f.factors_at, scratch + f.scales_at + tile * (4 * both.points),
        )  # fmt: skip
        code.call(
            program.function("ppipi", split, both.points),
            v, scratch + f.factors_at, f.steps,
            digits.line_of(scratch + f.a_at, tile, f.tile_bytes, f.rows), f.point_bytes,
        )  # fmt: skip


def forward(program: Program, code: Code, both: Transforms) -> None:
    """V [channels' block, point, 16] of a tile, what brings each point's numbers to whole ones, and their scales.

    Arguments: the tile's lines, their bytes from block to block, and from row to row; blocks; where to put these.
    """
    lines, block_bytes, pitch, blocks, v, factors, scales = code.arguments
    (y, x), points = both, both.points
    largest = [code.variable(LEAST) for _ in range(points)]
    for block in code.range(blocks):
        for part in range(0, LINE, code.bytes):
            place = lines + block * block_bytes + part
            rows = [
                x.spectrum([(place + pitch * i + k * LINE).load() for k in range(x.window)])[0] for i in range(y.window)
            ]
            for c in range(x.reals):
                for p, value in enumerate(y.spectrum([row[c] for row in rows])[0]):
                    assert value is not None
                    point = p * x.reals + c
                    (v + (block * points + point) * LINE + part).store(value)
                    largest[point].set(most_or_broken(size(value), largest[point].get()))
    for first in range(0, points, code.lanes):
        tops = [variable.get() for variable in largest[first : first + code.lanes]]
        tops += tops[:1] * (code.lanes - len(tops))
        kept = code.within(first, points)
        factor, scale = digits.factor_and_scale(reduce(most_or_broken, code.transpose(tops)))
        (factors + first * 4).store(factor, kept)
        (scales + first * 4).store(scale, kept)


def split(program: Program, code: Code, points: int) -> None:
    """A tile's row of each point's A: digits, 64 channels a step in the order [16, 4].

    Arguments: V, factors, steps, the row of the first point's A, bytes to the next one's.
    """
    v, factors, steps, into, point_bytes = code.arguments
    for step in code.range(steps):
        for point in code.range(points):
            factor = (factors + point * 4).broadcast()
            for part in range(0, LINE, code.bytes):
                place = v + (step * (FOUR * points) + point) * LINE + part
                numbers = [digits.digits_of((place + i * points * LINE).load(), factor) for i in range(FOUR)]
                for digit, found in enumerate(digits.fours_of(code, numbers)):
                    (into + point * point_bytes + (step * STEP_BYTES + (digit * TILE + part))).store(found)


def finish(
    program: Program, code: Code, f: Fields, both: Transforms, panel: Set, number: Index, c: Pointer, scratch: Pointer
) -> None:
    """16 filters' pixels of all tiles, to their planes; number: the first filter's, of the group."""
    pixels, channel = scratch + f.pixels_at, panel.group * f.filters + number
    for run in panel.runs():
        row, column = run.row * both.y.outputs, run.column * both.x.outputs
        code.call(
            program.function("piipi", backward, both),
            c + run.number * LINE, f.c_bytes, run.tiles, pixels, f.pixel_pitch,
        )  # fmt: skip
        y = f.pointer("y") + run.image * f.out_image_bytes + channel * f.out_channel_bytes
        for i in code.range(code.least(both.y.outputs, f.out_rows - row)):
            code.call(
                program.function("ppiiipi", write),
                pixels + i * f.pixel_pitch, y + ((row + i) * f.out_columns + column) * 4, f.out_channel_bytes,
                f.filters - number, code.least(run.tiles * both.x.outputs, f.out_columns - column),
                scratch + f.nowhere_at, f.past,
            )  # fmt: skip


def backward(program: Program, code: Code, both: Transforms) -> None:
    """Pixels [row, column, 16] of tiles that lie side by side.

    Arguments: C of the first tile and point, bytes to the next point's, tiles, pixels, bytes from row to row.
    """
    c, c_bytes, tiles, pixels, pitch = code.arguments
    y, x = both
    for tile in code.range(tiles):
        for part in range(0, LINE, code.bytes):
            place = c + tile * LINE + part
            columns = [
                y.result([(place + c_bytes * (p * x.reals + k)).load() for p in range(y.reals)], [])
                for k in range(x.reals)
            ]
            for i in range(y.outputs):
                for j, value in enumerate(x.result([column[i] for column in columns], [])):
                    assert value is not None
                    (pixels + pitch * i + (tile * x.outputs + j) * LINE + part).store(value)
