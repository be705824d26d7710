"""What a comparison found: verdicts, cells, the whole, and the exit code. `check` and `duel` both speak it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

EXIT_OK, EXIT_USAGE, EXIT_REGRESSION, EXIT_NOT_MEASURED, EXIT_WRONG, EXIT_INCONCLUSIVE = 0, 2, 3, 4, 5, 6


class GateError(ValueError):
    """A comparison that cannot be made; the text is one line that says what and how to mend it."""

    code = EXIT_USAGE


class Verdict(StrEnum):
    """Of a cell, or of the whole."""

    PASS = "PASS"  # as fast as before: the upper bound is below the threshold
    OK = "OK"  # nothing suspicious, though a slowdown above the threshold is not ruled out
    IMPROVED = "IMPROVED"
    FAIL = "FAIL"  # slower, hungrier or less exact
    INCONCLUSIVE = "INCONCLUSIVE"  # suspicious, but not proven; or proven by a measurement that only advises
    UNSTABLE = "UNSTABLE"  # the measurement contradicts itself
    MISSING = "MISSING"  # not measured: the case is gone, failed, timed out, or its time is no time
    WRONG = "WRONG"  # the answer is wrong, whatever its speed


WORST_FIRST = (
    Verdict.WRONG, Verdict.FAIL, Verdict.MISSING, Verdict.UNSTABLE, Verdict.INCONCLUSIVE,
    Verdict.IMPROVED, Verdict.OK, Verdict.PASS,
)  # fmt: skip
LISTED = (*(verdict for verdict in WORST_FIRST if verdict is not Verdict.IMPROVED), Verdict.IMPROVED)  # in tables
BLOCKING = frozenset({Verdict.WRONG, Verdict.FAIL, Verdict.MISSING, Verdict.UNSTABLE})


@dataclass(frozen=True)
class CellResult:
    """One case compared: head against base. A number that does not apply is None."""

    cell: str  # layer/algorithm, with what else is needed to tell it from the others
    verdict: Verdict
    ratio: float | None = None  # time of head over time of base
    low: float | None = None  # 95 % interval of the ratio
    high: float | None = None
    base_ms: float | None = None
    head_ms: float | None = None
    detectable: float | None = None  # the smallest slowdown that could have been detected: 0.12 is 12 %
    reason: str = ""
    memory_ratio: float | None = None
    error_ratio: float | None = None
    base_samples: tuple[float, ...] = ()  # seconds a call
    head_samples: tuple[float, ...] = ()
    head_low_ms: float | None = None  # 95 % interval of head's time, where it is known
    head_high_ms: float | None = None


@dataclass(frozen=True)
class Outcome:
    """A whole comparison."""

    kind: str  # check or duel
    base: str
    head: str
    cells: tuple[CellResult, ...]
    notes: tuple[str, ...] = ()
    hardware: str = ""
    threshold: float | None = None  # slowdown that counts: 0.1 is 10 %; None where the cells' differ

    @property
    def verdict(self) -> Verdict:
        """Of the whole: the worst of the cells', MISSING where there are none; PASS only where all cells pass."""
        found = {cell.verdict for cell in self.cells} or {Verdict.MISSING}
        return next(verdict for verdict in WORST_FIRST if verdict in found)

    def exit_code(self, strict: bool) -> int:
        """5 wrong, else 3 regression, else 4 not measured or unstable, else 6 inconclusive if strict, else 0."""
        verdict = self.verdict
        if verdict is Verdict.INCONCLUSIVE:
            return EXIT_INCONCLUSIVE if strict else EXIT_OK
        return {
            Verdict.WRONG: EXIT_WRONG,
            Verdict.FAIL: EXIT_REGRESSION,
            Verdict.MISSING: EXIT_NOT_MEASURED,
            Verdict.UNSTABLE: EXIT_NOT_MEASURED,
        }.get(verdict, EXIT_OK)

    @property
    def ordered(self) -> list[CellResult]:
        """The cells, worst first."""
        return worst_first(self.cells)

    @property
    def headline(self) -> str:
        """The whole in one line: the verdict, how many cells of which verdict, what is compared."""
        counts = [f"{n} {v}" for v in WORST_FIRST if (n := sum(cell.verdict is v for cell in self.cells))]
        cells = ", ".join(counts) if counts else "nothing was compared"
        return f"{self.verdict}: {cells} ({self.head} against {self.base})"


def worst_first(cells: Iterable[CellResult]) -> list[CellResult]:
    """The cells by verdict, IMPROVED last, and within one by ratio, the slowest first."""
    return sorted(cells, key=lambda cell: (LISTED.index(cell.verdict), -(usable(cell.ratio) or math.inf), cell.cell))


def usable(value: float | None) -> float | None:
    """The value where it is a finite number above 0, else None: what no time and no ratio may be otherwise."""
    return value if value is not None and math.isfinite(value) and value > 0 else None


def percent(share: float | None) -> str:
    """0.123 as `12 %`, 0.0123 as `1.2 %`, 0.05 as `5 %`; empty where there is none."""
    if share is None or not math.isfinite(share):
        return ""
    digits = f"{100 * share:.1f}".removesuffix(".0") if abs(share) < 0.0995 else f"{100 * share:.0f}"
    return f"{digits} %"


def interval(cell: CellResult) -> str:
    """`0.97 to 1.04`, the interval of the ratio; empty where there is none."""
    low, high = usable(cell.low), usable(cell.high)
    return f"{low:.2f} to {high:.2f}" if low and high else ""


def ratio(cell: CellResult) -> str:
    """`1.02`; empty where there is none."""
    value = usable(cell.ratio)
    return f"{value:.2f}" if value else ""
