"""Weights in 24 bits: as near to their numbers as they say, whatever those are."""

from __future__ import annotations

from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from convbench.devices.cpu import Cpu
from convbench.vector.weights import (
    BLOCK,
    EVEN_PAIRS,
    FIXED24,
    FLOAT32,
    LARGEST,
    LINE,
    PAIRS,
    THREE,
    Weights,
    as_large_as,
)

NUMBERS = st.floats(-(2.0**99), 2.0**99, width=32) | st.floats(-2, 2, width=32) | st.just(0.0)


def packed(weights: Weights, panels: Any) -> Any:
    """Bytes by panel, of a room that was full of others before."""
    whole, parts = weights.room(Cpu(1), panels.shape[:-2], panels.shape[-2])
    parts[...] = 0xA5
    weights.pack(np, panels, parts)
    assert whole.nbytes == parts.nbytes + weights.tail
    return parts


def unpacked(parts: Any) -> tuple[Any, Any]:
    """Scales [.., 1, 16] and numbers [.., depth, 16] of 24 bits, decoded byte by byte."""
    lead, each = parts.shape[:-1], FIXED24.line
    scales = np.ascontiguousarray(parts[..., : FIXED24.head]).view(np.float32).astype(float)
    assert each == 3 * BLOCK
    triples = parts[..., FIXED24.head :].reshape(*lead, -1, BLOCK, 3).astype(np.int64)
    low, middle, high = (triples[..., i] for i in range(3))
    numbers = low + 256 * middle + 65536 * (high - 256 * (high >= 128))
    return scales.reshape(*lead, 1, BLOCK), numbers


@given(
    panels=array_shapes(min_dims=1, max_dims=2, max_side=3).flatmap(
        lambda lead: st.integers(1, 20).flatmap(
            lambda depth: arrays(np.float64, (*lead, depth, BLOCK), elements=NUMBERS)
        )
    )
)
def test_each_number_is_off_by_half_a_scale_at_most(panels: Any) -> None:
    scales, numbers = unpacked(packed(FIXED24, panels))
    largest = abs(panels).max(axis=-2, keepdims=True)
    assert (abs(numbers) <= LARGEST).all()
    np.testing.assert_allclose(scales, largest / LARGEST, rtol=1e-6, atol=1e-44)
    # The scale is rounded to float32 too: the largest number may then be off by that much more.
    assert (abs(scales * numbers - panels) <= 0.5 * scales + 6e-8 * largest + 1e-44 * LARGEST).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ordinary_weights_lose_as_little_as_it_says(kind: Any) -> None:
    panels = np.random.default_rng(0).standard_normal((4, 400, BLOCK)).astype(kind)
    scales, numbers = unpacked(packed(FIXED24, panels))
    error = np.sqrt(np.mean((scales * numbers - panels) ** 2))
    assert 0.9e-7 < error < 1.13e-7


def test_what_is_not_finite_spoils_its_column_alone() -> None:
    panels = np.ones((1, 5, BLOCK))
    panels[0, 2, 3], panels[0, 1, 7], panels[0, 0, 9] = np.nan, np.inf, -np.inf
    scales, numbers = unpacked(packed(FIXED24, panels))
    assert np.flatnonzero(~np.isfinite(scales[0, 0])).tolist() == [3, 7, 9]
    fine = [j for j in range(BLOCK) if j not in (3, 7, 9)]
    np.testing.assert_allclose((scales * numbers)[..., fine], 1, rtol=1e-6)


def test_nothing_but_zeros() -> None:
    scales, numbers = unpacked(packed(FIXED24, np.zeros((2, 3, BLOCK))))
    assert (scales == 0).all()
    assert (numbers == 0).all()


def test_float32_is_kept_as_it_is() -> None:
    panels = np.random.default_rng(1).standard_normal((2, 3, 7, BLOCK)).astype(np.float32)
    parts = packed(FLOAT32, panels)
    assert np.array_equal(parts.view(np.float32).reshape(panels.shape), panels)


def test_pairs_lie_together_behind_what_they_come_to() -> None:
    """Numbers of each three blocks by turns, of a size with what they meet, and nothing of their bits is lost."""
    rng = np.random.default_rng(2)
    columns = 2.0 ** rng.integers(-130, 120, BLOCK) * np.arange(BLOCK)  # the first one is zero
    panels = (rng.standard_normal((2, 2, 3, BLOCK, BLOCK)) * columns).astype(np.float32)
    parts = packed(PAIRS, panels.reshape(2, -1, BLOCK)).view(np.float32).reshape(2, -1, BLOCK)
    scales, lines = parts[:, 0], parts[:, 1:].reshape(2, 2, 1 + THREE, BLOCK)
    assert (scales[:, 0] == 0).all()
    assert (np.frexp(scales[:, 1:])[0] == 0.5).all()
    numbers = lines[:, :, 1:].reshape(2, 2, BLOCK, 3, BLOCK).swapaxes(2, 3)
    assert np.array_equal(numbers.astype(float) * scales[:, None, None, None], panels)
    usual = (scales > 2.0**-100).all(axis=0) & (scales < 2.0**100).all(axis=0)
    sizes = np.sqrt((numbers.astype(float) ** 2).mean(axis=(1, 2, 3)))[:, usual]
    assert (sizes > 0.7).all()
    assert (sizes < 1.42).all()
    pairs = (numbers[:, :, 0].astype(float) * numbers[:, :, 1]).sum(axis=2)
    np.testing.assert_allclose(lines[:, :, 0], -pairs, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_what_is_left_behind_threes_lies_as_it_is(left: int) -> None:
    depth = THREE + left * BLOCK
    panels = np.random.default_rng(3).standard_normal((2, depth, BLOCK)).astype(np.float32)
    parts = packed(PAIRS, panels).view(np.float32).reshape(2, -1, BLOCK)
    assert parts.nbytes == 2 * PAIRS.before(depth)
    assert np.array_equal(parts[:, 2 + THREE :] * parts[:, :1], panels[:, THREE:])
    numbers = panels / parts[:, :1]
    pairs = (numbers[:, :BLOCK].astype(float) * numbers[:, BLOCK : 2 * BLOCK]).sum(axis=1)
    np.testing.assert_allclose(parts[:, 1], -pairs, rtol=1e-6)


@pytest.mark.parametrize("depth", [THREE, 2 * THREE, 7 * THREE, 8 * THREE + BLOCK])
def test_one_line_for_what_pairs_of_several_threes_come_to(depth: int) -> None:
    """The sum of the lines that the threes would have, before all of their numbers."""
    panels = np.random.default_rng(4).standard_normal((2, depth, BLOCK)).astype(np.float32)
    form, threes = PAIRS._replace(threes=4), depth // THREE
    alone, parts = (packed(weights, panels).view(np.float32).reshape(2, -1, BLOCK) for weights in (PAIRS, form))
    assert parts.nbytes == 2 * form.before(depth)
    assert np.array_equal(parts[:, 0], alone[:, 0])
    at, of_alone = 1, alone[:, 1 : 1 + threes * (1 + THREE)].reshape(2, threes, 1 + THREE, BLOCK)
    for first in range(0, threes, 4):
        some = of_alone[:, first : first + 4]
        assert form.before(first * THREE) == (at if first else 1) * LINE
        np.testing.assert_allclose(parts[:, at], some[:, :, 0].sum(axis=1), rtol=1e-5, atol=1e-5)
        numbers = parts[:, at + 1 : at + 1 + some.shape[1] * THREE]
        assert np.array_equal(numbers, some[:, :, 1:].reshape(2, -1, BLOCK))
        at += 1 + some.shape[1] * THREE
    assert np.array_equal(parts[:, at:], alone[:, 1 + threes * (1 + THREE) :])


def test_float64_is_brought_to_just_the_size_that_is_wanted() -> None:
    """Each number rounded once: so a column's scale need be no power of two."""
    panels = np.random.default_rng(5).standard_normal((3, THREE, BLOCK)) * 3.0 ** np.arange(BLOCK)
    numbers, scales = as_large_as(np, np.array([0.5, 1.0, 3.0])[:, None, None], panels)
    sizes = np.sqrt((numbers.astype(float) ** 2).mean(axis=1))
    np.testing.assert_allclose(sizes, np.repeat([[0.5], [1.0], [3.0]], BLOCK, axis=1), rtol=1e-6)
    assert (abs(numbers * scales.astype(float) - panels) <= 2.0**-24 * abs(panels)).all()


@pytest.mark.parametrize("depth", [BLOCK, THREE + BLOCK, 2 * THREE])
@pytest.mark.parametrize("weights", [FLOAT32, FIXED24, PAIRS])
def test_two_panels_whose_sum_is_multiplied_by_too(weights: Weights, depth: int) -> None:
    """They have one scale; in pairs there is what those of the sum of the two, as it is rounded, come to."""
    points = np.random.default_rng(6).standard_normal((3, 2, depth, BLOCK)) * [[[1.0]], [[0.01]]]
    _, parts = weights.room(Cpu(1), (3,), depth, weights.point_bytes(depth))
    weights.pack_points(np, points, parts, np.ones(3))
    assert parts.shape[1] == 2 * weights.before(depth) + weights.in_pairs * depth // THREE * LINE
    two = parts[:, : 2 * weights.before(depth)].reshape(3, 2, -1)
    if weights == FLOAT32:
        assert np.array_equal(np.ascontiguousarray(two).view(np.float32).ravel(), points.astype(np.float32).ravel())
        return
    if weights == FIXED24:
        scales, numbers = unpacked(two)
        largest = abs(points).max(axis=(1, 2), keepdims=True)
        assert (abs(scales * numbers - points) <= 0.5 * scales + 6e-8 * largest).all()
        assert np.array_equal(scales[:, 0], scales[:, 1])
        return
    lines = np.ascontiguousarray(two).view(np.float32).reshape(3, 2, -1, BLOCK)
    assert np.array_equal(lines[:, 0, 0], lines[:, 1, 0])
    threes = depth // THREE
    numbers = lines[:, :, 1 : 1 + threes * (1 + THREE)].reshape(3, 2, threes, 1 + THREE, BLOCK)[..., 1:, :]
    of_sum = (numbers[:, 0] + numbers[:, 1]).reshape(3, threes, BLOCK, 3, BLOCK).astype(float)
    found = np.ascontiguousarray(parts[:, 2 * weights.before(depth) :]).view(np.float32).reshape(3, threes, BLOCK)
    np.testing.assert_allclose(found, -(of_sum[..., 0, :] * of_sum[..., 1, :]).sum(axis=2), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("depth", [BLOCK, THREE + BLOCK])
def test_where_the_sum_is_kept_it_has_a_scale_of_its_own(depth: int) -> None:
    points = np.random.default_rng(7).standard_normal((3, 2, depth, BLOCK)) * [[[1.0]], [[0.01]]]
    sizes = np.array([1.0, 2.0, 0.5])
    _, parts = EVEN_PAIRS.room(Cpu(1), (3,), depth, EVEN_PAIRS.point_bytes(depth))
    EVEN_PAIRS.pack_points(np, points, parts, sizes)
    whole = np.concatenate([points, points.sum(axis=1, keepdims=True)], axis=1)
    _, expected = EVEN_PAIRS.room(Cpu(1), (3, 3), depth)
    EVEN_PAIRS.pack(np, whole, expected, sizes)
    assert np.array_equal(parts, expected.reshape(3, -1))


@pytest.mark.parametrize(("weights", "line", "whole"), [(FLOAT32, 64, 6144), (FIXED24, 48, 4672), (PAIRS, 64, 6336)])
def test_sizes(weights: Weights, line: int, whole: int) -> None:
    assert (weights.line, weights.before(2 * THREE)) == (line, whole)
