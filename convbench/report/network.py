"""The whole network's time: each family alone with its best variants, and the best of each layer, stacked by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convbench.report import style
from convbench.report.series import Series, common, condition, families, time_of
from convbench.results import Row
from convbench.units import counted, duration

BEST = "best of each layer"
ROW = 0.36  # inches a bar takes
NAMED = 5  # layers that are named where a family is not complete


def stacks(one: Series) -> dict[str, list[Row | None]]:
    """For the best of each layer and for each family the row of every layer; None where there is no `ok` row."""
    found = {BEST: [one.best(layer) for layer in one.layers]}
    for family in families([one]):
        found[family] = [one.best(layer, family) for layer in one.layers]
    return found


def total(rows: Sequence[Row | None]) -> float | None:
    """The sum of the layers' times, ms; None where a layer is missing, because the sum would claim too little."""
    return sum(time_of(row) for row in rows if row) if all(rows) else None


def missing(one: Series, rows: Sequence[Row | None]) -> str:
    """Which layers a family has no valid result for, in words."""
    gaps = [layer for layer, row in zip(one.layers, rows, strict=True) if row is None]
    names = ", ".join(style.elided(name, 24) for name in gaps[:NAMED])
    more = f" and {len(gaps) - NAMED} more" if len(gaps) > NAMED else ""
    return f"not complete: no valid result for {names}{more}"


def network_chart(series: Sequence[Series]) -> Any:
    """Stacked bars, one for the best of each layer and one for each family that can do every layer."""
    from matplotlib.patches import Patch

    layers = list(dict.fromkeys(layer for s in series for layer in s.layers))
    colours = dict(zip(layers, _shades(len(layers)), strict=True))
    stacked = [stacks(s) for s in series]
    facts = (
        f"{common(series)}\nSum of the medians of all measured layers, each with the best variant of the family. "
        "Lower is better."
    )
    heights = [ROW * len(stack) + 0.72 for stack in stacked]
    what = "All shapes" if all(s.first.net == "shape" for s in series) else "Whole network"
    fig, axes = style.figure(f"{what}: one family everywhere, or the best of each layer", facts, heights)
    longest = [max([t for rows in stack.values() if (t := total(rows))], default=0.0) for stack in stacked]
    share = max(longest) < 6 * min(longest)  # else the shorter panel could not be read
    for ax, one, stack, own in zip(axes.flat, series, stacked, longest, strict=True):
        limit = (max(longest) if share else own) or 1.0
        _bars(ax, one, stack, colours, 1.13 * limit)
        words = [one.label] if one.label else []
        ax.set_title(", ".join([*words, f"{condition(one.first, 'net')}: {counted(len(one.layers), 'layer')}"]))
    axes.flat[-1].set_xlabel("time of one call of each layer, ms")
    handles = [Patch(**colours[layer]) for layer in layers]
    style.legend(fig, handles, [style.elided(layer, 40) for layer in layers])
    return fig


def _shades(count: int) -> list[dict[str, Any]]:
    """Looks that grow lighter from layer to layer, every other one hatched, so that neighbours differ in grey too."""
    import matplotlib

    found = []
    for i in range(count):
        face = matplotlib.colormaps["cividis"](0.08 + 0.9 * i / max(1, count - 1))
        edge = "#d8d8d8" if style.is_dark(face) else "#4d4d4d"
        found.append({"facecolor": face, "edgecolor": edge, "hatch": "///" if i % 2 else "", "linewidth": 0.6})
    return found


def _bars(ax: Any, one: Series, stack: dict[str, list[Row | None]], colours: dict[str, Any], limit: float) -> None:
    """One panel. What is not complete gets a sentence instead of a bar."""
    ax.set_xlim(0, limit)
    for place, rows in enumerate(stack.values()):
        time = total(rows)
        if time is None:
            ax.text(0.008 * limit, place, missing(one, rows), va="center", fontsize=9, style="italic", color="#444444")
            continue
        start = 0.0
        for layer, row in zip(one.layers, rows, strict=True):
            assert row is not None
            look = colours[layer]
            ax.barh(place, time_of(row), 0.7, start, **look)
            pixels = 680 * time_of(row) / limit
            if pixels > 7.0 * len(layer) + 6:
                ax.text(
                    start + time_of(row) / 2, place, layer, ha="center", va="center", fontsize=8,
                    color="white" if style.is_dark(look["facecolor"]) else "black",
                    bbox={"facecolor": look["facecolor"], "edgecolor": "none", "pad": 1.0} if look["hatch"] else None,
                )  # fmt: skip
            start += time_of(row)
        weight = "bold" if place == 0 else "normal"
        ax.text(start + 0.008 * limit, place, duration(time), va="center", fontsize=9, fontweight=weight)
    ax.set_yticks(range(len(stack)), [style.elided(name, 28) for name in stack])
    ax.set_ylim(len(stack) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x")
