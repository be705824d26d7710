"""gemm.pairs: products in pairs, which keep adders as busy as multiply-add units: the micro-kernel, and X for it.

Products and their cost are vector/pairs.py's. The columns of B are scaled (vector/weights.py), and so is each row
of a chunk of X, by powers of two that bring its largest number to between 2 and 4; its sums are multiplied by the
inverse before they join the others.

    X [chunk of D] [N] [chunk],   behind each row: - sum over its pairs of x[k] x[16 + k], and the inverse

Where weights stream past, what is read together lies together, as all chunks are read for each panel: rows one after
another would be many streams, in more pages than a core has ready.

    X [chunk of D] [three] [N] [3] [16],   before them for each row a line with those two numbers
"""

from __future__ import annotations

from typing import NamedTuple

from convbench.algorithms.gemm.cut import Cut
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer, Vector
from convbench.vector.pairs import add_pairs
from convbench.vector.scaling import most, most_of_all, powers, size
from convbench.vector.weights import BLOCK, LINE, THREE

# Bytes ahead that are asked for of a stream of weights: with multiples of 4096, the lines that are read, that are near
# and that are far would have the same few places of the first cache.
NEAR, FURTHER = 93 * LINE, 517 * LINE


class Rows(NamedTuple):
    """Rows of a chunk of X."""

    cut: Cut
    numbers: Pointer
    slab: Index  # bytes from three to three
    ends: Pointer  # what comes behind a row, or before all

    def since(self, first: Index) -> Rows:
        """Those from one on."""
        ends = self.ends + first * ends_pitch(self.cut)
        return self._replace(numbers=self.numbers + first * self.cut.pitch, ends=ends)


def ends_pitch(cut: Cut) -> int:
    """Bytes from one row's ends to the next one's."""
    return LINE if cut.streams else cut.pitch


def rows_of(code: Code, cut: Cut, chunk: Pointer, images: Index) -> Rows:
    """All rows of a chunk."""
    if cut.streams:
        return Rows(cut, chunk + images * LINE, images * (3 * LINE), chunk)
    return Rows(cut, chunk, code.index(3 * LINE), chunk + 4 * cut.depth)


def multiply(program: Program, code: Code, cut: Cut, rows: int, panels: int) -> None:
    """C [panels, rows, 16] += A [rows, depth] B [panels, depth, 16], the depth a multiple of THREE.

    Arguments: A (Rows but for the cut), B and its scales, bytes from panel to panel, C, bytes from panel to panel,
    depth; what comes is asked for from an address on, so many bytes for each k, or, as what follows in a stream is
    asked for anyhow, for each three: a line into the first cache. These are the last arguments.
    """
    a, slab, ends, b, scales, beside_b, c, beside_c, depth, ahead, step = code.arguments
    form = cut.weights
    vectors = [(panel, j) for panel in range(panels) for j in range(BLOCK // code.lanes)]
    sums = [[code.variable(0.0) for _ in vectors] for _ in range(rows)]
    pairs_of_b = [code.variable(0.0) for _ in vectors]
    is_one_line = form.threes > 1  # for the whole depth
    three_bytes = THREE * form.line + LINE * (not is_one_line)

    def add_line(line: Pointer) -> None:
        for total, (panel, j) in zip(pairs_of_b, vectors, strict=True):
            total.add((line + (beside_b * panel + j * code.bytes)).load())

    def pairs(three: Index) -> None:
        if not is_one_line:
            add_line(b + three * three_bytes)

    def of_a(three: Index, i: Index, part: int, r: int) -> Vector:
        return (a + three * slab + i * 4 + (part * LINE + r * cut.pitch)).broadcast()

    def of_b(three: Index, i: Index, part: int) -> list[Vector]:
        line = b + (three * three_bytes + LINE + i * (3 * form.line) + part * form.line)
        for panel in range(panels):
            if cut.streams:
                for distance in (FURTHER, NEAR):
                    (line + (beside_b * panel + distance)).prefetch()
                if part == 0:
                    (ahead + (three * BLOCK + i) * step).prefetch(near=True)
            else:
                (ahead + (beside_b * panel + (three * THREE + i * 3 + part) * step)).prefetch(cut.once)
        return [form.load(code, line + beside_b * panel, j) for panel, j in vectors]

    add_pairs(code, depth // THREE, sums, of_a, of_b, pairs)
    if is_one_line:
        add_line(b)
    for r in range(rows):
        pairs_of_a, inverse = ((ends + (r * ends_pitch(cut) + 4 * i)).broadcast() for i in range(2))
        for products, other, (panel, j) in zip(sums[r], pairs_of_b, vectors, strict=True):
            place = c + (beside_c * panel + (r * LINE + j * code.bytes))
            factor = form.scaled(code, inverse, scales + beside_b * panel, j)
            place.store((products.get() + (other.get() + pairs_of_a)) * factor + place.load())


def pack(code: Code, source: Pointer, into: Rows, length: Index) -> None:
    """One row's numbers, so many of them, filled up to a multiple of THREE with zeros."""
    with code.cases(code.choose(length < into.cut.depth, 0, 1), (0, 1)) as cases:
        for whole in cases:
            _pack(code, source, into, length, whole == 1)


def _pack(code: Code, source: Pointer, into: Rows, length: Index, whole: bool) -> None:
    """The same; whole: as many as a chunk has, so that nothing need be masked."""
    threes = code.index(into.cut.depth // THREE) if whole else (length + (THREE - 1)) // THREE
    parts = [(part, lane) for part in range(3) for lane in range(0, BLOCK, code.lanes)]

    def load(three: Index, part: int, lane: int) -> Vector:
        k = three * THREE + (part * BLOCK + lane)
        return (source + k * 4).load(None if whole else code.within(k, length))

    largest = [code.variable(0.0) for _ in parts]
    for three in code.range(threes):
        for each, place in zip(largest, parts, strict=True):
            each.set(most(size(load(three, *place)), each.get()))
    of_all = largest[0].get()
    for each in largest[1:]:
        of_all = most(each.get(), of_all)
    power, inverse = powers(most_of_all(of_all))
    pairs = code.variable(0.0)
    for three in code.range(threes):
        numbers = {place: load(three, *place) * power for place in parts}
        for (part, lane), vector in numbers.items():
            (into.numbers + three * into.slab + (part * BLOCK + lane) * 4).store(vector)
        for lane in range(0, BLOCK, code.lanes):
            pairs.add(numbers[0, lane] * numbers[1, lane])
    into.ends.store(-pairs.get().sum(), code.within(0, 1))
    (into.ends + 4).store(inverse, code.within(0, 1))
