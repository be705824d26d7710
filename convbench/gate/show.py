"""The comparison as a person reads it in ten seconds: a table of 80 columns, worst first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convbench.gate.junit import one_line
from convbench.gate.outcome import BLOCKING, WORST_FIRST, CellResult, Outcome, Verdict, interval, percent, ratio, usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from convbench.gate.baseline import Stored

QUIET = ((Verdict.IMPROVED,), (Verdict.OK, Verdict.PASS))  # of each of these groups only the slowest are shown
QUIET_SHOWN = 8
NAME_WIDTH = 22  # columns of 80 a cell's name may take; longer ones are folded
STYLES = {
    Verdict.WRONG: "bold red",
    Verdict.FAIL: "bold red",
    Verdict.MISSING: "red",
    Verdict.UNSTABLE: "red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.IMPROVED: "green",
}


def outcome_table(outcome: Outcome) -> Table:
    """Cell, ratio, interval, verdict, what could have been detected, reason; cells that pass as far as they fit."""
    from rich.table import Table
    from rich.text import Text

    shown, _ = chosen(outcome)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    width = min(NAME_WIDTH, max((len(one_line(cell.cell)) for cell in shown), default=4))
    table.add_column("cell", overflow="fold", width=width)
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("interval", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    table.add_column("detects", justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold", min_width=12)
    for cell in shown:
        table.add_row(
            Text(one_line(cell.cell)), ratio(cell), interval(cell), str(cell.verdict), percent(cell.detectable),
            Text(one_line(cell.reason)), style=STYLES.get(cell.verdict, ""),
        )  # fmt: skip
    return table


def chosen(outcome: Outcome) -> tuple[list[CellResult], list[CellResult]]:
    """The cells worth a row, worst first, and those that only add up to a line."""
    groups = [[cell for cell in outcome.ordered if cell.verdict in group] for group in QUIET]
    rest = [cell for group in groups for cell in group[QUIET_SHOWN:]]
    hidden = {id(cell) for cell in rest}
    return [cell for cell in outcome.ordered if id(cell) not in hidden], rest


def rest_line(cells: Sequence[CellResult]) -> str:
    """The cells without a row in a line; empty where there are none."""
    if not cells:
        return ""
    ratios = sorted(value for value in (usable(cell.ratio) for cell in cells) if value)
    counts = ", ".join(f"{n} {v}" for v in WORST_FIRST if (n := sum(cell.verdict is v for cell in cells)))
    found = f"not shown: {counts}"
    return f"{found}; ratios {ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else found


def verdict_line(outcome: Outcome) -> tuple[str, str]:
    """The whole in one line, and its style."""
    style = STYLES.get(outcome.verdict, "bold green")
    return outcome.headline, "bold " + style.removeprefix("bold ") if outcome.verdict in BLOCKING else style


def print_outcome(console: Console, outcome: Outcome) -> None:
    """The table, the rest in a line, notes, and the verdict last, where the eye is."""
    if outcome.cells:
        console.print(outcome_table(outcome))
        console.print("ratio: head / base, 95 % interval; detects: the least slowdown it could find", style="dim")
    rest = rest_line(chosen(outcome)[1])
    if rest:
        console.print(rest, style="dim")
    for note in outcome.notes:
        console.print(f"note: {note}", markup=False, soft_wrap=True)
    text, style = verdict_line(outcome)
    console.print(text, style=style, markup=False, soft_wrap=True)


def stored_table(stored: Sequence[Stored]) -> Table:
    """The stored baselines."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("baseline", "hardware", "conditions", "cases", "measured", "commit"):
        table.add_column(name, overflow="fold", justify="right" if name == "cases" else "left")
    for one in stored:
        table.add_row(*map(Text, (str(one.path), one.hardware, one.conditions, str(one.cells), one.when, one.commits)))
    return table
