"""How the tiles of all images are cut into blocks, by a rule about what shall lie in which cache.

A block's tiles go through the engine together. Of M (the products of all points along y at one point along x), of T
(those of all points along x, inverted along y) and of V's plane at work, parts of a core's own cache are filled; of V
as a whole, a part of the cache all cores share. T is there too where that is less than what larger blocks save: it is
written once and read once, while all filters are read for each block. Where those come from memory and blocks are too
small for it, a block takes one group at a time, if the group's filters still keep all threads busy. Where V of one
group of a block that is still large enough for the products fits a core's own cache, and such blocks can be dealt out
evenly, each thread gets blocks of its own: nobody waits for anybody, and what one core has written no other reads. A
thread that gets several takes the largest whose V, M and T leave half of that cache to what passes through it; a fifth
for products in pairs, which want filters sooner, and so larger blocks (those of V's rows without powers of their own,
weights.EVEN_PAIRS). Where there are fewer such blocks than threads, and filters enough, threads share out a block's
filters; each makes V anew.

Where a core's own cache does not keep V while filters pass through it (Target.keeps_own), V is asked for ahead as if it
lay in the shared one. Then a thread's own blocks may be larger than that cache, and those are best that keep all
threads as busy as possible and read the filters seldom.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from convbench.algorithms.fused.lines import NEAR
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import ceil_div
from convbench.vector.product import ROWS_IN_PAIRS
from convbench.vector.weights import LINE

M_PART, T_PART, PLANE_PART = 0.5, 1.0, 0.25  # of a core's own cache, each at most
V_PART = 0.375  # of the shared one
PRIVATE_PART = 0.75  # of a core's own cache, for V of one group of a thread's own block
ASKED_PART = 1.7  # for V, M and T together, where V is asked for ahead anyway
CLOSE_PART = 0.5  # of a core's own cache, for V, M and T of a thread's own block together, if that leaves
PAIRS_PART = 0.8  # or so much for products in pairs, which meet filters in less time and ask for V themselves
CLOSE_ROWS = 16  # or more tiles
LEAST_ROWS = 12  # tiles a block of a thread's own must have, for the products to pay,
FEW_ROWS = 8  # or so many, where all filters are at most
PAIRS_ROWS = 16  # or so many for products in pairs, which fewer keep from their speed
ASKED_ROWS = 24  # or so many, where V is asked for ahead anyway and filters come from far
FILTERS_PART = 0.25  # of the shared cache, from which each block reads them again
ENOUGH_TILES = 24  # of a block: with fewer, products wait for filters that come from memory
SHARE_FILTERS = 96  # of a group, for each further thread that makes V anew instead of reading it from another core
FILTERS_TILES = 3  # whose products take as long as a block's filters add: fitted to 9 to 72 tiles on an Intel Xeon
EVEN = 1.15  # the work of the busiest thread, over an even share, at most


@dataclass(frozen=True)
class Caches:
    """Bytes: a core's own, the one all share; and how many threads share it.

    keeps: whether the core's own holds V while filters pass through it (Target.keeps_own).
    """

    core: int
    shared: int
    threads: int
    keeps: bool = True


@dataclass(frozen=True)
class Work:
    """What is to be cut: images, rows of tiles and tiles a row of each, groups."""

    images: int
    rows: int
    tiles: int
    groups: int
    tile_bytes: int  # of one tile's one point, all channels of a group
    panels: int = 1  # whose products go side by side, or in turn, each with its M and T
    filter_bytes: int = 0  # of all points of all filters
    items: int = 1  # of such panels, in each group
    filters: int = 0  # of all groups
    in_pairs: bool = False  # its products, with V as it is (weights.EVEN_PAIRS)

    def unevenness(self, groups: int, threads: int) -> float:
        """The busiest thread's share over an even one, where threads share out the filters of so many groups."""
        items = groups * self.items
        return ceil_div(items, threads) * threads / items

    def passes(self, caches: Caches) -> bool:
        """Whether the filters come from memory again for each block, as the shared cache cannot hold them."""
        return self.filter_bytes > caches.shared


@dataclass(frozen=True)
class Blocks:
    """The cut: images and rows of tiles a block, whether it is a thread's own, groups it takes."""

    images: int
    tile_rows: int
    private: bool
    groups: int = 1
    shares: int = 1  # that a private block's filters come in, each with a V of its own

    def number(self, work: Work) -> int:
        """Of blocks, for all images."""
        return ceil_div(work.images, self.images) * ceil_div(work.rows, self.tile_rows)


def cut(tile: Tile, work: Work, caches: Caches) -> Blocks:
    """The rule above."""
    limits = _limits(tile, work, caches)
    shared, one = (_shared(part, most_tiles(tile, part, caches)) for part in (work, replace(work, groups=1)))
    waits = work.passes(caches) and _tiles(shared) * work.tiles < ENOUGH_TILES
    if waits and one.number(work) < shared.number(work) and work.unevenness(1, caches.threads) <= EVEN:
        shared = one
    private = list(_private(work, limits.least, limits.most, caches.threads))
    fitting = [blocks for blocks in private if limits.least_close <= _tiles(blocks) * work.tiles <= limits.most_close]
    best = max(private, key=_tiles, default=shared)
    if not caches.keeps:
        best = min(private, key=lambda blocks: _time(blocks, work, caches.threads), default=shared)
    if best.number(work) * work.groups <= caches.threads:  # each thread reads its filters once
        return best
    return max(fitting, key=_tiles, default=best)


def in_turn(tile: Tile, work: Work, blocks: Blocks, caches: Caches) -> Work:
    """With two panels that meet each plane of V in turn, where V so comes from the shared cache half as often.

    It does where threads share V, the first cache holds rows of it that go together beside filters, and a core's own
    cache M and T of both panels. Threads must stay as busy.
    """
    two = replace(work, panels=2, items=ceil_div(work.items, 2))
    has_room = sum(_room(tile, two)) * _tiles(blocks) * work.tiles <= T_PART * caches.core
    is_near = ROWS_IN_PAIRS * work.tile_bytes <= NEAR
    is_even = two.unevenness(blocks.groups, caches.threads) <= EVEN
    return two if work.panels == 1 and not blocks.private and has_room and is_near and is_even else work


class _Limits(NamedTuple):
    """Tiles of a thread's own block, from and to; and of one that leaves room in the cache for what passes."""

    least: int
    most: int
    least_close: int
    most_close: int


def _limits(tile: Tile, work: Work, caches: Caches) -> _Limits:
    v = tile.planes * work.tile_bytes
    all_parts, fits = v + sum(_room(tile, work)), _fitting(tile, work, caches, False)
    close = int((PAIRS_PART if work.in_pairs else CLOSE_PART) * caches.core) // all_parts
    least = FEW_ROWS if work.filter_bytes <= FILTERS_PART * caches.shared else LEAST_ROWS
    if work.in_pairs:
        least = PAIRS_ROWS
    if caches.keeps:
        return _Limits(least, min(fits, int(PRIVATE_PART * caches.core) // v), CLOSE_ROWS, close)
    return _Limits(
        ASKED_ROWS if work.passes(caches) else least, min(fits, int(ASKED_PART * caches.core) // all_parts),
        ASKED_ROWS if work.filter_bytes > caches.core else CLOSE_ROWS, close,
    )  # fmt: skip


def _room(tile: Tile, work: Work) -> tuple[int, int]:
    """Bytes that M and T take for a tile, of all panels that go side by side, or in turn."""
    column = max(tile.real_column, tile.pair_column if tile.x.pairs else 0)
    return work.panels * column * LINE, work.panels * tile.y.outputs * tile.columns * LINE


def _tiles(blocks: Blocks) -> int:
    return blocks.images * blocks.tile_rows


def _private(work: Work, least: int, most: int, threads: int) -> Iterator[Blocks]:
    """Cuts into threads' own blocks of at least and at most so many tiles that keep all threads about equally busy."""
    whole = [Blocks(n, work.rows, True) for n in range(1, min(work.images, most // (work.rows * work.tiles)) + 1)]
    strips = [Blocks(1, rows, True) for rows in range(1, min(work.rows - 1, most // work.tiles) + 1)]
    for blocks in whole + strips:
        is_all = (blocks.images, blocks.tile_rows) == (work.images, work.rows)  # a shared block would not be larger
        shares = max(1, threads // (blocks.number(work) * work.groups))
        if work.filters // work.groups < SHARE_FILTERS * (shares - 1):
            shares = 1
        cut_up = replace(blocks, shares=shares)
        is_even = _fullest(cut_up, work, threads) * threads <= EVEN * work.images * work.rows * work.groups * work.items
        if is_even and (is_all or _tiles(blocks) * work.tiles >= least):
            yield cut_up


def _fullest(blocks: Blocks, work: Work, threads: int) -> int:
    """Tiles of the busiest thread, each counted once for each of the items made of it."""
    parts = blocks.number(work) * work.groups * blocks.shares
    return ceil_div(parts, threads) * _tiles(blocks) * ceil_div(work.items, blocks.shares)


def _time(blocks: Blocks, work: Work, threads: int) -> float:
    """The busiest thread's, in tiles, to which the filters of each of its blocks add FILTERS_TILES."""
    return _fullest(blocks, work, threads) * (1 + FILTERS_TILES / (_tiles(blocks) * work.tiles))


def most_tiles(tile: Tile, work: Work, caches: Caches) -> int:
    """Tiles a block at most, at least one; T beside V in the shared cache where fewer lines come from there then."""
    small, large = (_fitting(tile, work, caches, is_shared) for is_shared in (False, True))
    planes = sum(reals + 2 * points for reals, points in tile.runs)  # of filters
    filters, t = planes * work.tile_bytes // 4, tile.y.outputs * tile.columns  # lines a panel, lines a tile
    return large if filters / large + 2 * t < filters / small else small


def _fitting(tile: Tile, work: Work, caches: Caches, t_is_shared: bool) -> int:
    """Tiles of a block of which all parts fit their caches, T the shared one or each core's own; at least one."""
    (m, t), v = _room(tile, work), tile.planes * work.tile_bytes * work.groups
    limits = (
        (M_PART * caches.core, m),
        (PLANE_PART * caches.core, work.tile_bytes),
        (T_PART * caches.core, 0 if t_is_shared else t),
        (V_PART * caches.shared, v + caches.threads * t if t_is_shared else v),
    )
    return max(1, min(int(room) // each for room, each in limits if each))


def _shared(work: Work, most: int) -> Blocks:
    """Of all groups of the work: whole images where one fits, in equal parts, else equal strips of an image."""
    if work.rows * work.tiles <= most:
        images = ceil_div(work.images, ceil_div(work.images, most // (work.rows * work.tiles)))
        return Blocks(images, work.rows, False, work.groups)
    strip = max(1, most // work.tiles)
    return Blocks(1, ceil_div(work.rows, ceil_div(work.rows, strip)), False, work.groups)
