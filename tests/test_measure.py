"""Warm-up, loops, turns and stopping, on a scripted clock: every number here is exact."""

from __future__ import annotations

from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from fakes import ONE, TICK, FakeDevice, opened, scripted, swept

from convbench.algorithms.base import Algorithm, Plan
from convbench.console import advice
from convbench.devices.base import Call, Sample
from convbench.measure.case import Case
from convbench.measure.rounds import converged, measure
from convbench.measure.rules import Budget, is_warm
from convbench.problem import Problem

WARM_CALLS = 13  # of one tick: the first count that is at least 10 and takes at least 0.2 s


def durations(case: Case) -> list[float]:
    return [sample.seconds for sample in case.samples]


def test_one_steady_case() -> None:
    device = FakeDevice()
    cases, data = opened(device, scripted(device, "a.a", TICK))
    begin = device.clock
    (case,) = measure(cases, data, device, Budget(3))
    assert case.status == "ok"
    assert (case.loops, durations(case), case.rounds) == (1, [TICK] * 15, [0] * 5 + [1] * 5 + [2] * 5)
    assert converged(case)
    # warm-up; three turns of an untimed call and five samples; the last check
    assert len(device.log) == WARM_CALLS + 3 * 6 + 1
    assert device.clock - begin == TICK * len(device.log)
    assert case.calls == []
    assert case.output is None


def test_quick_calls_are_looped() -> None:
    device = FakeDevice()
    cases, data = opened(device, scripted(device, "a.a", 2**-10), scripted(device, "b.b", 2**-12))
    done = {case.algorithm.name: case for case in measure(cases, data, device, Budget(3))}
    assert {name: case.loops for name, case in done.items()} == {"a.a": 11, "b.b": 41}
    calls = Counter(name for name, _ in device.log)
    for name, warm, loops in (("a.a", 205, 11), ("b.b", 820, 41)):  # the first counts that reach 0.2 s
        assert calls[name] == warm + 3 * (1 + 5 * loops) + 1
    assert durations(done["a.a"]) == [2**-10] * 15


def test_loops_go_by_the_quickest_of_the_last_five() -> None:
    """The first calls were slow, and one later one."""
    device = FakeDevice()
    times = [1.0, 0.5] + [2**-8] * 60
    times[-2] = 1.0
    cases, data = opened(device, scripted(device, "a.a", lambda i: times[i - 1] if 0 < i <= len(times) else 2**-8))
    (case,) = measure(cases, data, device, Budget(3))
    assert case.loops == 3


@pytest.mark.parametrize("seed", range(4))
def test_rounds_are_fair(seed: int) -> None:
    """Every round gives each unfinished case one turn: one untimed call, five samples."""
    device = FakeDevice()
    names = ["a.a", "b.b", "c.c"]
    serial = iter(range(10**6))

    def unique(i: int) -> float:
        return TICK + next(serial) * 2**-40  # each call can be told from every other, all within 1 %

    cases, data = opened(device, *(scripted(device, name, unique) for name in names))
    done = list(measure(cases, data, device, Budget(3), seed))
    sampled = {seconds for case in done for seconds in durations(case)}
    assert len(sampled) == 45
    begin = 3 * WARM_CALLS
    warm = [name for name, _ in groupby(name for name, _ in device.log[:begin])]
    assert warm == names, "warm-ups come first, one after the other"
    timed = device.log[begin:]
    for number in range(3):
        turns = []
        for _ in names:
            turn, timed = timed[:6], timed[6:]
            assert len({name for name, _ in turn}) == 1, "a turn belongs to one case"
            assert [seconds in sampled for _, seconds in turn] == [False] + [True] * 5
            turns.append(turn[0][0])
            if number == 2:  # the case is finished: its last check follows
                assert timed[0][0] == turn[0][0]
                assert timed.pop(0)[1] not in sampled
        assert sorted(turns) == names
    assert timed == []


def test_the_order_is_shuffled_and_repeatable() -> None:
    def order(seed: int) -> list[str]:
        device = FakeDevice()
        cases, data = opened(device, *(scripted(device, name, TICK) for name in ("a.a", "b.b", "c.c", "d.d")))
        list(measure(cases, data, device, Budget(3), seed))
        return [name for name, _ in groupby(name for name, _ in device.log[4 * WARM_CALLS :])]

    assert order(1) == order(1)
    assert len({tuple(order(seed)) for seed in range(6)}) > 1
    turns = order(1)
    assert len({tuple(turns[i : i + 4]) for i in (0, 4, 8)}) > 1, "anew in each round"


def test_an_unsteady_case_stops_at_its_budget() -> None:
    device = FakeDevice()
    cases, data = opened(device, scripted(device, "a.a", lambda i: TICK * (1 + i % 2)))
    (case,) = measure(cases, data, device, Budget(4))
    spent = device.clock - device.log[-1][1]  # without the last check
    assert case.status == "ok"
    assert not converged(case)
    assert len(case.samples) > 15
    warm = 0.0
    for count, (_, seconds) in enumerate(device.log, 1):
        warm += seconds
        if is_warm([s for _, s in device.log[:count]], warm, Budget(4)):
            break
    opening = device.clock - sum(seconds for _, seconds in device.log)
    sampling = spent - opening - warm
    over = (
        device.log[-2][1] + device.log[-3][1]
    )  # the sample that ended it, and the untimed call if it was a turn's first
    assert 4 <= sampling < 4 + over


def test_what_never_becomes_steady_is_warmed_for_two_seconds() -> None:
    device = FakeDevice()
    cases, data = opened(device, scripted(device, "a.a", lambda i: TICK * 1.01**i))
    list(measure(cases, data, device, Budget(3), turn=lambda case: device.log.append(("turn", 0))))
    warm = next([s for _, s in group] for name, group in groupby(device.log, lambda entry: entry[0]) if name == "a.a")
    assert sum(warm[:-1]) < 2 <= sum(warm)


def test_unconverged_is_shown() -> None:
    device = FakeDevice()
    made = swept(device, scripted(device, "a.a", lambda i: TICK * (1 + i % 2)), scripted(device, "b.b", TICK), budget=1)
    found = {row.algo: row for row in made}
    assert (found["a.a"].converged, found["a.a"].status) == (False, "ok")
    assert (found["b.b"].converged, found["b.b"].samples) == (True, 15)
    assert found["b.b"].time_ms == found["b.b"].time_lo_ms == found["b.b"].time_hi_ms == 1e3 * TICK
    assert "1 of 2 times are not known to 1 % (worst: " + ONE + " a.a)" in advice(made)[0]


def test_a_call_longer_than_the_budget_is_measured_once() -> None:
    device = FakeDevice()
    cases, data = opened(device, scripted(device, "a.a", 10.0))
    (case,) = measure(cases, data, device, Budget(0.125))
    assert (case.status, durations(case), converged(case)) == ("ok", [10.0], False)
    assert [seconds for _, seconds in device.log] == [10.0] * 4  # warm-up, untimed, the sample, the last check


def test_long_calls_give_way_after_a_tenth_of_a_second() -> None:
    device = FakeDevice()
    cases, data = opened(device, scripted(device, "a.a", 0.25), scripted(device, "b.b", 0.25))
    done = list(measure(cases, data, device, Budget(2)))
    for case in done:
        assert Counter(case.rounds).most_common(1)[0][1] == 1, "one sample a turn"
        assert durations(case) == [0.25] * 4  # a turn costs 0.5 s of the 2 s
        assert not converged(case)


def test_cases_are_handed_over_as_soon_as_they_are_finished() -> None:
    device = FakeDevice()
    slow = scripted(device, "slow.slow", lambda i: TICK * (1 + i % 2))
    cases, data = opened(device, slow, scripted(device, "quick.quick", TICK))
    generator = measure(cases, data, device, Budget(3))
    first = next(generator)
    assert first.algorithm.name == "quick.quick"
    assert cases[0].alive
    assert not first.calls, "its arrays are given back"
    assert next(generator).algorithm.name == "slow.slow"
    assert next(generator, None) is None


def test_one_finished_case_leaves_the_turns_to_the_others() -> None:
    device = FakeDevice()
    slow = scripted(device, "slow.slow", lambda i: TICK * (1 + i % 2))
    cases, data = opened(device, slow, scripted(device, "quick.quick", TICK))
    done = list(measure(cases, data, device, Budget(3)))
    assert sorted(set(done[1].rounds)) == list(range(max(done[1].rounds) + 1)), "a turn in every round"
    assert max(done[1].rounds) > 2


@pytest.mark.parametrize(
    "at",
    [
        2,  # the first call of the warm-up: opening took calls 0 and, to weigh, 1
        2 + WARM_CALLS,  # the untimed call of the first turn
        2 + WARM_CALLS + 3,  # in the middle of a turn
        2 + WARM_CALLS + 6 + 2,
        2 + WARM_CALLS + 18,  # the last check
    ],
)
def test_a_case_that_fails_loses_itself_only(at: int) -> None:
    device = FakeDevice()
    made = swept(
        device, scripted(device, "a.a", TICK), scripted(device, "b.b", TICK, at), scripted(device, "c.c", TICK)
    )
    found = {row.algo: row for row in made}
    assert {name: row.status for name, row in found.items()} == {"a.a": "ok", "b.b": "failed", "c.c": "ok"}
    assert found["b.b"].note == f"ArithmeticError: call {at} was scripted to fail"
    assert found["a.a"].samples == found["c.c"].samples == 15
    assert len(made) == 3


def test_samples_and_rounds_stay_together_when_it_fails() -> None:
    device = FakeDevice()
    cases, data = opened(device, scripted(device, "a.a", TICK, fails_at=1 + WARM_CALLS + 4))
    (case,) = measure(cases, data, device, Budget(3))
    assert case.status == "failed"
    assert (len(case.samples), case.rounds) == (3, [0, 0, 0])


def test_a_clock_that_says_zero_makes_a_row() -> None:
    class Stopped(FakeDevice):
        def time(self, calls: list[Call], loops: int) -> Sample:
            super().time(calls, 1)
            return Sample(0.0)

    device = Stopped()
    for budget in (3.0, 0.125):
        (row,) = swept(device, scripted(device, "a.a", TICK), budget=budget)
        assert row.status != "ok" or row.time_ms


def test_numbers_of_a_row() -> None:
    device = FakeDevice()
    word = "n1c1h4w4k1r1s1"

    def plan(problem: Problem, _: object) -> Plan:
        def run(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
            device.clock += TICK
            y[...] = x * w

        return Plan(run, workspace=7, note="how", flops=64)

    (row,) = swept(device, Algorithm("a.b", on={"cpu": plan}), shape=word)
    assert (row.status, row.note, row.workspace_bytes, row.prepared_bytes) == ("ok", "how", 7, 0)
    assert row.gflop == row.gflop_true == 32e-9
    assert (row.gflop_executed, row.ceiling_gflops, row.ceiling_gbs) == (64e-9, 2.0, 3.0)
    assert row.phases == ""
    assert row.bytes_min == 4 * (16 + 1 + 16)
    assert row.gflops == pytest.approx(32e-9 / TICK)
    assert row.percent_of_peak == pytest.approx(100 * 32 / TICK / 1e9)
    assert row.gbs == pytest.approx(4 * 33 / TICK / 1e9)
    assert (row.loops, row.outliers, row.disturbed) == (1, 0, 0)
    assert row.first_ms == 1e3 * TICK
    assert row.peak_gflops == pytest.approx(1.0)
