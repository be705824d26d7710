"""Correctness only: every algorithm on every layer and on random odd shapes, judged against float64."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convbench.algorithms.base import Algorithm
from convbench.console import make_console
from convbench.devices.base import Device
from convbench.layers import Layer
from convbench.measure.case import Case, open_case, operands
from convbench.problem import Problem
from convbench.shapes import ConvShape, ShapeError
from convbench.sweep import too_large
from convbench.units import error

if TYPE_CHECKING:
    from rich.table import Table

OTHER_COLUMNS = (
    33  # characters of a table beside its layers: names of algorithms, which may be folded, and random shapes
)
LEAST_COLUMN = len("3e-7 ")
LEFT_OUT = ("skipped", "unsupported")
INTERRUPTED = 130


@dataclass
class Tally:
    """One algorithm's outcomes: its error on each layer, and all its cases on random shapes."""

    layers: dict[str, Case] = field(default_factory=dict)
    random: list[Case] = field(default_factory=list)


def random_shape(rng: random.Random) -> ConvShape:
    """A small odd convolution: stride, padding beyond the filter, dilation, groups, rectangles, one-pixel outputs."""

    def pair(low: int, high: int, usual: int) -> tuple[int, int]:
        if rng.random() < 0.4:
            return usual, usual
        return rng.randint(low, high), rng.randint(low, high)

    while True:
        groups = rng.choice((1, 1, 1, 2, 3))
        small = rng.random() < 0.2  # filters as large as the image
        r, s = rng.randint(1, 7), rng.randint(1, 7)
        h, w = (r, s) if small else (rng.randint(1, 24), rng.randint(1, 24))
        try:
            return ConvShape(
                rng.choice((1, 1, 2, 3, 5)), groups * rng.randint(1, 9), h, w, groups * rng.randint(1, 11), r, s,
                pair(1, 4, 1), pair(0, 8, 0), pair(1, 3, 1), groups,
            )  # fmt: skip
        except ShapeError:
            continue


Asked = tuple[str | None, ConvShape]  # a layer's name (None: a random shape), and its convolution


def problems_of(layers: Sequence[Layer], batch: int, shapes: int, seed: int) -> list[Asked]:
    """The layers at that batch (0: as they say), then so many random shapes."""
    rng = random.Random(seed)
    found: list[Asked] = [(layer.name, layer.shape.with_batch(batch or layer.shape.n)) for layer in layers]
    return found + [(None, random_shape(rng)) for _ in range(shapes)]


def verify(
    problems: Iterable[Asked], algorithms: Sequence[Algorithm], device: Device, precision: str, seed: int,
    tallies: dict[str, Tally],
) -> None:  # fmt: skip
    """Every algorithm on every problem, into its tally; nothing is timed or weighed."""
    for name, shape in problems:
        problem = Problem(shape, precision)
        reason = too_large(problem)
        data = None if reason else operands(problem, device, seed)
        for algorithm in algorithms:
            case = Case(algorithm, problem, "skipped", reason or "")
            if data:
                case = open_case(algorithm, data, device, device.caches[0], weigh=False)
            case.release()
            tally = tallies[algorithm.name]
            if name is None:
                tally.random.append(case)
            else:
                tally.layers[name] = case


def error_text(case: Case) -> str:
    """The error where there is one, a dash for what was not to be done (the reason stands below), else the status."""
    if case.status == "ok" and case.judgement:
        return error(case.judgement.error, 0)
    return "-" if case.status in LEFT_OUT else case.status


def side_by_side(layers: Sequence[Layer], width: int) -> list[list[Layer]]:
    """The layers of each table, as many as so many characters hold; one table where there are none."""
    tables, taken = [list[Layer]()], 0
    for layer in layers:
        characters = max(len(layer.name) + 1, LEAST_COLUMN)
        if tables[-1] and taken + characters > width:
            tables.append([])
            taken = 0
        tables[-1].append(layer)
        taken += characters
    return tables


def error_table(layers: Sequence[Layer], tallies: dict[str, Tally]) -> Table:
    """Algorithms down, layers across, and what came out on random shapes."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(
        "error", overflow="fold"
    )  # alone gives way where a terminal is narrow: names are long, figures short
    for layer in layers:
        table.add_column(layer.name, justify="right", no_wrap=True)
    table.add_column("random", justify="right", no_wrap=True)
    table.add_column("ok", justify="right", no_wrap=True)
    for name, tally in tallies.items():
        good = [case for case in tally.random if case.status == "ok"]
        worst = max((case.judgement.error for case in good if case.judgement), default=None)
        cells = [error_text(tally.layers[layer.name]) if layer.name in tally.layers else "" for layer in layers]
        table.add_row(name, *cells, error(worst, 0), f"{len(good)}/{len(tally.random)}")
    return table


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM, a time limit's or a supervisor's, raises KeyboardInterrupt as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def print_verification(
    layers: Sequence[Layer], algorithms: Sequence[Algorithm], device: Device, precision: str, batch: int, shapes: int,
    seed: int,
) -> int:  # fmt: skip
    """Verify, show the table and every reason; the exit code: 5 for wrong answers, 4 for failures, else 0.

    Interrupted, by Ctrl-C or by SIGTERM, it shows what it has; the exit code is then 130.
    """
    from rich.progress import track

    console = make_console()
    console.print(f"{device.kind}: {device.hardware}; {precision}; {shapes} random shapes of seed {seed}", markup=False)
    problems = problems_of(layers, batch, shapes, seed)
    tallies = {algorithm.name: Tally() for algorithm in algorithms}
    interrupted = False
    try:
        shown = track(problems, "checking", console=console, transient=True, disable=not console.is_terminal)
        with terminable():
            verify(shown, algorithms, device, precision, seed, tallies)
    except KeyboardInterrupt:
        interrupted = True
    for some in side_by_side(layers, console.width - OTHER_COLUMNS):
        console.print(error_table(some, tallies))
    cases = [case for tally in tallies.values() for case in (*tally.layers.values(), *tally.random)]
    left_out: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        if case.status in LEFT_OUT:
            left_out.setdefault((case.status, case.note), []).append(case)
        elif case.status != "ok":
            console.print(
                f"{case.status}: {case.algorithm.name} on {case.problem.shape}: {case.note}",
                markup=False,
                soft_wrap=True,
            )
    for (status, note), same in left_out.items():
        names = ", ".join(dict.fromkeys(case.algorithm.name for case in same))
        where = f"on {same[0].problem.shape}" if len({case.problem for case in same}) == 1 else f"in {len(same)} cases"
        console.print(f"{status}: {names} {where}: {note}", markup=False)
    counts = {
        status: sum(case.status == status for case in cases) for status in sorted({case.status for case in cases})
    }
    console.print(", ".join(f"{count} {status}" for status, count in counts.items()))
    if interrupted:
        console.print(f"interrupted: of {len(problems) * len(algorithms)} cases {len(cases)} were checked")
        return INTERRUPTED
    if counts.get("wrong"):
        return 5
    return 4 if counts.get("failed") or not counts.get("ok") else 0
