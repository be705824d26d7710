"""How the tiles of all images are cut into blocks, by a rule about what shall lie in which cache.

A block's tiles go through the engine together. Of M (the products of all points along y at one point along x) and of
V's plane at work, parts of a core's own cache are filled; of T and V as a whole, parts of the cache all cores share.
Where V of a block that is still large enough for the products fits a core's own cache, each thread gets blocks of its
own, and nobody waits for anybody.
"""

from __future__ import annotations

from dataclasses import dataclass

from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import ceil_div
from convbench.vector.product import LINE

M_PART, PLANE_PART = 0.5, 0.25  # of a core's own cache
T_PART, V_PART = 0.25, 0.375  # of the shared one
PRIVATE_PART = 0.75  # of a core's own cache, for V of a thread's own block
LEAST_ROWS = 12  # tiles a block of a thread's own must have, for the products to pay
TOGETHER = (2, 3, 1)  # panels of 16 filters that go through V at once: two, where they come out even


@dataclass(frozen=True)
class Caches:
    """Bytes: a core's own, the one all share; and how many threads share it."""

    core: int
    shared: int
    threads: int


@dataclass(frozen=True)
class Work:
    """What is to be cut: images, rows of tiles and tiles a row of each, groups, panels of 16 filters a group."""

    images: int
    rows: int
    tiles: int
    groups: int
    panels: int
    tile_bytes: int  # of one tile's one point, all channels of a group


@dataclass(frozen=True)
class Blocks:
    """The cut: images and rows of tiles a block; whose it is; how many panels go through it at once."""

    images: int
    tile_rows: int
    private: bool
    together: int


def cut(tile: Tile, work: Work, caches: Caches) -> Blocks:
    """The rule above."""
    own = int(PRIVATE_PART * caches.core) // (tile.planes * work.tile_bytes * work.groups)
    if own >= LEAST_ROWS and work.images * work.rows * work.tiles >= own * caches.threads:
        return _blocks(work, min(own, most_tiles(tile, work, caches, 1)), True, 1)
    items = work.groups * work.panels
    together = next(
        (count for count in TOGETHER if work.panels % count == 0 and items // count % caches.threads == 0), 1
    )
    return _blocks(work, most_tiles(tile, work, caches, together), False, together)


def most_tiles(tile: Tile, work: Work, caches: Caches, together: int) -> int:
    """Tiles a block at most, at least one."""
    column = max(tile.real_column, tile.pair_column if tile.x.pairs else 0)
    limits = (
        (M_PART * caches.core, column * together * LINE),
        (PLANE_PART * caches.core, work.tile_bytes),
        (T_PART * caches.shared, tile.y.outputs * tile.columns * LINE * together * caches.threads),
        (V_PART * caches.shared, tile.planes * work.tile_bytes * work.groups),
    )
    return max(1, min(int(room) // each for room, each in limits))


def _blocks(work: Work, most: int, private: bool, together: int) -> Blocks:
    """Whole images where one fits, in equal parts, else equal strips of an image."""
    if work.rows * work.tiles <= most:
        images = ceil_div(work.images, ceil_div(work.images, most // (work.rows * work.tiles)))
        return Blocks(images, work.rows, private, together)
    strip = max(1, most // work.tiles)
    return Blocks(1, ceil_div(work.rows, ceil_div(work.rows, strip)), private, together)
