"""gemm.int8x3, planned: windows as runs of bytes, panels of pixels, shares of filters, and the filters as digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import gcd
from typing import Any

from convbench.algorithms.base import Plan, Unsupported
from convbench.algorithms.compiled import plan_of
from convbench.algorithms.fused.lines import past_caches
from convbench.algorithms.gemm.int8x3_kernel import FIELDS, PHASES, multiply
from convbench.algorithms.gemm.packed import as_seen, even_parts
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector import digits
from convbench.vector.build import address_of
from convbench.vector.digits import DIGITS, MOST_DEPTH, STEP, STEP_BYTES
from convbench.vector.room import Rooms
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL
from convbench.vector.tiles import FOUR, ROWS
from convbench.vector.weights import BLOCK, LINE

CACHE_PART = 0.5  # of the second-level cache, for a panel's rows of A
LEAST_PIXELS = 64  # of a panel, where there are so many, however deep: with fewer, products wait for filters
MOST_FILLED = 1.125  # what whole lines may add to the depth: products cost more than copying bytes does
EVEN = 1.15  # the work of the busiest thread, over an even share, at most, where shares of filters can make it so
MOST_SHARES = 16  # of them


def up_to(multiple: int, count: int) -> int:
    """The next multiple."""
    return -(-count // multiple) * multiple


class Window:
    """What a pixel of the output sees of a digit of x [line, pixel, channel], as runs of bytes in a row of A."""

    def __init__(self, s: ConvShape) -> None:
        channels = s.c // s.groups
        self.few = channels if channels < FOUR and not s.is_matrix_product else 0
        self.pixel = self.few or up_to(FOUR, channels)  # bytes
        together = s.s if s.dilation[1] == 1 else 1  # taps of a line that lie side by side
        self.runs, self.length = s.s // together, together * self.pixel  # of a line; of a run, bytes
        whole = up_to(LINE, self.length)
        self.in_lines = whole <= MOST_FILLED * self.length
        self.pitch = whole if self.in_lines else self.length
        self.lines = s.r

    @property
    def depth(self) -> int:
        """Bytes of a row of A."""
        return self.lines * self.runs * self.pitch


@dataclass(frozen=True)
class Cut:
    """How the work is cut up."""

    shape: ConvShape  # as it is seen
    images: int  # of a panel of pixels
    rows: int  # of each
    columns: int  # of them: all, or parts of one row
    share: int  # panels of 16 filters of a group that meet a panel of pixels in one go
    panels: int  # of a group

    @property
    def pixels(self) -> int:
        """Of a panel."""
        return self.images * self.rows * self.columns


def cut_up(s: ConvShape, core_cache: int, threads: int) -> Cut:
    """The rule: panels that fill CACHE_PART, of fewer images where threads would have none; then shares of filters.

    Pixels of an image in a panel share a scale, so which they are must not depend on the number of threads.
    """
    if s.is_matrix_product:
        s = ConvShape(s.n, s.c * s.h * s.w, 1, 1, s.k, 1, 1, groups=s.groups)
    s = as_seen(s)
    most = max(LEAST_PIXELS, int(CACHE_PART * core_cache) // (DIGITS * up_to(STEP, Window(s).depth)))
    images, rows, columns = 1, 1, s.q
    if s.p * s.q <= most:
        sets = min(-(-threads // s.groups), max(1, s.n * s.p * s.q // LEAST_PIXELS))
        images, rows = even_parts(s.n, min(most // (s.p * s.q), -(-s.n // sets))), s.p
    elif s.q <= most:
        rows = even_parts(s.p, most // s.q)
    else:
        columns = even_parts(s.q, most)
    panels = -(-s.k // s.groups // BLOCK)
    items = -(-s.n // images) * s.groups * -(-s.p // rows) * -(-s.q // columns)
    return Cut(s, images, rows, columns, -(-panels // shares_of(items, panels, threads)), panels)


def shares_of(items: int, panels: int, threads: int) -> int:
    """In how many shares filters come: the fewest with which the busiest thread has EVEN of an even share at most."""

    def busiest(shares: int) -> float:
        each = -(-panels // shares)
        return -(-items * -(-panels // each) // threads) * each * threads / (items * panels)

    most = range(1, min(MOST_SHARES, panels) + 1)
    return next((shares for shares in most if busiest(shares) <= EVEN), min(most, key=busiest))


def layout(cut: Cut, window: Window) -> dict[str, int]:
    """Of x's digits, of a window in them, and of a thread's scratch, as fields of the kernel."""
    s = cut.shape
    (uh, uw), (dh, dw) = s.stride, s.dilation
    row_step = gcd(uh, dh) if s.r > 1 else uh
    reach_rows, reach_columns = (s.r - 1) * dh + 1, (s.s - 1) * dw + 1
    lines = (cut.rows - 1) * (uh // row_step) + (reach_rows - 1) // row_step + 1
    line = ((cut.columns - 1) * uw + reach_columns) * window.pixel
    digit = up_to(LINE, lines * line + ROWS * window.pixel + LINE)  # behind the last pixel a tile of them is written
    steps = -(-window.depth // STEP)
    row = steps * STEP + 2 * LINE
    tiles = -(-cut.pixels // ROWS)
    numbers = up_to(LINE, 4 * (tiles + 1) * ROWS)  # one for each pixel
    fields, at = {}, 0 if s.is_matrix_product else DIGITS * digit
    for name, size in {
        "c_at": tiles * ROWS * LINE, "scales_at": numbers, "factor_at": 2 * LINE, "held_at": LINE,
        "nowhere_at": numbers, "row_at": DIGITS * row, "a_at": tiles * steps * STEP_BYTES + STEP_BYTES,
    }.items():  # fmt: skip
        fields[name] = at
        at += size
    return fields | {
        "scratch_bytes": at, "steps": steps, "tile_bytes": steps * STEP_BYTES, "row_bytes": row,
        "tile_rows": min(ROWS, cut.pixels),
        "reach_rows": reach_rows, "reach_columns": reach_columns,
        "row_step": row_step, "stride_lines": uh // row_step,
        "line_bytes": line, "pixel_bytes": window.pixel, "digit_bytes": digit,
        "window_lines": s.r, "window_line_bytes": dh // row_step * line if s.r > 1 else 0,
        "runs": window.runs, "run_bytes": dw * window.pixel, "run_length": window.length,
    }  # fmt: skip


def plan(problem: Problem, device: Device, target: Target | None = None) -> Plan:
    """The plan around the kernel, on the target's tiles or, where it has none, on the same in memory."""
    target = target or host()
    cut = cut_up(problem.shape, device.core_cache_bytes, device.threads)
    s, channels, filters = cut.shape, cut.shape.c // cut.shape.groups, cut.shape.k // cut.shape.groups
    window = Window(s)
    if window.depth > MOST_DEPTH:
        raise Unsupported(f"sums of {window.depth} products: 32 bits hold those of {MOST_DEPTH}")
    fields = layout(cut, window)
    strips, parts, shares = -(-s.p // cut.rows), -(-s.q // cut.columns), -(-cut.panels // cut.share)
    rooms = Rooms(device, 0, fields.pop("scratch_bytes"))
    values = {
        "items": -(-s.n // cut.images) * s.groups * strips * parts * shares, "groups": s.groups,
        "shares": shares, "share_panels": cut.share, "panels": cut.panels,
        "strips": strips, "parts": parts, "strip_rows": cut.rows, "part_columns": cut.columns,
        "out_rows": s.p, "out_columns": s.q, "images": s.n, "set_images": cut.images,
        "image_bytes": 4 * s.c * s.h * s.w, "group_bytes": 4 * channels * s.h * s.w,
        "plane_bytes": 4 * s.h * s.w, "height": s.h, "width": s.w,
        "stride_rows": s.stride[0], "stride_columns": s.stride[1], "pad": s.pad[0], "pad_columns": s.pad[1],
        "channels": channels, "filters": filters, "panel_bytes": digits.panel_bytes(window.depth),
        "out_image_bytes": 4 * s.k * s.p * s.q, "out_channel_bytes": 4 * s.p * s.q, "past": past_caches(s, device),
    }  # fmt: skip
    form = (window.few, window.in_lines, not s.is_matrix_product)
    return plan_of(
        device, FIELDS, values | fields, PHASES,
        lambda clocked: address_of(KERNEL, multiply, *form, clocked, target=target),
        partial(packed_filters, device, s, window),
        f"numbers as three bytes; panels of {cut.pixels} pixels",
        2 * s.n * s.p * s.q * fields["steps"] * STEP * s.groups * cut.panels * BLOCK,
        rooms,
    )  # fmt: skip


def packed_filters(device: Device, s: ConvShape, window: Window, w: Any) -> Any:
    """Filters as digits [groups, panels of 16, bytes of a panel], their depth as windows have it."""
    xp, filters, channels = device.xp, s.k // s.groups, s.c // s.groups
    panels = -(-filters // BLOCK)
    flat = w.reshape(s.groups, filters, channels, s.r, s.s)
    out = device.empty((s.groups, panels, digits.panel_bytes(window.depth) // 4), "float32").view(xp.uint8)

    def one(item: int, thread: int) -> None:
        group, panel = divmod(item, panels)
        part = flat[group, panel * BLOCK : (panel + 1) * BLOCK].transpose(2, 3, 1, 0)  # [R, S, C, filters]
        pixels = xp.zeros((s.r, s.s, window.pixel, part.shape[3]), "float32")
        pixels[:, :, :channels] = part
        runs = xp.zeros((s.r * window.runs, window.pitch, part.shape[3]), "float32")
        runs[:, : window.length] = pixels.reshape(s.r * window.runs, window.length, -1)
        digits.pack(xp, runs.reshape(window.depth, -1), out[group, panel])

    device.parallel(one, s.groups * panels)
    return out
