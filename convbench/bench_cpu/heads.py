"""Head to head: the fastest of ours and of the library meet once more, layer by layer, in many rounds over minutes.

`convbench run` measures many algorithms for a few rounds each, one layer after the other. The least of many medians is
too low by chance, and what a shared machine gives changes from one minute to the next: ratios of two runs differ by
more than their intervals. Here a round goes through all layers, so that a layer's rounds are spread over all the time,
and the contestants of a layer follow one another, so that a ratio is of two times taken together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.bench_cpu.sequence import Way, as_rows, measure_sequences, samples_of
from convbench.devices.base import Device
from convbench.layers import load
from convbench.machine import describe
from convbench.report.series import LIBRARY, Series
from convbench.report.versus import bound_for, within_all
from convbench.results.stack import StackRow

CONTESTANTS = 2  # of each side, as a sweep's first two are often alike


def contestants(one: Series, layer: str, known: Mapping[str, Algorithm]) -> list[Way]:
    """The fastest rows' algorithms of the library, and of ours within the bound, one of them with filters in float32.

    None where either side has none.
    """
    bound = bound_for(one.first.batch)
    ours = within_all(one, layer, bound)[:CONTESTANTS] + within_all(one, layer, bound, short=False)[:1]
    theirs = one.ranked(layer, LIBRARY)[:CONTESTANTS]
    if not (ours and theirs):
        return []
    sides = (theirs, None), (ours, bound)
    names = {row.algo: limit for rows, limit in sides for row in rows}
    return [Way(f"{layer} {name}", {layer: known[name]}, limit) for name, limit in names.items()]


def measure_heads(
    one: Series, net: str, device: Device, seconds: float, seed: int
) -> tuple[list[StackRow], list[tuple[Any, ...]]]:
    """A row for each contestant, and every sample; `seconds` for each layer at least. Raises SequenceError."""
    known = {algorithm.name: algorithm for algorithm in built_in()}
    batch = one.first.batch
    layers = [layer for layer in load(net).layers if layer.name in one.layers]
    meetings = [ways for layer in layers if (ways := contestants(one, layer.name, known))]
    if not meetings:
        return [], []
    ways = [way for meeting in meetings for way in meeting]
    runs = measure_sequences(layers, ways, device, batch, len(meetings) * seconds, seed)
    facts, rows = describe(device), []
    for meeting in meetings:
        rows += as_rows([run for run in runs if run.way in meeting], batch, seed, facts)
    return rows, samples_of(runs, batch)
