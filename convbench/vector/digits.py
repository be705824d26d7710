"""Numbers as three signed bytes each, so that tiles of bytes (tiles.py) multiply what is float32.

    a = scale (a0 + a1 / 2^8 + a2 / 2^16),    a0, a1, a2 in -128 .. 127
    a b ~ scale_a scale_b (a0 b0 + (a0 b1 + a1 b0) / 2^8 + (a0 b2 + a1 b1 + a2 b0) / 2^16)

This is the scheme of Ozaki, Ogita, Oishi and Rump (Numerical Algorithms 59, 2012) on integer units, as in Ootomo,
Ozaki and Yokota (IJHPCA 38, 2024): numbers that share a scale are whole multiples of 2^-23 of the largest of them, and
sums of products of bytes are exact. What errs is the rounding to 24 bits and what is left out of a product, so an error
is as large for small sums as for large ones, and the same in any order.

    A [tile of 16 rows] [step of 64] [digit] [16 rows, 64],   B [panel of 16 columns] scales, [step] [digit] [16, 16, 4]
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from typing import Any

from llvmlite import ir

from convbench.vector.build import Program
from convbench.vector.code import INT32, Code, Index, Number, Pointer, Vector
from convbench.vector.numbers import BYTE
from convbench.vector.scaling import most_of_all, most_or_broken, size
from convbench.vector.tiles import FOUR, OF_A, OF_B, ROWS, TILE, Held, Tiles, tiles_of
from convbench.vector.weights import BLOCK, LINE

DIGITS = 3
PRODUCTS = 6  # of digits, in a product of numbers
STEP = 64  # numbers of the depth in a tile
STEP_BYTES = DIGITS * TILE
LARGEST = 127 << 16  # of the whole numbers: rounding does not bring one beyond 127 2^16 + 127 2^8 + 127
LEAST = 2.0**-100  # what is largest is taken to be at least this; its inverse is far from overflowing
MOST_DEPTH = (2**31 - 1) // (DIGITS * 2**14)  # the sums of three products of bytes that 32 bits hold
SIDE = 2  # tiles of A whose sums are in registers together
MOST_LINES = STEP_BYTES // LINE // PRODUCTS  # of panels to come, asked for at each product of a single tile of A
TOGETHER = 8  # lines of the next panel that are asked for without asking how many
# Of a step: each digit of one operand, and those which it meets of two others, 0 and 1, that are multiplied by it. Each
# product but the first shares a tile with the one before, and no sum is wanted again for three products.
PATH = (
    (0, ((0, 0), (0, 1), (2, 0), (2, 1), (1, 0), (1, 1))),
    (1, ((1, 1), (1, 0), (0, 0), (0, 1))),
    (2, ((0, 1), (0, 0))),
)


def panel_bytes(depth: int, fours: int = ROWS) -> int:
    """Of B whose steps are so many fours deep."""
    return LINE + -(-depth // (FOUR * fours)) * (DIGITS * fours * LINE)


def measure(program: Program, code: Code) -> None:
    """What brings numbers to whole ones, LARGEST at most; and a line behind it their scale, NaN if one is not finite.

    Arguments: the numbers, bytes from run to run, runs, numbers of a run, where to put both, in all lanes.
    """
    first, step, runs, count, into = code.arguments
    largest, many = code.variable(LEAST), FOUR * code.lanes
    whole = count // many * many
    for run in code.range(runs):
        for i in code.range(0, whole, many):
            places = [first + (run * step + i * 4) + code.bytes * k for k in range(FOUR)]
            largest.set(reduce(most_or_broken, (size(place.load()) for place in places), largest.get()))
        for i in code.range(whole, count, code.lanes):
            place = first + (run * step + i * 4)
            (place + step).prefetch()  # short runs are far from one another: nothing foresees the next one
            largest.set(most_or_broken(size(place.load(code.within(i, count))), largest.get()))
    for line, value in enumerate(factor_and_scale(most_of_all(largest.get(), most_or_broken))):
        (into + LINE * line).store(value)


def factor_and_scale(largest: Vector) -> tuple[Vector, Vector]:
    """What brings numbers as large as these to whole ones, LARGEST at most, and what brings digits back.

    The latter is NaN where the largest is not finite.
    """
    code = largest.code
    factor = Vector(code, code.builder.fdiv(code.constant(LARGEST), largest.value))
    return factor, largest * (2**16 / LARGEST) + largest * 0.0


def digits_of(numbers: Vector, factor: Vector) -> Any:
    """Numbers times a factor as whole ones whose bytes are their digits: above a byte that means nothing the first."""
    code, builder = numbers.code, numbers.code.builder
    whole = ir.VectorType(INT32, code.lanes)
    name = f"llvm.lrint.v{code.lanes}i32.v{code.lanes}f32"
    nearest = builder.call(code.external(name, ir.FunctionType(whole, [code.kind])), [(numbers * factor).value])
    middle = ir.Constant(whole, [0x808080] * code.lanes)  # digits from 0 to 255; turning their first bits brings -128
    return builder.xor(builder.add(nearest, middle), middle)


def fours_of(code: Code, numbers: list[Any]) -> list[Vector]:
    """Of four vectors' digits the first of all four in each lane, the second, the third."""
    builder, whole = code.builder, ir.VectorType(INT32, code.lanes)

    def same(number: int) -> ir.Constant:
        return ir.Constant(whole, [number] * code.lanes)

    def mixed(one: Any, other: Any, mask: int) -> Any:
        """The bits of a mask from one, the rest from the other."""
        return builder.or_(builder.and_(one, same(mask)), builder.and_(other, same(~mask & 0xFFFFFFFF)))

    def up(value: Any, bits: int) -> Any:
        return builder.shl(value, same(bits))

    def down(value: Any, bits: int) -> Any:
        return builder.lshr(value, same(bits))

    pairs = (numbers[:2], numbers[2:])
    (even, of_even), (odd, of_odd) = (
        [mixed(one, up(other, 8), 0x00FF00FF) for one, other in pairs],  # bytes 0 and 2 of both
        [mixed(down(one, 8), other, 0x00FF00FF) for one, other in pairs],  # bytes 1 and 3
    )
    found = (
        mixed(down(even, 16), of_even, 0xFFFF), mixed(odd, up(of_odd, 16), 0xFFFF), mixed(even, up(of_even, 16), 0xFFFF)
    )  # fmt: skip
    return [Vector(code, builder.bitcast(digits, code.kind)) for digits in found]


def path(number: int) -> Iterator[tuple[int, int, int]]:
    """PATH for one other operand or two: a digit, one of another's, and which other."""
    for digit, pairs in PATH:
        yield from ((digit, of_other, which) for of_other, which in pairs if which < number)


def line_of(into: Pointer, row: Index, tile_bytes: Index, each: Number = ROWS) -> Pointer:
    """Where a row of A begins. each: rows of a tile."""
    return into + (row // each * tile_bytes + row % each * LINE)


def split(program: Program, code: Code) -> None:
    """A row of A from numbers that lie side by side; zeros behind them.

    Arguments: the numbers, the factor, how many, the row's place in A, steps.
    """
    first, factor_at, count, into, steps = code.arguments
    factor, builder = factor_at.load(), code.builder
    for step in code.range(steps):
        for part in range(0, STEP, code.lanes):
            k = step * STEP + part
            found = digits_of((first + k * 4).load(code.within(k, count)), factor)
            found = builder.bitcast(found, ir.VectorType(BYTE, FOUR * code.lanes))
            for digit in range(DIGITS):
                places = [lane * FOUR + DIGITS - 1 - digit for lane in range(code.lanes)]
                mask = ir.Constant(ir.VectorType(INT32, code.lanes), places)
                place = into + (step * STEP_BYTES + (digit * TILE + part))
                builder.store(builder.shuffle_vector(found, found, mask), place.value, align=1)


def product(program: Program, code: Code) -> None:
    """C [row, 16] = A B for tiles of rows.

    Arguments: A, its bytes from tile to tile, the scales of its rows, B, C, rows, those of a tile, steps, the panel
    that comes next: its lines are asked for by the way.
    """
    a, tile_bytes, scales, b, c, rows, each, steps, following = code.arguments
    count = (rows + (each - 1)) // each
    blocks = (count + (SIDE - 1)) // SIDE
    lines = (blocks + (STEP_BYTES // LINE - 1)) // blocks  # of the next panel, at each step
    lines = (lines + (TOGETHER - 1)) // TOGETHER * TOGETHER
    for block in code.range(blocks):
        first = block * SIDE
        with code.cases(code.least(SIDE, count - first), range(1, SIDE + 1)) as cases:
            for number in cases:
                places = [a + (first + i) * tile_bytes for i in range(number)]
                ahead = following + block * steps * lines * LINE
                tiles = tiles_of(code, program.target, rows=each)
                sums = _block(code, tiles, places, b + LINE, steps, (ahead, lines))
                for i in range(number):
                    row = (first + i) * each
                    of_rows = (scales + row * 4, 4, code.least(each, rows - row))
                    _scaled(code, sums + i * STEP_BYTES, of_rows, b, c + row * LINE)


def _block(
    code: Code, tiles: Tiles, a: list[Pointer], b: Pointer, steps: Index, coming: tuple[Pointer, Index]
) -> Pointer:
    """Sums of some tiles of A, three each: products of the same order, in memory."""
    ahead, lines = coming
    for total in range(DIGITS * len(a)):
        tiles.zero(total)
    for step in code.range(steps):
        at = step * STEP_BYTES
        soon = [place + (at + STEP_BYTES) for place in (b, *a)]  # the next step, asked for line by line
        near = [place + line * LINE for place in soon for line in range(STEP_BYTES // LINE)]
        each = -(-len(near) // (PRODUCTS * len(a)))
        held = Held(tiles)
        for of_b, of_a, i in path(len(a)):
            held.load(OF_B, (of_b,), b + (at + of_b * TILE))
            held.load(OF_A, (of_a, i), a[i] + (at + of_a * TILE))
            tiles.multiply(i * DIGITS + of_a + of_b, OF_A, OF_B)
            for line in near[:each]:
                line.prefetch(near=True)
            near = near[each:]
        for more in code.range(0, lines, TOGETHER):
            for i in range(TOGETHER):
                (ahead + (step * lines + more + i) * LINE).prefetch()
        tiles.stay_awake()
    room = code.room(len(a) * STEP_BYTES // code.bytes)
    room = room.integer_as_pointer(room.address)
    for total in range(DIGITS * len(a)):
        tiles.store(total, room + total * TILE)
    return room


def short_products(program: Program, code: Code, panels: int) -> None:
    """C [panel] [row, 16] = A B for one panel of columns or two, so short that B stays in the first-level cache.

    Arguments: A, its bytes from tile to tile, the scales of its rows, bytes from one to the next, B, bytes from panel
    to panel, C, likewise, rows, those of a tile, steps, and panels that will come: their lines are asked for by the
    way, evenly, as loads wait behind those of a hurry, and during the first tiles of A, as these may be many.
    """
    a, tile_bytes, scales, apart, b, panel, c, c_panel, rows, of_tile, steps, coming = code.arguments
    tiles, places = tiles_of(code, program.target, rows=of_tile), [b + panel * i for i in range(panels)]
    count = (rows + (of_tile - 1)) // of_tile
    room = code.room(panels * STEP_BYTES // code.bytes)
    room = room.integer_as_pointer(room.address)
    half, quarter = MOST_LINES // 2, MOST_LINES // 4
    each = code.choose(
        count >= MOST_LINES // quarter, quarter, code.choose(count >= MOST_LINES // half, half, MOST_LINES)
    )
    for number in code.range(count):
        for total in range(DIGITS * panels):
            tiles.zero(total)
        ahead = coming + number * steps * each * (PRODUCTS * panels * LINE)
        asked = code.choose(number * each < MOST_LINES, each, 0)
        with code.cases(asked, (0, quarter, half, MOST_LINES)) as cases:
            for lines in cases:
                for step in code.range(steps):
                    at = step * STEP_BYTES
                    line = ahead + step * (PRODUCTS * panels * lines * LINE)
                    _short_step(
                        code, tiles, a + (number * tile_bytes + at), [place + at for place in places], line, lines
                    )
                    tiles.stay_awake()
        for total in range(DIGITS * panels):
            tiles.store(total, room + total * TILE)
        for i, place in enumerate(places):
            row = number * of_tile
            of_rows = (scales + row * apart, apart, code.least(of_tile, rows - row))
            _scaled(code, room + i * STEP_BYTES, of_rows, place, c + (c_panel * i + row * LINE))


def _short_step(code: Code, tiles: Tiles, a: Pointer, b: list[Pointer], coming: Pointer, lines: int) -> None:
    """The products of a step of the depth: a tile of A, panels of B. At each so many lines that come are asked for."""
    held = Held(tiles)
    for of_a, of_b, i in path(len(b)):
        held.load(OF_A, (of_a,), a + of_a * TILE)
        held.load(OF_B, (of_b, i), b[i] + (of_b * TILE + LINE))
        tiles.multiply(i * DIGITS + of_a + of_b, OF_A, OF_B)
        for line in range(lines):
            (coming + line * LINE).prefetch()
        coming += lines * LINE


def _scaled(
    code: Code, sums: Pointer, of_rows: tuple[Pointer, Number, Index], of_columns: Pointer, into: Pointer
) -> None:
    """A tile of C: sums of each order of magnitude, whole numbers, put together.

    of_rows: their scales, bytes to the next one, and how many there are. What a tile holds beyond them stays away from
    arithmetic: numbers near zero (denormal), which may lie there, take a CPU far longer.
    """
    scales, apart, rows = of_rows
    for row in code.range_up_to(rows, ROWS):
        for part in range(0, LINE, code.bytes):
            orders = [sums_at(sums + (row * LINE + (order * TILE + part))) for order in range(DIGITS)]
            factor = (scales + row * apart).broadcast() * (of_columns + part).load()
            (into + (row * LINE + part)).store(total_of(orders) * factor)


def sums_at(place: Pointer) -> Vector:
    """Whole numbers of 32 bits as floats."""
    code, builder = place.code, place.code.builder
    whole = builder.load(place.value, align=4, typ=ir.VectorType(INT32, code.lanes))
    return Vector(code, builder.sitofp(whole, code.kind))


def total_of(orders: list[Vector]) -> Vector:
    """Sums of each order of magnitude put together."""
    return orders[2] * 2.0**-16 + (orders[1] * 2.0**-8 + orders[0])


def pack(xp: Any, numbers: Any, into: Any, fours: int = ROWS) -> None:
    """Panels of B, panel_bytes(depth, fours) each, from numbers [..., depth, 16 or fewer]; zeros for the missing."""
    *many, depth, columns = numbers.shape
    steps = -(-depth // (FOUR * fours))
    with xp.errstate(invalid="ignore"):  # of what is not finite: its column's scale is not either
        top = xp.maximum(abs(numbers).max(axis=-2), LEAST).astype(float)
        whole = xp.zeros((*many, steps * fours * FOUR, BLOCK), xp.int32)
        whole[..., :depth, :columns] = xp.rint(numbers * (LARGEST / top)[..., None, :]).astype(xp.int32)
    scales = into[..., :LINE].view(xp.float32)
    scales[...] = 0
    scales[..., :columns] = xp.where(xp.isfinite(top), top * (2**16 / LARGEST), xp.nan)
    found = ((whole + 0x808080) ^ 0x808080).astype("<i4").view(xp.uint8)
    found = found.reshape(*many, steps, fours, FOUR, BLOCK, 4)
    places = into[..., LINE:].reshape(*many, steps, DIGITS, fours, BLOCK, FOUR)
    for digit in range(DIGITS):
        places[..., digit, :, :, :] = found[..., DIGITS - 1 - digit].swapaxes(-1, -2)
