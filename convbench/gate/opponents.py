"""The two sides of a duel as the duel sees them: something to ask. Processes here; a test may script them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from convbench.gate.outcome import GateError
from convbench.gate.trees import Tree
from convbench.process import Child, ChildError

MODULE = "convbench.gate.duelist"
BASE, HEAD = 0, 1
NAMES = ("base", "head")
Reply = Mapping[str, Any]


class SideLost(Exception):
    """A side's process can no longer be asked; the text says why."""


class Side(Protocol):
    """One process of a pair, its algorithms loaded."""

    def ask(self, do: str, **facts: Any) -> Reply:
        """Let it do something (see `Duelist`); `error` in the reply says why it could not. Raises SideLost."""
        ...

    def end(self) -> None:
        """Let it go."""
        ...


class Opponents(Protocol):
    """Where pairs come from."""

    def pair(self) -> tuple[Side, Side]:
        """A fresh pair, base and head. Raises SideLost."""
        ...


class ProcessSide:
    """A child process."""

    def __init__(self, child: Child, timeout: float) -> None:
        self._child, self._timeout = child, timeout

    def ask(self, do: str, **facts: Any) -> Reply:
        """As Side says."""
        try:
            self._child.send({"do": do, **facts})
            reply: Reply = self._child.receive(self._timeout)
        except ChildError as error:
            raise SideLost(str(error)) from None
        return reply

    def end(self) -> None:
        """As Side says."""
        self._child.close()


@dataclass
class Roll:
    """What a side has: the file of each algorithm, all files of its tree that were loaded, or why it has nothing."""

    files: dict[str, str] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    hardware: str = ""
    reason: str = ""


class Processes:
    """Pairs of child processes on the same cores, each with the algorithms of its own tree."""

    def __init__(
        self, trees: tuple[Tree, Tree], plugin: str | None, others: Sequence[str] = (), device: str = "cpu",
        threads: int = 1, timeout: float = 60.0,
    ) -> None:  # fmt: skip
        self._trees, self._plugin, self._others = trees, plugin, others
        self._device, self._threads, self._timeout = device, threads, timeout
        self.rolls = (Roll(), Roll())
        self._ready: list[ProcessSide] = []

    def call_roll(self) -> tuple[Roll, Roll]:
        """What both sides have, from the first pair, which is kept for the first block. Raises GateError: no base."""
        for side in (BASE, HEAD):
            try:
                self._ready.append(self._start(side))
            except SideLost as lost:
                if side == BASE:
                    raise GateError(f"base, {self._trees[BASE].name}, cannot be loaded: {lost}") from None
                self.rolls[HEAD].reason = str(lost)
                self.end()
        return self.rolls

    def pair(self) -> tuple[Side, Side]:
        """As Opponents says."""
        with ended_if_it_raises(self.end):
            while len(self._ready) < len(NAMES):
                self._ready.append(self._start(len(self._ready)))
        base, head = self._ready
        self._ready = []
        return base, head

    def end(self) -> None:
        """Let go of a pair that nobody took."""
        while self._ready:
            self._ready.pop().end()

    def _start(self, side: int) -> ProcessSide:
        from convbench.machine import thread_environment

        environment = thread_environment(self._threads) | {"PYTHONSAFEPATH": "1"}
        started = ProcessSide(Child(MODULE, environment, shared_cpus(self._threads)), self._timeout)
        tree = self._trees[side].path
        foreign = {str(self._trees[1 - side].path), *self._others} - {str(tree)}
        with ended_if_it_raises(started.end):
            reply = started.ask(
                "load", tree=str(tree), plugin=self._plugin, others=sorted(foreign), device=self._device,
                threads=self._threads,
            )  # fmt: skip
            if "error" in reply:
                raise SideLost(f"{NAMES[side]}: {reply['error']}")
        roll = self.rolls[side]
        roll.files, roll.hardware = reply["files"], reply["hardware"]
        roll.loaded.update(reply["loaded"])
        return started


@contextlib.contextmanager
def ended_if_it_raises(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` where the block raises."""
    try:
        yield
    except BaseException:
        end()
        raise


def shared_cpus(threads: int) -> set[int] | None:
    """The cores both sides are bound to: the last ones of this process, which interrupts visit least."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    return set(sorted(os.sched_getaffinity(0))[-threads:])
