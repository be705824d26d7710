"""im2col of digits (digits.py): from x to a row of A for the window of each pixel, for gemm.int8x3.

    x [channel] [line, pixel] -> digits [digit] [line, pixel, channel], padding written out -> A, tile by tile

What lies side by side in a window, the channels of all taps of a line, is copied as bytes.
"""

from __future__ import annotations

from llvmlite import ir

from convbench.vector.build import Program
from convbench.vector.code import INT32, Code, Index, Pointer, Vector
from convbench.vector.digits import DIGITS, STEP_BYTES, digits_of, fours_of, line_of
from convbench.vector.numbers import BYTE
from convbench.vector.tiles import FOUR, ROWS, TILE
from convbench.vector.weights import BLOCK, LINE


def turn(program: Program, code: Code, few: int) -> None:
    """Digits [digit] [pixel, channel] of a row of pixels that lie in x channel by channel; zeros where there are none.

    Arguments: x, where the row begins; bytes from channel to channel; the row's numbers; the first pixel's, which may
    be below 0; pixels; channels; the factor; where to put the first digits; bytes to the second ones, and to the third.
    few: all channels, if they are fewer than four; else each pixel has channels enough to make up a multiple of FOUR,
    of which those that do not exist mean nothing. Up to 15 pixels behind the last are written too, or to LINE bytes.
    """
    x, plane, size, start, pixels, channels, factor_at, into, digit_bytes = code.arguments
    factor, lanes = factor_at.load(), code.lanes
    room = code.room(DIGITS * TILE // code.bytes)
    room = room.integer_as_pointer(room.address)
    words = (channels + (FOUR - 1)) // FOUR

    def of_channels(first: Index, column: Index) -> list[Vector]:
        """Of four channels, and as many pixels as there are lanes."""
        inside = code.within(start + column, size)
        numbers = []
        for k in range(few or FOUR):
            channel = code.least(first + k, channels - 1)
            numbers.append(digits_of((x + channel * plane + (start + column) * 4).load(inside), factor))
        return fours_of(code, numbers + numbers[:1] * (FOUR - len(numbers)))

    if few:
        places = [FOUR * lane + k for lane in range(lanes) for k in range(few)]
        places += [0] * (FOUR * lanes - len(places))
        mask = ir.Constant(ir.VectorType(INT32, FOUR * lanes), places)
        for column in code.range(0, pixels, lanes):
            for digit, found in enumerate(of_channels(code.index(0), column)):
                all_bytes = code.builder.bitcast(found.value, ir.VectorType(BYTE, FOUR * lanes))
                side_by_side = code.builder.shuffle_vector(all_bytes, all_bytes, mask)
                code.builder.store(side_by_side, (into + digit_bytes * digit + column * few).value, align=1)
        return
    for column in code.range(0, pixels, BLOCK):
        for group in code.range(0, words, BLOCK):
            for four in code.range(0, code.least(BLOCK, words - group)):
                for part in range(0, BLOCK, lanes):
                    for digit, found in enumerate(of_channels((group + four) * FOUR, column + part)):
                        (room + (four * LINE + (digit * TILE + part * 4))).store(found)
            for digit in range(DIGITS):
                for part in range(0, BLOCK, lanes):
                    kept = code.within(group + part, words)
                    for pixel in range(0, BLOCK, lanes):
                        here = room + (digit * TILE + part * LINE + pixel * 4)
                        turned = code.transpose([(here + LINE * lane).load() for lane in range(lanes)])
                        place = into + digit_bytes * digit + (column + pixel) * words * FOUR + (group + part) * FOUR
                        for lane, found in enumerate(turned):
                            (place + words * (FOUR * lane)).store(found, kept)


def _copy(code: Code, source: Pointer, into: Pointer) -> None:
    """A line, from any place."""
    kind = ir.VectorType(BYTE, code.bytes)
    for part in range(0, LINE, code.bytes):
        found = code.builder.load((source + part).value, align=1, typ=kind)
        code.builder.store(found, (into + part).value, align=1)


def gather_lines(program: Program, code: Code) -> None:
    """Rows of A for a row of pixels: what their windows hold, digits [digit] [line, pixel, channel].

    Arguments: the first window's digits; bytes to the second ones; from pixel's window to pixel's; lines of a window,
    bytes from one to the next; runs of a line, bytes from one to the next, their length; pixels; the first one's
    row of A, A, its bytes from tile to tile. A run takes whole lines of A, behind its end with whatever follows it.
    """
    first, digit_bytes, apart, lines, line_bytes, runs, run_bytes, length, pixels, first_row, a, tile = code.arguments
    pieces = (length + (LINE - 1)) // LINE  # of a run
    for part in code.range((first_row + pixels + (ROWS - 1)) // ROWS - first_row // ROWS):  # those in one tile
        row = (first_row // ROWS + part) * ROWS
        begin = code.most(row, first_row)
        count = code.least(row + ROWS, first_row + pixels) - begin
        source, into = first + (begin - first_row) * apart, line_of(a, begin, tile)
        for line in code.range(lines):
            for run in code.range(runs):
                for piece in code.range(pieces):
                    here = source + (line * line_bytes + run * run_bytes + piece * LINE)
                    there = into + ((line * runs + run) * pieces + piece) * STEP_BYTES
                    for digit in range(DIGITS):
                        here_too, there_too = here + digit_bytes * digit, there + digit * TILE
                        for pixel in code.range(count):
                            _copy(code, here_too + pixel * apart, there_too + pixel * LINE)


def gather_bytes(program: Program, code: Code) -> None:
    """The same where runs follow one another without anything in between, and zeros follow the last.

    Arguments: in addition steps; room for a row, and its bytes from digit to digit: twice LINE more than it has.
    """
    first, digit_bytes, apart, lines, line_bytes, runs, run_bytes, length, pixels, first_row, *rest = code.arguments
    a, tile, steps, room, room_bytes = rest
    for pixel in code.range(pixels):
        into = line_of(a, first_row + pixel, tile)
        for digit in range(DIGITS):
            source, mine = first + digit_bytes * digit + pixel * apart, room + room_bytes * digit
            for line in code.range(lines):
                for run in code.range(runs):
                    here, there = source + line * line_bytes + run * run_bytes, mine + (line * runs + run) * length
                    for piece in code.range(0, length, LINE):
                        _copy(code, here + piece, there + piece)
            for part in range(0, LINE, code.bytes):
                (mine + lines * runs * length + part).store(code.vector(0.0))
        for digit in range(DIGITS):  # later than that, as what has just been written is read by other lines
            for step in code.range(steps):
                _copy(code, room + room_bytes * digit + step * LINE, into + step * STEP_BYTES + digit * TILE)
