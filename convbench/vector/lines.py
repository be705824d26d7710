"""Lines of digits for direct.int8x3: from a group of rows of x, four taps of each pixel side by side.

    x [channel] [column] of some rows -> digits [digit] [row, channel] [column] -> lines [four taps] [digit] [pixel, 4]

Lines hold the tiles of 16 pixels of a row of y that are full. The ends of some rows share a tile: `tails` are its
lines, into which each row's last pixels go behind those of the row before.
"""

from __future__ import annotations

from llvmlite import ir

from convbench.vector.build import Program
from convbench.vector.code import INT32, Code, Index, Pointer, Vector
from convbench.vector.digits import DIGITS, digits_of
from convbench.vector.numbers import BYTE
from convbench.vector.tiles import FOUR
from convbench.vector.weights import BLOCK, LINE

TAIL = DIGITS * LINE  # bytes of a line of tails, all digits
TAPS = (FOUR + 1) * 8  # bytes of the table for four taps: where each lies, and whether they lie side by side


def digits_of_row(program: Program, code: Code) -> None:
    """Digits [digit] [channel] [column] of a row of some channels; zeros where there are no numbers.

    Arguments: x, where the row begins; bytes from channel to channel; channels; the row's numbers; the first column,
    which may be below 0; columns; the factor; where to put the first digits, bytes to the next channel's, and to the
    second digits. Up to 15 columns behind the last are written too.
    """
    x, plane, channels, size, start, columns, factor_at, into, channel_bytes, digit_bytes = code.arguments
    factor, builder = factor_at.load(), code.builder
    for channel in code.range(channels):
        for column in code.range(0, columns, code.lanes):
            place = x + channel * plane + (start + column) * 4
            found = digits_of(place.load(code.within(start + column, size)), factor)
            found = builder.bitcast(found, ir.VectorType(BYTE, FOUR * code.lanes))
            for digit in range(DIGITS):
                places = [lane * FOUR + DIGITS - 1 - digit for lane in range(code.lanes)]
                mask = ir.Constant(ir.VectorType(INT32, code.lanes), places)
                target = into + (channel * channel_bytes + column + digit_bytes * digit)
                builder.store(builder.shuffle_vector(found, found, mask), target.value, align=1)


def fours_of_taps(program: Program, code: Code, step: int) -> None:
    """Lines [four taps] [digit] [pixel, 4] from digits [digit] [row, channel] [column].

    Arguments: the digits, bytes from the first ones to the second ones, the table of taps, how many fours, pixels; the
    lines, bytes from one to the next, from the first digits' to the second ones'; tails, rows that share a tile of
    them, as far as there are any before this one, bytes from a row's to the next one's, pixels of each.
    """
    near, near_digit, table, fours, pixels, lines, line_bytes, digit_bytes, *rest = code.arguments
    tails, shared, row_bytes, width = rest
    whole = pixels // BLOCK * BLOCK
    for four in code.range(fours):
        entry = table + four * TAPS
        places = [near + (entry + k * 8).integer() for k in range(FOUR)]
        line, tail = lines + four * line_bytes, tails + four * TAIL
        with code.cases((entry + FOUR * 8).integer(), (0, 1) if step == FOUR else (0,)) as cases:
            for together in cases:
                taps = _side_by_side if together else _from_four
                for pixel in code.range(0, whole, code.lanes):
                    for digit in range(DIGITS):
                        found = taps(code, places, near_digit * digit + pixel * step, step)
                        (line + digit_bytes * digit + pixel * 4).store(found)
                for part in code.range(0, code.choose(whole < pixels, BLOCK, 0), code.lanes):
                    for digit in range(DIGITS):
                        found = taps(code, places, near_digit * digit + (whole + part) * step, step)
                        for j in code.range(shared):  # behind what rows before have put there
                            lane = part + j * width
                            (tail - j * row_bytes + digit * LINE + lane * 4).store(found, code.within(lane, BLOCK))


def _side_by_side(code: Code, places: list[Pointer], offset: Index, step: int) -> Vector:
    """As _from_four, where all four lie as they shall."""
    return Vector(code, code.builder.load((places[0] + offset).value, align=1, typ=code.kind))


def _from_four(code: Code, places: list[Pointer], offset: Index, step: int) -> Vector:
    """In each lane four bytes, one from each place; the next lane's lie a step further on."""
    builder, lanes, whole = code.builder, code.lanes, ir.VectorType(INT32, code.lanes)
    mask = ir.Constant(whole, [lane * step for lane in range(lanes)])
    four = ir.Constant(whole, [0] * lanes)
    for k, place in enumerate(places):
        found = builder.load((place + offset).value, align=1, typ=ir.VectorType(BYTE, lanes * step))
        one = builder.zext(builder.shuffle_vector(found, found, mask), whole)
        four = builder.or_(four, builder.shl(one, ir.Constant(whole, [8 * k] * lanes)))
    return Vector(code, builder.bitcast(four, code.kind))
