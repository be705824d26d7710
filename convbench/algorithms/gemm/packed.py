"""gemm.panel and gemm.panel.pairs in float32 on the CPU, planned: panels of pixels, chunks of channels, one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import gcd

from convbench.algorithms.base import Plan
from convbench.algorithms.compiled import ITEMS_EACH, blocks_together, pack, plan_of
from convbench.algorithms.fused.lines import past_caches
from convbench.algorithms.gemm.im2col import is_unstretched
from convbench.algorithms.gemm.kernel import FIELDS, PHASES, Form, convolve
from convbench.algorithms.gemm.panel_pairs import chunk_of, most_pixels_in_pairs, packed_filters, pair_lines
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector.build import address_of
from convbench.vector.room import Rooms
from convbench.vector.taps import most_pixels
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL
from convbench.vector.weights import BLOCK, LINE, THREE

CHUNK_TAPS = 128  # rows of A, and numbers that are summed before their sum joins the others
CACHE_PART = 0.5  # of the second-level cache, for A and M
MOST_FILTERS = 512  # that a panel of pixels is multiplied by at a time: gathering it again for more costs little


@dataclass(frozen=True)
class Cut:
    """How the work is cut up; without stride and padding filters of one tap see an image as one row of pixels."""

    shape: ConvShape  # as it is seen
    blocks: int  # of 16 filters, together in registers
    rows: int  # of a panel of pixels
    columns: int  # of it: all, or parts of one row
    chunk: int  # channels
    panels: int  # of filters, of a group
    share: int  # of them, that a panel of pixels is multiplied by

    @property
    def pixels(self) -> int:
        """Of a panel."""
        return self.rows * self.columns


def even_parts(count: int, most: int) -> int:
    """The length of equal parts of at most `most`."""
    return -(-count // -(-count // max(1, most)))


def as_seen(s: ConvShape) -> ConvShape:
    """The shape itself; an image of which each pixel is multiplied by itself is one row of pixels."""
    if is_unstretched(s):
        return ConvShape(s.n, s.c, 1, s.h * s.w, s.k, 1, 1, groups=s.groups)
    return s


def cut_up(s: ConvShape, target: Target, core_cache: int, threads: int, in_pairs: bool = False) -> Cut:
    """The stated rule, by CHUNK_TAPS, or for pairs chunk_of, by CACHE_PART, MOST_FILTERS and ITEMS_EACH."""
    s = as_seen(s)
    filters, channels, taps = s.k // s.groups, s.c // s.groups, s.r * s.s
    blocks = blocks_together(target, filters, in_pairs)
    panels = -(-filters // (blocks * BLOCK))
    share = even_parts(panels, MOST_FILTERS // (blocks * BLOCK))
    chunk = chunk_of(channels, taps) if in_pairs else even_parts(channels, CHUNK_TAPS // taps)
    most = max(1, int(CACHE_PART * core_cache) // (4 * (share * blocks * BLOCK + chunk * taps)))
    step = most_pixels_in_pairs(target, blocks) if in_pairs else most_pixels(target, blocks)
    wanted = -(-ITEMS_EACH * threads // (s.n * s.groups * -(-panels // share)))
    most = min(most, -(-s.p * s.q // wanted))
    if s.q <= most:
        return Cut(s, blocks, even_parts(s.p, most // s.q), s.q, chunk, panels, share)
    columns = even_parts(s.q, most)
    return Cut(s, blocks, 1, min(s.q, -(-columns // step) * step), chunk, panels, share)


def layout(chosen: Cut, in_pairs: bool) -> tuple[dict[str, int], list[int], tuple[int, ...]]:
    """Of a thread's scratch: the fields that say it; where each tap begins in the rows of a channel; the phases."""
    s = chosen.shape
    (uh, uw), (dh, dw) = s.stride, s.dilation
    taps = s.r * s.s
    row_step = gcd(uh, dh) if s.r > 1 else uh
    reach = (s.r - 1) * dh // row_step + 1
    lines = (chosen.rows - 1) * (uh // row_step) + reach
    phases = tuple(sorted({tap * dw % uw for tap in range(s.s)}))
    line = 4 * (chosen.columns + (s.s - 1) * dw // uw)
    if taps > 1:  # with one tap the rows are A: without anything in between
        line = -(-line // LINE) * LINE
    phase = lines * line
    channel = odd_lines(len(phases) * phase + LINE)
    pitch = channel if taps == 1 else odd_lines(4 * chosen.pixels + LINE)
    block = odd_lines(chosen.pixels * LINE)
    a_at = 0 if taps == 1 else chosen.chunk * channel
    m_at = 0 if is_unstretched(s) and not in_pairs else a_at + chosen.chunk * taps * pitch  # there A is x
    nowhere_at = m_at + chosen.share * chosen.blocks * block
    pixels = odd_lines(4 * chosen.pixels + LINE)  # a number for each
    table = [
        phases.index(tap * dw % uw) * phase + r * dh // row_step * line + tap * dw // uw * 4
        for r in range(s.r)
        for tap in range(s.s)
    ]
    fields = {
        "row_step": row_step, "reach": reach, "line_bytes": line, "phase_bytes": phase, "channel_bytes": channel,
        "pitch": pitch, "block_bytes": block, "a_at": a_at, "m_at": m_at, "nowhere_at": nowhere_at,
        "pairs_at": nowhere_at + pixels, "inverses_at": nowhere_at + 2 * pixels,
        "scratch_bytes": nowhere_at + (3 if in_pairs else 1) * pixels,
    }  # fmt: skip
    return fields, table, phases


def in_pairs(problem: Problem, device: Device, target: Target | None = None) -> Plan:
    """A plan with products in pairs."""
    return packed(problem, device, target, in_pairs=True)


def packed(problem: Problem, device: Device, target: Target | None = None, in_pairs: bool = False) -> Plan:
    """A plan for float32 on the CPU."""
    target = target or host()
    chosen = cut_up(problem.shape, target, device.core_cache_bytes, device.threads, in_pairs)
    s, xp = chosen.shape, device.xp
    filters, channels, taps = s.k // s.groups, s.c // s.groups, s.r * s.s
    buffers, offsets, phases = layout(chosen, in_pairs)
    rooms = Rooms(device, 0, buffers.pop("scratch_bytes"))
    table = xp.array(offsets, xp.int64)
    strips, parts = -(-s.p // chosen.rows), -(-s.q // chosen.columns)
    shares, width, depth = -(-chosen.panels // chosen.share), chosen.blocks * BLOCK, channels * taps
    lines = depth + (pair_lines(channels, taps, chosen.chunk) + 1 if in_pairs else 0)  # of a panel
    prepare = partial(packed_filters, chunk=chosen.chunk) if in_pairs else pack
    note = f"panels of {chosen.pixels} pixels, {chosen.chunk} channels at a time" + "; products in pairs" * in_pairs
    values = {
        "table": table,
        "items": s.n * s.groups * strips * parts * shares, "groups": s.groups,
        "shares": shares, "share_panels": chosen.share, "panels": chosen.panels,
        "strips": strips, "parts": parts, "strip_rows": chosen.rows, "part_columns": chosen.columns,
        "out_rows": s.p, "out_columns": s.q,
        "image_bytes": 4 * s.c * s.h * s.w, "group_bytes": 4 * channels * s.h * s.w, "plane_bytes": 4 * s.h * s.w,
        "height": s.h, "width": s.w, "stride_rows": s.stride[0], "pad": s.pad[0], "pad_columns": s.pad[1],
        "channels": channels, "chunk": chosen.chunk, "taps": taps, "filters": filters,
        "panel_bytes": 4 * lines * width, "filter_bytes": 4 * taps * width,
        "chunk_pairs": chosen.chunk * taps // THREE * 4 * width,
        "out_image_bytes": 4 * s.k * s.p * s.q, "out_channel_bytes": 4 * s.p * s.q,
        "past": past_caches(s, device),
    }  # fmt: skip
    form = Form(phases, s.stride[1], chosen.blocks, in_pairs, taps == 1, is_unstretched(s))
    return plan_of(
        device, FIELDS, values | buffers, PHASES,
        lambda clocked: address_of(KERNEL, convolve, form, clocked, target=target),
        partial(prepare, xp, device, s, chosen.blocks),
        note,
        2 * s.n * s.p * s.q * channels * taps * s.groups * chosen.panels * width,
        rooms,
    )  # fmt: skip


def odd_lines(count: int) -> int:
    """Bytes rounded up to an odd number of cache lines, so that neighbours do not share a cache's sets."""
    lines = -(-count // LINE)
    return (lines + 1 - lines % 2) * LINE
