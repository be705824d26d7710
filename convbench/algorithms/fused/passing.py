"""How filters and V pass the caches: through which, and past which."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from convbench.algorithms.fused.lines import is_read_first
from convbench.devices.base import Device
from convbench.shapes import ConvShape
from convbench.vector.distance import are_far_apart
from convbench.vector.product import Asks
from convbench.vector.target import host
from convbench.vector.team import runner
from convbench.vector.weights import BLOCK

# Where V goes, and whether that is past the caches: where both can be, the distance of threads decides in each call.
KEPT, PAST, PAST_IF_FAR = "", "V past the caches", "V past the caches while threads share none"
PASSING = {KEPT: (False,), PAST: (True,), PAST_IF_FAR: (False, True)}


def passage(s: ConvShape, device: Device, private: bool, u_bytes: int, v_bytes: int) -> tuple[Asks, str]:
    """How U comes through the caches, and where V goes.

    Filters that fill the caches while they pass would drive V out: they are kept out where the CPU can do that. Else
    V goes past the caches (where a vector is a whole line), and so it does where threads do not share one: for a line
    that another core has read must be taken back from it before it is written. Lines of y that must come from
    memory first are asked for while the products are made (product.Written).
    """
    bars = host().bars_passers
    once = bars and u_bytes + v_bytes + 4 * (prod(s.x_shape) + prod(s.y_shape)) > device.cache_bytes
    may_stream = host().lanes == BLOCK and not private and u_bytes > device.cache_bytes // 2
    asks = Asks(for_a=not private, once=once, for_result=is_read_first(s, device))
    if not may_stream or (bars and device.threads == 1):
        return asks, KEPT
    return asks, PAST_IF_FAR if bars else PAST


class Kernels:
    """A kernel with V where it goes. All that may be called is compiled now: threads may move while a call is timed."""

    def __init__(self, passing: str, threads: int, address: Callable[[bool], int]) -> None:
        """address(streams): of the kernel, with V past the caches or in them."""
        self._threads = threads
        self._calls = {streams: runner(address(streams), threads) for streams in PASSING[passing]}

    def __call__(self, arguments: int) -> None:
        """Run it with the address of its arguments."""
        streams = next(iter(self._calls)) if len(self._calls) == 1 else are_far_apart(self._threads)
        self._calls[streams](arguments)
