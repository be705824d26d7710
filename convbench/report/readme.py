"""Rewrites what stands between markers in Markdown files, so that no figure and no column list is typed by hand.

`python -m convbench.report.readme README.md results/x.csv` puts the table of a results file into a README,
`python -m convbench.report.readme README.md results/x/bench-cpu` the comparison with PyTorch in that folder, the same
of a folder that `make gpu` has filled what it says of a GPU, and `python -m convbench.report.readme results/README.md`
the list of columns.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path, PurePath

from convbench.problem import PRECISIONS
from convbench.report.series import gather
from convbench.report.tables import best_table
from convbench.report.versus import comparison, gpu_comparison
from convbench.results import ResultsError, Row, read
from convbench.results.stack import HEADS, STACK, read_stack

USAGE = "usage: python -m convbench.report.readme README.md results/x.csv|folder | results/README.md"


def rewrite(readme: Path, csv: Path) -> None:
    """Put the best of each layer of `csv`, and a line on its origin, between the table markers of `readme`.

    Raises ResultsError where a file cannot be read or written, or the markers are not there once each, in order.
    """
    rows = read(csv)
    if not any(row.status == "ok" for row in rows):
        raise ResultsError(f"{csv}: no row has the status ok, so there is no table to make")
    link = PurePath(os.path.relpath(csv, readme.parent)).as_posix()
    kept = [row for one in gather({"": rows}) for row in one.rows]
    hardware = ", ".join(dict.fromkeys(row.hardware for row in kept))
    commits = ", ".join(dict.fromkeys(row.commit for row in kept if row.commit)) or "unknown"
    replace_between(
        readme, "table", f"{best_table(rows)}\n\nFrom [`{csv.name}`]({link}): {hardware}, commit {commits}."
    )


def rewrite_comparison(readme: Path, folder: Path) -> None:
    """Put the comparison with the fastest library, from a folder's `batch*.csv` and what met once more, into `readme`.

    It goes between the comparison markers; raises as rewrite does.
    """
    files = [path for path in folder.glob("batch*.csv") if not path.name.endswith(".samples.csv")]
    rows = [row for path in files for row in read(path)]
    if not any(row.status == "ok" for row in rows):
        raise ResultsError(f"{folder}: holds no batch*.csv with a row that is ok, so there is nothing to compare")
    link = PurePath(os.path.relpath(folder, readme.parent)).as_posix()
    stack, heads = (read_stack(path) if (path := folder / f"{name}.csv").is_file() else [] for name in (STACK, HEADS))
    text = comparison(rows, stack, heads)
    replace_between(readme, "comparison", f"{text} From [`{folder.name}`]({link}).")


def rewrite_gpu(readme: Path, folder: Path) -> None:
    """Put the comparison with the vendor's libraries on a GPU, from a folder's `<precision>.csv`, into `readme`.

    It goes between the gpu markers; raises as rewrite does.
    """
    rows = [row for name in PRECISIONS if (path := folder / f"{name}.csv").is_file() for row in read(path)]
    if not any(row.status == "ok" for row in rows):
        raise ResultsError(f"{folder}: holds no <precision>.csv with a row that is ok, so there is nothing to compare")
    link = PurePath(os.path.relpath(folder, readme.parent)).as_posix()
    replace_between(readme, "gpu", f"{gpu_comparison(rows)} From [`{folder.name}`]({link}).")


def rewrite_columns(readme: Path) -> None:
    """Put the list of a results file's columns between the columns markers of `readme`; raises as rewrite does."""
    lines = ["| column | what |", "|---|---|"]
    lines += [f"| `{column.name}` | {column.metadata['doc'].replace('|', chr(92) + '|')} |" for column in fields(Row)]
    replace_between(readme, "columns", "\n".join(lines))


def replace_between(readme: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name:begin -->` and `<!-- name:end -->`."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    try:
        before = readme.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ResultsError(f"cannot read {readme}: {getattr(error, 'strerror', None) or error}") from None
    if before.count(begin) != 1 or before.count(end) != 1 or before.index(begin) > before.index(end):
        raise ResultsError(f"{readme}: needs the lines {begin} and {end} once each, in this order")
    head, _, rest = before.partition(begin)
    _, _, tail = rest.partition(end)
    after = f"{head}{begin}\n\n{text}\n\n{end}{tail}"
    if after == before:
        return
    try:
        readme.write_bytes(after.encode("utf-8"))
    except OSError as error:
        raise ResultsError(f"cannot write {readme}: {error.strerror or error}") from None


def main(arguments: Sequence[str]) -> int:
    """Rewrite; 2 and one line on standard error where that is not possible."""
    if len(arguments) not in (1, 2):
        sys.stderr.write(f"{USAGE}\n")
        return 2
    try:
        if len(arguments) == 2 and Path(arguments[1]).is_dir():
            by_precision = any((Path(arguments[1]) / f"{name}.csv").is_file() for name in PRECISIONS)
            (rewrite_gpu if by_precision else rewrite_comparison)(Path(arguments[0]), Path(arguments[1]))
        elif len(arguments) == 2:
            rewrite(Path(arguments[0]), Path(arguments[1]))
        else:
            rewrite_columns(Path(arguments[0]))
    except ResultsError as error:
        sys.stderr.write(f"convbench: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
