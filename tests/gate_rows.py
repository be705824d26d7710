"""Rows for the gate's tests: cases that are not ok, and a time after the others'."""

from __future__ import annotations

from typing import Any

from test_report import GONE, row

from convbench.results import Row

LATER = "2026-02-02T00:00:00Z"


def case(status: str, **more: Any) -> Row:
    return row(status=status, note="because", **(GONE | more))
