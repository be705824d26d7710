"""The gate on two files: every verdict and exit code, what is compared with what, and the stored baselines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from test_report import GONE, row, write_csv
from typer.testing import CliRunner, Result

from convbench.cli_gate import register, share_of
from convbench.gate import baseline
from convbench.gate.check import check
from convbench.gate.outcome import CellResult, GateError, Outcome, Verdict, percent
from convbench.gate.samples import key_of, read_samples
from convbench.results import Row, Writer, read

LATER = "2026-02-02T00:00:00Z"


def one(new: Row, old: Row, **how: Any) -> CellResult:
    """The only cell of a comparison of two rows."""
    (cell,) = check([new], [old], **how).cells
    return cell


def outcome(*verdicts: Verdict) -> Outcome:
    return Outcome("check", "a", "b", tuple(CellResult(f"c{i}/x", v) for i, v in enumerate(verdicts)))


def case(status: str, **more: Any) -> Row:
    return row(status=status, note="because", **(GONE | more))


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


def test_a_file_is_not_compared_with_itself(tmp_path: Path) -> None:
    assert check([row()], [row()]).notes == ("both sides are the same run: nothing was measured anew",)
    csv = tmp_path / "x.csv"
    write_csv(csv, [row()])
    assert isinstance(command("check", csv, "--baseline", tmp_path / "." / "x.csv").exception, GateError)


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


# Baselines


def test_baselines_are_kept_found_and_listed(tmp_path: Path) -> None:
    csv, folder = tmp_path / "x.csv", tmp_path / "baseline"
    write_csv(csv, [row(), case("unsupported", layer="conv2")])
    path = baseline.save(csv, folder)
    assert path.name == "amd-epyc_cpu_float32_batch1_threads2_hot.csv"
    assert path.read_bytes() == csv.read_bytes()
    assert [p.name for p in folder.iterdir()] == [path.name]
    assert baseline.find(read(csv), folder) == path
    (stored,) = baseline.show(folder)
    assert (stored.path, stored.hardware, stored.cells, stored.commits) == (path, "AMD EPYC", 1, "abc1234")
    with pytest.raises(GateError, match=r"no baseline .*cold.*there is amd-epyc_cpu_float32_batch1_threads2_hot"):
        baseline.find([row(cache="cold")], folder)
    with pytest.raises(GateError, match="no rows"):
        baseline.find([], folder)
    assert baseline.show(tmp_path / "nowhere") == []


def test_several_conditions_share_one_baseline() -> None:
    rows = [row(batch=16), row(batch=1), row(precision="float64")]
    assert baseline.fingerprint(rows) == "amd-epyc_cpu_float32+float64_batch1+16_threads2_hot"
    with pytest.raises(GateError, match="several devices"):
        baseline.fingerprint([row(), row(hardware="B")])
    odd = row(hardware="../Ä/ \n")
    assert baseline.fingerprint([odd]).startswith("unknown_cpu") or "/" not in baseline.fingerprint([odd])


@pytest.mark.parametrize("status", ["wrong", "failed", "timeout", "unstable"])
def test_what_is_not_in_order_becomes_no_baseline(status: str, tmp_path: Path) -> None:
    csv = tmp_path / "x.csv"
    write_csv(csv, [row(), case(status, layer="conv2")])
    with pytest.raises(GateError, match=f"conv2/gemm.im2col {status}"):
        baseline.save(csv, tmp_path / "baseline")
    assert not (tmp_path / "baseline").exists()
    write_csv(csv, [row("conv2", when=LATER)])
    assert baseline.save(csv, tmp_path / "baseline").exists()


def test_a_baseline_is_not_narrowed_by_accident(tmp_path: Path) -> None:
    large, small, folder = tmp_path / "large.csv", tmp_path / "small.csv", tmp_path / "baseline"
    write_csv(large, [row(), row("conv2")])
    write_csv(small, [row()])
    baseline.save(large, folder)
    with pytest.raises(GateError, match=r"covers 1 case that .* lacks; give --replace"):
        baseline.save(small, folder)
    path = baseline.save(small, folder, replace=True)
    assert len(read(path)) == 1
    nothing = tmp_path / "nothing.csv"
    write_csv(nothing, [case("unsupported")])
    with pytest.raises(GateError, match="no row has the status ok"):
        baseline.save(nothing, folder)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GateError, match="cannot write"):
        baseline.save(small, tmp_path / "file" / "baseline")


def test_samples_are_read_where_they_are(tmp_path: Path) -> None:
    csv, each = tmp_path / "x.csv", row()
    Writer(csv).add(each, [(0, 1, 0.002, False), (1, 1, 0.003, False), (2, 1, math.nan, False)])
    samples = read_samples(csv)
    assert samples == {key_of(each): (0.002, 0.003)}
    (cell,) = check([each], [each], new_samples=samples).cells
    assert (cell.head_samples, cell.base_samples) == ((0.002, 0.003), ())
    assert read_samples(tmp_path / "none.csv") == {}
    (tmp_path / "x.samples.csv").write_text("something else\n")
    assert read_samples(csv) == {}


# The command line


def command(*words: object) -> Result:
    app = typer.Typer()
    register(app)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_check_and_baseline_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new, old = Path("new.csv"), Path("old.csv")
    write_csv(new, [row(ms=2.6), row("conv2", workspace_bytes=0)])
    write_csv(old, [row(ms=2.0), row("conv2", workspace_bytes=0)])
    done = command("check", new)
    assert isinstance(done.exception, GateError)
    assert command("baseline", "show").output.startswith("no baselines in results/baseline")
    assert command("baseline", "save", old).output.strip().endswith("_hot.csv")
    assert "AMD EPYC" in " ".join(command("baseline", "show").output.split())
    done = command("check", new)
    assert done.exit_code == 0
    assert all(len(line) <= 80 for line in done.output.splitlines() if not line.startswith("INCONCLUSIVE:"))
    assert done.output.index("conv1/gemm.im2col") < done.output.index("conv2/gemm.im2col")
    assert done.output.splitlines()[-1].startswith("INCONCLUSIVE: 1 INCONCLUSIVE, 1 PASS")
    done = command("check", new, "--baseline", old, "--strict", "--threshold", "15%", "--format", "json=a/b.json")
    assert done.exit_code == 3
    assert Path("a/b.json").exists()
    done = command("check", new, "--baseline", old, "--format", "markdown")
    assert done.output.startswith("### convbench check: INCONCLUSIVE")
    assert isinstance(command("check", new, "--format", "nonsense").exception, GateError)


def test_help_has_examples() -> None:
    for words in (
        ("check", "--help"),
        ("baseline", "--help"),
        ("baseline", "save", "--help"),
        ("baseline", "show", "--help"),
    ):
        output = command(*words).output
        assert "Example" in output


@pytest.mark.parametrize(("text", "share"), [("12%", 0.12), (" 0.12 ", 0.12), ("150 %", 1.5), ("7.5%", 0.075)])
def test_a_threshold_is_a_share(text: str, share: float) -> None:
    assert share_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "12", "0", "-5%", "nan", "12%%", "x%", "inf%"])
def test_what_is_no_threshold_is_refused(text: str) -> None:
    with pytest.raises(GateError, match="is not a share"):
        share_of(text)


def test_shares_in_words() -> None:
    assert [percent(x) for x in (0.123, 0.0123, 0.05, None, math.inf)] == ["12 %", "1.2 %", "5 %", "", ""]
