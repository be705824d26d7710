"""How a row compares with the fastest library: that library's time over the row's, on the same case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from convbench.results.schema import Row

LIBRARY = "library"  # the family of what others have built
# Rows that differ in one of these are never compared.
SAME = ("net", "layer", "shape", "hardware", "device", "direction", "precision", "batch", "threads", "cache")
Case = tuple[object, ...]


def case_of(row: Row) -> Case:
    """What a row was measured on: a layer, and all conditions."""
    return tuple(getattr(row, name) for name in SAME)


def fastest_library(rows: Iterable[Row]) -> dict[Case, Row]:
    """The fastest `ok` row of the family `library` for each case that has one."""
    best: dict[Case, Row] = {}
    for row in rows:
        if row.family == LIBRARY and row.status == "ok" and row.time_ms:
            other = best.get(case_of(row))
            if other is None or row.time_ms < (other.time_ms or 0):
                best[case_of(row)] = row
    return best


def versus(row: Row, best: Mapping[Case, Row]) -> float | None:
    """Times faster than the fastest library (below 1: slower); None where there is no valid time of both."""
    rival = best.get(case_of(row))
    if rival is None or not rival.time_ms or row.status != "ok" or not row.time_ms:
        return None
    return rival.time_ms / row.time_ms


def times(ratio: float | None) -> str:
    """3.4x, or 0.87x, or nothing: two digits that mean something."""
    if ratio is None:
        return ""
    if ratio < 0.995:
        return f"{ratio:.2f}x"
    return f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:.0f}x"
