"""The micro-kernel: C [rows, 16] = A [rows, depth] B [depth, 16], its sums in registers from beginning to end.

A comes in slabs of 16 numbers of each row, [depth / 16] [rows, 16]: what is read together lies together. For each k,
BLOCK numbers of B meet `rows` numbers of A, each loaded into all lanes. As many rows as the registers hold sums for: a
load of four bytes then pays for 16 multiply-adds. One such load for each multiply-add is all that a core manages whose
two units take whole vectors: there each number of A meets a panel of B, and the next one beside it (Target.panels).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from convbench.vector.build import Program, address_of
from convbench.vector.code import Code, Index, Number, Pointer
from convbench.vector.target import SPARE, Target
from convbench.vector.weights import BLOCK, LINE, Weights

CHUNK = 96  # at most so many numbers are summed before their sum joins the others, as errors grow with their count
RESULT_LINES, INPUT_LINES = 4, 2  # of what comes later that are asked for with each 16 numbers of the depth
NEAR = 4096  # bytes ahead that are asked for of a B that is read but once
FURTHER = 12288  # and so many more, where a B is asked for twice (Target.drops_requests)


class Kept(NamedTuple):
    """Of each `stride` numbers of the depth only the first `run` are multiplied; stride divides BLOCK."""

    run: int
    stride: int


ALL = Kept(BLOCK, BLOCK)


class Asks(NamedTuple):
    """What a product asks for ahead."""

    for_a: bool  # the next A too: not where it lies in the core's own cache
    once: bool  # the next B will pass the caches but once
    for_result: bool  # lines that are written when the products are done
    for_input: bool = False  # lines that are read then

    @property
    def later(self) -> list[tuple[int, bool]]:
        """Of what comes later: the lines with each 16 numbers of the depth, and whether they will be written."""
        return [(RESULT_LINES, True)] * self.for_result + [(INPUT_LINES, False)] * self.for_input

    @property
    def arguments(self) -> str:
        """Of a product that asks so."""
        return "pipppii" + "pi" * (2 + len(self.later)) + "ii"


def product(
    program: Program, code: Code, rows: int, panels: int, asks: Asks, weights: Weights, kept: Kept = ALL
) -> None:  # fmt: skip
    """C = A B, or C += A B, for so many panels of B.

    Arguments: A, its bytes from slab to slab, B and its scales (vector/weights.py), C [rows, 16], depth, 1 to add to C
    or 0, what to prefetch by the way (A, B, asks.later): places, each with the bytes it moves on for each k, those of
    `later` for each line; then the bytes from B, and from C, to the next panel.
    """
    a, slab, b, scales, c, depth, adds, ahead_a, step_a, ahead_b, step_b, *later, next_b, next_c = code.arguments
    each = BLOCK // code.lanes
    halves = [(panel, j) for panel in range(panels) for j in range(each)]
    sums = [[code.variable(0.0) for _ in halves] for _ in range(rows)]
    for first in code.range(0, depth, kept.stride):
        block = first // BLOCK
        numbers = a + block * slab + (first - block * BLOCK) * 4
        for place, step, (lines, write) in zip(later[::2], later[1::2], asks.later, strict=True):
            for line in range(lines):
                (place + (block * lines + line) * step).prefetch(write=write)
        for i in code.range(code.least(depth - first, kept.run)):
            k = first + i
            for line in range(0, rows * LINE // BLOCK, LINE) if asks.for_a else ():
                (ahead_a + (k * step_a + line)).prefetch()
            for panel in range(panels):
                place = ahead_b + (k * step_b + next_b * panel)
                if program.target.drops_requests:
                    (place + FURTHER).prefetch()
                place.prefetch(asks.once)
            line = b + k * weights.line
            vectors = [weights.load(code, line + next_b * panel, j) for panel, j in halves]
            for r in range(rows):
                number = (numbers + i * 4 + r * LINE).broadcast()
                for total, vector in zip(sums[r], vectors, strict=True):
                    total.add(number * vector)
    with code.cases(adds, (0, 1)) as cases:
        for joins in cases:
            for r in range(rows):
                for (panel, j), total in zip(halves, sums[r], strict=True):
                    place = c + (next_c * panel + (r * LINE + j * code.bytes))
                    whole = weights.scaled(code, total.get(), scales + next_b * panel, j)
                    place.store(place.load() + whole if joins else whole)


def most_rows(target: Target, panels: int, weights: Weights) -> int:
    """Rows whose sums fit the registers: for one panel of float32 28 with AVX-512, 6 with AVX, 3 with SSE.

    In pairs beside two lines of B, two numbers of A and their sums: 26 with AVX-512.
    """
    vectors = BLOCK // target.lanes * panels
    if weights.in_pairs:
        return max(1, (target.sums + SPARE - 4) // vectors - 2)
    return (target.sums - weights.spare) // vectors


def product_of(program: Program, rows: int, panels: int, asks: Asks, weights: Weights, kept: Kept) -> Any:
    """The micro-kernel for that many rows and panels."""
    return program.function(asks.arguments, product, rows, panels, asks, weights, kept)


class RowCut(NamedTuple):
    """How a product of any number of rows is cut: found once, as divisions cost as much as a short product."""

    parts: Index
    least: Index  # rows of a part
    longer: Index  # so many parts have one row more
    chunk: Index  # numbers summed before their sum joins the others, a multiple of BLOCK
    share_a: Index  # bytes of the next A a part prefetches
    step_a: Index  # and those for each k
    share_b: Index  # bytes of the next B a part prefetches
    step_b: Index  # and those for each k


class Later(NamedTuple):
    """Lines that will be written, or read, when all planes are done: runs of them, which the planes ask for in turn.

    They have longer to come than is left then; and a core waits for few lines at a time.
    """

    first: Pointer  # of the first run
    plane: Index  # number of the first plane
    lines: Index  # that each plane asks for
    run: Index  # lines of a run
    step: Index  # bytes from run to run

    def of(self, plane: Index) -> Pointer:
        """The first line that a plane, counted from the first one, asks for."""
        before = (self.plane + plane) * self.lines
        return self.first + (before // self.run * self.step + before % self.run * LINE)


def cut_rows(
    program: Program, code: Code, rows: Number, depth: Index, slab: Index, panels: int, weights: Weights
) -> RowCut:
    """The cut of rows (0 is as good as 1) of A, `slab` bytes from slab to slab, for products of so many panels."""
    most = most_rows(program.target, panels, weights)
    some = code.most(rows, 1)
    parts = (some + (most - 1)) // most
    least = some // parts
    pieces = (depth + (CHUNK - 1)) // CHUNK
    return RowCut(
        parts, least, some % parts, ((depth + (pieces - 1)) // pieces + (BLOCK - 1)) // BLOCK * BLOCK,
        (depth + (BLOCK - 1)) // BLOCK * slab // parts, (slab // parts + (BLOCK - 1)) // BLOCK,
        weights.before(depth) // parts, (parts + (weights.line - 1)) // parts,
    )  # fmt: skip


Ways = tuple[Kept, ...]


def panel(program: Program, code: Code, panels: int, asks: Asks, weights: Weights, ways: Ways = (ALL,)) -> None:
    """The same for any number of rows, at least one, and for planes of A, B and C that follow one another.

    Arguments: A, bytes from slab to slab, B, C, depth, the RowCut, the number of planes, bytes from plane to plane of
    A, B and C, and from B, and from C, to the next panel; what is written Later, and what is read; which of the ways
    the depth is gone through, if there are several. The A and B of the next plane are prefetched by the way: each part
    fetches its share of them, evenly, as memory answers no faster in a hurry.
    Where all rows are one part, B is a stream, and what is near is enough: a whole plane ahead would have left the
    first cache before it is read.
    """
    first_a, slab, first_b, first_c, depth, *numbers = code.arguments
    cut, rest = RowCut(*numbers[: len(RowCut._fields)]), numbers[len(RowCut._fields) :]
    planes, plane_a, plane_b, plane_c, beside_b, beside_c = rest[:6]
    written, read, way = Later(*rest[6:11]), Later(*rest[11:16]), rest[-1]
    for plane in code.range(planes):
        a, b, c = first_a + plane * plane_a, first_b + plane * plane_b, first_c + plane * plane_c
        later = [
            (coming.of(plane), coming.lines * LINE)
            for coming, is_asked in ((written, asks.for_result), (read, asks.for_input))
            if is_asked
        ]
        rest_of_plane = (cut, (a, b, c), slab, depth, (plane_a, plane_b), later, (beside_b, beside_c))
        if len(ways) == 1:
            _plane(program, code, (panels, asks, weights, *ways), *rest_of_plane)
            continue
        with code.cases(way, range(len(ways))) as cases:
            for number in cases:
                _plane(program, code, (panels, asks, weights, ways[number]), *rest_of_plane)


def _plane(
    program: Program, code: Code, form: tuple[int, Asks, Weights, Kept], cut: RowCut,
    places: tuple[Pointer, Pointer, Pointer], slab: Index, depth: Index, steps: tuple[Index, Index],
    later: list[tuple[Pointer, Index]], beside: tuple[Index, Index],
) -> None:  # fmt: skip
    """One plane, its rows in parts. places: A, B, C; steps: bytes to the next A and B; later: what, and its bytes."""
    (panels, asks, weights, kept), (a, b, c) = form, places
    shares = [count // cut.parts for _, count in later]
    moves = [
        (share * BLOCK // lines + (depth - 1)) // depth for share, (lines, _) in zip(shares, asks.later, strict=True)
    ]
    for part in code.range(cut.parts):
        first = part * cut.least + code.least(part, cut.longer)
        count = cut.least + code.choose(part < cut.longer, 1, 0)
        ahead_a = a + steps[0] + part * cut.share_a
        ahead_b = b + code.choose(cut.parts >= 2, steps[1] + part * cut.share_b, NEAR)
        source, into = a + first * LINE, c + first * LINE
        with code.cases(count, range(1, most_rows(program.target, panels, weights) + 1)) as cases:
            for number in cases:
                for k in code.range(0, depth, cut.chunk):
                    comes: list[Pointer | Index] = []
                    for (place, _), share, move, (lines, _) in zip(later, shares, moves, asks.later, strict=True):
                        comes += [place + part * share + k * lines // BLOCK * move, move]
                    code.call(
                        product_of(program, number, panels, asks, weights, kept),
                        source + k // BLOCK * slab, slab, b + weights.before(k), b, into,
                        code.least(depth - k, cut.chunk), code.choose(k >= 1, 1, 0),
                        ahead_a + k * cut.step_a, cut.step_a, ahead_b + k * cut.step_b, cut.step_b,
                        *comes, *beside,
                    )  # fmt: skip


PANEL = "pippi" + "i" * len(RowCut._fields) + "iiiiii" + "piiii" * 2 + "i"  # its arguments


def panel_address(panels: int, asks: Asks, weights: Weights, ways: Ways) -> int:
    """The address of `panel`: compiled once, for whoever calls it, as its many micro-kernels take long."""
    return address_of(PANEL, panel, panels, asks, weights, ways)
