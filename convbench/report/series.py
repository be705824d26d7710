"""What is drawn: the rows of the files, put into series that may be compared within, each with a label of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import PurePath

from convbench.problem import PRECISIONS
from convbench.results import FAMILIES, Row, fastest_library, versus
from convbench.results import LIBRARY as LIBRARY  # what ours is held against, never ranked as ours
from convbench.shapes import ShapeError, parse_shape

# Rows that differ in one of these are never ranked against one another.
CONDITIONS = ("net", "hardware", "device", "direction", "precision", "batch", "threads", "cache")


@dataclass(frozen=True)
class Series:
    """All cases measured under the same conditions, the newest row of each; `source` is the file's name."""

    label: str
    source: str
    rows: tuple[Row, ...]

    @cached_property
    def table(self) -> dict[tuple[str, str], Row]:
        """The row of each (layer, algorithm)."""
        return {(row.layer, row.algo): row for row in self.rows}

    @cached_property
    def layers(self) -> list[str]:
        """Layers in the file's order."""
        return list(dict.fromkeys(row.layer for row in self.rows))

    @property
    def first(self) -> Row:
        """Any row: for what is the same in all of them."""
        return self.rows[0]

    def ok(self, layer: str, algo: str) -> Row | None:
        """The case's row, where it may be ranked."""
        row = self.table.get((layer, algo))
        return row if row and row.status == "ok" else None

    def ranked(self, layer: str, family: str | None = None) -> list[Row]:
        """The layer's `ok` rows, the fastest first; of one family, or of all."""
        rows = [r for r in self.rows if r.layer == layer and r.status == "ok" and family in (None, r.family)]
        return sorted(rows, key=time_of)

    def ours(self, layer: str) -> list[Row]:
        """The same without the libraries of others, unless there is nothing else."""
        ranked = self.ranked(layer)
        return [row for row in ranked if row.family != LIBRARY] or ranked

    def best(self, layer: str, family: str | None = None) -> Row | None:
        """The layer's fastest `ok` row, of a family or of ours."""
        return next(iter(self.ranked(layer, family) if family else self.ours(layer)), None)

    @cached_property
    def library(self) -> dict[tuple[object, ...], Row]:
        """The fastest library's row of each case that has one."""
        return fastest_library(self.rows)

    def versus(self, row: Row | None) -> float | None:
        """How many times faster a row is than the fastest library."""
        return versus(row, self.library) if row else None

    @property
    def peaks(self) -> list[float]:
        """The measured ceilings of the runs in here, GFLOP/s, ascending."""
        by_run = {row.run: row.peak_gflops for row in self.rows if row.status == "ok" and row.peak_gflops}
        return sorted(peak for peak in by_run.values() if peak)


def time_of(row: Row) -> float:
    """The time of an `ok` row, ms. `results.read` lets none pass without one."""
    assert row.time_ms is not None
    return row.time_ms


def gather(files: Mapping[str, Sequence[Row]]) -> list[Series]:
    """One series for each file and each combination of CONDITIONS in it; of a case measured twice the newest row."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for path, rows in files.items():
        for row in rows:
            groups.setdefault((path, *(getattr(row, name) for name in CONDITIONS)), []).append(row)
    found = [(str(key[0]), newest(rows)) for key, rows in groups.items()]
    names = short_names(list(files))
    labels = _labels([rows[0] for _, rows in found], [names[path] for path, _ in found])
    return [Series(label, names[path], tuple(rows)) for label, (path, rows) in zip(labels, found, strict=True)]


def newest(rows: Sequence[Row]) -> list[Row]:
    """The last written row of each (layer, algorithm); a layer whose shape was changed keeps its newest shape only."""
    shapes: dict[str, Row] = {}
    cases: dict[tuple[str, str, str], Row] = {}
    for row in rows:
        if row.layer not in shapes or row.when >= shapes[row.layer].when:
            shapes[row.layer] = row
        key = (row.layer, row.shape, row.algo)
        if key not in cases or row.when >= cases[key].when:
            cases[key] = row
    return [row for row in cases.values() if row.shape == shapes[row.layer].shape]


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """For each path as few of its last parts as tell it from the others, without the suffix."""
    parts = {path: PurePath(path).with_suffix("").parts if path else ("",) for path in paths}
    short = {}
    for path, own in parts.items():
        others = [other for name, other in parts.items() if name != path]
        count = next((n for n in range(1, len(own)) if all(o[-n:] != own[-n:] for o in others)), len(own))
        short[path] = "/".join(own[-count:])
    return short


def _labels(rows: Sequence[Row], sources: Sequence[str]) -> list[str]:
    """What tells the series apart: the conditions that differ, else the file."""
    differing = [name for name in CONDITIONS if len({getattr(row, name) for row in rows}) > 1]
    if "hardware" in differing:  # says which device it is, too
        differing = [name for name in differing if name != "device"]
    labels = [", ".join(condition(row, name) for name in differing) for row in rows]
    if len(set(labels)) < len(labels):
        labels = [", ".join(filter(None, pair)) for pair in zip(labels, sources, strict=True)]
    same = [labels[:place].count(label) for place, label in enumerate(labels)]
    return [f"{label} ({number + 1})" if number else label for label, number in zip(labels, same, strict=True)]


def condition(row: Row, name: str) -> str:
    """One of CONDITIONS in words."""
    value = getattr(row, name)
    if name == "hardware":
        return short_hardware(value)
    if name == "threads":
        return f"{value} thread{'s' * (value != 1)}"
    if name == "net":
        return "single shapes" if value == "shape" else PurePath(value).stem
    return {"batch": f"batch {value}", "cache": f"{value} cache"}.get(name, str(value))


def short_hardware(text: str) -> str:
    """A processor's name without what its maker adds to it."""
    text = re.sub(r"\((R|TM|C)\)|\bCPU\b|@ .*| \d+-Core Processor", " ", text, flags=re.IGNORECASE)
    return " ".join(text.split()) or "unknown hardware"


def common(series: Sequence[Series]) -> str:
    """The conditions that all series share, and where the numbers come from, as one line."""
    shared = [n for n in CONDITIONS if len({getattr(s.first, n) for s in series}) == 1 and n != "direction"]
    words = [condition(series[0].first, name) for name in shared]
    commits = sorted({row.commit[:9] for s in series for row in s.rows if row.commit})
    days = sorted({row.when[:10] for s in series for row in s.rows})
    if len(commits) == 1:
        words.append(f"commit {commits[0]}")
    words.append(days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}")
    return ", ".join(words)


def algorithms(series: Iterable[Series], only_ok: bool = False) -> list[str]:
    """All algorithms of the series: by family, then by variant with f10 after f2.

    Without those that were skipped everywhere, as something is not installed: they only fill tables.
    """
    names = {
        row.algo for s in series for row in s.rows if row.status == "ok" or not (only_ok or row.status == "skipped")
    }
    return sorted(names, key=lambda name: (family_order(name.partition(".")[0]), _natural(name)))


def families(series: Iterable[Series]) -> list[str]:
    """All families, in the order of every chart."""
    return list(dict.fromkeys(name.partition(".")[0] for name in algorithms(series)))


def family_order(family: str) -> tuple[int, str]:
    """The known families first, then the others by name."""
    return (FAMILIES.index(family) if family in FAMILIES else len(FAMILIES), family)


def _natural(text: str) -> list[tuple[bool, int, str]]:
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", text) if part]


def input_bytes(row: Row) -> int | None:
    """Bytes of x; None where the shape or the precision is not one of ours."""
    try:
        n, c, h, w = parse_shape(row.shape).x_shape
    except ShapeError:
        return None
    return n * c * h * w * PRECISIONS[row.precision].bytes if row.precision in PRECISIONS else None


def moved_bytes(row: Row) -> int | None:
    """Bytes a call must move: x, y and the filters as they were prepared (0 prepared bytes: as they are)."""
    try:
        shape = parse_shape(row.shape)
    except ShapeError:
        return None
    if row.precision not in PRECISIONS:
        return None
    size = PRECISIONS[row.precision].bytes
    return size * (prod(shape.x_shape) + prod(shape.y_shape)) + (row.prepared_bytes or size * prod(shape.w_shape))
