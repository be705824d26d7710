"""gemm.split3 on CUDA: the split itself, awkward numbers, sums as tensor cores make them, and chunks of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_host.device import HostDevice
from tensor_cores import DEEP, TensorCores

from convbench.algorithms.gemm import split3
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

SMALL = parse_shape("n4c6h5w4k6r3s3p1g2")


def answer(x: Any, w: Any, shape: Any, device: Any) -> Any:
    plan = split3.on_cuda(Problem(shape), device)
    y = np.full(shape.y_shape, np.nan, np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        plan.run(x, plan.prepare(w), y)
    return y


def error(x: Any, w: Any, shape: Any, device: Any) -> float:
    return judge(answer(x, w, shape, device), truth(x, w, shape)).error


@pytest.mark.parametrize("capability", [75, 80, 90, 100])
def test_segments_are_short_and_cover_all_taps(capability: int) -> None:
    for layer in load("alexnet").layers:
        s = layer.shape
        cut = split3.segments_of(s, capability)
        taps = s.c // s.groups * s.r * s.s
        assert taps <= cut.depth < taps + split3.DEPTH_UNIT * cut.count
        assert cut.length % split3.DEPTH_UNIT == 0
        assert cut.length <= split3.ADDITIONS * {75: 4, 80: 8, 90: 16, 100: 16}[capability]
    assert split3.segments_of(parse_shape(DEEP["conv3"]), 90) == split3.Segments(3, 768)


@pytest.mark.parametrize("capability", [75, 90])
@pytest.mark.parametrize("layer", DEEP)
def test_sums_of_tensor_cores_are_exact_enough(layer: str, capability: int) -> None:
    shape = parse_shape(DEEP[layer])
    x, w = Problem(shape).operands(3)
    assert error(np.maximum(x, 0), w, shape, TensorCores(capability)) < split3.TOLERANCE / 2
    assert error(x, w, shape, TensorCores(capability)) < split3.TOLERANCE / 2


def test_a_sum_in_one_segment_would_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split3, "ADDITIONS", 1 << 20)
    shape = parse_shape(DEEP["fc6"])
    assert error(*Problem(shape).operands(3), shape, TensorCores(90)) > split3.TOLERANCE


def test_filters_keep_22_bits_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal(SMALL.w_shape).astype(np.float32)
    w *= np.logspace(-37, 37, SMALL.k, dtype=np.float32)[:, None, None, None]
    w[1] *= 2.0 ** -rng.integers(0, 20, w[1].shape)
    w[2] = 0
    w[3, 0, 0, 0] = np.finfo(np.float32).max
    cut = split3.segments_of(SMALL, 90)
    both, unscale = split3.split_filters(np, w, SMALL, cut)
    assert both.dtype == np.float16
    assert unscale.dtype == np.float32
    assert np.isfinite(both).all()
    parts = both.reshape(SMALL.k, 2, cut.depth).astype(np.float64)
    got = ((parts[:, 1] + parts[:, 0] / 2048) * unscale[:, None].astype(np.float64))[:, : w[0].size]
    want = w.reshape(SMALL.k, -1).astype(np.float64)
    kept = np.abs(want) > 2.0**-29 * np.abs(want).max(axis=1, keepdims=True)
    assert (np.abs(got - want)[kept] <= 2.0**-22 * np.abs(want)[kept]).all()
    assert kept[[0, 1, 4, 5]].all()
    assert not got[2].any()
    assert not parts[:, :, w[0].size :].any()


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e-4, 1e4, 65504.0, 1e20, 1e37])
def test_numbers_of_any_size(size: float) -> None:
    x, w = Problem(SMALL).operands(1)
    x = x * np.float32(size)
    w = w / np.float32(min(size, 1e30) if size > 1 else 1)
    assert error(x, w, SMALL, HostDevice()) < split3.TOLERANCE


def test_channels_of_very_different_size() -> None:
    x, w = Problem(SMALL).operands(2)
    sizes = np.array([1e-4, 1e4, 1, 1e4, 1, 1e-4], np.float32)
    x *= sizes[:, None, None]
    w /= sizes.reshape(2, 1, 3).repeat(3, axis=1).reshape(6, 3)[:, :, None, None]
    assert error(x, w, SMALL, HostDevice()) < split3.TOLERANCE


def test_images_of_very_different_size() -> None:
    x, w = Problem(SMALL).operands(2)
    x *= np.array([1e-30, 1e4, 1e-4, 0], np.float32)[:, None, None, None]
    y = answer(x, w, SMALL, HostDevice())
    for i in range(3):
        alone = SMALL.with_batch(1)
        assert judge(y[i : i + 1], truth(x[i : i + 1], w, alone)).error < split3.TOLERANCE
    assert not y[3].any()


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_image(bad: float) -> None:
    x, w = Problem(SMALL).operands(2)
    clean = answer(x, w, SMALL, HostDevice())
    x[1, 2, 3, 1] = bad
    y = answer(x, w, SMALL, HostDevice())
    assert not np.isfinite(y[1, :3, 2:, 0:3]).any()
    assert np.array_equal(y[[0, 2, 3]], clean[[0, 2, 3]])


@pytest.mark.parametrize(("seed", "guard"), [(0, "end"), (2, "start")])
@pytest.mark.parametrize("chunk", [1, 3])
def test_images_in_chunks(monkeypatch: pytest.MonkeyPatch, chunk: int, seed: int, guard: str) -> None:
    x, w = Problem(SMALL).operands(4)
    whole = answer(x, w, SMALL, HostDevice())
    monkeypatch.setattr(split3, "chunk_of", lambda *facts: chunk)
    y = answer(x, w, SMALL, HostDevice(seed=seed, guard=guard, racecheck=True))
    assert np.allclose(y, whole, rtol=1e-5, atol=1e-6)
    assert judge(y, truth(x, w, SMALL)).error < split3.TOLERANCE


def test_large_images_are_searched_whole() -> None:
    shape = parse_shape("n2c3h70w81k1r1s1u30")  # 17010 numbers, twice what the blocks of an image read at a time
    x, w = Problem(shape).operands(5)
    for n, place in ((0, 0), (0, 8191), (1, 8192), (1, 17009)):
        large = x.copy()
        large[n].reshape(-1)[place] = 3e5
        assert error(large, w, shape, HostDevice()) < split3.TOLERANCE
        assert np.isfinite(answer(large, w, shape, HostDevice())).all()


class Clock(HostDevice):
    """Each look at the clock is a second later."""

    seconds = 0.0

    def now(self) -> float:
        self.seconds += 1
        return self.seconds


def test_phases_and_work_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split3, "chunk_of", lambda *facts: 2)
    plan = split3.on_cuda(Problem(SMALL), Clock())  # type: ignore[arg-type]
    x, w = Problem(SMALL).operands(1)
    assert plan.phases is not None
    spent = plan.phases(x, plan.prepare(w), np.empty(SMALL.y_shape, np.float32))
    assert spent == {"largest": 1, "split": 2, "product": 2, "combine": 2}
    depth = split3.segments_of(SMALL, 90).depth
    assert plan.flops == 6 * 4 * 6 * SMALL.p * SMALL.q * depth
    assert plan.workspace == 2 * 2 * depth * 48 * 2 + 2 * 6 * 48 * 4 + 4 * 4  # 2 x 20 pixels in rows of 48
