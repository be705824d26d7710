"""The micro-kernel: C [rows, 16] = A [rows, depth] B [depth, 16], its sums in registers from beginning to end.

A comes in slabs of 16 numbers of each row, [depth / 16] [rows, 16]: what is read together lies together. For each k,
BLOCK numbers of B meet `rows` numbers of A, each loaded into all lanes. As many rows as the registers hold sums for: a
load of four bytes then pays for 16 multiply-adds. One such load for each multiply-add is all that a core manages whose
two units take whole vectors: there each number of A meets a panel of B, and the next one beside it (Target.panels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer, Variable, Vector
from convbench.vector.pairs import add_pairs
from convbench.vector.target import SPARE, Target
from convbench.vector.weights import BLOCK, EVEN_PAIRS, LINE, THREE, Weights

CHUNK = 96  # at most so many numbers are summed before their sum joins the others, as errors grow with their count
CHUNK_IN_PAIRS = 8 * THREE  # more there: what pairs come to is added to each sum
ONE_CHUNK = THREE + BLOCK  # where rows have no powers of their own, in tiles that multiply errors; else THREE
ROWS_IN_PAIRS = 16  # whose sums are made together: more take as long each, and longer to compile
RESULT_LINES, INPUT_LINES = 4, 2  # of what comes later that are asked for with each 16 numbers of the depth
FURTHER = 12288  # bytes that a B is asked for ahead of where it is asked for again (Asks.twice)


class Kept(NamedTuple):
    """Of each `stride` numbers of the depth only the first `run` are multiplied; stride divides BLOCK."""

    run: int
    stride: int

    def places(self, code: Code) -> Iterator[Index]:
        """A loop over their places in a block of 16."""
        for first in code.range(0, BLOCK, self.stride):
            for i in code.range(self.run):
                yield first + i


ALL = Kept(BLOCK, BLOCK)


class Asks(NamedTuple):
    """What a product asks for ahead."""

    for_a: bool  # the next A too: not where it lies in the core's own cache, but for products in pairs
    once: bool  # the next B will pass the caches but once
    for_result: bool  # lines that are written when the products are done
    for_input: bool = False  # lines that are read then
    near: bool = False  # the next A into the first cache
    twice: bool = False  # the next B, and before that one further ahead (Target.drops_requests)

    @property
    def later(self) -> list[tuple[int, bool]]:
        """Of what comes later: the lines with each 16 numbers of the depth, and whether they will be written."""
        return [(RESULT_LINES, True)] * self.for_result + [(INPUT_LINES, False)] * self.for_input

    def arguments(self, weights: Weights, of_sum: bool = False) -> str:
        """Of a product that asks so."""
        in_pairs = "pp" if of_sum else "p"
        return "pipppii" + "pi" * (2 + len(self.later)) + "ii" + "i" * of_sum + in_pairs * weights.in_pairs


class Ahead(NamedTuple):
    """What a product asks for ahead, and where: places, each with the bytes it moves on."""

    asks: Asks
    lines_of_a: range  # with each number of the depth
    panels: int
    a: tuple[Pointer, Index]
    b: tuple[Pointer, Index]
    later: list[tuple[Pointer, Index]]
    next_b: Index

    def with_number(self, k: Index) -> None:
        """With the k-th number of the depth."""
        for line in self.lines_of_a if self.asks.for_a else ():
            (self.a[0] + (k * self.a[1] + line)).prefetch(near=self.asks.near)
        for panel in range(self.panels):
            place = self.b[0] + (k * self.b[1] + self.next_b * panel)
            if self.asks.twice:
                (place + FURTHER).prefetch()
            place.prefetch(self.asks.once)

    def with_block(self, block: Index) -> None:
        """With a block of 16 of them."""
        for (place, step), (lines, write) in zip(self.later, self.asks.later, strict=True):
            for line in range(lines):
                (place + (block * lines + line) * step).prefetch(write=write)


def product(
    program: Program, code: Code, rows: int, panels: int, asks: Asks, weights: Weights, kept: Kept = ALL,
    of_sum: bool = False,
) -> None:  # fmt: skip
    """C = A B, or C += A B, for so many panels of B; of_sum: of B and another, whose scales are the same.

    Arguments: A, its bytes from slab to slab, B and its scales (vector/weights.py), C [rows, 16], depth, 1 to add to C
    or 0, what to prefetch by the way (A, B, asks.later): places, each with the bytes it moves on for each k, those of
    `later` for each line; then the bytes from B, and from C, to the next panel. In pairs also what those of each row of
    A come to, and the inverse of its power if it has one (Weights.pairs_pitch). Of a sum, before those, bytes back
    from B to the other; in pairs, behind them, the lines that the sum's pairs come to.
    """
    a, slab, b, scales, c, depth, adds, ahead_a, step_a, ahead_b, step_b, *rest = code.arguments
    coming = 2 * len(asks.later)
    later, (next_b, next_c) = list(zip(rest[:coming:2], rest[1:coming:2], strict=True)), rest[coming : coming + 2]
    halves = [(panel, j) for panel in range(panels) for j in range(BLOCK // code.lanes)]
    sums = [[code.variable(0.0) for _ in halves] for _ in range(rows)]
    ahead = Ahead(
        asks, range(0, rows * LINE // BLOCK, LINE), panels, (ahead_a, step_a), (ahead_b, step_b), later, next_b
    )
    start, lines, pairs_of_b, ends = code.index(0), b, [], rest[coming + 2 :]

    def load(line: Pointer) -> list[Vector]:
        vectors = [weights.load(code, line + next_b * panel, j) for panel, j in halves]
        if not of_sum:
            return vectors
        others = [weights.load(code, line + (next_b * panel - ends[0]), j) for panel, j in halves]
        return [vector + other for vector, other in zip(vectors, others, strict=True)]

    if weights.in_pairs:
        threes = depth // THREE
        start, lines = threes * THREE, b + threes * LINE
        of_pairs = (ends[-1], LINE) if of_sum else (b, LINE + THREE * LINE)
        pairs_of_b = _add_in_pairs(code, (a, slab), (b, next_b), load, of_pairs, threes, kept, halves, sums, ahead)
    for first in code.range(start, depth, kept.stride):
        block = first // BLOCK
        numbers = a + block * slab + (first - block * BLOCK) * 4
        ahead.with_block(block)
        for i in code.range(code.least(depth - first, kept.run)):
            k = first + i
            ahead.with_number(k)
            vectors = load(lines + k * weights.line)
            for r in range(rows):
                number = (numbers + i * 4 + r * LINE).broadcast()
                for total, vector in zip(sums[r], vectors, strict=True):
                    total.add(number * vector)
    with code.cases(adds, (0, 1)) as cases:
        for joins in cases:
            for r in range(rows):
                for h, ((panel, j), total) in enumerate(zip(halves, sums[r], strict=True)):
                    place = c + (next_c * panel + (r * LINE + j * code.bytes))
                    value = total.get()
                    if weights.in_pairs:
                        of_row = ends[of_sum] + r * weights.pairs_pitch
                        value = value + (pairs_of_b[h].get() + of_row.broadcast())
                        value = value * (of_row + 4).broadcast() if weights.own_powers else value
                    whole = weights.scaled(code, value, scales + next_b * panel, j)
                    place.store(place.load() + whole if joins else whole)


def _add_in_pairs(
    code: Code, of_a: tuple[Pointer, Index], of_b: tuple[Pointer, Index], load: Callable[[Pointer], list[Vector]],
    of_pairs: tuple[Pointer, int], threes: Index, kept: Kept, halves: list[tuple[int, int]],
    sums: list[list[Variable]], ahead: Ahead,
) -> list[Variable]:  # fmt: skip
    """sums += A B over so many threes, but for what pairs come to; of B they are returned. of_a, of_b: with steps.

    load: the vectors of a line of B; of_pairs: the first line of what they come to, and the bytes from three to three.
    """
    (a, slab), (b, next_b), (lines, step) = of_a, of_b, of_pairs
    totals, three_bytes = [code.variable(0.0) for _ in halves], LINE + THREE * LINE

    def pairs(three: Index) -> None:
        for part in range(3):
            ahead.with_block(three * 3 + part)
        for total, (panel, j) in zip(totals, halves, strict=True):
            total.add((lines + (three * step + next_b * panel + j * code.bytes)).load())

    def numbers_of_a(three: Index, i: Index, part: int, r: int) -> Vector:
        return (a + (three * 3 + part) * slab + i * 4 + r * LINE).broadcast()

    def vectors_of_b(three: Index, i: Index, part: int) -> list[Vector]:
        place = i * 3 + part
        ahead.with_number(three * THREE + place)
        return load(b + three * three_bytes + (place + 1) * LINE)

    add_pairs(code, threes, sums, numbers_of_a, vectors_of_b, pairs, partial(kept.places, code))
    return totals


def most_rows(target: Target, panels: int, weights: Weights) -> int:
    """Rows whose sums fit the registers: for one panel of float32 28 with AVX-512, 6 with AVX, 3 with SSE.

    In pairs beside two lines of B, two numbers of A and their sums: 26 with AVX-512.
    """
    vectors = BLOCK // target.lanes * panels
    if weights.in_pairs:
        return max(1, (target.sums + SPARE - 4) // vectors - 2)
    return (target.sums - weights.spare) // vectors


def rows_together(target: Target, panels: int, weights: Weights) -> int:
    """Rows whose sums are made together."""
    most = most_rows(target, panels, weights)
    return min(most, ROWS_IN_PAIRS) if weights.in_pairs else most


def summed_at_once(depth: Any, weights: Weights) -> Any:
    """Numbers summed before their sum joins the others, so that all parts of a depth are alike; an int or an Index."""
    most, unit = (CHUNK_IN_PAIRS, THREE) if weights.in_pairs else (CHUNK, BLOCK)
    pieces = (depth + (most - 1)) // most
    if weights == EVEN_PAIRS:
        pieces = depth // (ONE_CHUNK + 1) * depth + 1  # one, or so many that each is the least
    return ((depth + (pieces - 1)) // pieces + (unit - 1)) // unit * unit


def slabs_of(depth: Any, weights: Weights) -> Any:
    """Slabs of A; where rows have own powers one more behind them for each sum that joins, with a line for each row."""
    chunk = summed_at_once(depth, weights)
    ends = (depth + (chunk - 1)) // chunk if weights.own_powers else 0
    return (depth + (BLOCK - 1)) // BLOCK + ends
