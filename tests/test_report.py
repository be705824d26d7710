"""The report: charts and tables are made from rows alone, and nothing that is not `ok` is ranked or drawn as a time."""

from __future__ import annotations

import os
import struct
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from convbench.report import CHARTS, write_report
from convbench.report.charts import time_chart
from convbench.report.network import BEST, stacks, total
from convbench.report.readme import main, rewrite
from convbench.report.series import algorithms, gather, short_names
from convbench.report.style import RC, save, wrapped
from convbench.report.tables import best_table, family_table, interval, not_ok_table
from convbench.results import ResultsError, Row, Writer

BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
TEXTS = {
    "run": "20260101T000000Z-1", "when": "2026-01-01T00:00:00Z", "net": "alexnet", "direction": "forward",
    "device": "cpu", "precision": "float32", "cache": "hot", "status": "ok", "note": "", "hardware": "AMD EPYC",
}  # fmt: skip
SHAPES = {
    "conv1": "n1c3h227w227k96r11s11u4", "conv2": "n1c96h27w27k256r5s5p2g2", "conv3": "n1c256h13w13k384r3s3p1",
    "fc8": "n1c4096h1w1k1000r1s1",
}  # fmt: skip
ALGOS = ("gemm.im2col", "gemm.panel", "fft.full", "winograd.f2", "winograd.f10", "direct.naive")
GONE: dict[str, Any] = dict.fromkeys(
    ("time_ms", "time_lo_ms", "time_hi_ms", "gflops", "percent_of_peak", "workspace_bytes", "peak_bytes", "error")
)


def row(layer: str = "conv1", algo: str = "gemm.im2col", ms: float = 2.0, **changes: Any) -> Row:
    """An `ok` row with every column filled that a CPU run fills."""
    empty: dict[str, Any] = {f.name: "" if f.type == "str" else None for f in fields(Row)} | {"seed": 1, "loops": 1}
    made = Row(
        **(empty | TEXTS | {"layer": layer, "shape": SHAPES.get(layer, layer), "algo": algo, "batch": 1, "threads": 2})
    )
    numbers: dict[str, Any] = {
        "time_ms": ms, "time_lo_ms": 0.97 * ms, "time_hi_ms": 1.05 * ms, "samples": 15, "disturbed": 1,
        "converged": False, "gflop": 0.2, "gflops": 200 / ms, "percent_of_peak": 100 / ms, "workspace_bytes": 0,
        "peak_bytes": 4096, "error": 3e-7, "commit": "abc1234",
    }  # fmt: skip
    return replace(made, **(numbers | changes))


def rows(**changes: Any) -> list[Row]:
    """Four layers by six algorithms."""
    return [
        row(layer, algo, (1 + i) * (1 + j * j), error=(1 + j) * 2e-7, workspace_bytes=j * 1_000_000, **changes)
        for i, layer in enumerate(SHAPES)
        for j, algo in enumerate(ALGOS)
    ]


def text_of(svg: Path) -> str:
    """All text in an SVG, which must be well-formed."""
    return " ".join(
        "".join(element.itertext()) for element in ElementTree.parse(svg).iter() if element.tag.endswith("text")
    )


def check_files(paths: Sequence[Path]) -> None:
    for path in paths:
        data = path.read_bytes()
        assert data, path
        if path.suffix == ".png":
            assert data.startswith(b"\x89PNG\r\n\x1a\n")
            assert struct.unpack(">I", data[16:20])[0] == 1700
        elif path.suffix == ".svg":
            ElementTree.fromstring(data)


def test_every_chart_is_made_with_units_and_without_paths(tmp_path: Path) -> None:
    told = rows(gflop_executed=0.1, ceiling_gflops=250.0, ceiling_gbs=20.0)
    paths = write_report({"/somewhere/else/sample.csv": told}, tmp_path / "a" / "charts")
    check_files(paths)
    names = [name for name, _, _ in CHARTS if name != "comparison"]
    assert [p.name for p in paths] == [f"{n}.{s}" for n in names for s in ("svg", "png")] + ["report.md"]
    folder = paths[0].parent
    for name, words in {
        "time": ("time of a call, ms", "95 % interval", "AMD EPYC", "2 threads", "float32"),
        "gflops": ("effective GFLOP/s", "measured peak 200 GFLOP/s"),
        "roofline": ("executed GFLOP/s", "multiply-adds 250 GFLOP/s, memory 20 GB/s", "conv2", "winograd.f10"),
        "memory": ("bytes", "MB", "the input x itself"),
        "accuracy": ("tolerance of float32: 1e-5", "winograd.f10", "ref"),
        "slowdown": ("conv2", "winograd.f10", "1.00", "26"),
        "network": ("ms", "best of each layer", "winograd", "conv1"),
    }.items():
        text = text_of(folder / f"{name}.svg")
        for word in words:
            assert word in text, (name, word)
    page = (folder / "report.md").read_text(encoding="utf-8")
    assert "/somewhere" not in page
    assert all(f"]({name}.svg)" in page for name in names)
    assert "| hardware | AMD EPYC |" in page
    assert "24 times not known to 1 %" in page


def test_the_same_rows_give_the_same_svg(tmp_path: Path) -> None:
    import matplotlib

    written = []
    for _ in range(2):
        with matplotlib.rc_context(RC):
            written.append(save(time_chart(gather({"x.csv": [row()]})), tmp_path, "time")[0].read_bytes())
    assert written[0] == written[1]


def test_two_files_side_by_side_with_cases_that_are_not_ok(tmp_path: Path) -> None:
    other = rows(hardware="Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz", batch=16)
    other = [
        replace(r, status="unsupported", note="no 1x1 | tile", **GONE)
        if r.layer == "fc8" and r.family == "winograd"
        else r
        for r in other
    ]
    other.append(
        row(
            "conv1",
            "library.torch",
            0.001,
            status="wrong",
            note="error 1",
            error=1.0,
            hardware=other[0].hardware,
            batch=16,
        )
    )
    paths = write_report({"one.csv": rows(), "two.csv": other}, tmp_path)
    check_files(paths)
    assert (tmp_path / "comparison.png").exists()
    time = text_of(tmp_path / "time.svg")
    assert "AMD EPYC, batch 1" in time
    assert "Intel Xeon Gold 6230, batch 16" in time
    assert "library.torch" not in time
    assert "3 cases without a valid result not drawn" in time
    heat = text_of(tmp_path / "slowdown.svg")
    assert "n/a" in heat or "unsupported" in heat
    assert "wrong" in heat
    assert "not complete: no valid result for fc8" in text_of(tmp_path / "network.svg")
    assert "library.torch" not in text_of(tmp_path / "accuracy.svg")


@pytest.mark.parametrize(
    "few",
    [
        [row()],
        [row("n1c64h56w56k128r3s3u2p1", "mine.my_own_very_long_variant_name", net="shape", note="x" * 200)],
        [row(error=0.0, precision="float64", time_lo_ms=None, time_hi_ms=None, gflops=None, percent_of_peak=None)],
        [row(shape="?", precision="tf32", workspace_bytes=None, peak_bytes=None, error=None)],
        [row(f"block{i}_conv", f"family{i % 7}.v{j}", 1 + i + j) for i in range(14) for j in range(2)],
    ],
    ids=["one row", "long names", "exact", "empty cells", "many layers and families"],
)
def test_odd_files_are_drawn_too(few: list[Row], tmp_path: Path) -> None:
    check_files(write_report({"x.csv": few}, tmp_path))


def test_nothing_ok_and_an_unwritable_folder_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"x.csv: no row has the status ok"):
        write_report({"x.csv": [row(status="failed", **GONE)]}, tmp_path)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultsError, match=r"cannot write .*file.*choose another --out"):
        write_report({"x.csv": [row()]}, tmp_path / "file" / "charts")
    if hasattr(os, "geteuid") and os.geteuid():
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(ResultsError, match="cannot write"):
            write_report({"x.csv": [row()]}, tmp_path / "closed" / "charts")


def test_the_newest_row_of_a_case_wins_even_where_it_failed() -> None:
    later = "2026-02-02T00:00:00Z"
    old = [row("conv1", "gemm.im2col", 2.0), row("conv1", "gemm.panel", 3.0), row("conv2", "gemm.panel", 5.0)]
    new = [
        row("conv1", "gemm.im2col", 9.0, when=later),
        row("conv2", "gemm.panel", when=later, status="failed", **GONE),
    ]
    (one,) = gather({"x.csv": new + old})
    assert len(one.rows) == 3
    best = one.best("conv1")
    assert best is not None
    assert best.algo == "gemm.panel"
    assert one.best("conv2") is None
    changed = row("conv1", "gemm.im2col", 1.0, shape="n1c3h9w9k4r3s3", when=later)
    (one,) = gather({"x.csv": [*old, changed]})
    assert [r.algo for r in one.rows if r.layer == "conv1"] == ["gemm.im2col"]


def test_labels_say_what_differs() -> None:
    two = gather({"x.csv": [row(), row(batch=4), row(precision="float64"), row(cache="cold")]})
    assert [s.label for s in two] == [
        "float32, batch 1, hot cache", "float32, batch 4, hot cache", "float64, batch 1, hot cache",
        "float32, batch 1, cold cache",
    ]  # fmt: skip
    assert [s.label for s in gather({"a/x.csv": [row()], "b/x.csv": [row()]})] == ["a/x", "b/x"]
    assert [s.label for s in gather({"a/x.csv": [row()]})] == [""]
    assert short_names(["a/x.csv", "a/y.csv"]) == {"a/x.csv": "x", "a/y.csv": "y"}


def test_order_of_algorithms_and_wrapping() -> None:
    names = ["zeta.a", "winograd.f10", "winograd.f2", "gemm.x", "alone"]
    found = algorithms(gather({"x.csv": [row(algo=name) for name in names]}))
    assert found == ["gemm.x", "winograd.f2", "winograd.f10", "alone", "zeta.a"]
    assert wrapped("n1c64h56w56k128r3s3u2p1") == "n1c64h56w56\nk128r3s3u2p1"
    assert all(len(line) <= 14 for line in wrapped("a" * 100).split("\n"))


def test_a_family_without_a_layer_has_no_sum() -> None:
    (one,) = gather({"x.csv": [row("conv1"), row("conv2"), row("conv1", "fft.full", 1.0)]})
    sums = {name: total(found) for name, found in stacks(one).items()}
    assert sums == {BEST: 3.0, "gemm": 4.0, "fft": None}
    assert "not complete: 1 of 2 layers missing" in family_table(one)


def test_tables() -> None:
    near = row("conv1", "gemm.panel", 2.01)
    bad = [
        replace(row(layer, "fft.full"), status="failed", note="too | large\nfor it", **GONE)
        for layer in ("conv1", "conv2")
    ]
    (one,) = gather({"x.csv": [row("conv1"), near, *bad]})
    table = best_table(one.rows)
    assert "| conv1 | `gemm.im2col` ≈ `gemm.panel` | 2.00 ms (1.94 to 2.10) | 100 | 50.0 | 0 | 3.0e-07 |" in table
    assert "| conv2 | no valid result |" in table
    assert not_ok_table(one).splitlines()[2:] == ["| `fft.full` | conv1, conv2 | failed | too \\| large for it |"]
    assert interval(row(ms=0.2)) == "200 us (194 to 210)"
    assert "**batch 4**" in best_table([row(), row(batch=4)])


def write_csv(path: Path, content: Sequence[Row]) -> None:
    writer = Writer(path)
    for each in content:
        writer.add(each)


def test_the_readme_is_rewritten_between_its_markers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    csv, readme = tmp_path / "results" / "x.csv", tmp_path / "README.md"
    write_csv(csv, rows())
    readme.write_text(f"# Head\n{BEGIN}\nold\n{END}\ntail\n", encoding="utf-8")
    rewrite(readme, csv)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"# Head\n{BEGIN}\n\n| layer | fastest |")
    assert text.endswith(f"From [`x.csv`](results/x.csv): AMD EPYC, commit abc1234.\n\n{END}\ntail\n")
    assert "old" not in text
    assert str(tmp_path) not in text
    assert main([str(readme), str(csv)]) == 0
    assert readme.read_text(encoding="utf-8") == text
    for spoilt in ("no markers", f"{END} {BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"):
        readme.write_text(spoilt)
        with pytest.raises(ResultsError, match="once each"):
            rewrite(readme, csv)
        assert readme.read_text() == spoilt
    assert main([str(readme), str(csv)]) == 2
    assert main([]) == 2
    assert main([str(tmp_path / "none.md"), str(csv)]) == 2
    assert "usage" in capsys.readouterr().err
