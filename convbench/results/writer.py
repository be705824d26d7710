"""Writing: whole lines only, flushed and synced, under a lock."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from convbench.results.schema import COLUMNS, SAMPLE_COLUMNS, NotWritten, ResultsError, Row, cell, header_difference


class Writer:
    """Appends rows to a CSV and samples to its neighbour, each row written, flushed and synced in one piece.

    Holds a lock on the file until it is closed. mend: cut off a last line that a killed run has left incomplete.
    Raises ResultsError where the path cannot be written, holds something else than our columns, or is being written.
    """

    def __init__(self, path: Path, mend: bool = False) -> None:
        if not path.name:
            raise ResultsError(f"cannot write {path}: it is a folder; choose another --out")
        self.path = path
        self.samples_path = path.with_name(f"{path.stem}.samples.csv")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
            for target, header in ((path, COLUMNS), (self.samples_path, SAMPLE_COLUMNS)):
                if mend:
                    _cut_incomplete_line(target)
                if target.exists() and target.stat().st_size:
                    _check_appendable(target, header)
                else:
                    _append(target, [header])
        except OSError as error:
            raise ResultsError(f"cannot write {path}: {error.strerror or error}; choose another --out") from None

    def add(self, row: Row, samples: Iterable[Sequence[Any]] = ()) -> None:
        """Append one row and its samples (round, loops, seconds, disturbed)."""
        key = (
            row.run,
            row.layer,
            row.shape,
            row.direction,
            row.algo,
            row.device,
            row.precision,
            row.threads,
            row.cache,
        )
        try:
            lines = [tuple(cell(v) for v in (*key, os.getpid(), *sample)) for sample in samples]
            if lines:
                _append(self.samples_path, lines)
            _append(self.path, [tuple(cell(getattr(row, name)) for name in COLUMNS)])
        except OSError as error:
            reason = error.strerror or error
            raise NotWritten(f"cannot write {self.path}: {reason}; the rows written before are intact") from None

    def finished(self) -> int:
        """Rows that are whole in the file, whatever moment this run was interrupted at."""
        with open(self.path, newline="") as file:
            return max(0, sum(line.endswith("\n") for line in file) - 1)

    def close(self) -> None:
        """Let others write the file."""
        self._lock.close()


def _locked(path: Path) -> IO[bytes]:
    """The file, open and locked. Raises ResultsError where another process has the lock."""
    file = open(path, "ab")  # noqa: SIM115 (held until the writer is closed)
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no locks on this system: nothing to check
        pass
    except BlockingIOError:
        file.close()
        raise ResultsError(f"{path} is being written by another run; wait for it, or choose another --out") from None
    return file


def _cut_incomplete_line(path: Path) -> None:
    if path.exists():
        data = path.read_bytes()
        if not data.endswith(b"\n"):
            os.truncate(path, data.rfind(b"\n") + 1)


def _append(path: Path, lines: Iterable[Sequence[str]]) -> None:
    """Append whole lines in one write; where only a part fits on the disk, take that part back."""
    text, lines = io.StringIO(), list(lines)
    returns = any("\r" in cell for line in lines for cell in line)  # before Python 3.13 the writer does not quote them
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerows(lines)
    data = text.getvalue().encode("utf-8", "backslashreplace")  # half a surrogate pair, from a name that is not UTF-8
    with open(path, "ab", buffering=0) as file:
        start = file.seek(0, os.SEEK_END)
        try:
            written = file.write(data)
            if written != len(data):
                raise OSError(28, "No space left on device")
            os.fsync(file.fileno())
        except OSError:
            file.truncate(start)
            raise


def _check_appendable(path: Path, header: Sequence[str]) -> None:
    with open(path, "rb") as file:
        first = file.readline().decode(errors="replace").rstrip("\r\n")
        file.seek(-1, os.SEEK_END)
        ends_well = file.read(1) == b"\n"
    found = first.split(",")
    if found != list(header):
        raise ResultsError(f"{path}, line 1: {header_difference(found, header)}; choose another --out")
    if not ends_well:
        raise ResultsError(f"{path}: the last line is not complete; remove it, or choose another --out")
