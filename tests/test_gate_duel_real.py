"""Duels of real processes, in a repository made here: equal, wrong, gone, dead and hung heads, and what is refused."""

from __future__ import annotations

import subprocess
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from gate_outcomes import found

from convbench.cli_duel import duel as command
from convbench.gate import duel as duel_module
from convbench.gate.arrange import Request, hold, inside
from convbench.gate.outcome import GateError, Outcome, Verdict
from convbench.gate.trees import Repository
from convbench.layers import Layer, load

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
