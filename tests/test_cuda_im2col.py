"""gemm.im2col on CUDA: chunks of images, matrices joined or apart, and what chooses between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from cuda_devices import Recorder
from cuda_host.device import HostDevice

from convbench.algorithms.base import Unsupported
from convbench.algorithms.gemm import chunks, im2col
from convbench.algorithms.gpu import MOST_BYTES, MULTIPROCESSORS
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

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
@pytest.mark.parametrize(
    ("precision", "least", "most"), [("float64", 0, 1e-15), ("tf32", 1e-5, 4e-4), ("float16", 1e-5, 4e-4)]
)
def test_each_precision_is_computed_in(
    monkeypatch: pytest.MonkeyPatch, precision: str, least: float, most: float, joined: bool
) -> None:
    monkeypatch.setattr(im2col, "chunk_of", lambda *facts: (joined, 2))
    for word in ("n3c3h9w9k5r4s4u3p2", "n3c3h8w8k6r3s3p1", "n2c5h9w7k9r3s3p1"):
        assert least <= error(Problem(parse_shape(word), precision), HostDevice()) < most


class Asked(HostDevice):
    """Notes for each product whether tf32 was asked for, and the bytes that rows of its operands begin on."""

    def __init__(self) -> None:
        super().__init__()
        self.tf32: list[bool] = []
        self.begins: list[int] = []

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        self.tf32.append(tf32)
        for operand in (a, b, out):
            row, column = operand.strides[-2:]
            self.begins.append(math.gcd(max(row, column), operand.ctypes.data))
        return super().matmul(a, b, out, tf32)


# Stretched and joined, a matrix for each image, not stretched, fully connected.
@pytest.mark.parametrize("word", ["n3c3h9w9k8r4s4u3p2", "n3c3h8w8k6r3s3p1", "n2c8h4w4k8r1s1", "n2c6h2w2k8r2s2"])
@pytest.mark.parametrize("precision", ["float32", "float64", "tf32", "float16"])
def test_products_are_in_the_arithmetic_asked_for(word: str, precision: str) -> None:
    device = Asked()
    assert error(Problem(parse_shape(word), precision), device) < Problem(parse_shape(word), precision).number.tolerance
    assert set(device.tf32) == {precision == "tf32"}


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("word", ["n3c3h9w9k8r4s4u3p2", "n3c3h8w8k6r3s3p1", "n5c6h5w4k9r3s2u1x2p1g3"])
def test_rows_are_aligned_for_tensor_cores(word: str, precision: str) -> None:
    device = Asked()
    error(Problem(parse_shape(word), precision), device)
    assert all(begin % 16 == 0 for begin in device.begins)


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


@pytest.mark.parametrize(("precision", "depth"), [("float32", 363), ("float64", 363), ("tf32", 364), ("float16", 368)])
def test_the_depth_of_conv1_is_filled_up_for_tensor_cores_alone(precision: str, depth: int) -> None:
    assert im2col.aligned(Problem(ALEXNET["conv1"], precision), 363) == depth


def test_one_image_of_conv1_takes_its_matrix_and_little_more() -> None:
    plan = im2col.on_cuda(Problem(ALEXNET["conv1"].with_batch(1)), Recorder())  # type: ignore[arg-type]
    assert 4392300 <= plan.workspace <= 1.005 * 4392300


# What an H200 was fastest with, in float32. (One image is one matrix either way.)
@pytest.mark.parametrize(
    ("batch", "joined"),
    [
        (128, {"conv1": False, "conv2": False, "conv3": True, "conv4": True, "conv5": True}),
        (16, {"conv1": False, "conv2": False, "conv3": True, "conv4": True, "conv5": True}),
        (1, dict.fromkeys(("conv1", "conv2", "conv3", "conv4", "conv5"), False)),
    ],
)
def test_alexnet_is_stretched_at_once_as_was_measured(batch: int, joined: dict[str, bool]) -> None:
    for layer, choice in joined.items():
        assert im2col.chunk_of(Problem(ALEXNET[layer].with_batch(batch))) == (choice, batch), layer


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_images_are_joined_where_rows_of_y_do_not_suit_tensor_cores(precision: str) -> None:
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5"):  # P Q is odd in all of them
        assert im2col.chunk_of(Problem(ALEXNET[layer].with_batch(128), precision)) == (True, 128)
    assert im2col.chunk_of(Problem(parse_shape("n1c64h56w56k64r3s3p1"), precision)) == (False, 1)


@pytest.mark.parametrize("precision", ["float32", "float64", "tf32", "float16"])
@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv4", "conv5"])
def test_memory_is_bounded(layer: str, precision: str) -> None:
    plan = im2col.on_cuda(Problem(ALEXNET[layer].with_batch(128), precision), Recorder())  # type: ignore[arg-type]
    assert plan.workspace <= 1.01 * MOST_BYTES


def test_columns_that_32_bits_cannot_count_are_refused() -> None:
    with pytest.raises(Unsupported, match="32 bits"):
        im2col.on_cuda(Problem(parse_shape("n1c1h40000w40000k1r3s3p1")), Recorder())  # type: ignore[arg-type]


# chunks.py


def test_a_chunk_is_as_many_images_as_memory_holds_in_equal_parts() -> None:
    assert chunks.images_at_once(128, MOST_BYTES // 128) == 128
    assert chunks.images_at_once(128, MOST_BYTES // 127) == 64
    assert chunks.images_at_once(128, MOST_BYTES // 50) == 43
    assert chunks.images_at_once(128, 2 * MOST_BYTES) == 1
    assert chunks.images_at_once(70000, 1) == 35000


def test_a_product_takes_whole_waves() -> None:
    def waves(count: int, tiles: int) -> float:
        product = chunks.Product(count, chunks.TILE_FILTERS, tiles * chunks.TILE_COLUMNS - 1, 10)
        return product.seconds(1.0) / (MULTIPROCESSORS * chunks.TILE_FILTERS * chunks.TILE_COLUMNS * 10)

    assert [waves(1, tiles) for tiles in (67, 132, 133, 264, 265)] == [1, 1, 2, 2, 3]
    assert [waves(2, tiles) for tiles in (1, 66, 67)] == [1, 1, 2]


def test_the_depth_of_a_single_product_of_few_tiles_is_shared_out() -> None:
    sixteen = chunks.Product(1, 384, 16 * 169, 2304).seconds(26e12)
    assert sixteen == pytest.approx(chunks.Product(16, 384, 169, 2304).seconds(26e12) / 2)
    assert chunks.Product(1, 64, 256, 1320).seconds(1.0) == pytest.approx(1320 * 64 * 256)


def test_all_images_take_what_their_chunks_take() -> None:
    assert chunks.seconds(7, 3, lambda images: images**2) == 9 + 9 + 1
    assert chunks.seconds(6, 3, lambda images: images**2) == 9 + 9
    products = [chunks.Product(1, 64, 256, 10)] * 2
    assert chunks.chunk_seconds(products, 1e12, 3_000_000, 1) == pytest.approx(
        2 * products[0].seconds(1e12) + 1e-6 + 3 * chunks.LAUNCH_SECONDS
    )
