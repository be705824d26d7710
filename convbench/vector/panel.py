"""Products of any number of rows, and of planes that follow one another, by the micro-kernels of product.py.

Rows come in parts as equal as they can be, and each part asks for its share of the next plane's A and B. Of several
panels as many go side by side as the micro-kernel takes (Target.panels), the others meet a part of A in turn.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from convbench.vector.build import Program, address_of
from convbench.vector.code import Code, Index, Number, Pointer
from convbench.vector.product import ALL, Asks, Kept, product, rows_together, slabs_of, summed_at_once
from convbench.vector.weights import BLOCK, LINE, Weights

NEAR = 4096  # bytes ahead that are asked for of a B that is read but once


def product_of(program: Program, rows: int, panels: int, asks: Asks, weights: Weights, kept: Kept) -> Any:
    """The micro-kernel for that many rows and panels."""
    return program.function(asks.arguments(weights), product, rows, panels, asks, weights, kept)


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


def panel(program: Program, code: Code, panels: int, asks: Asks, weights: Weights, ways: Ways = (ALL,)) -> None:
    """The same for any number of rows, at least one, and for planes of A, B and C that follow one another.

    Arguments: A, bytes from slab to slab, B, C, depth, the RowCut, the number of planes, bytes from plane to plane of
    A, B and C, and from B, and from C, to the next panel (from B 0: there is none); what is written Later, and what is
    read; which of the ways the depth is gone through, if there are several; for products in pairs, what those of the
    rows of A come to, and its bytes from plane to plane and from sum to sum that joins. The A and B of the next plane
    are prefetched by the way: each part fetches its share of them, evenly, as memory answers no faster in a hurry.
    Where all rows are one part, B is a stream, and what is near is enough: a whole plane ahead would have left the
    first cache before it is read.
    """
    first_a, slab, first_b, first_c, depth, *numbers = code.arguments
    cut, rest = RowCut(*numbers[: len(RowCut._fields)]), numbers[len(RowCut._fields) :]
    planes, plane_a, plane_b, plane_c, beside_b, beside_c = rest[:6]
    written, read, (way, pairs, pairs_plane, pairs_chunk) = Later(*rest[6:11]), Later(*rest[11:16]), rest[16:]
    for plane in code.range(planes):
        a, b, c = first_a + plane * plane_a, first_b + plane * plane_b, first_c + plane * plane_c
        later = [
            (coming.of(plane), coming.lines * LINE)
            for coming, is_asked in ((written, asks.for_result), (read, asks.for_input))
            if is_asked
        ]
        of_pairs = (pairs + plane * pairs_plane, pairs_chunk)
        rest_of_plane = (cut, (a, b, c), slab, depth, (plane_a, plane_b), later, (beside_b, beside_c), of_pairs)
        if len(ways) == 1:
            _plane(program, code, (panels, asks, weights, *ways), *rest_of_plane)
            continue
        with code.cases(way, range(len(ways))) as cases:
            for number in cases:
                _plane(program, code, (panels, asks, weights, ways[number]), *rest_of_plane)


def _plane(
    program: Program, code: Code, form: tuple[int, Asks, Weights, Kept], cut: RowCut,
    places: tuple[Pointer, Pointer, Pointer], slab: Index, depth: Index, steps: tuple[Index, Index],
    later: list[tuple[Pointer, Index]], beside: tuple[Index, Index], of_pairs: tuple[Pointer, Index],
) -> None:  # fmt: skip
    """One plane, its rows in parts. places: A, B, C; steps: bytes to the next A and B; later: what, and its bytes.

    of_pairs: what those of A's rows come to, and its bytes from sum to sum. What is asked for of the next A comes with
    the first of the panels that meet this one in turn; what is written or read later, with all.
    """
    (panels, asks, weights, kept), (a, b, c) = form, places
    together = min(panels, program.target.panels)
    turns = range(0, panels, together)
    shares = [count // (cut.parts * len(turns)) for _, count in later]
    moves = [
        (share * BLOCK // lines + (depth - 1)) // depth for share, (lines, _) in zip(shares, asks.later, strict=True)
    ]

    def multiply(rows: int, part: Index, first: Index, turn: int) -> None:
        asked, beside_b, beside_c = asks._replace(for_a=asks.for_a and turn == 0), beside[0] * turn, beside[1] * turn
        made = product_of(program, rows, together, asked, weights, kept)
        source, filters, into = a + first * LINE, b + beside_b, c + (first * LINE + beside_c)
        ahead_a = a + steps[0] + part * cut.share_a
        ahead_b = filters + code.choose(cut.parts >= 2, steps[1] + part * cut.share_b, NEAR)
        for k in code.range(0, depth, cut.chunk):
            comes: list[Pointer | Index] = []
            ends = of_pairs[0] + first * weights.pairs_pitch + k // cut.chunk * of_pairs[1]
            for (place, _), share, move, (lines, _) in zip(later, shares, moves, asks.later, strict=True):
                comes += [place + (part * len(turns) + turn // together) * share + k * lines // BLOCK * move, move]
            code.call(
                made, source + k // BLOCK * slab, slab, filters + weights.before(k), filters, into,
                code.least(depth - k, cut.chunk), code.choose(k >= 1, 1, 0),
                ahead_a + k * cut.step_a, cut.step_a, ahead_b + k * cut.step_b, cut.step_b,
                *comes, *beside, *[ends] * weights.in_pairs,
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


PANEL = "pippi" + "i" * len(RowCut._fields) + "iiiiii" + "piiii" * 2 + "ipii"  # its arguments


def panel_address(panels: int, asks: Asks, weights: Weights, ways: Ways) -> int:
    """The address of `panel`: compiled once, for whoever calls it, as its many micro-kernels take long."""
    return address_of(PANEL, panel, panels, asks, weights, ways)
