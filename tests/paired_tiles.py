"""What tiles by products in pairs keep to, whichever the transform: numbers of any size, zeros, images with a mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from fused_plans import Poisoned

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape, parse_shape

WORD = "n3c100h30w23k20r3s3p1"


def named(name: str) -> Algorithm:
    """The built-in algorithm."""
    (found,) = [each for each in built_in() if each.name == name]
    return found


def answer(algorithm: Algorithm, x: Any, w: Any, shape: ConvShape) -> Any:
    """y, from scratch that holds NaN."""
    plan = algorithm.on["cpu"](Problem(shape), Poisoned(2))
    y = np.full(shape.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    return y


def worst_of_any_size(algorithm: Algorithm, word: str, images: int, filters: int) -> float:
    """The largest error of an image and a filter, over the norm of its own terms: the sizes of others do not matter.

    One image is 10^images as large as the others, one filter 10^filters.
    """
    shape = parse_shape(word)
    x, w = Problem(shape).operands(3)
    x[1] *= np.float32(10.0**images)
    w[5] *= np.float32(10.0**filters)
    terms = convolve(x.astype(float) ** 2, w.astype(float) ** 2, shape).sum(axis=(2, 3))
    squares = ((answer(algorithm, x, w, shape) - convolve(x, w, shape)) ** 2).sum(axis=(2, 3))
    return float(np.sqrt(squares / terms).max())


def assert_zeros_stay_zeros(algorithm: Algorithm) -> None:
    """Those of an image and of a filter, and no others."""
    shape = parse_shape(WORD)
    x, w = Problem(shape).operands(0)
    x[1], w[7] = 0, 0
    y = answer(algorithm, x, w, shape)
    assert not y[1].any()
    assert not y[:, 7].any()
    assert y.any(axis=(2, 3)).sum() == 2 * 19


def error_with_mean(algorithm: Algorithm, word: str, mean: float) -> float:
    """The error for images without negative numbers, with so much added; 0: for images as they are."""
    shape = parse_shape(word)
    x, w = Problem(shape).operands(0)
    x = np.maximum(x, 0) + np.float32(mean) if mean else x
    expected = convolve(x, w, shape)
    return float(np.linalg.norm(answer(algorithm, x, w, shape) - expected) / np.linalg.norm(expected))


def error_on_alexnet(algorithm: Algorithm, layer: str) -> float:
    """The error that a measurement of three images of a layer finds."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    device = Cpu(2)
    case = open_case(algorithm, operands(Problem(shape.with_batch(3)), device, 3), device, "hot")
    assert case.status == "ok", case.note
    assert case.judgement is not None
    return case.judgement.error


def assert_filters_slide(algorithm: Algorithm) -> None:
    """It refuses fully connected layers."""
    assert algorithm.refuses(Problem(parse_shape("n2c3h4w4k5r3s3"))) is None
    refusal = algorithm.refuses(Problem(parse_shape("n2c3h4w4k5r4s4")))
    assert refusal == "a fully connected layer, in which no filter slides"
