"""direct.blocked on the CPU as vector code: a strip of an image's output rows for a block of 16 (or 32) filters.

Sums over `chunk` channels are made in registers, from x as it lies in memory, and joined in M [pixel, 16], which stays
in the first-level cache as the chunk's filters do. When all channels are through M is written to the channels' planes.
What the padding would add is left out: by rows of taps (a table says which each output row has), and by taps in a row.
"""

from __future__ import annotations

from convbench.algorithms.direct.rows import Run
from convbench.algorithms.fused.lines import scatter
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.taps import clear, columns_of, lone_pixel_of, tile_of
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.weights import BLOCK, LINE

FIELDS = (
    "x", "y", "w", "rooms", "counters", "rows_table", "columns_table", "clocks",  # addresses
    "items", "groups", "panels", "strips", "panels_first",  # what is shared out; whether panels are neighbours
    "image_bytes", "group_bytes", "plane_bytes", "row_bytes",  # of x; row_bytes: from a row of taps to the next
    "channels", "chunk", "filters", "panel_bytes", "filter_bytes",  # of a group; filter_bytes: a channel's in a panel
    "out_rows", "out_columns", "strip_rows", "pixels", "out_image_bytes", "out_channel_bytes",
    "block_bytes", "nowhere_at", "past",
)  # fmt: skip
PHASES = ("products", "output")
ROW_BYTES, COLUMN_BYTES = 24, 16  # of an entry in the tables


def convolve(
    program: Program, code: Code, runs: tuple[Run, ...], taps: int, steps: tuple[int, int], blocks: int,
    by_rows: bool, clocked: bool,
) -> None:  # fmt: skip
    """The kernel. No runs: filters of one tap, a strip is any pixels in a row."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    m = f.room(thread)
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    with shared_out(code, f.pointer("counters"), f.items, Team(thread, threads), wait=False) as item:
        inner = code.choose(f.panels_first.is_equal(1), f.panels, f.strips)
        a, rest = item % inner, item // inner
        outer = code.choose(f.panels_first.is_equal(1), f.strips, f.panels)
        b, rest = rest % outer, rest // outer
        panel = code.choose(f.panels_first.is_equal(1), a, b)
        first = code.choose(f.panels_first.is_equal(1), b, a) * f.strip_rows
        group, n = rest % f.groups, rest // f.groups
        rows = code.least(f.strip_rows, f.out_rows - first)
        begin = first * f.out_columns
        pixels = code.least(rows * f.out_columns, f.pixels - begin)
        x = f.pointer("x") + n * f.image_bytes + group * f.group_bytes
        w = f.pointer("w") + (group * f.panels + panel) * f.panel_bytes
        with clock.phase(0):
            for block in range(blocks):
                clear(code, m + f.block_bytes * block, pixels)
            for c in code.range(0, f.channels, f.chunk):
                channels = code.least(f.chunk, f.channels - c)
                start, weights = x + c * f.plane_bytes, w + c * f.filter_bytes
                if not runs:
                    code.call(
                        columns_of(program, blocks), start + begin * 4, f.plane_bytes, weights, m, f.block_bytes,
                        pixels, channels,
                    )  # fmt: skip
                    continue
                for i in code.range(rows):
                    code.call(
                        program.function("piipiippip", row, runs, taps, steps, blocks, by_rows),
                        start, f.plane_bytes, f.row_bytes, weights, f.filter_bytes, channels,
                        f.pointer("rows_table") + (first + i) * ROW_BYTES, m + i * f.out_columns * LINE, f.block_bytes,
                        f.pointer("columns_table"),
                    )  # fmt: skip
        with clock.phase(1):
            _write(code, f, m, blocks, (n, group, panel, begin, pixels))
    code.fence()


def _write(code: Code, f: Fields, m: Pointer, blocks: int, where: tuple[Index, Index, Index, Index, Index]) -> None:
    """M to the planes of its channels."""
    n, group, panel, begin, pixels = where
    for block in range(blocks):
        number = panel * (blocks * BLOCK) + block * BLOCK
        output = f.pointer("y") + n * f.out_image_bytes + (group * f.filters + number) * f.out_channel_bytes + begin * 4
        scatter(
            code, m + f.block_bytes * block, output, f.out_channel_bytes, f.filters - number, pixels, m + f.nowhere_at,
            f.past,
        )  # fmt: skip


def row(
    program: Program, code: Code, runs: tuple[Run, ...], taps: int, steps: tuple[int, int], blocks: int, by_rows: bool
) -> None:
    """Some channels' share of a row of output pixels, added to M.

    Arguments: x, its bytes from channel to channel and from one row of taps to the next, filters, their bytes from
    channel to channel, channels, the row's entry in its table (bytes from x to the first pixel and tap, bytes of the
    filters' rows left out, rows of taps), M, its bytes from block to block, the table of pixels (first tap, taps).
    """
    x, plane, between, w, filters, channels, entry, m, block_bytes, pixels = code.arguments
    line = x + entry.integer()
    weights = w + (entry + 8).integer()
    rows = (entry + 16).integer()
    with code.when(rows >= 1):
        for run in runs:
            for i in code.range(run.count):
                pixel = run.first + i * run.pixels
                place, into = line + pixel * steps[0], m + pixel * LINE
                if run.spans is not None:
                    code.call(
                        tile_of(program, run.pixels, run.spans, steps, blocks, by_rows),
                        place, plane, between, weights, filters, channels, rows, into, block_bytes,
                    )  # fmt: skip
                    continue
                first = (pixels + pixel * COLUMN_BYTES).integer()
                code.call(
                    lone_pixel_of(program, steps[1], blocks),
                    place + first * steps[1], plane, between, weights + first * (blocks * LINE), filters, channels,
                    rows, into, block_bytes, (pixels + pixel * COLUMN_BYTES + 8).integer(), taps * blocks * LINE,
                )  # fmt: skip
