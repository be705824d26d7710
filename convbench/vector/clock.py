"""Counting where a kernel's time goes: each thread adds up the CPU's clock by phase."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from convbench.vector.code import Code, Pointer

CLOCK_BYTES = 64  # a thread's counters, one for each phase


class Clock:
    """Counts a thread's cycles by phase, or does nothing at all."""

    def __init__(self, code: Code, place: Pointer, runs: bool) -> None:
        """place: the thread's own counters."""
        self.code, self.place, self.runs = code, place, runs

    @contextmanager
    def phase(self, number: int) -> Iterator[None]:
        """The body belongs to phase `number`."""
        begin = self.code.cycles() if self.runs else None
        yield
        if begin is not None:
            counter = self.place + 8 * number
            counter.set_integer(counter.integer() + (self.code.cycles() - begin))


def shares(clocks: Any, names: Sequence[str], seconds: float) -> Mapping[str, float]:
    """Seconds by phase, from all threads' counters [threads, CLOCK_BYTES / 8] and the seconds of the whole call."""
    cycles = clocks.sum(axis=0)
    total = max(1, int(cycles[: len(names)].sum()))
    return {name: seconds * int(cycles[i]) / total for i, name in enumerate(names)}
