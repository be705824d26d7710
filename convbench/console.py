"""What the user sees in a terminal: progress, tables, warnings. With cli.py the only place that prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from convbench.algorithms.base import Algorithm
from convbench.layers import Layer
from convbench.measure.phases import UNMEASURED
from convbench.problem import Problem
from convbench.results import FAMILIES, LIBRARY, Row, fastest_library, times, versus
from convbench.units import counted, duration, error, like, size, three_digits

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID
    from rich.table import Table

NARROW, WIDE = 21, 27  # characters of an algorithm's name in a table with the library's ratio, and without
DISTURBED_SHARE = 0.1  # of a run's samples: above it the machine counts as noisy


def make_console() -> Console:
    """Standard output; colours and live progress only on a terminal, and no colours with NO_COLOR."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)


class Live:
    """A progress bar, time left, the case in hand and the layer's best so far; plain lines without a terminal."""

    def __init__(self, console: Console, cases: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = console
        self.best: Row | None = None
        self.progress: Progress | None = None
        self.done = 0
        self.cases = cases
        if console.is_terminal:
            self.progress = Progress(
                BarColumn(14), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
                console=console, transient=True, auto_refresh=False,  # no thread that draws while something is timed
            )  # fmt: skip
            # A case moves the bar twice: when it is opened and when it is finished.
            self.task: TaskID = self.progress.add_task("", total=2 * cases)

    def __enter__(self) -> Live:
        if self.progress:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def layer(self, layer: Layer, problem: Problem) -> None:
        """A layer begins."""
        self.best = None
        if not self.progress:
            self.console.print(f"{layer.name}: {problem.shape} {problem.precision}")

    def opening(self, layer: Layer, algorithm: Algorithm) -> None:
        """An algorithm is being prepared."""
        self._show(f"{layer.name} {algorithm.name}: preparing", advance=1)

    def timing(self, layer: Layer, algorithm: Algorithm) -> None:
        """It is an algorithm's turn to be timed."""
        self._show(f"{layer.name} {algorithm.name}{self._best()}")

    def row(self, row: Row) -> None:
        """A row is finished: show it, and the best so far."""
        self.done += 1
        if row.status == "ok" and (self.best is None or (row.time_ms or 0) < (self.best.time_ms or 0)):
            self.best = row
        if self.progress:
            self._show(f"{row.layer}{self._best()}", advance=1)
        else:
            self.console.print(f"  [{self.done}/{self.cases}] {row.algo}: {outcome(row)}", markup=False, soft_wrap=True)

    def _best(self) -> str:
        return f", best {self.best.algo} {duration(self.best.time_ms)}" if self.best else ""

    def _show(self, text: str, advance: int = 0) -> None:
        if self.progress:
            self.progress.update(self.task, description=text[:48], advance=advance)
            self.progress.refresh()


def outcome(row: Row) -> str:
    """A row in half a line; why it was skipped is told once, at the end."""
    if row.status == "skipped":
        return row.status
    if row.status != "ok":
        return f"{row.status}: {row.note}"
    return f"{duration(row.time_ms)}, {row.gflops:.1f} GFLOP/s, error {error(row.error)}"


def best_of_families(rows: Sequence[Row]) -> list[Row]:
    """For each layer and family the fastest `ok` row, or the first of those that are not; in a fixed order."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (f"{row.layer} {row.precision} {row.batch}", row.family)
        if key not in best or _rank(row) < _rank(best[key]):
            best[key] = row
    layers = list(dict.fromkeys(layer for layer, _ in best))
    families = [*FAMILIES, *sorted({family for _, family in best} - set(FAMILIES))]
    absent = {family for family in families if {row.status for row in rows if row.family == family} == {"skipped"}}
    absent = absent if absent < {row.family for row in rows} else set()  # not installed: the reason is told once below
    return [best[case, name] for case in layers for name in families if (case, name) in best and name not in absent]


def _rank(row: Row) -> tuple[bool, float]:
    return row.status != "ok", row.time_ms or float("inf")


def result_table(rows: Sequence[Row]) -> Table:
    """Layer x family, the best variant of each, the layer's winner marked with an asterisk.

    Beside a library each row says how many times faster it is than the fastest one; 80 columns hold it all.
    """
    from rich.table import Table

    library = fastest_library(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    heads = [("layer", "left"), ("algorithm", "left"), ("time", "right"), ("95 % interval", "right"),
             ("GFLOP/s", "right"), ("workspace", "right"), ("error", "right")]  # fmt: skip
    if library:
        heads[3:4] = [("interval", "right")]
        heads.append(("vs lib", "right"))
    for name, side in heads:
        table.add_column(name, justify=side, no_wrap=name not in ("layer",), overflow="fold")  # type: ignore[arg-type]
    shown = best_of_families(rows)
    last = ""
    for row in shown:
        rivals = [r for r in shown if r.layer == row.layer and r.status == "ok"]
        wins = row.status == "ok" and row is min(rivals, key=_rank)
        name = row.layer if row.layer != last else ""
        if name and last:
            table.add_section()
        last = row.layer
        algo = broken(row.algo.removeprefix(f"{LIBRARY}.") + " *" * wins, NARROW if library else WIDE)
        if row.status != "ok":
            style = "red" if row.status in ("wrong", "failed", "timeout") else "dim"
            table.add_row(name, algo, row.status, "", "", "", error(row.error), style=style)
            continue
        interval = f"{like(row.time_lo_ms, row.time_ms)} .. {like(row.time_hi_ms, row.time_ms)}"
        table.add_row(
            name, algo, duration(row.time_ms), interval, rate(row.gflops),
            size(row.workspace_bytes), error(row.error), *([times(versus(row, library))] if library else []),
            style="bold green" if wins else "",
        )  # fmt: skip
    return table


def broken(name: str, limit: int) -> str:
    """A name on lines of at most `limit` characters, each but the last ending in a dot or an underscore if it can."""
    if len(name) <= limit:
        return name
    cut = 1 + max(name.rfind(sign, 0, limit) for sign in "._") or limit
    return f"{name[:cut]}\n{broken(name[cut:], limit)}"


def rate(gflops: float | None) -> str:
    """GFLOP/s with one digit behind the point where there is room for it."""
    return "" if gflops is None else f"{gflops:.1f}" if gflops < 9999.95 else f"{gflops:.0f}"


def phase_table(rows: Sequence[Row]) -> Table:
    """A line for each phase of the rows that have them: ms, and its share of them all."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name, side in (("layer", "left"), ("algorithm", "left"), ("phase", "left"), ("ms", "right"),
                       ("share", "right")):  # fmt: skip
        table.add_column(name, justify=side, no_wrap=side == "right", overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        phases = row.phase_ms
        whole = sum(phases.values()) or 1.0
        for place, (name, ms) in enumerate(phases.items()):
            heads = ("", "") if place else (row.layer, row.algo)
            table.add_row(*heads, name, f"{ms:.4f}" if ms < 0.1 else three_digits(ms), f"{100 * ms / whole:.0f} %")
    return table


def advice(rows: Sequence[Row]) -> list[str]:
    """What about these rows should make one careful, each with what to do about it."""
    told = []
    timed = [row for row in rows if row.status == "ok"]
    loose = [row for row in timed if not row.converged]
    if loose:
        worst = max(loose, key=lambda row: ((row.time_hi_ms or 0) - (row.time_lo_ms or 0)) / (row.time_ms or 1))
        told.append(
            f"{len(loose)} of {len(timed)} times are not known to 1 % (worst: {worst.layer} {worst.algo}); "
            "give them longer with --budget"
        )
    samples, disturbed = (sum(getattr(row, name) or 0 for row in timed) for name in ("samples", "disturbed"))
    if disturbed > DISTURBED_SHARE * samples:
        told.append(
            f"noisy machine: {disturbed} of {samples} samples lost time to other processes or to the hypervisor; "
            "stop what else runs, or compare only what was measured in one run"
        )
    return told + [f"{row.layer} {row.algo}: {row.note}" for row in timed if UNMEASURED in row.note]


def reasons(rows: Sequence[Row]) -> list[str]:
    """Why rows are not ok, a line for each; one line for all that were left out for the same reason."""
    lines: dict[str, None] = {}
    for row in rows:
        if row.status in ("skipped", "unsupported"):
            same = [r for r in rows if (r.status, r.note) == (row.status, row.note)]
            layers, algos = (list(dict.fromkeys(getattr(r, name) for r in same)) for name in ("layer", "algo"))
            where = layers[0] if len(layers) == 1 else f"on {len(layers)} layers"
            lines[f"{row.status}: {where} {', '.join(algos)}: {row.note}"] = None
        elif row.status != "ok":
            lines[f"{row.status}: {row.layer} {row.algo}: {row.note}"] = None
    return list(lines)


def print_end(console: Console, rows: Sequence[Row], warnings: Iterable[str], path: object) -> None:
    """The table, the reasons of rows that are not ok, warnings, and where the CSV is."""
    console.print()
    console.print(result_table(rows))
    console.print("* fastest of its layer; the best variant of each family is shown", style="dim")
    if fastest_library(rows):
        console.print("vs lib: the time of the layer's fastest library over this one; intervals of 95 %", style="dim")
    if any(row.phases for row in rows):
        console.print()
        console.print(phase_table(rows))
    for line in reasons(rows):
        console.print(line, markup=False, soft_wrap=not line.startswith("skipped"))
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    console.print(f"{counted(len(rows), 'row')} in {path}", markup=False, soft_wrap=True)
