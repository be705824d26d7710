"""Ours against the fastest library, as it is shown: in tables, in the terminal's eighty columns and in charts."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from rival_rows import ROWS, case, series

from convbench.console import best_of_families, broken, reasons, result_table
from convbench.report import style, write_report
from convbench.report.accuracy import _line
from convbench.report.heatmap import NAME
from convbench.report.network import BEST, stacks
from convbench.report.series import algorithms
from convbench.report.tables import best_table, family_table
from convbench.report.versus import lines
from convbench.results import fastest_library, versus


def text_of(table: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    return out.getvalue()


def test_the_best_of_a_layer_is_ours_with_the_ratio_beside_it() -> None:
    table = best_table(ROWS)
    assert table.splitlines()[0].endswith("| vs library |")
    assert "| conv1 | `winograd.f4` | 1.00 ms (0.99 to 1.01)" in table
    assert table.splitlines()[2].endswith("| 2.0x |")
    assert table.splitlines()[3].endswith("| 0.50x |")
    assert "library.torch" not in table
    assert "vs library" not in best_table([r for r in ROWS if r.family != "library"])
    assert "| `library.torch.mkldnn` |" in best_table([r for r in ROWS if r.family == "library"]), (
        "nothing else is there"
    )


def test_families_and_sums_have_the_library_apart() -> None:
    sums = stacks(series())
    assert [each.algo for each in sums[BEST] if each] == ["winograd.f4", "gemm.im2col"]
    assert [each.algo for each in sums["library"] if each] == ["library.torch.mkldnn", "library.torch.nchw"]
    assert "2.00 ms · 2.00× · torch.mkldnn" in family_table(series())


def test_the_heat_map_has_a_line_for_it(tmp_path: Path) -> None:
    write_report({"x.csv": ROWS}, tmp_path)
    text = (tmp_path / "slowdown.svg").read_text()
    assert "ours vs library" in text
    assert ">2.0x<" in text
    write_report({"x.csv": [r for r in ROWS if r.family != "library"]}, tmp_path)
    assert "ours vs library" not in (tmp_path / "slowdown.svg").read_text()


SKIPPED = [
    case(f"library.torch.{mode}", 1.0, layer, status="skipped", note="it is not installed: install it", time_ms=None)
    for layer in ("conv1", "fc6")
    for mode in ("nchw", "mkldnn")
]


def test_a_library_that_is_not_installed_takes_no_room() -> None:
    rows = [r for r in ROWS if r.family != "library"] + SKIPPED
    assert {each.family for each in best_of_families(rows)} == {"gemm", "winograd", "fft"}
    assert "library.torch.nchw" not in algorithms([series(rows)])
    assert "library" not in family_table(series(rows))
    assert reasons(rows) == [
        "skipped: on 2 layers library.torch.nchw, library.torch.mkldnn: it is not installed: install it"
    ]
    assert "vs lib" not in text_of(result_table(rows))
    assert len(best_of_families(SKIPPED)) == 2, "where there is nothing else it is shown"


def test_reasons_of_single_rows() -> None:
    rows = [case("gemm.a", 1.0, status="failed", note="x"), case("gemm.b", 1.0, status="failed", note="x"), SKIPPED[0]]
    assert reasons(rows) == [
        "failed: conv1 gemm.a: x", "failed: conv1 gemm.b: x",
        "skipped: conv1 library.torch.nchw: it is not installed: install it",
    ]  # fmt: skip


def test_the_terminal_shows_it_in_eighty_columns() -> None:
    rows = [
        case(algo, ms, layer, gflops=1234.5, workspace_bytes=123_456_789, error=1.2e-7)
        for layer in ("conv1", "fc6")
        for algo, ms in (("winograd.f6", 12.3), ("direct.blocked", 0.123), ("library.torch.channels_last", 0.12))
    ]
    text = text_of(result_table(rows))
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) <= 1 + len(rows) + 2
    assert "vs lib" in text
    assert "torch.channels_last *" in text
    assert "0.98x" in text


ON_GPU = [
    case(algo, ms, layer, device="cuda", cache="cold", hardware="NVIDIA H200", precision="float16", batch=128,
         gflops=123456.7, workspace_bytes=123_456_789, error=1.2e-7, status=status)
    for layer in ("conv1", "conv2", "fc6")
    for algo, ms, status in (
        ("winograd.f6", 0.0352, "ok"), ("direct.blocked", 12.3, "ok"), ("library.torch.channels_last", 0.0351, "ok"),
        ("library.cudnn.implicit_gemm", 0.5, "ok"), ("library.cudnn.implicit_precomp_gemm", 0.03, "ok"),
        ("library.cudnn.winograd", 0.4, "unsupported"), ("library.cudnn.winograd_nonfused", 0.4, "ok"),
        ("library.cudnn.fft", 1.0, "ok"), ("library.cudnn.fft_tiling", 2.0, "ok"), ("library.cudnn.gemm", 3.0, "ok"),
        ("library.torch.nchw", 0.2, "ok"),
    )
]  # fmt: skip


def test_cudnn_is_the_library_on_a_gpu() -> None:
    best = fastest_library(ON_GPU)
    assert {row.algo for row in best.values()} == {"library.cudnn.implicit_precomp_gemm"}
    assert versus(ON_GPU[0], best) == pytest.approx(0.03 / 0.0352)
    assert [line.rival.algo for line in lines(series(ON_GPU)) if line.rival] == [row.algo for row in best.values()]
    assert "| conv1 | `winograd.f6` | 35.2 us" in best_table(ON_GPU)
    assert "0.85x" in best_table(ON_GPU)


def test_long_names_are_whole_in_eighty_columns() -> None:
    text = text_of(result_table(ON_GPU))
    assert max(map(len, text.splitlines())) <= 80
    assert "30.0 us 29.7 .. 30.3" in text, "the interval in the time's unit"
    assert "conv2" in text
    assert "…" not in text
    assert "cudnn.implicit_" in text
    assert "precomp_gemm *" in text


@pytest.mark.parametrize(("name", "text"), [
    ("winograd.f6 *", "winograd.f6 *"), ("torch.channels_last *", "torch.channels_last *"),
    ("cudnn.implicit_precomp_gemm *", "cudnn.implicit_\nprecomp_gemm *"), ("x" * 30, "x" * 21 + "\n" + "x" * 9),
])  # fmt: skip
def test_where_a_name_is_broken(name: str, text: str) -> None:
    assert broken(name, 21) == text
    assert text.replace("\n", "") == name


def test_charts_tell_the_librarys_algorithms_apart(tmp_path: Path) -> None:
    names = [name for name in algorithms([series(ON_GPU)]) if name.startswith("library.")]
    assert len({style.algorithm(name, NAME) for name in names}) == len(names) == 9
    assert len({str(_line(place)) for place in range(len(names))}) == 9
    write_report({"x.csv": ON_GPU}, tmp_path)
    assert ">cudnn.implicit_precomp_gemm<" in (tmp_path / "slowdown.svg").read_text()
    assert ">library.cudnn.winograd<" in (tmp_path / "slowdown.svg").read_text()
