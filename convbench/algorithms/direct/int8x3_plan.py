"""direct.int8x3, planned: taps in fours, strips of rows, shares of filters, and the filters as digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from convbench.algorithms.base import Plan, Unsupported
from convbench.algorithms.compiled import plan_of
from convbench.algorithms.direct.int8x3_kernel import FIELDS, PHASES, TOGETHER, convolve
from convbench.algorithms.fused.plan import odd_lines
from convbench.algorithms.gemm.int8x3_plan import shares_of, up_to
from convbench.algorithms.gemm.packed import as_seen, even_parts
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector import digits
from convbench.vector.build import address_of
from convbench.vector.digits import DIGITS, MOST_DEPTH
from convbench.vector.lines import TAIL, TAPS
from convbench.vector.room import Rooms
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL
from convbench.vector.tiles import FOUR, ROWS
from convbench.vector.weights import BLOCK, LINE

CACHE_PART = 0.25  # of the second-level cache, for a panel's lines: x and y pass beside them

Tap = tuple[int, int, int]  # row of a group, channel, column of the filter


class Window:
    """What a pixel sees: groups of rows, and the taps of a group in fours, in the order of its lines.

    A group has the stride's rows, so that the next output row begins with the next group; or all of a window, where
    its rows do not follow one another.
    """

    def __init__(self, s: ConvShape) -> None:
        channels = s.c // s.groups
        shared = s.dilation[0] == 1 and s.stride[0] < s.r
        self.rows = s.stride[0] if shared else s.r  # of a group
        self.row_step = s.dilation[0]
        self.groups = -(-s.r // self.rows)
        self.fours: list[list[Tap]] = []
        waiting: list[Tap] = []
        # Where the stride is four, four taps side by side are for each pixel behind those for the pixel before.
        whole = s.s // FOUR if s.stride[1] == FOUR and s.dilation[1] == 1 else 0
        for r in range(self.rows):  # in this order, so that a last group of fewer rows has its fours in front
            for c in range(channels):
                for column in range(FOUR * whole, s.s):
                    waiting.append((r, c, column))
                    if len(waiting) == FOUR:
                        self.fours.append(waiting)
                        waiting = []
            self.fours += [[(r, c, FOUR * j + k) for k in range(FOUR)] for c in range(channels) for j in range(whole)]
        self.fours += [waiting] * bool(waiting)
        last = s.r - (self.groups - 1) * self.rows
        needed = 1 + max(i for i, four in enumerate(self.fours) if any(r < last for r, _, _ in four))
        self.lines = (self.groups - 1) * len(self.fours) + needed

    @property
    def steps(self) -> int:
        """Of 16 lines."""
        return -(-self.lines // ROWS)


@dataclass(frozen=True)
class Cut:
    """How the work is cut up."""

    shape: ConvShape  # as it is seen
    rows: int  # of a panel of pixels
    columns: int  # of them: all, or parts of one row
    share: int  # panels of 16 filters of a group that meet a panel of pixels in one go
    panels: int  # of a group

    @property
    def tail_rows(self) -> int:
        """Rows whose last pixels share a tile, as many as there is room for: 1, 2, 4, 8 or 16."""
        tail = self.shape.q % ROWS if self.columns == self.shape.q else 0
        return 1 << (ROWS // tail).bit_length() - 1 if tail else 1

    @property
    def tiles(self) -> int:
        """Of 16 pixels, of a group of an image."""
        s = self.shape
        full, last = divmod(s.p, self.rows)
        if self.tail_rows > 1:
            tails = full * -(-self.rows // self.tail_rows) + -(-last // self.tail_rows)
            return s.p * (s.q // ROWS) + tails
        return s.p * -(-s.q // ROWS)


def cut_up(s: ConvShape, core_cache: int, threads: int) -> Cut:
    """The rule: panels of pixels whose lines fill CACHE_PART; then shares of filters, so that all threads have some.

    A panel's pixels share a scale, so which they are does not depend on the number of threads.
    """
    s = as_seen(s)
    window, room = Window(s), int(CACHE_PART * core_cache)
    group = DIGITS * len(window.fours)
    most = max(1, room // (group * window.groups * FOUR * ROWS)) * ROWS
    columns = s.q if s.q <= most else up_to(ROWS, even_parts(s.q, most))
    fitting = room // (len(window.fours) * (line_bytes(columns) + TAIL)) - (window.groups - 1)
    rows = even_parts(s.p, fitting) if columns == s.q else 1
    panels = -(-s.k // s.groups // BLOCK)
    items = s.n * s.groups * -(-s.p // rows) * -(-s.q // columns)
    pairs = -(-panels // TOGETHER)
    return Cut(s, rows, columns, TOGETHER * -(-pairs // shares_of(items, pairs, threads)), panels)


def line_bytes(columns: int) -> int:
    """Of a line of the tiles that are full, all digits."""
    return odd_lines(DIGITS * FOUR * (columns // ROWS * ROWS))


def layout(cut: Cut, window: Window) -> dict[str, int]:
    """Of lines, of the digits that they are made of, and of a thread's scratch, as fields of the kernel."""
    s, (_, uw), (dh, dw) = cut.shape, cut.shape.stride, cut.shape.dilation
    pixels, fours = up_to(ROWS, cut.columns), len(window.fours)
    line = line_bytes(cut.columns)
    lines = (cut.rows + window.groups - 1) * fours + ROWS  # a last step may have too many
    reach = (s.s - 1) * dw + 1
    near = odd_lines(reach + pixels * uw + LINE)
    near_digit = odd_lines(window.rows * s.c // s.groups * near + LINE)
    fields, at = {}, lines * line
    for name, size in {
        "tails_at": lines * TAIL, "factor_at": 2 * LINE, "held_at": LINE, "near_at": DIGITS * near_digit
    }.items():  # fmt: skip
        fields[name] = at
        at += size
    return fields | {
        "scratch_bytes": odd_lines(at), "fours": fours,
        "line_bytes": line, "digit_bytes": FOUR * (cut.columns // ROWS * ROWS),
        "near_bytes": near, "near_digit_bytes": near_digit, "steps": window.steps,
        "reach_rows": (s.r - 1) * dh + 1, "reach_columns": reach,
        "rows": window.rows, "row_step": window.row_step, "more": window.groups - 1,
    }  # fmt: skip


def plan(problem: Problem, device: Device, target: Target | None = None) -> Plan:
    """The plan around the kernel, on the target's tiles or, where it has none, on the same in memory."""
    target = target or host()
    cut = cut_up(problem.shape, device.core_cache_bytes, device.threads)
    s, channels, filters = cut.shape, cut.shape.c // cut.shape.groups, cut.shape.k // cut.shape.groups
    window = Window(s)
    if FOUR * window.lines > MOST_DEPTH:
        raise Unsupported(f"sums of {FOUR * window.lines} products: 32 bits hold those of {MOST_DEPTH}")
    fields = layout(cut, window)
    strips, parts, shares = -(-s.p // cut.rows), -(-s.q // cut.columns), -(-cut.panels // cut.share)
    pointwise = (s.r, s.s, s.pad) == (1, 1, (0, 0)) and s.stride[1] <= 2
    rooms = Rooms(device, 0, fields.pop("scratch_bytes"))
    values = {
        "table": table_of(device.xp, s, window, fields["near_bytes"]),
        "items": s.n * s.groups * strips * parts * shares, "groups": s.groups,
        "shares": shares, "share_panels": cut.share, "panels": cut.panels,
        "strips": strips, "parts": parts, "strip_rows": cut.rows, "part_columns": cut.columns,
        "out_rows": s.p, "out_columns": s.q,
        "image_bytes": 4 * s.c * s.h * s.w, "group_bytes": 4 * channels * s.h * s.w,
        "plane_bytes": 4 * s.h * s.w, "height": s.h, "width": s.w,
        "stride_rows": s.stride[0], "stride_columns": s.stride[1], "pad": s.pad[0], "pad_columns": s.pad[1],
        "channels": channels, "filters": filters, "panel_bytes": panel_bytes(window),
        "tail_rows": cut.tail_rows,
        "out_image_bytes": 4 * s.k * s.p * s.q, "out_channel_bytes": 4 * s.p * s.q,
    }  # fmt: skip
    return plan_of(
        device, FIELDS, values | fields, PHASES,
        lambda clocked: address_of(KERNEL, convolve, s.stride[1], pointwise, clocked, target=target),
        partial(packed_filters, device, s, window),
        f"numbers as three bytes; strips of {cut.rows} rows",
        2 * s.n * cut.tiles * ROWS * window.steps * ROWS * FOUR * s.groups * cut.panels * BLOCK,
        rooms,
    )  # fmt: skip


def table_of(xp: Any, s: ConvShape, window: Window, near_bytes: int) -> Any:
    """Of each four what vector/lines.py asks for. [fours, TAPS / 8]

    Where its taps' digits lie; or, if they are two runs side by side, where the first run's begin, and where four end
    with the last one's: and then 1, and the bytes that are the first run's.
    """
    channels, dw = s.c // s.groups, s.dilation[1]
    table = xp.zeros((len(window.fours), TAPS // 8), xp.int64)
    for i, four in enumerate(window.fours):
        places = [(r * channels + c) * near_bytes + column * dw for r, c, column in four]
        while len(places) < FOUR:  # what fills up a last four has weights of zero
            places.append(places[-1] + 1)
        breaks = [k for k in range(1, FOUR) if places[k] != places[k - 1] + 1]
        if len(breaks) > 1:
            table[i, :FOUR] = places
        else:
            first = breaks[0] if breaks else FOUR
            table[i, [0, 1, FOUR, FOUR + 1]] = places[0], places[-1] - (FOUR - 1), 1, (1 << 8 * first) - 1
    return table


def panel_bytes(window: Window) -> int:
    """Of 16 filters: their scales, and their digits."""
    return digits.panel_bytes(FOUR * ROWS * window.steps)


def packed_filters(device: Device, s: ConvShape, window: Window, w: Any) -> Any:
    """Filters as digits [groups, panels] scales, [step] [digit] [filter] [16 lines, 4], zeros for what is no tap."""
    xp, filters, channels = device.xp, s.k // s.groups, s.c // s.groups
    panels, fours = -(-filters // BLOCK), len(window.fours)
    flat = w.reshape(s.groups, filters, -1)
    taps, rows = [], []  # which tap of a filter is which row of the depth
    for line in range(window.lines):
        for k, (r, c, column) in enumerate(window.fours[line % fours]):
            row = line // fours * window.rows + r
            if row < s.r:
                taps.append((c * s.r + row) * s.s + column)
                rows.append(FOUR * line + k)
    assert len(taps) == channels * s.r * s.s
    out = device.empty((s.groups, panels, panel_bytes(window) // 4), "float32").view(xp.uint8)

    def one(item: int, thread: int) -> None:
        group, panel = divmod(item, panels)
        part = flat[group, panel * BLOCK : (panel + 1) * BLOCK]
        depth = xp.zeros((FOUR * ROWS * window.steps, len(part)), "float32")
        depth[rows] = part[:, taps].T
        digits.pack(xp, depth, out[group, panel])
        tiles = out[group, panel, LINE:].reshape(window.steps, DIGITS, ROWS, BLOCK, FOUR)
        turned = tiles.swapaxes(2, 3).copy()
        out[group, panel, LINE:] = turned.reshape(-1)

    device.parallel(one, s.groups * panels)
    return out
