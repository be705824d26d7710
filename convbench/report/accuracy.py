"""Accuracy: against speed, a name at every algorithm's mark; and layer by layer, beside the library's own error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convbench.problem import PRECISIONS
from convbench.report import style
from convbench.report.charts import PANEL, dots, key, left_out, panels
from convbench.report.places import name_marks
from convbench.report.series import LIBRARY, Series, algorithms, common, time_of
from convbench.results import Row
from convbench.stats import geometric_mean
from convbench.units import counted

LEAST_ERROR = 1e-17  # below float64's rounding: where an error of 0 is drawn on a logarithmic axis
SCATTER, SCATTERS = 4.6, 3.9  # inches of the panel; of each of several
NAMED = 16  # names the scatter has room for
# Of the library's algorithms, in turn; then again, paler.
TICKS = ("-", (0, (3, 1.2)), (0, (1, 1)), (0, (5, 1, 1, 1)), (0, (6, 2.5)))
PALER = 0.45  # of white
Points = dict[str, list[tuple[float, float]]]


def accuracy_chart(series: Sequence[Series]) -> Any:
    """Error against slowdown, geometric means over the layers; then the error of each layer. The library's as lines."""
    names = algorithms(series, only_ok=True)
    looks = style.looks(names)
    library = [name for name in names if name.partition(".")[0] == LIBRARY]
    own = {name: look for name, look in looks.items() if name not in library}
    by_layer = panels(series, len(own)) if own else []
    facts = (
        f"{common(series)}\nAgainst float64. Upper part: geometric mean over the layers an algorithm has a valid "
        f"result for; faint: each layer; best is lower left. Lower part: each layer.{left_out(series)}"
    )
    if library:
        facts += " Grey lines: the library's own error."
    heights = [SCATTER if len(series) == 1 else SCATTERS] * len(series) + [PANEL] * len(by_layer)
    fig, axes = style.figure("Accuracy, against speed and by layer", facts, heights)
    points = {one.label: _points(one) for one in series}
    everything = [p for by_algo in points.values() for ps in by_algo.values() for p in ps]
    slowest = max([slow for slow, _ in everything] + [5])
    errors = [error for _, error in everything] + [t for one in series if (t := _tolerance(one))]
    scatters, below = axes.flat[: len(series)], axes.flat[len(series) :]
    for ax, one in zip(scatters, series, strict=True):
        style.log_scale(ax.xaxis, 0.85, slowest)
        _scatter(ax, one, points[one.label], looks, errors)
        ax.set_xlabel("time, × the layer's best (1 = fastest)")
    for ax, (one, title, layers) in zip(below, by_layer, strict=True):
        _layers(ax, one, layers, own, library, errors)
        ax.set_title(title)
    key(fig, own, [(_tick(place), name) for place, name in enumerate(library)])
    fig.draw_without_rendering()  # the panels get their places, so that names can be placed by pixels
    for ax, one in zip(scatters, series, strict=True):
        _name(ax, one, points[one.label], looks)
    return fig


def _tolerance(one: Series) -> float | None:
    return PRECISIONS[one.first.precision].tolerance if one.first.precision in PRECISIONS else None


def _points(one: Series) -> Points:
    """For each algorithm (times slower than the layer's best, error) of its layers."""
    found: Points = {}
    for layer in one.layers:
        ranked = one.ranked(layer)
        for row in ranked:
            error = _error(row)
            if error:
                found.setdefault(row.algo, []).append((time_of(row) / time_of(ranked[0]), error))
    return found


def _error(row: Row) -> float | None:
    """The error as it is drawn."""
    return max(row.error, LEAST_ERROR) if row.error is not None and row.error == row.error else None


def _means(points: Points) -> dict[str, tuple[float, float]]:
    return {
        algo: (geometric_mean([slower for slower, _ in own]), geometric_mean([error for _, error in own]))
        for algo, own in points.items()
    }


def named(means: Mapping[str, tuple[float, float]]) -> list[str]:
    """Whose marks get a name: where there is no room for all, those that nobody beats in both, and each family's best.

    The library's are named in any case.
    """
    if len(means) <= NAMED:
        return list(means)
    front = [
        algo for algo, (slow, error) in means.items() if not any(s < slow and e < error for s, e in means.values())
    ]
    families = {algo.partition(".")[0] for algo in means}
    best = [min((algo for algo in means if algo.partition(".")[0] == f), key=lambda a: means[a]) for f in families]
    return [algo for algo in means if algo in front or algo in best or algo.partition(".")[0] == LIBRARY]


def _tick(place: int) -> Any:
    """The legend's line of the library's algorithm number `place`."""
    from matplotlib.lines import Line2D

    return Line2D([], [], **_line(place))


def _line(place: int) -> dict[str, Any]:
    colour = style.mix(style.LOOKS[LIBRARY][0], min(1, place // len(TICKS)) * PALER)
    return {"color": colour, "linewidth": 1.6, "linestyle": TICKS[place % len(TICKS)]}


def _errors(ax: Any, one: Series, errors: Sequence[float]) -> None:
    """The logarithmic axis of errors, the same in all panels, with the tolerance."""
    style.log_scale(ax.yaxis, min(errors, default=1e-7), 1.6 * max(errors, default=1e-5), style.power)
    ax.set_ylabel("error  ‖y − ref‖ / ‖ref‖")
    if tolerance := _tolerance(one):
        ax.axhline(tolerance, color=style.DARK, linewidth=1.3, linestyle=(0, (5, 2)))
        note = f"tolerance of {one.first.precision}: {style.power(tolerance)}"
        ax.annotate(note, (0.995, tolerance), (0, 3), ax.get_yaxis_transform(), "offset points", ha="right", fontsize=9)


def _scatter(ax: Any, one: Series, points: Points, looks: dict[str, style.Look], errors: Sequence[float]) -> None:
    _errors(ax, one, errors)
    ax.grid()
    ax.set_title(one.label)
    for algo, own in points.items():
        ax.plot(*zip(*own, strict=True), zorder=2, alpha=0.3, **looks[algo].marks(3.6))
    for algo, mean in _means(points).items():
        ax.plot(*mean, zorder=5, **looks[algo].marks(9))
        if algo.partition(".")[0] == LIBRARY:
            ax.axhline(mean[1], color=looks[algo].colour, linewidth=0.9, alpha=0.55, zorder=1)


def _layers(
    ax: Any, one: Series, layers: Sequence[str], looks: dict[str, style.Look], library: Sequence[str],
    errors: Sequence[float],
) -> None:  # fmt: skip
    """One panel: in each layer's band the variants' errors as marks, the library's as lines across it."""

    def point(layer: str, algo: str) -> tuple[float, float, float] | None:
        row = one.ok(layer, algo)
        error = _error(row) if row else None
        return (error, error, error) if error else None

    dots(ax, layers, looks, point)
    _errors(ax, one, errors)
    for i, layer in enumerate(layers):
        for place, algo in enumerate(library):
            if found := point(layer, algo):
                ax.hlines(found[0], i - 0.47, i + 0.47, zorder=3, **_line(place))


def _name(ax: Any, one: Series, points: Points, looks: dict[str, style.Look]) -> None:
    """A name at the large marks, and of how many layers one is the mean where not of all."""
    names = []
    means = _means(points)
    for algo in named(means):
        mean, own = means[algo], len(points[algo])
        some = f" ({own} of {counted(len(one.layers), 'layer')})" if own < len(one.layers) else ""
        names.append((style.algorithm(algo, 27) + some, mean))
    name_marks(ax, names, [mean for algo, mean in means.items() if algo not in named(means)])
