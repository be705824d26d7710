"""Lines of digits for direct.int8x3: from a group of rows of x, four taps of each pixel side by side.

    x [channel] [column] of some rows -> digits [digit] [row, channel] [column] -> lines [four taps] [digit] [pixel, 4]

or, where filters have a single tap, from four channels of x at once.

Lines hold the tiles of 16 pixels of a row of y that are full. The ends of some rows share a tile: `tails` are its
lines, into which each row's last pixels go behind those of the row before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from convbench.vector.build import Program
from convbench.vector.code import INT32, Code, Index, Pointer, Vector
from convbench.vector.digits import DIGITS, digits_of, fours_of
from convbench.vector.numbers import BYTE
from convbench.vector.tiles import FOUR
from convbench.vector.weights import BLOCK, LINE

TAIL = DIGITS * LINE  # bytes of a line of tails, all digits
TAPS = (FOUR + 2) * 8  # bytes of the table for four taps: where each lies; whether they are two runs, and which bytes


def digits_of_row(program: Program, code: Code) -> None:
    """Digits [digit] [channel] [column] of a row of some channels; zeros where there are no numbers.

    Arguments: x, where the row begins; bytes from channel to channel; channels; the row's numbers; the first column,
    which may be below 0; columns; the factor; where to put the first digits, bytes to the next channel's, and to the
    second digits. Up to LINE - 1 columns behind the last are written too.
    """
    x, plane, channels, size, start, columns, factor_at, into, channel_bytes, digit_bytes = code.arguments
    factor, many = factor_at.load(), FOUR * code.lanes

    def is_inside(column: Index, count: int) -> Index:
        first = start + column
        return code.choose(code.builder.and_(first >= 0, first + count <= size), 1, 0)

    for channel in code.range(channels):
        row, target = x + channel * plane + start * 4, into + channel * channel_bytes

        def put(column: Index, vectors: int, all_there: int, row: Pointer = row, target: Pointer = target) -> None:
            found = []
            for place in [column + i * code.lanes for i in range(vectors)]:
                mask = None if all_there else code.within(start + place, size)  # takes longer to make than digits
                found.append(digits_of((row + place * 4).load(mask), factor))
            in_fours = fours_of(code, found) if vectors == FOUR else found * DIGITS
            _put(code, in_fours, vectors, target + column, digit_bytes)

        for column in code.range(0, columns, many):
            with code.cases(is_inside(column, many), (0, 1)) as cases:
                for all_four in cases:
                    if all_four:
                        put(column, FOUR, all_four)
                        continue
                    for one in code.range(column, code.least(column + many, columns), code.lanes):
                        with code.cases(is_inside(one, code.lanes), (0, 1)) as either:
                            for all_there in either:
                                put(one, 1, all_there)


def _put(code: Code, found: list[Any], vectors: int, into: Pointer, digit_bytes: Index) -> None:
    """Digits in the order of columns: of four vectors, as fours_of has them, or of one, as digits_of has them."""
    for digit, numbers in enumerate(found):
        of_vector = [(i if vectors == FOUR else DIGITS - 1 - digit) for i in range(vectors)]
        places = [FOUR * lane + i for i in of_vector for lane in range(code.lanes)]
        value = numbers.value if isinstance(numbers, Vector) else numbers
        all_bytes = code.builder.bitcast(value, ir.VectorType(BYTE, FOUR * code.lanes))
        mask = ir.Constant(ir.VectorType(INT32, len(places)), places)
        some = code.builder.shuffle_vector(all_bytes, all_bytes, mask)
        code.builder.store(some, (into + digit_bytes * digit).value, align=1)


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
        line, tail = lines + four * line_bytes, tails + four * TAIL
        with code.cases((entry + FOUR * 8).integer(), (0, 1)) as cases:
            for in_runs in cases:
                taps = _taps_at(code, near, entry, bool(in_runs), step)
                for pixel in code.range(0, whole, code.lanes):
                    for digit in range(DIGITS):
                        found = taps(near_digit * digit + pixel * step)
                        (line + digit_bytes * digit + pixel * 4).store(found)
                for part in code.range(0, code.choose(whole < pixels, BLOCK, 0), code.lanes):
                    ends = [taps(near_digit * digit + (whole + part) * step) for digit in range(DIGITS)]
                    _to_tail(code, ends, tail, part, shared, row_bytes, width)


def fours_of_channels(program: Program, code: Code, step: int) -> None:
    """The same straight from x, for filters of one tap, which see pixels inside of x alone.

    Arguments: x, where the row's first pixel is; bytes from channel to channel; channels; pixels; the factor; the rest
    as for fours_of_taps, from lines on.
    """
    x, plane, channels, pixels, factor_at, lines, line_bytes, digit_bytes, tails, shared, row_bytes, width = (
        code.arguments
    )
    factor, whole = factor_at.load(), pixels // BLOCK * BLOCK
    for four in code.range((channels + (FOUR - 1)) // FOUR):
        places = [x + code.least(four * FOUR + k, channels - 1) * plane for k in range(FOUR)]
        line, tail = lines + four * line_bytes, tails + four * TAIL

        def of_four(pixel: Index, count: Index, places: list[Pointer] = places) -> list[Vector]:
            numbers = [_every(code, place + pixel * (step * 4), count, step) for place in places]
            return fours_of(code, [digits_of(number, factor) for number in numbers])

        for pixel in code.range(0, whole, code.lanes):
            for digit, found in enumerate(of_four(pixel, code.index(code.lanes))):
                (line + digit_bytes * digit + pixel * 4).store(found)
        for part in code.range(0, code.choose(whole < pixels, BLOCK, 0), code.lanes):
            ends = of_four(whole + part, pixels - whole - part)
            _to_tail(code, ends, tail, part, shared, row_bytes, width)


def _every(code: Code, place: Pointer, count: Index, step: int) -> Vector:
    """So many numbers, each a step behind the one before; zeros for the rest."""
    last = (count - 1) * step + 1
    vectors = [(place + i * code.bytes).load(code.within(i * code.lanes, last)) for i in range(step)]
    if step == 1:
        return vectors[0]
    mask = ir.Constant(ir.VectorType(INT32, code.lanes), [lane * step for lane in range(code.lanes)])
    return Vector(code, code.builder.shuffle_vector(vectors[0].value, vectors[1].value, mask))


def _to_tail(
    code: Code, digits: list[Vector], tail: Pointer, part: Index, shared: Index, row_bytes: Index, width: Index
) -> None:
    """A row's last pixels, as far as they stand from the part on, behind what rows before have put there."""
    with code.cases(width, (BLOCK >> i for i in range(BLOCK.bit_length()))) as cases:
        for pixels in cases:
            lanes = list(range(min(pixels, code.lanes)))  # no more: a store across lines takes longer
            with code.when(part < pixels):
                for j in code.range(shared):
                    for digit, found in enumerate(digits):
                        mask = ir.Constant(ir.VectorType(INT32, len(lanes)), lanes)
                        some = code.builder.shuffle_vector(found.value, found.value, mask)
                        place = tail + (part * 4 + digit * LINE) + j * (code.index(4 * pixels) - row_bytes)
                        code.builder.store(some, place.value, align=4)


def _taps_at(code: Code, near: Pointer, entry: Pointer, in_runs: bool, step: int) -> Callable[[Index], Vector]:
    """What makes lanes of four taps, by an entry of the table: where digits begin, and which pixel's, in bytes."""
    places = [near + (entry + k * 8).integer() for k in range(2 if in_runs else FOUR)]
    first = (entry + (FOUR + 1) * 8).integer()

    def taps(offset: Index) -> Vector:
        here = [place + offset for place in places]
        return _from_two(code, here, first, step) if in_runs else _from_four(code, here, step)

    return taps


def _from_two(code: Code, places: list[Pointer], first: Index, step: int) -> Vector:
    """In each lane four bytes from two places, of one those of a mask; the next lane's lie a step further on."""
    builder, lanes, whole = code.builder, code.lanes, ir.VectorType(INT32, code.lanes)
    size = step * lanes if step >= FOUR else 1 << (step * (lanes - 1) + FOUR - 1).bit_length()
    bytes_of = ir.Constant(
        ir.VectorType(INT32, FOUR * lanes), [i * step + k for i in range(lanes) for k in range(FOUR)]
    )

    def fours(place: Pointer) -> Any:
        found = builder.load(place.value, align=1, typ=ir.VectorType(BYTE, size))
        return builder.bitcast(builder.shuffle_vector(found, found, bytes_of), whole)

    mask = code.in_all_lanes(builder.trunc(first.value, INT32), whole)
    one, other = (fours(place) for place in places)
    four = builder.or_(builder.and_(one, mask), builder.and_(other, builder.not_(mask)))
    return Vector(code, builder.bitcast(four, code.kind))


def _from_four(code: Code, places: list[Pointer], step: int) -> Vector:
    """The same from one place each."""
    builder, lanes, whole = code.builder, code.lanes, ir.VectorType(INT32, code.lanes)
    mask = ir.Constant(whole, [lane * step for lane in range(lanes)])
    four = ir.Constant(whole, [0] * lanes)
    for k, place in enumerate(places):
        found = builder.load(place.value, align=1, typ=ir.VectorType(BYTE, lanes * step))
        one = builder.zext(builder.shuffle_vector(found, found, mask), whole)
        four = builder.or_(four, builder.shl(one, ir.Constant(whole, [8 * k] * lanes)))
    return Vector(code, builder.bitcast(four, code.kind))
