"""The rules of measuring, each by itself: when a case is warm, a sample long enough, a turn over, a time known."""

from __future__ import annotations

import numpy as np
import pytest

from convbench.measure import rules
from convbench.measure.rules import Budget, has_converged, is_done, is_warm, loops_for, turn_is_over


def test_warm_takes_ten_calls_and_a_fifth_of_a_second() -> None:
    budget = Budget(3)
    assert not is_warm([], 0, budget)
    assert not is_warm([], 9, budget)
    assert not is_warm([1e-3] * 10, 0.199, budget)
    assert not is_warm([0.1] * 9, 0.9, budget)
    assert is_warm([0.1] * 10, 1.0, budget)
    assert is_warm([1e-3] * 300, 0.2, budget)


def test_warm_compares_the_last_five_with_the_five_before() -> None:
    budget = Budget(3)
    assert is_warm([9.0] * 7 + [1.0] * 5 + [0.981] * 5, 1, budget)
    assert not is_warm([1.0] * 5 + [0.979] * 5, 1, budget)
    assert is_warm([1.0] * 5 + [1.019] * 5, 1, budget)
    assert not is_warm([1.0] * 5 + [1.021] * 5, 1, budget)
    assert is_warm([1.0, 1, 1, 9, 9, 1, 1, 1, 9, 9], 1, budget), "medians, so that two outliers do not matter"


def test_warm_gives_up_after_two_seconds_or_the_budget() -> None:
    assert is_warm([1.0, 2.0], 2.0, Budget(3))
    assert not is_warm([1.0, 0.9], 1.99, Budget(3))
    assert is_warm([0.5], 0.5, Budget(0.5))
    assert (Budget(9).warm_limit, Budget(0.5).warm_limit, Budget().seconds) == (2.0, 0.5, 3.0)


@pytest.mark.parametrize(
    ("seconds", "loops"),
    [(1.0, 1), (0.01, 1), (0.0099, 2), (0.005, 2), (0.003, 4), (1e-5, 1000), (1e-6, 10000), (0, 10**7)],
)
def test_a_sample_lasts_ten_milliseconds(seconds: float, loops: int) -> None:
    assert loops_for(seconds) == pytest.approx(loops, abs=1 if loops > 4 else 0)
    assert seconds == 0 or loops_for(seconds) * seconds >= 0.01 * (1 - 1e-12)


def test_converged_is_one_per_cent_of_fifteen() -> None:
    assert not has_converged([1.0] * 14)
    assert has_converged([1.0] * 15)
    # Of 15 the interval is the 4th to the 12th.
    assert has_converged([0.5] * 3 + [0.991] + [1.0] * 7 + [1.01] + [5.0] * 3)
    assert not has_converged([0.5] * 3 + [0.989] + [1.0] * 7 + [1.01] + [5.0] * 3)


def test_done_needs_a_sample() -> None:
    assert not is_done([], 99, Budget(1))
    assert is_done([1.0], 1.0, Budget(1))
    assert not is_done([1.0], 0.999, Budget(1))
    assert is_done([1.0] * 15, 0, Budget(1))


def test_a_turn_is_five_samples_or_a_tenth_of_a_second() -> None:
    assert turn_is_over(5, 0)
    assert turn_is_over(1, 0.1)
    assert not turn_is_over(4, 0.099)


def test_many_samples_do_not_break_the_rule() -> None:
    """--budget 60 on a noisy machine."""
    noisy = np.random.default_rng(0).random(3000) + 0.5
    assert not has_converged([*noisy])


def test_constants_are_those_of_the_documents() -> None:
    assert (rules.WARM_CALLS, rules.WARM_SECONDS, rules.WARM_LIMIT, rules.WARM_AGREES) == (3, 0.2, 2.0, 0.02)
    assert (rules.SAMPLE_SECONDS, rules.ENOUGH_SAMPLES, rules.ENOUGH_HALF_WIDTH) == (0.01, 15, 0.01)
