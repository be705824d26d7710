"""gemm.panel on the CPU as vector code: im2col of a panel of pixels, some channels at a time, times packed filters.

    x -> rows [channel, phase of the stride, row] with the padding written out -> A [tap, pixel]
    M [filters, pixel, 16] += A^T B, for all filters (or many), then to their planes

A chunk's rows and 16 of its filters stay in the first-level cache, A and M in the second. With filters of one tap the
rows are A.
"""

from __future__ import annotations

from convbench.algorithms.fused.lines import scatter, strided
from convbench.algorithms.gemm import panel_pairs
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Number, Pointer
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


def convolve(
    program: Program, code: Code, phases: tuple[int, ...], step: int, blocks: int, in_pairs: bool, clocked: bool
) -> None:
    """The kernel. phases: of the stride (step), those which taps meet; in_pairs: products as of panel_pairs.py."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    scratch = f.room(thread)
    a, m = scratch + f.a_at, scratch + f.m_at
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    with shared_out(code, f.pointer("counters"), f.items, Team(thread, threads), wait=False) as item:
        panel = Panel(code, f, item)
        with clock.phase(1):
            for i in code.range(panel.panels * blocks):
                clear(code, m + i * f.block_bytes, panel.pixels)
        for c in code.range(0, f.channels, f.chunk):
            channels = code.least(f.chunk, f.channels - c)
            with clock.phase(0):
                gather(program, code, f, panel, (phases, step), (c, channels), (scratch, a))
                if in_pairs:
                    code.call(
                        program.function("piiipp", panel_pairs.scale),
                        a, f.pitch, channels * f.taps, panel.pixels, scratch + f.pairs_at, scratch + f.inverses_at,
                    )  # fmt: skip
            with clock.phase(1):
                for i in code.range(panel.panels):
                    weights = f.pointer("w") + (panel.group * f.panels + panel.first_panel + i) * f.panel_bytes
                    b, into, depth = weights + c * f.filter_bytes, m + i * blocks * f.block_bytes, channels * f.taps
                    if not in_pairs:
                        made = columns_of(program, blocks)
                        code.call(made, a, f.pitch, b, into, f.block_bytes, panel.pixels, depth)
                        continue
                    pairs = weights + f.channels * f.filter_bytes + c // f.chunk * f.chunk_pairs
                    code.call(
                        program.function("pipppp" + "iiipp", panel_pairs.columns, blocks),
                        a, f.pitch, b, pairs, weights + (f.panel_bytes - blocks * LINE), into, f.block_bytes,
                        panel.pixels, depth, scratch + f.pairs_at, scratch + f.inverses_at,
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


def write(program: Program, code: Code) -> None:
    """Pixels of 16 channels to the channels' planes; arguments as of scatter."""
    lines, output, channel, channels, pixels, nowhere, past = code.arguments
    scatter(code, lines, output, channel, channels, pixels, nowhere, past)


def gather(
    program: Program, code: Code, f: Fields, panel: Panel, steps: tuple[tuple[int, ...], int],
    chunk: tuple[Index, Index], where: tuple[Pointer, Pointer],
) -> None:  # fmt: skip
    """A of some channels: their rows, and from those each tap's pixels."""
    c, channels = chunk
    rows, a = where
    x = f.pointer("x") + panel.image * f.image_bytes + panel.group * f.group_bytes
    code.call(
        program.function("pipiiiiiiiiii", spread, *steps),
        x + c * f.plane_bytes, f.plane_bytes, rows, f.channel_bytes, f.phase_bytes, f.line_bytes, channels,
        panel.first_row * f.stride_rows - f.pad, f.row_step, (panel.rows - 1) * (f.stride_rows // f.row_step) + f.reach,
        panel.first_column * steps[1] - f.pad_columns, f.height, f.width,
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
