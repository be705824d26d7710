"""Products of complex numbers as digits (digits.py), for frequencies.

    A [tile of 16 rows] [re, im] [step] [digit] [16 rows, 64],   B [panel of 16 columns] scales, [re, im] [step] [digit]
    C [row] [re, im] [16] = re re - im im,  re im + im re

Both terms of each are whole numbers with the same scale, so they meet before they become floats. That makes three sums
of each order of magnitude: re re, im im, and the terms of im together. Six tiles hold those of the two lower orders,
to which 20 of 24 products go; those of the highest order follow, for which first digits alone are read again.
"""

from __future__ import annotations

from llvmlite import ir

from convbench.vector import digits
from convbench.vector.build import Program
from convbench.vector.code import INT32, Code, Index, Number, Pointer, Vector
from convbench.vector.digits import DIGITS, OF_A, OF_B, PRODUCTS, STEP_BYTES
from convbench.vector.tiles import ROWS, TILE, Tiles, tiles_of
from convbench.vector.weights import LINE

PARTS = 2  # of a complex number
PASSES = ((1, 2), (0,))  # orders whose sums are in tiles together
SUMS = 3  # of an order
TO_SUM = (((0, 0), (1, 2)), ((1, 1), (0, 2)))  # for re of B, and im: the parts of A that meet it, and to which sum
LINES_A_PRODUCT = 4  # of what comes, asked for at each product, so that all are in the time of one tile of A


def products(program: Program, code: Code) -> None:
    """C = A B for one panel of columns.

    Arguments: A, its bytes from tile to tile, the scales of its rows, bytes from one to the next, B, C, tiles of A,
    steps of one part; what comes after B: at least as many lines as B has are asked for by the way, a few at a time, as
    loads have to wait while many are on their way; what comes after A, and its lines to be asked for with each step.
    """
    a, tile_bytes, scales, apart, b, c, count, steps, coming, a_coming, a_lines = code.arguments
    room = code.room(DIGITS * SUMS * TILE // code.bytes)
    room = room.integer_as_pointer(room.address)
    of_b = [b + LINE + steps * (STEP_BYTES * i) for i in range(PARTS)]
    with code.cases(code.least(count, LINES_A_PRODUCT - 1), range(1, LINES_A_PRODUCT)) as cases:
        for few in cases:
            tiles, lines = tiles_of(code, program.target), -(-LINES_A_PRODUCT // few)
            for number in code.range(count):
                of_a = [a + number * tile_bytes + steps * (STEP_BYTES * i) for i in range(PARTS)]
                ahead = coming + number * steps * (PARTS * PARTS * PRODUCTS * lines * LINE)
                for orders in PASSES:
                    for total in range(SUMS * len(orders)):
                        tiles.zero(total)
                    each = PARTS * PARTS * sum(order + 1 for order in orders) * lines * LINE  # a step
                    for i in code.range(steps):
                        step = i if orders == PASSES[0] else steps - 1 - i  # what was read last lies nearest
                        places = [[one + step * STEP_BYTES for one in both] for both in (of_a, of_b)]
                        _step(code, tiles, *places, orders, (ahead + i * each, lines))
                        for line in code.range(a_lines) if orders == PASSES[0] else ():
                            (a_coming + ((number * steps + i) * a_lines + line) * LINE).prefetch()
                        tiles.stay_awake()
                    ahead += steps * each
                    for total in range(SUMS * len(orders)):
                        tiles.store(total, room + (orders[0] * SUMS + total) * TILE)
                of_rows = (scales + number * ROWS * apart, apart)
                _put_together(code, room, of_rows, b, c + number * (ROWS * PARTS * LINE))


def _step(
    code: Code, tiles: Tiles, a: list[Pointer], b: list[Pointer], orders: tuple[int, ...], coming: tuple[Pointer, int]
) -> None:
    """A step of the depth: products of some orders. a, b: re and im; coming: lines, and how many at each product."""
    place, lines = coming
    for part, sums in enumerate(TO_SUM):
        for of_b in range(max(orders) + 1):
            tiles.load(OF_B, b[part] + of_b * TILE)
            for digit in (order - of_b for order in orders if 0 <= order - of_b < DIGITS):
                for of_a, total in sums:
                    tiles.load(OF_A, a[of_a] + digit * TILE)
                    tiles.multiply((digit + of_b - orders[0]) * SUMS + total, OF_A, OF_B)
                    for line in range(lines):
                        (place + line * LINE).prefetch()
                    place += lines * LINE


def _put_together(
    code: Code, room: Pointer, of_rows: tuple[Pointer, Number], of_columns: Pointer, into: Pointer
) -> None:
    """A tile of C: re is the difference of two sums, im one."""
    builder, whole = code.builder, ir.VectorType(INT32, code.lanes)
    scales, apart = of_rows

    def sum_at(row: Index, number: int, part: int) -> ir.Value:
        return builder.load((room + (number * TILE + part) + row * LINE).value, align=4, typ=whole)

    for row in code.range(ROWS):
        for part in range(0, LINE, code.bytes):
            factor = (scales + row * apart).broadcast() * (of_columns + part).load()
            for is_im in range(PARTS):
                orders = []
                for order in range(DIGITS):
                    first = order * SUMS
                    number = (
                        sum_at(row, first + 2, part)
                        if is_im
                        else builder.sub(sum_at(row, first, part), sum_at(row, first + 1, part))
                    )
                    orders.append(Vector(code, builder.sitofp(number, code.kind)))
                (into + (row * (PARTS * LINE) + (is_im * LINE + part))).store(digits.total_of(orders) * factor)
