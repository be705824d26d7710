"""Cases that crash, hang or eat the memory, and workers that die: each costs its own row at most."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import pytest
from own_process import SHAPE, convbench

from convbench.algorithms import collect
from convbench.algorithms.base import Algorithm
from convbench.bench import Apart, Setup
from convbench.devices.base import NoDevice
from convbench.layers import Layer
from convbench.measure.rules import Budget
from convbench.process import Child, ChildDiedError, ChildSilentError, how_it_ended
from convbench.results import Row, read
from convbench.shapes import parse_shape
from convbench.sweep import Request

BAD = """
import os, time
import numpy as np
from convbench import Algorithm, Plan
from convbench.reference import convolve

def right(x, w, y, shape):
    y[...] = convolve(x, w, shape)

def maker(bad):
    def plan(problem, device):
        calls = []
        def run(x, w, y):
            right(x, w, y, problem.shape)
            calls.append(0)
            bad(len(calls))
        return Plan(run)
    return plan

def abort(call):
    print("about to abort", flush=True)
    os.abort()

def loop(call):
    while True:
        time.sleep(0.01)

def late(call):
    if call > 5:
        os.abort()

HELD = []
def eat(call):
    while True:
        HELD.append(np.ones(1 << 24))

ALGORITHMS = [Algorithm(f"bad.{bad.__name__}", on={"cpu": maker(bad)}) for bad in (abort, loop, eat, late)]
ALGORITHMS += [Algorithm("good.one", on={"cpu": maker(lambda call: None)})]
"""


def test_each_bad_case_costs_its_own_row(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    done = convbench(
        "run", "--shape", SHAPE, "--algo",
        "bad.abort,bad.loop,bad.late,good,gemm.im2col,gemm.panel,direct.naive", "--plugin", "bad.py", "--device", "cpu",
        "--budget", "0.1", "--timeout", "10", "--out", "x.csv", cwd=tmp_path,
    )  # fmt: skip
    rows = {row.algo: row for row in read(tmp_path / "x.csv")}
    assert done.returncode == 4, done.stderr
    assert len(rows) == 7
    assert (rows["bad.abort"].status, rows["bad.loop"].status) == ("failed", "timeout")
    assert "SIGABRT" in rows["bad.abort"].note
    assert "about to abort" in rows["bad.abort"].note
    assert "no answer for 10 s" in rows["bad.loop"].note
    assert rows["bad.late"].status == "failed"
    for name in ("good.one", "gemm.im2col", "gemm.panel", "direct.naive"):
        assert rows[name].status == "ok", rows[name].note


class Deaf:
    """A listener that hears nothing."""

    def opening(self, layer: Layer, algorithm: Algorithm) -> None: ...

    def timing(self, layer: Layer, algorithm: Algorithm) -> None: ...

    def row(self, row: Row) -> None: ...


def test_one_that_eats_the_memory_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convbench.process.MEMORY_SHARE", 0.12)  # to measure memory takes up to a gigabyte
    (tmp_path / "bad.py").write_text(BAD)
    layer = Layer("tiny", parse_shape(SHAPE))
    algorithms = [a for a in collect([str(tmp_path / "bad.py")]) if a.name in ("bad.eat", "good.one")]
    with contextlib.closing(Apart(Setup("cpu", 1, "float32", (str(tmp_path / "bad.py"),)), 60)) as bench:
        request = Request("shape", [layer], algorithms, 0, "float32", "hot", Budget(0.05), 1, "test")
        rows = {row.algo: row for row, _ in bench.layer(request, layer, algorithms, Deaf())}
    assert rows["bad.eat"].status == "failed"
    assert "GB, most of the free memory" in rows["bad.eat"].note
    assert rows["good.one"].status == "ok"


@pytest.mark.parametrize("rows_before", [0, 1, 2, 3])
def test_a_worker_that_dies_between_two_messages_costs_one_row_at_most(
    monkeypatch: pytest.MonkeyPatch, rows_before: int
) -> None:
    """Also between a case's row and the next one's turn, and after the last row."""
    died: list[int] = []
    heard: list[str] = []

    class Mortal(Child):
        def receive(self, timeout: float | None = None) -> Any:
            if not died and heard.count("row") == rows_before and "opening" in heard:
                died.append(self.process.pid)
                self.kill()
                raise ChildDiedError("it died")
            answer = super().receive(timeout)
            heard.append(answer[0])
            return answer

    monkeypatch.setattr("convbench.bench.Child", Mortal)
    algorithms = [a for a in collect() if a.name in ("gemm.im2col", "gemm.panel", "direct.naive")]
    layers = [Layer(name, parse_shape(SHAPE)) for name in ("first", "second")]
    request = Request("shape", layers, algorithms, 0, "float32", "hot", Budget(0.02), 1, "test")
    with contextlib.closing(Apart(Setup("cpu", 1, "float32"), 60)) as bench:
        rows = [row for layer in layers for row, _ in bench.layer(request, layer, algorithms, Deaf())]
    assert died
    assert sorted((row.layer, row.algo) for row in rows) == sorted((i.name, a.name) for i in layers for a in algorithms)
    assert sum(row.status != "ok" for row in rows) == (rows_before < 3)


def test_a_worker_that_cannot_be_started_anew_costs_rows_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    algorithms = [a for a in collect() if a.name in ("gemm.im2col", "direct.naive")]
    layer = Layer("tiny", parse_shape(SHAPE))
    request = Request("shape", [layer], algorithms, 0, "float32", "hot", Budget(0.02), 1, "test")
    with contextlib.closing(Apart(Setup("cpu", 1, "float32"), 60)) as bench:
        bench.close()
        monkeypatch.setattr("convbench.bench.WORKER", "convbench.no_such_module")
        rows = [row for row, _ in bench.layer(request, layer, algorithms, Deaf())]
    assert [(row.algo, row.status) for row in rows] == [(a.name, "failed") for a in algorithms]
    assert all("no_such_module" in row.note for row in rows)


def test_a_device_that_is_gone_costs_rows_not_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> Child:
        raise NoDevice("the GPU is gone")

    algorithms = [a for a in collect() if a.name == "gemm.im2col"]
    layer = Layer("tiny", parse_shape(SHAPE))
    request = Request("shape", [layer], algorithms, 0, "float32", "hot", Budget(0.02), 1, "test")
    with contextlib.closing(Apart(Setup("cpu", 1, "float32"), 60)) as bench:
        bench.close()
        monkeypatch.setattr(bench, "_start", gone)
        rows = [row for row, _ in bench.layer(request, layer, algorithms, Deaf())]
    assert [(row.status, row.note) for row in rows] == [("failed", "the GPU is gone")]


def test_without_isolation_the_result_is_the_same(tmp_path: Path) -> None:
    errors = []
    for flag in ("--isolate", "--no-isolate"):
        out = tmp_path / f"{flag}.csv"
        words = ("--shape", SHAPE, "--algo", "winograd.f2", "--device", "cpu", "--budget", "0.05", "--seed", "3")
        assert convbench("run", *words, flag, "--out", str(out), cwd=tmp_path).returncode == 0
        errors.append(read(out)[0].error)
    assert errors[0] == errors[1]


def test_a_child_is_heard_until_it_dies(tmp_path: Path) -> None:
    (tmp_path / "echo.py").write_text(
        "import os, sys, time\n"
        "from convbench.process import serve\n"
        "def answer(message, reply):\n"
        "    if message == 'exit':\n        print('farewell', file=sys.stderr)\n        sys.exit(7)\n"
        "    if message == 'sleep':\n        time.sleep(60)\n"
        "    reply((message, os.environ.get('CONVBENCH_TEST')))\n"
        "serve(sys.argv[1:], answer)\n"
    )
    surroundings = {"PYTHONPATH": str(tmp_path), "CONVBENCH_TEST": "1"}
    child = Child("echo", surroundings)
    child.send("hello")
    assert child.receive(30) == ("hello", "1")
    child.send("exit")
    with pytest.raises(ChildDiedError, match="exit code 7: farewell"):
        child.receive(30)
    child = Child("echo", surroundings)
    child.send("sleep")
    with pytest.raises(ChildSilentError, match=r"no answer for 0\.5 s"):
        child.receive(0.5)
    child = Child("echo", surroundings)
    child.close()
    assert child.process.returncode == 0
    assert "SIGSEGV" in how_it_ended(-signal.SIGSEGV)
