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
from convbench.vector.digits import DIGITS, PRODUCTS, STEP_BYTES
from convbench.vector.tiles import FOUR, OF_A, OF_B, ROWS, TILE, Held, Tiles, tiles_of
from convbench.vector.weights import LINE

PARTS = 2  # of a complex number
PASSES = ((1, 2), (0,))  # orders whose sums are in tiles together
# Of a step of each pass: part and digit of A, and of B. Each product but the first shares a tile with the one before,
# and in the first pass no sum is wanted again for three products (found by a search).
PATHS = (
    "i1i1 i1i0 r2i0 r1i0 i2i0 i2r0 r1r0 r1r1 r1i1 i0i1 r0i1 r0i2 i0i2 i0r1 i0r2 r0r2 r0r1 i1r1 i1r0 r2r0",
    "r0r0 i0r0 i0i0 r0i0",
)
SUMS = 3  # of an order: re re, im im, and the rest
MOST_LINES = ROWS // PARTS**2  # of what comes, asked for at each product: so many where B meets a single tile of A
AHEAD = 2  # frequencies whose lines of A are asked for before they are written: they are far from one another


def fill_up(code: Code, v: Pointer, v_bytes: Index, points: int, blocks: Index, steps: Index) -> None:
    """Zeros behind V's blocks of 16 channels, as far as `split` reads.

    The digits there mean nothing, but numbers near zero (denormal), which may lie there, take a CPU far longer.
    """
    for point in code.range(points):
        for i in range(PARTS):
            for block in code.range(blocks, steps * FOUR):
                for part in range(0, LINE, code.bytes):
                    (v + point * v_bytes + (steps * FOUR * i + block) * LINE + part).store(code.vector(0.0))


def split(program: Program, code: Code) -> None:
    """A tile's row of A of some frequencies, from V: digits, the channels of a step in the order [fours, 4].

    Arguments: V, its bytes from frequency to frequency, factors, frequencies, steps of one part, fours of a step, the
    row in the first frequency's A, bytes to the next one's. What a line holds behind the fours means nothing.
    """
    v, v_bytes, factors, points, steps, fours, into, point_bytes = code.arguments
    for point in code.range(points):
        factor = (factors + point * 4).broadcast()
        for i in range(PARTS):
            for step in code.range(steps):
                row = into + point * point_bytes + (steps * i + step) * STEP_BYTES
                for digit in range(DIGITS):
                    (row + point_bytes * AHEAD + digit * TILE).prefetch(write=True)
                first = v + point * v_bytes + steps * (FOUR * LINE * i) + step * fours * (FOUR * 4)
                for part in range(0, LINE, code.bytes):
                    places = [first + fours * (4 * k) + part for k in range(FOUR)]
                    numbers = [digits.digits_of(place.load(), factor) for place in places]
                    for digit, found in enumerate(digits.fours_of(code, numbers)):
                        (row + (digit * TILE + part)).store(found)


def products(program: Program, code: Code) -> None:
    """C = A B for one panel of columns.

    Arguments: A, its bytes from tile to tile, the scales of its rows, bytes from one to the next, B, C, rows, those of
    a tile, steps of one part, fours of a step; what comes after B: at least as many lines as B has are asked for by the
    way, a few at a time, as loads have to wait while many are on their way; what comes after A, its lines to ask for at
    each step.
    """
    a, tile_bytes, scales, apart, b, c, rows, of_tile, steps, fours, coming, a_coming, a_lines = code.arguments
    count = (rows + (of_tile - 1)) // of_tile
    room = code.room(DIGITS * SUMS * TILE // code.bytes)
    room = room.integer_as_pointer(room.address)
    b_tile = fours * LINE
    of_b = [b + LINE + steps * b_tile * (DIGITS * i) for i in range(PARTS)]
    most = count * PARTS**2
    with code.cases((fours + (most - 1)) // most, range(1, MOST_LINES + 1)) as cases:
        for lines in cases:
            tiles = tiles_of(code, program.target, fours, of_tile)
            for number in code.range(count):
                of_a = [a + number * tile_bytes + steps * (STEP_BYTES * i) for i in range(PARTS)]
                ahead = coming + number * steps * (PARTS * PARTS * PRODUCTS * lines * LINE)
                for orders in PASSES:
                    for total in range(SUMS * len(orders)):
                        tiles.zero(total)
                    each = PARTS * PARTS * sum(order + 1 for order in orders) * lines * LINE  # a step
                    for i in code.range(steps):
                        step = i if orders == PASSES[0] else steps - 1 - i  # what was read last lies nearest
                        a_step = [one + step * STEP_BYTES for one in of_a]
                        b_step = [one + step * DIGITS * b_tile for one in of_b]
                        _step(code, tiles, a_step, (b_step, b_tile), orders, (ahead + i * each, lines))
                        for line in code.range(a_lines) if orders == PASSES[0] else ():
                            (a_coming + ((number * steps + i) * a_lines + line) * LINE).prefetch()
                        tiles.stay_awake()
                    ahead += steps * each
                    for total in range(SUMS * len(orders)):
                        tiles.store(total, room + (orders[0] * SUMS + total) * TILE)
                row = number * of_tile
                of_rows = (scales + row * apart, apart, code.least(of_tile, rows - row))
                _put_together(code, room, of_rows, b, c + row * (PARTS * LINE))


def path(number: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """A pass's products: for A and for B which part, 0 for re, and which digit."""
    words = PATHS[number].split()
    return [(("ri".index(word[0]), int(word[1])), ("ri".index(word[2]), int(word[3]))) for word in words]


def _step(
    code: Code, tiles: Tiles, a: list[Pointer], b: tuple[list[Pointer], Index], orders: tuple[int, ...],
    coming: tuple[Pointer, int],
) -> None:  # fmt: skip
    """A step of the depth: products of some orders.

    a: re and im; b: likewise, and bytes from digit to digit; coming: lines, and how many at each product.
    """
    (of_parts, b_tile), (place, lines) = b, coming
    held = Held(tiles)
    for (a_part, of_a), (b_part, of_b) in path(PASSES.index(orders)):
        held.load(OF_A, (a_part, of_a), a[a_part] + of_a * TILE)
        held.load(OF_B, (b_part, of_b), of_parts[b_part] + b_tile * of_b)
        total = SUMS - 1 if a_part != b_part else a_part
        tiles.multiply((of_a + of_b - orders[0]) * SUMS + total, OF_A, OF_B)
        for line in range(lines):
            (place + line * LINE).prefetch()
        place += lines * LINE


def _put_together(
    code: Code, room: Pointer, of_rows: tuple[Pointer, Number, Index], of_columns: Pointer, into: Pointer
) -> None:
    """A tile of C: re is the difference of two sums, im one. of_rows: as of digits.py."""
    builder, whole = code.builder, ir.VectorType(INT32, code.lanes)
    scales, apart, rows = of_rows

    def sum_at(row: Index, number: int, part: int) -> ir.Value:
        return builder.load((room + (number * TILE + part) + row * LINE).value, align=4, typ=whole)

    for row in code.range_up_to(rows, ROWS):
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
