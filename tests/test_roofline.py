"""The roofline and the accuracy chart: what was executed under the machine's ceilings, errors beside the library's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_report import GONE, check_files, row, rows, text_of

from convbench.report import write_report
from convbench.report.accuracy import NAMED, named
from convbench.report.roofline import place
from convbench.report.series import gather, moved_bytes
from convbench.report.tables import limit_table

TOLD: dict[str, Any] = {"gflop_executed": 0.1, "ceiling_gflops": 250.0, "ceiling_gbs": 20.0}
SMALL = "n1c1h2w2k1r1s1"  # x and y of four numbers, one filter number


def test_bytes_that_must_move() -> None:
    assert moved_bytes(row(SMALL, prepared_bytes=0)) == moved_bytes(row(SMALL)) == 4 * (4 + 4 + 1)
    assert moved_bytes(row(SMALL, prepared_bytes=100)) == 4 * (4 + 4) + 100
    assert moved_bytes(row(SMALL, precision="float64")) == 8 * (4 + 4 + 1)
    assert moved_bytes(row(SMALL, precision="tf32")) == 4 * (4 + 4 + 1)
    assert moved_bytes(row(SMALL, precision="int8")) is None
    assert moved_bytes(row(shape="?")) is None


def test_where_a_row_stands() -> None:
    spot = place(row(SMALL, ms=0.5, gflop_executed=72e-9, ceiling_gflops=50.0, ceiling_gbs=20.0))
    assert spot is not None
    assert (spot.intensity, spot.limit, spot.by_memory) == (pytest.approx(2.0), pytest.approx(40.0), True)
    assert spot.executed == pytest.approx(72 / 0.5e6)
    spot = place(row(SMALL, gflop_executed=72e-9, ceiling_gflops=30.0, ceiling_gbs=20.0))
    assert spot is not None
    assert (spot.limit, spot.by_memory) == (30.0, False)


@pytest.mark.parametrize("absent", ["gflop_executed", "ceiling_gflops", "ceiling_gbs"])
def test_rows_that_do_not_say_have_no_place(absent: str) -> None:
    assert place(row(**(TOLD | {absent: None}))) is None


def test_rows_that_are_not_ok_have_no_place() -> None:
    assert place(row(**TOLD)) is not None
    assert place(row(**(TOLD | GONE | {"status": "failed"}))) is None


def test_the_chart_is_skipped_where_no_row_says_what_it_executes(tmp_path: Path) -> None:
    written = write_report({"x.csv": rows()}, tmp_path)
    assert not [path for path in written if path.stem == "roofline"]
    assert "roofline" not in written[-1].read_text(encoding="utf-8")
    assert "their limit" not in written[-1].read_text(encoding="utf-8")


def test_the_chart_leaves_out_who_does_not_say(tmp_path: Path) -> None:
    content = [*rows(**TOLD), row("conv1", "direct.quiet", 0.1)]
    check_files(write_report({"x.csv": content, "y.csv": rows(batch=16)}, tmp_path))
    text = text_of(tmp_path / "roofline.svg")
    assert "direct.quiet" not in text
    assert "1 algorithm that does not say what is executed: not drawn" in text
    assert "batch 16" not in text, "a series without such rows has no panel"
    assert "conv1" not in text, "its fastest does not say"
    assert "conv2" in text


@pytest.mark.parametrize(
    ("algo", "units"), [("fft.split3", "tensor cores"), ("winograd.f2.int8x3", "units for tiles of bytes")]
)
def test_other_units_may_pass_the_roof_and_large_rates_are_written_out(tmp_path: Path, algo: str, units: str) -> None:
    told: dict[str, Any] = {**TOLD, "ceiling_gbs": 4244.0}
    write_report({"x.csv": rows(**told)}, tmp_path)
    assert "can pass the first" not in text_of(tmp_path / "roofline.svg")
    write_report({"x.csv": [*rows(**told), row("conv1", algo, 0.1, **told)]}, tmp_path)
    text = " ".join(text_of(tmp_path / "roofline.svg").split())
    assert f"multiplied on {units}, which can pass the first" in text
    assert "memory 4,240 GB/s" in text


@pytest.mark.parametrize(
    "some",
    [
        [row(**TOLD)],
        [row(**(TOLD | {"ceiling_gbs": 1e-3}))],
        [row(**(TOLD | {"ceiling_gbs": 1e6}))],
        [row(f"l{i}", shape=f"n1c{i}h9w9k2r3s3", **TOLD) for i in range(1, 19)],
    ],
    ids=["one", "memory alone", "multiply-adds alone", "many layers"],
)
def test_odd_rooflines(some: list[Any], tmp_path: Path) -> None:
    check_files(write_report({"x.csv": some}, tmp_path))
    assert (tmp_path / "roofline.png").exists()


def test_the_table_of_limits() -> None:
    slow = row(SMALL, "gemm.im2col", 1e-3, gflop_executed=72e-9, ceiling_gflops=50.0, ceiling_gbs=0.1, gflops=0.1)
    quiet = row(SMALL, "library.torch.nchw", 0.5e-3)
    (one,) = gather({"x.csv": [slow, quiet, row("conv2")]})
    assert (
        limit_table(one).splitlines()[2] == f"| {SMALL} | `gemm.im2col` | 0.10 | 0.07 | 2.00 | 0.20 (memory) | 36.0 |"
    )
    assert "conv2" not in limit_table(one)
    (one,) = gather({"x.csv": [quiet]})
    assert limit_table(one) == ""


# Accuracy


def test_errors_stand_beside_the_librarys(tmp_path: Path) -> None:
    library = [row(layer, "library.torch.nchw", 1.5, error=2.5e-7) for layer in ("conv1", "conv2")]
    check_files(write_report({"x.csv": [*rows(), *library]}, tmp_path))
    text = text_of(tmp_path / "accuracy.svg")
    for words in ("library.torch.nchw", "the library's own error", "conv2", "winograd.f10", "tolerance of float32"):
        assert words in text, words


def test_without_a_library_there_are_no_lines_for_it(tmp_path: Path) -> None:
    write_report({"x.csv": rows()}, tmp_path)
    assert "library" not in text_of(tmp_path / "accuracy.svg")


def test_a_library_alone_is_drawn_too(tmp_path: Path) -> None:
    check_files(write_report({"x.csv": [row(algo="library.torch.nchw"), row(algo="library.onednn")]}, tmp_path))


def test_who_gets_a_name_where_there_are_many() -> None:
    few = {f"gemm.v{i}": (1.0 + i, 1.0 + i) for i in range(NAMED)}
    assert named(few) == list(few)
    many = few | {"fft.a": (30.0, 30.0), "fft.b": (31.0, 0.5), "fft.c": (32.0, 40.0), "library.torch": (33.0, 33.0)}
    assert named(many) == ["gemm.v0", "fft.a", "fft.b", "library.torch"]
