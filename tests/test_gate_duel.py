"""Duels: scripted opponents for order, verdicts and exit codes; then real processes in a repository made here."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from convbench.cli_duel import duel as command
from convbench.cli_duel import share, slowdowns
from convbench.gate import duel as duel_module
from convbench.gate.arrange import Request, hold, inside
from convbench.gate.decision import Rules
from convbench.gate.duel import Cell, Duel
from convbench.gate.duelist import slowed
from convbench.gate.judging import judge
from convbench.gate.opponents import NAMES, SideLost
from convbench.gate.outcome import GateError, Outcome, Verdict
from convbench.gate.trees import Repository
from convbench.layers import Layer, load
from convbench.problem import Problem
from convbench.shapes import parse_shape

ONE = Problem(parse_shape("n1c1h1w1k1r1s1"))
Times = dict[tuple[str, str], Any]  # by side and cell: seconds, or an exception


@dataclass
class Script:
    """Opponents whose clock is a table, and who note what they were asked."""

    times: Times = field(default_factory=dict)
    opened: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    closed: dict[tuple[str, str], str] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)
    pairs: int = 0
    ended: int = 0

    def pair(self) -> tuple[ScriptedSide, ScriptedSide]:
        self.pairs += 1
        return ScriptedSide(self, "base"), ScriptedSide(self, "head")


@dataclass
class ScriptedSide:
    script: Script
    name: str

    def ask(self, do: str, **facts: Any) -> dict[str, Any]:
        cell = facts["cell"]
        self.script.log.append((self.name, do, cell))
        if do == "sample":
            seconds = self.script.times.get((self.name, cell), 0.01)
            if isinstance(seconds, Exception):
                raise seconds
            return {"seconds": seconds, "disturbed": False}
        if do == "open":
            usual = {"status": "ok", "note": "", "workspace_bytes": 100, "prepared_bytes": 0, "peak_bytes": 100}
            return usual | {"error_of_answer": 1e-7} | self.script.opened.get((self.name, cell), {})
        if do == "close":
            return {"status": self.script.closed.get((self.name, cell), "ok"), "note": "the second answer"}
        return {}

    def end(self) -> None:
        self.script.ended += 1


def fought(script: Script, *names: str, controls: set[str] | None = None, against: bool = False) -> Outcome:
    duel = Duel(script, [Cell(name, ONE, name, name) for name in names], 7, against)
    rules = Rules()
    duel.fight(rules)
    assert script.ended == 2 * script.pairs
    return judge(duel, rules, controls or set(), "old", "new")


def found(outcome: Outcome) -> dict[str, str]:
    return {cell.cell: str(cell.verdict) for cell in outcome.cells}


def test_equal_sides_take_three_blocks_and_pass() -> None:
    script = Script()
    outcome = fought(script, "a", "b")
    assert (found(outcome), outcome.exit_code(False), script.pairs) == ({"a": "PASS", "b": "PASS"}, 0, 3)
    assert outcome.cells[0].base_ms == pytest.approx(10)


def test_base_head_head_base_and_each_side_starts_as_often() -> None:
    script = Script()
    fought(script, "a", "b")
    samples = [(side, cell) for side, do, cell in script.log if do == "sample"]
    assert len(samples) == 3 * 4 * 2 * 4
    quads = [samples[i : i + 4] for i in range(0, len(samples), 4)]
    assert all(len({cell for _, cell in quad}) == 1 for quad in quads)
    sides = [[side for side, _ in quad] for quad in quads]
    assert all(quad in (["base", "head", "head", "base"], ["head", "base", "base", "head"]) for quad in sides)
    assert sum(quad[0] == "base" for quad in sides) == len(quads) / 2


def test_only_the_suspect_is_measured_again_and_exits_3() -> None:
    script = Script({("head", "a"): 0.013})
    outcome = fought(script, "a", "b", controls={"b"})
    assert found(outcome) == {"a": "FAIL", "b": "PASS"}
    assert (outcome.exit_code(False), script.pairs) == (3, 11)
    assert sum(do == "sample" and cell == "b" for _, do, cell in script.log) == 3 * 16
    assert len(outcome.cells[0].head_samples) == 8 * 8


def test_a_control_that_is_slower_exits_4() -> None:
    outcome = fought(Script({("head", "a"): 0.013, ("head", "b"): 0.013}), "a", "b", controls={"b"})
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "UNSTABLE", "b": "UNSTABLE"}, 4)


def test_faster_is_improved_and_exits_0() -> None:
    outcome = fought(Script({("head", "a"): 0.007}), "a")
    assert (found(outcome), outcome.exit_code(True)) == ({"a": "IMPROVED"}, 0)


def test_wrong_exits_5_whatever_its_speed() -> None:
    script = Script(
        {("head", "a"): 0.001, ("head", "b"): 0.02}, {("head", "a"): {"status": "wrong", "note": "far off"}}
    )
    outcome = fought(script, "a", "b")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "WRONG", "b": "FAIL"}, 5)
    assert "far off" in outcome.cells[0].reason


def test_wrong_in_the_end_is_wrong() -> None:
    assert found(fought(Script(closed={("head", "a"): "wrong"}), "a")) == {"a": "WRONG"}
    assert found(fought(Script(closed={("base", "a"): "wrong"}), "a")) == {"a": "MISSING"}


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_never_passes(seconds: float) -> None:
    outcome = fought(Script({("head", "a"): seconds}), "a", "b")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "MISSING", "b": "PASS"}, 4)


@pytest.mark.parametrize("side", NAMES)
def test_a_lost_process_costs_its_cell_alone(side: str) -> None:
    script = Script({(side, "a"): SideLost("no answer for 60 s")})
    outcome = fought(script, "a", "b")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "MISSING", "b": "PASS"}, 4)
    assert outcome.cells[0].reason == f"{side}: no answer for 60 s"
    assert script.pairs == 4  # the first block is done again
    assert len(outcome.cells[1].base_samples) == 3 * 8


def test_more_memory_and_more_error_block_by_themselves() -> None:
    script = Script(opened={("head", "a"): {"workspace_bytes": 102}, ("head", "b"): {"error_of_answer": 2e-7}})
    outcome = fought(script, "a", "b", "c")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "FAIL", "b": "FAIL", "c": "PASS"}, 3)
    assert outcome.cells[0].reason == "workspace 102 B instead of 100 B"
    assert outcome.cells[1].error_ratio == pytest.approx(2)
    assert found(fought(script, "a", "b", against=True)) == {"a": "PASS", "b": "PASS"}


def test_what_base_cannot_do_is_no_cell_and_what_head_cannot_is_missing() -> None:
    refuses = {"status": "unsupported", "note": "stride 4"}
    outcome = fought(Script(opened={("base", "a"): refuses, ("head", "b"): refuses}), "a", "b")
    assert found(outcome) == {"b": "MISSING"}
    assert any("stride 4" in note for note in outcome.notes)
    nothing = fought(Script(opened={("base", "a"): refuses}), "a")
    assert (found(nothing), nothing.exit_code(False)) == ({}, 4)


def test_a_slowed_call_waits_for_its_share() -> None:
    clock = [0]

    def now() -> int:
        clock[0] += 1
        return clock[0]

    def work() -> None:
        clock[0] += 1000

    slowed(work, 0.5, now)()
    assert 1500 <= clock[0] <= 1505


def test_words_of_the_command_line() -> None:
    assert (share("--delta", "15%"), share("--delta", "0.15")) == (0.15, 0.15)
    assert slowdowns(["conv3/gemm.im2col=20%"]) == {"conv3/gemm.im2col": 0.2}
    for bad in ("15", "x%", "0", "-1%", "15%%", "nan"):
        with pytest.raises(GateError, match="is not a share"):
            share("--delta", bad)
    with pytest.raises(GateError, match="CELL=SHARE"):
        slowdowns(["conv3"])
    with pytest.raises(GateError, match="nothing to compare with"):
        Request(layers=[])
    with pytest.raises(GateError, match="exclude each other"):
        Request(layers=[], base="x", self_test=True)


KERNEL = """
from convbench import Algorithm, Plan
from convbench.reference import convolve
from helper import FACTOR

def plan(problem, device):
    def run(x, w, y):
        y[...] = FACTOR * convolve(x, w, problem.shape)
    return Plan(run)
"""
HEAD = """
def hangs(problem, device):
    while True:
        pass

def wrong(problem, device):
    return Plan(lambda x, w, y: y.fill(1))

def aborts(problem, device):
    import os
    os.abort()
"""
NET = '[[layer]]\nname = "tiny"\nc = 2\nh = 6\nw = 6\nk = 3\nr = 3\ns = 3\npad = 1\n'


def listed(**plans: str) -> str:
    entries = "".join(f'    Algorithm("mine.{name}", on={{"cpu": {plan}}}),\n' for name, plan in plans.items())
    return f"ALGORITHMS = [\n{entries}]\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits: right kernels; then one is right, one is wrong, one is gone, one aborts, one never ends."""
    root = tmp_path / "repository"
    (root / "src").mkdir(parents=True)
    git(root, "init", "--quiet")
    (root / "tiny.toml").write_text(NET)
    (root / "src" / "helper.py").write_text("FACTOR = 1\n")
    kernels = root / "src" / "kernels.py"
    for text in (
        KERNEL + listed(right="plan", bad="plan", gone="plan", dead="plan", hung="plan"),
        KERNEL + textwrap.dedent(HEAD) + listed(right="plan", bad="wrong", dead="aborts", hung="hangs"),
    ):
        kernels.write_text(text)
        git(root, "add", ".")
        git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
    return root


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def asked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    monkeypatch.setattr(duel_module, "SCREENING", 1)
    monkeypatch.setattr(duel_module, "CONFIRMING", 1)
    layers: tuple[Layer, ...] = load(str(repository / "tiny.toml")).layers

    def ask(**more: Any) -> Outcome:
        return hold(Request(layers=layers, repo=repository, plugin="src/kernels.py", seed=1, **more))[0]

    return ask


def is_clean(repository: Path) -> bool:
    return len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_real_duel_of_equal_sides(asked: Callable[..., Outcome], repository: Path) -> None:
    outcome = asked(head="HEAD~1", self_test=True, algo="mine.right,mine.bad")
    assert set(found(outcome)) == {"tiny/mine.right", "tiny/mine.bad"}
    assert not {cell.verdict for cell in outcome.cells} & {Verdict.WRONG, Verdict.MISSING}
    assert all(cell.ratio and cell.memory_ratio == 1 and cell.error_ratio == 1 for cell in outcome.cells)
    assert any("2 of 2 cells are the same code" in note for note in outcome.notes)
    assert is_clean(repository)


def test_real_heads_that_are_wrong_gone_dead_or_hung(asked: Callable[..., Outcome], repository: Path) -> None:
    codes, reasons = {}, {}
    for name in ("bad", "gone", "dead", "hung"):
        outcome = asked(base="HEAD~1", algo=f"mine.{name}", timeout=5.0)
        codes[name] = outcome.exit_code(False)
        (cell,) = outcome.cells
        reasons[name] = cell.reason
    assert codes == {"bad": 5, "gone": 4, "dead": 4, "hung": 4}
    assert "over the bound" in reasons["bad"]
    assert reasons["gone"] == "head has no mine.gone"
    assert "SIGABRT" in reasons["dead"]
    assert "no answer for 5 s" in reasons["hung"]
    assert is_clean(repository)


def test_files_of_the_other_side_are_refused(asked: Callable[..., Outcome], repository: Path) -> None:
    """A plug-in that imports by an absolute path would run the working tree's code on both sides."""
    kernels = repository / "src" / "kernels.py"
    kernels.write_text(f"import sys\nsys.path.insert(0, {str(repository / 'src')!r})\n{KERNEL}{listed(right='plan')}")
    git(repository, "add", ".")
    git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "x")
    with pytest.raises(GateError, match=r"module helper comes from .*, which is not in"):
        asked(base="HEAD")
    assert is_clean(repository)


def test_what_cannot_be_compared_is_one_line(
    asked: Callable[..., Outcome], repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GateError, match="has no revision 'nowhere'") as error:
        command(base="nowhere", repo=repository, plugin="src/kernels.py", net=str(repository / "tiny.toml"), layer="")
    assert (error.value.code, "\n" in str(error.value)) == (2, False)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(GateError, match="not a git repository"):
        Repository(tmp_path / "empty")
    with pytest.raises(GateError, match="not inside the repository"):
        inside("../x.py", repository)
    with pytest.raises(GateError, match=r"has no convbench/algorithms: give --plugin"):
        hold(Request(layers=[], repo=repository, base="HEAD"))
    with pytest.raises(GateError, match=r"--plugin nope.py: base, HEAD .*, has no such file"):
        hold(Request(layers=[], repo=repository, base="HEAD", plugin="nope.py"))
    with pytest.raises(GateError, match="no cell is called tiny/x"):
        asked(self_test=True, head="HEAD~1", slowdowns={"tiny/x": 0.1})
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GateError, match="git is not installed"):
        Repository(repository)


def test_the_worktrees_go_when_something_raises(repository: Path) -> None:
    found = Repository(repository)
    with pytest.raises(KeyboardInterrupt), found.worktree("HEAD") as tree:  # noqa: PT012
        assert (tree.path / "src" / "kernels.py").is_file()
        raise KeyboardInterrupt
    assert not tree.path.exists()
    assert is_clean(repository)


def test_the_command_exits_with_the_code(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = str(repository / "tiny.toml")
    with pytest.raises(typer.Exit) as done:
        command(base="HEAD~1", repo=repository, plugin="src/kernels.py", net=net, algo="mine.gone", layer="")
    assert done.value.exit_code == 4
