"""fft.int8x3, planned: the size of its transforms, blocks of tiles, chunks of filters, and the filters as digits."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import prod
from typing import Any

from convbench.algorithms.base import Plan, Unsupported
from convbench.algorithms.compiled import plan_of
from convbench.algorithms.fft.int8x3_kernel import FIELDS, PHASES, convolve, frequencies, up_to_line
from convbench.algorithms.fft.vector import IN_REGISTERS, LONGEST_PIECE, sizes_of, tile_of
from convbench.algorithms.fused.lines import LANE_FIELDS, NEAR, longest_run, past_caches
from convbench.algorithms.fused.operations import of_tile
from convbench.algorithms.fused.plan import channel_table, odd_lines, overlaid, rows_together
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import UnitAxis, axes, ceil_div, filter_pieces
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector import digits
from convbench.vector.build import address_of
from convbench.vector.complex_digits import PARTS
from convbench.vector.digits import MOST_DEPTH, STEP, STEP_BYTES
from convbench.vector.room import Rooms
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL, tickets
from convbench.vector.tiles import FOUR, ROWS, even_rows
from convbench.vector.weights import BLOCK, LINE

ROOM = 15 << 20  # bytes for A of a block and C of all threads
LEAST_TILES = 16  # of a block, where there are so many: with fewer, products wait for filters
# In the time of a multiply-add of the products, fitted to times of these sizes on two Granite Rapids cores:
TRANSFORM = 150  # what a transform takes for one number, digits and sums put together included
SPILLS = (1.2, 1.04)  # by how much it takes longer with more points along y, or x, than registers hold
FROM_MEMORY, FROM_CACHE = 13, 5  # what a byte of filters takes to come
# How much of that passes during products, or of them during it; the latter where each panel meets a single tile of A,
# and both, deeper than NEAR_STEPS, come from the second-level cache.
HIDDEN, PARTLY_HIDDEN, NEAR_STEPS = 0.9, 0.5, 5


@dataclass(frozen=True)
class Cut:
    """How the work is cut up, and what follows from the shape alone."""

    tile: Tile
    rows: UnitAxis
    columns: UnitAxis
    depth: int  # channels of a group, after the split
    panels: int  # of 16 filters of a group
    lines: int  # rows of tiles of a block
    chunks: int  # of a group's panels: what a thread works on

    @property
    def channel_blocks(self) -> int:
        """Of 16."""
        return ceil_div(self.depth, BLOCK)

    @property
    def steps(self) -> int:
        """Of the depth, of one part."""
        return steps_of(self.depth)

    @property
    def fours(self) -> int:
        """Of a step."""
        return fours_of(self.depth)

    @property
    def tiles(self) -> int:
        """Of a block."""
        return self.lines * self.columns.tiles


def steps_of(depth: int) -> int:
    """Of one part of the depth, for so many channels."""
    return ceil_div(depth, STEP)


def fours_of(depth: int) -> int:
    """Of each step, so that they hold all channels: what fills up a step would be filters to read, too."""
    return ceil_div(depth, FOUR * steps_of(depth))


def rows_of(tiles: int) -> int:
    """Of A and C, at most."""
    return ceil_div(tiles, ROWS) * ROWS


def point_bytes(tiles: int, steps: int) -> int:
    """Of A of a frequency."""
    return rows_of(tiles) // ROWS * PARTS * steps * STEP_BYTES + LINE


def block_bytes(tile: Tile, tiles: int, steps: int, panels: int) -> tuple[int, int]:
    """Of A for so many tiles, and of C for so many panels."""
    points = frequencies(tile)
    return points * point_bytes(tiles, steps), panels * points * odd_lines(PARTS * rows_of(tiles) * LINE)


def cut_up(problem: Problem, size: tuple[int, int], threads: int) -> Cut:
    """The rule: a chunk of filters for each thread, and as many rows of tiles as ROOM holds, in even blocks.

    More chunks where LEAST_TILES would not fit. No number depends on how it is cut.
    """
    s = problem.shape
    tile, rows, columns = tile_of(problem, size)
    depth, panels = s.c // s.groups * rows.channels * columns.channels, ceil_div(s.k // s.groups, BLOCK)
    lines = s.n * rows.tiles
    least = min(lines, ceil_div(LEAST_TILES, columns.tiles))

    def fits(count: int, chunks: int) -> bool:
        a, c = block_bytes(tile, count * columns.tiles, steps_of(depth), ceil_div(panels, chunks))
        return a + threads * c <= ROOM

    fewest = min(threads, panels)
    numbers = range(fewest, panels + 1, fewest)
    chunks = next((number for number in numbers if fits(least, number)), panels)
    fitting = bisect(range(1, lines + 1), False, key=lambda count: not fits(count, chunks))
    most = max(least, fitting)
    even = ceil_div(lines, ceil_div(lines, most))
    full = next((count for count in range(even, most + 1) if count * columns.tiles % ROWS == 0), even)
    return Cut(tile, rows, columns, depth, panels, full, chunks)


def cost(problem: Problem, size: tuple[int, int], device: Device) -> float:
    """The time of a size of transforms, in multiply-adds: products, filters' way to them, transforms."""
    s, cut = problem.shape, cut_up(problem, size, 1)  # more threads cut C up, not tiles
    points, panels = PARTS * frequencies(cut.tile), cut.panels * BLOCK
    tiles = s.n * cut.rows.tiles * cut.columns.tiles
    rows = ceil_div(tiles, cut.tiles) * rows_of(cut.tiles)
    products = points * rows * PARTS * cut.steps * STEP * panels
    filters = cut.panels * filters_bytes(cut.tile, cut.depth)
    way = FROM_MEMORY if s.groups * filters > device.cache_bytes else FROM_CACHE
    coming = way * filters * ceil_div(s.n * cut.rows.tiles, cut.lines)
    coming += FROM_CACHE * cut.chunks * points * rows * cut.steps * STEP_BYTES // ROWS  # A, again for each chunk
    hidden = min(coming, products) * (HIDDEN if cut.tiles > ROWS or cut.steps <= NEAR_STEPS else PARTLY_HIDDEN)
    spills = prod(factor for factor, side in zip(SPILLS, size, strict=True) if side > IN_REGISTERS)
    transforms = TRANSFORM * points * tiles * spills
    return s.groups * (products + coming - hidden + transforms * (cut.depth + panels))


def is_staged(s: ConvShape, cut: Cut, device: Device, target: Target) -> bool:
    """Whether 16 planes of an image are put together before they go past the caches.

    Those that lie in the first-level cache meanwhile, if y does not stay in the caches beside the filters; larger ones
    only if y alone is too large, as they cost a way to the second-level cache and back.
    """
    planes, filters = LINE * s.p * s.q, s.groups * cut.panels * filters_bytes(cut.tile, cut.depth)
    if target.lanes < BLOCK or s.k // s.groups % BLOCK or cut.lines % cut.rows.tiles:
        return False
    y = 4 * prod(s.y_shape)
    return y + filters > device.cache_bytes if planes <= NEAR else past_caches(s, device) == 1


def filters_bytes(tile: Tile, depth: int) -> int:
    """Of a panel's B, all frequencies."""
    return frequencies(tile) * panel_bytes(depth)


def panel_bytes(depth: int) -> int:
    """Of B of a frequency, for so many channels."""
    return digits.panel_bytes(PARTS * steps_of(depth) * fours_of(depth) * FOUR, fours_of(depth))


def layout(cut: Cut, staged: bool) -> dict[str, int]:
    """Of the shared room and a thread's own, as fields of the kernel."""
    tile, blocks, window = cut.tile, cut.channel_blocks, cut.tile.y.window
    points, c_bytes = frequencies(tile), odd_lines(PARTS * rows_of(cut.tiles) * LINE)
    pitch = ceil_div(tile.x.window, BLOCK) * BLOCK * LINE
    buffer_rows = min(window, max(1, NEAR // pitch))
    row_bytes = tile.columns * LINE
    room_bytes = odd_lines(window * row_bytes)
    column = max(tile.y.reals + tile.y.pairs, tile.y.reals + 2 * tile.y.pairs if tile.x.pairs else 0)
    v_bytes = odd_lines(PARTS * cut.steps * FOUR * LINE)
    c_panel = points * c_bytes
    pixel_rows = min(tile.y.outputs, rows_together(cut.columns.unit_outputs))
    pixels = pixel_rows * cut.columns.unit_outputs
    at, scratch_bytes = overlaid(
        {
            "buffer": buffer_rows * pitch, "room": blocks * room_bytes, "v": column * v_bytes,
            "factors": 4 * column + LINE,
        },
        {
            "c": ceil_div(cut.panels, cut.chunks) * c_panel,
            "t": cut.columns.tiles * tile.y.outputs * row_bytes,
            "pixels": (pixels + tile.x.window + BLOCK) * LINE, "nowhere": 4 * pixels + LINE,
            "staged": 2 * LINE * cut.rows.unit_outputs * cut.columns.unit_outputs if staged else 0,  # of two images
        },
    )  # fmt: skip
    a_bytes = points * point_bytes(cut.tiles, cut.steps)
    return {
        "channel_blocks": blocks, "buffer_rows": buffer_rows, "columns": tile.x.window, "pitch": pitch,
        "row_bytes": row_bytes, "room_bytes": room_bytes, "v_bytes": v_bytes, "steps": cut.steps, "fours": cut.fours,
        "rows": even_rows(cut.tiles),
        "tile_bytes": PARTS * cut.steps * STEP_BYTES, "point_bytes": point_bytes(cut.tiles, cut.steps),
        "c_bytes": c_bytes, "c_panel_bytes": c_panel, "pixel_rows": pixel_rows,
        "panel_bytes": panel_bytes(cut.depth),
        "scales_at": a_bytes, "shared_bytes": a_bytes + rows_of(cut.tiles) * up_to_line(4 * points),
        "scratch_bytes": scratch_bytes,
        "room_at": at["room"], "v_at": at["v"], "factors_at": at["factors"],
        "t_at": at["t"], "pixels_at": at["pixels"], "nowhere_at": at["nowhere"],
        "staged": int(staged), "staged_at": at["staged"],
    }  # fmt: skip


def plan(problem: Problem, device: Device, target: Target | None = None) -> Plan:
    """The plan with the size of transforms that promises the least time."""
    rows, columns = axes(problem.shape, None, LONGEST_PIECE)
    candidates = product(sizes_of(rows), sizes_of(columns))
    return of_size(problem, device, min(candidates, key=lambda size: cost(problem, size, device)), target)


def of_size(problem: Problem, device: Device, size: tuple[int, int], target: Target | None = None) -> Plan:
    """The plan around the kernel, on the target's tiles or, where it has none, on the same in memory."""
    s, xp, target = problem.shape, device.xp, target or host()
    cut = cut_up(problem, size, device.threads)
    tile, rows, columns = cut.tile, cut.rows, cut.columns
    if PARTS * cut.steps * STEP > MOST_DEPTH:
        raise Unsupported(f"sums of {PARTS * cut.steps * STEP} products: 32 bits hold those of {MOST_DEPTH}")
    fields, lines = layout(cut, is_staged(s, cut, device, target)), s.n * rows.tiles
    rooms = Rooms(device, fields.pop("shared_bytes"), fields.pop("scratch_bytes"))
    blocks = ceil_div(lines, cut.lines)
    values = {
        "table": tables(xp, problem, cut), "lines": lines, "block_lines": cut.lines, "blocks": blocks,
        "tile_rows": rows.tiles, "tile_columns": columns.tiles, "groups": s.groups,
        "chunks": cut.chunks, "tickets": tickets(device.threads), "panels": cut.panels,
        "image_bytes": 4 * s.c * s.h * s.w, "height": s.h, "width": s.w,
        "row_step": rows.step, "filters": s.k // s.groups, "out_rows": s.p, "out_columns": s.q,
        "out_image_bytes": 4 * s.k * s.p * s.q, "out_channel_bytes": 4 * s.p * s.q, "past": past_caches(s, device),
    }  # fmt: skip
    alike = rows.channels * columns.channels == 1
    lanes = (columns.step, longest_run(target.lanes, columns.step, columns), alike)
    forward, backward = of_tile(tile)
    tiles, filled = lines * columns.tiles, cut.panels * BLOCK
    full, rest = divmod(lines, cut.lines)
    each = even_rows(cut.tiles)
    a_rows = full * ceil_div(cut.tiles, each) * each + ceil_div(rest * columns.tiles, each) * each
    words = [f"{size[0]}x{size[1]} points, {rows.tiles * columns.tiles} tile{'s' * (tiles > s.n)} an image"]
    words += ["polyphase"] * (not alike) + [f"numbers as three bytes; blocks of {cut.tiles} tiles"]
    return plan_of(
        device, FIELDS, values | fields, PHASES,
        lambda clocked: address_of(KERNEL, convolve, tile, lanes, clocked, target=target),
        partial(packed_filters, device, problem, cut),
        "; ".join(words),
        s.groups * (2 * a_rows * PARTS**2 * frequencies(tile) * cut.steps * cut.fours * FOUR * filled
                    + tiles * (forward * cut.channel_blocks * BLOCK + backward * filled)),
        rooms, 2 * blocks * s.groups,
    )  # fmt: skip


def tables(xp: Any, problem: Problem, cut: Cut) -> Any:
    """For each column of tiles the table of channels (fused/plan.py), its first column where those tiles begin."""
    table = channel_table(xp, problem, cut.rows, cut.columns, (0, 0))
    found = xp.empty((cut.columns.tiles, *table.shape), xp.int64)
    found[...] = table
    found[..., LANE_FIELDS - 1] += (xp.arange(cut.columns.tiles) * cut.tile.x.outputs * cut.columns.step)[:, None, None]
    return found


def packed_filters(device: Device, problem: Problem, cut: Cut, w: Any) -> Any:
    """Filters' frequencies as digits [groups, frequencies, panels, bytes of a panel], depth as split has it."""
    s, xp, tile, panels = problem.shape, device.xp, cut.tile, cut.panels
    filters, points = s.k // s.groups, frequencies(tile)
    flat = filter_pieces(xp, w, s, cut.rows, cut.columns).reshape(s.groups, filters, cut.depth, -1)
    matrix = spectra(xp, tile)
    out = device.empty((s.groups, points, panels, panel_bytes(cut.depth) // 4), "float32").view(xp.uint8)
    whole = cut.steps * cut.fours * FOUR  # channels

    def one(item: int, thread: int) -> None:
        group, panel = divmod(item, panels)
        part = flat[group, panel * BLOCK : (panel + 1) * BLOCK].astype(float)
        block = xp.zeros((part.shape[2], cut.depth, BLOCK))
        block[:, :, : len(part)] = part.transpose(2, 1, 0)
        with xp.errstate(invalid="ignore"):  # of what is not finite, which its filter's scale says
            spectrum = (matrix @ block.reshape(len(block), -1)).reshape(PARTS * points, cut.depth, BLOCK)
        ordered = xp.zeros((PARTS * points, whole, BLOCK))
        ordered[:, : cut.depth] = spectrum
        ordered = ordered.reshape(points, PARTS * cut.steps, FOUR, cut.fours, BLOCK).swapaxes(2, 3)
        digits.pack(xp, ordered.reshape(points, -1, BLOCK), out[group, :, panel], cut.fours)

    device.parallel(one, s.groups * panels)
    return out


def spectra(xp: Any, tile: Tile) -> Any:
    """What makes a filter's frequencies of its taps, re over im: [frequencies 2, R S], float64."""
    along_y, along_x = tile.y.filter_rows(), tile.x.filter_rows()
    found = []
    for j in range(tile.x.reals + tile.x.pairs):
        count = len(along_y) if j >= tile.x.reals else tile.y.reals + tile.y.pairs
        for i in range(count):
            point = xp.outer(along_y[i], along_x[j]).ravel()
            found += [point.real, point.imag]
    return xp.array(found)
