"""The raw samples that lie beside a results file, `<name>.samples.csv`, by the row they belong to."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from convbench.gate.outcome import usable
from convbench.results import SAMPLE_COLUMNS, Row

KEY = ("run", "layer", "shape", "direction", "algo", "device", "precision", "threads", "cache")
Samples = Mapping[tuple[str, ...], tuple[float, ...]]  # seconds a call


def key_of(row: Row) -> tuple[str, ...]:
    """What a row shares with its samples."""
    return tuple(str(getattr(row, name)) for name in KEY)


def read_samples(results: Path) -> Samples:
    """The samples beside a results file. They enrich the output and decide nothing: none where there are none."""
    path = results.with_name(f"{results.stem}.samples.csv")
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != SAMPLE_COLUMNS:
                return {}
            found: dict[tuple[str, ...], list[float]] = {}
            for line in reader:
                seconds = usable(_number(line["seconds"]))
                if seconds is not None:
                    found.setdefault(tuple(line[name] for name in KEY), []).append(seconds)
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    return {key: tuple(values) for key, values in found.items()}


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
