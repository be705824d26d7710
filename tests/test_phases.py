"""Phases: medians of calls of their own, told by the plan; what is wrong with them costs the phases, never the time."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import ONE, TICK, FakeDevice, convbench, row, swept

from convbench.algorithms.base import Algorithm, Plan
from convbench.console import advice, phase_table
from convbench.measure.phases import LEAST_CALLS, MOST_CALLS, PHASE_SECONDS, measure_phases, phased_call, stated_flops
from convbench.problem import Problem
from convbench.results import Row, read
from convbench.sweep import Ceilings, ceilings


def script(device: FakeDevice, calls: Iterator[Mapping[str, float]]) -> Callable[[], Mapping[str, float]]:
    """Calls that take as long as they say."""

    def split() -> Mapping[str, float]:
        phases = next(calls)
        device.clock += sum(phases.values())
        return phases

    return split


def test_medians_in_order_after_one_call_that_is_not_counted() -> None:
    device = FakeDevice()
    times = iter([9.0, *(TICK * n for n in (1, 2, 30))])
    split = script(device, ({"late": t, "early": 1.0} for t in times))
    phases, fault = measure_phases(split, device)
    assert (list(phases.items()), fault) == ([("late", 2 * TICK), ("early", 1.0)], "")


@pytest.mark.parametrize(("seconds", "calls"), [(10.0, LEAST_CALLS), (PHASE_SECONDS / 8, 8), (0.0, MOST_CALLS)])
def test_how_many_calls(seconds: float, calls: int) -> None:
    device = FakeDevice()
    made: list[float] = []

    def all_alike() -> Iterator[Mapping[str, float]]:
        while True:
            made.append(seconds)
            yield {"a": seconds}

    measure_phases(script(device, all_alike()), device)
    assert len(made) == 1 + calls


@pytest.mark.parametrize(
    ("calls", "fault"),
    [
        ([{}] * 9, "there are none"),
        ([{"a": 1.0}] * 2 + [{"b": 1.0}] * 9, "a in one call, b in another"),
        ([{"a;b": 1.0}] * 9, "'a;b'"),
        ([{" ": 1.0}] * 9, "' '"),
        ([{"a": -1.0}] * 9, "a took -1.0 seconds"),
        ([{"a": float("nan")}] * 9, "a took nan seconds"),
        ([{"a": "long"}] * 9, "ValueError"),
        ([None] * 9, "AttributeError"),
    ],
)
def test_faults(calls: list[Any], fault: str) -> None:
    answers = iter(calls)
    phases, reason = measure_phases(lambda: next(answers), FakeDevice())
    assert phases == {}
    assert fault in reason


def test_a_plan_of_another_revision_has_neither() -> None:
    old: Any = SimpleNamespace(run=None)
    assert stated_flops(old) == 0
    assert phased_call(old, None, None, None) is None


def timed(device: FakeDevice, phases: Callable[..., Mapping[str, float]] | None, flops: Any = 0) -> Algorithm:
    def plan(problem: Problem, _: Any) -> Plan:
        def run(x: Any, w: Any, y: Any) -> None:
            device.clock += TICK
            np.multiply(x, w, out=y)

        return Plan(run, flops=flops, phases=phases)

    return Algorithm("a.a", on={"cpu": plan})


def right(x: Any, w: Any, y: Any) -> Mapping[str, float]:
    np.multiply(x, w, out=y)
    return {"load": 0.001, "multiply": 0.002}


def test_a_row_has_them_only_where_they_were_asked_for() -> None:
    device = FakeDevice()
    (plain,) = swept(device, timed(device, right))
    assert (plain.status, plain.phases, plain.note) == ("ok", "", "")
    (asked,) = swept(device, timed(device, right), phases=True)
    assert (asked.status, asked.phases, asked.note) == ("ok", "load=1;multiply=2", "")
    (without,) = swept(device, timed(device, None), phases=True)
    assert (without.status, without.phases, without.note) == ("ok", "", "")


def wrong(x: Any, w: Any, y: Any) -> Mapping[str, float]:
    y[...] = 3 * x * w
    return {"a": 1.0}


def forgets(x: Any, w: Any, y: Any) -> Mapping[str, float]:
    return {"a": 1.0}


def spoils(x: Any, w: Any, y: Any) -> Mapping[str, float]:
    found = right(x, w, y)
    x[...] = 7
    return found


def raises(x: Any, w: Any, y: Any) -> Mapping[str, float]:
    raise ArithmeticError("no time")


@pytest.mark.parametrize(
    ("phases", "reason"),
    [(wrong, "error of 2.0e+00"), (forgets, "error of"), (spoils, "error of"), (raises, "ArithmeticError: no time")],
)
def test_bad_phases_cost_the_phases_alone(phases: Callable[..., Mapping[str, float]], reason: str) -> None:
    device = FakeDevice()
    (made,) = swept(device, timed(device, phases), phases=True)
    assert (made.status, made.phases, made.samples) == ("ok", "", 15)
    assert made.note.startswith("phases not measured: ")
    assert reason in made.note
    assert advice([made]) == [f"{ONE} a.a: {made.note}"]


@pytest.mark.parametrize("flops", [-1, 1.5, "many", None])
def test_flops_that_are_no_number_fail_the_case(flops: Any) -> None:
    device = FakeDevice()
    (made,) = swept(device, timed(device, None, flops))
    assert made.status == "failed"
    assert f"the flops of a.a's plan are {flops!r}" in made.note


def test_flops_that_are_not_stated_are_an_empty_cell() -> None:
    device = FakeDevice()
    (made,) = swept(device, timed(device, None, 0))
    assert made.gflop_executed is None


# The command

PLUGIN = """
import time
from convbench import Algorithm, Plan
from convbench.reference import convolve

def plan(problem, device):
    def run(x, w, y):
        y[...] = convolve(x, w, problem.shape)
    def phases(x, w, y):
        begin = time.perf_counter()
        run(x, w, y)
        return {"everything": time.perf_counter() - begin, "nothing": 0.0}
    return Plan(run, flops=problem.shape.flops, phases=phases)

ALGORITHMS = [Algorithm("mine.told", on={"cpu": plan})]
"""


@pytest.mark.parametrize("how", ["--isolate", "--no-isolate"])
def test_the_command_measures_and_shows_them(tmp_path: Path, how: str) -> None:
    (tmp_path / "mine.py").write_text(PLUGIN)
    out = tmp_path / "x.csv"
    words = ("run", "--shape", "n1c2h5w5k2r3s3", "--algo", "mine,direct.naive", "--plugin", str(tmp_path / "mine.py"))
    done = convbench(*words, "--device", "cpu", "--budget", "0.01", "--phases", how, "--out", str(out))
    assert done.code == 0, done.err
    told, other = sorted(read(out), key=lambda one: one.family, reverse=True)
    assert list(told.phase_ms) == ["everything", "nothing"]
    assert told.gflop_executed == told.gflop
    assert other.phases == ""
    assert (told.ceiling_gflops or 0) > 0
    assert (told.ceiling_gbs or 0) > 0
    shown = " ".join(done.out.split())
    assert "phase ms share" in shown
    assert "nothing 0.0000 0 %" in shown


def test_the_command_says_where_no_algorithm_tells_them(tmp_path: Path) -> None:
    words = ("run", "--shape", "n1c2h5w5k2r3s3", "--algo", "direct.naive", "--device", "cpu", "--budget", "0.01")
    done = convbench(*words, "--phases", "--no-isolate", "--out", str(tmp_path / "x.csv"))
    assert done.code == 0
    assert "no algorithm measured here tells its phases" in done.out


def test_the_table_fits_eighty_columns() -> None:
    from rich.console import Console

    rows: list[Row] = [
        row(layer=f"conv{i}", algo="winograd.f6_blocked", phases="input transform=12345.6;output transform=0.012")
        for i in range(2)
    ]
    out = io.StringIO()
    Console(file=out, width=80).print(phase_table([*rows, row(layer="n1c64h56w56k128r3s3u2p1", phases="a=0")]))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    assert lines[1].split() == ["conv0", "winograd.f6_blocked", "input", "transform", "12346", "100", "%"]
    assert lines[2].split() == ["output", "transform", "0.0120", "0", "%"]


# The ceilings they are read against


class Rated(FakeDevice):
    """A device with a multiply-add peak of its own."""

    def __init__(self, rate: float | None) -> None:
        super().__init__()
        self.rate = rate

    def multiply_add_peak(self, precision: str) -> float | None:
        return self.rate


@pytest.mark.parametrize(("rate", "ceiling"), [(None, 1e9), (4e9, 4e9), (5e8, 1e9)])
def test_a_matrix_product_is_the_least_a_ceiling_can_be(rate: float | None, ceiling: float) -> None:
    assert ceilings(Rated(rate), "float32") == Ceilings(1e9, ceiling, 1e9)
