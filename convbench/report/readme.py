"""Rewrites the table in a README from a results file: `python -m convbench.report.readme README.md results/x.csv`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path, PurePath

from convbench.report.series import gather
from convbench.report.tables import best_table
from convbench.results import ResultsError, read

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
USAGE = "usage: python -m convbench.report.readme README.md results/x.csv"


def rewrite(readme: Path, csv: Path) -> None:
    """Put the best of each layer of `csv`, and a line on its origin, between the markers of `readme`.

    Raises ResultsError where a file cannot be read or written, or the markers are not there once each, in order.
    """
    rows = read(csv)
    if not any(row.status == "ok" for row in rows):
        raise ResultsError(f"{csv}: no row has the status ok, so there is no table to make")
    try:
        before = readme.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {readme}: {getattr(error, 'strerror', None) or error}") from None
    if before.count(BEGIN) != 1 or before.count(END) != 1 or before.index(BEGIN) > before.index(END):
        raise ResultsError(f"{readme}: needs the lines {BEGIN} and {END} once each, in this order")
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    link = PurePath(os.path.relpath(csv, readme.parent)).as_posix()
    kept = [row for one in gather({"": rows}) for row in one.rows]
    hardware = ", ".join(dict.fromkeys(row.hardware for row in kept))
    commits = ", ".join(dict.fromkeys(row.commit for row in kept if row.commit)) or "unknown"
    origin = f"From [`{csv.name}`]({link}): {hardware}, commit {commits}."
    after = f"{head}{BEGIN}\n\n{best_table(rows)}\n\n{origin}\n\n{END}{tail}"
    if after == before:
        return
    try:
        readme.write_bytes(after.encode("utf-8"))
    except OSError as error:
        raise ResultsError(f"cannot write {readme}: {error.strerror or error}") from None


def main(arguments: Sequence[str]) -> int:
    """Rewrite; 2 and one line on standard error where that is not possible."""
    if len(arguments) != 2:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    try:
        rewrite(Path(arguments[0]), Path(arguments[1]))
    except ResultsError as error:
        sys.stderr.write(f"convbench: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
