"""Stored baselines: results files under results/baseline/, named by the hardware and the conditions they hold for.

Only `save` writes one, and only when it is asked to; nothing here ever refreshes a baseline by itself.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from convbench.gate import BASELINES
from convbench.gate.check import CONDITIONS, KEY, newest
from convbench.gate.outcome import GateError
from convbench.report.series import short_hardware
from convbench.results import ResultsError, Row, read

BROKEN = ("wrong", "failed", "timeout", "unstable")  # unsupported and skipped cases are no fault of the measurement
SLUG_LIMIT = 60  # characters of the hardware's name


@dataclass(frozen=True)
class Stored:
    """A stored baseline in short."""

    path: Path
    hardware: str
    conditions: str
    cells: int  # with a valid time
    when: str  # of its newest row
    commits: str


def fingerprint(rows: Sequence[Row]) -> str:
    """The name of the baseline that these rows belong to. Raises GateError for rows of several devices, or none."""
    if not rows:
        raise GateError("the file has no rows: measure something first")
    devices = sorted({f"{row.device} ({row.hardware})" for row in rows})
    if len(devices) > 1:
        raise GateError(f"rows of several devices in one file: {', '.join(devices)}; keep a file for each")
    first = rows[0]
    words = [
        slug(short_hardware(first.hardware))[:SLUG_LIMIT].strip("-"),
        first.device,
        joined(rows, "precision"),
        f"batch{joined(rows, 'batch')}",
        f"threads{joined(rows, 'threads')}",
        joined(rows, "cache"),
    ]
    return "_".join(slug(word) for word in words)


def slug(text: str) -> str:
    """Lower-case letters, digits and single hyphens; + joins values."""
    return re.sub(r"[^a-z0-9+]+", "-", text.lower()).strip("-") or "unknown"


def joined(rows: Sequence[Row], column: str) -> str:
    """The column's values, ascending, joined with +."""
    return "+".join(str(value) for value in sorted({getattr(row, column) for row in rows}))


def save(csv: Path, folder: Path = BASELINES, replace: bool = False) -> Path:
    """Copy a results file to its place under `folder` and return that.

    Raises GateError where a case is not in order, where nothing was measured, or where the copy would replace a
    baseline that covers cases this file lacks, unless `replace`.
    """
    rows = list(newest(read(csv)).values())
    broken = [f"{row.layer}/{row.algo} {row.status}" for row in rows if row.status in BROKEN]
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        raise GateError(f"{csv}: no baseline from cases that are not in order: {', '.join(broken[:3])}{more}")
    if not any(row.status == "ok" for row in rows):
        raise GateError(f"{csv}: no row has the status ok, so there is nothing to keep")
    path = folder / f"{fingerprint(rows)}.csv"
    if path.exists() and not replace:
        kept = {key for key, row in newest(read(path)).items() if row.status == "ok"}
        lost = kept - {tuple(getattr(row, name) for name in KEY) for row in rows if row.status == "ok"}
        if lost:
            raise GateError(
                f"{path} covers {len(lost)} case{'s' * (len(lost) != 1)} that {csv} lacks; give --replace to drop them"
            )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(csv.read_bytes())
        os.replace(partial, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise GateError(f"cannot write {path}: {error.strerror or error}; choose another folder") from None
    return path


def find(rows: Sequence[Row], folder: Path = BASELINES) -> Path:
    """The stored baseline of these rows' hardware and conditions. Raises GateError where there is none."""
    name = fingerprint(rows)
    path = folder / f"{name}.csv"
    if path.is_file():
        return path
    hardware = name.partition("_")[0]
    near = sorted(other.stem for other in stored_files(folder) if other.name.startswith(f"{hardware}_"))
    there = f" (there is {', '.join(near)})" if near else ""
    raise GateError(
        f"no baseline {path}{there}: give --baseline FILE.csv, or keep one with convbench baseline save FILE.csv"
    )


def stored_files(folder: Path) -> list[Path]:
    """All baselines in a folder, by name."""
    return sorted(path for path in folder.glob("*.csv") if not path.name.endswith(".samples.csv"))


def show(folder: Path = BASELINES) -> list[Stored]:
    """What is stored. Raises ResultsError at a file that is not a results file of this version."""
    found = []
    for path in stored_files(folder):
        rows = list(newest(read(path)).values())
        if not rows:
            raise ResultsError(f"{path}: the file has no rows")
        commits = sorted({row.commit.rstrip("+")[:9] + "+" * row.commit.endswith("+") for row in rows if row.commit})
        found.append(
            Stored(
                path,
                short_hardware(rows[0].hardware),
                ", ".join(f"{name} {joined(rows, name)}" for name in CONDITIONS if name not in ("device", "direction")),
                sum(row.status == "ok" for row in rows),
                max(row.when for row in rows),
                ", ".join(commits),
            )
        )
    return found
