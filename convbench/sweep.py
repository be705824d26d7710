"""Which cases are measured, in which order, and how a measured case becomes a row."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from convbench.algorithms.base import Algorithm
from convbench.devices.base import Device
from convbench.layers import Layer
from convbench.machine import memory_available
from convbench.measure.case import Case, open_case, operands
from convbench.measure.rounds import converged, measure
from convbench.measure.rules import Budget
from convbench.problem import Problem
from convbench.results import Row, phases_cell
from convbench.stats import median, summarise, trimmed_mean

SHORT_ON_CUDA = 50e-6  # below this the event timer's ticks of 0.5 us show, and a trimmed mean is finer than a median
Raw = list[tuple[int, int, float, bool]]  # round, loops, seconds, disturbed


@dataclass(frozen=True)
class Ceilings:
    """What this machine reached in this run: FLOP/s of a large matrix product and of multiply-adds alone, bytes/s."""

    product: float
    multiply_add: float
    bandwidth: float


@dataclass(frozen=True)
class Site:
    """Where rows are measured: the columns that say so, and the ceilings."""

    facts: dict[str, Any]
    tops: Ceilings


@dataclass(frozen=True)
class Request:
    """What `run` was asked to measure."""

    net: str
    layers: Sequence[Layer]
    algorithms: Sequence[Algorithm]
    batch: int
    precision: str
    cache: str
    budget: Budget
    seed: int
    run: str  # its name
    phases: bool = False  # also measure the phases of those that have them

    @property
    def cases(self) -> int:
        """How many rows it will make."""
        return len(self.layers) * len(self.algorithms)

    def problem(self, layer: Layer) -> Problem:
        """A layer with this request's batch and precision."""
        return Problem(layer.shape.with_batch(self.batch or layer.shape.n), self.precision)

    def without(self) -> Request:
        """The same without layers and algorithms: what a worker needs to know beside them."""
        return replace(self, layers=(), algorithms=())


class Listener(Protocol):
    """Someone who shows progress."""

    def opening(self, layer: Layer, algorithm: Algorithm) -> None:
        """An algorithm is planned, compiled, checked and weighed."""
        ...

    def timing(self, layer: Layer, algorithm: Algorithm) -> None:
        """It is an algorithm's turn to be timed."""
        ...

    def row(self, row: Row) -> None:
        """A row is finished."""
        ...


def run_name(now: datetime | None = None) -> str:
    """UTC time to the second and the process, so that two runs never share a name."""
    return f"{(now or datetime.now(UTC)):%Y%m%dT%H%M%SZ}-{os.getpid()}"


def ceilings(device: Device, precision: str) -> Ceilings:
    """Measured now, in the same run as everything that is compared with them."""
    product = device.flops_peak(precision)
    # A product is multiply-adds: where it alone is known, or did better on a noisy machine, it is the ceiling.
    return Ceilings(product, max(product, device.multiply_add_peak(precision) or 0.0), device.bandwidth_peak())


class DeviceBroken(Exception):
    """A case has left the device unusable for this process."""


def measure_layer(
    request: Request, layer: Layer, algorithms: Sequence[Algorithm], device: Device, site: Site, listener: Listener
) -> Iterator[tuple[Row, Raw]]:
    """Measure algorithms on a layer, in turn; yield each row as soon as its case is finished.

    Raises DeviceBroken after the row of a case that broke a GPU's context.
    """
    problem = request.problem(layer)

    def as_row(case: Case) -> tuple[Row, Raw]:
        row = make_row(case, request, layer, site)
        listener.row(row)
        return row, samples_of(case)

    if reason := too_large(problem):
        for algorithm in algorithms:
            yield as_row(Case(algorithm, problem, "skipped", reason))
        return
    data = operands(problem, device, request.seed)
    cases = []
    for algorithm in algorithms:
        listener.opening(layer, algorithm)
        case = open_case(algorithm, data, device, request.cache, phases=request.phases)
        if case.alive:
            cases.append(case)
        else:
            yield as_row(case)
            check_health(case, device)

    def turn(case: Case) -> None:
        listener.timing(layer, case.algorithm)

    for case in measure(cases, data, device, request.budget, request.seed, turn):
        yield as_row(case)
        check_health(case, device)


def check_health(case: Case, device: Device) -> None:
    """After a failure, see whether the device still answers. Raises DeviceBroken."""
    if case.status == "failed":
        try:
            device.now()
        except Exception as error:
            raise DeviceBroken from error


def samples_of(case: Case) -> Raw:
    """A case's samples as they are written."""
    return [
        (number, case.loops, sample.seconds, sample.disturbed)
        for number, sample in zip(case.rounds, case.samples, strict=True)
    ]


class ResumeError(Exception):
    """A file that a request does not continue; the text says which option differs."""


def left_over(request: Request, site: Site, rows: Sequence[Row]) -> dict[str, list[Algorithm]]:
    """The algorithms of each layer that have no row yet. Raises ResumeError where rows were measured otherwise."""
    shapes = {layer.name: request.problem(layer).shape for layer in request.layers}
    same = {"net": request.net, "precision": request.precision, "cache": request.cache}
    same |= {name: site.facts[name] for name in ("device", "threads", "hardware")}
    for row in rows:
        for name, wanted in same.items():
            if getattr(row, name) != wanted:
                raise ResumeError(f"its rows have {name} {getattr(row, name)}, this run would have {wanted}")
        if row.layer in shapes and row.shape != str(shapes[row.layer]):
            raise ResumeError(f"its rows have batch {row.batch}, this run would have {shapes[row.layer].n}")
    have = {(row.layer, row.algo) for row in rows}
    return {
        layer.name: [algorithm for algorithm in request.algorithms if (layer.name, algorithm.name) not in have]
        for layer in request.layers
    }


def too_large(problem: Problem) -> str | None:
    """Why a problem's own arrays and their float64 reference do not fit this machine's memory, or None."""
    free = memory_available()
    shape = problem.shape
    padded = shape.n * shape.c * (shape.h + 2 * shape.pad[0]) * (shape.w + 2 * shape.pad[1])  # the reference pads
    needed = 2 * problem.bytes_min + 8 * (shape.elements + padded)
    if free is None or needed <= free:
        return None
    return (
        f"x, w, y and their reference take {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: "
        "use a smaller --batch or a machine with more memory"
    )


def make_row(case: Case, request: Request, layer: Layer, site: Site) -> Row:
    """All columns of a case."""
    shape, judgement = case.problem.shape, case.judgement
    return Row(
        run=request.run,
        when=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        net=request.net,
        layer=layer.name,
        shape=str(shape),
        direction=case.problem.direction,
        algo=case.algorithm.name,
        precision=case.problem.precision,
        batch=shape.n,
        cache=request.cache,
        seed=request.seed,
        status=case.status,
        note=" ".join(case.note.split()),
        first_ms=milli(case.first_s),
        prepare_ms=milli(case.prepare_s),
        gflop=shape.flops / 1e9,
        gflop_true=shape.flops_true / 1e9,
        gflop_executed=case.flops / 1e9 if case.flops else None,
        ceiling_gflops=site.tops.multiply_add / 1e9,
        ceiling_gbs=site.tops.bandwidth / 1e9,
        phases=phases_cell({name: 1e3 * seconds for name, seconds in case.phases.items()}),
        bytes_min=case.problem.bytes_min,
        workspace_bytes=case.workspace_bytes,
        prepared_bytes=case.prepared_bytes,
        peak_bytes=case.peak_bytes,
        error=judgement.error if judgement and not judgement.unwritten else None,
        error_max=judgement.error_max if judgement and not judgement.unwritten else None,
        **times(case, site.facts["device"], site.tops),
        **site.facts,
    )


def times(case: Case, kind: str, tops: Ceilings) -> dict[str, Any]:
    """The columns that come from the samples; all None where there are none."""
    columns: dict[str, Any] = dict.fromkeys(
        ("time_ms", "time_lo_ms", "time_hi_ms", "time_q1_ms", "time_q3_ms", "time_min_ms", "samples", "loops",
         "outliers", "disturbed", "converged", "time_hot_ms", "enqueue_ms", "sm_mhz",
         "joule", "gflops", "percent_of_peak", "gbs")
    )  # fmt: skip
    seconds = [sample.seconds for sample in case.samples]
    if not seconds:
        return columns
    summary = summarise(seconds)
    headline = summary.median
    if kind == "cuda" and headline < SHORT_ON_CUDA:
        headline = trimmed_mean(seconds)
    flops = case.problem.shape.flops / headline
    columns |= {
        "time_ms": milli(headline),
        "time_lo_ms": milli(min(summary.low, headline)),
        "time_hi_ms": milli(max(summary.high, headline)),
        "time_q1_ms": milli(summary.q1),
        "time_q3_ms": milli(summary.q3),
        "time_min_ms": milli(summary.least),
        "samples": summary.samples,
        "loops": case.loops,
        "outliers": summary.outliers,
        "disturbed": sum(sample.disturbed for sample in case.samples),
        "converged": converged(case),
        "time_hot_ms": milli(case.hot_s),
        "enqueue_ms": milli(_median_of(sample.enqueue_s for sample in case.samples)),
        "sm_mhz": _median_of(sample.sm_mhz for sample in case.samples),
        "joule": case.joule,
        "gflops": flops / 1e9,
        "percent_of_peak": 100 * flops / tops.product,
        "gbs": case.problem.bytes_min / headline / 1e9,
    }
    return columns


def milli(seconds: float | None) -> float | None:
    """Seconds in milliseconds."""
    return None if seconds is None else 1e3 * seconds


def _median_of(values: Iterator[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def exit_code(rows: Sequence[Row]) -> int:
    """5 where an answer was wrong; else 4 where a case failed or nothing at all was measured; else 0."""
    statuses = {row.status for row in rows}
    if "wrong" in statuses:
        return 5
    if statuses & {"failed", "timeout", "unstable"} or "ok" not in statuses:
        return 4
    return 0
