"""Medians, quartiles, intervals, outliers: the few statistics a result is reported with, each with its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

CONFIDENCE = 0.95
TUKEY = 1.5  # interquartile ranges beyond the quartiles (Tukey, Exploratory Data Analysis, 1977)
TRIM = 0.2  # share cut off each end of a trimmed mean (Wilcox, Introduction to Robust Estimation, 2012)


@dataclass(frozen=True)
class Summary:
    """What a list of times says: median with its interval, quartiles, least, count, and how many are outliers."""

    median: float
    low: float
    high: float
    q1: float
    q3: float
    least: float
    samples: int
    outliers: int

    @property
    def half_width(self) -> float:
        """Half the interval, as a share of the median."""
        return (self.high - self.low) / 2 / self.median


def quantile(values: Sequence[float], share: float) -> float:
    """The quantile by linear interpolation between order statistics (Hyndman & Fan, 1996, type 7)."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = ordered[floor(place)]
    return low + (ordered[ceil(place)] - low) * (place - floor(place))


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle."""
    return quantile(values, 0.5)


@lru_cache(maxsize=4096)
def interval_ranks(count: int) -> tuple[int, int] | None:
    """Zero-based ranks of the order statistics that enclose the median with CONFIDENCE, or None where too few.

    The number of samples below the median is binomial (n, 1/2), whatever the distribution (Conover, Practical
    Nonparametric Statistics, section 3.2): the widest pair (d, n - 1 - d) that leaves at most 5 % outside.
    """
    outside = 2**count * round(1000 * (1 - CONFIDENCE)) // 1000  # whole numbers: 2^1024 is no float
    ways, below, rank = 1, 0, -1  # C(count, d), their sum so far
    for d in range(count // 2):
        below += ways
        if 2 * below > outside:
            break
        ways, rank = ways * (count - d) // (d + 1), d
    return None if rank < 0 else (rank, count - 1 - rank)


def summarise(values: Sequence[float]) -> Summary:
    """The summary of at least one value. With fewer than six the interval is the whole range, and claims nothing."""
    ordered = sorted(values)
    ranks = interval_ranks(len(ordered)) or (0, len(ordered) - 1)
    q1, q3 = quantile(ordered, 0.25), quantile(ordered, 0.75)
    reach = TUKEY * (q3 - q1)
    outliers = sum(value < q1 - reach or value > q3 + reach for value in ordered)
    return Summary(
        median(ordered), ordered[ranks[0]], ordered[ranks[1]], q1, q3, ordered[0], len(ordered), outliers
    )  # fmt: skip


def trimmed_mean(values: Sequence[float], share: float = TRIM) -> float:
    """The mean without the lowest and the highest `share` of the values: for clocks with coarse ticks."""
    ordered = sorted(values)
    cut = int(share * len(ordered))
    kept = ordered[cut : len(ordered) - cut]
    return sum(kept) / len(kept)


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean log."""
    from math import exp, fsum, log

    return exp(fsum(log(value) for value in values) / len(values))
