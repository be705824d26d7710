"""direct.wide: the seven loops with neighbouring pixels of a row side by side in registers; float32 on the CPU.

direct.blocked has 16 filters side by side and transposes what it has summed, which takes long beside the sums where
there are few channels, and wastes 15 lanes of 16 where a group has one filter. Here y is written as it lies, and its
lines go past the caches where it is too large for them. Strips of rows of all images and groups are shared out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.unit import nothing_slides
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape

COPY_PART = 0.25  # of the second-level cache, for a strip's copy of its input
# Each tap has a copy of its own of what a row of y sees where all of them are so many bytes at most, which any CPU's
# first-level cache holds, and at least so many filters read them.
NEAR = 30 << 10
MANY = 32


def on_cpu(problem: Problem, device: Device) -> Plan:
    """The plan around wide_kernel.py's kernel."""
    from convbench.algorithms.compiled import plan_of
    from convbench.algorithms.direct.wide_kernel import FIELDS, PHASES, TOGETHER, Row, convolve
    from convbench.algorithms.fused.lines import past_caches
    from convbench.vector.build import address_of
    from convbench.vector.room import Rooms
    from convbench.vector.taps import UNROLLED
    from convbench.vector.target import host
    from convbench.vector.team import KERNEL

    s = problem.shape
    channels, filters = s.c // s.groups, s.k // s.groups
    together = min(TOGETHER, filters)
    tiles = -(-filters // together)
    lanes = host().lanes
    pixels = -(-s.q // lanes) * lanes
    near = 4 * channels * s.r * s.s * pixels <= NEAR and filters >= MANY
    along = Row(s.s, s.stride[1], s.dilation[1], apart=near and 1 < s.s <= UNROLLED)
    # Columns of a copy that taps reach beyond the pixels.
    reach = 0 if along.apart else (s.s - 1) * s.dilation[1] // s.stride[1]
    phase_bytes = 4 * lanes * -(-(pixels + reach) // lanes)
    row_bytes = phase_bytes * len(along.copies)
    rows = strip_rows(s, channels * row_bytes, device)
    plane_bytes = row_bytes * ((rows - 1) * s.stride[0] + (s.r - 1) * s.dilation[0] + 1)
    scratch_bytes = -(-channels * plane_bytes // 128) * 128 + 64
    strips = -(-s.p // rows)
    tile_bytes = 4 * channels * s.r * s.s * together
    values = {
        "items": s.n * s.groups * strips, "groups": s.groups, "strips": strips, "strip_rows": rows,
        "image_bytes": 4 * s.c * s.h * s.w, "group_bytes": 4 * channels * s.h * s.w, "plane_bytes": 4 * s.h * s.w,
        "height": s.h, "width": s.w, "channels": channels,
        "row_taps": s.r, "row_stride": s.stride[0], "row_dilation": s.dilation[0],
        "pad_top": s.pad[0], "pad_left": s.pad[1],
        "filters": filters, "tile_bytes": tile_bytes, "tiles": tiles, "group_filter_bytes": tiles * tile_bytes,
        "out_rows": s.p, "out_columns": s.q, "out_image_bytes": 4 * s.k * s.p * s.q, "out_channel_bytes": 4 * s.p * s.q,
        "phase_bytes": phase_bytes, "copy_row_bytes": row_bytes, "copy_plane_bytes": plane_bytes,
        "past": past_caches(s, device),
    }  # fmt: skip
    return plan_of(
        device, FIELDS, values, PHASES,
        lambda clocked: address_of(KERNEL, convolve, together, along, clocked),
        partial(pack, device, s, together), f"strips of {rows} rows, {together} filters together",
        2 * s.n * s.groups * tiles * together * channels * s.r * s.s * s.p * pixels,
        Rooms(device, 0, scratch_bytes),
    )  # fmt: skip


def strip_rows(s: ConvShape, row_bytes: int, device: Device) -> int:
    """Output rows of a strip: its copy, so many bytes a row of input, fits COPY_PART, and all threads have enough."""
    from convbench.algorithms.compiled import ITEMS_EACH

    beside = (s.r - 1) * s.dilation[0] + 1 - s.stride[0]  # input rows that neighbouring strips share
    fitting = (int(COPY_PART * device.core_cache_bytes) // row_bytes - beside) // s.stride[0]
    strips = -(-ITEMS_EACH * device.threads // (s.n * s.groups))
    return max(1, min(s.p, fitting, -(-s.p // strips)))


def pack(device: Device, s: ConvShape, together: int, w: Any) -> Any:
    """Filters [groups, tiles, C, R, S, together]; the last tile begins earlier where they do not come out even."""
    filters = s.k // s.groups
    tiles = -(-filters // together)
    out = device.empty((s.groups, tiles, *s.w_shape[1:], together), "float32")
    by_group = w.reshape(s.groups, filters, *s.w_shape[1:])
    for tile in range(tiles):
        first = min(tile * together, filters - together)
        out[:, tile] = by_group[:, first : first + together].transpose(0, 2, 3, 4, 1)
    return out


ALGORITHMS = [
    Algorithm(
        "direct.wide",
        on={"cpu": on_cpu},
        refuses=nothing_slides,
        precisions={"cpu": ("float32",)},
        summary="neighbouring pixels side by side: for few channels, and for filters that come one a group",
    )
]
