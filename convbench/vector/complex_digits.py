"""Products of complex numbers as digits (digits.py), for frequencies.

    A [tile of 16 rows] [re, im] [step] [digit] [16 rows, 64],   B [panel of 16 columns] scales, [re, im] [step] [digit]
    C [row] [re, im] [16] = re re - im im,  im re + re im

Both terms of each are whole numbers with the same scale, so they meet before they become floats.
"""

from __future__ import annotations

from llvmlite import ir

from convbench.vector import digits
from convbench.vector.build import Program
from convbench.vector.code import INT32, Code, Number, Pointer, Vector
from convbench.vector.digits import DIGITS, OF_A, OF_B, ORDER, PRODUCTS, STEP_BYTES
from convbench.vector.tiles import ROWS, TILE, Tiles, tiles_of
from convbench.vector.weights import LINE

PARTS = 2  # of a complex number
LINES_A_PRODUCT = 4  # of what comes, asked for at each product, so that all are in the time of one tile of A


def products(program: Program, code: Code) -> None:
    """C = A B for one panel of columns.

    Arguments: A, its bytes from tile to tile, the scales of its rows, bytes from one to the next, B, C, tiles of A,
    steps of one part, and what comes after B: as many lines as B has are asked for by the way, a few at a time, as
    loads have to wait while many are on their way.
    """
    a, tile_bytes, scales, apart, b, c, count, steps, coming = code.arguments
    sums = DIGITS * PARTS * TILE
    room = code.room(PARTS * sums // code.bytes)
    room = room.integer_as_pointer(room.address)
    of_b = [b + LINE + steps * (STEP_BYTES * i) for i in range(PARTS)]
    with code.cases(code.least(count, LINES_A_PRODUCT - 1), range(1, LINES_A_PRODUCT)) as cases:
        for few in cases:
            tiles, lines = tiles_of(code, program.target), LINES_A_PRODUCT // few
            for number in code.range(count):
                of_a = [a + number * tile_bytes + steps * (STEP_BYTES * i) for i in range(PARTS)]
                for is_im, factors in enumerate((of_a, of_a[::-1])):
                    for total in range(DIGITS * PARTS):
                        tiles.zero(total)
                    for i in code.range(steps):
                        at = (steps - 1 - i if is_im else i) * STEP_BYTES  # what was read last lies nearest
                        terms = [(one + at, other + at) for one, other in zip(factors, of_b, strict=True)]
                        done = (number * PARTS + is_im) * steps + i
                        _step(code, tiles, terms, coming + done * (PRODUCTS * PARTS * lines * LINE), lines)
                        tiles.stay_awake()
                    for total in range(DIGITS * PARTS):
                        tiles.store(total, room + (is_im * sums + total * TILE))
                of_rows = (scales + number * ROWS * apart, apart)
                _put_together(code, room, sums, of_rows, b, c + number * (ROWS * PARTS * LINE))


def _step(code: Code, tiles: Tiles, terms: list[tuple[Pointer, Pointer]], coming: Pointer, lines: int) -> None:
    """A step of the depth: tiles of A and B whose products are summed apart, for each term; lines asked for at each."""
    for of_b, of_a in enumerate(ORDER):
        for i, (a, b) in enumerate(terms):
            tiles.load(OF_B, b + of_b * TILE)
            for digit in of_a:
                tiles.load(OF_A, a + digit * TILE)
                tiles.multiply(i * DIGITS + digit + of_b, OF_A, OF_B)
                for line in range(lines):
                    (coming + line * LINE).prefetch()
                coming += lines * LINE


def _put_together(
    code: Code, room: Pointer, sums: int, of_rows: tuple[Pointer, Number], of_columns: Pointer, into: Pointer
) -> None:
    """A tile of C: of each part the difference, or sum, of both terms."""
    builder, whole = code.builder, ir.VectorType(INT32, code.lanes)
    scales, apart = of_rows
    for row in code.range(ROWS):
        for part in range(0, LINE, code.bytes):
            factor = (scales + row * apart).broadcast() * (of_columns + part).load()
            for is_im, meet in enumerate((builder.sub, builder.add)):
                orders = []
                for order in range(DIGITS):
                    place = room + (is_im * sums + order * TILE + part) + row * LINE
                    one, other = (
                        builder.load((place + i * (DIGITS * TILE)).value, align=4, typ=whole) for i in range(PARTS)
                    )
                    orders.append(Vector(code, builder.sitofp(meet(one, other), code.kind)))
                (into + (row * (PARTS * LINE) + (is_im * LINE + part))).store(digits.total_of(orders) * factor)
