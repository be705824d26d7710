"""direct.int8x3's kernel: filters slide over x, whose digits lie such that tiles read 16 pixels of four taps at once.

    x [channel] [row, column] -> digits [digit] [row, channel] [column] of a group of rows, padding written out
      -> lines [group, four taps] [digit] [pixel of an output row, 4]                         (vector/lines.py)
    y [16 filters] [16 pixels of a row] = filters [16] [taps] times lines, from its first group on  (int8x3_slide.py)

A group has as many rows as the stride says, and lines for all taps that may meet them. So a row's window are lines that
follow one another, and the next row's begin a group later: taps along y need no copy, those along x do. That is the
lowering of Cho and Brand (MEC, ICML 2017), turned so that pixels lie side by side.
"""

from __future__ import annotations

from convbench.algorithms.direct.int8x3_slide import slide
from convbench.algorithms.gemm.int8x3_kernel import measure_seen
from convbench.algorithms.gemm.kernel import Panel
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Pointer
from convbench.vector.lines import TAIL, digits_of_row, fours_of_channels, fours_of_taps
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.tiles import tiles_of
from convbench.vector.weights import BLOCK, LINE

FIELDS = (
    "x", "y", "w", "rooms", "counters", "table", "clocks",  # addresses
    "items", "groups", "shares", "share_panels", "panels",  # what is shared out: a group's panels of filters in shares
    "strips", "parts", "strip_rows", "part_columns", "out_rows", "out_columns",  # pixels: rows, or parts of one
    "image_bytes", "group_bytes", "plane_bytes", "height", "width",
    "stride_rows", "stride_columns", "pad", "pad_columns", "reach_rows", "reach_columns",  # reach: of a window
    "rows", "row_step", "more",  # of a group of rows of x; groups that a window has beside its first
    "channels", "near_bytes", "near_digit_bytes",  # of the digits of a group's rows
    "fours", "line_bytes", "digit_bytes",  # of the lines of a group
    "steps", "filters", "panel_bytes",
    "tail_rows",  # of y, whose last pixels share a tile
    "out_image_bytes", "out_channel_bytes", "tails_at", "near_at", "factor_at", "held_at",
)  # fmt: skip
PHASES = ("digits", "products")
TOGETHER = 2  # panels of filters that meet a tile of pixels


def convolve(program: Program, code: Code, step: int, pointwise: bool, clocked: bool) -> None:
    """The kernel. step: the stride along a row; pointwise: filters have one tap, and no pixel sees padding."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    scratch = f.room(thread)
    held, scale = scratch + f.held_at, scratch + f.factor_at + LINE
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    tiles_of(code, program.target).begin()
    held.set_integer(-1)
    with shared_out(code, f.pointer("counters"), f.items, Team(thread, threads), wait=False) as item:
        panel = Panel(code, f, item)
        number = item // f.shares  # what a thread has made lines of stays for the next share of the filters
        with code.when(code.builder.not_(held.integer().is_equal(number))), clock.phase(0):
            held.set_integer(number)
            lines_of(program, code, f, panel, step, pointwise, scratch)
        weights = f.pointer("w") + (panel.group * f.panels + panel.first_panel) * f.panel_bytes
        with clock.phase(1):
            for i in code.range(0, panel.panels, TOGETHER):
                first = (panel.first_panel + i) * BLOCK
                y = f.pointer("y") + panel.image * f.out_image_bytes + panel.begin * 4
                with code.cases(code.least(panel.panels - i, TOGETHER), range(1, TOGETHER + 1)) as cases:
                    for some in cases:
                        code.call(
                            program.function("piiii" + "piip" + "piiii" + "pi", slide, some),
                            scratch, f.digit_bytes, f.line_bytes, f.fours, f.steps,
                            weights + i * f.panel_bytes, f.panel_bytes, f.filters - first, scale,
                            y + (panel.group * f.filters + first) * f.out_channel_bytes, f.out_channel_bytes,
                            f.out_columns * 4, panel.rows, panel.columns,
                            scratch + f.tails_at, f.tail_rows,
                        )  # fmt: skip
    tiles_of(code, program.target).end()
    code.fence()


def lines_of(
    program: Program, code: Code, f: Fields, panel: Panel, step: int, pointwise: bool, scratch: Pointer
) -> None:  # fmt: skip
    """Lines of all groups of rows that a panel's pixels see, whose numbers share a scale."""
    near, factor = scratch + f.near_at, scratch + f.factor_at
    x = f.pointer("x") + panel.image * f.image_bytes + panel.group * f.group_bytes
    begin, start = panel.first_row * f.stride_rows - f.pad, panel.first_column * f.stride_columns - f.pad_columns
    measure_seen(program, code, f, panel, x, factor)
    columns = (panel.columns - 1) * f.stride_columns + f.reach_columns
    for group in code.range(panel.rows + f.more):
        into = (
            scratch + group * f.fours * f.line_bytes, f.line_bytes, f.digit_bytes,
            scratch + f.tails_at + group * f.fours * TAIL, code.least(f.tail_rows, group + 1), f.fours * TAIL,
            code.index(BLOCK) // f.tail_rows,
        )  # fmt: skip
        if pointwise:
            code.call(
                program.function("piiip" + "pii" + "piii", fours_of_channels, step),
                x + ((begin + group * f.stride_rows) * f.width + start) * 4, f.plane_bytes, f.channels, panel.columns,
                factor, *into,
            )  # fmt: skip
            continue
        for r in code.range(f.rows):
            row = begin + group * f.stride_rows + r * f.row_step
            inside = code.builder.and_(row >= 0, row < f.height)
            code.call(
                program.function("piiiiippii", digits_of_row),
                x + code.choose(inside, row, 0) * f.width * 4, f.plane_bytes, f.channels,
                code.choose(inside, f.width, 0), start, columns,
                factor, near + r * f.channels * f.near_bytes, f.near_bytes, f.near_digit_bytes,
            )  # fmt: skip
        code.call(
            program.function("pipii" + "pii" + "piii", fours_of_taps, step),
            near, f.near_digit_bytes, f.pointer("table"), f.fours, panel.columns, *into,
        )  # fmt: skip
