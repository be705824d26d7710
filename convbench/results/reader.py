"""Reading, strictly: the first fault is told with file, line, column and reason."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convbench.results.schema import COLUMNS, LATER, STATUSES, TYPES, ResultsError, Row, header_difference, parse_phases


def read(path: Path) -> list[Row]:
    """All rows of a results file; columns that were added later may be missing, and are None then, or empty texts.

    Raises ResultsError with file, line, column and reason at the first fault.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: byte {error.start} is not UTF-8 text: not a results file") from None
    if not text:
        raise ResultsError(f"{path}: the file is empty")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            line = reader.line_num
            if header is None:
                header = cells
                wanted = [name for name in COLUMNS if name in header or name not in LATER]
                if header != wanted:
                    raise ResultsError(f"{path}, line 1: {header_difference(header, wanted)}")
                continue
            if len(cells) != len(header):
                raise ResultsError(
                    f"{path}, line {line}: {len(cells)} cells instead of {len(header)}: truncated or damaged"
                )
            rows.append(_parse(path, line, header, cells))
    except csv.Error as error:
        raise ResultsError(f"{path}, line {reader.line_num}: {error}") from None
    if not text.endswith("\n"):
        raise ResultsError(f"{path}, line {reader.line_num}, column {COLUMNS[-1]}: the line has no end: truncated")
    return rows


def _parse(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    values: dict[str, Any] = {name: "" if TYPES[name] is str else None for name in LATER}
    for name, text in zip(header, cells, strict=True):
        try:
            values[name] = _value(name, text)
        except ValueError as error:
            raise ResultsError(f"{path}, line {line}, column {name}: {error}") from None
    row = Row(**values)
    if row.status == "ok" and (row.time_ms is None or row.time_ms <= 0):
        raise ResultsError(
            f"{path}, line {line}, column time_ms: a row that is ok needs a time above 0, not '{row.time_ms}'"
        )
    return row


def _value(name: str, text: str) -> Any:
    """A cell as its column's type. Raises ValueError with the reason."""
    kind = TYPES[name]
    if kind is str:
        if name == "status" and text not in STATUSES:
            raise ValueError(f"'{text[:40]}' is not one of {', '.join(STATUSES)}")
        if name == "phases":
            parse_phases(text)
        return text
    if text == "":
        if kind is int:
            raise ValueError("empty, but a whole number belongs here")
        return None
    if kind == bool | None:
        if text not in ("true", "false"):
            raise ValueError(f"'{text[:40]}' is neither true nor false")
        return text == "true"
    if kind in (int, int | None):
        return _number(int, text, "a whole number")
    number = _number(float, text, "a number")
    if not math.isfinite(number) and name not in ("error", "error_max"):
        raise ValueError(f"'{text}' is not a finite number")
    return number


def _number(kind: Any, text: str, what: str) -> Any:
    try:
        if "_" in text or not text.isascii() or text != text.strip():  # Python's own licences
            raise ValueError
        return kind(text)
    except ValueError:
        raise ValueError(f"'{text[:40]}' is not {what}") from None
