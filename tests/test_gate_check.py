"""The gate on two files: every verdict and exit code, and what is compared with what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from gate_rows import LATER, case
from test_report import row

from convbench.gate.check import check
from convbench.gate.outcome import CellResult, GateError, Outcome, Verdict
from convbench.results import Row


def one(new: Row, old: Row, **how: Any) -> CellResult:
    """The only cell of a comparison of two rows."""
    (cell,) = check([new], [old], **how).cells
    return cell


def outcome(*verdicts: Verdict) -> Outcome:
    return Outcome("check", "a", "b", tuple(CellResult(f"c{i}/x", v) for i, v in enumerate(verdicts)))


# Exit codes


def test_the_exit_codes_and_their_precedence() -> None:
    order = [
        (Verdict.WRONG, 5), (Verdict.FAIL, 3), (Verdict.MISSING, 4), (Verdict.UNSTABLE, 4), (Verdict.INCONCLUSIVE, 6),
        (Verdict.IMPROVED, 0), (Verdict.OK, 0), (Verdict.PASS, 0),
    ]  # fmt: skip
    assert {verdict for verdict, _ in order} == set(Verdict)
    for place, (verdict, code) in enumerate(order):
        assert outcome(verdict).exit_code(strict=True) == code
        assert outcome(verdict).exit_code(strict=False) == (0 if code == 6 else code)
        whole = outcome(*(v for v, _ in reversed(order[place:])))
        assert whole.verdict is verdict
        assert whole.exit_code(strict=True) == code


@pytest.mark.parametrize("strict", [True, False])
def test_zero_cells_is_never_success(strict: bool) -> None:
    for new, old in (([], []), ([], [row()]), ([row()], []), ([row(batch=2, shape="n2c1h1w1k1r1s1")], [row()])):
        found = check(new, old, strict)
        assert found.cells == ()
        assert found.verdict is Verdict.MISSING
        assert found.exit_code(strict) == 4
    assert "nothing was compared" in outcome().headline


# Time


@pytest.mark.parametrize(
    ("factor", "strict", "verdict", "code"),
    [
        (1.00, False, Verdict.PASS, 0),
        (1.00, True, Verdict.PASS, 0),
        (1.05, True, Verdict.OK, 0),
        (1.15, True, Verdict.INCONCLUSIVE, 6),
        (1.15, False, Verdict.INCONCLUSIVE, 0),
        (1.30, False, Verdict.INCONCLUSIVE, 0),
        (1.30, True, Verdict.FAIL, 3),
        (0.70, True, Verdict.IMPROVED, 0),
    ],
)
def test_times_by_their_intervals(factor: float, strict: bool, verdict: Verdict, code: int) -> None:
    found = check([row(ms=2 * factor)], [row(ms=2)], strict)
    (cell,) = found.cells
    assert cell.verdict is verdict
    assert found.exit_code(strict) == code
    assert cell.ratio == pytest.approx(factor)
    assert cell.low == pytest.approx(factor * 0.97 / 1.05)
    assert cell.high == pytest.approx(factor * 1.05 / 0.97)


def test_a_slowdown_advises_unless_strict() -> None:
    assert one(row(ms=2.6), row(ms=2)).reason.startswith("advisory: at least 20 % slower")
    assert one(row(ms=2.6), row(ms=2), strict=True).reason == "at least 20 % slower"


def test_the_threshold_can_be_chosen_and_depends_on_the_device() -> None:
    assert one(row(ms=2.6), row(ms=2), strict=True, threshold=0.25).verdict is Verdict.INCONCLUSIVE
    tight: dict[str, Any] = {"time_lo_ms": 2.14, "time_hi_ms": 2.16}
    for device, verdict in (("cpu", Verdict.PASS), ("cuda", Verdict.FAIL)):
        old = row(ms=2, device=device, time_lo_ms=1.99, time_hi_ms=2.01)
        found = check([row(ms=2.15, device=device, **tight)], [old], strict=True)
        assert (found.cells[0].verdict, found.threshold) == (verdict, {"cpu": 0.10, "cuda": 0.05}[device])


@pytest.mark.parametrize(("device", "ms", "verdict"), [
    ("cpu", 0.05, Verdict.OK), ("cpu", 0.11, Verdict.FAIL), ("cuda", 0.0015, Verdict.OK), ("cuda", 0.05, Verdict.FAIL),
])  # fmt: skip
def test_a_slowdown_below_the_floor_does_not_count(device: str, ms: float, verdict: Verdict) -> None:
    cell = one(row(ms=1.8 * ms, device=device), row(ms=ms, device=device), strict=True)
    assert cell.verdict is verdict
    assert ("slower by no more than" in cell.reason) == (verdict is Verdict.OK)
    faster = one(row(ms=ms, device=device), row(ms=1.8 * ms, device=device))
    assert faster.verdict is (Verdict.IMPROVED if verdict is Verdict.FAIL else Verdict.PASS)


def test_what_could_have_been_detected_is_just_detected() -> None:
    for ms in (0.2, 2.0, 300.0):
        detectable = one(row(ms=ms), row(ms=ms)).detectable
        assert detectable is not None
        for more, verdict in ((1.001, Verdict.FAIL), (0.999, Verdict.INCONCLUSIVE)):
            found = one(row(ms=ms * (1 + detectable * more)), row(ms=ms), strict=True)
            assert found.verdict in (verdict, *([Verdict.OK] if ms < 1 else []))
            assert (found.verdict is Verdict.FAIL) == (verdict is Verdict.FAIL)


@pytest.mark.parametrize("spoilt", [
    {"time_lo_ms": None}, {"time_hi_ms": math.nan}, {"samples": 5}, {"samples": None}, {"time_lo_ms": 3.0},
    {"time_lo_ms": -1.0},
])  # fmt: skip
def test_without_an_interval_nothing_is_proven(spoilt: dict[str, Any]) -> None:
    for new, old in ((row(**spoilt), row()), (row(), row(**spoilt))):
        cell = one(new, old)
        assert cell.verdict is Verdict.INCONCLUSIVE
        assert "too few samples" in cell.reason


@pytest.mark.parametrize("time", [None, math.nan, math.inf, 0.0, -0.0, -1.0])
def test_a_time_that_is_none_never_passes(time: float | None) -> None:
    for new, old in ((row(time_ms=time), row()), (row(), row(time_ms=time)), (row(time_ms=time), row(time_ms=time))):
        found = check([new], [old])
        assert found.verdict is Verdict.MISSING
        assert found.exit_code(strict=False) == 4
    assert check([row(time_ms=time)], []).exit_code(strict=False) == 4


# Cases that were not measured


@pytest.mark.parametrize(("status", "verdict", "code"), [
    ("failed", Verdict.MISSING, 4), ("timeout", Verdict.MISSING, 4), ("unsupported", Verdict.MISSING, 4),
    ("skipped", Verdict.MISSING, 4), ("unstable", Verdict.UNSTABLE, 4), ("wrong", Verdict.WRONG, 5),
])  # fmt: skip
def test_a_case_that_is_not_ok_never_passes(status: str, verdict: Verdict, code: int) -> None:
    found = check([case(status), row("conv2")], [row(), row("conv2")])
    assert found.verdict is verdict
    assert found.exit_code(strict=False) == code
    assert found.ordered[0].reason.removeprefix(f"{status}: ") == "because"


def test_wrong_is_5_whatever_its_speed_and_its_baseline() -> None:
    fast = row(ms=0.001, status="wrong")
    for old in ([row()], [case("wrong")], []):
        assert check([fast], old).exit_code(strict=False) == 5
    slow = row("conv2", ms=50)
    assert check([fast, slow], [row(), row("conv2", ms=2)], strict=True).exit_code(strict=True) == 5
    assert check([row(error=math.nan)], [row()]).exit_code(strict=False) == 5


def test_a_deleted_algorithm_is_4_and_a_new_one_is_noted() -> None:
    found = check([row(), row(algo="fft.full")], [row(), row(algo="gemm.panel")])
    assert [(cell.cell, cell.verdict) for cell in found.ordered] == [
        ("conv1/gemm.panel", Verdict.MISSING),
        ("conv1/gemm.im2col", Verdict.PASS),
    ]
    assert found.exit_code(strict=False) == 4
    assert any("not compared: conv1/fft.full" in note for note in found.notes)


def test_what_never_was_supported_is_no_cell() -> None:
    found = check([row(), case("unsupported", layer="conv2")], [row(), case("unsupported", layer="conv2")])
    assert [cell.cell for cell in found.cells] == ["conv1/gemm.im2col"]
    assert found.exit_code(strict=True) == 0
    now_works = check([row(), row("conv2")], [row(), case("failed", layer="conv2")])
    assert now_works.exit_code(strict=True) == 0
    assert any("conv2/gemm.im2col" in note for note in now_works.notes)


# What is compared with what


def test_the_newest_row_of_a_case_wins() -> None:
    new = [row(ms=9.0), row(ms=2.0, when=LATER)]
    for order in (new, new[::-1]):
        assert one_of(order, [row()]).verdict is Verdict.PASS
    assert one_of([row(), case("failed", when=LATER)], [row()]).verdict is Verdict.MISSING


def one_of(new: Sequence[Row], old: Sequence[Row]) -> CellResult:
    (cell,) = check(new, old).cells
    return cell


def test_other_hardware_and_other_devices_are_refused_in_one_line() -> None:
    for new, old, words in (
        ([row(hardware="A")], [row(hardware="B")], "different hardware: cpu is A in the new file and B"),
        ([row(device="cuda", hardware="G")], [row()], "measured on cuda, the baseline on cpu"),
        ([row(hardware="A"), row("conv2", hardware="B")], [row(hardware="A")], "A and B"),
        ([row(hardware="A"), row("conv2", hardware="B")], [row(hardware="A"), row("conv2", hardware="B")], "A and B"),
    ):
        with pytest.raises(GateError, match=words) as caught:
            check(new, old)
        assert "\n" not in str(caught.value)
        assert caught.value.code == 2
    both = [row(), row(device="cuda", hardware="G")]
    assert len(check([row()], both).cells) == 1
    assert len(check(both, both).cells) == 2


@pytest.mark.parametrize("other", [
    {"precision": "float64"}, {"batch": 4, "shape": "n4c3h227w227k96r11s11u4"}, {"threads": 1}, {"cache": "cold"},
])  # fmt: skip
def test_other_conditions_are_not_compared_and_not_missed(other: dict[str, Any]) -> None:
    found = check([row()], [row(ms=1.0, **other), row(ms=2.0)], strict=True)
    assert [cell.cell for cell in found.cells] == ["conv1/gemm.im2col"]
    assert found.exit_code(strict=True) == 0
    assert any("only in the baseline" in note for note in found.notes)
    twice = check([row(), row(**other)], [row(), row(**other)])
    names = sorted(cell.cell for cell in twice.cells)
    assert len(set(names)) == 2
    assert all(name.startswith("conv1/gemm.im2col (") for name in names)


def test_a_layer_whose_shape_changed_is_missing() -> None:
    found = check([row(shape="n1c3h9w9k4r3s3")], [row()])
    assert found.exit_code(strict=False) == 4


def test_differing_software_is_noted() -> None:
    notes = check([row(numpy="2.1", run="b")], [row(numpy="2.0")]).notes
    assert notes == ("numpy: 2.0 in the baseline, 2.1 now",)


# Memory and error


@pytest.mark.parametrize(("column", "old", "new", "verdict"), [
    ("workspace_bytes", 1000, 1010, Verdict.PASS), ("workspace_bytes", 1000, 1011, Verdict.FAIL),
    ("workspace_bytes", 0, 1, Verdict.FAIL), ("workspace_bytes", 1000, 10, Verdict.PASS),
    ("workspace_bytes", 1000, None, Verdict.FAIL), ("workspace_bytes", None, 5, Verdict.PASS),
    ("prepared_bytes", 1000, 1011, Verdict.FAIL), ("prepared_bytes", 1000, 1000, Verdict.PASS),
    ("peak_bytes", 1000, 65_000, Verdict.PASS), ("peak_bytes", 1000, 65_001, Verdict.FAIL),
    ("peak_bytes", 10_000_000, 10_090_000, Verdict.PASS), ("peak_bytes", 10_000_000, 10_110_000, Verdict.FAIL),
    ("error", 1e-6, 1.009e-6, Verdict.PASS), ("error", 1e-6, 1.02e-6, Verdict.FAIL),
    ("error", 1e-6, None, Verdict.FAIL),
    ("error", 0.0, 5e-8, Verdict.PASS), ("error", 0.0, 1e-7, Verdict.FAIL), ("error", None, 1e-7, Verdict.PASS),
])  # fmt: skip
def test_memory_and_error_block_by_themselves(column: str, old: Any, new: Any, verdict: Verdict) -> None:
    found = check([row(**{column: new})], [row(**{column: old})])
    assert found.verdict is verdict
    assert found.exit_code(strict=False) == (3 if verdict is Verdict.FAIL else 0)


def test_errors_of_other_operands_count_from_twice_as_much() -> None:
    assert one(row(error=1.9e-6, seed=2), row(error=1e-6)).verdict is Verdict.PASS
    cell = one(row(error=2.1e-6, seed=2), row(error=1e-6))
    assert cell.verdict is Verdict.FAIL
    assert cell.reason == "error 2.10e-6 instead of 1.00e-6 (other seed)"
    assert cell.error_ratio == pytest.approx(2.1)


def test_the_ratio_of_memory_is_that_of_the_figure_that_grew_most() -> None:
    new, old = row(workspace_bytes=3000, peak_bytes=500_000), row(workspace_bytes=1000, peak_bytes=400_000)
    assert one(new, old).memory_ratio == pytest.approx(1.25)
    both = one(replace(new, time_ms=2.6, time_lo_ms=2.5, time_hi_ms=2.7), old)
    assert both.verdict is Verdict.FAIL
    assert both.reason.count(";") == 2
    assert "advisory" in both.reason
