"""gemm.panel.pairs: chunks, numbers of any size, what is not finite, errors, refusals; the rest: test_packed.py."""

from __future__ import annotations

from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench.algorithms import built_in
from convbench.algorithms.gemm.panel_pairs import CHUNK_THREES, chunk_of, pair_lines
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape, parse_shape
from convbench.vector.weights import THREE

(PAIRED,) = [each for each in built_in() if each.name == "gemm.panel.pairs"]


@pytest.mark.parametrize(("channels", "taps", "expected"), [
    (256, 1, 144), (64, 1, 64), (300, 9, 16), (3, 9, 3), (96, 25, 5), (96, 4, 36), (8, 49, 2), (8, 121, 1), (8, 400, 1),
    (1, 1, 1), (500, 3, 48), (500, 2, 72),
])  # fmt: skip
def test_channels_of_a_chunk(channels: int, taps: int, expected: int) -> None:
    """Whole threes where the taps allow it."""
    chunk = chunk_of(channels, taps)
    assert chunk == expected
    assert chunk == 1 or chunk * taps <= CHUNK_THREES * THREE
    assert pair_lines(channels, taps, chunk) == -(-channels // chunk) * (chunk * taps // THREE)


def answer(x: Any, w: Any, shape: ConvShape, threads: int = 2) -> Any:
    plan = PAIRED.on["cpu"](Problem(shape), Cpu(threads))
    y = np.full(shape.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    return y


@given(pixels=st.integers(-12, 12), filters=st.integers(-12, 12), word=st.sampled_from([
    "n2c100h5w7k20r1s1", "n1c40h6w9k18r3s3p1", "n1c7h9w9k40r5s5p2u2",
]))  # fmt: skip
@settings(max_examples=30)
def test_pixels_and_filters_of_any_size(pixels: int, filters: int, word: str) -> None:
    """Each output is as exact as its own terms allow, whatever the sizes of the other images and filters."""
    shape = parse_shape(word)
    x, w = Problem(shape).operands(3)
    x[0, :, 0] *= np.float32(10.0**pixels)
    w[5] *= np.float32(10.0**filters)
    expected = convolve(x, w, shape)
    terms = np.sqrt(convolve(x.astype(float) ** 2, w.astype(float) ** 2, shape))
    # A window with large pixels and small ones is as exact as the large ones allow.
    assert (abs(answer(x, w, shape) - expected) <= 4e-6 * terms).all()


def test_zeros_stay_zeros() -> None:
    shape = parse_shape("n2c100h4w5k20r1s1")
    x, w = Problem(shape).operands(0)
    x[0, :, 2, 3], w[7] = 0, 0
    y = answer(x, w, shape)
    assert not y[0, :, 2, 3].any()
    assert not y[:, 7].any()
    assert (y != 0).sum() == y.size - 20 - 40 + 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_own_pixel_and_filter(value: float) -> None:
    shape = parse_shape("n2c100h4w5k20r1s1")
    x, w = Problem(shape).operands(0)
    x[1, 40, 2, 3], w[11, 70] = value, value
    expected = np.zeros(shape.y_shape, bool)
    expected[1, :, 2, 3], expected[:, 11] = True, True
    assert np.array_equal(~np.isfinite(answer(x, w, shape)), expected)


@pytest.mark.parametrize("word", ["n2c64h14w14k96r1s1", "n1c256h14w14k48r3s3p1", "n1c128h28w28k64r1s1u2"])
def test_the_same_bits_whoever_does_the_work(word: str) -> None:
    """Threads and caches decide which pixels go together; each pixel has a factor of its own."""
    shape = parse_shape(word)
    x, w = Problem(shape).operands(1)
    first, *others = [answer(x, w, shape, threads) for threads in (1, 2, 3)]
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv5"])
def test_a_layer_of_alexnet(layer: str) -> None:
    """Its error is that of gemm.panel, nearly."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    device = Cpu(2)
    case = open_case(PAIRED, operands(Problem(shape), device, 3), device, "hot")
    assert case.status == "ok", case.note
    assert case.judgement is not None
    assert 1e-9 < case.judgement.error < 5e-7


def test_what_it_refuses() -> None:
    assert PAIRED.refuses(Problem(parse_shape("n2c3h4w4k5r3s3"))) is None
    assert PAIRED.refuses(Problem(parse_shape("n2c3h4w4k5r4s4"))) == (
        "a fully connected layer, in which no filter slides"
    )
