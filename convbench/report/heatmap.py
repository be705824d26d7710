"""How many times slower than the best: a layer x algorithm table in colours, a number or a status in each cell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from convbench.report import style
from convbench.report.series import Series, algorithms, common, time_of
from convbench.results import times

SHORT = {
    "unsupported": "n/a",
    "skipped": "skip",
    "wrong": "wrong",
    "failed": "fail",
    "timeout": "t.out",
    "unstable": "unst.",
}
LEAST_PIXELS = 36  # of a cell that holds a number
WORD_PIXELS = 84  # of a cell that holds a whole status word
SLOWEST = 100.0  # times slower at which the colour is darkest
ROW = 0.27  # inches
NAME = 28  # characters of an algorithm
FEWEST = 3  # cells across the page: fewer would only be wider


def slowdown(value: float) -> str:
    """Two digits behind the point below 10, none above."""
    return f"{value:.2f}" if value < 9.995 else f"{value:,.0f}"


def heat_chart(series: Sequence[Series]) -> Any:
    """The table in colours; the series side by side where they fit, else below one another."""
    names = algorithms(series)
    room = 820 - 7.0 * min(NAME, max(map(len, names)))
    most = max(len(s.layers) for s in series)
    columns = len(series) if room / (len(series) * most) >= LEAST_PIXELS else 1
    shown = [(s, layers) for s in series for layers in ([s.layers] if columns > 1 else _chunks(s.layers, room))]
    cells = max(FEWEST / columns, *(len(layers) for _, layers in shown))  # along the x axis of every panel
    pixels = room / columns / cells
    short = {} if pixels >= WORD_PIXELS else SHORT
    facts = f"{common(series)}\nTime over that of the layer's fastest valid algorithm (framed)."
    versus = any(s.library for s in series)
    facts += " Last line: the fastest library's time over the best of ours." if versus else ""
    used = {row.status for s in series for row in s.rows}
    words = [f"{mark}: {status}" for status, mark in short.items() if status in used and mark != status]
    facts += f" {', '.join(words)}." if words else ""
    # Panels side by side share their lines; one that stands alone has those it has something for.
    lines = [names if columns > 1 else algorithms([one]) for one, _ in shown]
    heights = [ROW * (len(of_panel) + versus) + 0.75 for of_panel in lines[::columns]]
    fig, axes = style.figure("Times slower than the layer's best", facts, heights, columns)
    for place, (ax, (one, layers), of_panel) in enumerate(zip(axes.flat, shown, lines, strict=True)):
        _table(ax, one, layers, of_panel, pixels, short)
        if versus:
            _versus_line(ax, one, layers, len(of_panel))
        ax.set_xlim(-0.5, cells - 0.5)
        ax.set_title(style.elided(one.label, 100 // columns) if layers[0] == one.layers[0] else "", pad=8)
        if place % columns:
            ax.set_yticklabels([])
    return fig


def _chunks(layers: Sequence[str], room: float) -> list[list[str]]:
    rows = math.ceil(len(layers) * LEAST_PIXELS / room)
    each = math.ceil(len(layers) / rows)
    return [list(layers[start : start + each]) for start in range(0, len(layers), each)]


def _table(
    ax: Any, one: Series, layers: Sequence[str], names: Sequence[str], pixels: float, short: dict[str, str]
) -> None:  # fmt: skip
    """One panel: a coloured square for each `ok` case, a hatched one with its status for each other."""
    import matplotlib
    from matplotlib.patches import Rectangle

    colours = matplotlib.colormaps["YlOrBr"]  # grows darker all the way: it reads the same in grey
    for i, layer in enumerate(layers):
        best = next(iter(one.ranked(layer)), None)
        for j, algo in enumerate(names):
            row = one.table.get((layer, algo))
            if row is None:
                continue
            square: dict[str, Any] = {
                "xy": (i - 0.5, j - 0.5),
                "width": 1,
                "height": 1,
                "edgecolor": "white",
                "linewidth": 1.2,
            }
            if row.status != "ok" or best is None:
                ax.add_patch(Rectangle(facecolor="#ececec", **square))
                ax.text(
                    i,
                    j,
                    short.get(row.status, row.status),
                    ha="center",
                    va="center",
                    fontsize=8,
                    style="italic",
                    color="#444444",
                )
                continue
            slower = time_of(row) / time_of(best)
            depth = min(1.0, math.log(slower) / math.log(SLOWEST))
            face = colours(0.03 + 0.9 * depth)
            ax.add_patch(Rectangle(facecolor=face, **square))
            ax.text(
                i, j, slowdown(slower), ha="center", va="center", fontsize=9 if pixels > 44 else 8,
                color="white" if style.is_dark(face) else "black", fontweight="bold" if row is best else "normal",
            )  # fmt: skip
            if row is best:
                frame = Rectangle(
                    (i - 0.45, j - 0.43), 0.9, 0.86, fill=False, edgecolor="black", linewidth=1.4, zorder=3
                )
                ax.add_patch(frame)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), [style.algorithm(name, NAME) for name in names])
    _name_columns(ax, layers, pixels)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _versus_line(ax: Any, one: Series, layers: Sequence[str], place: int) -> None:
    """Below the squares: the fastest library's time over the best of ours."""
    for i, layer in enumerate(layers):
        ax.text(i, place, times(one.versus(one.best(layer))), ha="center", va="center", fontsize=9, fontweight="bold")
    names = [label.get_text() for label in ax.get_yticklabels()]
    ax.set_yticks(range(place + 1), [*names, "ours vs library"])
    ax.set_ylim(place + 0.5, -0.5)


def _name_columns(ax: Any, layers: Sequence[str], pixels: float) -> None:
    """The layers' names above the columns, wrapped where that fits, else turned."""
    limit = max(5, int(pixels / 7.6))
    ax.xaxis.tick_top()
    texts = [style.wrapped(name, limit) for name in layers]
    if max(map(len, layers)) <= limit or (limit > 6 and all(t.count("\n") < 3 and "…" not in t for t in texts)):
        ax.set_xticks(range(len(layers)), texts)
    else:
        ax.set_xticks(
            range(len(layers)), [style.elided(name, 26) for name in layers], rotation=55, ha="left", va="bottom"
        )
        ax.tick_params(axis="x", pad=0)
