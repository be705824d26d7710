"""direct.wide as vector code: as many neighbouring pixels of an output row at a time as a register has lanes.

    y [k, p, q ..] += w [k, c, r, s]  x [c, p u + r d, (q ..) u + s d]

A strip's input is copied with its padding written out and the columns of each phase of the stride side by side, so that
every tap reads whole vectors; or once for each tap, so that none reads across cache lines. A tile is a few filters by
some vectors of pixels, summed in registers over all channels and taps and written to y where it belongs: nothing is
transposed, and no sum waits in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from convbench.algorithms.fused.lines import goes_past, strided
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.taps import UNROLLED, keep_order
from convbench.vector.target import Target
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.weights import LINE

TOGETHER = 4  # filters of a tile, or all of a group where it has fewer
PLAIN, STREAMED, PARTIAL = range(3)  # how a tile is written: its last vector may be partial

FIELDS = (
    "x", "y", "w", "rooms", "counters", "clocks",  # addresses
    "items", "groups", "strips", "strip_rows",  # what is shared out
    "image_bytes", "group_bytes", "plane_bytes", "height", "width", "channels",  # of x; channels: of a group
    "row_taps", "row_stride", "row_dilation", "pad_top", "pad_left",
    "filters", "tile_bytes", "tiles", "group_filter_bytes",  # of w: filters of a group, and the tiles they come in
    "out_rows", "out_columns", "out_image_bytes", "out_channel_bytes",
    "phase_bytes", "copy_row_bytes", "copy_plane_bytes", "past",
)  # fmt: skip
PHASES = ("gather", "products")


def most_vectors(target: Target) -> int:
    """Vectors of pixels whose sums fit beside TOGETHER factors and two vectors: 6 with AVX-512, 2 with AVX or SSE."""
    return (target.sums - 2) // TOGETHER


@dataclass(frozen=True)
class Row:
    """Taps, stride and dilation along a row; and whether each tap has a copy of x for itself."""

    taps: int
    stride: int
    dilation: int
    apart: bool

    @property
    def copies(self) -> list[int]:
        """The first column of each copy of a row of x."""
        if self.apart:
            return [tap * self.dilation for tap in range(self.taps)]
        return list(range(min(self.stride, (self.taps - 1) * self.dilation + 1)))

    def place(self, tap: int) -> tuple[int, int]:
        """In which copy a tap's columns lie, and behind how many others."""
        return (tap, 0) if self.apart else (tap * self.dilation % self.stride, tap * self.dilation // self.stride)

    @property
    def used(self) -> set[int]:
        """Copies that taps fall on."""
        return {self.place(tap)[0] for tap in range(self.taps)}


def convolve(program: Program, code: Code, filters: int, along: Row, clocked: bool) -> None:
    """The kernel. filters: of a tile."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    copy = f.room(thread)
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    with shared_out(code, f.pointer("counters"), f.items, Team(thread, threads), wait=False) as item:
        first, rest = item % f.strips * f.strip_rows, item // f.strips
        group, n = rest % f.groups, rest // f.groups
        rows = code.least(f.strip_rows, f.out_rows - first)
        with clock.phase(0):
            source = f.pointer("x") + n * f.image_bytes + group * f.group_bytes
            copy_strip(code, f, source, copy, first * f.row_stride - f.pad_top, rows, along)
        with clock.phase(1):
            output = f.pointer("y") + n * f.out_image_bytes + group * f.filters * f.out_channel_bytes
            weights = f.pointer("w") + group * f.group_filter_bytes
            for i in code.range(rows):
                code.call(
                    program.function("pppp", row, filters, along),
                    place, copy + i * f.row_stride * f.copy_row_bytes, weights,
                    output + (first + i) * f.out_columns * 4,
                )  # fmt: skip
    code.fence()


def copy_strip(
    code: Code, f: Fields, source: Pointer, copy: Pointer, first: Index, rows: Index, along: Row
) -> None:  # fmt: skip
    """The input rows of a strip, from number `first` on, [channel] [row] [copy] [column]."""
    needed = (rows - 1) * f.row_stride + (f.row_taps - 1) * f.row_dilation + 1
    for c in code.range(f.channels):
        for i in code.range(needed):
            number = first + i
            inside = code.builder.and_(number >= 0, number < f.height)
            line = source + c * f.plane_bytes + code.choose(inside, number, 0) * f.width * 4
            size = code.choose(inside, f.width, 0)
            for which in sorted(along.used):
                into = copy + c * f.copy_plane_bytes + i * f.copy_row_bytes + f.phase_bytes * which
                for done in code.range(0, f.phase_bytes, code.bytes):
                    column = done // 4 * along.stride + along.copies[which] - f.pad_left
                    (into + done).store(strided(code, line + column * 4, column, size, along.stride))


def row(program: Program, code: Code, filters: int, along: Row) -> None:
    """One output row of all filters of a group.

    Arguments: the kernel's, the copy from the row's first tap on, filters, the row in y's first channel.
    """
    place, copy, weights, output = code.arguments
    f = Fields(code, place, FIELDS)
    vectors = (f.out_columns + (code.lanes - 1)) // code.lanes
    most = most_vectors(program.target)
    parts = (vectors + (most - 1)) // most
    least, longer = vectors // parts, vectors % parts
    is_line = (f.out_columns * 4 % LINE).is_equal(0)
    whole = code.choose(is_line, goes_past(code, output, f.out_channel_bytes, f.past) * STREAMED, PLAIN)
    for part in code.range(parts):
        first = part * least + code.least(part, longer)
        count = least + code.choose(part < longer, 1, 0)
        left = f.out_columns - first * code.lanes
        mode = code.choose(left >= count * code.lanes, whole, PARTIAL)
        with code.cases(count, range(1, most + 1)) as cases:
            for each in cases:
                for number in code.range(f.tiles):
                    k = code.least(number * filters, f.filters - filters)  # the last one may repeat some
                    code.call(
                        program.function("ppppii", tile, each, filters, along),
                        place, copy + first * code.bytes, weights + number * f.tile_bytes,
                        output + k * f.out_channel_bytes + first * code.bytes, mode, left,
                    )  # fmt: skip


def tile(program: Program, code: Code, vectors: int, filters: int, along: Row) -> None:
    """Sums of some filters for some vectors of pixels, written to y.

    Arguments: the kernel's, the copy, filters [channel, row of taps, tap, filter], y, how it is written, pixels left in
    the row.
    """
    place, source, weights, output, mode, left = code.arguments
    f = Fields(code, place, FIELDS)
    sums = [[code.variable(0.0) for _ in range(vectors)] for _ in range(filters)]

    def tap(line: Pointer, factors: Pointer) -> None:
        each = [(factors + 4 * k).broadcast() for k in range(filters)]
        for j in range(vectors):
            pixels = (line + code.bytes * j).load()
            for totals, factor in zip(sums, each, strict=True):
                totals[j].add(factor * pixels)
            keep_order(code)

    for c in code.range(f.channels):
        for r in code.range(f.row_taps):
            line = source + c * f.copy_plane_bytes + r * f.row_dilation * f.copy_row_bytes
            factors = weights + (c * f.row_taps + r) * (4 * filters * along.taps)
            if along.taps > UNROLLED:
                for s in code.range(along.taps):
                    column = s * along.dilation
                    of_column = column % along.stride * f.phase_bytes + column // along.stride * 4
                    tap(line + of_column, factors + s * (4 * filters))
                continue
            for number in range(along.taps):
                copy, columns = along.place(number)
                tap(line + f.phase_bytes * copy + columns * 4, factors + 4 * filters * number)
    with code.cases(mode, (PLAIN, STREAMED, PARTIAL)) as cases:
        for case in cases:
            for k, totals in enumerate(sums):
                for j, total in enumerate(totals):
                    into = output + (f.out_channel_bytes * k + j * code.bytes)
                    if case == STREAMED:
                        into.stream(total.get())
                    elif case == PARTIAL and j == vectors - 1:
                        into.store(total.get(), code.within(0, left - j * code.lanes))
                    else:
                        into.store(total.get())
