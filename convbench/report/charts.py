"""Charts with the layers along the x axis and a mark for each algorithm: time, GFLOP/s, memory, and series compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from convbench.report import style
from convbench.report.series import Series, algorithms, common, input_bytes, time_of
from convbench.results import Row
from convbench.units import counted

PLOT_PIXELS = 760  # of the 850 that remain beside the y axis
SLOT_PIXELS = 7.5  # that a mark needs at least
PANEL = 2.7  # inches
Point = Callable[[str, str], tuple[float, float, float] | None]  # (layer, item) -> value, low, high


def rows_of_layers(layers: Sequence[str], items: int) -> list[list[str]]:
    """The layers in as many rows of a chart as their marks and names need, about equally many in each."""
    label = max(len(line) for name in layers for line in style.wrapped(name).split("\n"))
    pixels = max(SLOT_PIXELS * (items + 1.5), 7.2 * label + 6)
    rows = math.ceil(len(layers) / max(1, int(PLOT_PIXELS / pixels)))
    each = math.ceil(len(layers) / rows)
    return [list(layers[start : start + each]) for start in range(0, len(layers), each)]


def panels(series: Sequence[Series], items: int) -> list[tuple[Series, str, list[str]]]:
    """A panel for each series and row of layers: (series, title, layers)."""
    found = []
    for one in series:
        for number, layers in enumerate(rows_of_layers(one.layers, items)):
            found.append((one, one.label if number == 0 else "", layers))
    return found


def dots(ax: Any, layers: Sequence[str], looks: dict[str, style.Look], point: Point, stems: bool = False) -> None:
    """For each layer the items' marks next to one another, with intervals where they differ from the value."""
    step = min(0.86 / len(looks), 0.16)
    size = min(7.0, max(3.6, 0.72 * 0.78 * step * PLOT_PIXELS / len(layers)))
    for place, (item, look) in enumerate(looks.items()):
        points = [(i + (place - (len(looks) - 1) / 2) * step, point(layer, item)) for i, layer in enumerate(layers)]
        drawn = [(x, *p) for x, p in points if p]
        if not drawn:
            continue
        xs, values, lows, highs = zip(*drawn, strict=True)
        if stems:
            ax.vlines(xs, 0, values, color=look.colour, linewidth=0.9, alpha=0.55, zorder=2)
        ax.vlines(xs, lows, highs, color=look.colour, linewidth=1.3, zorder=3)
        ax.plot(xs, values, zorder=4, clip_on=False, **look.marks(size))
    for i in range(0, len(layers), 2):
        ax.axvspan(i - 0.5, i + 0.5, color=style.BAND, zorder=0, linewidth=0)
    ax.set_xlim(-0.5, len(layers) - 0.5)
    ax.set_xticks(range(len(layers)), [style.wrapped(name) for name in layers])
    ax.tick_params(axis="x", length=0)
    ax.grid(axis="y")


def key(fig: Any, looks: dict[str, style.Look], more: Sequence[tuple[Any, str]] = ()) -> None:
    """The legend of all items, and of lines that need a name."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], **look.marks(7)) for look in looks.values()]
    names = [style.elided(name, 80) for name in looks]
    style.legend(fig, [*handles, *(handle for handle, _ in more)], [*names, *(name for _, name in more)])


def left_out(series: Sequence[Series]) -> str:
    """How many cases are not drawn because their time means nothing."""
    count = sum(row.status != "ok" for s in series for row in s.rows)
    return f" {counted(count, 'case')} without a valid result not drawn (see the tables)." if count else ""


def _heights(count: int) -> list[float]:
    return [3.6 if count == 1 else PANEL] * count


def _times(row: Row, scale: float = 1) -> tuple[float, float, float]:
    time = time_of(row)
    return scale * time, scale * (row.time_lo_ms or time), scale * (row.time_hi_ms or time)


def _of(one: Series, what: Callable[[Row], tuple[float, float, float] | None]) -> Point:
    def point(layer: str, algo: str) -> tuple[float, float, float] | None:
        row = one.ok(layer, algo)
        return what(row) if row else None

    return point


def time_chart(series: Sequence[Series]) -> Any:
    """Time by layer and algorithm with 95 % intervals, one scale for all panels."""
    looks = style.looks(algorithms(series, only_ok=True))
    shown = panels(series, len(looks))
    facts = f"{common(series)}\nMedian of a call; the bar is its 95 % interval. Lower is better.{left_out(series)}"
    fig, axes = style.figure("Time by layer and algorithm", facts, _heights(len(shown)))
    spans = [_times(row) for s in series for row in s.rows if row.status == "ok"]
    for ax, (one, title, layers) in zip(axes.flat, shown, strict=True):
        dots(ax, layers, looks, _of(one, _times))
        style.log_scale(ax.yaxis, min(s[1] for s in spans), max(s[2] for s in spans))
        ax.set_ylabel("time of a call, ms")
        ax.set_title(title)
    key(fig, looks)
    return fig


def throughput_chart(series: Sequence[Series]) -> Any:
    """Effective GFLOP/s by layer and algorithm, with the measured peak."""
    from matplotlib.lines import Line2D

    looks = style.looks(algorithms(series, only_ok=True))
    shown = panels(series, len(looks))
    facts = (
        f"{common(series)}\nNominal FLOPs (2 N K P Q C/g R S) over time: Winograd and FFT can do fewer, and pass the "
        f"peak, which is that of a large matrix product in the same run. Higher is better.{left_out(series)}"
    )
    fig, axes = style.figure("Effective GFLOP/s by layer and algorithm", facts, _heights(len(shown)))

    def speeds(row: Row) -> tuple[float, float, float] | None:
        time, low, high = _times(row)
        return (row.gflops, row.gflops * time / high, row.gflops * time / low) if row.gflops else None

    for ax, (one, title, layers) in zip(axes.flat, shown, strict=True):
        dots(ax, layers, looks, _of(one, speeds), stems=True)
        found = [value[2] for row in one.rows if row.status == "ok" and (value := speeds(row))]
        for peak in {one.peaks[0], one.peaks[-1]} if one.peaks else ():
            ax.axhline(peak, color=style.DARK, linewidth=1.3, linestyle=(0, (5, 2)), zorder=2)
        ax.set_ylim(0, 1.08 * max([*found, *one.peaks, 1e-9]))
        ax.set_ylabel("effective GFLOP/s")
        ax.set_title(title)
        if one.peaks and title == one.label:
            span = " to ".join(f"{peak:,.0f}" for peak in sorted({one.peaks[0], one.peaks[-1]}))
            ax.set_title(f"measured peak {span} GFLOP/s", loc="right", fontweight="normal", fontsize=9)
    peak_line = Line2D([], [], color=style.DARK, linewidth=1.3, linestyle=(0, (5, 2)))
    key(fig, looks, [(peak_line, "measured peak")] if any(s.peaks for s in series) else ())
    return fig


def memory_chart(series: Sequence[Series]) -> Any:
    """Declared workspace and measured peak by layer and algorithm, with the size of the input."""
    from matplotlib.lines import Line2D

    looks = style.looks(algorithms(series, only_ok=True))
    shown = [
        (one, f"{what}{', ' if title else ''}{title}", layers, column)
        for what, column in (("declared workspace", "workspace_bytes"), ("measured peak", "peak_bytes"))
        for one, title, layers in panels(series, len(looks))
    ]
    facts = (
        f"{common(series)}\nBytes beyond x, w and y. Workspace: what the plan says a call needs. Peak: measured at the "
        f"worst moment of planning, preparing the filters and one call. Lower is better.{left_out(series)}"
    )
    fig, axes = style.figure(
        "Memory by layer and algorithm, against the size of the input", facts, [PANEL] * len(shown)
    )
    rows = [row for s in series for row in s.rows if row.status == "ok"]
    sizes = [n for row in rows for n in (row.workspace_bytes, row.peak_bytes, input_bytes(row)) if n]
    low, high = min(sizes, default=1e3), max(sizes, default=1e6)
    zeros = any(0 in (row.workspace_bytes, row.peak_bytes) for row in rows)
    # A logarithmic axis has no 0: it is drawn, and the tick so named, a decade below the least.
    nothing = 10 ** (math.floor(math.log10(low)) - 1) if zeros else 0.0
    for ax, (one, title, layers, column) in zip(axes.flat, shown, strict=True):

        def taken(row: Row, column: str = column) -> tuple[float, float, float] | None:
            count = getattr(row, column)
            return None if count is None else (count or nothing,) * 3

        dots(ax, layers, looks, _of(one, taken))
        style.log_scale(ax.yaxis, nothing or low, high, lambda v: "0" if v < 2 * nothing else style.bytes_tick(v))
        for i, layer in enumerate(layers):
            own = next((input_bytes(row) for row in one.rows if row.layer == layer), None)
            if own:
                ax.hlines(own, i - 0.47, i + 0.47, color=style.DARK, linewidth=1.6, zorder=3)
        ax.set_ylabel("bytes")
        ax.set_title(title)
    key(fig, looks, [(Line2D([], [], color=style.DARK, linewidth=1.6), "the input x itself")])
    return fig


def comparison_chart(series: Sequence[Series]) -> Any | None:
    """The best of each layer of all series next to one another, per image; None where there is only one series."""
    layers = list(dict.fromkeys(layer for s in series for layer in s.layers if s.best(layer)))
    by_label = {s.label: s for s in series}
    if len(series) < 2:
        return None
    looks = {}
    colours = [*style.LOOKS.values(), *style.OTHERS]
    for place, label in enumerate(by_label):
        colour, marker, _ = colours[place % len(colours)]
        looks[label] = style.Look(colour, "white" if place % 2 else colour, marker, "full")

    def best(layer: str, label: str) -> tuple[float, float, float] | None:
        row = by_label[label].best(layer)
        return _times(row, 1 / row.batch) if row else None

    rows = rows_of_layers(layers, len(looks))
    facts = (
        f"{common(series)}\nThe fastest valid algorithm of each layer; median with its 95 % interval. Lower is better."
    )
    fig, axes = style.figure("Side by side: the best of each layer, time per image", facts, _heights(len(rows)))
    spans = [p for layer in layers for label in by_label if (p := best(layer, label))]
    for ax, chunk in zip(axes.flat, rows, strict=True):
        dots(ax, chunk, looks, best)
        style.log_scale(ax.yaxis, min(p[1] for p in spans), max(p[2] for p in spans))
        ax.set_ylabel("time per image, ms")
    key(fig, looks)
    return fig
