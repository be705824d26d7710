"""Layers called one after another, each on its own operands, so that the filters of all compete for the cache.

Each way to do all of them (one mode of a library throughout, or one algorithm chosen for each layer) is a sequence. All
sequences take turns in one process, in an order shuffled anew: an untimed pass, then as many as a sample takes (10 ms).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

from convbench.algorithms.base import Algorithm
from convbench.devices.base import Call, Device, Sample
from convbench.layers import Layer
from convbench.measure.case import Case, Operands, open_case, operands
from convbench.measure.rounds import finish
from convbench.measure.rules import loops_for
from convbench.problem import Problem
from convbench.report.series import LIBRARY
from convbench.results.stack import StackRow
from convbench.stats import median, summarise

CANDIDATES = 6  # of a layer
TRIES, TRY_SECONDS = 9, 2.0  # samples with each at least, and time a layer's take
SWEEPS = 2  # over the layers
LEAST_ROUNDS = 31  # the 95 % interval of their median leaves out the ten least and the ten largest


class SequenceError(Exception):
    """A sequence that cannot be timed or believed; the text says which layer, and why."""


@dataclass(frozen=True)
class Way:
    """A way to do layers: the algorithm of each, and the bound on the error they were chosen under."""

    name: str
    algorithms: Mapping[str, Algorithm]
    bound: float | None = None

    @property
    def foreign(self) -> bool:
        """Whether only libraries of others work in it."""
        return {algorithm.family for algorithm in self.algorithms.values()} == {LIBRARY}


@dataclass
class Run:
    """A way, opened, and its samples."""

    way: Way
    cases: dict[str, Case]
    samples: list[Sample] = field(default_factory=list)
    pass_seconds: float = inf  # of the fastest untimed one

    @property
    def seconds(self) -> list[float]:
        """Of each round."""
        return [sample.seconds for sample in self.samples]

    def sample(self, device: Device) -> None:
        """An untimed pass, and timed ones."""
        call: list[Call] = [self.call]
        self.pass_seconds = min(self.pass_seconds, device.time(call, 1).seconds)
        self.samples.append(device.time(call, loops_for(self.pass_seconds)))

    def call(self) -> None:
        """All layers, one after another."""
        for case in self.cases.values():
            assert case.call is not None
            case.call()


def measure_sequences(
    layers: Sequence[Layer], ways: Sequence[Way], device: Device, batch: int, seconds: float, seed: int,
    told: Callable[[int], None] = lambda number: None,
) -> list[Run]:  # fmt: skip
    """Time all ways in turns for `seconds`, at least LEAST_ROUNDS rounds; the answers are checked before and after.

    Ways to do the same layers follow one another. Raises SequenceError where a case is not right.
    """
    data = {layer.name: operands(Problem(layer.shape.with_batch(batch)), device, seed) for layer in layers}
    runs = [Run(way, {name: _open(way, name, data[name], device) for name in way.algorithms}) for way in ways]
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run.cases), []).append(run)
    order, shuffle = list(groups.values()), random.Random(seed)
    begin, number = device.now(), 0
    while number < LEAST_ROUNDS or device.now() - begin < seconds:
        shuffle.shuffle(order)
        for group in order:
            shuffle.shuffle(group)
            for run in group:
                run.sample(device)
        number += 1
        told(number)
    for run in runs:
        for name, case in run.cases.items():
            finish(case, data[name], device)
            _check(run.way, name, case)
            case.release()
    return runs


def choose(
    layers: Sequence[Layer], candidates: Mapping[str, Sequence[Algorithm]], device: Device, batch: int, seed: int,
    start: Mapping[str, Algorithm] | None = None,
) -> dict[str, Algorithm]:  # fmt: skip
    """The candidate of each layer with which the whole sequence is fastest: filters it drives out cost the others time.

    It begins with the fastest of each layer, or with those whose filters are smallest, or with `start` (of the
    candidates), where that is faster: one layer at a time there is no way from filters that no cache holds to others.
    Then a layer's candidates take turns while the others stay; twice, as a choice changes what the others' are worth.
    One takes the place of another where the 95 % interval of its time over the other's, turn by turn, lies below 1:
    else chance would choose among many that are alike. Raises SequenceError.
    """
    cases = {
        layer.name: [
            _open(Way("candidates", {layer.name: algorithm}), layer.name, data, device)
            for algorithm in candidates[layer.name]
        ]
        for layer in layers
        for data in [operands(Problem(layer.shape.with_batch(batch)), device, seed)]
    }
    shuffle = random.Random(seed)
    fastest = {name: found[0] for name, found in cases.items()}
    smallest = {name: min(found, key=lambda case: case.prepared_bytes or 0) for name, found in cases.items()}
    begins = [fastest, smallest]
    if start:
        begins.append({name: next(case for case in cases[name] if case.algorithm is a) for name, a in start.items()})
    chosen = dict(_better(_in_turns(begins, device, shuffle), 0).cases)
    for _ in range(SWEEPS):
        before = dict(chosen)
        for name, found in cases.items():
            if len(found) > 1:
                runs = _in_turns([{**chosen, name: case} for case in found], device, shuffle)
                now = next(i for i, case in enumerate(found) if case is chosen[name])
                chosen[name] = _better(runs, now).cases[name]
        if chosen == before:
            break
    for found in cases.values():
        for case in found:
            case.release()
    return {name: case.algorithm for name, case in chosen.items()}


def _better(runs: Sequence[Run], now: int) -> Run:
    """The fastest one where it is faster for certain than the one that is taken now, else that one."""
    best = min(runs, key=lambda run: median(run.seconds))
    ratio = summarise([new / old for new, old in zip(best.seconds, runs[now].seconds, strict=True)])
    return best if ratio.high < 1 else runs[now]


def _in_turns(sequences: Sequence[Mapping[str, Case]], device: Device, shuffle: random.Random) -> list[Run]:
    """The samples of each sequence, in the order given; an untimed pass before each."""
    runs = [Run(Way("", {}), dict(cases)) for cases in sequences]
    order, begin = list(runs), device.now()
    while len(runs[0].samples) < TRIES or device.now() - begin < TRY_SECONDS:
        shuffle.shuffle(order)
        for run in order:
            run.sample(device)
    return runs


def _open(way: Way, layer: str, data: Operands, device: Device) -> Case:
    case = open_case(way.algorithms[layer], data, device, "hot", weigh=False)
    _check(way, layer, case)
    return case


def _check(way: Way, layer: str, case: Case) -> None:
    if case.status != "ok":
        raise SequenceError(f"{way.name}: {layer} {case.algorithm.name}: {case.status}: {case.note}")


def as_rows(runs: Sequence[Run], batch: int, seed: int, facts: Mapping[str, Any]) -> list[StackRow]:
    """A row for each way; the rival is the fastest way of a library. Raises SequenceError where there is none."""
    foreign = [run for run in runs if run.way.foreign]
    if not foreign:
        raise SequenceError("there is no library to compare with")
    rival = min(foreign, key=lambda run: median(run.seconds))
    rows = []
    for run in runs:
        time = summarise([1e3 * seconds for seconds in run.seconds])
        ratio = summarise([theirs / own for theirs, own in zip(rival.seconds, run.seconds, strict=True)])
        errors = [case.judgement.error for case in run.cases.values() if case.judgement]
        rows.append(
            StackRow(
                when=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", batch=batch, plan=run.way.name,
                algorithms=";".join(f"{layer}={a.name}" for layer, a in run.way.algorithms.items()),
                bound=run.way.bound, error=max(errors), samples=time.samples,
                disturbed=sum(sample.disturbed for sample in run.samples),
                time_ms=time.median, time_lo_ms=time.low, time_hi_ms=time.high,
                rival=rival.way.name, versus=ratio.median, versus_lo=ratio.low, versus_hi=ratio.high,
                seed=seed, threads=facts["threads"], hardware=facts["hardware"],
                convbench=facts["convbench"], commit=facts["commit"],
            )
        )  # fmt: skip
    return rows


def samples_of(runs: Sequence[Run], batch: int) -> list[tuple[Any, ...]]:
    """Every sample, as it is written."""
    return [
        (batch, run.way.name, number, sample.seconds, sample.disturbed)
        for run in runs
        for number, sample in enumerate(run.samples)
    ]


def ways_of(library: Sequence[Algorithm], fastest: Mapping[str, Algorithm],
            ours: Mapping[str, Mapping[str, Algorithm]], bound: float) -> list[Way]:  # fmt: skip
    """Each mode of the library throughout, its fastest mode of each layer, and what was chosen of ours, by name."""
    ways = [Way(algorithm.name, dict.fromkeys(fastest, algorithm)) for algorithm in library]
    ways.append(Way(f"{LIBRARY}, mixed modes", dict(fastest)))
    return [*ways, *(Way(name, dict(chosen), bound) for name, chosen in ours.items())]
