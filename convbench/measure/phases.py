"""What a call spends its time on, where its plan can tell: the median of each phase over several calls of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from convbench.algorithms.base import Plan
from convbench.devices.base import Device
from convbench.stats import median

LEAST_CALLS, MOST_CALLS = 3, 25  # after one that is not counted
UNMEASURED = "phases not measured"  # in a row's note, with the reason
PHASE_SECONDS = 0.5  # of one case, unless LEAST_CALLS take longer
SIGNS = ";=\n\r"  # that part phases in a cell

Split = Callable[[], Mapping[str, float]]


def stated_flops(plan: Plan) -> int:
    """FLOPs of one call, 0 where not stated. A duel runs plans of other revisions, which may lack the field."""
    return getattr(plan, "flops", 0)


def phased_call(plan: Plan, x: Any, prepared: Any, y: Any) -> Split | None:
    """One call that tells its phases; None where the plan (perhaps of another revision, as above) cannot."""
    phases = getattr(plan, "phases", None)
    return None if phases is None else lambda: phases(x, prepared, y)


def measure_phases(split: Split, device: Device) -> tuple[dict[str, float], str]:
    """Seconds of each phase by name, and "". Where that fails: no phases, and why."""
    calls: list[dict[str, float]] = []
    try:
        split()
        begin = device.now()
        while len(calls) < LEAST_CALLS or (len(calls) < MOST_CALLS and device.now() - begin < PHASE_SECONDS):
            calls.append({name: float(seconds) for name, seconds in split().items()})
            if reason := _fault(calls[-1], calls[0]):
                return {}, reason
    except Exception as error:
        return {}, " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return {name: median([call[name] for call in calls]) for name in calls[0]}, ""


def _fault(phases: Mapping[str, float], first: Mapping[str, float]) -> str:
    """What is wrong with a call's phases, or ""."""
    if not phases:
        return "there are none"
    if list(phases) != list(first):
        return f"{', '.join(first)} in one call, {', '.join(phases)} in another"
    for name, seconds in phases.items():
        if not name.strip() or set(SIGNS) & set(name):
            return f"the name {name!r} is empty, or holds one of ; and ="
        if not 0 <= seconds < float("inf"):
            return f"{name} took {seconds} seconds"
    return ""
