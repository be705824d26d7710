"""Duels of scripted opponents: order, verdicts and exit codes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from gate_outcomes import found

from convbench.cli_duel import share, slowdowns
from convbench.gate.arrange import Request
from convbench.gate.decision import Rules
from convbench.gate.duel import Cell, Duel
from convbench.gate.duelist import slowed
from convbench.gate.judging import judge
from convbench.gate.opponents import NAMES, SideLost
from convbench.gate.outcome import GateError, Outcome
from convbench.problem import Problem
from convbench.shapes import parse_shape

ONE = Problem(parse_shape("n1c1h1w1k1r1s1"))
Times = dict[tuple[str, str], Any]  # by side and cell: seconds, or an exception


@dataclass
class Script:
    """Opponents whose clock is a table, and who note what they were asked."""

    times: Times = field(default_factory=dict)
    opened: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    closed: dict[tuple[str, str], str] = field(default_factory=dict)
    log: list[tuple[str, str, str]] = field(default_factory=list)
    pairs: int = 0
    ended: int = 0

    def pair(self) -> tuple[ScriptedSide, ScriptedSide]:
        self.pairs += 1
        return ScriptedSide(self, "base"), ScriptedSide(self, "head")


@dataclass
class ScriptedSide:
    script: Script
    name: str

    def ask(self, do: str, **facts: Any) -> dict[str, Any]:
        cell = facts["cell"]
        self.script.log.append((self.name, do, cell))
        if do == "sample":
            seconds = self.script.times.get((self.name, cell), 0.01)
            if isinstance(seconds, Exception):
                raise seconds
            return {"seconds": seconds, "disturbed": False}
        if do == "open":
            usual = {"status": "ok", "note": "", "workspace_bytes": 100, "prepared_bytes": 0, "peak_bytes": 100}
            return usual | {"error_of_answer": 1e-7} | self.script.opened.get((self.name, cell), {})
        if do == "close":
            return {"status": self.script.closed.get((self.name, cell), "ok"), "note": "the second answer"}
        return {}

    def end(self) -> None:
        self.script.ended += 1


def fought(script: Script, *names: str, controls: set[str] | None = None, against: bool = False) -> Outcome:
    duel = Duel(script, [Cell(name, ONE, name, name) for name in names], 7, against)
    rules = Rules()
    duel.fight(rules)
    assert script.ended == 2 * script.pairs
    return judge(duel, rules, controls or set(), "old", "new")


def test_equal_sides_take_three_blocks_and_pass() -> None:
    script = Script()
    outcome = fought(script, "a", "b")
    assert (found(outcome), outcome.exit_code(False), script.pairs) == ({"a": "PASS", "b": "PASS"}, 0, 3)
    assert outcome.cells[0].base_ms == pytest.approx(10)


def test_base_head_head_base_and_each_side_starts_as_often() -> None:
    script = Script()
    fought(script, "a", "b")
    samples = [(side, cell) for side, do, cell in script.log if do == "sample"]
    assert len(samples) == 3 * 4 * 2 * 4
    quads = [samples[i : i + 4] for i in range(0, len(samples), 4)]
    assert all(len({cell for _, cell in quad}) == 1 for quad in quads)
    sides = [[side for side, _ in quad] for quad in quads]
    assert all(quad in (["base", "head", "head", "base"], ["head", "base", "base", "head"]) for quad in sides)
    assert sum(quad[0] == "base" for quad in sides) == len(quads) / 2


def test_only_the_suspect_is_measured_again_and_exits_3() -> None:
    script = Script({("head", "a"): 0.013})
    outcome = fought(script, "a", "b", controls={"b"})
    assert found(outcome) == {"a": "FAIL", "b": "PASS"}
    assert (outcome.exit_code(False), script.pairs) == (3, 11)
    assert sum(do == "sample" and cell == "b" for _, do, cell in script.log) == 3 * 16
    assert len(outcome.cells[0].head_samples) == 8 * 8


def test_a_control_that_is_slower_exits_4() -> None:
    outcome = fought(Script({("head", "a"): 0.013, ("head", "b"): 0.013}), "a", "b", controls={"b"})
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "UNSTABLE", "b": "UNSTABLE"}, 4)


def test_faster_is_improved_and_exits_0() -> None:
    outcome = fought(Script({("head", "a"): 0.007}), "a")
    assert (found(outcome), outcome.exit_code(True)) == ({"a": "IMPROVED"}, 0)


def test_wrong_exits_5_whatever_its_speed() -> None:
    script = Script(
        {("head", "a"): 0.001, ("head", "b"): 0.02}, {("head", "a"): {"status": "wrong", "note": "far off"}}
    )
    outcome = fought(script, "a", "b")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "WRONG", "b": "FAIL"}, 5)
    assert "far off" in outcome.cells[0].reason


def test_wrong_in_the_end_is_wrong() -> None:
    assert found(fought(Script(closed={("head", "a"): "wrong"}), "a")) == {"a": "WRONG"}
    assert found(fought(Script(closed={("base", "a"): "wrong"}), "a")) == {"a": "MISSING"}


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_that_is_none_never_passes(seconds: float) -> None:
    outcome = fought(Script({("head", "a"): seconds}), "a", "b")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "MISSING", "b": "PASS"}, 4)


@pytest.mark.parametrize("side", NAMES)
def test_a_lost_process_costs_its_cell_alone(side: str) -> None:
    script = Script({(side, "a"): SideLost("no answer for 60 s")})
    outcome = fought(script, "a", "b")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "MISSING", "b": "PASS"}, 4)
    assert outcome.cells[0].reason == f"{side}: no answer for 60 s"
    assert script.pairs == 4  # the first block is done again
    assert len(outcome.cells[1].base_samples) == 3 * 8


def test_more_memory_and_more_error_block_by_themselves() -> None:
    script = Script(opened={("head", "a"): {"workspace_bytes": 102}, ("head", "b"): {"error_of_answer": 2e-7}})
    outcome = fought(script, "a", "b", "c")
    assert (found(outcome), outcome.exit_code(False)) == ({"a": "FAIL", "b": "FAIL", "c": "PASS"}, 3)
    assert outcome.cells[0].reason == "workspace 102 B instead of 100 B"
    assert outcome.cells[1].error_ratio == pytest.approx(2)
    assert found(fought(script, "a", "b", against=True)) == {"a": "PASS", "b": "PASS"}


def test_what_base_cannot_do_is_no_cell_and_what_head_cannot_is_missing() -> None:
    refuses = {"status": "unsupported", "note": "stride 4"}
    outcome = fought(Script(opened={("base", "a"): refuses, ("head", "b"): refuses}), "a", "b")
    assert found(outcome) == {"b": "MISSING"}
    assert any("stride 4" in note for note in outcome.notes)
    nothing = fought(Script(opened={("base", "a"): refuses}), "a")
    assert (found(nothing), nothing.exit_code(False)) == ({}, 4)


def test_a_slowed_call_waits_for_its_share() -> None:
    clock = [0]

    def now() -> int:
        clock[0] += 1
        return clock[0]

    def work() -> None:
        clock[0] += 1000

    slowed(work, 0.5, now)()
    assert 1500 <= clock[0] <= 1505


def test_words_of_the_command_line() -> None:
    assert (share("--delta", "15%"), share("--delta", "0.15")) == (0.15, 0.15)
    assert slowdowns(["conv3/gemm.im2col=20%"]) == {"conv3/gemm.im2col": 0.2}
    for bad in ("15", "x%", "0", "-1%", "15%%", "nan"):
        with pytest.raises(GateError, match="is not a share"):
            share("--delta", bad)
    with pytest.raises(GateError, match="CELL=SHARE"):
        slowdowns(["conv3"])
    with pytest.raises(GateError, match="nothing to compare with"):
        Request(layers=[])
    with pytest.raises(GateError, match="exclude each other"):
        Request(layers=[], base="x", self_test=True)
