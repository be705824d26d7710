"""What the CUDA plans do on the host: their array code under NumPy, their tables, and the tiles they choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_devices import ODD
from cuda_host.device import HostDevice

from convbench.algorithms.direct import blocked, strips
from convbench.algorithms.gemm import panel
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape


@pytest.mark.parametrize(
    ("word", "cache_bytes"), [(word, (1, 5000, 1 << 24)[i % 3]) for i, word in enumerate(ODD)] + [(ODD[0], 5000)]
)
def test_panels_on_cuda_give_the_right_answer(word: str, cache_bytes: int) -> None:
    problem = Problem(parse_shape(word))
    device: Any = HostDevice(cache_bytes=cache_bytes, racecheck=True)
    plan = panel.on_cuda(problem, device)
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, problem.shape)).error < problem.number.tolerance


def test_a_panel_keeps_to_its_part_of_the_cache() -> None:
    problem = Problem(parse_shape("n128c96h27w27k256r5s5p2g2"))
    rows = panel.panel_rows(problem, 4 << 20)
    assert 96 * 25 * rows * 27 * 4 <= (4 << 20) * panel.PANEL_PART
    assert panel.panel_rows(problem, 1) == 1
    assert panel.panel_rows(problem, 1 << 30) == 27


@pytest.mark.parametrize("word", ODD)
def test_taps_read_what_the_filter_sees(word: str) -> None:
    problem = Problem(parse_shape(word))
    s = problem.shape
    table = blocked.tap_table(problem, 24)
    taps = s.c // s.groups * s.r * s.s
    assert table.dtype == np.int32
    assert len(table) % 24 == 0
    assert taps <= len(table) < taps + 24
    for tap in range(taps):
        c, r, column = np.unravel_index(tap, (s.c // s.groups, s.r, s.s))
        row, column = r * s.dilation[0], column * s.dilation[1]
        assert table[tap].tolist() == [(c * s.h + row) * s.w + column, row, column, 0]
    assert (table[taps:, 1] > s.h + s.pad[0]).all()


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("word", [*ODD, "n1c4096h1w1k1000r1s1", "n128c256h13w13k384r3s3p1"])
def test_blocked_splits_taps_only_where_tiles_are_few(word: str, precision: str) -> None:
    problem = Problem(parse_shape(word), precision)
    s, (tile, split) = problem.shape, blocked.best_tile(problem)
    taps = s.c // s.groups * s.r * s.s
    assert 1 <= split <= max(1, taps / strips.LEAST_TAPS + 1)
    if s.n == 128:
        assert split == 1
        assert precision == "float64" or (tile.filters, tile.pixels) == (128, 128)
