"""Sharing out work among threads inside a kernel, and running a kernel on a device's threads.

Each thread takes the next item as it comes free. Who waits for the others' items only waits for what somebody is
working on, so it is no matter how many threads there really are, or when they come.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from convbench.vector.code import INT32, Code, Index, Number, Pointer

TICKETS = 2 * 128  # bytes a round of sharing out needs, zero at first: two counters, far apart


@contextmanager
def shared_out(code: Code, counters: Pointer, items: Number, wait: bool = True) -> Iterator[Index]:
    """The body is run once for each item, by whichever thread comes; wait: go on only when all are done."""
    taken: list[Index] = []

    def more() -> Any:
        taken.append(counters.fetch_add(1))
        return taken[0] < items

    with code.repeat_while(more):
        yield taken[0]
        (counters + TICKETS // 2).fetch_add(1)
    if wait:
        with code.repeat_while(lambda: (counters + TICKETS // 2).integer_acquired() < items):
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


def runner(address: int, threads: int) -> Callable[[int], None]:
    """Runs kernel(arguments, thread) on that many threads: call it with the address of the arguments."""
    from convbench.vector.launch import on_one, on_threads

    run = on_threads if threads > 1 else on_one
    return lambda arguments: run(address, arguments, threads)
