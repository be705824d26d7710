"""gemm.int8x3's kernel: im2col of a panel of pixels, as digits (vector/windows.py), times filters kept as digits.

    x -> digits -> A, a row for each pixel's window
    C [pixel, 16 filters] = A times a panel of filters, then to the filters' planes

Pixels of one image share a scale within a panel. Small images fill a panel together. A fully connected layer's rows are
x's own. What a thread has made digits of stays while it multiplies it by several shares of the filters.
"""

from __future__ import annotations

from convbench.algorithms.gemm.kernel import Panel, write
from convbench.vector import digits, windows
from convbench.vector.build import Program
from convbench.vector.clock import CLOCK_BYTES, Clock
from convbench.vector.code import Code, Index, Pointer
from convbench.vector.team import Fields, Team, shared_out
from convbench.vector.tiles import tiles_of
from convbench.vector.weights import BLOCK, LINE

FIELDS = (
    "x", "y", "w", "rooms", "counters", "clocks",  # addresses
    "items", "groups", "shares", "share_panels", "panels",  # what is shared out: a group's panels of filters in shares
    "strips", "parts", "strip_rows", "part_columns", "out_rows", "out_columns",  # pixels: rows, or parts of one
    "images", "set_images",  # of a panel of pixels
    "image_bytes", "group_bytes", "plane_bytes", "height", "width",
    "stride_rows", "stride_columns", "pad", "pad_columns", "reach_rows", "reach_columns",  # reach: of a window
    "row_step", "stride_lines",  # rows of x from line to line of its digits; lines from output row to output row
    "line_bytes", "pixel_bytes", "digit_bytes", "row_bytes",  # of the digits of x; of a row of A
    "window_lines", "window_line_bytes", "runs", "run_bytes", "run_length",  # of a window: runs of bytes
    "channels", "steps", "filters", "panel_bytes", "tile_bytes", "tile_rows",
    "out_image_bytes", "out_channel_bytes", "past",
    "c_at", "scales_at", "factor_at", "held_at", "nowhere_at", "row_at", "a_at",  # in the scratch, behind x's digits
)  # fmt: skip
PHASES = ("digits", "products", "output")


class Set(Panel):
    """Which pixels, of one image or several, and filters a thread works on."""

    def __init__(self, code: Code, f: Fields, item: Index) -> None:
        super().__init__(code, f, item)
        self.number = item // f.shares
        self.first_image = self.image * f.set_images
        self.images = code.least(f.set_images, f.images - self.first_image)
        self.seen = self.images * self.pixels


def multiply(program: Program, code: Code, few: int, in_lines: bool, slides: bool, clocked: bool) -> None:
    """The kernel. few: as of windows.turn; in_lines: by gather_lines; slides: it is no fully connected layer."""
    place, thread, threads = code.arguments
    f = Fields(code, place, FIELDS)
    scratch = f.room(thread)
    held, c = scratch + f.held_at, scratch + f.c_at
    clock = Clock(code, f.pointer("clocks") + thread * CLOCK_BYTES, clocked)
    tiles = tiles_of(code, program.target, rows=f.tile_rows)
    tiles.begin()
    held.set_integer(-1)
    with shared_out(code, f.pointer("counters"), f.items, Team(thread, threads), wait=False) as item:
        panel = Set(code, f, item)
        with code.when(code.builder.not_(held.integer().is_equal(panel.number))), clock.phase(0):
            held.set_integer(panel.number)
            if slides:
                stretch(program, code, f, panel, few, in_lines, scratch)
            else:
                copy(program, code, f, panel, scratch)
        weights = f.pointer("w") + (panel.group * f.panels + panel.first_panel) * f.panel_bytes
        for i in code.range(panel.panels):
            following = code.choose(i + 1 < panel.panels, i + 1, 0)
            with clock.phase(1):
                code.call(
                    program.function("pippp" + "iiip", digits.product),
                    scratch + f.a_at, f.tile_bytes, scratch + f.scales_at, weights + i * f.panel_bytes, c,
                    panel.seen, f.tile_rows, f.steps, weights + following * f.panel_bytes,
                )  # fmt: skip
            with clock.phase(2):
                number = (panel.first_panel + i) * BLOCK
                (to_planes if slides else to_rows)(program, code, f, panel, number, scratch)
    tiles.end()
    code.fence()


def measure_seen(program: Program, code: Code, f: Fields, panel: Panel, x: Pointer, factor: Pointer) -> None:
    """Factor and scale of an image's numbers in the rows that a panel sees; of a single row, in the columns it sees."""

    def seen(first: Index, outputs: Index, stride: Index, pad: Index, reach: Index, size: Index) -> tuple[Index, Index]:
        begin = first * stride - pad
        low = code.least(code.most(begin, 0), size)
        return low, code.most(code.least(begin + (outputs - 1) * stride + reach, size) - low, 0)

    row, rows = seen(panel.first_row, panel.rows, f.stride_rows, f.pad, f.reach_rows, f.height)
    column, columns = seen(
        panel.first_column, panel.columns, f.stride_columns, f.pad_columns, f.reach_columns, f.width
    )  # fmt: skip
    single = rows.is_equal(1)
    code.call(
        program.function("piiip", digits.measure),
        x + (row * f.width + code.choose(single, column, 0)) * 4, f.plane_bytes, f.channels,
        code.choose(single, columns, rows * f.width), factor,
    )  # fmt: skip


def stretch(program: Program, code: Code, f: Fields, panel: Set, few: int, in_lines: bool, scratch: Pointer) -> None:
    """Rows of A for all images' pixels, each image with its own scale: that of the rows of x which they see."""
    factor = scratch + f.factor_at
    begin, start = panel.first_row * f.stride_rows - f.pad, panel.first_column * f.stride_columns - f.pad_columns
    lines = (panel.rows - 1) * f.stride_lines + (f.reach_rows - 1) // f.row_step + 1
    for i in code.range(panel.images):
        x = f.pointer("x") + (panel.first_image + i) * f.image_bytes + panel.group * f.group_bytes
        measure_seen(program, code, f, panel, x, factor)
        for p in code.range(0, panel.pixels, code.lanes):
            (scratch + f.scales_at + (i * panel.pixels + p) * 4).store((factor + LINE).load())
        for line in code.range(lines):
            row = begin + line * f.row_step
            inside = code.builder.and_(row >= 0, row < f.height)
            code.call(
                program.function("piiiii" + "ppi", windows.turn, few),
                x + code.choose(inside, row, 0) * f.width * 4, f.plane_bytes, code.choose(inside, f.width, 0), start,
                (panel.columns - 1) * f.stride_columns + f.reach_columns, f.channels,
                factor, scratch + line * f.line_bytes, f.digit_bytes,
            )  # fmt: skip
        for row in code.range(panel.rows):
            window = (
                scratch + row * f.stride_lines * f.line_bytes, f.digit_bytes, f.stride_columns * f.pixel_bytes,
                f.window_lines, f.window_line_bytes, f.runs, f.run_bytes, f.run_length, panel.columns,
                i * panel.pixels + row * panel.columns, scratch + f.a_at, f.tile_bytes,
            )  # fmt: skip
            if in_lines:
                code.call(program.function("piiiiiiiiipi", windows.gather_lines), *window)
            else:
                room = (f.steps, scratch + f.row_at, f.row_bytes)
                code.call(program.function("piiiiiiiiipi" + "ipi", windows.gather_bytes), *window, *room)


def copy(program: Program, code: Code, f: Fields, panel: Set, scratch: Pointer) -> None:
    """Digits of all images' numbers: a row each."""
    factor = scratch + f.factor_at
    for i in code.range(panel.images):
        x = f.pointer("x") + (panel.first_image + i) * f.image_bytes + panel.group * f.group_bytes
        code.call(program.function("piiip", digits.measure), x, 0, 1, f.channels, factor)
        (scratch + f.scales_at + i * 4).store((factor + LINE).load())
        into = digits.line_of(scratch + f.a_at, i, f.tile_bytes)
        code.call(program.function("ppipi", digits.split), x, factor, f.channels, into, f.steps)


def to_planes(program: Program, code: Code, f: Fields, panel: Set, number: Index, scratch: Pointer) -> None:
    """C of the 16 filters from a number of the group on, to their planes."""
    for i in code.range(panel.images):
        y = f.pointer("y") + (panel.first_image + i) * f.out_image_bytes
        code.call(
            program.function("ppiiipi", write),
            scratch + f.c_at + i * panel.pixels * LINE,
            y + (panel.group * f.filters + number) * f.out_channel_bytes + panel.begin * 4,
            f.out_channel_bytes, f.filters - number, panel.pixels, scratch + f.nowhere_at, f.past,
        )  # fmt: skip


def to_rows(program: Program, code: Code, f: Fields, panel: Set, number: Index, scratch: Pointer) -> None:
    """C of the same filters, to each image's row."""
    for i in code.range(panel.images):
        y = f.pointer("y") + (panel.first_image + i) * f.out_image_bytes + (panel.group * f.filters + number) * 4
        for j in range(0, BLOCK, code.lanes):
            value = (scratch + f.c_at + (i * LINE + j * 4)).load()
            (y + j * 4).store(value, code.within(j, f.filters - number))
