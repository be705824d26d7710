"""Fully connected layers by gemm.pairs: any size, numbers of any size, bits, errors, and what is not finite."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_algorithms import run_guarded
from test_gemv import assert_product, assert_same_bits, layers
from vector_targets import EVERYWHERE, TARGETS, run

from convbench.algorithms.gemm.cut import FEW_ROWS, Cut, cut_of
from convbench.algorithms.gemm.pairs import ALGORITHMS
from convbench.algorithms.gemm.stream import together
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.shapes import ConvShape
from convbench.vector import scaling
from convbench.vector.build import Program
from convbench.vector.code import Code
from convbench.vector.target import Target, host
from convbench.vector.weights import FLOAT32, PAIRS, THREE

(PAIRED,) = ALGORITHMS


@given(
    shape=layers(), threads=st.integers(1, 3), core_cache=st.sampled_from([1, 20_000, 1 << 19]), streams=st.booleans()
)
@settings(max_examples=60)
def test_random_layers(shape: ConvShape, threads: int, core_cache: int, streams: bool) -> None:
    """Within the bound of gemm.gemv, and whether weights stream past few images or not."""
    device = Cpu(threads)
    device.core_cache_bytes = core_cache  # decides how many images a block holds
    problem = Problem(shape)
    with mock.patch.object(Target, "drops_requests", streams):
        assert_product(problem, *run_guarded(PAIRED, problem, device))


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("word", ["n1c700h1w1k90r1s1", "n7c300h1w2k200r1s2", "n40c600h1w1k66r1s1g2"])
def test_the_same_bits_whoever_does_the_work(word: str, streams: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, caches and how far apart they are decide who sums and when, not in which order."""
    monkeypatch.setattr(Target, "drops_requests", streams)
    assert_same_bits(PAIRED, word, monkeypatch)


@pytest.mark.parametrize(("filters", "channels"), [(50, 2500), (16 * 80, 200), (16 * 67 - 3, 30), (700, 192 * 2)])
def test_weights_lie_in_the_order_in_which_they_are_read(
    filters: int, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Panels that share chunks or have them alone, a last share of fewer, a last chunk that is shorter or not."""
    monkeypatch.setattr(Target, "drops_requests", True)
    problem = Problem(ConvShape(4, 3 * channels, 1, 1, 3 * filters, 1, 1, groups=3))
    assert_product(problem, *run_guarded(PAIRED, problem, Cpu(2)))


def product(x: Any, w: Any) -> Any:
    """x [N, D] times w [K, D] transposed."""
    problem = Problem(ConvShape(len(x), x.shape[1], 1, 1, len(w), 1, 1))
    plan = PAIRED.on["cpu"](problem, Cpu(2))
    y = np.full((len(x), len(w), 1, 1), np.nan, np.float32)
    plan.run(x.reshape(*x.shape, 1, 1), plan.prepare(w.reshape(*w.shape, 1, 1)), y)
    return y[:, :, 0, 0]


def normal(*shape: int) -> Any:
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


@given(images=st.integers(-12, 12), filters=st.integers(-12, 12), rows=st.sampled_from([3, 19]))
@settings(max_examples=30)
def test_images_and_filters_of_any_size(images: int, filters: int, rows: int) -> None:
    """Each output is as exact as its own terms allow, whatever the sizes of the other images and filters."""
    x, w = normal(rows, 1000), normal(37, 1000)
    x[0] *= np.float32(10.0**images)
    w[5] *= np.float32(10.0**filters)
    terms = np.sqrt(x.astype(float) ** 2 @ w.astype(float).T ** 2)
    assert (abs(product(x, w) - x.astype(float) @ w.astype(float).T) < 3e-6 * terms).all()


@pytest.mark.parametrize("rows", [5, 30])
def test_terms_of_one_sign(rows: int) -> None:
    """As images and probabilities have: what rounds worst."""
    rng = np.random.default_rng(0)
    x, w = (rng.random((count, 40_000), np.float32) for count in (rows, 32))
    expected = x.astype(float) @ w.astype(float).T
    assert np.linalg.norm(product(x, w) - expected) < 3e-6 * np.linalg.norm(expected)


def test_zeros_stay_zeros() -> None:
    x, w = normal(18, 500), normal(33, 500)
    x[3], w[7] = 0, 0
    y = product(x, w)
    assert not y[3].any()
    assert not y[:, 7].any()
    assert y.any(axis=1).sum() == 17


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_own_image_and_filter(value: float) -> None:
    x, w = normal(6, 300), normal(20, 300)
    x[2, 50], w[11, 299] = value, value
    spoilt = ~np.isfinite(product(x, w))
    expected = np.zeros((6, 20), bool)
    expected[2], expected[:, 11] = True, True
    assert np.array_equal(spoilt, expected)


@pytest.mark.parametrize("batch", [16, 24])
def test_a_layer_of_alexnet(batch: int) -> None:
    """Its error is a plain product's, its weights a fiftieth more, or half a hundredth where they stream."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == "fc8"]
    device = Cpu(2)
    case = open_case(PAIRED, operands(Problem(shape.with_batch(batch)), device, 3), device, "hot")
    assert case.status == "ok", case.note
    assert case.judgement is not None
    assert 1e-9 < case.judgement.error < 5e-7
    assert case.prepared_bytes is not None
    lines = 22 if cut_of(PAIRS, batch, host()).streams else 4128 // 48  # of what pairs come to
    filled = 63 * 64 * (4128 + lines)
    assert filled < case.prepared_bytes <= 1.001 * filled


def test_how_x_is_cut() -> None:
    other, streaming = TARGETS["znver5"], TARGETS["znver4"]
    for rows, threes in ((FEW_ROWS, 3), (FEW_ROWS + 1, 8)):
        assert cut_of(PAIRS, rows, other) == Cut(PAIRS, threes * THREE, THREE)
    assert cut_of(FLOAT32, 100, streaming) == Cut(FLOAT32, 256, 16)
    for each in (cut_of(PAIRS, 1, other), cut_of(PAIRS, 99, streaming), cut_of(FLOAT32, 1, streaming)):
        assert each.row_bytes // 64 % 2 == 1
        assert each.row_bytes - 4 * each.depth >= 64
        assert each.pitch == each.row_bytes
    assert cut_of(PAIRS, 1, other).chunk_bytes == 3 * (1 + 48) * 64
    assert together(host(), 1, PAIRS) == 1


def test_how_x_is_cut_for_streams() -> None:
    streaming = TARGETS["znver4"]
    for rows in (1, 16, 26):
        assert cut_of(PAIRS, rows, streaming) == Cut(PAIRS._replace(threes=4), 4 * THREE, THREE, streams=True)
    assert not cut_of(PAIRS, 27, streaming).streams
    assert cut_of(PAIRS, 16, streaming).pitch == 3 * 64


def powers(program: Program, code: Code) -> None:
    """Of vectors from one address their `powers`, each with its inverse, and the largest lane without its sign."""
    source, into, count = code.arguments
    for i in code.range(count):
        numbers = (source + i * code.bytes).load()
        for part, vector in enumerate((*scaling.powers(numbers), scaling.most_of_all(scaling.size(numbers)))):
            (into + i * (3 * code.bytes) + part * code.bytes).store(vector)


@EVERYWHERE
def test_powers_that_scale(target: Target) -> None:
    numbers = np.array(
        [0, 1e-45, 1e-39, 1e-37, 0.25, 0.9, 1, 1.9, 2, 5, 1e9, 1e37, 3e38, np.inf, np.nan, 7], np.float32
    )
    found = np.empty((len(numbers) // target.lanes, 3, target.lanes), np.float32)
    run(target, "ppi", powers, [numbers, found, len(found)])
    power, inverse, _ = (found[:, i].ravel() for i in range(3))
    assert inverse[0] == 0
    assert (power[1:] * inverse[1:] == 1).all()
    scaled = (numbers * power)[[*range(3, 13), 15]]
    assert (scaled >= 2).all()
    assert (scaled < 4).all()
    assert 0 < (numbers * power)[1] < (numbers * power)[2] < 2
    signed = np.random.default_rng(0).standard_normal((4, target.lanes)).astype(np.float32)
    found = np.empty((4, 3, target.lanes), np.float32)
    run(target, "ppi", powers, [signed, found, 4])
    assert np.array_equal(found[:, 2], np.repeat(abs(signed).max(axis=1, keepdims=True), target.lanes, axis=1))
