"""gemm.im2col on CUDA: chunks of images, matrices joined or apart, and what chooses between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_devices import Recorder
from cuda_host.device import HostDevice

from convbench.algorithms.base import Unsupported
from convbench.algorithms.gemm import chunks, im2col
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

L2 = 60 << 20  # of an H200
ALEXNET = {layer.name: layer.shape for layer in load("alexnet").layers}


def error(problem: Problem, device: Any) -> float:
    plan = im2col.on_cuda(problem, device)
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, problem.storage)
    plan.run(x, plan.prepare(w), y)
    return judge(y, truth(x, w, problem.shape)).error


@pytest.mark.parametrize(("seed", "guard"), [(0, "end"), (2, "start")])
@pytest.mark.parametrize(("joined", "chunk"), [(True, 1), (True, 3), (False, 2), (False, 5)])
@pytest.mark.parametrize("word", ["n5c6h5w4k9r3s2u1x2p1g3", "n5c5h3w7k6r1s1p0x2d2"])
def test_images_in_chunks(
    monkeypatch: pytest.MonkeyPatch, word: str, joined: bool, chunk: int, seed: int, guard: str
) -> None:
    monkeypatch.setattr(im2col, "chunk_of", lambda *facts: (joined, chunk))
    problem = Problem(parse_shape(word))
    assert error(problem, HostDevice(seed=seed, guard=guard, racecheck=True)) < problem.number.tolerance


@pytest.mark.parametrize("joined", [True, False])
def test_doubles_stay_doubles(monkeypatch: pytest.MonkeyPatch, joined: bool) -> None:
    monkeypatch.setattr(im2col, "chunk_of", lambda *facts: (joined, 2))
    problem = Problem(parse_shape("n3c3h9w9k5r4s4u3p2"), "float64")
    assert error(problem, HostDevice()) < problem.number.tolerance


@pytest.mark.parametrize("word", ["n3c6h4w5k4r1s1", "n2c9h4w5k6r1s1g3", "n2c3h1w7k3r1s1d3"])
def test_one_by_one_filters_find_their_matrix_in_x(word: str) -> None:
    device: Any = HostDevice()
    problem = Problem(parse_shape(word))
    assert error(problem, device) < problem.number.tolerance
    assert device.launches == 0
    assert im2col.on_cuda(problem, device).workspace == 0


@pytest.mark.parametrize("word", ["n3c6h4w5k4r4s5", "n1c6h1w1k4r1s1g2"])
def test_fully_connected_layers_are_not_stretched(word: str) -> None:
    device: Any = HostDevice()
    assert error(Problem(parse_shape(word)), device) < 1e-6
    assert device.launches == 0


def test_rows_begin_on_whole_sectors() -> None:
    assert [im2col.pitch_of(columns, 4) for columns in (1, 8, 9, 169)] == [8, 8, 16, 176]
    assert im2col.pitch_of(169, 8) == 172
    assert im2col.pitch_of(169, 2) == 176


def test_one_image_of_conv1_takes_its_matrix_and_little_more() -> None:
    plan = im2col.on_cuda(Problem(ALEXNET["conv1"].with_batch(1)), Recorder())  # type: ignore[arg-type]
    assert 4392300 <= plan.workspace <= 1.005 * 4392300


def test_images_are_joined_where_one_leaves_its_last_tile_empty() -> None:
    # 3025 columns fill 24 tiles to 98 %, 169 fill two to 66 %.
    assert im2col.chunk_of(Problem(ALEXNET["conv1"].with_batch(128)), L2)[0] is False
    for layer in ("conv3", "conv4", "conv5"):
        joined, chunk = im2col.chunk_of(Problem(ALEXNET[layer].with_batch(128)), L2)
        assert joined
        assert chunk >= 64
    for layer in ("conv1", "conv3"):
        assert im2col.chunk_of(Problem(ALEXNET[layer].with_batch(1)), L2) == (False, 1)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv4", "conv5"])
def test_memory_is_bounded(layer: str, precision: str) -> None:
    plan = im2col.on_cuda(Problem(ALEXNET[layer].with_batch(128), precision), Recorder())  # type: ignore[arg-type]
    assert plan.workspace <= 1.01 * chunks.MOST_BYTES


def test_columns_that_32_bits_cannot_count_are_refused() -> None:
    with pytest.raises(Unsupported, match="32 bits"):
        im2col.on_cuda(Problem(parse_shape("n1c1h40000w40000k1r3s3p1")), Recorder())  # type: ignore[arg-type]


# chunks.py


def work(image_tiles: int, image_bytes: int = 1, depth: int = 1000) -> chunks.Work:
    return chunks.Work(lambda images: [(images * image_tiles, depth)], 28e12, image_bytes, 2)


def test_a_chunk_is_whole_waves() -> None:
    # 66 tiles an image: two images are a wave, three would pay for two.
    one = work(chunks.WAVE // 2)
    assert one.seconds(3, L2) == pytest.approx(one.seconds(4, L2))
    assert one.seconds(2, L2) < 0.6 * one.seconds(3, L2)
    each, seconds = chunks.images_at_once(work(chunks.WAVE // 2, 40 << 20), 100, L2)
    assert each % 2 == 0
    assert seconds == pytest.approx(sum(work(chunks.WAVE // 2, 40 << 20).seconds(n, L2) for n in parts(100, each)))


def parts(images: int, each: int) -> list[int]:
    return [min(each, images - first) for first in range(0, images, each)]


def test_a_chunk_that_fits_the_cache_is_faster_a_byte() -> None:
    fits = int(chunks.CACHE_PART * L2)
    inside, outside = (work(1, n, 0).seconds(1, L2) - 2 * chunks.LAUNCH_SECONDS for n in (fits, fits + 1))
    assert outside / inside == pytest.approx(chunks.CACHE_RATE / chunks.MEMORY_RATE)


def test_a_chunk_keeps_to_the_memory_and_the_grid() -> None:
    assert chunks.images_at_once(work(1, chunks.MOST_BYTES // 10), 128, L2)[0] <= 10
    assert chunks.images_at_once(work(1, 2 * chunks.MOST_BYTES), 128, L2)[0] == 1
    assert chunks.images_at_once(work(0, 1, 0), 70000, L2)[0] <= chunks.MOST_IMAGES


def test_fewer_images_are_preferred_to_little_time() -> None:
    each, seconds = chunks.images_at_once(work(chunks.WAVE, depth=100000), 64, L2)
    one = work(chunks.WAVE, depth=100000)
    assert each < 64
    assert seconds <= chunks.SLACK * one.seconds(64, L2)
