"""What products in pairs (vector/pairs.py) need of V: numbers of the size of one, and what their pairs come to.

Each tile has a power of two for each point and for each sum that joins, so that neither another image nor a larger
frequency costs it digits. It brings the mean of |v| to between 1/4 and 1. Not the largest: where all v are alike, as
those of a mean that is not zero, what their pairs come to should not be much more than the products.

    V [point] [channel / 16] [tile, 16],   behind the channels of a point [sum that joins] [tile, 16]: of the channels
    of that sum - sum over their pairs of v[c] v[16 + c], and the inverse of the power; the other 14 are not written
"""

from __future__ import annotations

from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer, Vector
from convbench.vector.product import summed_at_once
from convbench.vector.scaling import powers, size
from convbench.vector.team import Fields
from convbench.vector.weights import BLOCK, LINE, PAIRS, THREE

LEAST = -95  # binary exponent of sums of |v| that still are brought to size: what smaller ones have is lost anyway
MEAN = 0.5  # the mean of |v| is brought to between half and twice as much


def bring_to_size(
    program: Program, code: Code, f: Fields, v: Pointer, tiles: tuple[Index, Index], point: Index
) -> None:
    """Some tiles (from and to) of a group's V at one point, in place, and what stands behind their channels."""
    chunk, plane = summed_at_once(f.depth, PAIRS), v + point * f.plane_bytes + tiles[0] * LINE
    for first in code.range(0, f.depth, chunk):
        slabs = (first // BLOCK, f.depth // BLOCK + first // chunk)
        here, there = (plane + slab * f.slab_bytes for slab in slabs)
        depth = code.least(f.depth - first, chunk)
        code.call(program.function("ppiii", scale), here, there, f.slab_bytes, depth, tiles[1] - tiles[0])


def scale(program: Program, code: Code) -> None:
    """A in place, row by row. Arguments: A, where to put what a row's pairs come to, slab of both, depth, rows."""
    a, ends, slab, depth, rows = code.arguments
    slabs, parts = depth // BLOCK, range(0, LINE, code.bytes)
    threes, counted = slabs // (THREE // BLOCK), powers(code.number(depth))
    for r in code.range(rows):
        total, pairs = code.variable(0.0), code.variable(0.0)
        for i in code.range(slabs):
            for part in parts:
                total.add(size((a + i * slab + r * LINE + part).load()))
        (power, inverse), (of_count, count) = powers(total.get().sum(), LEAST), counted
        power, inverse = power * (count * MEAN), inverse * (of_count * (1 / MEAN))

        def scaled(i: Index, part: int, row: Pointer = a + r * LINE, power: Vector = power) -> Vector:
            place = row + i * slab + part
            value = place.load() * power
            place.store(value)
            return value

        for three in code.range(threes):
            for part in parts:
                one, other, _ = (scaled(three * 3 + i, part) for i in range(3))
                pairs.add(one * other)
        for i in code.range(threes * 3, slabs):
            for part in parts:
                scaled(i, part)
        for place, value in ((0, -pairs.get().sum()), (4, inverse)):
            (ends + r * LINE + place).store(value, code.within(0, 1))
