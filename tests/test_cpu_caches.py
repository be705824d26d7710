"""What plans count on of the caches."""

from __future__ import annotations

import pytest

from convbench.devices.cpu import Cpu
from convbench.devices.cpu_caches import beyond_caches, last_level_cache, share_of

MB = 1 << 20


@pytest.mark.parametrize(
    ("last_level", "threads", "expected"),
    [(8, 1, 8), (32, 1, 32), (32, 2, 32), (48, 1, 32), (480, 2, 32), (480, 8, 128), (480, 64, 480)],
)
def test_of_a_large_cache_as_much_as_the_threads_may_claim(last_level: int, threads: int, expected: int) -> None:
    assert share_of(last_level * MB, threads) == expected * MB


@pytest.mark.parametrize(("last_level", "expected"), [(8, 32), (32, 128), (256, 1024), (480, 1024), (1152, 2304)])
def test_what_is_read_to_measure_memory(last_level: int, expected: int) -> None:
    assert beyond_caches(last_level * MB) == expected * MB


def test_a_cpu_knows_both() -> None:
    """Memory's bandwidth is measured, and caches are emptied, by the size of the whole."""
    cpu = Cpu(2)
    assert cpu.last_level_bytes == last_level_cache()
    assert cpu.cache_bytes == share_of(last_level_cache(), 2)
