"""A CSV that is damaged, older or another program's: refused with file, line, column and reason, and left as it is."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import convbench, row

from convbench.results import COLUMNS, ResultsError, Row, Writer, read
from convbench.results.schema import LATER


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


def test_reading_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"cannot read .*absent\.csv: No such file"):
        read(tmp_path / "absent.csv")
    with pytest.raises(ResultsError, match="cannot read"):
        read(tmp_path)
