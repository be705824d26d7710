"""When to stop warming up, how many calls make a sample, when there are samples enough: numbers in, answers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from convbench.stats import interval_ranks, median, summarise

WARM_CALLS = 3
WARM_SECONDS = 0.2
WARM_WINDOW = 5  # the median of the last five calls ...
WARM_AGREES = 0.02  # ... lies within 2 % of that of the five before
WARM_LIMIT = 2.0  # seconds
SAMPLE_SECONDS = 0.01  # a sample lasts at least this long: 10 ms against a clock and a scheduler of microseconds
ENOUGH_SAMPLES = 15
ENOUGH_HALF_WIDTH = 0.01  # of the median
TURN_SAMPLES = 5  # samples of one algorithm before the next has its turn ...
TURN_SECONDS = 0.1  # ... or as many as fit this


@dataclass(frozen=True)
class Budget:
    """Seconds of sampling a case may take; warm-up takes at most as much again, and never more than WARM_LIMIT.

    energy: also measure the joules a call takes, half a second more where the device tells them.
    """

    seconds: float = 3.0
    energy: bool = True

    @property
    def warm_limit(self) -> float:
        """Seconds of warm-up at most."""
        return min(WARM_LIMIT, self.seconds)


def is_warm(times: Sequence[float], spent: float, budget: Budget) -> bool:
    """Whether calls that took `times`, `spent` seconds in all, have become steady, or have taken long enough."""
    if not times:
        return False
    if spent >= budget.warm_limit:
        return True
    if len(times) < max(WARM_CALLS, 2 * WARM_WINDOW) or spent < WARM_SECONDS:
        return False
    last, before = median(times[-WARM_WINDOW:]), median(times[-2 * WARM_WINDOW : -WARM_WINDOW])
    return abs(last - before) <= WARM_AGREES * before


def loops_for(call_seconds: float) -> int:
    """Calls a sample, so that it lasts SAMPLE_SECONDS."""
    return max(1, ceil(SAMPLE_SECONDS / max(call_seconds, 1e-9)))


def has_converged(times: Sequence[float]) -> bool:
    """Whether the median is known to within ENOUGH_HALF_WIDTH, from at least ENOUGH_SAMPLES."""
    if len(times) < ENOUGH_SAMPLES or interval_ranks(len(times)) is None:
        return False
    return summarise(times).half_width <= ENOUGH_HALF_WIDTH


def is_done(times: Sequence[float], spent: float, budget: Budget) -> bool:
    """Whether sampling may stop: converged, or out of budget with at least one sample."""
    return bool(times) and (spent >= budget.seconds or has_converged(times))


def turn_is_over(count: int, spent: float) -> bool:
    """Whether the algorithm that has taken `count` samples in `spent` seconds must give way to the next."""
    return count >= TURN_SAMPLES or spent >= TURN_SECONDS
