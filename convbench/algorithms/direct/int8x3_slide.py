"""direct.int8x3's products: rows of y for one panel of filters or two, from lines (vector/lines.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from convbench.vector import digits
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Number, Pointer
from convbench.vector.digits import DIGITS, STEP_BYTES
from convbench.vector.lines import TAIL
from convbench.vector.tiles import OF_A, OF_B, ROWS, TILE, Held, tiles_of
from convbench.vector.weights import BLOCK, LINE


class Slide:
    """What tiles of pixels have in common: lines, filters, y, and a room for a tile's sums."""

    def __init__(self, program: Program, code: Code, panels: int) -> None:
        self.code, self.panels, self.tiles = code, panels, tiles_of(code, program.target)
        self.lines, self.digit_bytes, self.line_bytes, self.fours, self.steps, *rest = code.arguments
        self.weights, self.panel_bytes, self.filters, scale, *rest = rest
        self.y, self.out_channel, self.out_row, self.rows, self.columns, self.tails, self.tail_rows = rest
        self.across, self.tail = self.columns // ROWS, self.columns % ROWS
        self.scale, self.width = scale.load(), code.index(ROWS) // self.tail_rows  # of a row's end, in pixels
        room = code.room(panels * STEP_BYTES // code.bytes)
        self.room = room.integer_as_pointer(room.address)

    def full(self, number: Index) -> tuple[Index, Index]:
        """Row and column of a full tile's first pixel."""
        across = self.code.most(self.across, 1)
        return number // across, number % across * ROWS

    def last(self, number: Index) -> tuple[Index, Index]:
        """The same of a tile of some rows' ends."""
        return number * self.tail_rows, self.across * ROWS

    def run(self, count: Index, place_of: Callable[[Index], tuple[Index, Index]], is_tail: bool) -> None:
        """Some tiles, the sums of each put together while the next one's products are made."""
        code, tiles, sums = self.code, self.tiles, range(DIGITS * self.panels)
        lines, apart = (self.tails, code.index(TAIL)) if is_tail else (self.lines, self.line_bytes)
        each = (BLOCK + (self.steps * DIGITS - 1)) // (self.steps * DIGITS)  # of a panel, at each third of a step
        for number in code.range(count + 1):
            row, column = place_of(number)
            first = lines + row * self.fours * apart + (0 if is_tail else column * 4)
            before = place_of(code.most(number - 1, 0))
            is_first, is_last = number.is_equal(0), number.is_equal(count)
            with code.when(is_last):
                self.put_together(before, code.choose(is_first, BLOCK, 0), code.index(BLOCK), is_tail)
            for total in sums:
                tiles.zero(total)
            for step in code.range(code.choose(is_last, 0, self.steps)):
                place = first + step * (ROWS * apart)
                for third, _ in enumerate(self.products(place, apart, LINE if is_tail else self.digit_bytes, step)):
                    begin = (step * DIGITS + third) * each
                    end = code.choose(is_first, begin, code.least(begin + each, BLOCK))
                    self.put_together(before, begin, end, is_tail)
                tiles.stay_awake()
            for total in sums:
                tiles.store(total, self.room + total * TILE)

    def products(self, lines: Pointer, apart: Index, digit_bytes: Number, step: Index) -> Iterator[None]:
        """Those of 16 lines, each of which is read once; it yields three times, where other work fits in between."""
        panels, tiles = self.panels, self.tiles
        held, weights = Held(tiles), self.weights + step * STEP_BYTES + LINE
        for number, (of_x, of_w, panel) in enumerate(digits.path(panels)):
            held.load(OF_B, (of_x,), lines + digit_bytes * of_x, apart, once=True)
            held.load(OF_A, (of_w, panel), weights + self.panel_bytes * panel + of_w * TILE)
            tiles.multiply(panel * DIGITS + of_x + of_w, OF_A, OF_B)
            if number in (panels - 1, 3 * panels - 1, 5 * panels - 1):
                yield

    def put_together(self, place: tuple[Index, Index], begin: Index, end: Index, is_tail: bool) -> None:
        """Pixels of some filters of each panel, from the sums in the room, to y from a row and column on."""
        code, (row, column) = self.code, place
        into = self.y + row * self.out_row + column * 4
        shared = code.least(self.tail_rows, self.rows - row)
        for number in code.range(begin, end):
            for panel in range(self.panels):
                exists = number + panel * BLOCK < self.filters
                factor = (self.weights + self.panel_bytes * panel + number * 4).broadcast() * self.scale
                target = into + (number + panel * BLOCK) * self.out_channel
                for part in range(0, ROWS, code.lanes):
                    sums = self.room + (number * LINE + (panel * STEP_BYTES + part * 4))
                    value = digits.total_of([digits.sums_at(sums + TILE * order) for order in range(DIGITS)]) * factor
                    if not is_tail:
                        with code.when(exists):
                            (target + part * 4).store(value)
                        continue
                    for j in code.range(code.choose(exists, shared, 0)):
                        lane = part - j * self.width
                        (target + j * self.out_row + lane * 4).store(value, code.within(lane, self.tail))


def slide(program: Program, code: Code, panels: int) -> None:
    """Rows of y for some panels of filters: first the tiles of 16 pixels of a row, then the ends of rows.

    Arguments: lines, bytes from the first digits' to the second ones', from line to line, lines from a row's to the
    next row's, steps; filters, bytes from panel to panel, how many filters there are, the scale of all pixels; y, bytes
    from filter to filter, and from row to row, rows, pixels of one; lines of their ends, rows that share a tile there.
    """
    here = Slide(program, code, panels)
    here.run(here.rows * here.across, here.full, is_tail=False)
    tails = (here.rows + (here.tail_rows - 1)) // here.tail_rows
    here.run(code.choose(here.tail.is_equal(0), 0, tails), here.last, is_tail=True)
