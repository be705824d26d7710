"""The last word of `make gpu`: who wins each layer, and how far the floor is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from test_bench_gpu import gpu_row, written

from convbench.bench_gpu import __main__ as command
from convbench.bench_gpu import table


def test_the_table_says_who_wins_and_how_far_the_floor_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = {"precision": "float32", "layer": "conv3"}
    path = written(
        tmp_path / "float32.csv",
        gpu_row(algo="winograd.f4", time_ms=0.6, time_lo_ms=0.59, time_hi_ms=0.61, error=4e-6, **same),
        gpu_row(algo="gemm.implicit", time_ms=2.4, time_lo_ms=2.3, time_hi_ms=2.5, **same),
        gpu_row(algo="library.cudnn.winograd_nonfused", time_ms=0.9, time_lo_ms=0.8, time_hi_ms=1.0, **same),
        gpu_row(algo="library.torch.nchw", time_ms=1.2, time_lo_ms=1.1, time_hi_ms=1.3, **same),
    )
    table.show([path], tmp_path / "table.md")
    text = capsys.readouterr().out
    assert "float32, batch 128" in text
    line = next(each for each in text.splitlines() if each.startswith("conv3"))
    assert line.split() == [
        "conv3",
        "winograd.f4",
        "600",
        "us",
        "200",
        "%",
        "cudnn.winograd_nonfused",
        "900",
        "us",
        "1.5x",
    ]
    assert max(map(len, text.splitlines())) <= 80
    kept = (tmp_path / "table.md").read_text()
    assert "| conv3 | winograd.f4 | 600 us | 200 % | cudnn.winograd_nonfused | 900 us | 1.5x |" in kept
    assert "NVIDIA H200" in kept


def test_memory_can_be_the_floor() -> None:
    assert table.floor_ms(gpu_row()) == pytest.approx(60 / 5e4 * 1e3)
    assert table.floor_ms(gpu_row(bytes_min=10**10)) == pytest.approx(2.5)
    assert table.floor_ms(gpu_row(ceiling_gbs=None)) is None
    assert table.of_floor(None) == ""


def test_a_layer_that_nobody_can_do_is_a_line_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    untimed: dict[str, Any] = dict.fromkeys(("time_ms", "time_lo_ms", "time_hi_ms", "samples", "gflops"))
    failed = gpu_row(precision="tf32", algo="gemm.implicit", status="failed", **untimed)
    table.show([written(tmp_path / "tf32.csv", failed)], tmp_path / "table.md")
    assert "no rival" in capsys.readouterr().out


def test_a_folder_without_results_is_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--show", "--out", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("convbench: --show: there are no results of `make gpu` in ")
    written(tmp_path / "float32.csv", gpu_row())
    assert command.main(["--show", "--out", str(tmp_path)]) == 0
