"""Vector kernels on several threads: work is shared out once, arguments stay alive, distances are measured."""

from __future__ import annotations

import ctypes
import weakref
from types import SimpleNamespace

import numba
import numpy as np
import pytest

from convbench.vector import distance
from convbench.vector.build import Program, address_of
from convbench.vector.code import Code
from convbench.vector.distance import FAR_S, LOOK_AGAIN_S, are_far_apart, round_trip
from convbench.vector.team import KERNEL, Arguments, Fields, Team, runner, shared_out, tickets


def two_rounds(program: Program, code: Code) -> None:
    """Each item's double; then, when all are done, each item's neighbours' sum."""
    place, thread, threads = code.arguments
    f, team = Fields(code, place, ("counters", "first", "second", "items", "tickets")), Team(thread, threads)
    first, second, counters = f.pointer("first"), f.pointer("second"), f.pointer("counters")
    with shared_out(code, counters, f.items, team) as item:
        (first + item * 8).set_integer((first + item * 8).integer() + item * 2)
    with shared_out(code, counters + f.tickets, f.items - 1, team, wait=False) as item:
        (second + item * 8).set_integer((first + item * 8).integer() + (first + (item + 1) * 8).integer())


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("items", [1, 2, 1000])
def test_work_is_shared_out_once(threads: int, items: int) -> None:
    call = runner(address_of(KERNEL, two_rounds), threads)
    for _ in range(20):
        counters, first, second = (np.zeros(size, np.int64) for size in (2 * tickets(threads) // 8, items, items))
        arguments = np.array([counters.ctypes.data, first.ctypes.data, second.ctypes.data, items, tickets(threads)])
        call(arguments.ctypes.data)
        assert np.array_equal(first, 2 * np.arange(items))
        assert np.array_equal(second[:-1], 4 * np.arange(items - 1) + 2)


def test_arguments_keep_their_arrays() -> None:
    first, second = np.arange(3.0), np.arange(5.0)
    arguments = Arguments(np, ("x", "count", "other"), {"x": first, "count": 7})
    words = np.ctypeslib.as_array((ctypes.c_int64 * 3).from_address(arguments.address))
    assert words.tolist() == [first.ctypes.data, 7, 0]
    assert arguments.bytes == first.nbytes
    arguments.point("x", second)
    arguments.point("other", second)
    assert words.tolist() == [second.ctypes.data, 7, second.ctypes.data]
    place = weakref.ref(second)
    del second
    assert place() is not None, "the kernel has but its address"
    with pytest.raises(AssertionError, match="nothing"):
        Arguments(np, ("x",), {"nothing": 1})


def test_how_far_apart_threads_are() -> None:
    assert round_trip(1) is None
    assert not are_far_apart(1)
    found = round_trip(2)
    assert found is None or found > 0
    usual = numba.get_num_threads()
    numba.set_num_threads(1)  # the two come one after the other: both give up, and nobody waits for ever
    try:
        assert round_trip(2) is None
    finally:
        numba.set_num_threads(usual)


def test_a_look_at_the_distance_is_believed_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, trips = [100.0], [FAR_S * 1.1, FAR_S * 0.9, None, FAR_S * 2]
    looks: list[int] = []
    monkeypatch.setattr(distance, "_looks", {})
    monkeypatch.setattr(distance, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def look(threads: int) -> float | None:
        looks.append(threads)
        return trips[len(looks) - 1]

    monkeypatch.setattr(distance, "round_trip", look)
    seen = []
    for _ in range(7):
        seen.append(are_far_apart(2))
        clock[0] += LOOK_AGAIN_S / 2
    assert seen == [True, True, False, False, False, False, True]
    assert looks == [2] * 4
