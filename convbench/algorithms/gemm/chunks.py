"""How many images a GPU stretches at a time: all of them, as far as memory goes; and what a chunk of them takes.

Chunks that the L2 cache holds were tried on an H200 and always lost: conv3 at batch 128 in float32 took 885 us at once
and at least 961 us with 19 to 32 images at a time. Small products leave multiprocessors idle, and a large one hides the
reading of its matrix from memory. So the number of images is bounded by memory alone, and seconds are modelled only to
tell two ways of stretching them apart:

  seconds of a chunk = sum over products of (waves of tiles * seconds a wave) + bytes / MEMORY_RATE
                       + launches * LAUNCH_SECONDS

In float32 an H200 takes 0.98 to 1.07 of that for AlexNet's layers at batch 128, at batch 16 0.7 (conv4, conv5) to 1.2
(conv1) of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from convbench.algorithms.gpu import MOST_BYTES, MULTIPROCESSORS

TILE_FILTERS, TILE_COLUMNS = 64, 256  # of a tile of cuBLAS's large kernels: three of them take conv4's 192 filters
MEMORY_RATE = 3e12  # bytes/s, written and read again
LAUNCH_SECONDS = 2e-6
MOST_IMAGES = 65535  # a grid's second dimension


def images_at_once(images: int, image_bytes: int) -> int:
    """The most images that MOST_BYTES hold, `image_bytes` each, in chunks that are as equal as can be."""
    most = max(1, min(images, MOST_IMAGES, MOST_BYTES // image_bytes))
    return -(-images // -(-images // most))


@dataclass(frozen=True)
class Product:
    """One call of the library: `count` products of [filters, depth] by [depth, columns]."""

    count: int
    filters: int
    columns: int
    depth: int

    def seconds(self, rate: float) -> float:
        """At so many multiply-adds/s: whole waves of tiles.

        Where a single product has tiles for less than half of a wave, cuBLAS shares its depth out; of a stack it does
        not: 16 images of conv3 are one product of 66 tiles, which takes half as long as 16 products of 6.
        """
        tiles = self.count * -(-self.filters // TILE_FILTERS) * -(-self.columns // TILE_COLUMNS)
        shares = max(1, MULTIPROCESSORS // tiles) if self.count == 1 else 1
        waves = -(-tiles * shares // MULTIPROCESSORS) / shares
        return waves * MULTIPROCESSORS * TILE_FILTERS * TILE_COLUMNS * self.depth / rate


def chunk_seconds(products: Sequence[Product], rate: float, moved_bytes: int, launches: int) -> float:
    """One chunk: its products, what it writes for a later step of its own to read, and launches beside the products."""
    return (
        sum(product.seconds(rate) for product in products)
        + moved_bytes / MEMORY_RATE
        + (len(products) + launches) * LAUNCH_SECONDS
    )


def seconds(images: int, each: int, chunk: Callable[[int], float]) -> float:
    """All images, `each` at a time, where a chunk of n images takes chunk(n)."""
    full, rest = divmod(images, each)
    return full * chunk(each) + (chunk(rest) if rest else 0)
