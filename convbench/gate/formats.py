"""An outcome in the forms that machines read, all made from its fields and samples alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from convbench.gate.github import append_summary, github, markdown
from convbench.gate.junit import junit
from convbench.gate.outcome import CellResult, GateError, Outcome, interval, ratio, usable
from convbench.stats import interval_ranks

VERSION = 1  # of the form `json`
Wanted = tuple[str, Path | None]  # a form's name, and the file it goes to; None: standard output


def render(outcome: Outcome, name: str) -> str:
    """The outcome in one of FORMATS, ending with a line break."""
    return known(name)(outcome)


def known(name: str) -> Callable[[Outcome], str]:
    """The function of a form. Raises GateError for a name that is none."""
    if name not in FORMATS:
        raise GateError(f"--format {name} is not one of {', '.join(FORMATS)}")
    return FORMATS[name]


def full(outcome: Outcome) -> str:
    """Everything, raw samples included, as JSON."""
    top: dict[str, Any] = {
        "format": VERSION,
        "verdict": str(outcome.verdict),
        "exit_code": outcome.exit_code(strict=False),
        "exit_code_strict": outcome.exit_code(strict=True),
        **asdict(outcome),
        "cells": [asdict(cell) for cell in outcome.ordered],
    }
    return dumped(top)


def benchmark_action(outcome: Outcome) -> str:
    """The form `customSmallerIsBetter` of github-action-benchmark: head's time of every measured cell in ms."""
    entries = []
    for cell in outcome.ordered:
        value = usable(cell.head_ms)
        if value is None:
            continue
        entry: dict[str, Any] = {"name": cell.cell, "unit": "ms", "value": value}
        bounds = head_bounds(cell)
        if bounds:
            entry["range"] = f"± {max(value - bounds[0], bounds[1] - value):.2g}"
        facts = [f"{key}: {text}" for key, text in (
            ("verdict", str(cell.verdict)), ("time ratio", ratio(cell)), ("95 % interval", interval(cell)),
            ("reason", cell.reason), ("hardware", outcome.hardware), ("base", outcome.base), ("head", outcome.head),
        ) if text]  # fmt: skip
        entries.append(entry | {"extra": "\n".join(facts)})
    return dumped(entries)


def bencher(outcome: Outcome) -> str:
    """Bencher Metric Format: head's time of every measured cell as `latency` in ns, with its interval if known."""
    benchmarks = {}
    for cell in outcome.ordered:
        value = usable(cell.head_ms)
        if value is None:
            continue
        metric = {"value": 1e6 * value}
        bounds = head_bounds(cell)
        if bounds:
            metric |= {"lower_value": 1e6 * bounds[0], "upper_value": 1e6 * bounds[1]}
        benchmarks[cell.cell] = {"latency": metric}
    return dumped(benchmarks)


def head_bounds(cell: CellResult) -> tuple[float, float] | None:
    """The 95 % interval of head's time in ms: as it was stated, else that of the samples' median."""
    low, high = usable(cell.head_low_ms), usable(cell.head_high_ms)
    if low is None or high is None:
        seconds = sorted(value for value in cell.head_samples if usable(value))
        ranks = interval_ranks(len(seconds))
        if ranks is None:
            return None
        low, high = 1e3 * seconds[ranks[0]], 1e3 * seconds[ranks[1]]
    return (low, high) if cell.head_ms is not None and low <= cell.head_ms <= high else None


def dumped(value: Any) -> str:
    """Strict JSON: NaN and infinity, which it does not have, become null."""
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


FORMATS: dict[str, Callable[[Outcome], str]] = {
    "github": github,
    "junit": junit,
    "benchmark-action": benchmark_action,
    "bencher": bencher,
    "markdown": markdown,
    "json": full,
}


def wanted(specs: Sequence[str]) -> list[Wanted]:
    """What --format asks for, NAME or NAME=FILE each. Raises GateError, so that it is known before anything runs."""
    found: list[Wanted] = []
    for spec in specs:
        name, equals, file = spec.partition("=")
        known(name)
        if equals and not file:
            raise GateError(f"--format {spec}: the name of a file is missing behind the =")
        found.append((name, Path(file) if equals else None))
    printed = [name for name, path in found if path is None]
    if len(printed) > 1:
        raise GateError(
            f"--format {' and --format '.join(printed)} would be mixed on standard output: give all but one a file, "
            f"as in --format {printed[-1]}=FILE"
        )
    return found


def write(outcome: Outcome, forms: Sequence[Wanted]) -> str:
    """Write the forms that go to files, and the step's summary; return what belongs on standard output."""
    printed = ""
    for name, path in forms:
        text = render(outcome, name)
        if name == "github":
            append_summary(outcome)
        if path is None:
            printed += text
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise GateError(f"cannot write {path}: {error.strerror or error}; choose another file") from None
    return printed


def table_too(forms: Sequence[Wanted]) -> bool:
    """True where the table for people may share standard output with what the forms print there."""
    return all(path is not None or name == "github" for name, path in forms)
