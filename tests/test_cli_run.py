"""Runs from end to end: rows, files, seeds and caches; what is shown fits eighty columns and needs no terminal."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fakes import QUICK_COMMAND, TINY, convbench

from convbench.algorithms import built_in
from convbench.results import read

RUN = ("run", "--device", "cpu", "--shape", TINY, "--budget", "0.01")


# A run


def test_a_run_from_end_to_end(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    done = convbench(
        *RUN, "--seed", "5", "--batch", "2", "--threads", "1", "--precision", "float64", "--out", str(path)
    )
    assert (done.code, done.err) == (0, "")
    rows = read(path)
    assert {row.algo.partition(".")[0] for row in rows} >= {"gemm", "fft", "winograd", "direct"}
    only_in_float32 = {a.name for a in built_in() if "cpu" in a.on and a.precisions_on("cpu") == ("float32",)}
    only_on_cuda = {algorithm.name for algorithm in built_in() if "cpu" not in algorithm.on}
    for row in rows:
        if row.family == "library":  # PyTorch may be missing, and oneDNN has no float64
            assert row.status in ("ok", "unsupported", "skipped"), row.note
            continue
        if row.algo == "gemm.gemv":
            assert (row.status, row.note) == ("unsupported", "not a fully connected layer")
            continue
        if row.algo in only_in_float32:
            assert (row.status, row.note) == ("unsupported", f"{row.algo} has no float64 on the cpu, only float32")
            continue
        if row.algo in only_on_cuda:
            assert row.status == "unsupported"
            continue
        assert (row.status, row.net, row.device, row.cache) == ("ok", "shape", "cpu", "hot")
        assert (row.batch, row.threads, row.seed, row.precision) == (2, 1, 5, "float64")
        assert row.shape == "n2c2h5w6k2r3s3p1"
        assert row.time_ms is not None
        assert row.time_min_ms is not None
        assert row.time_lo_ms is not None
        assert row.time_hi_ms is not None
        assert row.error is not None
        assert 0 < row.time_min_ms <= row.time_lo_ms <= row.time_ms <= row.time_hi_ms
        assert row.error < 1e-12
        assert row.gflops == pytest.approx(row.gflop / row.time_ms * 1e3 if row.gflop else 0)
        assert row.hardware
    assert f"{len(rows)} rows in {path}" in done.out
    assert done.out.count(" *") == 1, "one winner"
    assert len({row.run for row in rows}) == 1
    lines = (tmp_path / "x.samples.csv").read_text().splitlines()
    assert len(lines) == 1 + sum(row.samples or 0 for row in rows)


def test_the_file_is_called_like_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convbench import sweep

    names = iter(("first", "second", "third"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "run_name", lambda now=None: next(names))
    assert convbench(*RUN, "--algo", "gemm.im2col").code == 0
    (path,) = [p for p in (tmp_path / "results" / "runs").glob("*.csv") if "samples" not in p.name]
    assert path.stem == read(path)[0].run


def test_a_seed_repeats_the_operands(tmp_path: Path) -> None:
    errors = []
    for name, words in (("a", ("--seed", "3")), ("b", ("--seed", "3")), ("c", ("--seed", "4")), ("d", ())):
        path = tmp_path / f"{name}.csv"
        assert convbench(*RUN, *words, "--algo", "gemm.im2col,direct.naive", "--out", str(path)).code == 0
        errors.append({row.algo: (row.error, row.error_max) for row in read(path)})
    assert errors[0] == errors[1] != errors[2]
    assert errors[3] not in errors[:3], "a fresh seed by default"


def test_cold_caches_run(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    assert convbench(*RUN, "--cache", "cold", "--algo", "gemm.im2col,gemm.panel", "--out", str(path)).code == 0
    assert {(row.cache, row.status) for row in read(path)} == {("cold", "ok")}


def test_a_net_of_ones_own(tmp_path: Path) -> None:
    net = tmp_path / "mine.toml"
    net.write_text('[[layer]]\nname = "a"\nc = 2\nh = 5\nw = 5\nk = 3\nr = 3\ns = 3\n'
                   '[[layer]]\nname = "b"\nc = 3\nh = 3\nw = 3\nk = 3\nr = 3\ns = 3\n')  # fmt: skip
    path = tmp_path / "x.csv"
    words = ("--device", "cpu", "--net", str(net), "--algo", "gemm.im2col", "--budget", "0.01", "--out", str(path))
    assert convbench("run", *words).code == 0
    assert [(row.net, row.layer) for row in read(path)] == [("mine", "a"), ("mine", "b")]


def test_a_problem_too_large_for_the_machine_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    words = ("run", "--device", "cpu", "--algo", "gemm", "--shape", "n1000000c1000h1000w1000k1r1s1", "--out", str(path))
    done = convbench(*words)
    assert (done.code, done.err) == (4, "")
    assert {row.status for row in read(path)} == {"skipped"}
    assert "are free: use a smaller --batch or a machine with more memory" in read(path)[0].note


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_padding_too_large_for_the_machine_makes_rows(tmp_path: Path, command: str) -> None:
    """One output in, four out: x, w and y are small, but the padded input would take 32 TB."""
    net = tmp_path / "net.toml"
    net.write_text('[[layer]]\nname = "a"\nc = 1\nh = 1\nw = 1\nk = 1\nr = 1\ns = 1\npad = 1000000\nstride = 1000000\n')
    words = [command, "--device", "cpu", "--net", str(net), "--algo", "gemm"]
    words += ["--out", str(tmp_path / "x.csv"), "--budget", "0.01"] if command == "run" else ["--shapes", "0"]
    done = convbench(*words)
    assert done.code in (0, 4), done.err
    assert done.err == ""


# Output


def escapes(text: str) -> bool:
    return "\x1b" in text


def widest(text: str) -> int:
    return max(map(len, text.splitlines()), default=0)


@pytest.mark.parametrize("extra", [{"NO_COLOR": "1"}, {}, {"TERM": "dumb"}])
def test_no_escape_codes_without_a_terminal(tmp_path: Path, extra: dict[str, str]) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    words = [*RUN, "--algo", "gemm.im2col", "--out", str(tmp_path / "x.csv")]
    done = subprocess.run([*QUICK_COMMAND, *words], capture_output=True, text=True, env=clean | extra, check=True)
    assert not escapes(done.stdout + done.stderr)
    done = subprocess.run([*QUICK_COMMAND, "run", "-h"], capture_output=True, text=True, env=clean | extra, check=True)
    assert not escapes(done.stdout)
    done = subprocess.run(
        [*QUICK_COMMAND, "run", "--layer", "x"], capture_output=True, text=True, env=clean | extra, check=False
    )
    assert not escapes(done.stderr)


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--device", "cpu"), ("list",), ("info", "conv1"), ("info", "all"), ("info", "n1c64h56w56k128r3s3u2p1"),
        ("verify", "--device", "cpu", "--shapes", "1", "--layer", "fc8"),
        ("run", "--device", "cpu", "--shape", TINY, "--budget", "0.01", "--out", "x.csv"),
    ],
)  # fmt: skip
def test_eighty_columns_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]) -> None:
    """Tables; the reason of a row that is not ok, and a file's name, may run over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    done = convbench(*words)
    assert done.code == 0, done.err
    lines = "\n".join(line for line in done.out.splitlines() if "unsupported: " not in line)
    assert widest(lines) <= 80, max(lines.splitlines(), key=len)


def test_columns_of_a_table_are_whole_at_eighty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide result is not cut short with dots, and no number is broken into two lines."""
    import io

    from fakes import row
    from rich.console import Console

    from convbench.console import result_table

    rows = [
        row(layer=layer, algo=algo, time_ms=time, time_lo_ms=time * 0.99, time_hi_ms=time * 1.01, gflops=12345.6)
        for layer in ("conv1", "conv2", "fc8")
        for algo, time in (("winograd.f6", 999.4), ("direct.blocked", 0.001234), ("gemm.im2col", 123456.7))
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(result_table(rows))
    assert widest(out.getvalue()) <= 80
    assert "…" not in out.getvalue()
    assert len(out.getvalue().splitlines()) <= 1 + len(rows) + 3


def test_code_for_another_device_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    words = ("--shape", "n1c1h3w3k1r3s3", "--device", "cpu", "--budget", "0.001", "--no-isolate")
    for wanted, expected in (
        ("gemm.im2col,library.cudnn.*", {"gemm.im2col"}),
        ("gemm.im2col,library.cudnn.fft", {"gemm.im2col", "library.cudnn.fft"}),
        ("library.cudnn.f*", {"library.cudnn.fft", "library.cudnn.fft_tiling"}),
    ):
        path = tmp_path / f"{len(expected)}{wanted[0]}.csv"
        done = convbench("run", *words, "--algo", wanted, "--out", str(path))
        rows = {row.algo: row for row in read(path)}
        assert set(rows) == expected, done.err
        for name in expected - {"gemm.im2col"}:
            assert rows[name].status == "unsupported"
            assert rows[name].note == f"{name} has no code for the cpu, only for cuda"
