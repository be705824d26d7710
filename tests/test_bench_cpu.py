"""The comparison on the CPU: sequences under a scripted clock, their file, and the command with everything scripted."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import ONE, TICK, FakeDevice, row, scripted
from rival_rows import stack_row
from test_library import foreign

from convbench.algorithms.base import Algorithm
from convbench.bench_cpu import __main__ as command
from convbench.bench_cpu.sequence import (
    LEAST_ROUNDS,
    TRIES,
    SequenceError,
    Way,
    as_rows,
    choose,
    measure_sequences,
    samples_of,
    ways_of,
)
from convbench.layers import Layer
from convbench.measure.foreign import LIBRARY
from convbench.results import ResultsError, Row, Writer
from convbench.results.stack import STACK_COLUMNS, read_stack, write_stack
from convbench.shapes import parse_shape

LAYERS = [Layer(name, parse_shape(ONE)) for name in ("a", "b")]
FACTS = {"threads": 2, "hardware": "scripted", "convbench": "0", "commit": "abc"}


def way(name: str, *algorithms: Algorithm) -> Way:
    return Way(name, dict(zip("ab", algorithms, strict=True)))


# Sequences


def test_each_way_takes_turns_an_untimed_pass_before_each_timed_one() -> None:
    device = FakeDevice()
    fast, slow = scripted(device, "mine.fast", TICK), scripted(device, "mine.slow", 2 * TICK)
    told: list[int] = []
    ways = [way("one", fast, slow), way("two", fast, fast)]
    device.log.clear()
    runs = measure_sequences(LAYERS, ways, device, 1, 0.0, 5, told.append)
    assert told == list(range(1, LEAST_ROUNDS + 1))
    assert [set(run.seconds) for run in runs] == [{3 * TICK}, {2 * TICK}]
    assert all(len(run.samples) == LEAST_ROUNDS for run in runs)
    passes = device.log[4:-4]  # without the checks before and after
    assert len(passes) == 2 * 2 * 2 * LEAST_ROUNDS
    rounds = [passes[start : start + 8] for start in range(0, len(passes), 8)]
    ones = [("mine.fast", TICK), ("mine.slow", 2 * TICK)] * 2
    twos = [("mine.fast", TICK)] * 4
    assert all(found in (ones + twos, twos + ones) for found in rounds)
    assert len(list(groupby(rounds))) > 1, "the order is shuffled anew"


def test_the_candidate_with_which_the_sequence_is_fastest_is_chosen() -> None:
    """Not the one that is fastest itself: after `mine.large` others have to fetch their filters anew."""
    device = FakeDevice()
    fast, slow = scripted(device, "mine.fast", TICK), scripted(device, "mine.slow", 2 * TICK)
    device.log.clear()
    assert choose(LAYERS, {"a": [slow, fast], "b": [slow]}, device, 1, 3) == {"a": fast, "b": slow}
    assert device.log.count(("mine.fast", TICK)) >= TRIES
    large = scripted(device, "mine.large", TICK)
    late = scripted(device, "mine.late", lambda i: 4 * TICK if device.log[-1][0] == "mine.large" else TICK)
    assert choose(LAYERS, {"a": [large, slow], "b": [late]}, device, 1, 3) == {"a": slow, "b": late}
    assert choose(LAYERS, {"a": [large, slow], "b": [slow, late]}, device, 1, 3) == {"a": large, "b": slow}
    small = scripted(device, "mine.small", lambda i: TICK if device.log[-1][0] == "mine.small" else 4 * TICK)
    held = replace(slow, name="mine.held", on={"cpu": lambda p, d: replace(slow.on["cpu"](p, d), prepare=np.copy)})
    assert choose(LAYERS, {"a": [held, small], "b": [held, small]}, device, 1, 3) == dict.fromkeys("ab", small), (
        "alone in its layer each is slower: the way there begins with the smallest filters"
    )
    others = scripted(device, "mine.other", lambda i: TICK if device.log[-1][0] == "mine.other" else 4 * TICK)
    found = {"a": [slow, others], "b": [slow, others]}
    assert choose(LAYERS, found, device, 1, 3) == dict.fromkeys("ab", slow), (
        "alone it is slower, its filters no smaller"
    )
    assert choose(LAYERS, found, device, 1, 3, dict.fromkeys("ab", others)) == dict.fromkeys("ab", others)
    with pytest.raises(SequenceError, match=r"b m\.bad"):
        choose(LAYERS, {"a": [fast], "b": [scripted(device, "m.bad", TICK, fails_at=0)]}, device, 1, 3)


def test_it_goes_on_while_there_is_time() -> None:
    device = FakeDevice()
    (run,) = measure_sequences(LAYERS, [way("x", *[scripted(device, "m.x", 0.125)] * 2)], device, 1, 50.0, 0)
    assert len(run.samples) == 100


@pytest.mark.parametrize("at", [0, 1, 2 * 2 * LEAST_ROUNDS + 3])
def test_a_layer_that_fails_or_is_wrong_is_no_result(at: int) -> None:
    device = FakeDevice()
    ways = [way("x", *[scripted(device, "m.x", TICK, fails_at=at)] * 2)]
    with pytest.raises((SequenceError, ArithmeticError), match=r"scripted to fail"):
        measure_sequences(LAYERS, ways, device, 1, 0.0, 0)


def test_the_ratio_is_taken_round_by_round_against_the_fastest_library() -> None:
    device = FakeDevice()
    library = [foreign(device, "library.a"), foreign(device, "library.b")]
    ours = scripted(device, "mine.x", lambda i: TICK / (2 if i % 2 else 4))
    chosen = dict.fromkeys("ab", ours)
    ways = ways_of(library, dict.fromkeys("ab", library[0]), {"ours": chosen}, 1e-5)
    assert [each.name for each in ways] == ["library.a", "library.b", "library, mixed modes", "ours"]
    assert [each.foreign for each in ways] == [True, True, True, False]
    runs = measure_sequences(LAYERS, ways, device, 1, 0.0, 0)
    rows = {found.plan: found for found in as_rows(runs, 1, 7, FACTS)}
    assert (rows["ours"].time_ms, rows["ours"].versus) == (1e3 * 0.75 * TICK, pytest.approx(8 / 3))
    assert (rows["ours"].bound, rows["ours"].chosen) == (1e-5, {"a": "mine.x", "b": "mine.x"})
    assert (rows["library.a"].versus, rows["library.a"].versus_lo, rows["library.a"].versus_hi) == (1.0, 1.0, 1.0)
    assert {found.rival for found in rows.values()} == {"library.a"}
    assert Counter(line[1] for line in samples_of(runs, 1)) == dict.fromkeys(rows, LEAST_ROUNDS)
    with pytest.raises(SequenceError, match="no library"):
        as_rows(runs[-1:], 1, 7, FACTS)


# The file


def test_the_file_gives_back_what_was_written(tmp_path: Path) -> None:
    rows = [stack_row(), stack_row(plan="library.torch.nchw", bound=None, error=float("inf"))]
    path = tmp_path / "deep" / "stack.csv"
    write_stack(path, rows)
    assert read_stack(path) == rows


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "line 1: not the columns"),
        ("a,b\n1,2\n", "line 1: not the columns"),
        (",".join(STACK_COLUMNS) + "\nw,x\n", "line 2: .*truncated|line 2: invalid literal"),
        (",".join(STACK_COLUMNS) + "\n" + ",".join(["x"] * len(STACK_COLUMNS)) + "\n", "line 2: invalid literal"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "stack.csv"
    path.write_text(text)
    with pytest.raises(ResultsError, match=reason):
        read_stack(path)
    with pytest.raises(ResultsError, match="cannot read"):
        read_stack(tmp_path / "absent.csv")


# The command


def fake_run(calls: list[list[str]], rows: list[Row], code: int = 0) -> Any:
    """`convbench run` that writes these rows."""

    def run(words: list[str], **_: Any) -> Any:
        calls.append(words)
        if code != 2:
            writer = Writer(Path(words[words.index("--out") + 1]))
            for each in rows:
                writer.add(each)
            writer.close()
        return SimpleNamespace(returncode=code)

    return run


def rows_of_net(batch: int = 1) -> list[Row]:
    shape = f"n{batch}c4h8w8k4r3s3p1"
    return [
        row(algo=algo, layer=layer, shape=shape, batch=batch, time_ms=ms, error=1e-7, commit="abc", when="2026-01-01T0")
        for layer in ("conv1", "conv2")
        for algo, ms in (("gemm.im2col", 1.0), ("library.torch.nchw", 2.0))
    ]


def test_other_layer_sets_are_measured_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(command, "check_library", lambda: None)
    monkeypatch.setattr(subprocess, "run", fake_run(calls, rows_of_net(16)))
    monkeypatch.setenv("COLUMNS", "80")
    assert command.main(["--out", str(tmp_path), "--net", "vgg16", "--budget", "0.5"]) == 0
    (words,) = calls
    assert words[:4] == [sys.executable, "-m", "convbench", "run"]
    text = " ".join(words)
    assert "--net vgg16 --batch 16 --device cpu" in text
    assert "--budget 0.5" in text
    assert str(tmp_path / "vgg16-batch16.csv") in text
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    for part in ("vgg16, batch 16", "conv1 gemm.im2col", "torch.nchw", "3x3, 5x5 at stride 1", "2.0x", "2 of 2"):
        assert part in out


def test_batches_of_alexnet_then_their_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    stacked: list[list[int]] = []
    monkeypatch.setattr(command, "check_library", lambda: None)
    monkeypatch.setattr(subprocess, "run", fake_run(calls, rows_of_net()))
    monkeypatch.setattr(command, "measure_stacks", lambda asked, batches: stacked.append(list(batches)))
    old = tmp_path / "batch1.csv"
    old.write_text("old")
    assert command.main(["--out", str(tmp_path), "--batches", "1,64"]) == 0
    assert [words[words.index("--batch") + 1] for words in calls] == ["1", "64"]
    assert "old" not in old.read_text(), "measured anew"
    assert stacked == [[1, 64]]
    calls.clear()
    assert command.main(["--out", str(tmp_path), "--show", "--batches", "1"]) == 0
    assert not calls


def test_a_run_that_cannot_be_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(command, "check_library", lambda: None)
    monkeypatch.setattr(subprocess, "run", fake_run(calls, [], code=2))
    assert command.main(["--out", str(tmp_path)]) == 2
    assert len(calls) == 1


def test_without_pytorch_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert command.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "convbench: PyTorch is not installed: pip install 'torch>=2.4'\n"
    assert not list(tmp_path.iterdir())


def test_the_sequences_table_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    writer = Writer(tmp_path / "batch1.csv")
    for each in rows_of_net():
        writer.add(each)
    writer.close()
    names = ["library.torch.channels_last", f"{LIBRARY}, mixed modes", "ours"]
    write_stack(tmp_path / "stack.csv", [stack_row(plan=name, time_ms=1234.5, time_hi_ms=1300.0) for name in names])
    assert command.main(["--out", str(tmp_path), "--show", "--batches", "1"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "1.46 .. 1.54" in out
    assert all(name.removeprefix("library.") in out for name in names)


def test_what_is_chosen_for_the_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fastest of ours within the bound; only modes that have a valid row everywhere go through all layers."""
    from convbench.bench_cpu import sequence

    rows = [*rows_of_net(16), row(algo="winograd.f4", layer="conv1", shape="n16c4h8w8k4r3s3p1", batch=16, time_ms=0.1,
                                  error=5e-6, commit="abc", when="2026-01-01T0")]  # fmt: skip
    rows.append(row(algo="fft.tiled.w24", layer="conv1", shape="n16c4h8w8k4r3s3p1", batch=16, time_ms=0.2,
                    error=3e-7, commit="abc", when="2026-01-01T0"))  # fmt: skip
    rows.append(row(algo="library.torch.mkldnn", layer="conv1", shape="n16c4h8w8k4r3s3p1", batch=16, time_ms=1.5,
                    commit="abc", when="2026-01-01T0"))  # fmt: skip
    writer = Writer(tmp_path / "batch16.csv")
    for each in rows:
        writer.add(each)
    writer.close()
    found: list[Way] = []

    def kept(_: Any, ways: list[Way], *rest: Any) -> list[Any]:
        found.extend(ways)
        return []

    tried: list[dict[str, list[str]]] = []

    def first(_: Any, candidates: dict[str, list[Algorithm]], *rest: Any) -> dict[str, Algorithm]:
        tried.append({name: [a.name for a in found] for name, found in candidates.items()})
        return {name: found[0] for name, found in candidates.items()}

    monkeypatch.setattr(sequence, "choose", first)
    monkeypatch.setattr(sequence, "measure_sequences", kept)
    monkeypatch.setattr(sequence, "as_rows", lambda *_: [])
    asked = argparse.Namespace(out=tmp_path, seconds=1.0)
    command.measure_stack(asked, FakeDevice(), 16)
    assert len(tried) == 3
    assert tried[0]["conv1"] == ["gemm.im2col"]
    assert tried[1]["conv1"] == ["fft.tiled.w24", "gemm.im2col"], "the error of winograd.f4 is above the bound"
    assert tried[2]["conv1"] == ["library.torch.mkldnn", "library.torch.nchw"]
    names = {each.name: [a.name for a in each.algorithms.values()] for each in found}
    assert names == {
        "library.torch.nchw": ["library.torch.nchw"] * 2,
        "library, mixed modes": ["library.torch.mkldnn", "library.torch.nchw"],
        "ours": ["fft.tiled.w24", "gemm.im2col"],
        "ours, float32 filters": ["gemm.im2col"] * 2,
    }
    assert found[-1].bound == 1e-6
