"""What products in pairs (vector/pairs.py) need where a transform keeps its points' sizes: one power of two for each
row of an image's tiles.

How large a point of a tile is follows from its row of the transform, where inputs are like noise. So U's points are
brought to the sizes of V's (Tile.input_sizes), V is transformed from inputs of the size of one, and its numbers are
written once, where products read them. An image's row of tiles is multiplied by a power of two for that, found by the
mean of |x| under it, and its outputs by the inverse. Neither another image nor how blocks are cut makes a difference.
A Fourier tile's lowest frequency may be far larger than that, where images have a mean: there see sizes.py.

    behind V of a group: pairs [point] [sum that joins] [tile] = - sum over the sum's pairs of v[c] v[16 + c]
                         powers [image] [row of tiles] = the power, the inverse
"""

from __future__ import annotations

from functools import reduce
from operator import add

from convbench.vector.build import Program
from convbench.vector.code import Code
from convbench.vector.product import summed_at_once
from convbench.vector.scaling import finite_size, powers
from convbench.vector.weights import BLOCK, EVEN_PAIRS, LINE, THREE

LEAST = -95  # binary exponent of means that still are brought to size: what smaller numbers have is lost anyway
AT_ONCE = 4  # vectors, each with a sum of its own, so that none waits for the one before


def measure(program: Program, code: Code, most: float) -> None:
    """The power that brings the mean of |x| in some rows of planes to between most / 2 and most, and its inverse.

    Arguments: planes, their height, their width, how many, first row (below 0: padding), rows, where to. What is not
    finite counts as 0: it spoils its own tiles alone.
    """
    planes, height, width, channels, top, rows, into = code.arguments
    first = code.least(code.most(top, 0), height)
    end = code.least(code.most(top + rows, first), height)
    totals = [code.variable(0.0) for _ in range(AT_ONCE)]
    count, lanes = (end - first) * width, code.lanes
    whole = count - count % (AT_ONCE * lanes)
    for channel in code.range(channels):
        numbers = planes + (channel * height + first) * width * 4
        for i in code.range(0, whole, AT_ONCE * lanes):
            for part, each in enumerate(totals):
                each.add(finite_size((numbers + i * 4 + part * code.bytes).load()))
        for i in code.range(whole, count, lanes):
            totals[0].add(finite_size((numbers + i * 4).load(code.within(0, count - i))))
    total = reduce(add, [each.get() for each in totals]).sum()
    power, inverse = powers(total / code.number(code.most(count * channels, 1)), LEAST)
    power, inverse = power * (most / 4), inverse * (4 / most)
    into.store(power.pick(inverse, [0, *[code.lanes] * (code.lanes - 1)]), code.within(0, 2))


def sum_pairs(program: Program, code: Code) -> None:
    """What the pairs of a plane of V come to.

    Arguments: V, bytes from slab to slab, channels, rows; where to, bytes from sum to sum; a line, 1 where a channel is
    multiplied, else 0.
    """
    v, slab, depth, rows, pairs, pairs_chunk, kept = code.arguments
    chunk, lanes, parts = summed_at_once(depth, EVEN_PAIRS), code.lanes, range(0, LINE, code.bytes)
    factors = [(kept + part).load() for part in parts]
    for first in code.range(0, depth, chunk):
        numbers, into = v + first // BLOCK * slab, pairs + first // chunk * pairs_chunk
        threes = code.least(depth - first, chunk) // THREE
        for row in code.range(0, rows, lanes):
            totals = [code.variable(0.0) for _ in range(lanes)]
            for three in code.range(threes):
                for lane, total in enumerate(totals):
                    line = numbers + three * (THREE // BLOCK) * slab + code.least(row + lane, rows - 1) * LINE
                    for part, factor in zip(parts, factors, strict=True):
                        one, other = (line + part).load(), (line + slab + part).load()
                        total.add(one * factor * other)
            sums = code.transpose([total.get() for total in totals])
            while len(sums) > 1:
                sums = [one + other for one, other in zip(sums[::2], sums[1::2], strict=True)]
            (into + row * 4).store(-sums[0], code.within(0, rows - row))
