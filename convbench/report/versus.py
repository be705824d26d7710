"""Ours against the fastest library: layer by layer, by family, by the kind of layer, and layers in sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from convbench.problem import PRECISIONS
from convbench.report.series import LIBRARY, Series, common, families, gather, time_of
from convbench.report.tables import markdown
from convbench.results import Row, times
from convbench.results.stack import StackRow
from convbench.shapes import ConvShape, ShapeError, parse_shape
from convbench.stats import geometric_mean
from convbench.units import counted

# The error up to which ours may be chosen: what single precision owes (the tolerance), and for batches, where there is
# work enough for algorithms that are both fast and exact, ten times less.
BOUND_OF_ONE, BOUND_OF_MANY = 1e-5, 1e-6
FAMILY_BOUNDS = {"fft": 5e-7, "winograd": 1e-5}  # a family is held to what it can do; others to the batch's bound
OURS, OURS_IN_FLOAT32 = "ours", "ours, float32 filters"
SHORT = ".w24"  # ends the names of those of ours that keep filters in fewer bits than float32 has
IN_FLOAT32 = "the same, filters kept in float32"
KINDS = ("3x3, 5x5 at stride 1", "1x1 at stride 1", "stride 2 or more", "fully connected", "others")


@dataclass(frozen=True)
class Line:
    """A layer: our fastest within the bound, and the fastest library; None where there is none."""

    layer: str
    row: Row | None
    rival: Row | None
    head_to_head: float | None = None  # turn by turn, where they met so

    @property
    def ratio(self) -> float | None:
        """The library's time over ours."""
        if self.head_to_head is not None:
            return self.head_to_head
        return time_of(self.rival) / time_of(self.row) if self.row and self.rival else None


@dataclass(frozen=True)
class Mean:
    """Ratios of several layers: geometric mean, the worst with its layer, how many there are, and of how many."""

    mean: float
    worst: float
    layer: str
    count: int
    asked: int


def bound_for(batch: int) -> float:
    """The error up to which an algorithm may be chosen."""
    return BOUND_OF_ONE if batch == 1 else BOUND_OF_MANY


def within(one: Series, layer: str, bound: float, family: str | None = None, short: bool = True) -> Row | None:
    """The fastest of ours (of a family) whose error is not above the bound."""
    return next(iter(within_all(one, layer, bound, family, short)), None)


def within_all(one: Series, layer: str, bound: float, family: str | None = None, short: bool = True) -> list[Row]:
    """All of them, the fastest first; short: also those with filters of fewer bits than float32."""
    rows = (row for row in one.ranked(layer, family) if row.family != LIBRARY)
    rows = (row for row in rows if short or not row.algo.endswith(SHORT))
    return [row for row in rows if row.error is not None and row.error <= bound]


def lines(one: Series, bound: float | None = None, family: str | None = None, short: bool = True) -> list[Line]:
    """A line for each layer; short: as of within_all."""
    limit = bound_for(one.first.batch) if bound is None else bound
    return [
        Line(layer, within(one, layer, limit, family, short), next(iter(one.ranked(layer, LIBRARY)), None))
        for layer in one.layers
    ]


def mean_of(found: Sequence[Line]) -> Mean | None:
    """Of the lines that have a ratio; None where none has."""
    known = [(line.ratio, line.layer) for line in found if line.ratio is not None]
    if not known:
        return None
    worst, layer = min(known)
    return Mean(geometric_mean([ratio for ratio, _ in known]), worst, layer, len(known), len(found))


def convolutions(one: Series) -> list[str]:
    """The layers that are no mere matrix product."""
    return [layer for layer in one.layers if kind_of(_shape(one, layer)) != "fully connected"]


def family_means(one: Series) -> dict[str, tuple[float, Mean | None]]:
    """For each family of ours its bound, and its mean over the convolutions."""
    found = {}
    chosen = convolutions(one)
    for family in families([one]):
        if family != LIBRARY:
            bound = FAMILY_BOUNDS.get(family, bound_for(one.first.batch))
            found[family] = bound, mean_of([line for line in lines(one, bound, family) if line.layer in chosen])
    return found


def kind_means(one: Series) -> dict[str, Mean]:
    """For each kind of layer that there is, the mean and the worst."""
    groups: dict[str, list[Line]] = {kind: [] for kind in KINDS}
    for line in lines(one):
        groups[kind_of(_shape(one, line.layer))].append(line)
    return {kind: mean for kind, found in groups.items() if (mean := mean_of(found))}


def kind_of(shape: ConvShape | None) -> str:
    """Which of KINDS a layer is."""
    if shape is None:
        return KINDS[4]
    if shape.is_matrix_product:
        return KINDS[3]
    if max(shape.stride) > 1:
        return KINDS[2]
    if (shape.r, shape.s) == (1, 1):
        return KINDS[1]
    return KINDS[0] if (shape.r, shape.s) in ((3, 3), (5, 5)) else KINDS[4]


def _shape(one: Series, layer: str) -> ConvShape | None:
    try:
        return parse_shape(next(row.shape for row in one.rows if row.layer == layer))
    except ShapeError:
        return None


def winners(rows: Sequence[StackRow], short: bool = True) -> dict[str, tuple[StackRow, StackRow]]:
    """Of each layer that met head to head, at one batch: the fastest of ours (short: as of within_all), its rival."""
    found: dict[str, tuple[StackRow, StackRow]] = {}
    for layer in dict.fromkeys(layer for row in rows for layer in row.chosen):
        ways = {row.plan: row for row in rows if layer in row.chosen}
        ours = [row for row in ways.values() if row.bound is not None and (short or not row.plan.endswith(SHORT))]
        if ours:
            best = min(ours, key=lambda row: row.time_ms)
            found[layer] = best, ways[best.rival]
    return found


def met(one: Series, heads: Sequence[StackRow], short: bool = True) -> list[Line]:
    """lines(one, short=short), but of layers that met head to head the algorithms and ratios that this gave."""
    known = {(row.layer, row.algo): row for row in one.rows}
    best = winners([row for row in heads if row.batch == one.first.batch], short)

    def again(line: Line) -> Line:
        if line.layer not in best:
            return line
        ours, theirs = best[line.layer]
        row, rival = (known.get((line.layer, each.chosen[line.layer])) for each in (ours, theirs))
        return Line(line.layer, row, rival, ours.versus) if row and rival else line

    return [again(line) for line in lines(one, short=short)]


def comparison(rows: Sequence[Row], stack: Sequence[StackRow], heads: Sequence[StackRow] = ()) -> str:
    """The whole comparison as Markdown: a column for each batch, a line for each layer, family, and the sequence.

    Ratios of layers are those of `heads` where there are such.
    """
    series = sorted(gather({"": rows}), key=lambda one: one.first.batch)
    layers = list(dict.fromkeys(layer for one in series for layer in one.layers))
    tables = {one.first.batch: {line.layer: line for line in met(one, heads)} for one in series}
    body = [[layer, *(_cell(tables[one.first.batch].get(layer)) for one in series)] for layer in layers]
    for short, words, strong in ((True, "geometric mean of the convolutions", "**"), (False, IN_FLOAT32, "")):
        chosen = ([line for line in met(one, heads, short) if line.layer in convolutions(one)] for one in series)
        body.append([words, *(f"{strong}{_mean(mean_of(found))}{strong}" for found in chosen)])
    by_family = [family_means(one) for one in series]
    for family in dict.fromkeys(name for found in by_family for name in found):
        cells = [
            _mean(found[family][1]) + f" (≤ {found[family][0]:.0e})" if family in found else "" for found in by_family
        ]
        body.append([f"`{family}` alone", *cells])
    if stack:
        for plan, words in ((OURS, "convolutions in sequence"), (OURS_IN_FLOAT32, IN_FLOAT32)):
            if found := ours_of(stack, plan):
                body.append([words, *(_sequence(found.get(one.first.batch), plan == OURS) for one in series)])
    head = ["layer", *(f"batch {one.first.batch} (error ≤ {bound_for(one.first.batch):.0e})" for one in series)]
    return f"{markdown(head, body, 'l' + 'r' * len(series))}\n\n{common(series)}."


def gpu_comparison(rows: Sequence[Row]) -> str:
    """On a GPU as Markdown: for each precision a table of layers and batches, their means, and where it comes from."""
    series = sorted(gather({"": rows}), key=lambda one: (list(PRECISIONS).index(one.first.precision), -one.first.batch))
    layers = list(dict.fromkeys(layer for one in series for layer in one.layers))
    tables = [
        _of_precision(list(some), layers, precision)
        for precision, some in groupby(series, key=lambda one: one.first.precision)
    ]
    return "\n\n".join([*tables, f"{common(series)}."])


def _of_precision(series: Sequence[Series], layers: Sequence[str], precision: str) -> str:
    found = [lines(one, PRECISIONS[precision].tolerance) for one in series]
    cells = [{line.layer: line for line in some} for some in found]
    body = [[layer, *(_cell(table.get(layer)) for table in cells)] for layer in layers]
    means = [mean and replace(mean, asked=len(layers)) for mean in map(mean_of, found)]
    body.append(["geometric mean", *(f"**{_mean(mean)}**" for mean in means)])
    head = [precision, *(f"batch {one.first.batch}" for one in series)]
    return markdown(head, body, "l" + "r" * len(series))


def _cell(line: Line | None) -> str:
    if line is None or line.row is None:
        return ""
    return f"{times(line.ratio)} `{line.row.algo}`"


def _mean(mean: Mean | None) -> str:
    if mean is None:
        return "none"
    missing = f" ({mean.count} of {counted(mean.asked, 'layer')})" if mean.count < mean.asked else ""
    return times(mean.mean) + missing


def _sequence(row: StackRow | None, strong: bool) -> str:
    if row is None:
        return ""
    mark = "**" if strong else ""
    return f"{mark}{times(row.versus)}{mark} ({row.versus_lo:.2f} to {row.versus_hi:.2f})"


def ours_of(stack: Sequence[StackRow], plan: str = OURS) -> Mapping[int, StackRow]:
    """For each batch the sequence of ours."""
    return {row.batch: row for row in stack if row.plan == plan}
