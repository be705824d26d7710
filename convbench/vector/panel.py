"""Products of any number of rows, and of planes that follow one another, by the micro-kernels of product.py.

Rows come in parts as equal as they can be, and each part asks for its share of the next plane's A and B. Of several
panels as many go side by side as the micro-kernel takes (Target.panels), the others meet a part of A in turn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from convbench.vector.build import Program, address_of
from convbench.vector.code import Code, Index, Number, Pointer
from convbench.vector.product import ALL, Asks, Kept, product, rows_together, slabs_of, summed_at_once
from convbench.vector.weights import BLOCK, LINE, THREE, Weights

NEAR = 4096  # bytes ahead that are asked for of a B that is read but once


def product_of(
    program: Program, rows: int, panels: int, asks: Asks, weights: Weights, kept: Kept, of_sum: bool = False
) -> Any:
    """The micro-kernel for that many rows and panels."""
    arguments = asks.arguments(weights, of_sum)
    return program.function(arguments, product, rows, panels, asks, weights, kept, of_sum)


class RowCut(NamedTuple):
    """How a product of any number of rows is cut: found once, as divisions cost as much as a short product."""

    parts: Index
    least: Index  # rows of a part
    longer: Index  # so many parts have one row more
    chunk: Index  # numbers summed before their sum joins the others
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
    most = rows_together(program.target, min(panels, program.target.panels), weights)
    some = code.most(rows, 1)
    parts = (some + (most - 1)) // most
    least = some // parts
    share_a = slabs_of(depth, weights) * slab // parts
    step_a = (share_a + (depth - 1)) // depth if weights.in_pairs else (slab // parts + (BLOCK - 1)) // BLOCK
    return RowCut(
        parts, least, some % parts, summed_at_once(depth, weights), share_a, step_a,
        weights.before(depth) // parts, (parts + (weights.each - 1)) // parts,
    )  # fmt: skip


Ways = tuple[Kept, ...]


class Filters(NamedTuple):
    """B of a plane, and what is asked for while it is multiplied."""

    first: Pointer
    ahead: Index  # bytes to that, where rows come in parts,
    near: Index  # and where they are one
    steps: tuple[Index, Index]  # bytes of it a part asks for, and those for each k
    back: Index | None = None  # bytes back to what is added to it, if anything is


def filters_of(
    code: Code, weights: Weights, cut: RowCut, point: Pointer, plane: Index, depth: Index, part: Index
) -> tuple[Filters, Filters]:
    """B of a point's first plane, or of a complex one's second; and of its sum. Bytes of a plane of B; depth.

    What two planes need is asked for in the time of three: all of the next plane while the first is multiplied, halves
    of it with the others; or, where what is near is enough, half of the next point's first plane with the sum.
    """
    is_first, behind = part < 1, weights.point_bytes(depth) - plane
    whole, half = (cut.share_b, cut.step_b), (cut.share_b // 2, (cut.step_b + 1) // 2)
    is_whole = code.builder.or_(is_first, cut.parts < 2)
    steps = (code.choose(is_whole, whole[0], half[0]), code.choose(is_whole, whole[1], half[1]))
    ahead = code.choose(is_first, plane, behind)
    return (
        Filters(point + part * plane, ahead, code.index(NEAR), steps),
        Filters(point + plane, behind + plane // 2, behind + NEAR, half, plane),
    )


def panel(program: Program, code: Code, panels: int, asks: Asks, weights: Weights, ways: Ways = (ALL,)) -> None:
    """The same for any number of rows, at least one, and for planes of A, B and C that follow one another.

    Arguments: A, bytes from slab to slab, B, C, depth, the RowCut, the number of points, 1 if they are complex and B
    holds no sums (so has two planes of each: Weights.point_bytes; A and C have three), bytes from plane to plane of A,
    B and C, and from B, and from C, to the next panel (from B 0: there is none); what is written Later, and what is
    read; which of the ways the depth is gone through, if there are several; for products in pairs, what those of the
    rows of A come to, and its bytes from plane to plane and from sum to sum that joins. The A and B of the next plane
    are prefetched by the way: each part fetches its share of them, evenly, as memory answers no faster in a hurry.
    Where all rows are one part, B is a stream, and what is near is enough: a whole plane ahead would have left the
    first cache before it is read.
    """
    first_a, slab, first_b, first_c, depth, *numbers = code.arguments
    cut, rest = RowCut(*numbers[: len(RowCut._fields)]), numbers[len(RowCut._fields) :]
    points, is_complex, plane_a, plane_b, plane_c, beside_b, beside_c = rest[:7]
    written, read, (way, pairs, pairs_plane, pairs_chunk) = Later(*rest[7:12]), Later(*rest[12:17]), rest[17:]

    def one(plane: Index, b: Filters) -> None:
        later = [
            (coming.of(plane), coming.lines * LINE)
            for coming, is_asked in ((written, asks.for_result), (read, asks.for_input))
            if is_asked
        ]
        of_pairs, matrices = (pairs + plane * pairs_plane, pairs_chunk), (first_a + plane * plane_a, b)
        rest_of_plane = (cut, (*matrices, first_c + plane * plane_c), slab, depth, plane_a)
        those = ways if b.back is None else ways[:1]  # what a sum may leave out is zero
        with code.cases(way if len(those) > 1 else code.index(0), range(len(those))) as cases:
            for number in cases:
                form = (panels, asks, weights, those[number])
                _plane(program, code, form, *rest_of_plane, later, (beside_b, beside_c), of_pairs)

    planes, point_b = (
        code.choose(is_complex >= 1, 3, 1),
        code.choose(is_complex >= 1, weights.point_bytes(depth), plane_b),
    )
    for point in code.range(points):
        first = first_b + point * point_b
        for part in code.range(is_complex + 1):
            one(point * planes + part, filters_of(code, weights, cut, first, plane_b, depth, part)[0])
        if not weights.holds_sums:
            with code.when(is_complex >= 1):
                one(point * 3 + 2, filters_of(code, weights, cut, first, plane_b, depth, is_complex)[1])


def _plane(
    program: Program, code: Code, form: tuple[int, Asks, Weights, Kept], cut: RowCut,
    places: tuple[Pointer, Filters, Pointer], slab: Index, depth: Index, next_a: Index,
    later: list[tuple[Pointer, Index]], beside: tuple[Index, Index], of_pairs: tuple[Pointer, Index],
) -> None:  # fmt: skip
    """One plane, its rows in parts. places: A, B, C; next_a: bytes to the next A; later: what, and its bytes.

    of_pairs: what those of A's rows come to, and its bytes from sum to sum. What is asked for of the next A comes with
    the first of the panels that meet this one in turn; what is written or read later, with all.
    """
    (panels, asks, weights, kept), (a, b, c), (share_b, step_b) = form, places, places[1].steps
    together = min(panels, program.target.panels)
    turns = range(0, panels, together)
    shares = [count // (cut.parts * len(turns)) for _, count in later]
    moves = [
        (share * BLOCK // lines + (depth - 1)) // depth for share, (lines, _) in zip(shares, asks.later, strict=True)
    ]

    def multiply(rows: int, part: Index, first: Index, turn: int) -> None:
        asked, beside_b, beside_c = asks._replace(for_a=asks.for_a and turn == 0), beside[0] * turn, beside[1] * turn
        made = product_of(program, rows, together, asked, weights, kept, b.back is not None)
        source, filters, into = a + first * LINE, b.first + beside_b, c + (first * LINE + beside_c)
        ahead_a = a + next_a + part * cut.share_a
        ahead_b = filters + code.choose(cut.parts >= 2, b.ahead + part * share_b, b.near)
        for k in code.range(0, depth, cut.chunk):
            comes: list[Pointer | Index] = []
            for (place, _), share, move, (lines, _) in zip(later, shares, moves, asks.later, strict=True):
                comes += [place + (part * len(turns) + turn // together) * share + k * lines // BLOCK * move, move]
            ends: list[Pointer | Index] = []
            if weights.in_pairs:
                ends.append(of_pairs[0] + first * weights.pairs_pitch + k // cut.chunk * of_pairs[1])
            if b.back is not None:
                ends = [b.back, *ends, *[filters + b.back + k // THREE * LINE] * weights.in_pairs]
            code.call(
                made, source + k // BLOCK * slab, slab, filters + weights.before(k), filters, into,
                code.least(depth - k, cut.chunk), code.choose(k >= 1, 1, 0),
                ahead_a + k * cut.step_a, cut.step_a, ahead_b + k * step_b, step_b,
                *comes, *beside, *ends,
            )  # fmt: skip

    for part in code.range(cut.parts):
        first = part * cut.least + code.least(part, cut.longer)
        count = cut.least + code.choose(part < cut.longer, 1, 0)
        with code.cases(count, range(1, rows_together(program.target, together, weights) + 1)) as cases:
            for rows in cases:
                multiply(rows, part, first, 0)
                for turn in turns[1:]:
                    with code.when(beside[0] >= 1):
                        multiply(rows, part, first, turn)


PANEL = "pippi" + "i" * len(RowCut._fields) + "iiiiiii" + "piiii" * 2 + "ipii"  # its arguments


def panel_address(panels: int, asks: Asks, weights: Weights, ways: Ways) -> int:
    """The address of `panel`: compiled once, for whoever calls it, as its many micro-kernels take long."""
    return address_of(PANEL, panel, panels, asks, weights, ways)
