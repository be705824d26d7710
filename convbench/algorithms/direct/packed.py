"""direct.blocked in float32 on the CPU, planned: packed filters, tables of what padding leaves out, strips, one kernel.

Strips of output rows and blocks of 16 filters (32 with AVX-512) of all images and groups are shared out to threads. The
image is read where it lies, so the workspace is one strip's sums for each thread. oneDNN's direct convolution of the
same kind: Georganas et al., "Anatomy of high-performance deep learning convolutions on SIMD architectures", SC 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.compiled import ITEMS_EACH, blocks_together, pack, plan_of
from convbench.algorithms.direct.kernel import FIELDS, PHASES, convolve
from convbench.algorithms.direct.rows import Axis, cut
from convbench.algorithms.fused.lines import past_caches
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector.build import address_of
from convbench.vector.room import Rooms
from convbench.vector.taps import most_pixels
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL
from convbench.vector.weights import BLOCK, LINE

STRIP_PART = 0.125  # of the second-level cache, for M of 16 filters: long runs of y, which memory takes best
CHUNK_TAPS = 160  # numbers that are summed before their sum joins the others, and what of the filters is in that cache
FILTERS_PART = 0.5  # of the second-level cache, for a group's filters to stay while strips go by


@dataclass(frozen=True)
class Cut:
    """How the work is cut up; filters of one tap see an image as one row of pixels."""

    blocks: int  # of 16 filters, together in registers
    pointwise: bool
    strip_rows: int  # or, pointwise, always 1
    strips: int
    row_pixels: int
    chunk: int  # channels
    panels_first: bool  # all filters on a strip before the next strip

    @property
    def strip_pixels(self) -> int:
        """Lines of M."""
        return self.strip_rows * self.row_pixels


def cut_up(s: ConvShape, target: Target, core_cache: int, threads: int) -> Cut:
    """The stated rule, by STRIP_PART, CHUNK_TAPS, FILTERS_PART and ITEMS_EACH."""
    filters, taps = s.k // s.groups, s.r * s.s
    blocks = blocks_together(target, filters)
    pointwise = taps == 1 and s.stride == (1, 1) and s.pad == (0, 0)
    others = s.n * s.groups * -(-filters // (blocks * BLOCK))  # what there is to share out beside strips
    strips = -(-ITEMS_EACH * threads // others)
    most = max(1, min(int(STRIP_PART * core_cache) // LINE, -(-s.p * s.q // strips)))
    chunk = max(1, CHUNK_TAPS // taps)
    chunk = -(-(s.c // s.groups) // -(-(s.c // s.groups) // chunk))
    filter_bytes = 4 * s.c // s.groups * taps * -(-filters // BLOCK) * BLOCK
    panels_first = filter_bytes <= FILTERS_PART * core_cache
    if pointwise:
        strips = -(-s.p * s.q // most)
        pixels = -(-s.p * s.q // strips)
        step = most_pixels(target, blocks)
        pixels = min(s.p * s.q, -(-pixels // step) * step)
        return Cut(blocks, True, 1, -(-s.p * s.q // pixels), pixels, chunk, panels_first)
    strips = -(-s.p // max(1, most // s.q))
    rows = -(-s.p // strips)
    return Cut(blocks, False, rows, -(-s.p // rows), s.q, chunk, panels_first)


def tables(xp: Any, s: ConvShape, rows: Axis, columns: Axis, line: int) -> tuple[Any, Any]:
    """What each output row needs, and each column (see kernel.row)."""
    of_rows = []
    for p in range(s.p):
        first, last = rows.taps_of(p)
        start = (p * rows.stride - rows.pad + first * rows.dilation) * s.w - columns.pad
        of_rows.append((4 * start, first * s.s * line, last - first))
    of_columns = [(first, last - first) for first, last in map(columns.taps_of, range(s.q))]
    return xp.array(of_rows, xp.int64), xp.array(of_columns, xp.int64)


def packed(problem: Problem, device: Device, target: Target | None = None) -> Plan:
    """A plan for float32 on the CPU."""
    s, xp = problem.shape, device.xp
    target = target or host()
    chosen = cut_up(s, target, device.core_cache_bytes, device.threads)
    line, filters, channels = chosen.blocks * LINE, s.k // s.groups, s.c // s.groups
    panels = -(-filters // (chosen.blocks * BLOCK))
    rows = Axis(s.h, s.p, s.r, s.stride[0], s.pad[0], s.dilation[0])
    columns = Axis(s.w, s.q, s.s, s.stride[1], s.pad[1], s.dilation[1])
    rows_table, columns_table = tables(xp, s, rows, columns, line)
    block_bytes = chosen.strip_pixels * LINE + LINE
    nowhere_at = chosen.blocks * block_bytes
    scratch_bytes = -(-(nowhere_at + 4 * chosen.strip_pixels + LINE) // 128) * 128 + LINE
    values = {
        "rows_table": rows_table, "columns_table": columns_table,
        "items": s.n * s.groups * panels * chosen.strips, "groups": s.groups, "panels": panels,
        "strips": chosen.strips, "panels_first": int(chosen.panels_first),
        "image_bytes": 4 * s.c * s.h * s.w, "group_bytes": 4 * channels * s.h * s.w, "plane_bytes": 4 * s.h * s.w,
        "row_bytes": 4 * s.dilation[0] * s.w,
        "channels": channels, "chunk": chosen.chunk, "filters": filters,
        "panel_bytes": channels * s.r * s.s * line, "filter_bytes": s.r * s.s * line,
        "out_rows": chosen.strips if chosen.pointwise else s.p, "out_columns": chosen.row_pixels, "pixels": s.p * s.q,
        "strip_rows": chosen.strip_rows, "out_image_bytes": 4 * s.k * s.p * s.q, "out_channel_bytes": 4 * s.p * s.q,
        "block_bytes": block_bytes, "nowhere_at": nowhere_at,
        "past": past_caches(s, device),
    }  # fmt: skip
    runs = () if chosen.pointwise else cut(columns, most_pixels(target, chosen.blocks))
    parameters = (runs, s.s, (4 * s.stride[1], 4 * s.dilation[1]), chosen.blocks, s.r > 1)
    return plan_of(
        device, FIELDS, values, PHASES,
        lambda clocked: address_of(KERNEL, convolve, *parameters, clocked, target=target),
        partial(pack, xp, device, s, chosen.blocks), _note(s, chosen),
        s.flops_true // s.k * s.groups * panels * chosen.blocks * BLOCK,
        Rooms(device, 0, scratch_bytes),
    )  # fmt: skip


def _note(s: ConvShape, chosen: Cut) -> str:
    strips = f"strips of {chosen.strip_pixels} pixels" if chosen.pointwise else f"strips of {chosen.strip_rows} rows"
    return f"{strips} x {chosen.blocks * BLOCK} filters, {chosen.chunk} channels at a time"
