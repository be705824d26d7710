"""The fastest of each layer head to head: who meets whom, how rounds go, and what becomes of the ratios."""

from __future__ import annotations

import argparse
from itertools import groupby
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import ONE, TICK, FakeDevice, scripted
from rival_rows import ROWS, case, series, stack_row
from test_library import foreign

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.bench_cpu import __main__ as command
from convbench.bench_cpu import heads, tables
from convbench.bench_cpu.heads import contestants, measure_heads
from convbench.bench_cpu.sequence import LEAST_ROUNDS, Way, measure_sequences
from convbench.devices.cpu import Cpu
from convbench.layers import Layer
from convbench.report.readme import main as rewrite_readme
from convbench.report.versus import comparison, met, winners
from convbench.results import Writer
from convbench.results.stack import read_stack, write_stack
from convbench.shapes import parse_shape

KNOWN = {algorithm.name: algorithm for algorithm in built_in()}
LAYERS = [Layer(name, parse_shape(ONE)) for name in ("a", "b")]


def head_row(layer: str, algo: str, versus: float, **changes: Any) -> Any:
    changes = {"time_ms": 10 / versus, "rival": f"{layer} library.torch.nchw", "bound": 1e-5} | changes
    return stack_row(plan=f"{layer} {algo}", algorithms=f"{layer}={algo}", versus=versus, **changes)


HEADS = [
    head_row("conv1", "library.torch.nchw", 1.0, bound=None),
    head_row("conv1", "library.torch.mkldnn", 0.9, bound=None),
    head_row("conv1", "winograd.f4", 3.25),
    head_row("conv1", "fft.tiled", 2.25),
]


def test_who_meets_whom() -> None:
    rows = [*ROWS, case("fft.tiled.w24", 1.5, error=4e-7), case("winograd.f5.w24", 0.5, error=4e-7)]
    rows += [case("library.torch.channels_last", 2.5), case("library.torch.prepacked", 1.9, "fc7")]
    one = series(rows)
    ways = contestants(one, "conv1", KNOWN)
    assert [way.name for way in ways] == [
        "conv1 library.torch.mkldnn", "conv1 library.torch.channels_last", "conv1 winograd.f5.w24", "conv1 winograd.f4",
    ]  # fmt: skip
    assert [way.foreign for way in ways] == [True, True, False, False]
    assert [way.bound for way in ways] == [None, None, 1e-5, 1e-5]
    without = series([row for row in rows if row.algo != "winograd.f4"])
    assert [way.name.split()[1] for way in contestants(without, "conv1", KNOWN)][2:] == [
        "winograd.f5.w24", "fft.tiled.w24", "fft.tiled",
    ], "one with filters in float32"  # fmt: skip
    assert contestants(one, "fc7", KNOWN) == [], "nothing of ours"
    assert contestants(series(ROWS[:2]), "conv1", KNOWN) == [], "no library"


def test_a_round_goes_through_all_layers_and_those_of_a_layer_follow_one_another() -> None:
    device = FakeDevice()
    names = {layer: [f"{layer}.x", f"{layer}.y"] for layer in "ab"}
    ways = [Way(name, {layer: scripted(device, name, TICK)}) for layer in "ab" for name in names[layer]]
    runs = measure_sequences(LAYERS, ways, device, 1, 0.0, 5)
    assert [list(run.cases) for run in runs] == [["a"], ["a"], ["b"], ["b"]]
    assert all(len(run.samples) == LEAST_ROUNDS for run in runs)
    calls = [name for name, _ in device.log[4:-4]]
    rounds = [calls[start : start + 8] for start in range(0, len(calls), 8)]
    seen = set()
    for found in rounds:
        assert sorted(found) == sorted([*names["a"], *names["b"]] * 2)
        seen.add("".join(layer for layer, _ in groupby(found, key=lambda name: name[0])))
    assert seen == {"ab", "ba"}, "layers are not mixed, and their order is shuffled"
    assert len({tuple(found) for found in rounds}) == 8


def scripted_layers(monkeypatch: pytest.MonkeyPatch, device: FakeDevice) -> dict[str, Algorithm]:
    """Layers a and b, two libraries and two of ours, on the scripted clock."""
    known = {name: foreign(device, name) for name in ("library.torch.nchw", "library.torch.mkldnn")}
    known["winograd.f4"] = scripted(device, "winograd.f4", lambda i: TICK / (2 if i % 2 else 4))
    known["fft.tiled"] = scripted(device, "fft.tiled", TICK)
    monkeypatch.setattr(heads, "built_in", lambda: list(known.values()))
    monkeypatch.setattr(heads, "load", lambda net: SimpleNamespace(layers=LAYERS))
    monkeypatch.setattr(heads, "describe", lambda device: {
        "threads": 2, "hardware": "scripted", "convbench": "0", "commit": "abc",
    })  # fmt: skip
    return known


def test_ratios_are_of_times_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    device = FakeDevice()
    scripted_layers(monkeypatch, device)
    one = series([case(row.algo, row.time_ms or 0, layer) for layer in "ab" for row in ROWS[:5] if row.algo in KNOWN])
    rows, samples = measure_heads(one, "x", device, 0.0, 1)
    assert {row.plan.split()[0] for row in rows} == {"a", "b"}
    assert len(samples) == len(rows) * LEAST_ROUNDS
    for row in rows:
        layer = row.plan.split()[0]
        assert list(row.chosen) == [layer]
        assert row.rival.startswith(f"{layer} library.torch.")
        assert row.samples == LEAST_ROUNDS
    best = {layer: ours for layer, (ours, _) in winners(rows).items()}
    assert {row.chosen[layer] for layer, row in best.items()} == {"winograd.f4"}
    for row in best.values():
        times = {plan: [line[3] for line in samples if line[1] == plan] for plan in (row.plan, row.rival)}
        ratios = [theirs / ours for ours, theirs in zip(times[row.plan], times[row.rival], strict=True)]
        assert row.versus == median(ratios) > 1
    assert measure_heads(series(ROWS[:2]), "x", device, 0.0, 1) == ([], [])


# What becomes of them


def test_the_fastest_of_ours_and_its_rival() -> None:
    ((layer, (ours, theirs)),) = winners(HEADS).items()
    assert (layer, ours.plan, theirs.plan) == ("conv1", "conv1 winograd.f4", "conv1 library.torch.nchw")
    short = head_row("conv1", "fft.tiled.w24", 4.0)
    assert winners([*HEADS, short])["conv1"][0] is short
    assert winners([*HEADS, short], short=False)["conv1"][0].plan == "conv1 winograd.f4"
    assert winners(HEADS[:2]) == {}


def test_their_ratios_take_the_place_of_the_sweeps() -> None:
    one = series()
    found = {line.layer: line for line in met(one, HEADS)}
    assert found["conv1"].ratio == 3.25
    assert found["conv1"].row is not None
    assert found["conv1"].row.algo == "winograd.f4"
    assert found["fc6"].ratio == 0.5, "did not meet again"
    assert [line.ratio for line in met(one, [])] == [2.0, 0.5]
    assert met(one, [head_row("conv1", "direct.wide", 9.0), HEADS[0]])[0].ratio == 2.0, "the sweep does not know it"
    assert "| conv1 | 3.2x `winograd.f4` |" in comparison(ROWS, [], HEADS)
    assert "| conv1 | 2.0x `winograd.f4` |" in comparison(ROWS, [], [head_row("conv1", "winograd.f4", 9.0, batch=16)])


def written(folder: Path) -> None:
    writer = Writer(folder / "batch1.csv")
    for each in ROWS:
        writer.add(each)
    writer.close()
    write_stack(folder / "head-to-head.csv", HEADS)


def test_the_readme_takes_them(tmp_path: Path) -> None:
    written(tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text("<!-- comparison:begin -->\n<!-- comparison:end -->\n")
    assert rewrite_readme([str(readme), str(tmp_path)]) == 0
    assert "3.2x `winograd.f4`" in readme.read_text()


def test_they_are_shown_in_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    written(tmp_path)
    assert command.main(["--out", str(tmp_path), "--show", "--batches", "1"]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    assert "head to head" in out
    assert "1.46 .. 1.54" in out
    assert len(tables.head_table(HEADS).rows) == 1


def test_both_are_measured_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = argparse.Namespace(out=tmp_path, seconds=1.0, threads=1)
    stacked = [stack_row(batch=batch) for batch in (1, 16)]
    order: list[str] = []

    def head(one: Any, net: str, device: Any, seconds: float, seed: int) -> Any:
        order.append(f"heads {seconds}")
        return HEADS, [(1, "conv1 winograd.f4", 0, 0.5, False)]

    def stack(asked: Any, device: Cpu, batch: int) -> Any:
        order.append(f"stack {batch}")
        return [next(row for row in stacked if row.batch == batch)], [(batch, "ours", 0, 0.5, False)]

    monkeypatch.setattr(heads, "measure_heads", head)
    monkeypatch.setattr(command, "measure_stack", stack)
    monkeypatch.setattr(command, "series_of", lambda path: series())
    monkeypatch.setattr("convbench.machine.set_threads", lambda threads: None)
    command.measure_stacks(asked, [1, 16])
    assert order == ["heads 1.0", "stack 1", "heads 1.0", "stack 16"]
    assert read_stack(tmp_path / "stack.csv") == stacked
    assert read_stack(tmp_path / "head-to-head.csv") == [*HEADS, *HEADS]
    assert (tmp_path / "head-to-head.samples.csv").read_text().count("conv1 winograd.f4,0,0.5,false") == 2
