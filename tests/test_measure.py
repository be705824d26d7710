"""Warm-up, loops, turns and stopping, on a scripted clock: every number here is exact."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import groupby

import numpy as np
import pytest
from fakes import ONE, TICK, FakeDevice, opened, scripted, swept

from convbench.algorithms.base import Algorithm, Plan
from convbench.console import advice
from convbench.devices.base import Call, Sample
from convbench.devices.cpu import Cpu
from convbench.measure import rules
from convbench.measure.case import Case, held_bytes, open_case, operands
from convbench.measure.rounds import converged, measure
from convbench.measure.rules import Budget, has_converged, is_done, is_warm, loops_for, turn_is_over
from convbench.problem import Problem
from convbench.shapes import parse_shape

WARM_CALLS = 13  # of one tick: the first count that is at least 10 and takes at least 0.2 s


# The rules


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


# Measuring


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


# Cold caches


def test_cold_calls_rotate_over_copies_of_twice_the_cache() -> None:
    device = FakeDevice(cache_bytes=1 << 12)
    problem = Problem(parse_shape("n1c4h8w8k4r1s1"))
    seen: list[tuple[int, int, int]] = []

    def plan(_: Problem, __: object) -> Plan:
        def run(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
            seen.append((x.ctypes.data, w.ctypes.data, y.ctypes.data))
            y[...] = np.einsum("nchw,kc->nkhw", x, w[:, :, 0, 0])

        return Plan(run)

    case = open_case(Algorithm("a.b", on={"cpu": plan}), operands(problem, device, 0), device, "cold", weigh=False)
    assert case.status == "ok", case.note
    held = problem.bytes_min
    assert (len(case.calls) - 1) * held >= 2 * device.cache_bytes
    seen.clear()
    for call in case.calls:
        call()
    for part in zip(*seen, strict=True):
        assert len(set(part)) == len(case.calls), "every copy is memory of its own"


def test_the_cpu_takes_copies_in_turn() -> None:
    cpu = Cpu(1)
    taken: list[int] = []
    calls: list[Call] = [lambda i=i: taken.append(i) for i in range(3)]  # type: ignore[misc]
    cpu.time(calls, 2)
    cpu.time(calls, 2)
    cpu.time(calls, 5)
    assert taken == [0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_the_collector_is_on_again_after_a_call_that_raised() -> None:
    def fails() -> None:
        raise RuntimeError

    assert gc.isenabled()
    try:
        with pytest.raises(RuntimeError):
            Cpu(1).time([fails], 3)
        assert gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_off_inside() -> None:
    inside: list[bool] = []
    Cpu(1).time([lambda: inside.append(gc.isenabled())], 2)
    assert inside == [False, False]


# Memory


def test_peak_counts_what_was_there_at_the_worst_moment() -> None:
    cpu = Cpu(1)

    def call() -> None:
        for _ in range(3):
            np.ones(1 << 20, np.uint8)
        np.ones(1 << 18, np.uint8)

    assert 1 << 20 <= cpu.peak(call) < (1 << 20) + 65536
    kept = np.ones(1 << 22)
    assert cpu.peak(lambda: None) < 65536, "what was there before is not counted"
    assert kept.size


def test_prepared_bytes_are_counted_once() -> None:
    w = np.ones((4, 4))
    other = np.ones(100)
    assert held_bytes(w, w) == 0
    assert held_bytes(w[1:, ::2], w) == 0
    assert held_bytes(other, w) == 800
    assert held_bytes([other, {"a": (other[:3], other)}, w.T, None, "x", 5], w) == 800
    assert held_bytes((other, np.ones(1)), w) == 808


def test_constants_are_those_of_the_documents() -> None:
    assert (rules.WARM_CALLS, rules.WARM_SECONDS, rules.WARM_LIMIT, rules.WARM_AGREES) == (3, 0.2, 2.0, 0.02)
    assert (rules.SAMPLE_SECONDS, rules.ENOUGH_SAMPLES, rules.ENOUGH_HALF_WIDTH) == (0.01, 15, 0.01)
