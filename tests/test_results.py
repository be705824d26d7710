"""The CSV: what is written is read back, and what is damaged is refused with file, line, column and reason."""

from __future__ import annotations

import errno
import math
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes import QUICK_COMMAND, convbench, row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convbench.results import (
    COLUMNS,
    SAMPLE_COLUMNS,
    STATUSES,
    ResultsError,
    Row,
    Writer,
    cell,
    phases_cell,
    read,
    writer,
)
from convbench.results.schema import LATER

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TYPES: dict[str, Any] = {
    "str": TEXT,
    "int": st.integers(-(2**70), 2**70),
    "float | None": st.none() | FLOATS,
    "int | None": st.none() | st.integers(),
    "bool | None": st.none() | st.booleans(),
}


def any_row() -> st.SearchStrategy[Row]:
    columns = {f.name: TYPES[str(f.type)] for f in fields(Row)}
    columns["status"] = st.sampled_from(STATUSES)
    columns["time_ms"] = st.floats(5e-324, 1e300)
    columns["phases"] = st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e9)).map(phases_cell)
    columns["error"] = columns["error_max"] = st.none() | FLOATS | st.just(math.inf)
    return st.builds(Row, **columns)


@given(st.lists(any_row(), max_size=3))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_round_trip(tmp_path: Path, rows: list[Row]) -> None:
    path = tmp_path / "x.csv"
    path.unlink(missing_ok=True)
    writer = Writer(path)
    for each in rows:
        writer.add(each, [(0, 1, 0.5, False)])
    assert read(path) == rows


@pytest.mark.parametrize(
    "note", ['a,b;"c"', "two\nlines", "\r\n", "\r", "'", '"', "", " ", "\x00", "é 漢 🙂", "=1+1", "\ufeff"]
)
def test_notes_of_every_kind(tmp_path: Path, note: str) -> None:
    writer = Writer(tmp_path / "x.csv")
    writer.add(row(note=note, layer="first"))
    writer.add(row(note="plain"))
    assert [r.note for r in read(tmp_path / "x.csv")] == [note, "plain"]


def test_a_lone_surrogate_does_not_end_the_run(tmp_path: Path) -> None:
    """A file name or an error message that is not UTF-8 reaches Python as surrogates."""
    writer = Writer(tmp_path / "x.csv")
    writer.add(row(note="caf\udce9"))
    assert read(tmp_path / "x.csv")[0].note.startswith("caf")


def test_cells() -> None:
    assert [cell(v) for v in (None, True, False, 1, 0.1, 1e-300, "a")] == [
        "",
        "true",
        "false",
        "1",
        "0.1",
        "1e-300",
        "a",
    ]
    assert cell(0.1 + 0.2) == "0.30000000000000004"


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    assert cell(np.float64(0.1)) == "0.1"
    assert cell(np.int64(3)) == "3"


def test_appending_keeps_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.csv"
    Writer(path).add(row(algo="a.a"), [(0, 2, 0.25, True), (1, 2, 0.5, False)])
    before = path.read_bytes()
    Writer(path).add(row(algo="b.b"))
    assert path.read_bytes().startswith(before)
    assert [r.algo for r in read(path)] == ["a.a", "b.b"]
    samples = (path.parent / "x.samples.csv").read_text().splitlines()
    assert samples[0] == ",".join(SAMPLE_COLUMNS)
    assert len(samples) == 3
    assert samples[1].endswith(",0,2,0.25,true")


def written(folder: Path, *rows: Row) -> Path:
    path = folder / "x.csv"
    writer = Writer(path)
    for each in rows or (row(algo="a.a"), row(algo="b.b"), row(algo="c.c")):
        writer.add(each)
    return path


def damage(path: Path, line: int, column: str, text: str) -> None:
    """Put another text into one cell (no cell of these files holds a comma)."""
    lines = path.read_text().splitlines()
    cells = lines[line - 1].split(",")
    cells[COLUMNS.index(column)] = text
    lines[line - 1] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("column", "text", "reason"),
    [
        ("time_ms", "fast", "'fast' is not a number"),
        ("time_ms", "nan", "'nan' is not a finite number"),
        ("time_ms", "NaN", "'NaN' is not a finite number"),
        ("time_ms", "inf", "'inf' is not a finite number"),
        ("time_ms", "", "a row that is ok needs a time above 0, not 'None'"),
        ("time_ms", "0.0", "a row that is ok needs a time above 0, not '0.0'"),
        ("time_ms", "-1.5", "a row that is ok needs a time above 0, not '-1.5'"),
        ("time_ms", "1_000.5", "'1_000.5' is not a number"),
        ("gflops", "1e", "'1e' is not a number"),
        ("batch", "", "empty, but a whole number belongs here"),
        ("batch", "1.0", "'1.0' is not a whole number"),
        ("batch", "1_0", "'1_0' is not a whole number"),
        ("samples", "many", "'many' is not a whole number"),
        ("converged", "yes", "'yes' is neither true nor false"),
        ("converged", "True", "'True' is neither true nor false"),
        ("status", "", "'' is not one of ok, unsupported, skipped, wrong, failed, timeout, unstable"),
        ("status", "OK", "'OK' is not one of ok, unsupported"),
        ("status", "fine", "'fine' is not one of ok"),
        ("error", "small", "'small' is not a number"),
        ("phases", "a=1;b", "'b' is not name=ms"),
        ("phases", "a=quick", "'a=quick' is not name=ms"),
    ],
)
def test_a_bad_cell(tmp_path: Path, column: str, text: str, reason: str) -> None:
    path = written(tmp_path)
    damage(path, 3, column, text)
    with pytest.raises(ResultsError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}, line 3, column {column}: {reason}")


def test_a_time_may_be_missing_where_the_row_is_not_ok(tmp_path: Path) -> None:
    path = written(tmp_path, row(status="failed", time_ms=None), row(status="wrong", time_ms=2.0, error=math.inf))
    assert [r.status for r in read(path)] == ["failed", "wrong"]


def test_a_missing_and_a_surplus_cell(tmp_path: Path) -> None:
    path = written(tmp_path)
    lines = path.read_text().splitlines()
    for changed, count in ((lines[2].rpartition(",")[0], len(COLUMNS) - 1), (lines[2] + ",", len(COLUMNS) + 1)):
        path.write_text("\n".join([lines[0], lines[1], changed, lines[3]]) + "\n")
        with pytest.raises(ResultsError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}, line 3: {count} cells instead of {len(COLUMNS)}")


def without(path: Path, *columns: str) -> None:
    """Take columns out of a file (no cell of these files holds a comma)."""
    places = [COLUMNS.index(column) for column in columns]
    lines = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join(c for i, c in enumerate(cells) if i not in places) + "\n" for cells in lines))


@pytest.mark.parametrize("columns", [sorted(LATER), ["phases"], ["ceiling_gbs", "gflop_executed"]])
def test_a_file_from_before_a_column_was_added_is_read(tmp_path: Path, columns: list[str]) -> None:
    full = row(gflop_executed=2.0, ceiling_gflops=3.0, ceiling_gbs=4.0, phases="a=1")
    path = written(tmp_path, full, row(algo="b.b"))
    without(path, *columns)
    absent: dict[str, Any] = {name: "" if name == "phases" else None for name in columns}
    assert read(path) == [replace(full, **absent), row(algo="b.b")]
    with pytest.raises(ResultsError, match="choose another --out"):
        Writer(path)


@pytest.mark.parametrize("column", ["run", "gflops", "commit"])
def test_a_file_that_lacks_another_column_is_refused(tmp_path: Path, column: str) -> None:
    path = written(tmp_path)
    without(path, "phases", column)
    with pytest.raises(ResultsError, match=r"line 1: .*not a convbench results file of this version"):
        read(path)


def test_phases_in_a_cell() -> None:
    phases = {"input transform": 0.31, "products": 2.10000004}
    text = phases_cell(phases)
    assert text == "input transform=0.31;products=2.1"
    assert row(phases=text).phase_ms == {"input transform": 0.31, "products": 2.1}
    assert row().phase_ms == {}


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    """Cut anywhere: the rows before are all there, or the fault is named; a shortened value is never taken."""
    path = written(tmp_path, row(algo="a.a"), row(algo="b.b", commit="0123456789ab"))
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        if length in ends:
            assert len(read(path)) == ends.index(length)
            continue
        with pytest.raises(ResultsError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}, line "), length
        with pytest.raises(ResultsError, match=r"not complete|column|columns"):
            Writer(path)
        assert path.read_bytes() == whole[:length], "a refused file is left as it is"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\n", "line 1: 0 columns"),
        (b"a,b,c\n1,2,3\n", "line 1: column 1 is 'a' where 'run' belongs"),
        (b'"a\nb",c\n1,2\n', "column 1 is 'a"),
        (b'"a\nb"' + b",x" * (len(COLUMNS) - 1) + b"\n", "column 1 is 'a"),
        ("\ufeff".encode() + ",".join(COLUMNS).encode() + b"\n", "column 1"),
        (",".join(COLUMNS[:-1]).encode() + b"\n", f"{len(COLUMNS) - 1} columns instead of {len(COLUMNS)}"),
        (",".join([*COLUMNS, "more"]).encode() + b"\n", f"{len(COLUMNS) + 1} columns instead of {len(COLUMNS)}"),
        (b"run,when\xff\n", "byte 8 is not UTF-8"),
        (bytes(range(256)) * 4, "is not UTF-8"),
        (b"\x00" * 600, "line 1"),
        (b"x" * 200_000, "line "),
        (b"a\rb\rc\r", "line 1"),
        (b'"' + b"x" * 100, "line "),
    ],
)
def test_foreign_files(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(ResultsError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    if content:
        with pytest.raises(ResultsError) as caught:
            Writer(path)
        assert str(caught.value).startswith(f"{path}")
        assert path.read_bytes() == content, "nothing is appended to it"


@pytest.mark.parametrize("content", [b"x" * 200_000, b"a\rb\rc\r", b'"' + b"x" * 100, b"a,b\n"])
def test_out_that_is_another_file_is_a_usage_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    done = convbench("run", "--device", "cpu", "--shape", "n1c1h2w2k1r1s1", "--algo", "gemm.im2col", "--out", str(path))
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert done.err.startswith(f"convbench: {path}")
    assert path.read_bytes() == content


def test_samples_of_another_program_are_not_appended_to(tmp_path: Path) -> None:
    (tmp_path / "x.samples.csv").write_text("mine\n")
    with pytest.raises(ResultsError, match=r"x\.samples\.csv, line 1"):
        Writer(tmp_path / "x.csv")
    assert (tmp_path / "x.samples.csv").read_text() == "mine\n"


@pytest.mark.parametrize("where", ["", ".", "folder", "file/x.csv", "/"])
def test_places_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match=r"cannot write .*choose another --out"):
        Writer(Path(where))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ResultsError, match="Permission denied"):
        Writer(tmp_path / "x.csv")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EIO])
def test_what_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(writer, "open", refuse, raising=False)
    with pytest.raises(ResultsError) as caught:
        Writer(tmp_path / "x.csv")
    assert str(caught.value) == f"cannot write {tmp_path / 'x.csv'}: {os.strerror(code)}; choose another --out"


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"cannot read .*absent\.csv: No such file"):
        read(tmp_path / "absent.csv")
    with pytest.raises(ResultsError, match="cannot read"):
        read(tmp_path)


def test_the_schema_is_documented_and_plain() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert not {"dtype", "name", "size", "index"} & set(COLUMNS), "attributes of pandas' own"
    assert all(f.metadata["doc"] for f in fields(Row))
    assert set(TYPES) >= {str(f.type) for f in fields(Row)}


# The full disk


FILLING = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from fakes import row
from convbench.results import ResultsError, Writer
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
writer = Writer(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
for i in range(10**6):
    try:
        writer.add(row(algo=f"a.a{{i}}"))
    except ResultsError as error:
        print(i, error)
        break
"""


@pytest.mark.parametrize("extra", [1, 100, 5000, 5001, 5333])
def test_a_full_disk_leaves_whole_rows(tmp_path: Path, extra: int) -> None:
    path = tmp_path / "x.csv"
    limit = len(",".join(COLUMNS)) + 1 + extra
    script = FILLING.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(limit)], capture_output=True, text=True, check=True
    )
    count, _, message = done.stdout.partition(" ")
    assert message.startswith(f"cannot write {path}: ")
    assert message.strip().endswith("the rows written before are intact")
    assert [r.algo for r in read(path)] == [f"a.a{i}" for i in range(int(count))]
    assert Writer(path), "it can be appended to again"


def test_the_command_on_a_full_disk(tmp_path: Path) -> None:
    """Room for the header and a few rows: one line says so, rows are whole, and it is no usage error."""
    path = tmp_path / "x.csv"
    script = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(','.join(COLUMNS)) + 1200}, -1))\n" + QUICK_COMMAND[2]
    )
    words = ["run", "--device", "cpu", "--shape", "n1c2h5w5k2r3s3", "--algo", "gemm,winograd", "--budget", "0.001"]
    done = subprocess.run(
        [sys.executable, "-c", script, *words, "--out", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"convbench: cannot write {path}: ")
    assert 1 <= len(read(path)) < 6


# Death in the middle

KILLED = ["run", "--device", "cpu", "--shape", "n1c2h5w5k2r3s3", "--batch", "0", "--budget", "0.3"]


def start(path: Path) -> subprocess.Popen[str]:
    """A run of ten cases that is under way: at least two rows are there."""
    process = subprocess.Popen(
        [*QUICK_COMMAND, *KILLED, "--net", "alexnet", "--out", str(path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # not ignored, as in a shell's background
    )  # fmt: skip
    while process.poll() is None:
        if path.exists() and path.read_bytes().count(b"\n") >= 3:
            return process
        time.sleep(0.005)
    raise AssertionError(process.communicate()[1])


def test_kill_9_leaves_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    process = start(path)
    process.kill()
    process.communicate()
    rows = read(path)
    assert len(rows) >= 2
    assert {r.status for r in rows} <= {"ok", "unsupported", "skipped"}
    names = {r.algo for r in rows if r.status == "ok"}
    sampled = {line.split(",")[4] for line in (tmp_path / "x.samples.csv").read_text().splitlines()[1:]}
    assert names <= sampled
    done = convbench(*KILLED, "--algo", "gemm.im2col", "--out", str(path))
    assert done.code == 0, done.err
    assert len(read(path)) == len(rows) + 1, "and the next run appends to it"


def test_interrupted_says_what_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    process = start(path)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    if process.returncode == 0:  # it was finished before the signal came
        return
    rows = read(path)
    assert process.returncode == 130
    kept = f"the {len(rows)} finished rows are in {path}; --resume {path} measures the others"
    assert err == f"convbench: interrupted; {kept}\n"


def test_limits_are_ours_alone() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
