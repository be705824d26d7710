"""The CSV: what is written is read back, whatever it holds, and stays when more is appended."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from fakes import row
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convbench.results import COLUMNS, SAMPLE_COLUMNS, STATUSES, Row, Writer, cell, phases_cell, read

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


def test_phases_in_a_cell() -> None:
    phases = {"input transform": 0.31, "products": 2.10000004}
    text = phases_cell(phases)
    assert text == "input transform=0.31;products=2.1"
    assert row(phases=text).phase_ms == {"input transform": 0.31, "products": 2.1}
    assert row().phase_ms == {}


def test_the_schema_is_documented_and_plain() -> None:
    assert len(set(COLUMNS)) == len(COLUMNS)
    assert not {"dtype", "name", "size", "index"} & set(COLUMNS), "attributes of pandas' own"
    assert all(f.metadata["doc"] for f in fields(Row))
    assert set(TYPES) >= {str(f.type) for f in fields(Row)}
