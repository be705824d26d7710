"""The last word of `make gpu`: for each layer our best, the vendor's best, their ratio, and how far the floor is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from convbench.bench_cpu.tables import table
from convbench.console import make_console
from convbench.problem import PRECISIONS
from convbench.report.series import LIBRARY, Series, common, gather, time_of
from convbench.report.tables import markdown
from convbench.report.versus import Line, lines, mean_of
from convbench.results import Row, read, times
from convbench.units import duration

HEADS = ("layer", "ours", "time>", "of floor>", "vendor", "time>", "vs>")


def floor_ms(row: Row) -> float | None:
    """The roofline's floor of a layer: its nominal FLOPs at the ceiling's rate, or x, w and y at the memory's."""
    if not (row.gflop and row.ceiling_gflops and row.bytes_min and row.ceiling_gbs):
        return None
    return 1e3 * max(row.gflop / row.ceiling_gflops, row.bytes_min / 1e9 / row.ceiling_gbs)


def of_floor(row: Row | None) -> str:
    """The floor in % of a row's time; above 100 where fewer multiplications are made than the definition has."""
    floor = floor_ms(row) if row else None
    return f"{100 * floor / time_of(row):.0f} %" if row and floor else ""


def cells(line: Line) -> tuple[str, ...]:
    """A layer's line."""
    return (line.layer, *_side(line.row), of_floor(line.row), *_side(line.rival), times(line.ratio))


def _side(row: Row | None) -> tuple[str, str]:
    return ("none", "") if row is None else (row.algo.removeprefix(f"{LIBRARY}."), duration(time_of(row)))


def show(files: Sequence[Path], kept: Path) -> None:
    """Print a table for each precision and batch of the files, and keep them all in a file as Markdown."""
    console = make_console()
    texts = []
    for one in sorted(gather({str(path): read(path) for path in files}), key=_order):
        title = f"{one.first.precision}, batch {one.first.batch}"
        found = lines(one, PRECISIONS[one.first.precision].tolerance)
        made = table(HEADS)
        for line in found:
            made.add_row(*cells(line))
        mean = mean_of(found)
        words = f"geometric mean {times(mean.mean)}, worst {times(mean.worst)} in {mean.layer}" if mean else "no rival"
        console.print(f"\n[b]{title}[/b]: the vendor's time over ours (vs), {words}")
        console.print(made)
        heads = [head.removesuffix(">") for head in HEADS]
        body = markdown(heads, [list(cells(line)) for line in found], "llrrlrr")
        texts.append(f"## {title}\n\n{body}\n\n{common([one])}; {words}.\n")
    if texts:
        kept.write_text("\n".join(texts))


def _order(one: Series) -> tuple[int, int]:
    return list(PRECISIONS).index(one.first.precision), one.first.batch
