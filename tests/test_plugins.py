"""Plug-ins: the documented card as it stands, right ones, broken ones, and entry points."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import convbench

from convbench.algorithms import PluginError, built_in, collect, load_file, select
from convbench.algorithms.base import Algorithm, Plan
from convbench.results import read

CARD = """\
from convbench import Algorithm, Plan
def plan(problem, device):
    return Plan(run=lambda x, w, y: ..., prepare=lambda w: w, workspace=0)
ALGORITHMS = [Algorithm("mine.fast", on={"cpu": plan})]
"""
RIGHT = """\
from convbench import Algorithm, Plan
def plan(problem, device):
    from convbench.reference import convolve
    def run(x, w, y):
        y[...] = convolve(x, w, problem.shape)
    return Plan(run, note="by the reference")
ALGORITHMS = [Algorithm("mine.right", on={"cpu": plan}, summary="slow but sure")]
"""
RUN = ("run", "--device", "cpu", "--shape", "n1c2h5w5k2r3s3", "--budget", "0.01")


def file(folder: Path, text: str, name: str = "mine.py") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_the_card_runs_as_it_stands_and_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    done = convbench(*RUN, "--algo", "mine.fast", "--plugin", file(tmp_path, CARD), "--out", str(path))
    assert (done.code, done.err) == (5, "")
    (row,) = read(path)
    assert (row.algo, row.status, row.workspace_bytes, row.prepared_bytes) == ("mine.fast", "wrong", 0, 0)
    assert row.note == "18 of 18 outputs are not finite: run(x, w, y) must fill y"
    assert "must fill y" in done.out


def test_the_readme_shows_the_card() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    words = " ".join(readme.split())
    for line in ("from convbench import Algorithm, Plan", "ALGORITHMS = ["):
        assert line in words


def test_a_right_one_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    words = ("--algo", "mine,gemm.im2col", "--plugin", file(tmp_path, RIGHT), "--plugin", file(tmp_path, CARD, "b.py"))
    done = convbench(*RUN, *words, "--out", str(path))
    assert (done.code, done.err) == (5, "")
    found = {row.algo: row for row in read(path)}
    assert {name: row.status for name, row in found.items()} == {
        "gemm.im2col": "ok", "mine.right": "ok", "mine.fast": "wrong",
    }  # fmt: skip
    assert found["mine.right"].note == "by the reference"
    assert found["mine.right"].time_ms


def test_plugins_are_listed_and_explained(tmp_path: Path) -> None:
    plugin = file(tmp_path, RIGHT)
    done = convbench("list", "--device", "cpu", "--plugin", plugin)
    assert done.code == 0
    assert "mine.right" in done.out
    assert "slow but sure" in done.out
    done = convbench("info", "conv3", "--plugin", plugin)
    assert done.code == 0
    assert "by the reference" in done.out


@pytest.mark.parametrize("text", ["F[2] of [/b]y[n]", "[red]x", "[/usr/lib] absent", "[/]", "\\[b]"])
@pytest.mark.parametrize("command", ["list", "info", "run"])
def test_brackets_are_text_and_no_markup(tmp_path: Path, text: str, command: str) -> None:
    plugin = file(tmp_path, RIGHT.replace('"slow but sure"', repr(text)).replace('"by the reference"', repr(text)))
    words = {
        "list": ("list", "--device", "cpu"),
        "info": ("info", "fc8"),
        "run": (*RUN, "--algo", "mine.*", "--out", str(tmp_path / "x.csv")),
    }[command]
    done = convbench(*words, "--plugin", plugin)
    assert (done.code, done.err) == (0, "")
    assert command == "run" or text in done.out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "needs ALGORITHMS, a list of convbench.Algorithm, and has none"),
        ("ALGORITHMS = []\n", "needs ALGORITHMS, a list of convbench.Algorithm, and has none"),
        ("ALGORITHMS = None\n", "needs ALGORITHMS"),
        ("ALGORITHMS = {'a': 1}\n", "needs ALGORITHMS"),
        ("ALGORITHMS = [5]\n", "ALGORITHMS holds a int, not a convbench.Algorithm"),
        ("ALGORITHMS = ['mine']\n", "ALGORITHMS holds a str, not a convbench.Algorithm"),
        (CARD.replace('"mine.fast"', '""'), "'' is no name"),
        (CARD.replace('"mine.fast"', '"mine fast"'), "'mine fast' is no name"),
        (CARD.replace('"mine.fast"', '"mine.*"'), "'mine.*' is no name"),
        (CARD.replace('"mine.fast"', '"a,b"'), "'a,b' is no name"),
        (CARD.replace('"mine.fast"', '"a.\\r"'), "is no name"),
        (CARD.replace('"mine.fast"', '"all"'), "'all' is no name"),
        (CARD.replace('"mine.fast"', "5"), "is no name"),
        (CARD.replace('{"cpu": plan}', "{}"), "mine.fast must map 'cpu' or 'cuda' to a plan function"),
        (CARD.replace('{"cpu": plan}', '{"tpu": plan}'), "mine.fast must map 'cpu' or 'cuda' to a plan function"),
        (CARD.replace('{"cpu": plan}', "plan"), "mine.fast must map 'cpu' or 'cuda' to a plan function"),
        (CARD.replace('{"cpu": plan}', '{"cpu"}'), "mine.fast must map 'cpu' or 'cuda' to a plan function"),
        (CARD.replace('{"cpu": plan}', '{"cpu": 5}'), "mine.fast must map 'cpu' or 'cuda' to a plan function"),
        (CARD.replace('{"cpu": plan}', "None"), "mine.fast must map 'cpu' or 'cuda' to a plan function"),
        (CARD.replace("mine.fast", "gemm.im2col"), "the name 'gemm.im2col' is taken by convbench itself"),
        (
            CARD + "ALGORITHMS += [Algorithm('mine.fast', on={'cpu': plan})]\n",
            "the name 'mine.fast' is taken by plug-in",
        ),
    ],
)
def test_bad_plugins(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, text)
    done = convbench("list", "--device", "cpu", "--plugin", path)
    assert done.code == 2, done.err
    assert done.err.startswith(f"convbench: plug-in {path}: ")
    assert message in done.err
    assert (done.out, done.err.count("\n")) == ("", 1)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("x = 1\nimport no_such_module\n", 2, "ModuleNotFoundError: No module named 'no_such_module'"),
        ("\n\n1 / 0\n", 3, "ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('in f')\n\n\nf()\n", 2, "ValueError: in f"),
        ("x = 1\ndef broken(:\n", 2, "SyntaxError: "),
        ("from convbench import Algorithms\n", 1, "ImportError: cannot import name 'Algorithms'"),
        ("raise RuntimeError('two\\nlines')\n", 1, "RuntimeError: two"),
        ("import sys\nsys.exit(0)\n", 2, "SystemExit"),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_a_module_that_does_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, line: int, message: str, relative: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = file(tmp_path, text)
    given = "mine.py" if relative else path
    done = convbench("list", "--device", "cpu", "--plugin", given)
    assert done.code == 2, done.err
    assert done.err.startswith(f"convbench: plug-in {given}, line {line}: {message}")
    assert done.err.count("\n") == 1, "one line"
    assert "Traceback" not in done.err


def test_files_that_are_no_plugins(tmp_path: Path) -> None:
    for given, message in (
        (str(tmp_path / "absent.py"), "there is no such file"),
        (str(tmp_path), "there is no such file"),
        (file(tmp_path, CARD, "mine.txt"), "not a Python file (its name must end in .py)"),
    ):
        with pytest.raises(PluginError) as caught:
            load_file(Path(given))
        assert str(caught.value) == f"plug-in {given}: {message}"
    binary = tmp_path / "binary.py"
    binary.write_bytes(b"\xff\x00")
    with pytest.raises(PluginError, match=r"binary\.py"):
        load_file(binary)


def test_a_plan_that_raises_is_a_failed_row(tmp_path: Path) -> None:
    text = CARD.replace("    return Plan", "    raise LookupError('no kernel')\n    return Plan")
    path = tmp_path / "x.csv"
    done = convbench(*RUN, "--algo", "mine,gemm.im2col", "--plugin", file(tmp_path, text), "--out", str(path))
    assert done.code == 4
    found = {row.algo: (row.status, row.note) for row in read(path)}
    assert found["mine.fast"] == ("failed", "LookupError: no kernel")
    assert found["gemm.im2col"][0] == "ok"


def test_two_plugins_of_the_same_file_name(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    both = [file(tmp_path / "a", CARD), file(tmp_path / "b", RIGHT)]
    assert {"mine.fast", "mine.right"} <= {algorithm.name for algorithm in collect(both)}
    with pytest.raises(PluginError, match=r"the name 'mine\.fast' is taken by plug-in"):
        collect([both[0], both[0]])


# Entry points


def entry(name: str, value: Any) -> Any:
    def load() -> Any:
        if isinstance(value, BaseException):
            raise value
        return value

    return SimpleNamespace(name=name, value=f"{name}_package.module", load=load)


def pretend(monkeypatch: pytest.MonkeyPatch, *entries: Any) -> None:
    def entry_points(*, group: str) -> list[Any]:
        return list(entries) if group == "convbench.algorithms" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def algorithm(name: str) -> Algorithm:
    return Algorithm(name, on={"cpu": lambda problem, device: Plan(run=lambda x, w, y: None)})


def test_entry_points_come_by_the_same_door(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(
        monkeypatch, entry("theirs", SimpleNamespace(ALGORITHMS=[algorithm("theirs.one"), algorithm("theirs.two")]))
    )
    names = [each.name for each in collect()]
    assert names == [*(each.name for each in built_in()), "theirs.one", "theirs.two"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (ImportError("no such thing"), "entry point theirs (theirs_package.module): ImportError: no such thing"),
        (SystemExit(0), "entry point theirs (theirs_package.module): SystemExit"),
        (SimpleNamespace(), "entry point theirs: needs ALGORITHMS"),
        (SimpleNamespace(ALGORITHMS=[1]), "entry point theirs: ALGORITHMS holds a int"),
        (SimpleNamespace(ALGORITHMS=[algorithm("fft.full")]), "entry point theirs: the name 'fft.full' is taken by"),
    ],
)
def test_bad_entry_points(monkeypatch: pytest.MonkeyPatch, value: Any, message: str) -> None:
    pretend(monkeypatch, entry("theirs", value))
    with pytest.raises(PluginError) as caught:
        collect()
    assert str(caught.value).startswith(message)


# Choosing by name

NAMES = ("gemm.im2col", "gemm.panel", "fft.full", "fft.tiled", "winograd.f2", "winograd.f4")


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ("all", NAMES),
        ("gemm", NAMES[:2]),
        ("fft.full", ("fft.full",)),
        ("*.f?", NAMES[4:]),
        (" fft.tiled , gemm.panel ", ("gemm.panel", "fft.tiled")),
        ("fft,fft.full", ("fft.full", "fft.tiled")),
        ("*", NAMES),
    ],
)
def test_select(wanted: str, chosen: tuple[str, ...]) -> None:
    assert select(wanted, NAMES, "algorithm") == list(chosen)
