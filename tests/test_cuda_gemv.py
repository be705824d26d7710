"""Fully connected layers on a GPU and strips of direct.blocked: what the host decides, and what cuBLAS is handed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from cuda_devices import ArrayDevice, Recorder
from cuda_host.device import HostDevice
from test_cuda_compile import compile_log

from convbench.algorithms.base import Plan
from convbench.algorithms.direct import blocked, strips
from convbench.algorithms.gemm import split
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

FC6, FC7, FC8 = "c256h6w6k4096r6s6", "c4096h1w1k4096r1s1", "c4096h1w1k1000r1s1"


@pytest.mark.parametrize(
    ("precision", "most"), [("float32", 1e-6), ("float64", 1e-15), ("tf32", 4e-4), ("float16", 4e-4)]
)
@pytest.mark.parametrize("word", ["n33c6h2w3k10r2s3g2", "n70c5h1w1k7r1s1"])
def test_many_images_go_to_cublas(word: str, precision: str, most: float) -> None:
    problem = Problem(parse_shape(word), precision)
    device: Any = ArrayDevice()
    plan = split.fitting(problem, device)
    assert error(problem, plan) < most
    assert "cuBLAS" in plan.note


def error(problem: Problem, plan: Plan) -> float:
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, problem.storage)
    plan.run(x, plan.prepare(w), y)
    return judge(y, truth(x, w, problem.shape)).error


# Rows of whole 16-byte pieces, and not; groups; a depth in shares.
@pytest.mark.parametrize("word", ["n1c264h1w1k9r1s1", "n3c11h3w5k13r3s5", "n2c528h1w2k402r1s2g2", "n8c9000h1w1k5r1s1"])
@pytest.mark.parametrize(("precision", "most"), [("tf32", 1e-6), ("float16", 3e-4)])
def test_few_images_are_summed_in_float32(word: str, precision: str, most: float) -> None:
    problem, device = Problem(parse_shape(word), precision), HostDevice()
    plan = split.fitting(problem, device)  # type: ignore[arg-type]
    assert error(problem, plan) < most  # of halves, what rounding y to one leaves
    assert device.launches == 1 + ("shares" in plan.note)


@pytest.mark.parametrize(
    ("precision", "images", "kernel"),
    [
        ("float32", 1, "stream"),
        ("float32", 16, "stream"),
        ("float32", 17, "product"),
        ("float32", 32, "product"),
        ("float32", 33, None),
        ("tf32", 8, "stream"),
        ("tf32", 9, "skinny"),
        ("tf32", 16, "skinny"),
        ("tf32", 17, None),
        ("float16", 8, "stream"),
        ("float16", 9, "skinny"),
        ("float16", 16, "skinny"),
        ("float16", 17, None),
        ("float64", 1, None),
    ],
)
def test_the_number_of_images_decides(precision: str, images: int, kernel: str | None) -> None:
    device: Any = Recorder()
    split.fitting(Problem(parse_shape(f"n{images}{FC8}"), precision), device)
    assert [next(iter(module.kernels)) for module in device.modules] == ([kernel] if kernel else [])


@pytest.mark.parametrize(("word", "capability"), [(f"n16{FC8}", 75), ("n16c4h1w1k8r1s1", 90)])
def test_without_tensor_cores_or_whole_pieces_it_is_cublas(word: str, capability: int) -> None:
    device: Any = Recorder(capability)
    assert split.fitting(Problem(parse_shape(word), "float16"), device).note == "product by cuBLAS"


@pytest.mark.parametrize(("precision", "held"), [("float32", 16), ("tf32", 16), ("float16", 32)])
def test_a_thread_holds_64_bytes_where_rows_are_aligned(precision: str, held: int) -> None:
    assert split.held(Problem(parse_shape("n1c4096h1w1k9r1s1"), precision)) == held
    assert split.held(Problem(parse_shape("n1c4097h1w1k9r1s1"), precision)) == 16


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("word", [f"n1{FC6}", f"n1{FC7}", f"n1{FC8}", f"n8{FC7}"])
def test_images_that_stay_near_need_no_second_pass(word: str, precision: str) -> None:
    knobs = split.stream_knobs(Problem(parse_shape(word), precision))
    assert knobs == {"ROWS": 4, "ROW_WARPS": 1, "DEPTH_WARPS": 8, "SPLIT": 1}


@pytest.mark.parametrize("word", [f"n8{FC6}", f"n16{FC7}", f"n16{FC8}"])
def test_more_images_are_read_by_a_whole_block_together(word: str) -> None:
    problem = Problem(parse_shape(word))
    knobs, device = split.stream_knobs(problem), Recorder()
    assert (knobs["ROWS"], knobs["ROW_WARPS"], knobs["DEPTH_WARPS"]) == (4, 8, 1)
    assert knobs["SPLIT"] > 1
    plan = split.fitting(problem, device)  # type: ignore[arg-type]
    assert plan.workspace == knobs["SPLIT"] * problem.shape.n * problem.shape.k * 4
    assert plan.phases is not None


@pytest.mark.parametrize(
    "word", ["n1c1h1w1k1r1s1", "n16c3h1w1k50000r1s1", "n1c3000000h1w1k2r1s1", "n5c64h7w7k96r7s7g32"]
)
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_shares_are_long_enough_and_all_rows_are_covered(word: str, precision: str) -> None:
    problem = Problem(parse_shape(word), precision)
    s, knobs = problem.shape, split.stream_knobs(problem)
    depth = s.c // s.groups * s.r * s.s
    a_step = 32 * knobs["DEPTH_WARPS"] * split.held(problem) // knobs["ROWS"]
    assert 1 <= knobs["ROW_WARPS"] * knobs["DEPTH_WARPS"] <= split.WARPS
    assert 1 <= knobs["SPLIT"] <= split.MOST_SHARES
    assert knobs["SPLIT"] == 1 or depth >= knobs["SPLIT"] * a_step * (split.LEAST_STEPS["stream"] - 1)


@pytest.mark.parametrize("arch", [75, 90])
@pytest.mark.parametrize(
    ("precision", "word"),
    [("float32", f"n16{FC8}"), ("float32", f"n32{FC8}"), ("float16", f"n8{FC6}"), ("float16", f"n8{FC8}")],
)
def test_batches_compile_without_spills(precision: str, word: str, arch: int) -> None:
    device: Any = Recorder(arch)
    split.fitting(Problem(parse_shape(word), precision), device)
    assert device.modules
    for module in device.modules:
        log = compile_log(module.source, arch)
        assert "warning" not in log, log
        assert not any(int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", log)), log


@pytest.mark.parametrize(
    ("word", "filters"),
    [("n128c3h227w227k96r11s11u4", 96), ("n128c96h27w27k256r5s5p2g2", 128), ("n128c64h56w56k64r3s3p1", 64)],
)
def test_rows_that_strips_fit_are_cut_into_them(word: str, filters: int) -> None:
    cut = strips.best_cut(Problem(parse_shape(word)))
    assert cut is not None
    assert (cut.lanes_k * strips.FILTERS, cut.split) == (filters, 1)


@pytest.mark.parametrize(
    "word",
    [
        "n128c256h13w13k384r3s3p1",  # one output in fourteen would be wasted
        "n8c64h56w56k64r1s1",  # nothing to share
        "n8c64h58w58k64r3s3u3",  # each tap in a phase of its own
        "n8c64h60w60k64r3s3d2",
        "n8c64h56w56k64r3s3p1g4",  # sixteen filters
        "n1c1h5w290k17r1s11",  # more than eight taps in a window
    ],
)
def test_other_layers_go_to_tiles(word: str) -> None:
    problem = Problem(parse_shape(word))
    assert strips.best_cut(problem) is None
    assert strips.best_cut(Problem(parse_shape("n8c64h56w56k64r3s3p1"), "float64")) is None
    device: Any = Recorder()
    blocked.on_cuda(problem, device)
    assert [module.file for module in device.modules] == ["blocked.cu"]


def test_few_pixels_share_out_the_lines() -> None:
    cut = strips.best_cut(Problem(parse_shape("n1c96h27w27k256r5s5p2g2")))
    assert cut is not None
    assert cut.split == strips.MOST_SHARES
    assert cut.lines == 5
