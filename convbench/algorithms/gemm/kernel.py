"""gemm.panel on the CPU as vector code: im2col of a panel of pixels, some channels at a time, times packed filters.

    x -> rows [channel, phase of the stride, row] with the padding written out -> A [tap, pixel]
    M [filters, pixel, 16] += A^T B, for all filters (or many), then to their planes

A chunk's rows and 16 of its filters stay in the first-level cache, A and M in the second. With filters of one tap the
rows are A; and where they neither stride nor pad, A lies in x.
"""

from __future__ import annotations

from typing import NamedTuple

from convbench.algorithms.fused.lines import scatter, strided
from convbench.algorithms.gemm import panel_pairs
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Number, Pointer
from convbench.vector.coming import Coming, lines_of
from convbench.vector.taps import clear, columns_of
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.weights import BLOCK, LINE

FIELDS = (
    "x", "y", "w", "rooms", "counters", "table", "clocks",  # addresses
    "items", "groups", "shares", "share_panels", "panels",  # what is shared out: a group's panels of filters in shares
    "strips", "parts", "strip_rows", "part_columns", "out_rows", "out_columns",  # pixels: rows, or parts of one
    "image_bytes", "group_bytes", "plane_bytes", "height", "width", "stride_rows", "row_step", "reach",
    "pad", "pad_columns",
    "channels", "chunk", "taps", "filters", "panel_bytes", "filter_bytes",
    "line_bytes", "phase_bytes", "channel_bytes", "pitch",  # of the rows; of A
    "out_image_bytes", "out_channel_bytes", "block_bytes", "a_at", "m_at", "nowhere_at", "past",
    "pairs_at", "inverses_at", "chunk_pairs",  # in pairs: of A, in the scratch; of a chunk of a panel, bytes
)  # fmt: skip
PHASES = ("gather", "products", "output")


class Form(NamedTuple):
    """What the kernel is written for."""

    phases: tuple[int, ...]  # of the stride, those which taps meet
    step: int  # the stride along a row
    blocks: int  # of 16 filters, together in registers
    in_pairs: bool  # products as of panel_pairs.py
    one_tap: bool  # what comes is asked for (coming.py)
    dense: bool  # A lies in x


class Panel:
    """Which pixels and filters a thread works on."""

    def __init__(self, code: Code, f: Fields, item: Index) -> None:
        share, rest = item % f.shares, item // f.shares
        part, rest = rest % f.parts, rest // f.parts
        strip, rest = rest % f.strips, rest // f.strips
        self.group, self.image = rest % f.groups, rest // f.groups
        self.first_panel = share * f.share_panels
        self.panels = code.least(f.share_panels, f.panels - self.first_panel)
        self.first_row, self.first_column = strip * f.strip_rows, part * f.part_columns
        self.rows = code.least(f.strip_rows, f.out_rows - self.first_row)
        self.columns = code.least(f.part_columns, f.out_columns - self.first_column)
        self.begin = self.first_row * f.out_columns + self.first_column
        self.pixels = self.rows * self.columns  # next to each other, as parts of rows have one row
        self._fields = f

    def source(self, channel: Index, step: int) -> Pointer:
        """A channel's number that the first pixel's first tap meets; outside of x where that is padding."""
        f = self._fields
        x = f.pointer("x") + self.image * f.image_bytes + self.group * f.group_bytes + channel * f.plane_bytes
        row, column = self.first_row * f.stride_rows - f.pad, self.first_column * step - f.pad_columns
        return x + (row * f.width + column) * 4


def convolve(program: Program, code: Code, form: Form, clocked: bool) -> None:
    """The kernel."""
    place, thread, threads = code.arguments
    f, blocks = Fields(code, place, FIELDS), form.blocks
    scratch = f.room(thread)
    a, m = scratch + f.a_at, scratch + f.m_at
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    with shared_out(code, f.pointer("counters"), f.items, Team(thread, threads), wait=False) as item:
        panel, next_panel = Panel(code, f, item), Panel(code, f, code.least(item + 1, f.items - 1))
        with clock.phase(1):
            for i in code.range(panel.panels * blocks):
                clear(code, m + i * f.block_bytes, panel.pixels)
        for c in code.range(0, f.channels, f.chunk):
            channels = code.least(f.chunk, f.channels - c)
            rows = (panel.source(c, form.step), f.plane_bytes) if form.dense else (a, f.pitch)  # of A
            with clock.phase(0):
                if not form.dense:
                    gather(program, code, f, panel, form, (c, channels), (scratch, a))
                if form.in_pairs:
                    code.call(
                        program.function("pipiiipp", panel_pairs.scale), *rows,
                        a, f.pitch, channels * f.taps, panel.pixels, scratch + f.pairs_at, scratch + f.inverses_at,
                    )  # fmt: skip
            with clock.phase(1):
                coming = next_of(code, f, form, (panel, next_panel), c) if form.one_tap else None
                for i in code.range(panel.panels):
                    weights = f.pointer("w") + (panel.group * f.panels + panel.first_panel + i) * f.panel_bytes
                    b, into, depth = weights + c * f.filter_bytes, m + i * blocks * f.block_bytes, channels * f.taps
                    ahead = coming.share(i, panel.panels) if coming else ()
                    if not form.in_pairs:
                        made = columns_of(program, blocks, form.one_tap)
                        code.call(made, *rows, b, into, f.block_bytes, panel.pixels, depth, *ahead)
                        continue
                    pairs = weights + f.channels * f.filter_bytes + c // f.chunk * f.chunk_pairs
                    code.call(
                        panel_pairs.columns_of(program, blocks, form.one_tap),
                        a, f.pitch, b, pairs, weights + (f.panel_bytes - blocks * LINE), into, f.block_bytes,
                        panel.pixels, depth, scratch + f.pairs_at, scratch + f.inverses_at, *ahead,
                    )  # fmt: skip
        with clock.phase(2):
            for i in code.range(panel.panels * blocks):
                number = panel.first_panel * (blocks * BLOCK) + i * BLOCK
                channel = panel.group * f.filters + number
                code.call(
                    program.function("ppiiipi", write),
                    m + i * f.block_bytes,
                    f.pointer("y") + panel.image * f.out_image_bytes + channel * f.out_channel_bytes + panel.begin * 4,
                    f.out_channel_bytes, f.filters - number, panel.pixels, scratch + f.nowhere_at,
                    f.past,
                )  # fmt: skip
    code.fence()


def next_of(code: Code, f: Fields, form: Form, panels: tuple[Panel, Panel], c: Index) -> Coming:
    """What is gathered after the chunk of channels that begins with c: the next one's, or the next panel's first."""
    here, following = panels
    is_last = c + f.chunk >= f.channels
    place = code.builder.select(
        is_last, following.source(code.index(0), form.step).value, here.source(c + f.chunk, form.step).value
    )
    row, row_lines = f.stride_rows * f.width * 4, lines_of(here.columns, form.step)
    return Coming(Pointer(code, place), f.plane_bytes, row, row_lines, code.index(0), here.rows * row_lines)


def write(program: Program, code: Code) -> None:
    """Pixels of 16 channels to the channels' planes; arguments as of scatter."""
    lines, output, channel, channels, pixels, nowhere, past = code.arguments
    scatter(code, lines, output, channel, channels, pixels, nowhere, past)


def gather(
    program: Program, code: Code, f: Fields, panel: Panel, form: Form, chunk: tuple[Index, Index],
    where: tuple[Pointer, Pointer],
) -> None:  # fmt: skip
    """A of some channels: their rows, and from those each tap's pixels."""
    c, channels = chunk
    rows, a = where
    x = f.pointer("x") + panel.image * f.image_bytes + panel.group * f.group_bytes
    code.call(
        program.function("pipiiiiiiiiii", spread, form.phases, form.step),
        x + c * f.plane_bytes, f.plane_bytes, rows, f.channel_bytes, f.phase_bytes, f.line_bytes, channels,
        panel.first_row * f.stride_rows - f.pad, f.row_step, (panel.rows - 1) * (f.stride_rows // f.row_step) + f.reach,
        panel.first_column * form.step - f.pad_columns, f.height, f.width,
    )  # fmt: skip
    with code.when(f.taps >= 2):
        code.call(
            program.function("pipiipiiii", expand),
            rows, f.channel_bytes, f.pointer("table"), f.taps, channels, a, f.pitch,
            panel.rows, f.line_bytes * (f.stride_rows // f.row_step), panel.columns,
        )  # fmt: skip


def spread(program: Program, code: Code, phases: tuple[int, ...], step: int) -> None:
    """Rows of some channels as they lie in x, each phase of the stride by itself, zeros for padding.

    Arguments: x, its bytes from channel to channel; where to, bytes there from channel to channel, phase to phase, row
    to row; channels; the first row in x, rows in x from one to the next, how many; first column, height, width.
    """
    x, plane, into, channel, phase, line, channels, first, row_step, rows, start, height, width = code.arguments
    for c in code.range(channels):
        for i in code.range(rows):
            row = first + i * row_step
            inside = code.builder.and_(row >= 0, row < height)
            size = code.choose(inside, width, 0)
            for number, offset in enumerate(phases):
                begin = start + offset
                source = x + c * plane + code.choose(inside, row * width + begin, 0) * 4
                target = into + c * channel + phase * number + i * line
                copy_row(code, source, target, begin, size, step, line // 4)


def copy_row(code: Code, source: Pointer, target: Pointer, begin: Index, size: Index, step: int, count: Index) -> None:
    """Every step-th number from `source`, number `begin` of a row of `size`, zeros outside of it: count of them.

    They are written in full vectors. With no stride, what is not at an end of the row needs no mask.
    """
    lanes = code.lanes

    def masked(low: Number, high: Number) -> None:
        for i in code.range(low, high, lanes):
            (target + i * 4).store(strided(code, source + i * (4 * step), begin + i * step, size, step))

    if step > 1:
        masked(0, count)
        return
    low = (code.most(0, 0 - begin) + (lanes - 1)) // lanes * lanes
    low = code.least(low, (count + (lanes - 1)) // lanes * lanes)
    high = code.most(low, code.least(code.most(0, size - begin), count) // lanes * lanes)
    masked(0, low)
    for i in code.range(low, high, lanes):
        (target + i * 4).store((source + i * 4).load())
    masked(high, count)


def expand(program: Program, code: Code) -> None:
    """A [tap, pixel] from rows: each tap's pixels are next to each other in each row.

    Arguments: rows, their bytes from channel to channel, the table of taps (bytes from a channel's first row), taps,
    channels, A, its bytes from tap to tap, output rows, bytes between their rows, output columns.
    """
    rows, channel, table, taps, channels, a, pitch, count, line, columns = code.arguments
    for c in code.range(channels):
        for t in code.range(taps):
            source = rows + c * channel + (table + t * 8).integer()
            target = a + (c * taps + t) * pitch
            for i in code.range(count):
                for j in code.range(0, columns, code.lanes):  # what is too much is written over by the next row
                    (target + (i * columns + j) * 4).store((source + i * line + j * 4).load())
