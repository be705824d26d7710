"""Accuracy against speed: a scatter with a name at every algorithm's mark, and the tolerance as a line."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from convbench.problem import PRECISIONS
from convbench.report import style
from convbench.report.charts import left_out
from convbench.report.series import Series, algorithms, common, counted, time_of
from convbench.stats import geometric_mean

LEAST_ERROR = 1e-17  # below float64's rounding: where an error of 0 is drawn on a logarithmic axis
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Spot = tuple[float, float]  # x, y in pixels
DISTANCES = (6, 9, 14, 20, 28, 38, 50, 65, 82, 100, 120)  # of a name from its mark, points
DIRECTIONS = [
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    *((math.cos(a * math.pi / 8), math.sin(a * math.pi / 8)) for a in range(16)),
]
LEADER = 11  # points: a name farther away gets a line to its mark


def accuracy_chart(series: Sequence[Series]) -> Any:
    """Error against slowdown, geometric means over the layers; the layers themselves as faint marks."""
    looks = style.looks(algorithms(series, only_ok=True))
    facts = (
        f"{common(series)}\nMarks: geometric mean over the layers an algorithm has a valid result for; faint: each "
        f"layer. Best is lower left.{left_out(series)}"
    )
    fig, axes = style.figure("Accuracy against speed", facts, [4.6 if len(series) == 1 else 3.9] * len(series))
    points = {one.label: _points(one) for one in series}
    everything = [p for by_algo in points.values() for ps in by_algo.values() for p in ps]
    for ax, one in zip(axes.flat, series, strict=True):
        tolerance = PRECISIONS[one.first.precision].tolerance if one.first.precision in PRECISIONS else None
        errors = [error for _, error in everything] + ([tolerance] if tolerance else [])
        style.log_scale(ax.xaxis, 0.85, max([slow for slow, _ in everything] + [5]))
        style.log_scale(ax.yaxis, min(errors, default=1e-7), 1.6 * max(errors, default=1e-5), style.power)
        ax.grid()
        ax.set_ylabel("error  ‖y − ref‖ / ‖ref‖")
        ax.set_title(one.label)
        if tolerance:
            ax.axhline(tolerance, color=style.DARK, linewidth=1.3, linestyle=(0, (5, 2)))
            note = f"tolerance of {one.first.precision}: {style.power(tolerance)}"
            ax.annotate(
                note, (0.995, tolerance), (0, 3), ax.get_yaxis_transform(), "offset points", ha="right", fontsize=9
            )
        for algo, own in points[one.label].items():
            ax.plot(*zip(*own, strict=True), zorder=2, alpha=0.3, **looks[algo].marks(3.6))
    axes.flat[-1].set_xlabel("time, × the layer's best (1 = fastest)")
    fig.draw_without_rendering()  # the panels get their places, so that names can be placed by pixels
    for ax, one in zip(axes.flat, series, strict=True):
        _name_marks(ax, points[one.label], looks, len(one.layers))
    return fig


def _points(one: Series) -> dict[str, list[tuple[float, float]]]:
    """For each algorithm (times slower than the layer's best, error) of its layers."""
    found: dict[str, list[tuple[float, float]]] = {}
    for layer in one.layers:
        ranked = one.ranked(layer)
        for row in ranked:
            if row.error is not None and row.error == row.error:
                slower = time_of(row) / time_of(ranked[0])
                found.setdefault(row.algo, []).append((slower, max(row.error, LEAST_ERROR)))
    return found


def _name_marks(
    ax: Any, points: dict[str, list[tuple[float, float]]], looks: dict[str, style.Look], layers: int
) -> None:
    """The large marks, and beside each its name where nothing else stands."""
    import numpy as np
    from matplotlib.textpath import TextPath

    means = {
        algo: (geometric_mean([slower for slower, _ in own]), geometric_mean([error for _, error in own]))
        for algo, own in points.items()
    }
    for algo, mean in means.items():
        ax.plot(*mean, zorder=5, **looks[algo].marks(9))
    pixel = ax.figure.dpi / 72  # one point
    spots = {}
    for algo, mean in means.items():
        x, y = ax.transData.transform(np.array(mean))
        spots[algo] = float(x), float(y)
    frame = ax.get_window_extent()
    taken: list[Box] = []
    for algo, (x, y) in sorted(spots.items(), key=lambda item: -item[1][1]):
        own = len(points[algo])
        text = style.elided(algo, 26) + (f" ({own} of {counted(layers, 'layer')})" if own < layers else "")
        size = TextPath((0, 0), text, size=9).get_extents().width * pixel + 2 * pixel, 11 * pixel
        others = [spot for name, spot in spots.items() if name != algo]
        marks = [_around(spot, 5 * pixel) for spot in others]
        box, leader = _free_place(
            (x, y), size, [*taken, *marks], others, (frame.x0, frame.y0, frame.x1, frame.y1), pixel
        )
        taken.append(box)
        at = ((box[0] + box[2]) / 2 - x) / pixel, ((box[1] + box[3]) / 2 - y) / pixel
        label = ax.annotate(
            text, means[algo], at, textcoords="offset points", ha="center", va="center", fontsize=9, zorder=6,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            arrowprops={"arrowstyle": "-", "color": style.GREY, "linewidth": 0.8, "shrinkB": 4} if leader else None,
        )  # fmt: skip
        label.set_in_layout(False)


def _free_place(
    spot: Spot, size: Spot, taken: Sequence[Box], others: Sequence[Spot], frame: Box, pixel: float
) -> tuple[Box, bool]:  # fmt: skip
    """The nearest place for a name that overlaps the least and stays in the frame, and whether it needs a line."""
    (x, y), (width, height) = spot, size
    best: tuple[float, Box, bool] | None = None
    for distance, (right, up) in itertools.product(DISTANCES, DIRECTIONS):
        gap = distance * pixel
        middle = x + right * (gap + width / 2), y + up * (gap + height / 2)
        box = (middle[0] - width / 2, middle[1] - height / 2, middle[0] + width / 2, middle[1] + height / 2)
        leader = _distance(box, spot) > LEADER * pixel
        cost = sum(_overlap(box, other) for other in [*taken, _around(spot, 5 * pixel)]) + 0.03 * height * gap
        cost += 1e9 * (box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3])
        if leader:  # a line should not run through names and marks
            line = [(x + t * (middle[0] - x), y + t * (middle[1] - y)) for t in (0.2, 0.35, 0.5, 0.65, 0.8)]
            cost += height**2 * sum(_distance(other, point) == 0 for other in taken for point in line) / 5
        else:  # without a line it should not read as another mark's name
            near = [other for other in others if _distance(box, other) < LEADER * pixel]
            cost += width * height * any(math.dist(middle, other) < math.dist(middle, spot) for other in near) / 4
        if best is None or cost < best[0]:
            best = cost, box, leader
    assert best is not None
    return best[1:]


def _around(spot: Spot, half: float) -> Box:
    return spot[0] - half, spot[1] - half, spot[0] + half, spot[1] + half


def _distance(box: Box, spot: Spot) -> float:
    return math.hypot(max(box[0] - spot[0], spot[0] - box[2], 0), max(box[1] - spot[1], spot[1] - box[3], 0))


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
