"""The forest plot: each cell's ratio with its interval, worst first, beside 1.0 and the threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convbench.gate.junit import one_line
from convbench.gate.outcome import WORST_FIRST, CellResult, GateError, Outcome, Verdict, percent, usable
from convbench.report import style
from convbench.report.series import short_hardware

ROW = 0.2  # inches a cell
SHOWN = 80  # cells; more are more than anybody reads
NAME_LIMIT = 44  # characters of a cell's name
# Okabe & Ito, as in the report; the shape says the same once more, for grey printers. (colour, marker, filled)
LOOKS = {
    Verdict.WRONG: ("#000000", "X", True),
    Verdict.FAIL: ("#D55E00", ">", True),
    Verdict.MISSING: ("#000000", "x", True),
    Verdict.UNSTABLE: ("#CC79A7", "*", True),
    Verdict.INCONCLUSIVE: ("#E69F00", "D", False),
    Verdict.IMPROVED: ("#009E73", "<", True),
    Verdict.OK: ("#0072B2", "o", False),
    Verdict.PASS: ("#0072B2", "o", True),
}
# Possible ticks of the ratio's axis; as many are used as are wide enough apart.
TICKS = (1, 0.5, 2, 0.1, 10, 0.2, 5, 0.9, 1.1, 0.8, 1.25, 1.5, 0.7, 0.95, 1.05, 3, 0.3, 0.6, 1.2, 0.85, 1.15, 0.98,
         1.02, 0.4, 7, 20, 50, 100, 0.05, 0.02, 0.01)  # fmt: skip
TICKS_WIDE = 12  # that many fit


def save_plot(outcome: Outcome, path: Path) -> list[Path]:
    """Draw the forest plot as `<path>.svg` and `<path>.png`, whatever suffix the path has. Raises GateError."""
    import matplotlib

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(style.RC):
            return style.save(forest(outcome), path.parent, path.stem)
    except OSError as error:
        raise GateError(f"cannot write {path}: {error.strerror or error}; choose another --plot") from None


def forest(outcome: Outcome) -> Any:
    """The figure."""
    cells = outcome.ordered[:SHOWN]
    limits = span(outcome, cells)
    head, base = (literal(style.elided(side, 30)) for side in (outcome.head, outcome.base))
    title = f"{outcome.kind}: {outcome.verdict}, {head} against {base}"
    fig, axes = style.figure(title, facts(outcome, len(cells)), [ROW * max(len(cells), 1) + 0.55])
    ax = axes[0, 0]
    for place in range(0, len(cells), 2):
        ax.axhspan(place - 0.5, place + 0.5, color=style.BAND, zorder=0, linewidth=0)
    ax.axvline(1, color=style.DARK, linewidth=1.2, zorder=1)
    if outcome.threshold:
        ax.axvline(1 + outcome.threshold, color=style.DARK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    for place, cell in enumerate(cells):
        draw(ax, place, cell)
    ax.set_ylim(max(len(cells), 1) - 0.5, -0.5)
    ax.set_yticks(range(len(cells)), [literal(style.elided(cell.cell, NAME_LIMIT)) for cell in cells])
    ax.tick_params(axis="y", length=0)
    axis(ax, limits)
    if not cells:
        ax.text(0.5, 0.5, "no cell was compared", transform=ax.transAxes, ha="center", va="center")
    key(fig, outcome, cells)
    return fig


def literal(text: str) -> str:
    """One line of text that an SVG can hold, and in which a dollar is no mathematics."""
    return one_line(text).replace("$", r"\$")


def facts(outcome: Outcome, shown: int) -> str:
    """What the reader must know to read it."""
    hardware = f"{short_hardware(outcome.hardware)}. " if outcome.hardware else ""
    more = f" The worst {shown} of {len(outcome.cells)} cells." if shown < len(outcome.cells) else ""
    return f"{hardware}Time of head over time of base; the bar is its 95 % interval. Left of 1 is faster.{more}"


def span(outcome: Outcome, cells: Sequence[CellResult]) -> tuple[float, float]:
    """The ends of the axis: all intervals, 1 and the threshold, with air."""
    values = [1.0, 1 + (outcome.threshold or 0.1), 0.95]
    values += [value for cell in cells for value in map(usable, (cell.ratio, cell.low, cell.high)) if value]
    air = max((max(values) / min(values)) ** 0.06, 1.02)
    return min(values) / air, max(values) * air


def draw(ax: Any, place: int, cell: CellResult) -> None:
    """A cell: bar and mark, or in words why there is none."""
    colour, marker, filled = LOOKS[cell.verdict]
    middle, low, high = usable(cell.ratio), usable(cell.low), usable(cell.high)
    if middle is None:
        text = style.elided(f"{cell.verdict}: {cell.reason}" if cell.reason else str(cell.verdict), 70)
        ax.annotate(
            literal(text), (0, place), (6, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
            va="center", fontsize=8.5, color=colour,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )  # fmt: skip
        return
    if low and high:
        ax.plot([low, high], [place, place], color=colour, linewidth=1.8, solid_capstyle="butt", zorder=3)
    ax.plot([middle], [place], **mark(colour, marker, filled), zorder=4)


def mark(colour: str, marker: str, filled: bool) -> dict[str, Any]:
    """The keywords of `Axes.plot` for a verdict's mark."""
    return {
        "marker": marker, "markersize": 9 if marker == "*" else 6.5, "linestyle": "none", "markeredgecolor": colour,
        "markerfacecolor": colour if filled else "white", "markeredgewidth": 1.3, "color": colour,
    }  # fmt: skip


def axis(ax: Any, limits: tuple[float, float]) -> None:
    """A logarithmic axis, on which half as fast and twice as fast are equally far, with plain numbers on it."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low, high = limits
    ax.set_xscale("log")
    ax.set_xlim(low, high)
    least = math.log(high / low) / TICKS_WIDE
    ticks: list[float] = []
    for tick in TICKS:
        if low <= tick <= high and all(abs(math.log(tick / other)) > least for other in ticks):
            ticks.append(tick)
    ax.xaxis.set_major_locator(FixedLocator(sorted(ticks)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("time ratio, head / base")
    ax.grid(axis="x")


def key(fig: Any, outcome: Outcome, cells: Sequence[CellResult]) -> None:
    """The legend: the verdicts that are there."""
    from matplotlib.lines import Line2D

    present = [v for v in WORST_FIRST if any(cell.verdict is v and usable(cell.ratio) for cell in cells)]
    handles = [Line2D([], [], **mark(*LOOKS[verdict])) for verdict in present]
    names = [str(verdict) for verdict in present]
    if outcome.threshold:
        handles.append(Line2D([], [], color=style.DARK, linewidth=1.2, linestyle=(0, (4, 3))))
        names.append(f"{percent(outcome.threshold)} slower")
    if handles:
        style.legend(fig, handles, names)
