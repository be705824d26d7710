"""Outcomes of the gate for tests: made of single cells, some with nasty texts, and read as verdicts by cell."""

from __future__ import annotations

import math
from typing import Any

from convbench.gate.outcome import CellResult, Outcome, Verdict

NASTY = 'a|b`c` <d> & "e"\n::error::100 %\r\x00\ud800, f:g $x$'


def cell(
    verdict: Verdict = Verdict.PASS, name: str = "conv3/gemm.im2col", ratio: float = 1.0, **more: Any
) -> CellResult:
    facts: dict[str, Any] = {
        "ratio": ratio, "low": 0.95 * ratio, "high": 1.05 * ratio, "base_ms": 2.0, "head_ms": 2.0 * ratio,
        "detectable": 0.12, "reason": "" if verdict in (Verdict.PASS, Verdict.OK) else "a reason",
    }  # fmt: skip
    return CellResult(name, verdict, **(facts | more))


def outcome(*cells: CellResult, **more: Any) -> Outcome:
    facts: dict[str, Any] = {"notes": ("numpy differs",), "hardware": "AMD EPYC", "threshold": 0.1}
    return Outcome("check", "abc", "def", cells, **(facts | more))


def gone(verdict: Verdict = Verdict.MISSING, name: str = "conv9/fft.full", reason: str = "not there") -> CellResult:
    return CellResult(name, verdict, reason=reason)


EVERY = outcome(
    *(cell(v, f"conv{i}/gemm.im2col", 1 + i / 20, head_samples=(0.002, 0.0021)) for i, v in enumerate(Verdict)),
    gone(),
    gone(Verdict.WRONG, "conv9/mine.x", NASTY),
    cell(name=f"conv9/{NASTY}", ratio=math.nan, low=math.inf, high=math.nan, head_ms=math.nan, detectable=math.inf),
)
ALL = [EVERY, outcome(), outcome(cell()), outcome(gone()), outcome(*(cell(name=f"c{i}/a.b") for i in range(60)))]


def found(outcome: Outcome) -> dict[str, str]:
    return {cell.cell: str(cell.verdict) for cell in outcome.cells}
