"""How many images to stretch at a time on a GPU: whole waves of the product's tiles first, then little memory.

A product of few tiles leaves multiprocessors idle, which costs more than a matrix that leaves the L2 cache: im2col of
conv3 at 19 images, what the cache of an H200 holds, is 78 tiles of 128 x 128 for 132 multiprocessors, while a product
in float32 hides the reading of its matrix from memory. So seconds are modelled, for an H200, and compared:

  seconds = sum over chunks of  (waves + FILLING) * seconds a wave  +  bytes / rate  +  launches * LAUNCH_SECONDS

where the bytes, those that a chunk writes for itself to read, move at the cache's rate only if all of them fit into it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

TILE = 128  # filters and columns of a tile of cuBLAS's large kernels
WAVE = 132  # tiles under way at a time: multiprocessors of an H200
FILLING = 0.25  # of a wave, until all tiles of a product are under way, and from when the first has ended
CACHE_PART = 0.6  # of the L2 cache for what a chunk writes; x, the filters and y pass through the rest
CACHE_RATE, MEMORY_RATE = 4.5e12, 3e12  # bytes/s, written and read again
LAUNCH_SECONDS = 2e-6
SLACK = 1.02  # by which fewer images may be slower than more
MOST_IMAGES = 65535  # a grid's second dimension
MOST_BYTES = 512 << 20  # of a chunk, unless one image has more: GPUs with a tenth of an H200's memory are to do it too


def tiles(filters: int, columns: int) -> int:
    """Tiles of one product."""
    return -(-filters // TILE) * -(-columns // TILE)


@dataclass(frozen=True)
class Work:
    """What a chunk costs: products(images) is {tiles, depth} of each call of the library, rate is multiply-adds/s."""

    products: Callable[[int], list[tuple[int, int]]]
    rate: float
    image_bytes: int  # written for a later step of the chunk, for each image
    launches: int

    def seconds(self, images: int, cache_bytes: int) -> float:
        """One chunk of so many images."""
        wave = WAVE * TILE * TILE / self.rate  # of products one deep
        products = sum((-(-count // WAVE) + FILLING) * depth * wave for count, depth in self.products(images))
        moved = images * self.image_bytes
        rate = CACHE_RATE if moved <= CACHE_PART * cache_bytes else MEMORY_RATE
        return products + moved / rate + self.launches * LAUNCH_SECONDS


def images_at_once(work: Work, images: int, cache_bytes: int) -> tuple[int, float]:
    """Images a chunk, the fewest of those within SLACK of the fewest seconds, and the seconds of all chunks."""
    most = max(1, min(images, MOST_IMAGES, MOST_BYTES // work.image_bytes))
    found = {}
    for chunks in range(-(-images // most), images + 1):
        each = -(-images // chunks)
        full, rest = divmod(images, each)
        last = work.seconds(rest, cache_bytes) if rest else 0
        found[each] = full * work.seconds(each, cache_bytes) + last
    bound = SLACK * min(found.values())
    best = min(each for each, seconds in found.items() if seconds <= bound)
    return best, found[best]
