"""From a convolution to a plan of the engine: the split into unit-stride channels, the blocks, the buffers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from convbench.algorithms.base import Plan
from convbench.algorithms.fused.block import FIELDS, LANE_BYTES, PHASES
from convbench.algorithms.fused.blocks import Blocks, Caches, Work, cut, in_turn
from convbench.algorithms.fused.engine import ROUNDS, convolve
from convbench.algorithms.fused.filters import depth_of, kept_channels, panel_bytes, transform_filters, ways_at_infinity
from convbench.algorithms.fused.lines import LANE_FIELDS, NEAR, longest_run, past_caches
from convbench.algorithms.fused.operations import of_tile
from convbench.algorithms.fused.passing import KEPT, Kernels, later_lines, passage
from convbench.algorithms.fused.stages import POWER_BYTES, Tile
from convbench.algorithms.fused.values import Transform
from convbench.algorithms.unit import UnitAxis, ceil_div, put_phase
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.vector.build import address_of
from convbench.vector.clock import CLOCK_BYTES, shares
from convbench.vector.panel import panel_address
from convbench.vector.product import slabs_of, summed_at_once
from convbench.vector.room import Rooms
from convbench.vector.target import host
from convbench.vector.team import KERNEL, Arguments, later, tickets
from convbench.vector.weights import BLOCK, EVEN_PAIRS, FLOAT32, LINE, Weights


def odd_lines(count: int) -> int:
    """Bytes rounded up to an odd number of cache lines, so that neighbours do not share a cache's sets."""
    lines = ceil_div(count, LINE)
    return (lines + 1 - lines % 2) * LINE


def sizes(
    problem: Problem, device: Device, tile: Tile, rows: UnitAxis, columns: UnitAxis, work: Work, blocks: Blocks,
    weights: Weights,
) -> dict[str, int]:  # fmt: skip
    """The kernel's FIELDS but for addresses."""
    s, side = problem.shape, work.panels
    depth, filters = depth_of(s, rows, columns, weights), s.k // s.groups
    most = blocks.images * blocks.tile_rows * columns.tiles  # tiles a block
    slab_bytes = odd_lines(most * LINE)
    plane_bytes = odd_lines(slabs_of(depth, weights) * slab_bytes)
    short_rows, short_columns = short_tiles(tile.y, rows), short_tiles(tile.x, columns)
    line_columns = (columns.tiles - 1) * tile.x.outputs - max(0, short_columns - 1) + tile.x.window
    pitch = ceil_div(line_columns, BLOCK) * BLOCK * LINE
    line_rows = blocks.tile_rows * tile.y.outputs + tile.y.window - tile.y.outputs
    buffer_rows = min(line_rows, max(1, NEAR // pitch))
    m_plane = odd_lines(most * LINE)
    most_planes = max(tile.real_column, tile.pair_column if tile.x.pairs else 0)
    pixel_rows = min(tile.y.outputs, rows_together(columns.unit_outputs))
    pixels = pixel_rows * columns.unit_outputs
    own_slab = blocks.tile_rows * columns.tiles * LINE
    own_plane = odd_lines(ceil_div(depth, BLOCK) * own_slab)
    own_bytes = tile.planes * own_plane if weights.own_powers else 0
    m_bytes, t_bytes = odd_lines(most_planes * m_plane), odd_lines(most * tile.y.outputs * tile.columns * LINE)
    at, scratch_bytes = overlaid(
        {"buffer": buffer_rows * pitch, "room": line_rows * columns.tiles * tile.columns * LINE, "own": own_bytes},
        {
            "m": side * m_bytes,
            "t": side * t_bytes,
            "pixels": (pixels + tile.x.window + BLOCK) * LINE,
            "nowhere": 4 * pixels + LINE,
        },
    )
    strips = ceil_div(rows.tiles, blocks.tile_rows)
    has_several = blocks.private and blocks.number(work) * work.groups > device.threads  # blocks, each thread
    room_for_x = device.core_cache_bytes - plane_bytes * tile.planes - scratch_bytes if has_several else 0
    return {
        "images": s.n, "image_bytes": 4 * s.c * s.h * s.w, "height": s.h, "width": s.w, "row_step": rows.step,
        "groups": s.groups, "depth": depth, "blocks_of_channels": ceil_div(depth, BLOCK),
        "filters": filters, "panels": ceil_div(filters, BLOCK), "items": work.items,
        "channels": s.c // s.groups, "out_rows": rows.unit_outputs, "out_columns": columns.unit_outputs,
        "out_image_bytes": 4 * s.k * rows.unit_outputs * columns.unit_outputs,
        "out_channel_bytes": 4 * rows.unit_outputs * columns.unit_outputs,
        "tile_rows": rows.tiles, "tiles": columns.tiles, "columns": line_columns, "pitch": pitch,
        "buffer_rows": buffer_rows, "pixel_rows": pixel_rows,
        "block_images": blocks.images, "block_tile_rows": blocks.tile_rows, "block_groups": blocks.groups,
        "block_shares": blocks.shares,
        "strips": strips, "blocks": ceil_div(s.n, blocks.images) * strips, "tickets": tickets(device.threads),
        "slab_bytes": slab_bytes, "plane_bytes": plane_bytes,
        "short_rows": short_rows, "short_columns": short_columns,
        "m_plane_bytes": m_plane, "m_bytes": m_bytes, "t_bytes": t_bytes, "scratch_bytes": scratch_bytes,
        "room_at": at["room"], "t_at": at["t"], "pixels_at": at["pixels"], "nowhere_at": at["nowhere"],
        "own_at": at["own"], "own_slab_bytes": own_slab, "own_plane_bytes": own_plane,
        **behind_v(tile, blocks, most, depth, slab_bytes, plane_bytes, weights),
        "past": past_caches(s, device),
        **later_lines(s, tile, rows, columns, work, blocks, room_for_x),
    }  # fmt: skip


def behind_v(
    tile: Tile, blocks: Blocks, tiles: int, depth: int, slab_bytes: int, plane_bytes: int, weights: Weights
) -> dict[str, int]:
    """Where what the pairs come to stands, and rows of tiles' powers; tiles: of a block."""
    v_bytes = tile.planes * plane_bytes
    if weights != EVEN_PAIRS:  # behind each plane's slabs, if anywhere
        pairs_at = ceil_div(depth, BLOCK) * slab_bytes
        places = {"pairs_at": pairs_at, "pairs_plane_bytes": plane_bytes, "pairs_chunk_bytes": slab_bytes}
        return {"group_bytes": v_bytes, **places}
    chunk_bytes = ceil_div(4 * tiles, LINE) * LINE
    pairs_bytes = ceil_div(depth, summed_at_once(depth, weights)) * chunk_bytes
    powers_at = v_bytes + tile.planes * pairs_bytes
    powers_bytes = odd_lines(blocks.images * blocks.tile_rows * POWER_BYTES)
    return {
        "group_bytes": powers_at + powers_bytes, "pairs_at": v_bytes, "pairs_plane_bytes": pairs_bytes,
        "pairs_chunk_bytes": chunk_bytes, "powers_at": powers_at,
    }  # fmt: skip


def rows_together(columns: int) -> int:
    """Rows of y, of so many columns, whose lines lie in the first cache together; of whole vectors if that can be."""
    most = max(1, NEAR // (columns * LINE))
    return max((rows for rows in range(1, most + 1) if rows * columns % BLOCK == 0), default=most)


def work_of(problem: Problem, tile: Tile, rows: UnitAxis, columns: UnitAxis, weights: Weights) -> Work:
    """What is to be cut into blocks."""
    s = problem.shape
    channels = depth_of(s, rows, columns, weights)
    panels = ceil_div(s.k // s.groups, BLOCK)
    side, u_bytes = min(host().panels, panels), s.groups * panels * panel_bytes(tile, weights, channels)
    tile_bytes, items = slabs_of(channels, weights) * LINE, ceil_div(panels, side)
    is_even = weights == EVEN_PAIRS
    return Work(s.n, rows.tiles, columns.tiles, s.groups, tile_bytes, side, u_bytes, items, s.k, is_even)


def caches_of(device: Device) -> Caches:
    """What the blocks are cut for."""
    return Caches(device.core_cache_bytes, device.cache_bytes, device.threads, host().keeps_own)


def fused(
    problem: Problem, device: Device, tile: Tile, rows: UnitAxis, columns: UnitAxis, note: str,
    weights: Weights = FLOAT32,
) -> Plan:  # fmt: skip
    """A plan for float32 on the CPU; tile and axes belong together."""
    s, xp = problem.shape, device.xp
    work = work_of(problem, tile, rows, columns, weights)
    blocks = cut(tile, work, caches_of(device))
    work = in_turn(tile, work, blocks, caches_of(device)) if weights.own_powers else work
    values = sizes(problem, device, tile, rows, columns, work, blocks, weights)
    group_bytes, scratch_bytes = values["group_bytes"], values["scratch_bytes"]  # V of a group
    shared_bytes, own_bytes = (0, group_bytes) if blocks.private else (blocks.groups * group_bytes, 0)
    rooms = Rooms(device, shared_bytes, scratch_bytes + own_bytes)
    sharings = 1 if blocks.private else ROUNDS * values["blocks"] * (s.groups // blocks.groups)
    counters = xp.zeros(sharings * values["tickets"] // 8, xp.int64)
    out_phases = [(i, j) for i in range(rows.out_phases) for j in range(columns.out_phases)]
    tables = [channel_table(xp, problem, rows, columns, psi) for psi in out_phases]
    apart = len(out_phases) > 1  # outputs of one phase are computed next to each other and then put to their places
    unit_y = device.empty((s.n, s.k, rows.unit_outputs, columns.unit_outputs) if apart else (0,), "float32")
    lanes = (columns.step, longest_run(host().lanes, columns.step, columns), rows.channels * columns.channels == 1)
    v_bytes = shared_bytes + device.threads * own_bytes
    asks, passing = passage(s, device, blocks.private, values["x_lines"] > 0, work.filter_bytes, v_bytes, weights)
    ways = ways_at_infinity(tile, rows, columns, weights)
    arrays = {"rooms": rooms.addresses, "counters": counters, "kept": kept_channels(xp, tile, ways)}
    arguments = Arguments(xp, FIELDS, values | rows_under(tables, tile, rows) | arrays)

    def kernel(clocked: bool, streams: bool) -> int:
        arguments.set("product", panel_address(work.panels, asks, weights, ways))
        return address_of(KERNEL, convolve, tile, work.panels, weights, lanes, blocks.private, streams, clocked)

    usual = later(lambda: Kernels(passing, device.threads, partial(kernel, False)))

    def prepare(w: Any) -> Any:
        return transform_filters(device, w, problem, tile, rows, columns, weights)

    def run(x: Any, u: Any, y: Any, call: Callable[[int], None] = usual) -> None:
        arguments.point("x", x)
        arguments.point("u", u)
        rooms.settle()
        for psi, table in zip(out_phases, tables, strict=True):
            counters[...] = 0
            out = unit_y if apart else y
            arguments.point("y", out)
            arguments.point("table", table)
            call(arguments.address)
            if apart:
                put_phase(y, unit_y, rows, columns, psi)

    def phases(x: Any, u: Any, y: Any) -> Mapping[str, float]:
        clocks = xp.zeros((device.threads, CLOCK_BYTES // 8), xp.int64)
        arguments.point("clocks", clocks)
        clocked = Kernels(passing, device.threads, partial(kernel, True))
        begin = device.now()
        run(x, u, y, clocked)
        return shares(clocks, PHASES, device.now() - begin)

    flops = len(out_phases) * s.n * s.groups * executed(tile, rows, columns, values, weights)
    workspace = rooms.nbytes + sum(array.nbytes for array in (counters, unit_y, *tables))
    words = [note] + [passing] * (passing != KEPT) + [weights.words] * weights.is_scaled
    return Plan(run, prepare, workspace, "; ".join(words), flops, phases)


def executed(tile: Tile, rows: UnitAxis, columns: UnitAxis, values: Mapping[str, int], weights: Weights) -> int:
    """FLOPs for one image and group: products, without those at infinity that are left out, and transforms.

    values: of the kernel's FIELDS.
    """
    depth, filters = values["depth"], values["filters"]
    whole_rows, whole_columns = rows.tiles - short_tiles(tile.y, rows), columns.tiles - short_tiles(tile.x, columns)
    of_x = tile.real_column if tile.x.infinity is not None else 0
    in_all_columns = tile.x.reals * len(tile.infinity_planes(False)) + tile.x.pairs * len(tile.infinity_planes(True))
    of_both = len(tile.infinity_planes(False)) if tile.x.infinity is not None else 0
    of_y, of_x = in_all_columns - of_both, of_x - of_both
    ways = ways_at_infinity(tile, rows, columns, weights)
    kept_y, kept_x = (depth * way.run // way.stride for way in (ways * 3)[1:3])
    sums = 0 if weights.holds_sums else 1  # of a complex point, which are multiplied by whole
    sums_at_y, sums_at_x = sums * tile.x.pairs * bool(of_y), sums * tile.y.pairs * bool(of_x)
    products = (
        (tile.planes - of_x - of_y - of_both) * rows.tiles * columns.tiles * depth
        + of_x * rows.tiles * whole_columns * kept_x
        + of_y * whole_rows * columns.tiles * kept_y
        + of_both * whole_rows * whole_columns * kept_x
        + sums_at_x * rows.tiles * whole_columns * (depth - kept_x)
        + sums_at_y * whole_rows * columns.tiles * (depth - kept_y)
    )
    forward, backward = of_tile(tile)
    filled = ceil_div(filters, BLOCK) * BLOCK  # what fills up the last vector is computed too
    transforms = values["block_shares"] * forward * ceil_div(depth, BLOCK) * BLOCK + backward * filled
    return 2 * products * filled + rows.tiles * columns.tiles * transforms


def short_tiles(transform: Transform, axis: UnitAxis) -> int:
    """How many tiles can give one output less, and so do without the point at infinity."""
    return min(axis.tiles, axis.tiles * axis.tile - axis.unit_outputs) if transform.infinity is not None else 0


def overlaid(*users: dict[str, int]) -> tuple[dict[str, int], int]:
    """Where each buffer begins; the users, one after another, share the same bytes."""
    at, end = {}, 0
    for buffers in users:
        begin = 0
        for name, size in buffers.items():
            at[name] = begin
            begin += odd_lines(size)
        end = max(end, begin)
    return at, odd_lines(end)


def rows_under(tables: list[Any], tile: Tile, rows: UnitAxis) -> dict[str, int]:
    """The rows of x under one of tiles, those between counted: the first, relative to the tile's, and how many."""
    starts = [table[..., 1] for table in tables]
    first, last = min(int(each.min()) for each in starts), max(int(each.max()) for each in starts)
    return {"under_first": first, "under_rows": last - first + (tile.y.window - 1) * rows.step + 1}


def channel_table(xp: Any, problem: Problem, rows: UnitAxis, columns: UnitAxis, psi: tuple[int, int]) -> Any:
    """For each channel of the split: bytes from the image to its plane, its first row and column (padding: below 0).

    [groups * blocks of 16, 16, 3]; what fills up the last block is as the first channel.
    """
    s = problem.shape
    channels = s.c // s.groups
    offsets = []
    for axis, phase in ((rows, psi[0]), (columns, psi[1])):
        step_phase, step_in, step_piece, _, _ = axis.input_strides()
        inner = xp.arange(axis.in_phases)[:, None] * step_in + xp.arange(axis.pieces) * step_piece
        offsets.append(inner.ravel() + phase * step_phase - axis.pad)
    depth = channels * rows.channels * columns.channels
    table = xp.zeros((s.groups, ceil_div(depth, BLOCK) * BLOCK, LANE_FIELDS), xp.int64)
    planes = xp.arange(s.c).reshape(s.groups, channels, 1, 1) * (4 * s.h * s.w)
    whole = (s.groups, channels, rows.channels, columns.channels)
    first_row, first_column = offsets[0][:, None], offsets[1]
    for field, numbers in enumerate((planes, first_row, first_column)):
        table[:, :depth, field] = xp.broadcast_to(numbers, whole).reshape(s.groups, depth)
    table[:, depth:] = table[:, :1]  # meets no filter
    assert table.itemsize * LANE_FIELDS == LANE_BYTES
    return table
