"""The gate's files and commands: baselines kept and found, samples, thresholds, checks by command."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import typer
from gate_rows import LATER, case
from test_report import row, write_csv
from typer.testing import CliRunner, Result

from convbench.cli_gate import register, share_of
from convbench.gate import baseline
from convbench.gate.check import check
from convbench.gate.outcome import GateError, percent
from convbench.gate.samples import key_of, read_samples
from convbench.results import Writer, read

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


def test_a_file_is_not_compared_with_itself(tmp_path: Path) -> None:
    assert check([row()], [row()]).notes == ("both sides are the same run: nothing was measured anew",)
    csv = tmp_path / "x.csv"
    write_csv(csv, [row()])
    assert isinstance(command("check", csv, "--baseline", tmp_path / "." / "x.csv").exception, GateError)


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
