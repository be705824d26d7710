"""Products in pairs, which keep adders as busy as multiply-add units.

A core whose adders stand beside its multiply-add units, as AMD's do, leaves them idle in a product of matrices. They
take part by Winograd's inner product (IEEE Transactions on Computers C-17, 1968, p. 693), which trades a product for a
sum:

    a0 b0 + a1 b1 = (a0 + b1) (a1 + b0) - a0 a1 - b0 b1

What is taken away depends on A alone, or on B alone, and serves all products of a row, or of a column. Of three numbers
of the depth two go in pairs and one as usual. That is two sums and two multiply-adds: all four units are busy, and half
as much again goes through in the same time as by multiply-adds alone.

Sums of numbers that differ in size lose digits, so both A and B are brought to the size of one, by powers of two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from convbench.vector.code import Code, Index, Variable, Vector
from convbench.vector.weights import BLOCK


def add_pairs(
    code: Code, threes: Index, sums: list[list[Variable]], of_a: Callable[[Index, Index, int, int], Vector],
    of_b: Callable[[Index, Index, int], list[Vector]], pairs: Callable[[Index], None],
    places: Callable[[], Iterable[Index]] | None = None,
) -> None:  # fmt: skip
    """sums [row][vector] += A B over so many times three blocks of 16 numbers of the depth.

    of_a(three, i, part, row): a number of A in all lanes, at place i of one of three blocks, of which the first two
    make pairs; of_b(three, i, part): the vectors of B there; pairs(three): to be called once for each three; places: a
    loop over those i that count, if not all do.
    """
    for three in code.range(threes):
        pairs(three)
        for i in places() if places else code.range(BLOCK):
            first, second = of_b(three, i, 0), of_b(three, i, 1)
            for r, row in enumerate(sums):
                a0, a1 = of_a(three, i, 0, r), of_a(three, i, 1, r)
                for total, b0, b1 in zip(row, first, second, strict=True):
                    total.add((a0 + b1) * (a1 + b0))
            third = of_b(three, i, 2)
            for r, row in enumerate(sums):
                number = of_a(three, i, 2, r)
                for total, weight in zip(row, third, strict=True):
                    total.add(number * weight)
