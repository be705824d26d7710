"""winograd.f7.pairs: numbers of any size, what is not finite, errors, refusals; the rest: test_fused.py."""

from __future__ import annotations

from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import paired_tiles
import pytest
from fused_plans import dft, toom
from hypothesis import given, settings
from hypothesis import strategies as st
from vector_targets import EVERYWHERE, run

from convbench.algorithms.fused.row_powers import measure
from convbench.algorithms.fused.stages import Tile
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import parse_shape
from convbench.vector.target import Target

PAIRED = paired_tiles.named("winograd.f7.pairs")


@given(images=st.integers(-25, 20), filters=st.integers(-12, 12), word=st.sampled_from([
    "n3c100h9w9k20r3s3p1", "n2c100h20w7k18r3s5p2g2", "n3c14h27w27k40r5s5p2u2", "n2c6h50w43k9r11s11u4p2",
]))  # fmt: skip
@settings(max_examples=30)
def test_images_and_filters_of_any_size(images: int, filters: int, word: str) -> None:
    assert paired_tiles.worst_of_any_size(PAIRED, word, images, filters) < 6e-6


def test_zeros_stay_zeros() -> None:
    paired_tiles.assert_zeros_stay_zeros(PAIRED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_own_tiles_and_filter(value: float) -> None:
    """The other tiles of its row are as exact as ever."""
    shape = parse_shape(paired_tiles.WORD)
    x, w = Problem(shape).operands(0)
    expected = convolve(x, w, shape)
    x[1, 40, 2, 3], w[11, 70, 1, 1] = value, value
    y = paired_tiles.answer(PAIRED, x, w, shape)
    spoilt = np.zeros(y.shape, bool)
    spoilt[1, :, :7, :7], spoilt[:, 11] = True, True
    assert np.isfinite(y[~spoilt]).all()
    assert not np.isfinite(y[1, :, 1:4, 2:5]).any()
    assert not np.isfinite(y[:, 11]).any()
    assert np.linalg.norm((y - expected)[~spoilt]) < 2e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("mean", [0.0, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("word", ["n2c256h14w14k48r3s3p1", "n2c3h100w100k32r11s11u4p2"])
def test_images_with_a_mean(mean: float, word: str) -> None:
    assert paired_tiles.error_with_mean(PAIRED, word, mean) < 1e-6


@pytest.mark.parametrize("layer", ["conv1", "conv3", "conv5"])
def test_a_layer_of_alexnet(layer: str) -> None:
    assert 1e-9 < paired_tiles.error_on_alexnet(PAIRED, layer) < 1e-6


def test_what_it_refuses() -> None:
    paired_tiles.assert_filters_slide(PAIRED)


@EVERYWHERE
@pytest.mark.parametrize(("top", "rows", "expected"), [
    (0, 4, range(4)), (-3, 5, range(2)), (5, 9, range(5, 7)), (-9, 4, range(0)), (8, 3, range(0)),
])  # fmt: skip
def test_the_mean_of_rows(target: Target, top: int, rows: int, expected: range) -> None:
    """Brought to between half of what is asked for and all of it; nothing beside those rows is looked at."""
    x = np.full((5, 7, 53), np.nan, np.float32)
    numbers = np.random.default_rng(0).standard_normal((5, len(expected), 53)) * 1e3
    x[:, list(expected)] = numbers
    found = np.full(16, 7, np.float32)
    run(target, "piiiiip", measure, [x, 7, 53, 5, top, rows, found], 0.25)
    assert (found[2:] == 7).all()
    if len(expected) == 0:
        assert found[1] == 0
        return
    assert found[0] * found[1] == 1
    assert 0.125 <= abs(numbers).mean() * found[0] <= 0.25


@EVERYWHERE
def test_what_is_not_finite_does_not_count(target: Target) -> None:
    x, found = np.ones((1, 3, 40), np.float32), np.zeros((2, 16), np.float32)
    run(target, "piiiiip", measure, [x, 3, 40, 1, 0, 3, found[0]], 1.0)
    x[0, 1, 7:10] = np.nan, np.inf, -np.inf
    run(target, "piiiiip", measure, [x, 3, 40, 1, 0, 3, found[1]], 1.0)
    assert np.array_equal(found[0, :2], [0.5, 2])
    assert np.array_equal(found[1, :2], [1, 1])  # the mean is a little below 1


@pytest.mark.parametrize("tile", [
    Tile(toom(7, 3), toom(4, 3)), Tile(toom(2, 3), toom(7, 3)), Tile(dft(3, 2), dft(4, 3)), Tile(toom(1, 1), dft(6, 3)),
])  # fmt: skip
def test_sizes_of_noise(tile: Tile) -> None:
    """What transforms make of noise is as large as they say, plane by plane."""
    rng = np.random.default_rng(0)
    d: Any = rng.standard_normal((tile.y.window, tile.x.window, 4000))

    def axis(transform: Any, lines: Any) -> list[Any]:
        reals, pairs = transform.spectrum(list(lines))
        return [*reals, *(np.asarray(pair.re, complex) + 1j * np.asarray(pair.im) for pair in pairs)]

    planes = []
    for number, column in enumerate(axis(tile.x, d.swapaxes(0, 1))):
        points = axis(tile.y, column.real)
        if number >= tile.x.reals:
            others = axis(tile.y, column.imag)
            points = [a + 1j * b for a, b in zip(points, others, strict=True)]
            conjugates = [a.conj() + 1j * b.conj() for a, b in zip(axis(tile.y, column.real), others, strict=True)]
            points += conjugates[tile.y.reals :]
        for point in points:
            is_complex = np.iscomplexobj(point)
            planes += [point.real + point.imag, point.real, point.imag] if is_complex else [point]
    found = [np.sqrt((np.asarray(plane) ** 2).mean()) for plane in planes]
    np.testing.assert_allclose(found, tile.input_sizes, rtol=0.1, atol=1e-9)
    assert 0.5 < tile.mean_size / np.exp(np.log(tile.input_sizes).mean()) < 2
