"""Where a sweep is measured: in this process, or in a worker that may crash, hang or run out of memory in its stead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from convbench.algorithms import collect
from convbench.algorithms.base import Algorithm
from convbench.devices.base import Device, NoDevice
from convbench.layers import Layer
from convbench.machine import (
    describe,
    give_back_memory,
    keep_freed_memory,
    open_device,
    set_threads,
    thread_environment,
)
from convbench.measure.case import Case
from convbench.process import Child, ChildError, ChildSilentError
from convbench.results import Row
from convbench.sweep import (
    Ceilings,
    DeviceBroken,
    Listener,
    Raw,
    Request,
    Site,
    ceilings,
    make_row,
    measure_layer,
    samples_of,
)

WORKER = "convbench.worker"
SETUP_SECONDS = 300.0  # to import, to open the device and to measure its ceilings
LEAK_SHARE = 0.5  # of what a worker may hold: one that keeps more than this between layers is replaced


@dataclass(frozen=True)
class Setup:
    """What a bench is opened with: the device's kind, its threads, the precision of the ceilings, plug-in files."""

    kind: str
    threads: int
    precision: str
    plugins: tuple[str, ...] = ()


class Bench(Protocol):
    """A place that measures layers."""

    site: Site
    why: str  # this device was chosen
    caches: tuple[str, ...]

    def layer(
        self, request: Request, layer: Layer, algorithms: Sequence[Algorithm], listener: Listener
    ) -> Iterator[tuple[Row, Raw]]:
        """One row for each algorithm, as soon as it is finished."""
        ...

    def warnings(self) -> Iterable[str]:
        """What makes times on this device doubtful now."""
        ...

    def close(self) -> None:
        """Let go of the device."""
        ...


class Here:
    """This process. Raises NoDevice where the device cannot be had."""

    def __init__(self, setup: Setup, tops: Ceilings | None = None) -> None:
        set_threads(setup.threads)
        keep_freed_memory()
        self.device: Device
        self.device, self.why = open_device(setup.kind, setup.threads)
        self.caches = self.device.caches
        self.site = Site(describe(self.device), tops or ceilings(self.device, setup.precision))

    def layer(
        self, request: Request, layer: Layer, algorithms: Sequence[Algorithm], listener: Listener
    ) -> Iterator[tuple[Row, Raw]]:
        """Measured here and now."""
        try:
            yield from measure_layer(request, layer, algorithms, self.device, self.site, listener)
        finally:
            give_back_memory()

    def warnings(self) -> Iterable[str]:
        """The device's."""
        return self.device.warnings()

    def close(self) -> None:
        """Nothing is held that the process's end does not free."""


class Apart:
    """A worker process, replaced whenever a case has cost the last one its life.

    A case whose worker dies or stays silent longer than `timeout` (in opening it, or in one of its turns) gets the row
    `failed` or `timeout`; the cases that were being timed beside it start anew in a fresh worker.
    """

    def __init__(self, setup: Setup, timeout: float) -> None:
        self.setup, self.timeout = setup, timeout
        self.tops: Ceilings | None = None
        self.child: Child | None = None
        self._start()

    def _start(self) -> Child:
        """A fresh worker; the first one measures the ceilings. Raises NoDevice, ChildError."""
        self.child = child = Child(WORKER, thread_environment(self.setup.threads))
        child.send(("open", self.setup, self.tops))
        word, answer = child.receive(SETUP_SECONDS)
        if word == "no device":
            self.close()
            raise NoDevice(answer)
        self.site, self.why, self.caches = answer
        self.tops = self.site.tops
        return child

    def layer(
        self, request: Request, layer: Layer, algorithms: Sequence[Algorithm], listener: Listener
    ) -> Iterator[tuple[Row, Raw]]:
        """Rows come from the worker; those of cases that end it are made here."""
        left = {algorithm.name: algorithm for algorithm in algorithms}
        while left:
            hand = ""  # the case in hand: "" before the first and between one's row and the next one's turn
            try:
                child = self.child or self._start()
                child.send(("layer", request.without(), layer, tuple(left)))
                while True:
                    word, answer = child.receive(self.timeout)
                    if word in ("opening", "timing"):
                        hand = answer
                        getattr(listener, word)(layer, left[hand])
                    elif word == "row":
                        row, raw = answer
                        left.pop(row.algo)
                        hand = ""
                        listener.row(row)
                        yield row, raw
                    else:
                        break
                if word == "broken" or self._leaks(child):
                    self.close()
                if word == "done":
                    return
            except (ChildError, NoDevice) as error:
                self.close()
                if left:  # else it had only to say that it was done
                    yield self._lost(request, layer, left.pop(hand or next(iter(left))), error, listener)

    def _lost(
        self, request: Request, layer: Layer, algorithm: Algorithm, error: Exception, listener: Listener
    ) -> tuple[Row, Raw]:
        """The row of a case that took its worker with it."""
        problem = request.problem(layer)
        status = "timeout" if isinstance(error, ChildSilentError) else "failed"
        case = Case(algorithm, problem, status, str(error))
        row = make_row(case, request, layer, self.site)
        listener.row(row)
        return row, samples_of(case)

    def _leaks(self, child: Child) -> bool:
        most = child.most_bytes
        return most is not None and child.resident_bytes() > LEAK_SHARE * most

    def warnings(self) -> Iterable[str]:
        """The device's, from the worker that has it open."""
        try:
            child = self.child or self._start()
            child.send(("warnings",))
            return list(child.receive(self.timeout)[1])
        except ChildError:
            return []

    def close(self) -> None:
        """End the worker."""
        if self.child:
            self.child.kill()
            self.child = None


def open_bench(setup: Setup, timeout: float | None) -> Bench:
    """A worker, or with no timeout this process. Raises NoDevice, ChildError."""
    return Here(setup) if timeout is None else Apart(setup, timeout)


class Relay:
    """The worker's listener: tells the parent."""

    def __init__(self, reply: Any) -> None:
        self.reply = reply

    def opening(self, layer: Layer, algorithm: Algorithm) -> None:
        """The case in hand."""
        self.reply(("opening", algorithm.name))

    def timing(self, layer: Layer, algorithm: Algorithm) -> None:
        """The case in hand."""
        self.reply(("timing", algorithm.name))

    def row(self, row: Row) -> None:
        """Sent with its samples."""


class Worker:
    """The child's side of Apart: answers "open", "layer" and "warnings"."""

    def __init__(self) -> None:
        self.bench: Here | None = None
        self.algorithms: dict[str, Algorithm] = {}

    def answer(self, message: Any, reply: Any) -> None:
        """Do what a message asks for, and reply as it goes."""
        if message[0] == "open":
            _, setup, tops = message
            try:
                self.bench = Here(setup, tops)
            except NoDevice as reason:
                reply(("no device", str(reason)))
                return
            self.algorithms = {algorithm.name: algorithm for algorithm in collect(setup.plugins)}
            reply(("ready", (self.bench.site, self.bench.why, self.bench.caches)))
            return
        assert self.bench is not None
        if message[0] == "warnings":
            reply(("warnings", list(self.bench.warnings())))
            return
        _, request, layer, names = message
        try:
            for row, raw in self.bench.layer(request, layer, [self.algorithms[n] for n in names], Relay(reply)):
                reply(("row", (row, raw)))
        except DeviceBroken:
            reply(("broken", None))
            return
        reply(("done", None))
