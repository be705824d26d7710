"""Accuracy against speed: a scatter with a name at every algorithm's mark, and the tolerance as a line."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from convbench.problem import PRECISIONS
from convbench.report import style
from convbench.report.charts import left_out
from convbench.report.series import Series, algorithms, common, counted, time_of
from convbench.stats import geometric_mean

LEAST_ERROR = 1e-17  # below float64's rounding: where an error of 0 is drawn on a logarithmic axis
Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels


def accuracy_chart(series: Sequence[Series]) -> Any:
    """Error against slowdown, geometric means over the layers; the layers themselves as faint marks."""
    looks = style.looks(algorithms(series, only_ok=True))
    facts = (
        f"{common(series)}\nMarks: geometric mean over the layers an algorithm has a valid result for; faint: each layer. "
        f"Best is lower left.{left_out(series)}"
    )
    fig, axes = style.figure("Accuracy against speed", facts, [4.6 if len(series) == 1 else 3.9] * len(series))
    points = {one.label: _points(one) for one in series}
    everything = [p for by_algo in points.values() for ps in by_algo.values() for p in ps]
    for ax, one in zip(axes.flat, series, strict=True):
        tolerance = PRECISIONS[one.first.precision].tolerance if one.first.precision in PRECISIONS else None
        errors = [error for _, error in everything] + ([tolerance] if tolerance else [])
        style.log_scale(ax.xaxis, 1, max([slow for slow, _ in everything] + [1]))
        style.log_scale(ax.yaxis, min(errors, default=1e-7), 1.6 * max(errors, default=1e-5), style.power)
        ax.grid()
        ax.set_ylabel("error  ‖y − ref‖ / ‖ref‖")
        ax.set_title(one.label)
        if tolerance:
            ax.axhline(tolerance, color=style.DARK, linewidth=1.3, linestyle=(0, (5, 2)))
            note = f"tolerance of {one.first.precision}: {style.power(tolerance)}"
            ax.annotate(note, (0.995, tolerance), (0, 3), ax.get_yaxis_transform(), "offset points", ha="right", fontsize=9)
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


def _name_marks(ax: Any, points: dict[str, list[tuple[float, float]]], looks: dict[str, style.Look], layers: int) -> None:
    """The large marks, and beside each its name where nothing else stands."""
    import numpy as np

    means = {algo: tuple(map(geometric_mean, zip(*own, strict=True))) for algo, own in points.items()}
    for algo, mean in means.items():
        ax.plot(*mean, zorder=5, **looks[algo].marks(9))
    pixel = ax.figure.dpi / 72  # one point
    spots = {algo: tuple(ax.transData.transform(np.array(mean))) for algo, mean in means.items()}
    frame = ax.get_window_extent()
    taken: list[Box] = [(x - 5 * pixel, y - 5 * pixel, x + 5 * pixel, y + 5 * pixel) for x, y in spots.values()]
    for algo, (x, y) in sorted(spots.items(), key=lambda item: -item[1][1]):
        own = len(points[algo])
        text = style.elided(algo, 30) + (f" ({own} of {counted(layers, 'layer')})" if own < layers else "")
        width, height = 5.0 * len(text) * pixel, 11 * pixel
        box = _free_place(x, y, width, height, taken, (frame.x0, frame.y0, frame.x1, frame.y1), pixel)
        taken.append(box)
        at = ((box[0] + box[2]) / 2 - x) / pixel, ((box[1] + box[3]) / 2 - y) / pixel
        far = min(abs(box[0] - x), abs(box[2] - x)) > 9 * pixel or min(abs(box[1] - y), abs(box[3] - y)) > 9 * pixel
        label = ax.annotate(
            text, means[algo], at, textcoords="offset points", ha="center", va="center", fontsize=9, zorder=6,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
            arrowprops={"arrowstyle": "-", "color": style.GREY, "linewidth": 0.8, "shrinkB": 4} if far else None,
        )  # fmt: skip
        label.set_in_layout(False)


def _free_place(
    x: float, y: float, width: float, height: float, taken: Sequence[Box], frame: Box, pixel: float
) -> Box:  # fmt: skip
    """The nearest place for a box of that size around a point that overlaps the least and stays in the frame."""
    best: tuple[float, Box] | None = None
    sides = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    for distance, (right, up) in itertools.product((7, 13, 20, 30, 42, 56, 72), sides):
        gap = distance * pixel
        x0 = x - width / 2 if not right else (x + gap if right > 0 else x - gap - width)
        y0 = y - height / 2 if not up else (y + gap if up > 0 else y - gap - height)
        box = (x0, y0, x0 + width, y0 + height)
        outside = box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3]
        cost = sum(_overlap(box, other) for other in taken) + 1e9 * outside
        if best is None or cost < best[0]:
            best = cost, box
        if cost == 0:
            break
    assert best is not None
    return best[1]


def _overlap(a: Box, b: Box) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
