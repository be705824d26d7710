"""Fully connected layers by gemm.gemv: any batch, depth, number of filters and groups; bits, bounds and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_algorithms import run_guarded

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.algorithms.gemm.cut import DEPTH
from convbench.algorithms.gemm.gemv import shared_panels
from convbench.algorithms.gemm.stream import together
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.shapes import ConvShape, parse_shape
from convbench.vector import distance
from convbench.vector.target import Target
from convbench.vector.weights import FLOAT32

GEMV, SHORT = [algorithm for algorithm in built_in() if algorithm.name in ("gemm.gemv", "gemm.gemv.w24")]
BOTH = pytest.mark.parametrize("gemv", [GEMV, SHORT], ids=lambda algorithm: algorithm.name)
FEW = st.integers(1, 5)


@pytest.fixture(scope="module")
def cpu() -> Cpu:
    return Cpu(2)


@st.composite
def layers(draw: st.DrawFn) -> ConvShape:
    """Filters as large as the input; depths around the chunk, filters around a panel, batches around the registers."""
    groups, r, s = draw(st.integers(1, 3)), draw(FEW), draw(FEW)
    channels = draw(st.one_of(FEW, st.integers(1, 3 * DEPTH // (r * s) + 1)))
    n = draw(st.one_of(st.integers(1, 9), st.integers(10, 70)))
    return ConvShape(n, groups * channels, r, s, groups * draw(st.integers(1, 150)), r, s, groups=groups)


def assert_product(problem: Problem, x: Any, w: Any, y: Any, part: float = 0.05) -> None:
    """y is the matrix product of each group. A sum that happens to cancel is measured by its terms.

    part: of the bound, which leaves room for other algorithms.
    """
    s = problem.shape
    rows = x.astype(float).reshape(s.n, s.groups, -1).transpose(1, 0, 2)
    filters = w.astype(float).reshape(s.groups, s.k // s.groups, -1).transpose(0, 2, 1)
    expected, terms = rows @ filters, np.linalg.norm(np.sqrt(rows**2 @ filters**2))
    error = np.linalg.norm(y.reshape(s.n, s.groups, -1).transpose(1, 0, 2) - expected)
    assert error <= part * problem.number.tolerance * terms, error / terms


@BOTH
@given(shape=layers(), threads=st.integers(1, 3), core_cache=st.sampled_from([1, 20_000, 1 << 19]))
@settings(max_examples=60)
def test_random_layers(gemv: Algorithm, shape: ConvShape, threads: int, core_cache: int) -> None:
    device = Cpu(threads)
    device.core_cache_bytes = core_cache  # decides how many images a block holds
    problem = Problem(shape)
    assert_product(problem, *run_guarded(gemv, problem, device))


@pytest.mark.parametrize("word", ["n3c4h5w1k38r5s1g2", "n1c1h1w1k1r1s1"])
def test_double_precision(cpu: Cpu, word: str) -> None:
    problem = Problem(parse_shape(word), "float64")
    assert_product(problem, *run_guarded(GEMV, problem, cpu))


def assert_same_bits(algorithm: Algorithm, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever threads and caches there are."""
    problem = Problem(parse_shape(word))
    x, w = problem.operands(0)
    answers = []
    for threads, core_cache, far in ((1, 1 << 19, False), (2, 1 << 19, True), (3, 1 << 20, False), (3, 30_000, True)):
        monkeypatch.setattr(distance, "are_far_apart", lambda threads, far=far: far)
        monkeypatch.setattr(Target, "bars_passers", far)
        device = Cpu(threads)
        device.core_cache_bytes, device.cache_bytes = core_cache, 1 << 12  # too small for the weights
        plan = algorithm.on["cpu"](problem, device)
        y = np.empty(problem.shape.y_shape, np.float32)
        plan.run(x, plan.prepare(w), y)
        answers.append(y)
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


@pytest.mark.parametrize("word", ["n1c700h1w1k90r1s1", "n7c300h1w2k200r1s2", "n40c600h1w1k66r1s1g2"])
@BOTH
def test_the_same_bits_whoever_does_the_work(gemv: Algorithm, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, caches and how far apart they are decide who sums and when, not in which order."""
    assert_same_bits(gemv, word, monkeypatch)


@BOTH
@pytest.mark.parametrize(("layer", "batch"), [("fc8", 1), ("fc8", 5), ("fc7", 2)])
def test_layers_of_alexnet(cpu: Cpu, gemv: Algorithm, layer: str, batch: int) -> None:
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    case = open_case(gemv, operands(Problem(shape.with_batch(batch)), cpu, 3), cpu, "hot")
    assert case.status == "ok", case.note
    assert case.judgement is not None
    assert 1e-9 < case.judgement.error < 5e-7
    assert case.workspace_bytes is not None
    assert case.prepared_bytes is not None
    assert case.peak_bytes is not None
    assert case.peak_bytes >= case.workspace_bytes + case.prepared_bytes


@BOTH
@pytest.mark.parametrize("images", [1, 6])
def test_errors_do_not_grow_with_the_depth(cpu: Cpu, gemv: Algorithm, images: int) -> None:
    """All terms of one sign, as images and probabilities have: what rounds worst."""
    problem = Problem(parse_shape(f"n{images}c40000h1w1k32r1s1"))
    rng = np.random.default_rng(0)
    x, w = (rng.random(shape, np.float32) for shape in (problem.shape.x_shape, problem.shape.w_shape))
    y = np.empty(problem.shape.y_shape, np.float32)
    plan = gemv.on["cpu"](problem, cpu)
    plan.run(x, plan.prepare(w), y)
    expected = x.reshape(images, -1).astype(float) @ w.reshape(32, -1).astype(float).T
    assert np.linalg.norm(y.reshape(images, 32) - expected) < 3e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("word", ["n1c3h4w4k5r3s3", "n1c3h3w3k5r3s3p1", "n1c3h4w3k5r4s3u2p0x1"])
def test_it_refuses_what_slides(word: str) -> None:
    assert GEMV.refuses(Problem(parse_shape(word))) == "not a fully connected layer"
    assert GEMV.refuses(Problem(parse_shape("n1c3h4w3k5r4s3u2"))) is None


@pytest.mark.parametrize(("most", "panels", "groups", "threads", "side", "expected"), [
    (16, 256, 1, 2, 2, 16),
    (16, 63, 1, 2, 2, 4),  # of 7 that leave four parts a thread: 7 or 5 would keep one thread busier than the other
    (16, 63, 1, 2, 1, 4),
    (4, 256, 1, 2, 1, 4),
    (16, 3, 1, 2, 2, 2),
    (16, 8, 1, 2, 2, 2),  # one by one they would take as long as all on one thread
    (16, 8, 1, 2, 1, 1),
    (16, 40, 3, 2, 2, 10),  # two parts of each group would be even too, but larger than 15
])  # fmt: skip
def test_how_many_panels_share_a_chunk(
    most: int, panels: int, groups: int, threads: int, side: int, expected: int
) -> None:
    assert shared_panels(most, panels, groups, threads, side) == expected


def test_how_many_panels_together() -> None:
    features: dict[str, Any] = {"+avx,+avx512f": [4, 4, 4, 4, 4, 4, 4, 2], "+avx": [4, 2, 2, 1], "+sse2": [2, 1]}
    for words, panels in features.items():
        target = Target("x", words)
        assert [together(target, images + 1, FLOAT32) for images in range(len(panels))] == panels
        assert together(target, 100, FLOAT32) == 1
