"""Two results files compared, case by case: the head against a baseline that was measured at another time.

Times measured on different days differ by what the machine did in between, so a slowdown found here advises
(INCONCLUSIVE, exit code 0) unless `strict` makes it block. Memory blocks by itself, as it does not depend on the day:
1 % more of the declared workspace or of the prepared filters, or of the measured peak where that is also more than
64 KB. The error blocks, too. It depends on the random operands: with the same seed on both sides 1 % more counts, with
different seeds only twice as much; below one rounding unit of the precision it never counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from convbench.gate.compare import compare, threshold_of
from convbench.gate.outcome import CellResult, GateError, Outcome, Verdict
from convbench.gate.samples import Samples, key_of
from convbench.results import Row

KEY = ("layer", "shape", "algo", "device", "precision", "batch", "threads", "cache", "direction")
CONDITIONS = ("device", "precision", "batch", "threads", "cache", "direction")
SOFTWARE = ("os", "python", "numpy", "blas", "cupy", "cuda", "driver", "convbench")  # a difference is worth a note
LISTED = 5  # cells named in a note


def check(
    new: Sequence[Row],
    old: Sequence[Row],
    strict: bool = False,
    threshold: float | None = None,
    new_samples: Samples | None = None,
    old_samples: Samples | None = None,
) -> Outcome:
    """Compare the newest row of each case. Raises GateError where the two come from different hardware or devices.

    A case of the old rows counts as missing if the new ones were measured under its conditions (device, precision,
    batch, threads, cache) but lack it; conditions that only one side was measured under are noted, not compared.
    """
    refuse_other_hardware(new, old)
    heads, bases = newest(new), newest(old)
    shared = {condition(row) for row in heads.values()} & {condition(row) for row in bases.values()}
    judged: list[tuple[Row, CellResult]] = []
    unmatched: list[Row] = []  # measured now, with nothing valid in the baseline
    for key, head in heads.items():
        cell = compare(head, bases.get(key), strict, threshold)
        if cell:
            judged.append((head, with_samples(cell, head, bases.get(key), new_samples, old_samples)))
        elif head.status == "ok":
            unmatched.append(head)
    for key, base in bases.items():
        if key not in heads and condition(base) in shared and base.status == "ok":
            gone = CellResult("", Verdict.MISSING, base_ms=base.time_ms, reason="in the baseline, but not in this file")
            judged.append((base, gone))
    left_out = [row for row in bases.values() if condition(row) not in shared]
    devices = {row.device for row in heads.values()}
    return Outcome(
        kind="check",
        base=label(old, "old"),
        head=label(new, "new"),
        cells=tuple(named(judged)),
        notes=tuple(notes(list(heads.values()), list(bases.values()), unmatched, left_out)),
        hardware=", ".join(sorted({row.hardware for row in heads.values()})),
        threshold=threshold_of(devices.pop(), threshold) if len(devices) == 1 else threshold,
    )


def refuse_other_hardware(new: Sequence[Row], old: Sequence[Row]) -> None:
    """Raise GateError unless every device that both were measured on is the same one, and there is such a device."""
    if not new or not old:
        return
    found = [{(row.device, row.hardware) for row in rows} for rows in (new, old)]
    kinds = [{device for device, _ in side} for side in found]
    if not kinds[0] & kinds[1]:
        raise GateError(
            f"the new file was measured on {' and '.join(sorted(kinds[0]))}, the baseline on "
            f"{' and '.join(sorted(kinds[1]))}: compare files of the same device"
        )
    for kind in sorted(kinds[0] & kinds[1]):
        names = [sorted(hardware for device, hardware in side if device == kind) for side in found]
        if names[0] != names[1] or len(names[0]) > 1:
            raise GateError(
                f"different hardware: {kind} is {' and '.join(names[0])} in the new file and {' and '.join(names[1])} "
                "in the baseline: store a baseline measured on this machine, or compare two revisions with duel"
            )


def newest(rows: Iterable[Row]) -> dict[tuple[object, ...], Row]:
    """The row of each case that was written last."""
    found: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = tuple(getattr(row, name) for name in KEY)
        if key not in found or row.when >= found[key].when:
            found[key] = row
    return found


def condition(row: Row) -> tuple[object, ...]:
    """What must be the same for a case to be comparable at all."""
    return tuple(getattr(row, name) for name in CONDITIONS)


def with_samples(cell: CellResult, head: Row, base: Row | None, new: Samples | None, old: Samples | None) -> CellResult:
    """The cell with the raw samples of its rows, where they are known."""
    return replace(
        cell,
        head_samples=(new or {}).get(key_of(head), ()),
        base_samples=(old or {}).get(key_of(base), ()) if base else (),
    )


def named(judged: Sequence[tuple[Row, CellResult]]) -> list[CellResult]:
    """The cells as layer/algorithm, and where that is not unique with the columns that differ."""
    alike: dict[str, list[Row]] = {}
    for row, _ in judged:
        alike.setdefault(f"{row.layer}/{row.algo}", []).append(row)
    cells = []
    for row, cell in judged:
        name = f"{row.layer}/{row.algo}"
        columns = [c for c in (*CONDITIONS, "shape") if len({getattr(twin, c) for twin in alike[name]}) > 1]
        if {"batch", "shape"} <= set(columns):  # the shape repeats the batch
            columns.remove("shape")
        extra = ", ".join(f"{column} {getattr(row, column)}" for column in columns)
        cells.append(replace(cell, cell=f"{name} ({extra})" if extra else name))
    return cells


def label(rows: Sequence[Row], name: str) -> str:
    """A side in a few words: its commits, else its runs."""
    commits = sorted({row.commit.rstrip("+")[:9] + "+" * row.commit.endswith("+") for row in rows if row.commit})
    runs = sorted({row.run for row in rows})
    return ", ".join((commits or runs)[:3]) or name


def notes(
    heads: Collection[Row], bases: Collection[Row], unmatched: Sequence[Row], left_out: Sequence[Row]
) -> list[str]:
    """What was not compared, and what differs between the sides besides the code."""
    found = []
    if heads and {row.run for row in heads} == {row.run for row in bases}:
        found.append("both sides are the same run: nothing was measured anew")
    for column in SOFTWARE:
        was, now = (sorted({getattr(row, column) or "unknown" for row in side}) for side in (bases, heads))
        if was and now and was != now:
            found.append(f"{column}: {' and '.join(was)} in the baseline, {' and '.join(now)} now")
    if unmatched:
        names = list(dict.fromkeys(f"{row.layer}/{row.algo}" for row in unmatched))
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        found.append(f"without a valid time in the baseline, so not compared: {', '.join(names[:LISTED])}{more}")
    if left_out:
        words = dict.fromkeys(conditions_in_words(row) for row in left_out)
        found.append(f"only in the baseline, so not compared: {'; '.join(words)}")
    return found


def conditions_in_words(row: Row) -> str:
    """`cpu, float32, batch 1, 2 threads, hot cache`."""
    return (
        f"{row.device}, {row.precision}, batch {row.batch}, {row.threads} thread{'s' * (row.threads != 1)}, "
        f"{row.cache} cache"
    )
