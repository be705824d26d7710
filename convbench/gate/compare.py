"""The verdict of one case: a row measured now against the same case's row in the baseline."""

from __future__ import annotations

import math
from dataclasses import replace

from convbench.gate.outcome import CellResult, Verdict, percent, usable
from convbench.results import Row
from convbench.stats import interval_ranks
from convbench.units import duration, size
from convbench.units import error as error_text

THRESHOLDS = {"cpu": 0.10, "cuda": 0.05}  # slowdown that counts
FLOORS_MS = {"cpu": 0.050, "cuda": 0.002}  # and how long it must be: less is the clock's and the scheduler's
GROWTH = 0.01  # of memory and error
PEAK_SLACK = 64_000  # bytes of measured peak that come and go with the allocator
OTHER_SEED = 2.0  # times the error that counts where the operands differ
ROUNDING = {"float32": 2.0**-24, "float64": 2.0**-53}
NOT_APPLICABLE = ("unsupported", "skipped")
FIGURES = (
    ("workspace_bytes", "workspace", 0),
    ("prepared_bytes", "prepared filters", 0),
    ("peak_bytes", "peak", PEAK_SLACK),
)


def threshold_of(device: str, wanted: float | None) -> float:
    """The slowdown that counts on a device."""
    return THRESHOLDS.get(device, THRESHOLDS["cpu"]) if wanted is None else wanted


def compare(head: Row, base: Row | None, strict: bool, threshold: float | None) -> CellResult | None:
    """The verdict of a case; None where there is nothing to compare, as only the new side has a valid time."""
    broken = not_measured(head)
    if broken and not (head.status in NOT_APPLICABLE and (base is None or base.status in NOT_APPLICABLE)):
        verdict, reason = broken
        known = base is not None and base.status == "ok"
        return CellResult("", verdict, base_ms=base.time_ms if base and known else None, reason=reason)
    if broken or base is None or base.status != "ok":
        return None
    if usable(base.time_ms) is None:
        return CellResult("", Verdict.MISSING, reason=f"the baseline's time is {base.time_ms} ms: measure it again")
    cell = compare_times(head, base, strict, threshold_of(head.device, threshold))
    memory_ratio, hungrier = compare_memory(head, base)
    error_ratio, less_exact = compare_error(head, base)
    blocking = hungrier + less_exact
    if blocking:
        reason = "; ".join([*blocking, *([cell.reason] if cell.reason else [])])
        cell = replace(cell, verdict=Verdict.FAIL, reason=reason)
    return replace(cell, memory_ratio=memory_ratio, error_ratio=error_ratio)


def not_measured(row: Row) -> tuple[Verdict, str] | None:
    """The verdict of a row that has no valid time, whatever it is compared with, and why; else None."""
    if row.status == "wrong":
        return Verdict.WRONG, row.note or "wrong results"
    if row.status == "unstable":
        return Verdict.UNSTABLE, row.note or "unstable"
    if row.status != "ok":
        return Verdict.MISSING, f"{row.status}: {row.note}" if row.note else row.status
    if row.error is not None and not math.isfinite(row.error):
        return Verdict.WRONG, f"the error is {row.error}"
    if usable(row.time_ms) is None:
        return Verdict.MISSING, f"the time is {row.time_ms} ms, which is none"
    return None


def compare_times(head: Row, base: Row, strict: bool, threshold: float) -> CellResult:
    """Slower if the new interval lies above the old one, stretched by the threshold, and by more than the floor."""
    assert head.time_ms
    assert base.time_ms
    ratio = head.time_ms / base.time_ms
    cell = CellResult(
        "", Verdict.OK, ratio, base_ms=base.time_ms, head_ms=head.time_ms,
        head_low_ms=usable(head.time_lo_ms), head_high_ms=usable(head.time_hi_ms),
    )  # fmt: skip
    bounds = [bound(row) for row in (head, base)]
    if bounds[0] is None or bounds[1] is None:
        which = "this file" if bounds[0] is None else "the baseline"
        return replace(cell, verdict=Verdict.INCONCLUSIVE, reason=f"too few samples in {which}")
    (new_low, new_high), (old_low, old_high) = bounds[0], bounds[1]
    low, high = new_low / old_high, new_high / old_low
    floor = FLOORS_MS.get(head.device, FLOORS_MS["cpu"])
    # A true ratio r would move the new interval in proportion; it must clear both conditions below.
    detectable = max(old_high / base.time_ms * head.time_ms / new_low * (1 + threshold), 1 + floor / base.time_ms) - 1
    cell = replace(cell, low=low, high=high, detectable=detectable)
    if low > 1 + threshold and head.time_ms - base.time_ms > floor:
        text = f"at least {percent(low - 1)} slower"
        if strict:
            return replace(cell, verdict=Verdict.FAIL, reason=text)
        return replace(cell, verdict=Verdict.INCONCLUSIVE, reason=f"advisory: {text}")
    if high < 1 / (1 + threshold) and base.time_ms - head.time_ms > floor:
        return replace(cell, verdict=Verdict.IMPROVED)
    if high <= 1 + threshold:
        return replace(cell, verdict=Verdict.PASS)
    if ratio <= 1 + threshold:
        return cell
    if head.time_ms - base.time_ms <= floor:
        return replace(cell, reason=f"slower by no more than {duration(floor)}")
    return replace(cell, verdict=Verdict.INCONCLUSIVE, reason=f"{percent(ratio - 1)} slower, not proven")


def bound(row: Row) -> tuple[float, float] | None:
    """The 95 % interval of a row's time, where it is one: enough samples, finite, around the time."""
    low, high = usable(row.time_lo_ms), usable(row.time_hi_ms)
    if low is None or high is None or row.time_ms is None or not low <= row.time_ms <= high:
        return None
    return None if row.samples is None or interval_ranks(row.samples) is None else (low, high)


def compare_memory(head: Row, base: Row) -> tuple[float | None, list[str]]:
    """Head over base of the figure that grew by the most bytes, and the reasons to block."""
    reasons: list[str] = []
    known: list[tuple[int, float | None]] = []
    for name, what, slack in FIGURES:
        new, old = getattr(head, name), getattr(base, name)
        if old is None:
            continue
        if new is None:
            reasons.append(f"{what} not measured, {size(old)} in the baseline")
            continue
        known.append((new - old, new / old if old > 0 else None))
        if new > (1 + GROWTH) * old and new - old > slack:
            reasons.append(f"{what} {size(new)} instead of {size(old)}")
    return (max(known, key=lambda pair: pair[0])[1] if known else None), reasons


def compare_error(head: Row, base: Row) -> tuple[float | None, list[str]]:
    """Head's error over base's, and the reason to block."""
    new, old = head.error, base.error
    if old is None or not math.isfinite(old):
        return None, []
    if new is None:
        return None, [f"error not measured, {error_text(old)} in the baseline"]
    ratio = new / old if old > 0 else None
    allowed = 1 + GROWTH if head.seed == base.seed else OTHER_SEED
    if new > allowed * old and new > ROUNDING.get(head.precision, 0.0):
        seeds = "" if head.seed == base.seed else " (other seed)"
        return ratio, [f"error {error_text(new, 2)} instead of {error_text(old, 2)}{seeds}"]
    return ratio, []
