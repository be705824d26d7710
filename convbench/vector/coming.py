"""What gemm.panel's next gather reads, asked for while products are made, where filters have one tap.

Such filters use a number of x for K products only: a gather that waits for memory takes as long as half the products.
While a tile of pixels meets a panel of filters, a line of each channel is asked for that comes next: of the next
channels of the same pixels, or of the thread's next pixels. All tiles and panels together ask for all lines, evenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from convbench.vector.code import Code, Index, Pointer
from convbench.vector.weights import LINE

OF_PANEL, OF_TILE = "piiiii", "pi"  # arguments


class Coming(NamedTuple):
    """Lines of the next channels."""

    source: Pointer  # the first channel's first number
    plane: Index  # bytes from channel to channel
    row: Index  # and from row to row
    row_lines: Index  # lines of a row
    first: Index  # of a channel's lines that are asked for
    lines: Index  # so many

    def share(self, part: Index, parts: Index) -> Coming:
        """One of so many parts of the lines."""
        first, behind = part * self.lines // parts, (part + 1) * self.lines // parts
        return self._replace(first=self.first + first, lines=behind - first)

    def of_tile(self, tile: Index, tiles: Index) -> Line:
        """What one of so many tiles asks for."""
        number = self.first + tile * self.lines // tiles
        place = self.source + (number // self.row_lines * self.row + number % self.row_lines * LINE)
        return Line(place, self.plane)


class Line(NamedTuple):
    """A line of each channel."""

    place: Pointer
    plane: Index

    def ask(self, channel: Index) -> None:
        """For a channel's, into the second cache."""
        (self.place + channel * self.plane).prefetch()


def lines_of(columns: Index, step: int) -> Index:
    """How many lines so many numbers of a row, each step-th, may lie in."""
    return (columns * (4 * step) + (2 * LINE - 1)) // LINE


def tiles_of(
    code: Code, pixels: Index, most: int, coming: Sequence[Any]
) -> Iterator[tuple[tuple[Pointer | Index, ...], Index, int]]:
    """Pixels in equal parts of at most so many: what each asks for, if coming is the arguments of a Coming, its first
    pixel, and its length: the body is written for each length.
    """
    tiles = (pixels + (most - 1)) // most
    for number, first, length in code.equal_parts(pixels, most):
        yield tuple(Coming(*coming).of_tile(number, tiles)) if coming else (), first, length
