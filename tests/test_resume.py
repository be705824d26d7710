"""Kills lose no finished row and leave no process behind; --resume completes a file, and refuses other options."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from own_process import convbench, environment

from convbench.results import ResultsError, Writer, read

TRIALS = int(os.environ.get("CONVBENCH_KILL_TRIALS", "5"))


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
