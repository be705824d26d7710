"""The CSV: one row a case, appended and flushed as it is made, read back strictly. The dataclass Row is its schema."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

FOREIGN = "not a convbench results file of this version"
FAMILIES = ("gemm", "fft", "winograd", "direct", "library")  # their order in tables and charts; others by name
STATUSES = ("ok", "unsupported", "skipped", "wrong", "failed", "timeout", "unstable")
SAMPLE_COLUMNS = ("run", "layer", "shape", "direction", "algo", "device", "precision", "threads", "cache",
                  "process", "round", "loops", "seconds", "disturbed")  # fmt: skip


class ResultsError(Exception):
    """A results file that cannot be used; the text names file, line, column and reason."""

    code = 2  # the command's exit code: usage


class NotWritten(ResultsError):
    """A row that could not be written, as the disk is full or gone."""

    code = 1


def _column(doc: str) -> Any:
    return field(metadata={"doc": doc})


@dataclass(frozen=True)
class Row:
    """One case: what was asked, what came out, and where. A number that does not apply is None, an empty cell."""

    run: str = _column("name of the run: UTC time and process, the same in all rows of one command")
    when: str = _column("UTC time at which the row was written, ISO 8601")
    net: str = _column("layer set: `alexnet`, a file's name, or `shape`")
    layer: str = _column("layer's name within the set; the shape word for --shape")
    shape: str = _column("the whole convolution as one word, to be given back to `convbench run --shape`")
    direction: str = _column("`forward`")
    algo: str = _column("algorithm, `family.variant`")
    device: str = _column("`cpu` or `cuda`")
    precision: str = _column("of x, w and y: `float32`, `float64`")
    batch: int = _column("images, N")
    threads: int = _column("CPU threads every algorithm was given")
    cache: str = _column("`hot`: operands stay where the call before left them; `cold`: evicted or flushed before each")
    seed: int = _column("of the random operands, to be given back to --seed")
    status: str = _column(
        "`ok`, `unsupported`, `skipped`, `wrong`, `failed`, `timeout` or `unstable`; only `ok` is ranked"
    )
    note: str = _column("which code ran; the reason where the status is not `ok`")
    time_ms: float | None = _column("ms a call: median of the samples (below 50 us on CUDA the 20 % trimmed mean)")
    time_lo_ms: float | None = _column("ms: lower end of the median's 95 % interval (order statistics)")
    time_hi_ms: float | None = _column("ms: upper end of it")
    time_q1_ms: float | None = _column("ms: first quartile")
    time_q3_ms: float | None = _column("ms: third quartile")
    time_min_ms: float | None = _column("ms: least sample")
    samples: int | None = _column("samples taken; they are in `<name>.samples.csv`")
    loops: int | None = _column("calls a sample")
    outliers: int | None = _column("samples beyond Tukey's fences; counted, not dropped")
    disturbed: int | None = _column(
        "samples from which the hypervisor or another process took time; counted, not dropped"
    )
    converged: bool | None = _column("`true` where the interval's half-width is at most 1 % of the median")
    first_ms: float | None = _column("ms: planning and the first call, compiling included")
    prepare_ms: float | None = _column("ms: transforming or packing the filters, once")
    time_hot_ms: float | None = _column("ms a call back to back with warm caches (CUDA only)")
    enqueue_ms: float | None = _column("ms the host needs to launch one call, median (CUDA only)")
    sm_mhz: float | None = _column("MHz of the GPU's processors while it was timed, median (CUDA only)")
    joule: float | None = _column("J a call, where the GPU reports it (CUDA only)")
    gflop: float | None = _column(
        "10^9 nominal FLOPs a call, 2 N K P Q (C/g) R S, padding counted, for every algorithm"
    )
    gflop_true: float | None = _column("10^9 FLOPs without the taps that fall on padding")
    gflops: float | None = _column("effective GFLOP/s: gflop / time")
    percent_of_peak: float | None = _column("gflops in % of a large matrix product's rate, measured in the same run")
    bytes_min: int | None = _column("bytes of x, w and y, each moved once")
    gbs: float | None = _column("effective GB/s: bytes_min / time")
    workspace_bytes: int | None = _column("bytes the plan says it needs beyond x, w, y and the prepared filters")
    prepared_bytes: int | None = _column("bytes of the prepared filters (0: it uses w as it is)")
    peak_bytes: int | None = _column(
        "bytes measured beyond x, w and y at the worst moment of planning, preparing and one call"
    )
    error: float | None = _column(
        "||y - ref|| / ||ref|| against float64 (up to 64 outputs: over the norm random signs would give, if larger)"
    )
    error_max: float | None = _column("max |y - ref| / max |ref|")
    hardware: str = _column("model of the CPU or GPU")
    os: str = _column("system, release, architecture")
    python: str = _column("version")
    numpy: str = _column("version")
    blas: str = _column("library NumPy calls, version, kernels it chose")
    cupy: str = _column("version (CUDA only)")
    cuda: str = _column("version of the CUDA runtime (CUDA only)")
    driver: str = _column("version of the CUDA driver (CUDA only)")
    convbench: str = _column("version")
    commit: str = _column("commit of the checkout, `+` where files differed from it; empty for an installed package")

    @property
    def family(self) -> str:
        """The algorithm's family."""
        return self.algo.partition(".")[0]

    @property
    def peak_gflops(self) -> float | None:
        """The measured ceiling that percent_of_peak refers to, GFLOP/s."""
        if not self.gflops or not self.percent_of_peak:
            return None
        return 100 * self.gflops / self.percent_of_peak


COLUMNS = tuple(f.name for f in fields(Row))
_TYPES: dict[str, Any] = get_type_hints(Row)


def cell(value: Any) -> str:
    """A value as it stands in the file: floats in full, None empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(value)


class Writer:
    """Appends rows to a CSV and samples to its neighbour, each row written, flushed and synced in one piece.

    Raises ResultsError where the path cannot be written or holds something else than our columns.
    """

    def __init__(self, path: Path) -> None:
        if not path.name:
            raise ResultsError(f"cannot write {path}: it is a folder; choose another --out")
        self.path = path
        self.samples_path = path.with_name(f"{path.stem}.samples.csv")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for target, header in ((path, COLUMNS), (self.samples_path, SAMPLE_COLUMNS)):
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
        raise ResultsError(f"{path}, line 1: {_header_difference(found, header)}; choose another --out")
    if not ends_well:
        raise ResultsError(f"{path}: the last line is not complete; remove it, or choose another --out")


def _header_difference(found: Sequence[str], header: Sequence[str]) -> str:
    for number, (got, wanted) in enumerate(zip(found, header, strict=False), 1):
        if got != wanted:
            return f"column {number} is {got[:40]!r} where '{wanted}' belongs: {FOREIGN}"
    return f"{len(found)} columns instead of {len(header)}: {FOREIGN}"


def read(path: Path) -> list[Row]:
    """All rows of a results file. Raises ResultsError with file, line, column and reason at the first fault."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ResultsError(f"{path}: byte {error.start} is not UTF-8 text: not a results file") from None
    if not text:
        raise ResultsError(f"{path}: the file is empty")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            line = reader.line_num
            if header is None:
                header = cells
                if cells != list(COLUMNS):
                    raise ResultsError(f"{path}, line 1: {_header_difference(cells, COLUMNS)}")
                continue
            if len(cells) != len(COLUMNS):
                raise ResultsError(
                    f"{path}, line {line}: {len(cells)} cells instead of {len(COLUMNS)}: truncated or damaged"
                )
            rows.append(_parse(path, line, cells))
    except csv.Error as error:
        raise ResultsError(f"{path}, line {reader.line_num}: {error}") from None
    if not text.endswith("\n"):
        raise ResultsError(f"{path}, line {reader.line_num}, column {COLUMNS[-1]}: the line has no end: truncated")
    return rows


def _parse(path: Path, line: int, cells: Sequence[str]) -> Row:
    values = {}
    for name, text in zip(COLUMNS, cells, strict=True):
        try:
            values[name] = _value(name, text)
        except ValueError as error:
            raise ResultsError(f"{path}, line {line}, column {name}: {error}") from None
    row = Row(**values)
    if row.status == "ok" and (row.time_ms is None or row.time_ms <= 0):
        raise ResultsError(
            f"{path}, line {line}, column time_ms: a row that is ok needs a time above 0, not '{row.time_ms}'"
        )
    return row


def _value(name: str, text: str) -> Any:
    """A cell as its column's type. Raises ValueError with the reason."""
    kind = _TYPES[name]
    if kind is str:
        if name == "status" and text not in STATUSES:
            raise ValueError(f"'{text[:40]}' is not one of {', '.join(STATUSES)}")
        return text
    if text == "":
        if kind is int:
            raise ValueError("empty, but a whole number belongs here")
        return None
    if kind == bool | None:
        if text not in ("true", "false"):
            raise ValueError(f"'{text[:40]}' is neither true nor false")
        return text == "true"
    if kind in (int, int | None):
        return _number(int, text, "a whole number")
    number = _number(float, text, "a number")
    if not math.isfinite(number) and name not in ("error", "error_max"):
        raise ValueError(f"'{text}' is not a finite number")
    return number


def _number(kind: Any, text: str, what: str) -> Any:
    try:
        if "_" in text or not text.isascii() or text != text.strip():  # Python's own licences
            raise ValueError
        return kind(text)
    except ValueError:
        raise ValueError(f"'{text[:40]}' is not {what}") from None
