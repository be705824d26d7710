"""gemm.pairs: products in pairs, which keep adders as busy as multiply-add units: the micro-kernel, and X for it.

A core whose adders stand beside its multiply-add units, as AMD's do, leaves them idle in a product of matrices. They
take part by Winograd's inner product (IEEE Transactions on Computers C-17, 1968, p. 693), which trades a product for a
sum:

    a0 b0 + a1 b1 = (a0 + b1) (a1 + b0) - a0 a1 - b0 b1

What is taken away depends on A alone, or on B alone, and serves all products of a row, or of a column. Of three numbers
of the depth two go in pairs and one as usual. That is two sums and two multiply-adds: all four units are busy, and half
as much again goes through in the same time as by multiply-adds alone.

Sums of numbers that differ in size lose digits. So the columns of B are scaled (vector/weights.py), and so is each row
of a chunk of X, by powers of two that bring its largest number to between 2 and 4; its sums are multiplied by the
inverse before they join the others.

    X [chunk of D] [N] [chunk],   behind each row: - sum over its pairs of x[k] x[16 + k], and the inverse
"""

from __future__ import annotations

from convbench.algorithms.gemm.cut import Cut
from convbench.vector.build import Program
from convbench.vector.code import Code, Index, Pointer, Vector
from convbench.vector.target import SPARE, Target
from convbench.vector.weights import BLOCK, LINE, THREE


def most_rows(target: Target, panels: int) -> int:
    """Rows whose sums fit the registers beside two lines of B, two numbers of A and their sums: 12 with AVX-512."""
    return max(1, (target.sums + SPARE - 4) // (BLOCK // target.lanes * panels) - 2)


def multiply(program: Program, code: Code, cut: Cut, rows: int, panels: int) -> None:
    """C [panels, rows, 16] += A [rows, depth] B [panels, depth, 16], the depth a multiple of THREE.

    Arguments: A, its rows the cut's pitch apart, B and its scales, bytes from panel to panel, C, bytes from panel to
    panel, depth, and what to ask for: an address and bytes for each k.
    """
    a, b, scales, beside_b, c, beside_c, depth, ahead, step = code.arguments
    form, behind = cut.weights, 4 * cut.depth
    vectors = [(panel, j) for panel in range(panels) for j in range(BLOCK // code.lanes)]
    sums = [[code.variable(0.0) for _ in vectors] for _ in range(rows)]
    of_b = [code.variable(0.0) for _ in vectors]
    three_bytes = form.before(THREE) - form.head

    def load(k: Index, line: Pointer) -> list[Vector]:
        for panel in range(panels):
            (ahead + (beside_b * panel + k * step)).prefetch()
        return [form.load(code, line + beside_b * panel, j) for panel, j in vectors]

    for three in code.range(depth // THREE):
        first = b + three * three_bytes
        for total, (panel, j) in zip(of_b, vectors, strict=True):
            total.add((first + (beside_b * panel + j * code.bytes)).load())
        for i in code.range(BLOCK):
            k, line, numbers = three * THREE + i * 3, first + LINE + i * (3 * form.line), a + three * (3 * LINE) + i * 4
            b0, b1 = load(k, line), load(k + 1, line + form.line)
            for r in range(rows):
                a0, a1 = ((numbers + (r * cut.pitch + part * LINE)).broadcast() for part in range(2))
                for total, one, other in zip(sums[r], b0, b1, strict=True):
                    total.add((a0 + other) * (a1 + one))
            b2 = load(k + 2, line + 2 * form.line)
            for r in range(rows):
                number = (numbers + (r * cut.pitch + 2 * LINE)).broadcast()
                for total, weight in zip(sums[r], b2, strict=True):
                    total.add(number * weight)
    for r in range(rows):
        of_a, inverse = ((a + (behind + r * cut.pitch + 4 * i)).broadcast() for i in range(2))
        for products, pairs, (panel, j) in zip(sums[r], of_b, vectors, strict=True):
            place = c + (beside_c * panel + (r * LINE + j * code.bytes))
            factor = form.scaled(code, inverse, scales + beside_b * panel, j)
            place.store((products.get() + (pairs.get() + of_a)) * factor + place.load())


def pack(code: Code, cut: Cut, source: Pointer, into: Pointer, length: Index) -> None:
    """One row's numbers, so many of them, filled up to a multiple of THREE with zeros."""
    largest, pairs = code.variable(0.0), code.variable(0.0)
    for k in code.range(0, length, code.lanes):
        largest.set((source + k * 4).load(code.within(k, length)).size().most(largest.get()))
    power, inverse = largest.get().most_of_all().powers()
    for k in code.range(0, length, THREE):
        for lane in range(0, BLOCK, code.lanes):
            parts = []
            for part in range(3):
                at = k + (part * BLOCK + lane)
                parts.append((source + at * 4).load(code.within(at, length)) * power)
                (into + at * 4).store(parts[-1])
            pairs.add(parts[0] * parts[1])
    (into + 4 * cut.depth).store(-pairs.get().sum(), code.within(0, 1))
    (into + (4 * cut.depth + 4)).store(inverse, code.within(0, 1))
