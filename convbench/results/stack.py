"""The CSV of layers in sequence, or head to head: a row for each way to do them, with its interval and its ratio."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from convbench.results.schema import NotWritten, ResultsError, cell

STACK, HEADS = "stack", "head-to-head"  # names of such files: of layers in sequence, and of single layers


@dataclass(frozen=True)
class StackRow:
    """One way to do all layers; `versus` is the fastest library's time over this one, round by round: the median."""

    when: str
    batch: int
    plan: str  # a library's algorithm for all layers, or what chooses one for each
    algorithms: str  # `layer=algorithm;...` in the order of the calls
    bound: float | None  # on the error, that the algorithms were chosen under; None: no choice
    error: float  # the largest of the layers
    samples: int
    disturbed: int
    time_ms: float
    time_lo_ms: float
    time_hi_ms: float
    rival: str  # the fastest library's plan
    versus: float
    versus_lo: float
    versus_hi: float
    seed: int
    threads: int
    hardware: str
    convbench: str
    commit: str

    @property
    def chosen(self) -> dict[str, str]:
        """The algorithm of each layer."""
        return dict(part.split("=", 1) for part in self.algorithms.split(";"))


STACK_COLUMNS = tuple(f.name for f in fields(StackRow))
STACK_SAMPLES = ("batch", "plan", "round", "seconds", "disturbed")
TYPES: Mapping[str, Any] = get_type_hints(StackRow)


def write_table(path: Path, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> None:
    """Write a CSV anew. Raises NotWritten."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([cell(value) for value in line] for line in lines)
    except OSError as error:
        raise NotWritten(f"cannot write {path}: {error.strerror or error}") from None


def write_stack(path: Path, rows: Sequence[StackRow]) -> None:
    """Write all rows. Raises NotWritten."""
    write_table(path, STACK_COLUMNS, [[getattr(row, name) for name in STACK_COLUMNS] for row in rows])


def read_stack(path: Path) -> list[StackRow]:
    """The rows. Raises ResultsError with file, line and reason."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) != STACK_COLUMNS:
                raise ResultsError(f"{path}, line 1: not the columns of layers in sequence")
            rows = []
            for line in reader:
                try:
                    rows.append(StackRow(**{name: _value(name, line[name]) for name in STACK_COLUMNS}))
                except (TypeError, ValueError) as error:
                    raise ResultsError(f"{path}, line {reader.line_num}: {error}") from None
            return rows
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ResultsError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _value(name: str, text: str | None) -> Any:
    if text is None:
        raise ValueError(f"{name} is missing: truncated")
    kind = TYPES[name]
    if kind is str:
        return text
    if kind is int:
        return int(text)
    return float(text) if text or kind is float else None
