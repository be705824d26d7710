"""Ours against the fastest library: the ratio, what is chosen under a bound, and the means in the README."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rival_rows import CONV, FC, ROWS, case, series, stack_row

from convbench.report.readme import main as rewrite_readme
from convbench.report.versus import Mean, comparison, family_means, kind_means, kind_of, lines, mean_of, within
from convbench.results import Writer, fastest_library, times, versus
from convbench.results.stack import write_stack
from convbench.shapes import parse_shape

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
