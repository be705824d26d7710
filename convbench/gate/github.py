"""An outcome for GitHub: annotations as workflow commands, and Markdown for the step's summary and for comments."""

from __future__ import annotations

import os

from convbench.gate.outcome import CellResult, GateError, Outcome, Verdict, interval, percent, ratio
from convbench.units import duration

LIMIT = 10  # annotations of a kind that GitHub shows for a step; further ones are dropped without a word
SUMMARY_BYTES = 1024 * 1024  # a step's summary above that is not shown at all
SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"
ERROR, WARNING, NOTICE = "error", "warning", "notice"
LEVELS = {
    Verdict.WRONG: ERROR,
    Verdict.FAIL: ERROR,
    Verdict.MISSING: ERROR,
    Verdict.UNSTABLE: ERROR,
    Verdict.INCONCLUSIVE: WARNING,
    Verdict.IMPROVED: NOTICE,
}


def github(outcome: Outcome) -> str:
    """Workflow commands: the whole first, then the cells worst first, at most LIMIT of a kind, the last one counting.

    Cells that are as they were get no annotation.
    """
    overall = LEVELS.get(outcome.verdict, NOTICE)
    lines = []
    for level in (ERROR, WARNING, NOTICE):
        found = [
            command(level, f"{cell.verdict} {cell.cell}", sentence(cell))
            for cell in outcome.ordered
            if LEVELS.get(cell.verdict) == level
        ]
        room = LIMIT - (level == overall)
        if len(found) > room:
            rest = len(found) - (room - 1)
            text = f"{rest} more of this kind; the step's summary lists all"
            found = [*found[: room - 1], command(level, f"convbench {outcome.kind}", text)]
        if level == overall:
            found.insert(0, command(level, f"convbench {outcome.kind}", outcome.headline))
        lines += found
    return "".join(f"{line}\n" for line in lines)


def sentence(cell: CellResult) -> str:
    """A cell's facts in a line."""
    facts = [cell.reason]
    if ratio(cell):
        facts.append(f"time ratio {ratio(cell)}" + (f" ({interval(cell)})" if interval(cell) else ""))
    return "; ".join(filter(None, facts)) or str(cell.verdict)


def command(level: str, title: str, message: str) -> str:
    """A workflow command."""
    return f"::{level} title={escape_property(title)}::{escape(message)}"


def escape(text: str) -> str:
    """The data of a workflow command: percent, carriage return and line feed."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """A property of a workflow command: also the characters that end it."""
    return escape(text).replace(":", "%3A").replace(",", "%2C")


def markdown(outcome: Outcome, limit: int | None = None) -> str:
    """A heading, the verdict and a table, worst first; of at most `limit` cells."""
    cells = outcome.ordered
    lines = [
        f"### convbench {outcome.kind}: {outcome.verdict}", "",
        plain(outcome.headline) + (f" on {plain(outcome.hardware)}" if outcome.hardware else ""), "",
    ]  # fmt: skip
    if cells:
        lines += [
            "| cell | verdict | time ratio | 95 % interval | base | head | could have detected | reason |",
            "|---|---|--:|--:|--:|--:|--:|---|",
        ]
    for cell in cells[:limit]:
        columns = (
            f"`{plain(cell.cell)}`", f"**{cell.verdict}**" if cell.verdict in LEVELS else cell.verdict, ratio(cell),
            interval(cell), duration(cell.base_ms), duration(cell.head_ms), percent(cell.detectable),
            plain(cell.reason),
        )  # fmt: skip
        lines.append(f"| {' | '.join(columns)} |")
    if limit is not None and len(cells) > limit:
        lines += ["", f"{len(cells) - limit} more cells are not shown."]
    lines += ["", *(f"- {plain(note)}" for note in outcome.notes)] if outcome.notes else []
    return "\n".join(lines) + "\n"


def plain(text: str) -> str:
    """Text for a cell of a Markdown table: one line, no markup of its own."""
    text = " ".join(text.split()).replace("\\", "\\\\")
    return text.replace("|", "\\|").replace("`", "'").replace("<", "&lt;").replace("*", "\\*")


def append_summary(outcome: Outcome) -> None:
    """Append the Markdown to the step's summary, as far as it fits, where GitHub provides for one."""
    target = os.environ.get(SUMMARY_VARIABLE)
    if not target:
        return
    limit = len(outcome.cells)
    text = markdown(outcome, limit)
    try:
        before = os.path.getsize(target) if os.path.exists(target) else 0
        while limit and before + len(text.encode("utf-8", "backslashreplace")) + 1 > SUMMARY_BYTES:
            limit //= 2
            text = markdown(outcome, limit)
        with open(target, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{text}\n")
    except OSError as error:
        raise GateError(f"cannot write {target} ({SUMMARY_VARIABLE}): {error.strerror or error}") from None
