"""The comparison in a terminal of 80 columns: layers, families, kinds of layers, sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from convbench.report.series import LIBRARY, Series, time_of
from convbench.report.versus import (
    Line,
    Mean,
    bound_for,
    convolutions,
    family_means,
    kind_means,
    lines,
    mean_of,
    winners,
)
from convbench.results import Row, times
from convbench.results.stack import StackRow
from convbench.units import duration, error

if TYPE_CHECKING:
    from rich.table import Table


def table(heads: Sequence[str]) -> Table:
    """An empty table; a head that ends in > is of a column of numbers."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for head in heads:
        right = head.endswith(">")
        made.add_column(head.removesuffix(">"), justify="right" if right else "left", no_wrap=right, overflow="fold")
    return made


def layer_table(one: Series) -> Table:
    """Each layer: the fastest of ours within the bound, the fastest library, and the library's time over ours."""
    made = table(
        ("layer", f"ours (error <= {error(bound_for(one.first.batch), 0)})", "time>", "library", "time>", "vs>")
    )
    found = lines(one)
    for line in found:
        made.add_row(line.layer, *_side(line.row), *_side(line.rival), times(line.ratio))
    chosen = convolutions(one)
    mean = mean_of([line for line in found if line.layer in chosen])
    made.add_row("", "convolutions, geom. mean", "", "", "", _mean(mean), style="bold")
    return made


def _side(row: Row | None) -> tuple[str, str]:
    return ("none", "") if row is None else (row.algo.removeprefix(f"{LIBRARY}."), duration(time_of(row)))


def _mean(mean: Mean | None) -> str:
    return times(mean.mean) if mean else "none"


def head_table(rows: Sequence[StackRow]) -> Table:
    """Each layer head to head: the fastest of ours, the fastest library, and the median of its time over ours."""
    made = table(("layer", "ours", "time>", "library", "time>", "vs>", "95 % interval>"))
    for layer, (ours, theirs) in winners(rows).items():
        names = [row.chosen[layer].removeprefix(f"{LIBRARY}.") for row in (ours, theirs)]
        made.add_row(
            layer, names[0], duration(ours.time_ms), names[1], duration(theirs.time_ms), times(ours.versus),
            f"{ours.versus_lo:.2f} .. {ours.versus_hi:.2f}",
        )  # fmt: skip
    return made


def family_table(one: Series) -> Table:
    """Each family of ours alone, over the convolutions."""
    made = table(("family", "error at most>", "geometric mean>", "worst>", "of layer", "layers>"))
    for family, (bound, mean) in family_means(one).items():
        if mean is None:
            made.add_row(family, error(bound, 0), "none", "", "", "0")
        else:
            count = f"{mean.count} of {mean.asked}"
            made.add_row(family, error(bound, 0), times(mean.mean), times(mean.worst), mean.layer, count)
    return made


def kind_table(one: Series) -> Table:
    """Each kind of layer, the fastest of ours within the bound."""
    made = table(("kind of layer", "geometric mean>", "worst>", "of layer", "layers>"))
    for kind, mean in kind_means(one).items():
        made.add_row(kind, times(mean.mean), times(mean.worst), mean.layer, f"{mean.count} of {mean.asked}")
    return made


def stack_table(rows: Sequence[StackRow]) -> Table:
    """Each way to do the convolutions in sequence."""
    made = table(("batch>", "convolutions in sequence", "time, ms>", "95 % interval>", "vs>", "95 % interval>"))
    last = 0
    for row in rows:
        batch = str(row.batch) if row.batch != last else ""
        last = row.batch
        made.add_row(
            batch, row.plan.removeprefix(f"{LIBRARY}."), duration(row.time_ms, False),
            f"{duration(row.time_lo_ms, False)} .. {duration(row.time_hi_ms, False)}",
            times(row.versus), f"{row.versus_lo:.2f} .. {row.versus_hi:.2f}",
        )  # fmt: skip
    return made


def slower(one: Series) -> list[Line]:
    """The layers where the library is faster."""
    return [line for line in lines(one) if line.ratio is not None and line.ratio < 1]
