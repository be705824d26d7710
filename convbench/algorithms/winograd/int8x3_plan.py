"""winograd.f<m>.int8x3, planned: panels of tiles, shares of filters, and the filters' points as digits."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from convbench.algorithms.base import Plan, Unsupported
from convbench.algorithms.compiled import plan_of
from convbench.algorithms.fused.lines import past_caches
from convbench.algorithms.fused.operations import of_tile
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.gemm.int8x3_plan import shares_of, up_to
from convbench.algorithms.gemm.packed import even_parts
from convbench.algorithms.winograd.int8x3_kernel import FIELDS, PHASES, TOGETHER, Transforms, convolve
from convbench.algorithms.winograd.vector import POINTS
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector import digits
from convbench.vector.build import address_of
from convbench.vector.digits import DIGITS, MOST_DEPTH, STEP, STEP_BYTES
from convbench.vector.room import Rooms
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL
from convbench.vector.tiles import FOUR, ROWS, even_rows
from convbench.vector.weights import BLOCK, LINE

CACHE_PART = 0.6  # of the second-level cache, for a panel's rows of A
LEAST_TILES = 32  # of a panel, however deep


@dataclass(frozen=True)
class Cut:
    """How the work is cut up, and what follows from the shape alone."""

    shape: ConvShape
    both: Transforms
    panel_tiles: int
    share: int  # panels of 16 filters of a group that meet a panel of tiles in one go
    panels: int  # of a group

    @property
    def tile_rows(self) -> int:
        """Of an image."""
        return -(-self.shape.p // self.both.y.outputs)

    @property
    def tile_columns(self) -> int:
        """Of an image."""
        return -(-self.shape.q // self.both.x.outputs)

    @property
    def steps(self) -> int:
        """Of the depth."""
        return -(-self.shape.c // self.shape.groups // STEP)


def cut_up(s: ConvShape, m: int, core_cache: int, threads: int) -> Cut:
    """The rule: even panels of tiles of whatever images, as many for each thread, CACHE_PART of a cache at most.

    Then shares of filters. No number depends on how it is cut.
    """
    y, x = (Toom(m if taps > 1 else 1, taps, *POINTS[m + taps - 1 if taps > 1 else 1]) for taps in (s.r, s.s))
    both = Transforms(y, x)
    tiles = s.n * -(-s.p // y.outputs) * -(-s.q // x.outputs)
    steps = -(-s.c // s.groups // STEP)
    most = max(LEAST_TILES, int(CACHE_PART * core_cache) // (DIGITS * STEP * steps * both.points) // ROWS * ROWS)
    parts = -(-tiles // most)
    even = next((n for n in range(parts, parts + threads) if n * s.groups % threads == 0), parts)
    parts = even if tiles >= even * LEAST_TILES else parts
    panels = -(-s.k // s.groups // BLOCK)
    pairs = -(-panels // TOGETHER)
    share = -(-pairs // shares_of(parts * s.groups, pairs, threads)) * TOGETHER
    return Cut(s, both, even_parts(tiles, -(-tiles // parts)), share, panels)


def layout(cut: Cut) -> dict[str, int]:
    """Of a thread's scratch, as fields of the kernel."""
    points, (y, x), blocks = cut.both.points, cut.both, cut.steps * FOUR
    columns = cut.tile_columns * x.outputs + x.window - x.outputs
    pitch = columns * LINE
    block = y.window * pitch + BLOCK * LINE  # a few columns behind the last are written too
    rows = up_to(ROWS, cut.panel_tiles)
    point = rows // ROWS * cut.steps * STEP_BYTES + LINE  # so that points do not all lie in the same sets of a cache
    pixel_pitch = (cut.tile_columns * x.outputs + BLOCK) * LINE
    fields, at = {}, blocks * block
    for name, size in {
        "v_at": blocks * points * LINE,
        "factors_at": up_to(LINE, 4 * points), "scales_at": up_to(LINE, 4 * points * rows),
        "c_at": TOGETHER * points * rows * LINE, "pixels_at": y.outputs * pixel_pitch,
        "nowhere_at": up_to(LINE, 4 * cut.tile_columns * x.outputs + LINE), "held_at": LINE, "a_at": points * point,
    }.items():  # fmt: skip
        fields[name] = at
        at += size
    return fields | {
        "scratch_bytes": at, "blocks": blocks, "block_bytes": block, "pitch": pitch, "columns": columns,
        "steps": cut.steps, "rows": even_rows(cut.panel_tiles),
        "tile_bytes": cut.steps * STEP_BYTES, "point_bytes": point, "c_bytes": rows * LINE,
        "pixel_pitch": pixel_pitch,
    }  # fmt: skip


def plan(m: int, problem: Problem, device: Device, target: Target | None = None) -> Plan:
    """The plan around the kernel, on the target's tiles or, where it has none, on the same in memory."""
    s, xp, target = problem.shape, device.xp, target or host()
    cut = cut_up(s, m, device.core_cache_bytes, device.threads)
    if cut.steps * STEP > MOST_DEPTH:
        raise Unsupported(f"sums of {cut.steps * STEP} products: 32 bits hold those of {MOST_DEPTH}")
    fields, channels, shares = layout(cut), s.c // s.groups, -(-cut.panels // cut.share)
    tiles = s.n * cut.tile_rows * cut.tile_columns
    parts = -(-tiles // cut.panel_tiles)
    planes = [channel if channel < channels else 0 for channel in range(cut.steps * STEP)]  # missing ones meet zeros
    rooms = Rooms(device, 0, fields.pop("scratch_bytes"))
    values = {
        "table": xp.array([(4 * s.h * s.w * plane, -s.pad[0], -s.pad[1]) for plane in planes], xp.int64),
        "items": parts * s.groups * shares, "groups": s.groups, "shares": shares, "share_panels": cut.share,
        "panels": cut.panels, "tiles": tiles, "panel_tiles": cut.panel_tiles, "tile_rows": cut.tile_rows,
        "tile_columns": cut.tile_columns, "out_rows": s.p, "out_columns": s.q, "image_bytes": 4 * s.c * s.h * s.w,
        "group_bytes": 4 * channels * s.h * s.w, "height": s.h, "width": s.w, "filters": s.k // s.groups,
        "panel_bytes": digits.panel_bytes(channels), "out_image_bytes": 4 * s.k * s.p * s.q,
        "out_channel_bytes": 4 * s.p * s.q, "past": past_caches(s, device),
    }  # fmt: skip
    each, last = even_rows(cut.panel_tiles), tiles - (parts - 1) * cut.panel_tiles
    rows = up_to(each, cut.panel_tiles) * (parts - 1) + up_to(each, last)
    (y, x), points = cut.both, cut.both.points
    forward, backward = of_tile(Tile(y, x))  # each share of the filters has its own V
    transforms = shares * forward * cut.steps * STEP + backward * cut.panels * BLOCK
    return plan_of(
        device, FIELDS, values | fields, PHASES,
        lambda clocked: address_of(KERNEL, convolve, cut.both, clocked, target=target),
        partial(packed_filters, device, cut),
        f"F({y.outputs}x{x.outputs}, {y.taps}x{x.taps}); numbers as three bytes; panels of {cut.panel_tiles} tiles",
        s.groups * (2 * rows * points * cut.steps * STEP * cut.panels * BLOCK + tiles * transforms),
        rooms,
    )  # fmt: skip


def packed_filters(device: Device, cut: Cut, w: Any) -> Any:
    """Filters' points as digits [groups, panels, points, panels together, bytes of a panel], depth as split has it."""
    s, xp, (y, x), points = cut.shape, device.xp, cut.both, cut.both.points
    filters, channels, panels = s.k // s.groups, s.c // s.groups, cut.panels
    flat = w.reshape(s.groups, filters, channels, s.r * s.s)
    rows = xp.array([xp.outer(a, b).ravel() for a in y.filter_rows().real for b in x.filter_rows().real])
    size = digits.panel_bytes(channels)
    out = device.empty((s.groups, panels * points, size // 4), "float32").view(xp.uint8)

    def one(item: int, thread: int) -> None:
        group, panel = divmod(item, panels)
        part = flat[group, panel * BLOCK : (panel + 1) * BLOCK].astype(float)
        with xp.errstate(invalid="ignore"):  # of what is not finite, which its filter's scale says
            spectrum = (part @ rows.T).transpose(2, 1, 0)  # [points, channels, filters]
        padded = xp.zeros((points, cut.steps * STEP, part.shape[0]))
        padded[:, :channels] = spectrum
        ordered = padded.reshape(points, cut.steps, FOUR, BLOCK, -1).swapaxes(2, 3).reshape(padded.shape)
        together = min(TOGETHER, panels - panel // TOGETHER * TOGETHER)
        for point in range(points):
            place = panel // TOGETHER * TOGETHER * points + point * together + panel % TOGETHER
            digits.pack(xp, ordered[point], out[group, place])

    device.parallel(one, s.groups * panels)
    return out
