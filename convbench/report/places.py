"""Names beside marks: each where the least else stands, inside the frame, with a line to its mark where that is far."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from convbench.report import style

Box = tuple[float, float, float, float]  # x0, y0, x1, y1 in pixels
Spot = tuple[float, float]  # x, y: in pixels, or in an axis's own numbers
DISTANCES = (6, 9, 14, 20, 28, 38, 50, 65, 82, 100, 120)  # of a name from its mark, points
DIRECTIONS = [
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    *((math.cos(a * math.pi / 8), math.sin(a * math.pi / 8)) for a in range(16)),
]
LEADER = 11  # points: a name farther away gets a line to its mark


def name_marks(ax: Any, names: Sequence[tuple[str, Spot]], others: Sequence[Spot] = ()) -> None:
    """Write each name beside its mark, given in the axes' numbers, the highest first, clear of `others` without names.

    The panel must have its place: call `draw_without_rendering` before.
    """
    import numpy as np
    from matplotlib.textpath import TextPath

    pixel = ax.figure.dpi / 72  # one point
    marks = [*(mark for _, mark in names), *others]
    spots = [(float(x), float(y)) for x, y in ax.transData.transform(np.array(marks).reshape(-1, 2))]
    frame = ax.get_window_extent()
    taken: list[Box] = []
    for place in sorted(range(len(names)), key=lambda place: -spots[place][1]):
        (text, mark), (x, y) = names[place], spots[place]
        size = TextPath((0, 0), text, size=9).get_extents().width * pixel + 2 * pixel, 11 * pixel
        rest = [spot for number, spot in enumerate(spots) if number != place]
        near = [_around(spot, 5 * pixel) for spot in rest]
        box, leader = _free_place((x, y), size, [*taken, *near], rest, (frame.x0, frame.y0, frame.x1, frame.y1), pixel)
        taken.append(box)
        at = ((box[0] + box[2]) / 2 - x) / pixel, ((box[1] + box[3]) / 2 - y) / pixel
        label = ax.annotate(
            text, mark, at, textcoords="offset points", ha="center", va="center", fontsize=9, zorder=6,
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
