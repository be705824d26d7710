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


def bring_to_size(program: Program, code: Code, planes: int, streams: bool) -> None:
    """A's rows to C's, with what stands behind C's channels, for so many planes; streams: past the caches.

    Arguments: A, its bytes from slab to slab, C, its; bytes from plane to plane of both, channels, rows.
    """
    a, slab_a, c, slab_c, plane_a, plane_c, depth, rows = code.arguments
    chunk = summed_at_once(depth, PAIRS)
    for plane in code.range(planes):
        for first in code.range(0, depth, chunk):
            here, end = first // BLOCK, depth // BLOCK + first // chunk
            from_plane, to_plane = a + plane * plane_a, c + plane * plane_c
            code.call(
                program.function("pippiii", scale, streams), from_plane + here * slab_a, slab_a,
                to_plane + here * slab_c, to_plane + end * slab_c, slab_c, code.least(depth - first, chunk), rows,
            )  # fmt: skip


def scale(program: Program, code: Code, streams: bool) -> None:
    """Some slabs of A to C, row by row.

    Arguments: A, bytes from slab to slab, C, where to put what a row's pairs come to, from slab to slab, depth, rows.
    """
    a, slab_a, c, ends, slab_c, depth, rows = code.arguments
    slabs, parts = depth // BLOCK, range(0, LINE, code.bytes)
    threes, counted = slabs // (THREE // BLOCK), powers(code.number(depth))
    for r in code.range(rows):
        total, pairs, row, into = code.variable(0.0), code.variable(0.0), a + r * LINE, c + r * LINE
        for i in code.range(slabs):
            for part in parts:
                total.add(size((row + i * slab_a + part).load()))
        (power, inverse), (of_count, count) = powers(total.get().sum(), LEAST), counted
        power, inverse = power * (count * MEAN), inverse * (of_count * (1 / MEAN))

        def scaled(
            i: Index, part: int, row: Pointer = row, into: Pointer = into, power: Vector = power
        ) -> Vector:  # fmt: skip
            value, place = (row + i * slab_a + part).load() * power, into + i * slab_c + part
            (place.stream if streams else place.store)(value)
            return value

        for three in code.range(threes):
            for part in parts:
                one, other, _ = (scaled(three * 3 + i, part) for i in range(3))
                pairs.add(one * other)
        for i in code.range(threes * 3, slabs):
            for part in parts:
                scaled(i, part)
        both = (-pairs.get().sum()).pick(inverse, [0] + [code.lanes] * (code.lanes - 1))
        place = ends + r * LINE
        (place.stream if streams else place.store)(both)
