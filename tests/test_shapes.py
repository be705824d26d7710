"""Shapes: words, sizes, and FLOPs counted one by one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fakes import is_a_shape, shapes
from hypothesis import given
from hypothesis import strategies as st

from convbench.layers import load
from convbench.shapes import ConvShape, ShapeError, parse_shape

OK = "n1c64h56w56k128r3s3u2p1"


def outputs(length: int, taps: int, stride: int, pad: int, dilation: int) -> list[int]:
    """First input positions of every window that fits the padded input, by trying all."""
    reach = dilation * (taps - 1) + 1
    return [i for i in range(-pad, length + pad) if i + reach <= length + pad and (i + pad) % stride == 0]


def taps_inside(length: int, taps: int, stride: int, pad: int, dilation: int) -> int:
    return sum(
        0 <= i + dilation * t < length for i in outputs(length, taps, stride, pad, dilation) for t in range(taps)
    )


@given(shapes())
def test_a_word_names_its_shape(shape: ConvShape) -> None:
    assert parse_shape(str(shape)) == shape


@given(shapes())
def test_the_word_is_canonical(shape: ConvShape) -> None:
    assert re.fullmatch(r"(?:[a-z]\d+(?:x\d+)?)+", str(shape))
    assert str(parse_shape(str(shape))) == str(shape)


@given(shapes())
def test_sizes_and_flops_by_counting(shape: ConvShape) -> None:
    rows = shape.h, shape.r, shape.stride[0], shape.pad[0], shape.dilation[0]
    columns = shape.w, shape.s, shape.stride[1], shape.pad[1], shape.dilation[1]
    assert (shape.p, shape.q) == (len(outputs(*rows)), len(outputs(*columns)))
    products = shape.n * shape.k * (shape.c // shape.groups)
    assert shape.flops == 2 * products * shape.p * shape.q * shape.r * shape.s
    assert shape.flops_true == 2 * products * taps_inside(*rows) * taps_inside(*columns)
    assert shape.y_shape == (shape.n, shape.k, shape.p, shape.q)
    assert shape.w_shape == (shape.k, shape.c // shape.groups, shape.r, shape.s)
    assert shape.elements == (
        shape.n * shape.c * shape.h * shape.w
        + shape.k * (shape.c // shape.groups) * shape.r * shape.s
        + shape.n * shape.k * shape.p * shape.q
    )


@given(st.lists(st.integers(-1, 9), min_size=7, max_size=7), st.integers(0, 3), st.integers(-1, 2), st.integers(0, 3))
def test_exactly_the_impossible_is_refused(sizes: list[int], stride: int, pad: int, dilation: int) -> None:
    _, _, h, w, _, r, s = sizes
    possible = min(*sizes, stride, dilation) >= 1 and pad >= 0
    if possible:
        windows = outputs(h, r, stride, pad, dilation), outputs(w, s, stride, pad, dilation)
        possible = all(windows)
    assert is_a_shape(*sizes, (stride, stride), (pad, pad), (dilation, dilation)) == possible


@pytest.mark.parametrize(
    ("layer", "true", "nominal"),
    [
        ("conv1", 210830400, 210830400),
        ("conv2", 408969216, 447897600),
        ("conv3", 269156352, 299040768),
        ("conv4", 201867264, 224280576),
        ("conv5", 134578176, 149520384),
        ("fc6", 75497472, 75497472),
        ("fc7", 33554432, 33554432),
        ("fc8", 8192000, 8192000),
    ],
)
def test_flops_of_alexnet(layer: str, true: int, nominal: int) -> None:
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    assert (shape.flops_true, shape.flops) == (true, nominal)
    assert shape.with_batch(128).flops_true == 128 * true
    assert shape.with_batch(128).flops == 128 * nominal


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("", "shape '': cannot read ''; for example n1c64h56w56k128r3s3u2p1"),
        ("conv1", "shape 'conv1': cannot read 'conv1'; for example n1c64h56w56k128r3s3u2p1"),
        ("N1c1h1w1k1r1s1", "shape 'N1c1h1w1k1r1s1': cannot read 'N1c1h1w1k1r1s1'; for example n1c64h56w56k128r3s3u2p1"),
        (f"{OK} ", f"shape '{OK} ': cannot read ' '; for example n1c64h56w56k128r3s3u2p1"),
        (f"{OK}u", f"shape '{OK}u': cannot read 'u'; for example n1c64h56w56k128r3s3u2p1"),
        (f"{OK}d2x", f"shape '{OK}d2x': cannot read 'x'; for example n1c64h56w56k128r3s3u2p1"),
        (
            "n-1c1h1w1k1r1s1",
            "shape 'n-1c1h1w1k1r1s1': cannot read 'n-1c1h1w1k1r1s1'; for example n1c64h56w56k128r3s3u2p1",
        ),
        (
            f"{OK}z3",
            f"shape '{OK}z3': unknown letter 'z'; known are n c h w k r s u p d g, for example n1c64h56w56k128r3s3u2p1",
        ),
        (f"{OK}n2", f"shape '{OK}n2': 'n' is given twice"),
        ("n1x2c1h1w1k1r1s1", "shape 'n1x2c1h1w1k1r1s1': only u, p and d take a pair like n1x2"),
        (f"{OK}g2x2", f"shape '{OK}g2x2': only u, p and d take a pair like g2x2"),
        ("n1c1h1k1r1", "shape 'n1c1h1k1r1': w, s missing; for example n1c64h56w56k128r3s3u2p1"),
        ("n0c1h1w1k1r1s1", "shape 'n0c1h1w1k1r1s1': n is 0, but must be at least 1"),
        ("n1c1h1w1k1r1s1u1x0", "shape 'n1c1h1w1k1r1s1u1x0': stride is 0, but must be at least 1"),
        ("n1c1h1w1k1r1s1d0", "shape 'n1c1h1w1k1r1s1d0': dilation is 0, but must be at least 1"),
        ("n1c1h1w1k1r1s1g0", "shape 'n1c1h1w1k1r1s1g0': groups is 0, but must be at least 1"),
        ("n1c3h1w1k4r1s1g2", "shape 'n1c3h1w1k4r1s1g2': c = 3 channels cannot be split into 2 groups"),
        ("n1c4h1w1k3r1s1g2", "shape 'n1c4h1w1k3r1s1g2': k = 3 channels cannot be split into 2 groups"),
        (
            "n1c1h4w9k1r3s1d2",
            "shape 'n1c1h4w9k1r3s1d2': the filter's height 5 (dilation included) is larger than the input with its "
            "padding, 4: no output is left",
        ),
        (
            "n1c1h9w2k1r1s5p0x1",
            "shape 'n1c1h9w2k1r1s5p0x1': the filter's width 5 (dilation included) is larger than the input with its "
            "padding, 4: no output is left",
        ),
    ],
)
def test_what_is_wrong_with_a_word(word: str, text: str) -> None:
    with pytest.raises(ShapeError) as caught:
        parse_shape(word)
    assert str(caught.value) == text


def test_a_number_too_long_to_read_is_a_shape_error() -> None:
    with pytest.raises(ShapeError, match="shape 'n1"):
        parse_shape(f"n{'1' * 5000}c1h1w1k1r1s1")


def test_negative_padding() -> None:
    with pytest.raises(ShapeError, match="pad is -1, but must not be negative"):
        ConvShape(1, 1, 5, 5, 1, 1, 1, pad=(0, -1))


@given(st.text(alphabet="nchwkrsupdgxz019 -.é٣", max_size=40))
def test_no_word_raises_anything_else(word: str) -> None:
    try:
        shape: Any = parse_shape(word)
    except ShapeError as error:
        said = str(error)
    else:
        said = f"'{word}'"
        assert parse_shape(str(shape)) == shape
    assert f"'{word}'" in said


@pytest.mark.timeout(5)
def test_flops_of_a_filter_too_long_to_walk_along() -> None:
    side = 10**12
    shape = ConvShape(1, 1, side, 1, 1, side, 1)
    assert shape.flops_true == shape.flops == 2 * side


def test_only_a_whole_image_filter_is_a_matrix_product() -> None:
    assert parse_shape("n7c256h6w6k4096r6s6").is_matrix_product
    assert parse_shape("n7c4h1w1k4r1s1").is_matrix_product
    assert not parse_shape("n7c4h2w2k4r1s1").is_matrix_product
    assert not parse_shape("n7c4h6w6k4r6s6p1").is_matrix_product
    assert not parse_shape("n7c4h2w2k4r1s1u2").is_matrix_product
