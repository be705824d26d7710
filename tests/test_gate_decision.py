"""The decision on numbers alone: every verdict, Holm, signs, the absolute floor, and simulated gates."""

from __future__ import annotations

import math

import numpy as np
import pytest

from convbench.gate.decision import (
    CONFIRMING,
    SCREENING,
    Evidence,
    Facts,
    Rules,
    agreement,
    block_value,
    decide,
    holm,
    p_above,
    pooled_spread,
    ratio_interval,
    rules_for,
    suspects,
    upper_bound,
    worse,
)
from convbench.gate.outcome import Verdict

RULES = Rules(0.10, 50e-6)
SLOW, QUIET = math.log(1.3), 0.0
WIGGLE = (0.004, -0.003, 0.001, -0.002, 0.003, -0.004, 0.002, -0.001)


def around(value: float, count: int = CONFIRMING, scale: float = 1.0) -> tuple[float, ...]:
    return tuple(value + scale * WIGGLE[i % len(WIGGLE)] for i in range(count))


def one(screen: float, confirm: float | None = None, scale: float = 1.0, **more: object) -> Evidence:
    blocks = () if confirm is None else around(confirm, scale=scale)
    return Evidence(around(screen, SCREENING, scale), blocks, **{"base_s": 0.01, **more})  # type: ignore[arg-type]


def verdict(evidence: Evidence) -> Verdict:
    return decide({"a": evidence}, RULES)["a"].verdict


def test_a_slower_cell_fails_and_says_by_how_much() -> None:
    found = decide({"a": one(SLOW, SLOW), "b": one(QUIET)}, RULES)
    assert (found["a"].verdict, found["b"].verdict) == (Verdict.FAIL, Verdict.PASS)
    a = found["a"]
    assert a.ratio == pytest.approx(1.3, rel=1e-3)
    assert a.low is not None
    assert a.high is not None
    assert a.low < 1.3 < a.high
    assert "10 %" in a.reason


def test_not_suspected_but_too_noisy_to_pass_is_ok() -> None:
    assert verdict(one(QUIET, scale=30)) is Verdict.OK


def test_suspected_and_then_near_nothing_passes() -> None:
    assert verdict(one(0.08, 0.01)) is Verdict.PASS


def test_suspected_and_noisy_is_inconclusive() -> None:
    assert verdict(one(0.09, 0.10, scale=20)) is Verdict.INCONCLUSIVE


def test_faster_is_improved_only_when_confirmed() -> None:
    assert verdict(one(-SLOW, -SLOW)) is Verdict.IMPROVED
    assert verdict(one(-SLOW, 0.0)) is Verdict.PASS
    assert verdict(one(-SLOW)) is Verdict.PASS


def test_three_quarters_of_the_blocks_must_agree() -> None:
    """Five of eight beyond: Student's t is convinced by how far they are, the rule of signs is not."""
    blocks = (0.5, 0.5, 0.5, 0.5, 0.5, 0.09, 0.09, 0.09)
    assert p_above(blocks, RULES.bound) < 0.05
    assert agreement(blocks, RULES.bound) == 0.625
    assert verdict(Evidence((0.5, 0.5, 0.5), blocks, 0.01)) is Verdict.INCONCLUSIVE
    assert verdict(Evidence((0.5, 0.5, 0.5), (0.5,) * 6 + (0.09,) * 2, 0.01)) is Verdict.FAIL


def test_a_slowdown_must_be_worth_its_microseconds() -> None:
    short = one(SLOW, SLOW, base_s=100e-6)  # 30 us
    found = decide({"a": short}, RULES)["a"]
    assert found.verdict is Verdict.OK
    assert "30 us" in found.reason
    assert found.detectable is not None
    assert found.detectable >= 0.5
    assert verdict(one(SLOW, SLOW, base_s=200e-6)) is Verdict.FAIL  # 60 us
    assert rules_for("cpu", tick_s=1e-3).floor_s == pytest.approx(3e-3)
    assert rules_for("cuda", tick_s=1e-9).floor_s == pytest.approx(2e-6)


def test_a_red_control_makes_every_red_unstable() -> None:
    cells = {"changed": one(SLOW, SLOW), "same": one(SLOW, SLOW, control=True), "good": one(QUIET)}
    found = decide(cells, RULES)
    assert {name: f.verdict for name, f in found.items()} == {
        "changed": Verdict.UNSTABLE, "same": Verdict.UNSTABLE, "good": Verdict.PASS,
    }  # fmt: skip
    assert "same" in found["changed"].reason
    assert "source is the same" in found["same"].reason


@pytest.mark.parametrize("bad", [(), (math.nan, 0.0, 0.0), (math.inf, 0.0, 0.0)])
def test_what_is_no_measurement_is_missing(bad: tuple[float, ...]) -> None:
    assert verdict(Evidence(bad, (), 0.01)) is Verdict.MISSING
    assert suspects({"a": bad}, RULES) == []


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_makes_a_block_that_is_none(bad: float) -> None:
    assert math.isnan(block_value([1.0, 1.0], [1.0, bad]))
    assert math.isnan(block_value([bad, 1.0], [1.0, 1.0]))
    assert math.isnan(block_value([], [1.0]))


def test_a_block_is_a_ratio_of_medians() -> None:
    assert block_value([1.0, 1.0, 9.0], [2.0, 2.0, 0.1]) == pytest.approx(math.log(2))


def test_suspects_by_seven_tenths_of_the_threshold() -> None:
    edge = 0.7 * RULES.bound
    screens = {"above": [0, edge + 1e-9, 1], "below": [0, edge - 1e-9, 1], "faster": [-1, -edge - 1e-9, 0]}
    assert suspects(screens, RULES) == ["above", "faster"]


def test_holm_steps_down() -> None:
    assert holm({"a": 0.01, "b": 0.02, "c": 0.04}) == {"a": True, "b": True, "c": True}
    assert holm({"a": 0.01, "b": 0.03, "c": 0.04}) == {"a": True, "b": False, "c": False}
    assert holm({"a": 0.02, "b": 0.5, "c": 0.5}) == {"a": False, "b": False, "c": False}
    assert holm({"a": math.nan}) == {"a": False}
    assert holm({}) == {}


def test_holm_spares_a_suspect_among_many() -> None:
    """Alone it would fail; among twenty suspects the same numbers prove nothing."""
    weak = Evidence((0.12,) * 3, around(RULES.bound + 0.006, scale=2.4), 0.01)
    assert 0.003 < p_above(weak.confirm, RULES.bound) < 0.05
    assert verdict(weak) is Verdict.FAIL
    crowd = {"weak": weak} | {f"other{i}": one(0.08, 0.09, scale=2) for i in range(19)}
    assert decide(crowd, RULES)["weak"].verdict is Verdict.INCONCLUSIVE


def test_the_t_test_against_a_table() -> None:
    values = [0.1, 0.2, 0.3]  # mean 0.2, sd 0.1: t = 0.2 / (0.1 / sqrt 3) = 3.4641, two degrees of freedom
    assert p_above(values, 0.0) == pytest.approx(0.0370899, abs=1e-6)
    assert upper_bound(values) == pytest.approx(0.2 + 2.91999 * 0.1 / math.sqrt(3), abs=1e-5)
    low = math.exp(0.2 - 4.30265 * 0.1 / math.sqrt(3))
    assert ratio_interval(values)[1] == pytest.approx(low, rel=1e-5)
    assert p_above([0.5], 0.0) == 1.0
    assert upper_bound([0.5]) == math.inf
    assert (p_above([0.5, 0.5], 0.1), p_above([0.1, 0.1], 0.5)) == (0.0, 1.0)


def test_delta_is_at_least_twice_the_aa_floor() -> None:
    assert rules_for("cpu").delta == 0.10
    assert rules_for("cuda").delta == 0.05
    assert rules_for("cpu", aa_floor=0.03).delta == 0.10
    assert rules_for("cpu", aa_floor=0.08).delta == 0.16
    assert rules_for("cpu", delta=0.02, aa_floor=0.02).delta == 0.04


def test_what_could_have_been_detected_grows_with_noise_and_is_above_the_threshold() -> None:
    quiet, noisy = (decide({"a": one(QUIET, scale=s)}, RULES)["a"].detectable for s in (1, 5))
    assert quiet is not None
    assert noisy is not None
    assert 0.10 < quiet < noisy


def test_few_blocks_borrow_their_spread_from_the_others() -> None:
    lucky = Evidence((0.01, 0.01, 0.01), (), 0.01)
    alone = decide({"a": lucky}, RULES)["a"].detectable
    among = decide({"a": lucky, "b": one(QUIET, scale=5)}, RULES)["a"].detectable
    assert alone is not None
    assert among is not None
    assert alone < among
    assert math.isnan(pooled_spread([(1.0,)]))


def test_memory_and_error_are_compared_to_one_percent() -> None:
    base = Facts(10_000, 0, 1_000_000, 1e-6)
    assert worse(base, base) == ""
    assert worse(base, Facts(10_100, 0, 1_075_000, 1.01e-6)) == ""
    assert worse(base, Facts(10_101, 0, 1_000_000, 1e-6)) == "workspace 10.1 KB instead of 10.0 KB"
    assert worse(base, Facts(0, 1, 1_000_000, 1e-6)) == "prepared filters 1 B instead of 0 B"
    assert worse(base, Facts(0, 0, 1_010_000 + 65_536 + 1, 1e-6)).startswith("peak ")
    assert worse(base, Facts(0, 0, 0, 1.2e-6)) == "error 1.20e-6 instead of 1.00e-6"
    assert worse(base, Facts(0, 0, 0, math.nan)).startswith("error")


# Simulated gates: log time = host + process + noise. The host walks at random and steps now and then; each process of a
# pair has its own luck with each cell; each sample has its own noise, with spikes. A gate has room for both stages; the
# first cell may be slower than it was.

CELLS, ROUNDS = 28, 4
PROCESS, NOISE, WALK, STEP = 0.015, 0.03, 0.002, 0.10


def gates(
    count: int, shift: float, interleaved: bool, blocks: int, rng: np.random.Generator
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float64]]:
    """d [gate, cell, block] of `count` gates; `shift` is added to head's log time in cell 0."""
    slots = blocks * ROUNDS * CELLS * 4  # samples in the order of time: block, round, cell, base-head-head-base
    host = np.cumsum(
        rng.normal(0, WALK, (count, slots)) + STEP * rng.choice([0, 1, -1], (count, slots), p=[0.999, 5e-4, 5e-4]), 1
    )
    noise = rng.normal(0, NOISE, host.shape) + rng.exponential(0.5, host.shape) * (rng.random(host.shape) < 0.02)
    if interleaved:
        series = (host + noise).reshape(count, blocks, ROUNDS, CELLS, 4)
        swapped = series.copy()
        swapped[:, :, 1::2] = series[:, :, 1::2][..., [1, 0, 3, 2]]  # head-base-base-head every other round
        base, head = swapped[..., [0, 3]], swapped[..., [1, 2]]
        base, head = (side.transpose(0, 3, 1, 2, 4).reshape(count, CELLS, blocks, -1) for side in (base, head))
    else:
        base, head = (
            side.reshape(count, blocks, ROUNDS, CELLS, 2).transpose(0, 3, 1, 2, 4).reshape(count, CELLS, blocks, -1)
            for side in np.split(host + noise, 2, axis=1)
        )
    lucks = rng.normal(0, PROCESS, (2, count, CELLS, blocks))
    d = np.median(head, -1) - np.median(base, -1) + lucks[1] - lucks[0]
    d[:, 0] += shift
    return d


def verdicts(count: int, shift: float, interleaved: bool, seed: int) -> list[dict[str, Verdict]]:
    rng = np.random.default_rng(seed)
    whole = gates(count, shift, interleaved, SCREENING + CONFIRMING, rng)
    blocks = whole[..., :SCREENING], whole[..., SCREENING:]
    found = []
    for gate in range(count):
        screen, confirm = (
            {f"{cell}": tuple(map(float, values)) for cell, values in enumerate(part[gate])} for part in blocks
        )
        looked = set(suspects(screen, RULES))
        cells = {c: Evidence(screen[c], confirm[c] if c in looked else (), 0.01) for c in screen}
        found.append({name: judged.verdict for name, judged in decide(cells, RULES).items()})
    return found


def false_reds(interleaved: bool) -> float:
    gate = verdicts(150, 0.0, interleaved, seed=1)
    return float(np.mean([Verdict.FAIL in cells.values() for cells in gate]))


def test_unchanged_cells_stay_green_under_drift() -> None:
    assert false_reds(interleaved=True) <= 0.05


def test_measuring_one_side_after_the_other_would_not() -> None:
    assert false_reds(interleaved=False) > 0.05


def test_fifteen_percent_is_found_and_nothing_else() -> None:
    gate = verdicts(150, math.log(1.15), True, seed=2)
    assert np.mean([cells["0"] is Verdict.FAIL for cells in gate]) >= 0.80
    assert np.mean([Verdict.FAIL in [v for name, v in cells.items() if name != "0"] for cells in gate]) <= 0.05
