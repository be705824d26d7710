"""The CPU's caches: how large the system says they are, and what plans may count on."""

from __future__ import annotations

from pathlib import Path

DEFAULT_CACHE, DEFAULT_CORE_CACHE = 32 << 20, 512 << 10  # where the system does not say
LEAST_SHARE, THREAD_SHARE = 32 << 20, 16 << 20  # of the last-level cache, for all threads and for each
LARGE = 1 << 30  # of which four times a cache is shortened to twice, to measure memory


def last_level_cache() -> int:
    """Bytes of the largest cache of the first CPU."""
    return max(_cache_sizes().values(), default=DEFAULT_CACHE)


def share_of(last_level: int, threads: int) -> int:
    """Bytes of a last-level cache that plans for so many threads may count on.

    One of hundreds of MB belongs to dozens of cores, most of which run something else, and its far parts give hardly
    more than memory does.
    """
    return min(last_level, max(LEAST_SHARE, THREAD_SHARE * threads))


def beyond_caches(last_level: int) -> int:
    """Bytes that come from memory, read again and again: four times the cache, or twice where that is a great deal."""
    return min(4 * last_level, max(LARGE, 2 * last_level))


def core_cache() -> int:
    """Bytes of the first CPU's second-level cache."""
    return _cache_sizes().get(2, DEFAULT_CORE_CACHE)


def _cache_sizes() -> dict[int, int]:
    """Bytes by level (the larger of two of one level), where the system tells."""
    sizes: dict[int, int] = {}
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, text = int((index / "level").read_text()), (index / "size").read_text().strip()
            size = int(text.rstrip("KMG")) * units.get(text[-1], 1)
        except (OSError, ValueError):
            continue
        sizes[level] = max(size, sizes.get(level, 0))
    return sizes
