"""Statistics, each against another implementation or a simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, gmean, trim_mean

from convbench.stats import CONFIDENCE, geometric_mean, interval_ranks, median, quantile, summarise, trimmed_mean

TIMES = st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=60)


def ranks_by_scipy(count: int) -> tuple[int, int] | None:
    """The widest symmetric pair of ranks whose binomial tails hold at most 5 %."""
    fitting = [d for d in range(count // 2) if 2 * binom.cdf(d, count, 0.5) <= 1 - CONFIDENCE]
    return (max(fitting), count - 1 - max(fitting)) if fitting else None


@pytest.mark.parametrize("count", [*range(1, 130), 200, 333, 500, 1000])
def test_ranks_against_the_binomial(count: int) -> None:
    assert interval_ranks(count) == ranks_by_scipy(count)


@pytest.mark.parametrize("count", [1023, 1024, 1025, 1500, 4000])
def test_ranks_of_many_samples(count: int) -> None:
    """--budget 60 on a noisy machine takes thousands of samples of 10 ms."""
    assert interval_ranks(count) == ranks_by_scipy(count)


def test_fewer_than_six_claim_nothing() -> None:
    assert [interval_ranks(count) for count in range(7)] == [None] * 6 + [(0, 5)]
    summary = summarise([3.0, 1.0, 2.0])
    assert (summary.low, summary.median, summary.high, summary.least, summary.samples) == (1, 2, 3, 1, 3)
    alone = summarise([2.0])
    assert (alone.low, alone.median, alone.high, alone.q1, alone.q3, alone.outliers) == (2, 2, 2, 2, 2, 0)


@pytest.mark.parametrize("count", [6, 15, 40])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_holds_the_median_as_often_as_it_says(count: int, skewed: bool) -> None:
    rng = np.random.default_rng(count)
    true = math.log(2) if skewed else 0.5
    draws = rng.exponential(size=(4000, count)) if skewed else rng.random((4000, count))
    hits = 0
    for values in draws:
        summary = summarise(values.tolist())
        hits += summary.low <= true <= summary.high
    assert hits / 4000 >= CONFIDENCE - 3 * math.sqrt(0.05 * 0.95 / 4000)
    ranks = interval_ranks(count)
    assert ranks is not None
    exact = 1 - 2 * binom.cdf(ranks[0], count, 0.5)
    assert hits / 4000 == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000) + 1e-3)


@given(TIMES, st.floats(0, 1))
def test_quantile_is_numpys(values: list[float], share: float) -> None:
    assert quantile(values, share) == pytest.approx(np.quantile(values, share), rel=1e-9, abs=1e-15)


@given(TIMES)
def test_summary_against_numpy(values: list[float]) -> None:
    summary = summarise(values)
    assert summary.median == median(values) == pytest.approx(np.median(values), rel=1e-12)
    assert (summary.least, summary.samples) == (min(values), len(values))
    q1, q3 = np.percentile(values, [25, 75])
    assert (summary.q1, summary.q3) == (pytest.approx(q1, rel=1e-9), pytest.approx(q3, rel=1e-9))
    assert summary.low in values
    assert summary.high in values
    assert summary.low <= summary.median <= summary.high
    assert summary.half_width == pytest.approx((summary.high - summary.low) / 2 / summary.median)


@given(TIMES)
def test_trimmed_mean_is_scipys(values: list[float]) -> None:
    assert trimmed_mean(values) == pytest.approx(trim_mean(values, 0.2), rel=1e-9)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30))
def test_geometric_mean_is_scipys(values: list[float]) -> None:
    assert geometric_mean(values) == pytest.approx(gmean(values), rel=1e-9)


def test_outliers_are_counted_beyond_the_fences_only() -> None:
    values = [10.0, 11.0, 12.0, 13.0, 14.0]  # quartiles 11 and 13, fences 8 and 16
    assert summarise(values).outliers == 0
    assert summarise([1.0] * 9 + [2.0]).outliers == 1
    assert summarise([*values, 100.0, 0.01]).outliers == 2
    edge = [0.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.5]  # q3 + 1.5 iqr = 3.5 exactly: a value on the fence is inside
    assert summarise(edge).q3 + 1.5 * (summarise(edge).q3 - summarise(edge).q1) == 3.5
    assert summarise(edge).outliers == 0


def test_order_does_not_matter() -> None:
    values = np.random.default_rng(0).random(31).tolist()
    assert summarise(values) == summarise(sorted(values)) == summarise(values[::-1])
