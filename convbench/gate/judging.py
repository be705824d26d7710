"""What a fought duel means: its times, bytes, errors and losses as an Outcome, and its raw samples as a file."""

from __future__ import annotations

import csv
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

from convbench.gate.decision import Facts, Judged, Rules, decide, worse
from convbench.gate.duel import Cell, Duel, Taken
from convbench.gate.opponents import BASE, HEAD
from convbench.gate.outcome import CellResult, GateError, Outcome, Verdict

DISTURBED = 0.2  # a larger share of disturbed samples is worth a note
COLUMNS = ("cell", "side", "stage", "block", "round", "seconds", "disturbed")


def judge(
    duel: Duel, rules: Rules, controls: Container[str], base: str, head: str, notes: Sequence[str] = (),
    hardware: str = "",
) -> Outcome:  # fmt: skip
    """The outcome of a duel; `controls` holds the names of cells whose source is the same on both sides."""
    cells = [cell for cell in duel.cells if cell.name not in duel.dropped]
    judged = decide(
        {cell.name: duel.evidence(cell, cell.name in controls) for cell in cells if cell.name not in duel.lost}, rules
    )
    results = [_result(duel, cell, judged.get(cell.name)) for cell in cells]
    said = [*notes, *(f"{name} is not compared: {reason}" for name, reason in duel.dropped.items())]
    for cell in cells:
        if cell.slowdown:
            said.append(f"{cell.name} of head was slowed down by {100 * cell.slowdown:g} % on purpose")
    disturbed = sum(sample.disturbed for sample in duel.taken)
    if disturbed > DISTURBED * len(duel.taken):
        said.append(
            f"{disturbed} of {len(duel.taken)} samples lost time to other processes: stop them for a clear answer"
        )
    if duel.lost and not duel.taken:
        said.append("nothing could be measured")
    return Outcome("duel", base, head, tuple(results), tuple(said), hardware, rules.delta)


def _result(duel: Duel, cell: Cell, judged: Judged | None) -> CellResult:
    """One cell's row. Wrong and lost cells have no times; memory and error block by themselves."""
    old, new = (duel.facts.get((cell.name, side)) for side in (BASE, HEAD))
    memory, error = _ratios(old, new)
    loss = duel.lost.get(cell.name)
    if loss is not None or judged is None:
        verdict, reason = (loss.verdict, loss.reason) if loss else (Verdict.MISSING, "not measured")
        return CellResult(cell.name, verdict, reason=reason, memory_ratio=memory, error_ratio=error)
    from convbench.stats import median

    base, head = (duel.samples(cell, side) for side in (BASE, HEAD))
    result = CellResult(
        cell.name, judged.verdict, judged.ratio, judged.low, judged.high, 1e3 * median(base), 1e3 * median(head),
        judged.detectable, judged.reason, memory, error, tuple(base), tuple(head),
    )  # fmt: skip
    if duel.against or old is None or new is None:
        return result
    more = worse(old, new)
    if not more:
        return result
    reason = f"{more}; {result.reason}" if result.verdict is Verdict.FAIL else more
    return replace(result, verdict=Verdict.FAIL, reason=reason)


def _ratios(base: Facts | None, head: Facts | None) -> tuple[float | None, float | None]:
    """Peak memory and error of head over base's, where both are known and base's is not 0."""
    if base is None or head is None:
        return None, None
    memory = head.peak_bytes / base.peak_bytes if base.peak_bytes else None
    return memory, head.error / base.error if base.error else None


def write_samples(path: Path, taken: Sequence[Taken]) -> None:
    """Every sample of every block as CSV, so that any statistic can be computed again. Raises GateError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            for sample in taken:
                row = (getattr(sample, name) for name in COLUMNS)
                writer.writerow(
                    [repr(v) if isinstance(v, float) else int(v) if isinstance(v, bool) else v for v in row]
                )
    except OSError as error:
        raise GateError(f"cannot write {path}: {error.strerror or error}; choose another file") from None
