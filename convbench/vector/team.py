"""Sharing out work among threads inside a kernel, and running a kernel on a device's threads.

Each thread begins with a part of its own, the same in every call, so that what it touched the last time lies in its own
caches, and which item it takes next can be foreseen. When that is done it helps with the others' parts, item by item.
Who waits for the others' items only waits for what somebody is working on, so it is no matter how many threads there
really are, or when they come.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir

from convbench.vector.code import INT32, Code, Index, Number, Pointer

KERNEL = "pii"  # what every kernel is given: its arguments' address, its thread's number, the number of threads
APART = 128  # bytes between counters, so that none shares a cache line, or a pair of them, with another


class Team(NamedTuple):
    """The threads of a kernel, as one of them sees them."""

    thread: Index
    threads: Index


def tickets(threads: int) -> int:
    """Bytes a round of sharing out needs, zero at first: the items done, and those taken of each thread's part."""
    return (1 + threads) * APART


@contextmanager
def shared_out(code: Code, counters: Pointer, items: Number, team: Team, wait: bool = True) -> Iterator[Index]:
    """The body is run once for each item, by whichever thread comes; wait: go on only when all are done."""
    count = code.index(items)
    taken: list[Index] = []
    for turn in code.range(team.threads):
        owner = (team.thread + turn) % team.threads
        first, end = owner * count // team.threads, (owner + 1) * count // team.threads

        def more(queue: Pointer = counters + (owner + 1) * APART, end: Index = end, first: Index = first) -> Any:
            taken.append(queue.fetch_add(1) + first)
            return taken[-1] < end

        with code.repeat_while(more):
            yield taken[-1]
            counters.fetch_add(1)
    if wait:
        with code.repeat_while(lambda: counters.integer_acquired() < items):
            _stand_aside(code)


def _stand_aside(code: Code) -> None:
    """Let another thread of this core run, where there is one."""
    if os.name == "posix":
        code.builder.call(code.external("sched_yield", ir.FunctionType(INT32, [])), [])


class Fields:
    """A kernel's arguments by name: 64-bit integers and addresses in a row."""

    def __init__(self, code: Code, place: Pointer, names: Sequence[str]) -> None:
        self._values = {name: (place + 8 * i).integer() for i, name in enumerate(names)}
        self._place = place

    def __getattr__(self, name: str) -> Index:
        return self._values[name]

    def pointer(self, name: str) -> Pointer:
        """A field as an address."""
        return self._place.integer_as_pointer(self._values[name])

    def room(self, thread: Index) -> Pointer:
        """The thread's own (vector/room.py)."""
        return (self.pointer("rooms") + 8 * (thread + 1)).pointer()

    @property
    def shared_room(self) -> Pointer:
        """All threads' own."""
        return self.pointer("rooms").pointer()


class Arguments:
    """What a kernel's Fields hold: numbers, and addresses of arrays, which live as long as this."""

    def __init__(self, xp: Any, names: Sequence[str], values: Mapping[str, Any]) -> None:
        """values by name, whole numbers or arrays; 0 where not named."""
        assert set(values) <= set(names), set(values) - set(names)
        self._where = {name: i for i, name in enumerate(names)}
        self._arrays: dict[str, Any] = {}
        self._numbers = xp.zeros(len(names), xp.int64)
        self.address: int = self._numbers.ctypes.data
        for name, value in values.items():
            if isinstance(value, int):
                self.set(name, value)
            else:
                self.point(name, value)

    @property
    def bytes(self) -> int:
        """Of all arrays now pointed to."""
        return sum(array.nbytes for array in self._arrays.values())

    def set(self, name: str, number: int) -> None:
        """Let a field be a number."""
        self._numbers[self._where[name]] = number

    def point(self, name: str, array: Any) -> None:
        """Let a field be an array's address. Asking NumPy for it takes a microsecond, so it is asked once for each."""
        if self._arrays.get(name) is not array:
            self._arrays[name] = array
            self._numbers[self._where[name]] = array.ctypes.data


def runner(address: int, threads: int) -> Callable[[int], None]:
    """Runs kernel(arguments, thread, threads) on that many threads: call it with the address of the arguments."""
    from convbench.vector.launch import on_one, on_threads

    run = on_threads if threads > 1 else on_one
    return lambda arguments: run(address, arguments, threads)


def later(make: Callable[[], Callable[[int], None]]) -> Callable[[int], None]:
    """The function that make() returns, made in the first call: who asks what a plan is waits for no compiler."""
    made = cache(make)
    return lambda arguments: made()(arguments)
