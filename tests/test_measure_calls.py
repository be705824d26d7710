"""Calls on a device: cold caches get copies in turn, the collector is off, and memory is counted."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from fakes import FakeDevice

from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.base import Call
from convbench.devices.cpu import Cpu
from convbench.measure.case import held_bytes, open_case, operands
from convbench.problem import Problem
from convbench.shapes import parse_shape

# Cold caches


def test_cold_calls_rotate_over_copies_of_twice_the_cache() -> None:
    device = FakeDevice(last_level_bytes=1 << 12)
    problem = Problem(parse_shape("n1c4h8w8k4r1s1"))
    seen: list[tuple[int, int, int]] = []

    def plan(_: Problem, __: object) -> Plan:
        def run(x: np.ndarray, w: np.ndarray, y: np.ndarray) -> None:
            seen.append((x.ctypes.data, w.ctypes.data, y.ctypes.data))
            y[...] = np.einsum("nchw,kc->nkhw", x, w[:, :, 0, 0])

        return Plan(run)

    case = open_case(Algorithm("a.b", on={"cpu": plan}), operands(problem, device, 0), device, "cold", weigh=False)
    assert case.status == "ok", case.note
    held = problem.bytes_min
    assert (len(case.calls) - 1) * held >= 2 * device.last_level_bytes
    seen.clear()
    for call in case.calls:
        call()
    for part in zip(*seen, strict=True):
        assert len(set(part)) == len(case.calls), "every copy is memory of its own"


def test_the_cpu_takes_copies_in_turn() -> None:
    cpu = Cpu(1)
    taken: list[int] = []
    calls: list[Call] = [lambda i=i: taken.append(i) for i in range(3)]  # type: ignore[misc]
    cpu.time(calls, 2)
    cpu.time(calls, 2)
    cpu.time(calls, 5)
    assert taken == [0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_the_collector_is_on_again_after_a_call_that_raised() -> None:
    def fails() -> None:
        raise RuntimeError

    assert gc.isenabled()
    try:
        with pytest.raises(RuntimeError):
            Cpu(1).time([fails], 3)
        assert gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_is_off_inside() -> None:
    inside: list[bool] = []
    Cpu(1).time([lambda: inside.append(gc.isenabled())], 2)
    assert inside == [False, False]


# Memory


def test_peak_counts_what_was_there_at_the_worst_moment() -> None:
    cpu = Cpu(1)

    def call() -> None:
        for _ in range(3):
            np.ones(1 << 20, np.uint8)
        np.ones(1 << 18, np.uint8)

    assert 1 << 20 <= cpu.peak(call) < (1 << 20) + 65536
    kept = np.ones(1 << 22)
    assert cpu.peak(lambda: None) < 65536, "what was there before is not counted"
    assert kept.size


def test_prepared_bytes_are_counted_once() -> None:
    w = np.ones((4, 4))
    other = np.ones(100)
    assert held_bytes(w, w) == 0
    assert held_bytes(w[1:, ::2], w) == 0
    assert held_bytes(other, w) == 800
    assert held_bytes([other, {"a": (other[:3], other)}, w.T, None, "x", 5], w) == 800
    assert held_bytes((other, np.ones(1)), w) == 808
