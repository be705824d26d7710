"""U, the filters as products need them, and which channels meet nothing but zeros of it."""

from __future__ import annotations

from typing import Any

from convbench.algorithms.fused.sizes import SIZE
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import UnitAxis, ceil_div, filter_pieces
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector.product import ALL, Kept
from convbench.vector.weights import BLOCK, EVEN_PAIRS, FLOAT32, Weights


def depth_of(s: ConvShape, rows: UnitAxis, columns: UnitAxis, weights: Weights) -> int:
    """Channels of a group after the split; for products in pairs filled up to whole blocks."""
    depth = s.c // s.groups * rows.channels * columns.channels
    return ceil_div(depth, BLOCK) * BLOCK if weights.in_pairs else depth


def ways_at_infinity(tile: Tile, rows: UnitAxis, columns: UnitAxis, weights: Weights = FLOAT32) -> tuple[Kept, ...]:
    """Which channels are multiplied: all; at infinity along y; along x. One way where that is all of them.

    The point at infinity is the filter's last tap. Of a stride's phases some have a tap less: there U is zero. The
    others come first; where blocks of 16 channels do not tell them apart, or rows have powers of their own, or there is
    no such point, all are multiplied.
    """
    if weights.own_powers or (tile.y.infinity is None and tile.x.infinity is None):
        return (ALL,)
    channels = rows.channels * columns.channels
    y, x = Kept(rows.whole_channels * columns.channels, channels), Kept(columns.whole_channels, columns.channels)
    ways = tuple(way if BLOCK % way.stride == 0 and way.run < way.stride else ALL for way in (y, x))
    return (ALL, *ways) if ways != (ALL, ALL) else (ALL,)


def kept_channels(xp: Any, tile: Tile, ways: tuple[Kept, ...]) -> Any:
    """Which of each 16 channels a plane's products go through, of ways_at_infinity: [planes, 16] float32, 1 or 0."""
    kept = xp.ones((tile.planes, BLOCK), xp.float32)
    if len(ways) == 1:
        return kept
    at_y, at_x = ([float(i % way.stride < way.run) for i in range(BLOCK)] for way in ways[1:])
    for j in range(tile.x.reals + tile.x.pairs):
        before = max(0, j - tile.x.reals)
        first, is_pair = (j - before) * tile.real_column + before * tile.pair_column, j >= tile.x.reals
        kept[[first + plane for plane in tile.infinity_planes(is_pair)]] = at_y
        if j == tile.x.infinity:
            kept[first : first + tile.real_column] = at_x
    return kept


def panel_bytes(tile: Tile, weights: Weights, depth: Any) -> Any:
    """Bytes of U of a panel; an int or an Index."""
    reals, points = (sum(run[i] for run in tile.runs) for i in range(2))
    return weights.before(depth) * reals + weights.point_bytes(depth) * points


def transform_filters(
    device: Device, w: Any, problem: Problem, tile: Tile, rows: UnitAxis, columns: UnitAxis, weights: Weights
) -> Any:
    """U [groups, panels, points, depth, 16] as bytes: a product in float64 for each panel, rounded once."""
    s, xp = problem.shape, device.xp
    pieces = filter_pieces(xp, w, s, rows, columns)
    taps = rows.length * columns.length
    filters = s.k // s.groups
    flat = pieces.reshape(s.groups, filters, -1, taps)
    depth, panels = depth_of(s, rows, columns, weights), ceil_div(filters, BLOCK)
    u, parts = weights.room(device, (s.groups, panels), depth, panel_bytes(tile, weights, depth))
    matrix = tile.filters()
    sizes = tile.input_sizes / tile.mean_size if weights == EVEN_PAIRS else xp.full(tile.planes, SIZE)

    def one(item: int, thread: int) -> None:
        group, panel = divmod(item, panels)
        block = xp.zeros((taps, depth, BLOCK))
        part = flat[group, panel * BLOCK : (panel + 1) * BLOCK]  # filters, depth, taps
        block[:, : part.shape[1], : len(part)] = part.transpose(2, 1, 0)
        with xp.errstate(invalid="ignore"):  # an infinity meets a zero: NaN
            product = (matrix @ block.reshape(taps, -1)).reshape(len(matrix), depth, BLOCK)
        pack_planes(xp, tile, weights, product, parts[group, panel], sizes)

    device.parallel(one, s.groups * panels)
    return u


def pack_planes(xp: Any, tile: Tile, weights: Weights, planes: Any, into: Any, sizes: Any) -> None:
    """Planes as of Tile.filters [.., depth, 16] into a panel's bytes.

    sizes [tile.planes]: V's, which for products in pairs U is brought to.
    """
    depth = planes.shape[-2]
    real_bytes, point_bytes = weights.before(depth), weights.point_bytes(depth)
    begin = of_filters = plane = 0
    for reals, points in tile.runs:
        end = begin + reals * real_bytes
        some, of_some = planes[of_filters : of_filters + reals], sizes[plane : plane + reals]
        weights.pack(xp, some, into[begin:end].reshape(reals, real_bytes), of_some)
        begin, of_filters, plane = end, of_filters + reals, plane + reals
        end = begin + points * point_bytes
        some = planes[of_filters : of_filters + 2 * points].reshape(points, 2, depth, BLOCK)
        of_some = sizes[plane : plane + 3 * points].reshape(points, 3)
        weights.pack_points(xp, some, into[begin:end].reshape(points, point_bytes), of_some)
        begin, of_filters, plane = end, of_filters + 2 * points, plane + 3 * points
