"""Cases that crash, hang or eat the memory cost their own row; kills lose no finished row; --resume completes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from convbench.algorithms import collect
from convbench.algorithms.base import Algorithm
from convbench.bench import Apart, Setup
from convbench.devices.base import NoDevice
from convbench.layers import Layer
from convbench.measure.rules import Budget
from convbench.process import Child, ChildDiedError, ChildSilentError, how_it_ended
from convbench.results import ResultsError, Row, Writer, read
from convbench.shapes import parse_shape
from convbench.sweep import Request

SHAPE = "n1c2h5w5k3r3s3p1"
TRIALS = int(os.environ.get("CONVBENCH_KILL_TRIALS", "5"))

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


def convbench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "convbench", *words],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + 10
    while any(map(alive, pids)):
        assert time.monotonic() < end, f"left behind: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.05)


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
    monkeypatch.setattr("convbench.process.MEMORY_SHARE", 0.06)
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


def start(tmp_path: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "convbench", "run", "--net", "net.toml", "--device", "cpu", "--budget", "0.05"]
    return subprocess.Popen([*command, *words], cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)  # fmt: skip


NET = "".join(f'[[layer]]\nname = "l{i}"\nc = {i}\nh = 6\nw = 6\nk = 3\nr = 3\ns = 3\n' for i in (1, 2, 3))


@pytest.mark.parametrize("trial", range(TRIALS))
def test_kill_9_of_any_process_loses_no_finished_row(tmp_path: Path, trial: int) -> None:
    rng = random.Random(trial)
    (tmp_path / "net.toml").write_text(NET)
    csv = tmp_path / "x.csv"
    algos = ("--algo", "gemm.im2col,gemm.panel,winograd.f2,direct.naive")
    run = start(tmp_path, *algos, "--out", "x.csv")
    time.sleep(rng.uniform(0.3, 4.0))
    workers = children_of(run.pid)
    victim = rng.choice([run.pid, *workers])
    if alive(victim):
        os.kill(victim, signal.SIGKILL)
    run.wait(60)
    wait_until_gone(workers)
    before = read(csv) if csv.exists() and csv.stat().st_size else []
    if victim == run.pid and csv.exists():
        assert start(tmp_path, *algos, "--resume", "x.csv").wait(100) == 0
    elif not csv.exists():
        return  # killed before there was a file
    rows = read(csv)
    assert rows[: len(before)] == before
    keys = [(row.layer, row.algo) for row in rows]
    assert len(keys) == len(set(keys)) == 12
    lost = [row for row in rows if row.status != "ok"]
    assert len(lost) <= 1, [row.note for row in lost]


def test_resume_measures_only_what_is_missing_and_refuses_other_options(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(NET)
    words = ("run", "--net", "net.toml", "--device", "cpu", "--budget", "0.05", "--algo", "gemm.im2col,gemm.panel")
    assert convbench(*words, "--layer", "l1,l2", "--out", "x.csv", cwd=tmp_path).returncode == 0
    first = read(tmp_path / "x.csv")
    with open(tmp_path / "x.csv", "ab") as file:
        file.write(b"half a line")
    assert convbench(*words, "--resume", "x.csv", cwd=tmp_path).returncode == 0
    rows = read(tmp_path / "x.csv")
    assert rows[:4] == first
    assert [(row.layer, row.seed) for row in rows[4:]] == [("l3", first[0].seed)] * 2
    other = convbench(*words, "--batch", "2", "--resume", "x.csv", cwd=tmp_path)
    assert other.returncode == 2
    assert "batch 1, this run would have 2" in other.stderr
    assert read(tmp_path / "x.csv") == rows
    assert convbench(*words, "--resume", "none.csv", cwd=tmp_path).returncode == 2


def test_a_file_that_is_being_written_is_refused(tmp_path: Path) -> None:
    first = Writer(tmp_path / "x.csv")
    with pytest.raises(ResultsError, match="is being written by another run"):
        Writer(tmp_path / "x.csv")
    first.close()
    Writer(tmp_path / "x.csv").close()


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


def test_a_worker_goes_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "net.toml").write_text(NET)
    run = start(tmp_path, "--out", "x.csv")
    end = time.monotonic() + 20
    while not (workers := children_of(run.pid)):
        assert time.monotonic() < end
        time.sleep(0.05)
    run.kill()
    run.wait()
    wait_until_gone(workers)
