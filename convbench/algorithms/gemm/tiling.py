"""Which tile a matrix product on a GPU is cut into, and how many shares its depth goes in: the least estimated time.

A block of threads computes `filters` x `pixels` outputs of one group, in steps of `depth` taps. Where there are too few
blocks to fill the GPU, several share the taps of an output, and their parts are added up afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convbench.algorithms.gpu import MULTIPROCESSORS

START_STEPS = 4  # what filling the buffers and writing the outputs take, in steps of a block
LONELY = 0.7  # of the usual rate, where fewer blocks than a multiprocessor could hold hide each other's waits
MOST_SHARES = 64
LEAST_STEPS = 4  # of a share: fewer are all start and end
LEAST_GAIN = 1.05  # for which parts are worth their memory: the estimate is not more exact than that
SECOND_LAUNCH = 500_000  # multiply-adds a multiprocessor misses in 2 us, for the kernel that adds the parts up


@dataclass(frozen=True)
class Tile:
    """What a block computes, and what each of its `workers` (threads, or warps on tensor cores) computes of that.

    speed guesses its rate beside the best tile's; resident is how many blocks a multiprocessor is to hold.
    """

    filters: int
    pixels: int
    depth: int
    worker_filters: int
    worker_pixels: int
    speed: float
    resident: int

    @property
    def workers(self) -> int:
        """Threads, or warps, a block."""
        return self.filters * self.pixels // (self.worker_filters * self.worker_pixels)


@dataclass(frozen=True)
class Tiling:
    """A tile, the shares that the taps go in, and the blocks of a launch."""

    tile: Tile
    shares: int
    filter_tiles: int
    blocks: int
    steps: int  # of one share; shares * steps * tile.depth taps are computed, the last of them perhaps zeros

    @property
    def depth(self) -> int:
        """Taps, those of zeros that fill the last steps included."""
        return self.shares * self.steps * self.tile.depth

    @property
    def flops(self) -> int:
        """What the blocks execute, with what lies outside the matrices."""
        return 2 * self.blocks * self.tile.filters * self.tile.pixels * self.steps * self.tile.depth

    @property
    def note(self) -> str:
        """In words, for a result's row."""
        words = f"tiles of {self.tile.filters} filters x {self.tile.pixels} pixels"
        return words + (f", taps in {self.shares} shares" if self.shares > 1 else "")


def best_tiling(tiles: Sequence[Tile], groups: int, filters: int, pixels: int, taps: int, sum_cost: int) -> Tiling:
    """The tiling of `groups` products [filters x taps] [taps x pixels] with the least estimated time.

    sum_cost is what writing or reading one part takes, in multiply-adds of the whole GPU.
    """
    outputs = groups * filters * pixels

    def time(tiling: Tiling) -> float:
        """In multiply-adds of one multiprocessor: those of the busiest one, and its part of the sums."""
        tile = tiling.tile
        rounds = -(-tiling.blocks // MULTIPROCESSORS)
        rate = tile.speed * (1.0 if rounds >= tile.resident else LONELY)
        products = rounds * tile.filters * tile.pixels * tile.depth * (tiling.steps + START_STEPS)
        if tiling.shares == 1:
            return products / rate
        sums = outputs * (tiling.shares + 1) * sum_cost / MULTIPROCESSORS
        return LEAST_GAIN * (products / rate + SECOND_LAUNCH + sums)

    candidates = []
    for tile in tiles:
        filter_tiles = -(-filters // tile.filters)
        blocks, all_steps = groups * filter_tiles * -(-pixels // tile.pixels), -(-taps // tile.depth)
        for wanted in range(1, max(1, min(MOST_SHARES, all_steps // LEAST_STEPS)) + 1):
            steps = -(-all_steps // wanted)
            if -(-all_steps // steps) == wanted:  # else the last share would be empty
                candidates.append(Tiling(tile, wanted, filter_tiles, blocks * wanted, steps))
    return min(candidates, key=time)
