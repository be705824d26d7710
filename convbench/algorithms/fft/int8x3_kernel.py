"""fft.int8x3's kernel: tiles in the frequency domain, whose products are made as digits (vector/digits.py).

    x -> lines [row, column, 16 channels] of a tile -> transform along x -> along y -> V [frequency along y] in float32
    V -> A [frequency] [tile, channel], digits; each frequency of each tile has its own scale
    C [frequency] [tile, 16 filters] = A B, complex -> transform along y -> along x -> the filters' planes

For a block of tiles all threads make A together, each frequency of each tile with its own scale; then they share out
the filters, and who has made the products of some brings them back to pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from convbench.algorithms.fused.lines import LANE_FIELDS, gather
from convbench.algorithms.fused.stages import Tile, backward_rows, forward_rows, known
from convbench.algorithms.fused.values import Complex, Real
from convbench.vector import complex_digits, digits
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.complex_digits import PARTS
from convbench.vector.digits import LEAST, STEP_BYTES
from convbench.vector.scaling import most_or_broken, size
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.tiles import FOUR, tiles_of
from convbench.vector.weights import BLOCK, LINE

FIELDS = (
    "x", "y", "w", "rooms", "counters", "table", "clocks",  # addresses
    "lines", "block_lines", "blocks", "tickets",  # rows of tiles: of all images, of a block
    "tile_rows", "tile_columns", "groups", "chunks", "panels",  # of a group's filters
    "image_bytes", "height", "width", "row_step", "channel_blocks", "buffer_rows", "columns", "pitch",
    "row_bytes", "room_bytes", "v_bytes",  # of a row of a tile between the transforms; of 16 channels; of V's frequency
    "steps", "fours", "rows", "tile_bytes", "point_bytes", "c_bytes", "c_panel_bytes", "panel_bytes",  # of A, C and B
    "filters", "out_rows", "out_columns", "pixel_rows", "out_image_bytes", "out_channel_bytes", "past",
    "staged",  # 1: y goes past the caches by way of scratch, 16 planes at once
    "scales_at", "room_at", "v_at", "factors_at", "t_at", "pixels_at", "nowhere_at", "staged_at",
)  # fmt: skip
PHASES = ("input transform", "products", "output transform")


def of_column(tile: Tile, is_pair: bool) -> int:
    """Frequencies, real ones among them, of one frequency along x."""
    return tile.y.reals + (2 if is_pair else 1) * tile.y.pairs


def frequencies(tile: Tile) -> int:
    """Of a tile: half of them, as the others are conjugates."""
    return tile.x.reals * of_column(tile, False) + tile.x.pairs * of_column(tile, True)


class Set:
    """A block of tiles, for one group of channels."""

    def __init__(self, code: Code, f: Fields, number: Index) -> None:
        self.group, self.first_line = number % f.groups, number // f.groups * f.block_lines
        self.lines = code.least(f.block_lines, f.lines - self.first_line)
        self.tiles = self.lines * f.tile_columns


class Input:
    """Where a tile's channels lie."""

    def __init__(self, f: Fields, tile: Tile, block: Set, item: Index) -> None:
        line, column = block.first_line + item // f.tile_columns, item % f.tile_columns
        self.f, self.image = f, line // f.tile_rows * f.image_bytes
        self.row = line % f.tile_rows * tile.y.outputs
        self._first = (column * f.groups + block.group) * f.channel_blocks

    def channels(self, b: Index) -> Pointer:
        """16 channels in the table."""
        return self.f.pointer("table") + (self._first + b) * (BLOCK * LANE_FIELDS * 8)

    def place(self, b: Index) -> Index:
        """Bytes from x to their first row, wherever padding may put it."""
        return self.image + self.channels(b).integer() + self.row * self.f.row_step * self.f.width * 4


def columns_of(code: Code, tile: Tile) -> Iterator[tuple[bool, Index, Index]]:
    """Loops over frequencies along x, real ones and pairs: which it is, its first number along a row, and of all."""
    kinds = [(False, tile.x.reals, 0, 0)]
    if tile.x.pairs:
        kinds.append((True, tile.x.pairs, tile.x.reals, tile.x.reals * of_column(tile, False)))
    for is_pair, count, place, first in kinds:
        for j in code.range(count):
            yield is_pair, j * (PARTS if is_pair else 1) + place, j * of_column(tile, is_pair) + first


def convolve(program: Program, code: Code, tile: Tile, lanes: tuple[int, int, bool], clocked: bool) -> None:
    """The kernel. lanes: step, run, alike of gather; clocked: counts cycles by phase."""
    arguments, thread, threads = code.arguments
    team = Team(thread, threads)
    f = Fields(code, arguments, FIELDS)
    shared, scratch = f.shared_room, f.room(thread)
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    tiles = tiles_of(code, program.target, f.fours, f.rows)
    tiles.begin()
    for number in code.range(f.blocks * f.groups):
        block = Set(code, f, number)
        counters = f.pointer("counters") + number * 2 * f.tickets
        with shared_out(code, counters, block.tiles, team) as item, clock.phase(0):
            transform(program, code, f, tile, lanes, block, item, shared, scratch)
        with shared_out(code, counters + f.tickets, f.chunks, team) as chunk:
            first, end = chunk * f.panels // f.chunks, (chunk + 1) * f.panels // f.chunks
            with clock.phase(1):
                multiply(program, code, f, frequencies(tile), block, first, end, shared, scratch)
            with clock.phase(2):
                for panel in code.range(end - first):
                    c = scratch + panel * f.c_panel_bytes
                    finish(program, code, f, tile, block, first + panel, c, scratch)
    tiles.end()
    code.fence()


def transform(
    program: Program, code: Code, f: Fields, tile: Tile, lanes: tuple[int, int, bool], block: Set, item: Index,
    shared: Pointer, scratch: Pointer,
) -> None:  # fmt: skip
    """A tile's row of each frequency's A, and its scale."""
    here, room = Input(f, tile, block, item), scratch + f.room_at
    following = Input(f, tile, block, code.least(item + 1, block.tiles - 1))
    for b in code.range(f.channel_blocks):
        is_last = (b + 1).is_equal(f.channel_blocks)
        ahead = code.choose(is_last, following.place(code.index(0)), here.place(b + 1)) - here.place(b)
        for row in code.range(0, tile.y.window, f.buffer_rows):
            rows = code.least(tile.y.window - row, f.buffer_rows)
            code.call(
                program.function("ppiiiiiipii", gather, *lanes),
                f.pointer("x") + here.image, here.channels(b), f.height, f.width, f.row_step,
                here.row + row, rows, f.columns, scratch, f.pitch, ahead,
            )  # fmt: skip
            code.call(
                program.function("pipiii", forward_rows, tile),
                scratch, f.pitch, room + (b * f.room_bytes + row * f.row_bytes), rows, 1, 1,
            )  # fmt: skip
    v, factors, scales, points = scratch + f.v_at, scratch + f.factors_at, shared + f.scales_at, frequencies(tile)
    most = max(of_column(tile, is_pair) for is_pair in (False, True))
    complex_digits.fill_up(code, v, f.v_bytes, most, f.channel_blocks, f.steps)
    of_row = up_to_line(4 * points)
    into = digits.line_of(shared, item, f.tile_bytes, f.rows)
    for is_pair, place, number in columns_of(code, tile):
        code.call(
            program.function("piiipiipp", forward, tile, is_pair),
            room + place * LINE, f.row_bytes, f.room_bytes, f.channel_blocks, v, f.v_bytes, f.steps * (FOUR * LINE),
            factors, scales + (item * of_row + number * 4),
        )  # fmt: skip
        code.call(
            program.function("pipiiipi", complex_digits.split),
            v, f.v_bytes, factors, of_column(tile, is_pair), f.steps, f.fours,
            into + number * f.point_bytes, f.point_bytes,
        )  # fmt: skip


def up_to_line(count: int) -> int:
    """Bytes, up to whole lines."""
    return -(-count // LINE) * LINE


def forward(program: Program, code: Code, tile: Tile, is_pair: bool) -> None:
    """The transform along y of one frequency along x: V [frequency] [re, im] [channels' block, 16].

    Arguments: its numbers in the first block of channels, bytes from row to row, and from block to block, blocks, V,
    its bytes from frequency to frequency, and from re to im, what brings each frequency's numbers to whole ones, and
    their scale.
    """
    source, row, block_bytes, blocks, v, v_bytes, part_bytes, factors, scales = code.arguments
    y, points = tile.y, of_column(tile, is_pair)
    largest = [code.variable(LEAST) for _ in range(points)]
    for block in code.range(blocks):
        for part in range(0, LINE, code.bytes):
            place = source + block * block_bytes + part
            lines = [place + row * k for k in range(y.window)]
            if is_pair:
                found = y.complex_spectrum([Complex(line.load(), (line + LINE).load()) for line in lines])
            else:
                reals, pairs = y.spectrum([line.load() for line in lines])
                found = [*(Complex(real, None) for real in reals), *pairs]
            for point, number in enumerate(found):
                re, im = known(number.re, code), known(number.im, code)
                into = v + v_bytes * point + block * LINE + part
                into.store(re)
                (into + part_bytes).store(im)
                either = most_or_broken(size(re), size(im))
                largest[point].set(most_or_broken(either, largest[point].get()))
    for begin in range(0, points, code.lanes):
        tops = [variable.get() for variable in largest[begin : begin + code.lanes]]
        tops += tops[:1] * (code.lanes - len(tops))
        factor, scale = digits.factor_and_scale(reduce(most_or_broken, code.transpose(tops)))
        kept = code.within(begin, points)
        (factors + begin * 4).store(factor, kept)
        (scales + begin * 4).store(scale, kept)


def multiply(
    program: Program, code: Code, f: Fields, points: int, block: Set, first: Index, end: Index,
    shared: Pointer, scratch: Pointer,
) -> None:  # fmt: skip
    """C [panel] [frequency] of some panels of filters, for all tiles of a block.

    Each panel asks for its share of the next frequency's A, which other cores wrote.
    """
    count = (block.tiles + (f.rows - 1)) // f.rows
    panel_steps = (end - first) * count * f.steps
    a_lines = (count * f.steps * (PARTS * STEP_BYTES // LINE) + (panel_steps - 1)) // panel_steps  # with each step
    weights = f.pointer("w") + block.group * f.panels * f.panel_bytes * points
    for point in code.range(points):
        a, b = shared + point * f.point_bytes, weights + point * f.panels * f.panel_bytes
        for panel in code.range(first, end):
            place = b + panel * f.panel_bytes
            after = code.choose(panel + 1 < end, 1, f.panels + first - panel) * f.panel_bytes
            code.call(
                program.function("pipippiiiippi", complex_digits.products),
                a, f.tile_bytes, shared + (f.scales_at + point * 4), up_to_line(4 * points),
                place, scratch + ((panel - first) * f.c_panel_bytes + point * f.c_bytes),
                block.tiles, f.rows, f.steps, f.fours, place + after,
                a + f.point_bytes + (panel - first) * (count * f.steps * a_lines * LINE), a_lines,
            )  # fmt: skip


def finish(
    program: Program, code: Code, f: Fields, tile: Tile, block: Set, panel: Index, c: Pointer, scratch: Pointer
) -> None:
    """A panel's pixels of all tiles of a block, to their planes.

    Planes of 16 filters, one behind the other, are whole lines even where one plane is not: if staged, an image's are
    put together in scratch and then go past the caches, so that no line of y is read before it is written. They go
    piece by piece while the next image is transformed back, as memory takes them no faster than that.
    """
    t, planes = scratch + f.t_at, f.out_channel_bytes * BLOCK
    y = f.pointer("y") + (block.group * f.filters + panel * BLOCK) * f.out_channel_bytes
    is_staged = code.choose((f.pointer("y").address % LINE).is_equal(0), f.staged, 0)
    pieces = f.tile_rows * tile.columns
    piece = (planes // LINE + (pieces - 1)) // pieces * LINE
    for i in code.range(block.lines):
        line = block.first_line + i
        row, number_of_image = line % f.tile_rows, line // f.tile_rows
        image = y + number_of_image * f.out_image_bytes
        staged, before = (scratch + f.staged_at + (number_of_image + j) % 2 * planes for j in range(2))
        waiting = code.choose(i >= f.tile_rows, planes * is_staged, 0)  # of the image before
        for is_pair, place, number in columns_of(code, tile):
            code.call(
                program.function("pipi", backward, tile, is_pair),
                c + (number * f.c_bytes + i * f.tile_columns * (PARTS * LINE)), f.c_bytes,
                t + place * LINE, f.tile_columns,
            )  # fmt: skip
            at = (row * tile.columns + place) * piece
            some = code.least(waiting - at, piece * (PARTS if is_pair else 1))
            code.call(program.function("ppi", pass_on), before + at, image - f.out_image_bytes + at, some)
        target = code.builder.select(is_staged.is_equal(1), staged.value, image.value)
        code.call(
            program.function("ppiiiiippiipi", backward_rows, tile),
            t, t, f.tile_columns, 0, code.least(tile.y.outputs, f.out_rows - row * tile.y.outputs), f.pixel_rows,
            f.out_columns, scratch + f.pixels_at, Pointer(code, target) + row * f.out_columns * (4 * tile.y.outputs),
            f.out_channel_bytes, f.filters - panel * BLOCK, scratch + f.nowhere_at, f.past * (1 - is_staged),
        )  # fmt: skip
    last = (block.first_line + block.lines - 1) // f.tile_rows
    staged, image = scratch + f.staged_at + last % 2 * planes, y + last * f.out_image_bytes
    code.call(program.function("ppi", pass_on), staged, image, planes * is_staged)


def pass_on(program: Program, code: Code) -> None:
    """Whole lines to where they belong, past the caches. Arguments: from, to, bytes: none if below 0."""
    source, target, count = code.arguments
    for at in code.range(0, count, code.bytes):
        (target + at).stream((source + at).load())


def backward(program: Program, code: Code, tile: Tile, is_pair: bool) -> None:
    """The inverse transform along y of one frequency along x, for tiles side by side.

    Arguments: C of the column's first frequency, bytes to the next one's, where to (tile, row, frequency), tiles.
    """
    c, c_bytes, into, tiles = code.arguments
    y = tile.y
    for t in code.range(tiles):
        for part in range(0, LINE, code.bytes):
            source, target = c + t * (PARTS * LINE) + part, into + t * (y.outputs * tile.columns * LINE) + part
            places = [source + c_bytes * k for k in range(of_column(tile, is_pair))]
            for place in places:
                for i in range(PARTS):  # of the next row of tiles
                    (place + tiles * (PARTS * LINE) + i * LINE).prefetch()
            values = [Complex(place.load(), (place + LINE).load()) for place in places]
            if is_pair:
                for k, pixel in enumerate(y.complex_result(values)):
                    (target + k * tile.columns * LINE).store(known(pixel.re, code))
                    (target + (k * tile.columns + 1) * LINE).store(known(pixel.im, code))
                continue
            reals: list[Real] = [value.re for value in values[: y.reals]]
            for k, result in enumerate(y.result(reals, values[y.reals :])):
                (target + k * tile.columns * LINE).store(known(result, code))
