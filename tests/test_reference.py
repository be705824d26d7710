"""The float64 truth, against scipy and against its own definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import second_judge, shapes
from hypothesis import given, settings

from convbench import reference
from convbench.problem import PRECISIONS, Problem
from convbench.reference import Truth, convolve, judge, truth
from convbench.shapes import ConvShape, parse_shape


def by_definition(x: Any, w: Any, shape: ConvShape) -> Any:
    """y[n,k,p,q] as ConvShape's docstring says it, in Python's own numbers."""
    y = np.zeros(shape.y_shape)
    channels = shape.c // shape.groups
    for n, k, p, q in np.ndindex(*shape.y_shape):
        total = 0.0
        for c, r, s in np.ndindex(channels, shape.r, shape.s):
            i = shape.stride[0] * p - shape.pad[0] + shape.dilation[0] * r
            j = shape.stride[1] * q - shape.pad[1] + shape.dilation[1] * s
            if 0 <= i < shape.h and 0 <= j < shape.w:
                channel = k // (shape.k // shape.groups) * channels + c
                total += float(x[n, channel, i, j]) * float(w[k, c, r, s])
        y[n, k, p, q] = total
    return y


@given(shapes())
@settings(max_examples=60)
def test_against_scipy(shape: ConvShape) -> None:
    x, w = Problem(shape).operands(1)
    np.testing.assert_allclose(convolve(x, w, shape), second_judge(x, w, shape), rtol=1e-12, atol=1e-13)


@given(shapes(most=4, channels=2))
@settings(max_examples=25)
def test_against_the_definition(shape: ConvShape) -> None:
    x, w = Problem(shape, "float64").operands(2)
    expected = by_definition(x, w, shape)
    np.testing.assert_allclose(convolve(x, w, shape), expected, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(second_judge(x, w, shape), expected, rtol=1e-12, atol=1e-13)


@given(shapes())
@settings(max_examples=25)
def test_spots_are_the_same_numbers(shape: ConvShape) -> None:
    shape = shape.with_batch(4)
    x, w = Problem(shape).operands(3)
    whole = convolve(x, w, shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "WHOLE_FLOPS", 0)
        found = truth(x, w, shape, 5)
    assert found.images == (0, 3)
    np.testing.assert_allclose(found.whole, whole[[0, 3]], rtol=1e-12, atol=1e-13)
    assert len(found.spot_values) == reference.SPOTS
    np.testing.assert_allclose(found.spot_values, whole[found.spots], rtol=1e-11, atol=1e-12)
    assert judge(whole, found).error < 1e-12


def test_the_middle_of_a_large_batch_is_spot_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = parse_shape("n8c2h6w6k3r3s3")
    x, w = Problem(shape).operands(0)
    whole = convolve(x, w, shape)
    monkeypatch.setattr(reference, "WHOLE_FLOPS", 0)
    found = truth(x, w, shape)
    for image in range(8):
        broken = whole.copy()
        broken[image] = 0
        assert judge(broken, found).error > 1e-2, f"image {image}"
        broken[image] = np.nan
        assert judge(broken, found).unwritten == broken[image].size


def test_small_problems_are_checked_whole() -> None:
    shape = parse_shape("n5c2h6w6k3r3s3")
    x, w = Problem(shape).operands(0)
    found = truth(x, w, shape)
    assert (found.images, len(found.spot_values)) == (tuple(range(5)), 0)


def exact(values: Any) -> Truth:
    empty = np.zeros(0, int)
    return Truth(tuple(range(len(values))), values, (empty, empty, empty, empty), np.zeros(0))


def test_judging() -> None:
    want = np.array([3.0, -4.0]).reshape(1, 2, 1, 1)
    assert judge(want, exact(want)) == reference.Judgement(0.0, 0.0, 0)
    got = np.array([3.0, -3.5]).reshape(want.shape)
    assert judge(got, exact(want)) == reference.Judgement(0.1, 0.125, 0)
    assert judge(got.astype(np.float32), exact(want)) == reference.Judgement(0.1, 0.125, 0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_error_has_no_scale(scale: float) -> None:
    want = scale * np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    found = judge(want * (1 + 1e-3), exact(want))
    assert found.error == pytest.approx(1e-3)
    assert found.error_max == pytest.approx(1e-3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_counted(value: float) -> None:
    want = np.ones((1, 2, 3, 4))
    got = want.copy()
    got[0, 1, 2, :2] = value
    found = judge(got, exact(want))
    assert found.unwritten == 2
    assert np.isnan(found.error)
    assert np.isnan(found.error_max)


def test_where_all_is_padding_only_zero_is_right() -> None:
    want = np.zeros((1, 1, 2, 2))
    assert judge(want, exact(want)).error == 0
    assert judge(want + 1e-30, exact(want)).error == np.inf
    assert judge(want + 1e-30, exact(want)).error_max == np.inf
    assert judge(want * np.nan, exact(want)).unwritten == 4


def test_operands_are_repeatable_and_never_zero() -> None:
    problem = Problem(parse_shape("n1c3h5w5k4r3s3"))
    first, again, other = problem.operands(7), problem.operands(7), problem.operands(8)
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)
        assert np.count_nonzero(a) == a.size
        assert a.dtype == np.float32
    double = Problem(problem.shape, "float64").operands(7)
    assert all(np.array_equal(a, b) for a, b in zip(first, double, strict=True))
    assert double[0].dtype == np.float64


def test_outputs_are_of_order_one() -> None:
    shape = parse_shape("n1c64h16w16k32r3s3")
    assert 0.8 < convolve(*Problem(shape).operands(0), shape).std() < 1.2


def test_problems_that_are_none() -> None:
    shape = parse_shape("n1c1h1w1k1r1s1")
    with pytest.raises(ValueError, match="precision 'float8' is not one of float32, float64"):
        Problem(shape, "float8")
    with pytest.raises(ValueError, match="direction 'backward'"):
        Problem(shape, direction="backward")
    assert Problem(parse_shape("n2c3h4w5k6r1s2")).bytes_min == 4 * (2 * 60 + 6 * 6 + 2 * 6 * 4 * 4)
    assert set(PRECISIONS) == {"float32", "float64", "tf32", "float16"}
