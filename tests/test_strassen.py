"""Fully connected layers by gemm.strassen: its identity, odd halves of everything, bits, errors and refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_algorithms import run_guarded
from test_gemv import assert_product, assert_same_bits, layers

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.algorithms.gemm import gemv, halves
from convbench.algorithms.gemm.strassen import half
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.shapes import ConvShape, parse_shape

STRASSEN, SHORT = [each for each in built_in() if each.name.startswith("gemm.strassen")]
BOTH = pytest.mark.parametrize("algorithm", [STRASSEN, SHORT], ids=lambda each: each.name)
SEVERAL = layers().filter(lambda shape: shape.n > 1)


def test_seven_products_are_a_product() -> None:
    """Of 2 x 2 matrices of whole numbers, exactly."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (2, 2, 2))
    products = (np.array(halves.LEFT) @ a.ravel()) * (np.array(halves.RIGHT) @ b.ravel())
    assert halves.PRODUCTS == 7
    assert (np.array(halves.RESULT) @ products == (a @ b).ravel()).all()


@pytest.mark.parametrize(("count", "unit", "expected"), [(1, 1, 1), (4, 1, 2), (5, 1, 3), (33, 16, 32), (32, 16, 16)])
def test_halves(count: int, unit: int, expected: int) -> None:
    assert half(count, unit) == expected


@BOTH
@given(shape=SEVERAL, threads=st.integers(1, 3), core_cache=st.sampled_from([1, 20_000, 1 << 19]))
@settings(max_examples=40)
def test_random_layers(algorithm: Algorithm, shape: ConvShape, threads: int, core_cache: int) -> None:
    """Odd numbers of images, filters and inputs among them. Twice what the eight products may err by, and a little."""
    device = Cpu(threads)
    device.core_cache_bytes = core_cache  # decides how many images a block holds
    problem = Problem(shape)
    assert_product(problem, *run_guarded(algorithm, problem, device), part=0.12)


@BOTH
@pytest.mark.parametrize("word", ["n7c300h1w2k200r1s2", "n40c600h1w1k66r1s1g2"])
def test_the_same_bits_whoever_does_the_work(algorithm: Algorithm, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads, caches and how far apart they are decide who sums and when, not in which order."""
    assert_same_bits(algorithm, word, monkeypatch)


@BOTH
def test_a_layer_of_alexnet(algorithm: Algorithm) -> None:
    """Its error is at most three times gemm.gemv's, its weights seven quarters, what it executes seven eighths."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == "fc8"]
    device = Cpu(2)
    given = operands(Problem(shape.with_batch(6)), device, 3)
    case, plain = (open_case(each, given, device, "hot") for each in (algorithm, gemv.ALGORITHMS[0]))
    assert case.status == plain.status == "ok", case.note
    assert case.judgement is not None
    assert plain.judgement is not None
    assert 1e-9 < case.judgement.error < min(1e-6, 3 * plain.judgement.error)
    assert case.prepared_bytes is not None
    assert case.peak_bytes is not None
    assert case.workspace_bytes is not None
    assert case.peak_bytes >= case.workspace_bytes + case.prepared_bytes
    filled = 7 / 4 * 1024 / 1000 * shape.c * shape.r * shape.s * shape.k * (4 if algorithm is STRASSEN else 3)
    assert filled <= case.prepared_bytes <= 1.001 * filled + 64


@pytest.mark.parametrize(("word", "reason"), [
    ("n2c3h4w4k5r3s3", "not a fully connected layer"),
    ("n1c3h4w4k5r4s4", "one image cannot be halved"),
    ("n2c3h4w4k5r4s4", None),
])  # fmt: skip
def test_what_it_refuses(word: str, reason: str | None) -> None:
    assert STRASSEN.refuses(Problem(parse_shape(word))) == reason
