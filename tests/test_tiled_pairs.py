"""fft.tiled.pairs: numbers of any size, what is not finite, errors, refusals; the rest: test_fused.py."""

from __future__ import annotations

from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench.algorithms import built_in
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape, parse_shape

(PAIRED,) = [each for each in built_in() if each.name == "fft.tiled.pairs"]


def answer(x: Any, w: Any, shape: ConvShape) -> Any:
    plan = PAIRED.on["cpu"](Problem(shape), Cpu(2))
    y = np.full(shape.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    return y


@given(images=st.integers(-25, 20), filters=st.integers(-12, 12), word=st.sampled_from([
    "n3c100h9w9k20r3s3p1", "n2c40h20w7k18r5s5p2g2", "n3c7h9w9k40r5s5p2u2",
]))  # fmt: skip
@settings(max_examples=30)
def test_images_and_filters_of_any_size(images: int, filters: int, word: str) -> None:
    """Each image of each filter is as exact as its own terms allow, whatever the sizes of the others."""
    shape = parse_shape(word)
    x, w = Problem(shape).operands(3)
    x[1] *= np.float32(10.0**images)
    w[5] *= np.float32(10.0**filters)
    terms = convolve(x.astype(float) ** 2, w.astype(float) ** 2, shape)
    squares = (answer(x, w, shape) - convolve(x, w, shape)) ** 2
    assert (np.sqrt(squares.sum(axis=(2, 3))) < 2e-6 * np.sqrt(terms.sum(axis=(2, 3)))).all()


def test_zeros_stay_zeros() -> None:
    shape = parse_shape("n3c100h9w9k20r3s3p1")
    x, w = Problem(shape).operands(0)
    x[1], w[7] = 0, 0
    y = answer(x, w, shape)
    assert not y[1].any()
    assert not y[:, 7].any()
    assert y.any(axis=(2, 3)).sum() == 2 * 19


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_own_image_and_filter(value: float) -> None:
    shape = parse_shape("n3c100h9w9k20r3s3p1")
    x, w = Problem(shape).operands(0)
    x[1, 40, 2, 3], w[11, 70, 1, 1] = value, value
    finite = np.isfinite(answer(x, w, shape)).all(axis=(2, 3))
    expected = np.ones((3, 20), bool)
    expected[1], expected[:, 11] = False, False
    assert np.array_equal(finite, expected)


@pytest.mark.parametrize(("mean", "most"), [(0.0, 6e-7), (0.5, 1e-6), (3.0, 1e-6), (100.0, 1e-6)])
def test_images_with_a_mean(mean: float, most: float) -> None:
    """Their lowest frequency is far larger than the others, and alike in all channels.

    With numbers eight times as large (sizes.MEAN) this fails: what pairs come to is taken away again.
    """
    shape = parse_shape("n2c256h13w13k48r3s3p1")
    x, w = Problem(shape).operands(0)
    x = np.maximum(x, 0) + np.float32(mean) if mean else x
    y, expected = answer(x, w, shape), convolve(x, w, shape)
    assert np.linalg.norm(y - expected) < most * np.linalg.norm(expected)


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5"])
def test_a_layer_of_alexnet(layer: str) -> None:
    """Its error is below twice that of fft.tiled."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    device = Cpu(2)
    case = open_case(PAIRED, operands(Problem(shape.with_batch(3)), device, 3), device, "hot")
    assert case.status == "ok", case.note
    assert case.judgement is not None
    assert 1e-9 < case.judgement.error < 6e-7


def test_what_it_refuses() -> None:
    assert PAIRED.refuses(Problem(parse_shape("n2c3h4w4k5r3s3"))) is None
    assert PAIRED.refuses(Problem(parse_shape("n2c3h4w4k5r4s4"))) == (
        "a fully connected layer, in which no filter slides"
    )
