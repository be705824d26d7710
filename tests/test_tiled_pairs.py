"""fft.tiled.pairs: numbers of any size, what is not finite, errors, refusals; the rest: test_fused.py."""

from __future__ import annotations

from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import paired_tiles
import pytest
from fused_plans import Poisoned
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench.algorithms.fused import plan
from convbench.algorithms.fused.blocks import Blocks, Caches, Work, in_turn
from convbench.algorithms.fused.stages import Tile
from convbench.problem import Problem
from convbench.shapes import parse_shape
from convbench.vector.target import host

PAIRED = paired_tiles.named("fft.tiled.pairs")


@given(images=st.integers(-25, 20), filters=st.integers(-12, 12), word=st.sampled_from([
    "n3c100h9w9k20r3s3p1", "n2c40h20w7k18r5s5p2g2", "n3c7h9w9k40r5s5p2u2",
]))  # fmt: skip
@settings(max_examples=30)
def test_images_and_filters_of_any_size(images: int, filters: int, word: str) -> None:
    assert paired_tiles.worst_of_any_size(PAIRED, word, images, filters) < 2e-6


def test_zeros_stay_zeros() -> None:
    paired_tiles.assert_zeros_stay_zeros(PAIRED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_its_own_image_and_filter(value: float) -> None:
    shape = parse_shape("n3c100h9w9k20r3s3p1")
    x, w = Problem(shape).operands(0)
    x[1, 40, 2, 3], w[11, 70, 1, 1] = value, value
    finite = np.isfinite(paired_tiles.answer(PAIRED, x, w, shape)).all(axis=(2, 3))
    expected = np.ones((3, 20), bool)
    expected[1], expected[:, 11] = False, False
    assert np.array_equal(finite, expected)


@pytest.mark.parametrize(("mean", "most"), [(0.0, 6e-7), (0.5, 1e-6), (3.0, 1e-6), (100.0, 1e-6)])
def test_images_with_a_mean(mean: float, most: float) -> None:
    """Their lowest frequency is far larger than the others, and alike in all channels.

    With numbers eight times as large (sizes.MEAN) this fails: what pairs come to is taken away again.
    """
    assert paired_tiles.error_with_mean(PAIRED, "n2c256h13w13k48r3s3p1", mean) < most


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5"])
def test_a_layer_of_alexnet(layer: str) -> None:
    """Its error is below twice that of fft.tiled."""
    assert 1e-9 < paired_tiles.error_on_alexnet(PAIRED, layer) < 6e-7


def test_what_it_refuses() -> None:
    paired_tiles.assert_filters_slide(PAIRED)


@pytest.mark.parametrize(("word", "threads", "panels"), [
    ("n24c48h9w9k200r3s3p1", 2, 2),  # the last of 13 has none beside it
    ("n24c96h9w9k50r3s3p1", 1, 2),
    ("n24c144h9w9k400r3s3p1g2", 2, 2),
    ("n24c48h9w9k96r3s3p1", 2, 1),  # three times two would keep one thread waiting
    ("n24c256h9w9k200r3s3p1", 2, 1),  # 16 rows of V are more than half of the first cache
])  # fmt: skip
def test_panels_in_turn(word: str, threads: int, panels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bits are those of one panel after another."""
    problem, chosen = Problem(parse_shape(word)), []
    x, w = problem.operands(1)

    def noted(tile: Tile, work: Work, blocks: Blocks, caches: Caches) -> Work:
        work = in_turn(tile, work, blocks, caches)
        chosen.append(work.panels)
        return work

    def answer() -> Any:
        made = PAIRED.on["cpu"](problem, Poisoned(threads, (1 << 19, 1 << 22)))
        y = np.full(problem.shape.y_shape, np.nan, np.float32)
        made.run(x, made.prepare(w), y)
        return y

    monkeypatch.setattr(plan, "in_turn", lambda tile, work, blocks, caches: work)
    alone = answer()
    monkeypatch.setattr(plan, "in_turn", noted)
    assert np.array_equal(answer(), alone)
    assert chosen == [max(panels, host().panels)]
