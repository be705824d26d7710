"""Algorithms for tests that give an answer of one's choice, a tick of the scripted clock a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fakes import TICK, FakeDevice, swept

from convbench.algorithms.base import Algorithm, Plan
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.results import Row
from convbench.shapes import ConvShape

WORD = "n2c4h9w8k6r3s3p1g2"
Answer = Callable[[Any, Any, Any, ConvShape], None]  # x, w, y, shape


def algorithm(device: FakeDevice, answer: Answer, name: str = "mine.fast", **plan_facts: Any) -> Algorithm:
    """An algorithm that answers like this, a tick a call."""

    def plan(problem: Problem, _: Any) -> Plan:
        def run(x: Any, w: Any, y: Any) -> None:
            device.clock += TICK
            answer(x, w, y, problem.shape)

        return Plan(run, **plan_facts)

    return Algorithm(name, on={"cpu": plan})


def only_row(device: FakeDevice, *algorithms: Algorithm, shape: str = WORD, precision: str = "float32") -> Row:
    (made,) = swept(device, *algorithms, shape=shape, precision=precision)
    return made


def right(x: Any, w: Any, y: Any, shape: ConvShape) -> None:
    y[...] = convolve(x, w, shape)
