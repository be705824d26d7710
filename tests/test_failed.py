"""Algorithms that fail or refuse: a row with the reason; what is not ok never wins, and the exit code tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import WORD, algorithm, only_row, right
from fakes import TICK, FakeDevice, convbench, row, scripted, swept

from convbench.algorithms.base import Algorithm, Missing, Plan, Unsupported
from convbench.console import best_of_families, result_table
from convbench.results import Writer, read
from convbench.sweep import exit_code


def raising(error: BaseException) -> Callable[..., Any]:
    def raise_it(*_: Any) -> Any:
        raise error

    return raise_it


def fine(*_: Any) -> Plan:
    return Plan(run=lambda x, w, y: None)


FAILURES: list[tuple[Any, str]] = [
    (raising(ValueError("no such tile")), "ValueError: no such tile"),
    (raising(MemoryError()), "out of memory: no details"),
    (raising(MemoryError("Unable to allocate 9 TiB")), "out of memory: Unable to allocate 9 TiB"),
    (raising(RecursionError("too deep")), "RecursionError: too deep"),
    (raising(AssertionError()), "AssertionError"),
    (raising(KeyError("x")), "KeyError: 'x'"),
    (raising(RuntimeError("two\nlines\tand  blanks")), "RuntimeError: two lines and blanks"),
    (raising(SystemExit(0)), "SystemExit"),
    (lambda problem, device: None, "TypeError: the plan function of mine.fast returned NoneType, not a Plan"),
    (
        lambda problem, device: lambda x, w, y: None,
        "TypeError: the plan function of mine.fast returned function, not a Plan",
    ),
    (lambda problem: Plan(run=lambda x, w, y: None), "TypeError: "),
    (5, "TypeError: "),
    (lambda problem, device: Plan(run=None), "TypeError: "),  # type: ignore[arg-type]
    (lambda problem, device: Plan(run=lambda x, w: None), "TypeError: "),  # type: ignore[misc,arg-type]
    (lambda problem, device: Plan(run=raising(OSError("run"))), "OSError: run"),
    (lambda problem, device: Plan(run=raising(MemoryError("run"))), "out of memory: run"),
    (lambda problem, device: Plan(run=raising(SystemExit(0))), "SystemExit"),
    (lambda problem, device: Plan(fine, prepare=raising(OSError("prepare"))), "OSError: prepare"),
    (lambda problem, device: Plan(fine, prepare=raising(MemoryError("prepare"))), "out of memory: prepare"),
]


@pytest.mark.parametrize(("plan", "reason"), FAILURES)
def test_failures(plan: Any, reason: str) -> None:
    made = only_row(FakeDevice(), Algorithm("mine.fast", on={"cpu": plan}))
    assert made.status == "failed"
    assert made.note.startswith(reason)
    assert "\n" not in made.note
    assert made.time_ms is None
    assert exit_code([made, row()]) == 4


def test_refusals() -> None:
    for refusing, status, note in (
        (Algorithm("a.b", on={"cpu": raising(Unsupported("needs stride 1"))}), "unsupported", "needs stride 1"),
        (Algorithm("a.b", on={"cpu": fine}, refuses=lambda problem: "only 3 x 3"), "unsupported", "only 3 x 3"),
        (Algorithm("a.b", on={"cpu": raising(Missing("pip install torch"))}), "skipped", "pip install torch"),
        (Algorithm("a.b", on={"cuda": fine}), "unsupported", "a.b has no code for the cpu, only for cuda"),
        (Algorithm("a.b", on={"cpu": fine}, refuses=raising(ValueError("v"))), "failed", "ValueError: v"),
    ):
        made = only_row(FakeDevice(), refusing)
        assert (made.status, made.note) == (status, note)


@pytest.mark.parametrize(
    "facts",
    [
        {"note": None}, {"note": 5}, {"note": "lone \udc80"}, {"note": "a\rb\nc,\"d\""}, {"workspace": "lots"},
        {"workspace": None}, {"workspace": 1e6}, {"workspace": np.float64(8)}, {"workspace": np.int64(8)},
        {"workspace": -1}, {"prepare": None},
    ],
)  # fmt: skip
def test_what_a_plan_says_of_itself_never_breaks_the_run_or_the_file(tmp_path: Path, facts: dict[str, Any]) -> None:
    """A row, whatever its status, and a file that can be read."""
    device = FakeDevice()
    odd = algorithm(device, right, "mine.odd", **facts)
    writer = Writer(tmp_path / "x.csv")
    for made in swept(device, odd, algorithm(device, right, "mine.plain"), shape=WORD):
        writer.add(made)
    back = {r.algo: r for r in read(tmp_path / "x.csv")}
    assert back["mine.plain"].status == "ok"
    assert back["mine.odd"].status in ("ok", "failed")


# Ranking


def test_a_wrong_one_is_never_the_best() -> None:
    wrong = row(algo="gemm.cheat", status="wrong", time_ms=0.001, gflops=1e6)
    failed = row(algo="gemm.broken", status="failed", time_ms=0.001)
    good = row(algo="gemm.im2col", time_ms=5.0)
    other = row(algo="fft.full", status="wrong", time_ms=0.001)
    for rows in ([wrong, failed, good, other], [good, other, failed, wrong]):
        best = best_of_families(rows)
        assert {r.algo for r in best} == {"gemm.im2col", "fft.full"}
        names = list(result_table(rows).columns[1].cells)
        assert "gemm.im2col *" in names
        assert "fft.full" in names


def test_without_a_right_one_nobody_wins() -> None:
    table = result_table([row(status="wrong", time_ms=0.1), row(algo="fft.full", status="failed", time_ms=None)])
    assert not any(str(cell).endswith("*") for cell in table.columns[1].cells)


# The command's exit code

PLUGIN = """
from convbench import Algorithm, Plan
from convbench.reference import convolve

def plan(problem, device):
    def right(x, w, y):
        y[...] = convolve(x, w, problem.shape)
    def zeros(x, w, y):
        y[...] = 0
    def raises(x, w, y):
        raise RuntimeError("on purpose")
    def leaves(x, w, y):
        raise SystemExit(0)
    return Plan(run={answer})

ALGORITHMS = [Algorithm("gemm.mine", on={{"cpu": plan}})]
"""


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        ("right", 0, ""),
        ("zeros", 5, "is over the bound"),
        ("raises", 4, "RuntimeError: on purpose"),
        ("leaves", 4, "SystemExit"),
    ],
)
def test_exit_codes(tmp_path: Path, command: str, answer: str, code: int, text: str) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.format(answer=answer))
    net = tmp_path / "net.toml"
    net.write_text('[[layer]]\nname = "tiny"\nc = 2\nh = 5\nw = 5\nk = 3\nr = 3\ns = 3\n')
    words = [command, "--device", "cpu", "--net", str(net), "--algo", "gemm.mine,gemm.im2col", "--plugin", str(plugin)]
    words += ["--out", str(tmp_path / "x.csv"), "--budget", "0.01"] if command == "run" else ["--shapes", "1"]
    done = convbench(*words)
    assert done.code == code, done.err
    assert text in " ".join(done.out.split())
    assert done.err == ""
    if command == "run":
        status = {"right": "ok", "zeros": "wrong"}.get(answer, "failed")
        assert {r.algo: r.status for r in read(tmp_path / "x.csv")} == {"gemm.im2col": "ok", "gemm.mine": status}
        if code:
            assert "gemm.im2col *" in done.out
            assert "gemm.mine *" not in done.out


def test_exit_codes_have_an_order() -> None:
    ok, wrong, failed, skipped = (row(status=s) for s in ("ok", "wrong", "failed", "skipped"))
    unsupported, timeout, unstable = (row(status=s) for s in ("unsupported", "timeout", "unstable"))
    assert exit_code([ok]) == exit_code([ok, unsupported, skipped]) == 0
    assert exit_code([ok, failed]) == exit_code([ok, timeout]) == exit_code([ok, unstable]) == 4
    assert exit_code([]) == exit_code([skipped]) == exit_code([unsupported]) == 4
    assert exit_code([ok, failed, wrong]) == exit_code([wrong]) == 5


def test_a_scripted_right_answer_is_ok() -> None:
    """The fakes themselves are honest."""
    device = FakeDevice()
    (made,) = swept(device, scripted(device, "a.b", TICK))
    assert (made.status, made.note, made.samples, made.time_ms, made.converged) == ("ok", "", 15, 1e3 * TICK, True)
