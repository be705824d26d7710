"""How images are laid side by side so that few tiles cover them: the items, positions and tiles of an axis.

An axis of the mosaic is a line of items: images, times the phases of the output where the filter is dilated. In a line
of its own each item has ceil(outputs / m) tiles. Stitched, the items lie `pitch` positions apart and tiles run on
across them: 13 outputs under a filter of 3 with padding 1 then cost 14 / m tiles, as neighbours share the zeros between
them, instead of ceil(13 / m). Nothing is copied: both transforms find an image by dividing a position by the pitch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from convbench.algorithms.unit import UnitAxis, ceil_div

MOST_ACROSS = 64  # images side by side: by then the waste at the mosaic's edge is a tile in hundreds
INDICES = 1 << 31  # elements of the images side by side, so that an index among them is an int


@dataclass(frozen=True)
class Line:
    """One axis of the mosaic."""

    axis: UnitAxis
    images: int
    stitched: bool

    @property
    def items(self) -> int:
        """Images times output phases."""
        return self.images * self.axis.out_phases

    @cached_property
    def pitch(self) -> int:
        """Positions from an item to the next; where each has tiles of its own, those of its tiles."""
        return stitched_pitch(self.axis) if self.stitched else self.axis.tiles * self.axis.tile

    @property
    def tiles(self) -> int:
        """Tiles that cover all items."""
        if not self.stitched:
            return self.items * self.axis.tiles
        return ceil_div((self.items - 1) * self.pitch + self.axis.unit_outputs, self.axis.tile)


def stitched_pitch(axis: UnitAxis) -> int:
    """The least distance of two items at which neither sees the other's inputs.

    An item's windows reach over outputs + length - 1 positions. The last of them may be the first of the next item if
    both find zeros there, in every phase and piece: those before x begins, in the phase that is furthest to the right,
    and those after it has ended, in the phase furthest to the left. Outputs themselves are never shared.
    """
    reach = axis.unit_outputs + axis.length - 1
    rightmost = axis.step * axis.length * (axis.pieces - 1)
    rightmost += axis.stride * (axis.out_phases - 1) + axis.dilation * (axis.in_phases - 1)
    zeros_before = max(0, ceil_div(axis.pad - rightmost, axis.step))
    ended = min(reach, ceil_div(axis.size + axis.pad, axis.step))
    return max(reach - min(zeros_before, axis.length - 1), ended)


@dataclass(frozen=True)
class Mosaic:
    """Rows and columns of items: image n lies at (n // across, n % across)."""

    rows: Line
    columns: Line
    across: int

    @property
    def tiles(self) -> int:
        """Tiles of the whole batch."""
        return self.rows.tiles * self.columns.tiles

    @property
    def note(self) -> str:
        """What is stitched, in words; empty where nothing is."""
        if not (self.rows.stitched or self.columns.stitched):
            return ""
        return f"mosaic of {self.rows.images} x {self.across} images"


def mosaic(images: int, elements: int, rows: UnitAxis, columns: UnitAxis) -> Mosaic:
    """The mosaic of fewest tiles, the simplest of those; `elements` are an image's, of x or y, whichever has more."""
    return min(_mosaics(images, elements, rows, columns), key=lambda each: each.tiles)


def _mosaics(images: int, elements: int, rows: UnitAxis, columns: UnitAxis) -> Iterator[Mosaic]:
    for across in range(1, min(images, MOST_ACROSS, max(1, (INDICES - 1) // elements)) + 1):
        for down_stitched in (False, True):
            for across_stitched in (False, True):
                down = Line(rows, ceil_div(images, across), down_stitched)
                yield Mosaic(down, Line(columns, across, across_stitched), across)
