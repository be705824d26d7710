"""The results as Markdown tables: the facts, the best of each layer, the families, and what has no valid result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convbench.report.heatmap import slowdown
from convbench.report.network import BEST, stacks, total
from convbench.report.roofline import place
from convbench.report.series import Series, condition, families, gather, input_bytes, time_of
from convbench.results import Row, times
from convbench.units import counted, duration, like, size, three_digits

TIES_NAMED = 2
VERSUS = "vs library"


def page(series: Sequence[Series], charts: Iterable[tuple[str, str]] = ()) -> str:
    """The whole report: facts, charts (file, title) and all tables."""
    parts = ["# Convolution benchmark", facts(series)]
    parts += [f"![{title}]({file})" for file, title in charts]
    for one in series:
        name = f": {text(one.label)}" if one.label else ""
        parts += [f"## Best of each layer{name}", best_of_layers(one), f"## Families{name}", family_table(one)]
        if limits := limit_table(one):
            parts += [f"## Executed FLOPs and their limit{name}", limits]
        if any(row.status != "ok" for row in one.rows):
            parts += [f"## Without a valid result{name}", not_ok_table(one)]
    return "\n\n".join(parts) + "\n"


def best_table(rows: Sequence[Row]) -> str:
    """The best of each layer, a table for each set of conditions in the rows, without a heading."""
    series = gather({"": rows})
    tables = [(f"**{text(one.label)}**\n\n" if one.label else "") + best_of_layers(one) for one in series]
    return "\n\n".join(tables)


def facts(series: Sequence[Series]) -> str:
    """What was measured, on what and when: a column for each series."""
    lines: dict[str, list[str]] = {"file": [s.source for s in series]}
    for name, column in (
        ("hardware", "hardware"), ("device", "device"), ("threads", "threads"), ("precision", "precision"),
        ("batch", "batch"), ("cache", "cache"), ("direction", "direction"),
    ):  # fmt: skip
        lines[name] = [str(getattr(s.first, column)) for s in series]
    lines["layer set"] = [f"{condition(s.first, 'net')}, {counted(len(s.layers), 'layer')}" for s in series]
    lines["measured peak"] = [
        ", ".join(f"{peak:,.0f}" for peak in s.peaks) + " GFLOP/s" if s.peaks else "" for s in series
    ]
    for name in ("os", "python", "numpy", "blas", "cupy", "cuda", "driver", "convbench", "commit"):
        lines[name] = [_all(s, name) for s in series]
    lines["runs"] = [_all(s, "run") for s in series]
    lines["date (UTC)"] = [_period(s) for s in series]
    lines["cases"] = [_cases(s) for s in series]
    shown = {name: cells for name, cells in lines.items() if any(cells)}
    head = ["", *(s.label or "value" for s in series)]
    return markdown(head, [[name, *cells] for name, cells in shown.items()], "l" * len(head))


def _all(one: Series, column: str) -> str:
    return ", ".join(dict.fromkeys(str(getattr(row, column)) for row in one.rows if getattr(row, column)))


def _period(one: Series) -> str:
    times = sorted(row.when for row in one.rows)
    return times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"


def _cases(one: Series) -> str:
    """How many cases are valid, and how well their times are known."""
    timed = [row for row in one.rows if row.status == "ok"]
    loose = sum(not row.converged for row in timed)
    samples, disturbed = (sum(getattr(row, name) or 0 for row in timed) for name in ("samples", "disturbed"))
    words = f"{len(one.rows)}, {len(timed)} with a valid result; {loose} times not known to 1 %"
    return words + (f"; {disturbed} of {samples} samples disturbed by other processes" if disturbed else "")


def best_of_layers(one: Series) -> str:
    """Each layer's winner: time with its 95 % interval, GFLOP/s, % of peak, workspace, error.

    Libraries are no winners: where there is one, the last column says how many times faster ours is than its fastest.
    """
    head = ["layer", "fastest", "time (95 % interval)", "GFLOP/s", "% of peak", "workspace", "error"]
    lines, tied = [], False
    for layer in one.layers:
        ranked = one.ours(layer)
        if not ranked:
            lines.append([layer, "no valid result", "", "", "", "", ""])
            continue
        row, ties = ranked[0], _ties(ranked)
        tied = tied or bool(ties)
        lines.append([
            layer, f"`{row.algo}`{ties}", interval(row), _number(row.gflops), _number(row.percent_of_peak),
            _workspace(row), "" if row.error is None else f"{row.error:.1e}",
        ])  # fmt: skip
    if one.library:
        head.append(VERSUS)
        for layer, cells in zip(one.layers, lines, strict=True):
            cells.append(times(one.versus(one.best(layer))))
    table = markdown(head, lines, "llrrrrrr"[: len(head)])
    return table + ("\n\n≈: the intervals overlap, so these are not told apart." if tied else "")


def limit_table(one: Series) -> str:
    """For each layer the fastest that says what it executes: how near it comes to its own limit; "" with no such row.

    The limit is the lower of two: multiply-adds on registers, and memory times the FLOPs a byte of x, y and filters.
    """
    head = ["layer", "fastest that says", "effective GFLOP/s", "executed GFLOP/s", "FLOPs a byte", "its limit, GFLOP/s",
            "% of its limit"]  # fmt: skip
    lines = []
    for layer in one.layers:
        row, spot = next(((row, spot) for row in one.ours(layer) if (spot := place(row))), (None, None))
        if row is None or spot is None:
            continue
        by = "memory" if spot.by_memory else "multiply-adds"
        lines.append([
            layer, f"`{row.algo}`", _number(row.gflops), three_digits(spot.executed), three_digits(spot.intensity),
            f"{three_digits(spot.limit)} ({by})", three_digits(100 * spot.executed / spot.limit),
        ])  # fmt: skip
    if not lines:
        return ""
    note = (
        "More than 100 %: operands stayed in the cache, the ceiling was measured in a slower moment, or additions went "
        "beside the multiply-adds (`.pairs`), or units for tiles multiplied (`.int8x3`)."
    )
    return f"{markdown(head, lines, 'llrrrrr')}\n\n{note}"


def _ties(ranked: Sequence[Row]) -> str:
    """Those whose interval begins below the end of the winner's."""
    winner, *others = ranked
    near = [
        f"`{row.algo}`" for row in others if (row.time_lo_ms or time_of(row)) <= (winner.time_hi_ms or time_of(winner))
    ]
    more = f", {len(near) - TIES_NAMED} more" if len(near) > TIES_NAMED else ""
    return f" ≈ {', '.join(near[:TIES_NAMED])}{more}" if near else ""


def _number(value: float | None) -> str:
    return "" if value is None else three_digits(value)


def _workspace(row: Row) -> str:
    """Bytes, and how many times the input that is."""
    own = input_bytes(row)
    if not row.workspace_bytes or not own:
        return "0" if row.workspace_bytes == 0 else size(row.workspace_bytes)
    return f"{size(row.workspace_bytes)} ({three_digits(row.workspace_bytes / own)} × input)"


def interval(row: Row) -> str:
    """`1.57 ms (1.56 to 1.58)`, all three in the unit of the first."""
    middle = duration(row.time_ms)
    if row.time_lo_ms is None or row.time_hi_ms is None:
        return middle
    return f"{middle} ({like(row.time_lo_ms, row.time_ms)} to {like(row.time_hi_ms, row.time_ms)})"


def family_table(one: Series) -> str:
    """The best variant of each family in each layer: time and times slower than the layer's best; the sum below."""
    names = families([one])
    lines = []
    for layer in one.layers:
        best = one.best(layer)
        cells = [layer]
        for family in names:
            row = one.best(layer, family)
            if row is None or best is None:
                cells.append(_why_not(one, layer, family))
                continue
            variant = row.algo.partition(".")[2] or row.algo
            words = f"{duration(row.time_ms)} · {slowdown(time_of(row) / time_of(best))}× · {variant}"
            cells.append(f"**{words}**" if row is best else words)
        lines.append(cells)
    sums = stacks(one)
    whole = total(sums[BEST])
    last = [f"sum ({BEST}: {duration(whole)})" if whole else "sum"]
    for family in names:
        own = total(sums[family])
        if own is None:
            last.append(f"not complete: {sums[family].count(None)} of {counted(len(one.layers), 'layer')} missing")
        else:
            last.append(f"{duration(own)} · {slowdown(own / whole)}×" if whole else duration(own))
    return markdown(["layer", *names], [*lines, last], "l" + "r" * len(names))


def _why_not(one: Series, layer: str, family: str) -> str:
    statuses = dict.fromkeys(row.status for row in one.rows if row.layer == layer and row.family == family)
    return f"*{', '.join(statuses) or 'not measured'}*"


def not_ok_table(one: Series) -> str:
    """The cases without a valid result, with the reason; layers with the same reason share a line."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for row in one.rows:
        if row.status != "ok":
            groups.setdefault((row.algo, row.status, row.note), []).append(row.layer)
    lines = [[f"`{algo}`", ", ".join(layers), status, note] for (algo, status, note), layers in groups.items()]
    return markdown(["algorithm", "layers", "status", "reason"], lines, "llll")


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]], sides: str) -> str:
    """A Markdown table; `sides` holds l or r for each column."""
    rule = ["---" if side == "l" else "--:" for side in sides]
    rows = [list(map(text, head)), rule, *(list(map(text, cells)) for cells in lines)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def text(cell: str) -> str:
    """A cell's text on one line, with the table's own sign escaped."""
    return " ".join(cell.split()).replace("|", "\\|")
