"""Ours against the fastest library: the ratio in rows, tables, terminal and chart, and what is chosen under a bound."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import row
from rich.console import Console

from convbench.console import best_of_families, broken, reasons, result_table
from convbench.report import style, write_report
from convbench.report.accuracy import _line
from convbench.report.heatmap import NAME
from convbench.report.network import BEST, stacks
from convbench.report.readme import main as rewrite_readme
from convbench.report.series import Series, algorithms, gather
from convbench.report.tables import best_table, family_table
from convbench.report.versus import (
    Mean,
    comparison,
    family_means,
    kind_means,
    kind_of,
    lines,
    mean_of,
    within,
)
from convbench.results import Row, Writer, fastest_library, times, versus
from convbench.results.stack import StackRow, write_stack
from convbench.shapes import parse_shape

CONV, FC = "n1c4h8w8k4r3s3p1", "n1c64h1w1k8r1s1"


def case(algo: str, ms: float, layer: str = "conv1", **changes: Any) -> Row:
    """A row of a layer's own shape."""
    values = {"time_ms": ms, "time_lo_ms": 0.99 * ms, "time_hi_ms": 1.01 * ms, "algo": algo, "layer": layer}
    values |= {"shape": FC if layer.startswith("fc") else CONV, "note": "", "commit": "abc1234"}
    return row(**(values | {"when": "2026-01-01T00:00:00Z"} | changes))


ROWS = [
    case("gemm.im2col", 4.0, error=3e-7), case("winograd.f4", 1.0, error=2e-6), case("fft.tiled", 2.0, error=4e-7),
    case("library.torch.nchw", 3.0), case("library.torch.mkldnn", 2.0),
    case("library.torch.prepacked", 0.1, status="wrong"),
    case("gemm.im2col", 2.0, "fc6"), case("library.torch.nchw", 1.0, "fc6"),
]  # fmt: skip


def series(rows: list[Row] = ROWS) -> Series:
    (one,) = gather({"x.csv": rows})
    return one


def text_of(table: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    return out.getvalue()


# The ratio


def test_against_the_fastest_valid_library_of_the_same_case() -> None:
    best = fastest_library(ROWS)
    assert sorted(row.algo for row in best.values()) == ["library.torch.mkldnn", "library.torch.nchw"]
    assert [versus(each, best) for each in ROWS] == [0.5, 2.0, 1.0, 2 / 3, 1.0, None, 0.5, 1.0]


@pytest.mark.parametrize("name", ["batch", "threads", "hardware", "cache", "precision", "layer", "shape", "device"])
def test_never_across_conditions(name: str) -> None:
    changed: dict[str, Any] = {"batch": 16, "threads": 4}
    other = replace(ROWS[0], **{name: changed.get(name, "another")})
    assert versus(other, fastest_library(ROWS)) is None


def test_nothing_to_compare_with() -> None:
    ours = [case("gemm.im2col", 4.0), case("winograd.f4", 1.0, status="failed", time_ms=None)]
    assert fastest_library(ours) == {}
    assert [versus(each, fastest_library(ROWS)) for each in ours] == [0.5, None]


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, ""), (3.44, "3.4x"), (0.874, "0.87x"), (0.996, "1.0x"), (1.0, "1.0x"), (9.96, "10x"), (123.4, "123x")],
)
def test_how_a_ratio_is_written(ratio: float | None, text: str) -> None:
    assert times(ratio) == text


# Tables and charts


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


# Choosing under a bound


def test_within_a_bound() -> None:
    one = series()
    found = within(one, "conv1", 1e-6)
    assert found is not None
    assert found.algo == "fft.tiled"
    assert within(one, "conv1", 1e-8) is None
    assert [line.ratio for line in lines(one)] == [2.0, 0.5]
    assert [line.ratio for line in lines(one, 1e-6)] == [1.0, 0.5]
    assert mean_of(lines(one)) == Mean(1.0, 0.5, "fc6", 2, 2)
    assert mean_of(lines(one, 1e-9)) is None


def test_families_are_held_to_bounds_of_their_own() -> None:
    found = family_means(series())
    assert {name: bound for name, (bound, _) in found.items()} == {"gemm": 1e-5, "fft": 5e-7, "winograd": 1e-5}
    assert found["winograd"][1] == Mean(2.0, 2.0, "conv1", 1, 1), "convolutions alone"
    many = [replace(r, batch=16) for r in ROWS]
    assert family_means(series(many))["gemm"][0] == 1e-6


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        (CONV, 0), ("n1c4h8w8k4r5s5p2", 0), ("n1c4h8w8k4r1s1", 1), ("n1c4h8w8k4r1s1u2", 2), ("n1c3h30w30k4r7s7u2", 2),
        (FC, 3), ("n1c4h6w6k9r6s6", 3), ("n1c3h30w30k4r7s7", 4), ("n1c3h30w30k4r1s3", 4),
    ],
)  # fmt: skip
def test_kinds_of_layers(word: str, kind: int) -> None:
    from convbench.report.versus import KINDS

    assert kind_of(parse_shape(word)) == KINDS[kind]


def test_means_of_kinds() -> None:
    assert {kind: mean.mean for kind, mean in kind_means(series()).items()} == {
        "3x3, 5x5 at stride 1": 2.0, "fully connected": 0.5,
    }  # fmt: skip


def stack_row(**changes: Any) -> StackRow:
    """Ours at batch 1."""
    values: dict[str, Any] = {
        "when": "w", "batch": 1, "plan": "ours", "algorithms": "conv1=winograd.f4;conv2=fft.tiled", "bound": 1e-5,
        "error": 2e-6, "samples": 31, "disturbed": 0, "time_ms": 5.0, "time_lo_ms": 4.9, "time_hi_ms": 5.1,
        "rival": "library.torch.nchw", "versus": 1.5, "versus_lo": 1.46, "versus_hi": 1.54, "seed": 1, "threads": 2,
        "hardware": "a CPU", "convbench": "0", "commit": "abc",
    }  # fmt: skip
    return StackRow(**(values | changes))


def test_the_comparison_in_markdown() -> None:
    many = [replace(r, batch=16, shape=r.shape.replace("n1", "n16")) for r in ROWS]
    many.append(replace(many[0], algo="fft.tiled.w24", time_ms=0.5, error=2e-7))
    stack = [stack_row(), stack_row(batch=16, versus=2.5), stack_row(plan="library.x")]
    plain = stack_row(plan="ours, float32 filters", batch=16, versus=1.2)
    assert "in float32" not in comparison(ROWS, stack).splitlines()[-3]
    text = comparison([*many, *ROWS], [*stack, plain])
    found = text.splitlines()
    assert found[0] == "| layer | batch 1 (error ≤ 1e-05) | batch 16 (error ≤ 1e-06) |"
    assert found[2] == "| conv1 | 2.0x `winograd.f4` | 4.0x `fft.tiled.w24` |"
    assert "| geometric mean of the convolutions | **2.0x** | **4.0x** |" in found
    assert "| the same, filters kept in float32 | 2.0x | 1.0x |" in found
    assert "| the same, filters kept in float32 |  | 1.2x (1.46 to 1.54) |" in found
    assert "| `winograd` alone (" not in text
    assert "| `winograd` alone | 2.0x (≤ 1e-05) | 2.0x (≤ 1e-05) |" in found
    assert "| convolutions in sequence | **1.5x** (1.46 to 1.54) | **2.5x** (1.46 to 1.54) |" in found


def test_the_readme_gets_it_from_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readme, folder = tmp_path / "README.md", tmp_path / "bench-cpu"
    readme.write_text("a\n<!-- comparison:begin -->\n<!-- comparison:end -->\nb\n")
    folder.mkdir()
    assert rewrite_readme([str(readme), str(folder)]) == 2
    assert "nothing to compare" in capsys.readouterr().err
    writer = Writer(folder / "batch1.csv")
    for each in ROWS:
        writer.add(each)
    writer.close()
    write_stack(folder / "stack.csv", [stack_row()])
    assert rewrite_readme([str(readme), str(folder)]) == 0
    text = readme.read_text()
    assert "| conv1 | 2.0x `winograd.f4` |" in text
    assert "**1.5x** (1.46 to 1.54)" in text
    assert text.endswith("From [`bench-cpu`](bench-cpu).\n\n<!-- comparison:end -->\nb\n")
