"""The micro-kernel: C [rows, 16] = A [rows, depth] B [depth, 16], its sums in registers from beginning to end.

For each k, BLOCK numbers of B meet `rows` numbers of A, each loaded into all lanes. As many rows as the registers hold
sums for: a load of four bytes then pays for 16 multiply-adds, which keeps the multiply-add units busy as long as A and
B lie in the first two caches.
"""

from __future__ import annotations

from typing import Any

from convbench.vector.build import Program
from convbench.vector.code import Code, Pointer
from convbench.vector.target import Target

CHUNK = 96  # at most so many numbers are summed before their sum joins the others, as errors grow with their count
BLOCK = 16  # channels that lie side by side in every buffer, on every CPU
LINE = 4 * BLOCK  # their bytes, a cache line


def product(program: Program, code: Code, rows: int, adds: bool, fetches: bool) -> None:
    """C = A B, or C += A B.

    Arguments: A, its bytes from row to row, B and C packed [.., 16], depth, and what to prefetch, a line for each k.
    """
    a, pitch, b, c, depth, ahead = code.arguments
    each = BLOCK // code.lanes
    sums = [[code.variable(0.0) for _ in range(each)] for _ in range(rows)]
    places = [a + pitch * r for r in range(rows)]
    for k in code.range(depth):
        if fetches:
            (ahead + k * LINE).prefetch()
        line = b + k * LINE
        vectors = [(line + j * code.bytes).load() for j in range(each)]
        for r in range(rows):
            number = (places[r] + k * 4).broadcast()
            for j in range(each):
                sums[r][j].add(number * vectors[j])
    for r in range(rows):
        for j in range(each):
            place, total = c + (r * LINE + j * code.bytes), sums[r][j].get()
            place.store(place.load() + total if adds else total)


def most_rows(target: Target) -> int:
    """Rows whose sums fit the registers: 28 with AVX-512, 6 with AVX, 3 with SSE."""
    return target.sums // (BLOCK // target.lanes)


def product_of(program: Program, rows: int, adds: bool, fetches: bool) -> Any:
    """The micro-kernel for that many rows."""
    return program.function("pippip", product, rows, adds, fetches)


def panel(program: Program, code: Code) -> None:
    """The same for any number of rows, cut into equal parts.

    Arguments: A, pitch, B, C, rows, depth, and the A and B of the next product, which are prefetched by the way: a row
    part fetches its own rows of the next A, the first one all of B. An A that is the same again is not fetched.
    """
    a, pitch, b, c, rows, depth, next_a, next_b = code.arguments
    most = most_rows(program.target)
    parts = (rows + (most - 1)) // most
    least, longer = rows // parts, rows % parts  # `longer` parts have one row more
    pieces = (depth + (CHUNK - 1)) // CHUNK
    chunk = (depth + (pieces - 1)) // pieces
    moves_on = next_a.is_not(a)
    for part in code.range(parts):
        first = part * least + code.least(part, longer)
        count = least + code.choose(part < longer, 1, 0)
        source, into = a + first * pitch, c + first * LINE
        is_first = part.is_equal(0)
        ahead = Pointer(code, code.builder.select(is_first, next_b.value, (next_a + first * pitch).value))
        lines = code.choose(is_first, depth, code.choose(moves_on, count * pitch // LINE, 0))  # worth fetching
        with code.cases(count, range(1, most + 1)) as cases:
            for number in cases:
                for k in code.range(0, depth, chunk):
                    arguments = (source + k * 4, pitch, b + k * LINE, into, code.least(depth - k, chunk))
                    for adds, begins in ((False, k.is_equal(0)), (True, k >= 1)):
                        for fetches, worth in ((True, k < lines), (False, k >= lines)):
                            with code.when(code.builder.and_(begins, worth)):
                                code.call(product_of(program, number, adds, fetches), *arguments, ahead + k * LINE)


def panel_of(program: Program) -> Any:
    """The product of a panel of any number of rows, at least one."""
    return program.function("pippiipp", panel)
