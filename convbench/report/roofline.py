"""The roofline: FLOP/s that were executed, against FLOPs a byte, under what this machine's cores and memory can give.

S. Williams, A. Waterman, D. Patterson: Roofline, Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convbench.report import style
from convbench.report.charts import key
from convbench.report.places import name_marks
from convbench.report.series import Series, algorithms, common, moved_bytes, time_of
from convbench.results import Row
from convbench.units import counted

PANEL = 4.4  # inches
NAMED = 16  # layers whose fastest algorithms are named
PARTS = {
    "split3": "tensor cores",
    "int8x3": "units for tiles of bytes",
}  # that numbers are cut into, by algorithms' names


@dataclass(frozen=True)
class Place:
    """Where a row stands: FLOPs a byte, executed GFLOP/s, and the run's ceilings in GFLOP/s and GB/s."""

    intensity: float
    executed: float
    gflops: float
    gbs: float

    @property
    def limit(self) -> float:
        """The lower of the two roofs at this intensity, GFLOP/s."""
        return min(self.gflops, self.intensity * self.gbs)

    @property
    def by_memory(self) -> bool:
        """Whether the memory's roof is the lower one."""
        return self.intensity * self.gbs < self.gflops


def place(row: Row) -> Place | None:
    """None where the row is not `ok`, or does not say what it executed or what the machine can do."""
    moved = moved_bytes(row)
    if row.status != "ok" or not (row.gflop_executed and row.ceiling_gflops and row.ceiling_gbs and moved):
        return None
    executed = row.gflop_executed / time_of(row) * 1e3
    return Place(row.gflop_executed * 1e9 / moved, executed, row.ceiling_gflops, row.ceiling_gbs)


def roofline_chart(series: Sequence[Series]) -> Any | None:
    """A mark for each algorithm and layer, a name at each layer's fastest; None where no row says what it executed."""
    found = {one.label: _places(one) for one in series}
    shown = [one for one in series if found[one.label]]
    everything = [spot for one in shown for spot in found[one.label].values()]
    if not everything:
        return None
    looks = style.looks(algorithms(shown, only_ok=True))
    drawn = {algo for one in shown for _, algo in found[one.label]}
    absent = len(looks) - len(drawn)
    facts = (
        f"{common(shown)}\nFLOPs an algorithm executes itself, over time and over the bytes of x, y and its filters. "
        "Lines: multiply-adds on registers, and memory, whose line operands that stay in the cache can pass. Large, "
        "with the layer's name: the best of each layer."
    )
    for ending, where in PARTS.items():
        if any(algo.endswith(f".{ending}") for algo in drawn):
            facts += f" What {ending} cuts numbers into is multiplied on {where}, which can pass the first."
    if absent:
        facts += f" {counted(absent, 'algorithm')} that do{'es' * (absent == 1)} not say what is executed: not drawn."
    fig, axes = style.figure("Roofline: executed GFLOP/s against FLOPs a byte", facts, [PANEL] * len(shown))
    low, high = (f(spot.intensity for spot in everything) for f in (min, max))
    slow = min(spot.executed for spot in everything)
    fast = max(max(spot.executed, spot.gflops) for spot in everything)
    for ax, one in zip(axes.flat, shown, strict=True):
        style.log_scale(ax.xaxis, low, high)
        style.log_scale(ax.yaxis, slow, 1.3 * fast)
        ax.grid()
        ax.set_title(style.elided(one.label, 48))
        ax.set_ylabel("executed GFLOP/s")
        _roofs(ax, list(found[one.label].values()))
        for (layer, algo), spot in found[one.label].items():
            large = one.best(layer) is one.ok(layer, algo)
            marks = looks[algo].marks(9 if large else 4.5)
            ax.plot(spot.intensity, spot.executed, zorder=5 if large else 3, alpha=1 if large else 0.6, **marks)
    axes.flat[-1].set_xlabel("FLOPs a byte of x, y and the prepared filters")
    key(fig, {algo: look for algo, look in looks.items() if algo in drawn})
    fig.draw_without_rendering()  # the panels get their places, so that names can be placed by pixels
    for ax, one in zip(axes.flat, shown, strict=True):
        _name(ax, one, found[one.label])
    return fig


def _places(one: Series) -> dict[tuple[str, str], Place]:
    """Where each (layer, algorithm) stands that can be drawn."""
    return {(row.layer, row.algo): spot for row in one.rows if (spot := place(row))}


def _roofs(ax: Any, places: Sequence[Place]) -> None:
    """The two ceilings of the fastest run, as far as they are the lower one, with their numbers above the panel."""
    gflops, gbs = max(spot.gflops for spot in places), max(spot.gbs for spot in places)
    left, right = ax.get_xlim()
    xs = [left, *([gflops / gbs] if left < gflops / gbs < right else []), right]
    ax.plot(xs, [min(gflops, x * gbs) for x in xs], color=style.DARK, linewidth=1.5, zorder=2)
    text = f"ceilings: multiply-adds {gflops:,.0f} GFLOP/s, memory {float(f'{gbs:.3g}'):,g} GB/s"
    ax.set_title(text, loc="right", fontweight="normal", fontsize=9)


def _name(ax: Any, one: Series, found: dict[tuple[str, str], Place]) -> None:
    """The layer's name at the mark of its fastest algorithm."""
    if len(one.layers) > NAMED:
        return
    best = [row for layer in one.layers if (row := one.best(layer))]
    spots = [(row.layer, found[row.layer, row.algo]) for row in best if (row.layer, row.algo) in found]
    rest = [spot for spot in found.values() if spot not in dict(spots).values()]
    name_marks(
        ax,
        [(style.elided(layer, 26), (spot.intensity, spot.executed)) for layer, spot in spots],
        [(spot.intensity, spot.executed) for spot in rest],
    )
