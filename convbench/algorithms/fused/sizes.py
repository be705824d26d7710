"""What products in pairs (vector/pairs.py) need of V: numbers of the size of one, and what their pairs come to.

Each tile has a power of two for each point and for each sum that joins, so that neither another image nor a larger
frequency costs it digits. It brings the mean of |v| to between 1/4 and 1. Not the largest: where all v are alike, as
those of a mean that is not zero, what their pairs come to should not be much more than the products.

    V [point] [channel / 16] [tile, 16],   behind the channels of a point [sum that joins] [tile, 16]: of the channels
    of that sum - sum over their pairs of v[c] v[16 + c], and the inverse of the power
"""

from __future__ import annotations

from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer, Vector
from convbench.vector.product import summed_at_once
from convbench.vector.scaling import powers, size
from convbench.vector.weights import BLOCK, LINE, PAIRS, THREE

LEAST = -95  # binary exponent of sums of |v| that still are brought to size: what smaller ones have is lost anyway
MEAN = 0.5  # the mean of |v| is brought to between half and twice as much
SIZE = 0.9  # the root mean square that U is brought to, which is about V's: errors are least if both are alike


def bring_to_size(program: Program, code: Code, streams: bool) -> None:
    """A's rows to C's, with what stands behind C's channels, for so many planes; streams: past the caches.

    Arguments: A, its bytes from slab to slab and from plane to plane; C, its; planes, channels, rows.
    """
    a, slab_a, plane_a, c, slab_c, plane_c, planes, depth, rows = code.arguments
    chunk = summed_at_once(depth, PAIRS)
    for r in code.range(rows):
        for first in code.range(0, depth, chunk):
            here, end = first // BLOCK, depth // BLOCK + first // chunk
            code.call(
                program.function("piippiiii", scale, streams), a + r * LINE + here * slab_a, slab_a, plane_a,
                c + r * LINE + here * slab_c, c + r * LINE + end * slab_c, slab_c, plane_c,
                planes, code.least(depth - first, chunk),
            )  # fmt: skip


def scale(program: Program, code: Code, streams: bool) -> None:
    """A row of some slabs of A to C, plane by plane.

    Arguments: A, bytes from slab to slab and from plane to plane; C, where to put what its pairs come to, and C's
    bytes; planes, depth.
    """
    a, slab_a, plane_a, c, ends, slab_c, plane_c, planes, depth = code.arguments
    slabs, parts = depth // BLOCK, range(0, LINE, code.bytes)
    threes, counted = slabs // (THREE // BLOCK), powers(code.number(depth))

    def store(place: Pointer, value: Vector) -> None:
        (place.stream if streams else place.store)(value)

    for plane in code.range(planes):
        total, pairs = code.variable(0.0), code.variable(0.0)
        row, into, place = a + plane * plane_a, c + plane * plane_c, ends + plane * plane_c
        for i in code.range(slabs):
            for part in parts:
                total.add(size((row + i * slab_a + part).load()))
        (power, inverse), (of_count, count) = powers(total.get().sum(), LEAST), counted
        power, inverse = power * (count * MEAN), inverse * (of_count * (1 / MEAN))

        def scaled(
            i: Index, part: int, row: Pointer = row, into: Pointer = into, power: Vector = power
        ) -> Vector:  # fmt: skip
            value = (row + i * slab_a + part).load() * power
            store(into + i * slab_c + part, value)
            return value

        for three in code.range(threes):
            for part in parts:
                one, other, _ = (scaled(three * 3 + i, part) for i in range(3))
                pairs.add(one * other)
        for i in code.range(threes * 3, slabs):
            for part in parts:
                scaled(i, part)
        both = (-pairs.get().sum()).pick(inverse, [0] + [code.lanes] * (code.lanes - 1))
        store(place, both)
