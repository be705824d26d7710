"""fft.int8x3: any shape, size and cut, bits, errors, what is not finite, refusals.

test_fft_int8x3_plan.py has how it is cut up, test_complex_digits.py its products.

Where there is no AMX the same code runs on tiles in memory; where there is, both, and they agree to the bit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fused_plans import Poisoned, answers_wherever_y_lies, phases_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_algorithms import assert_right, run_guarded
from test_digits import IN_MEMORY, NEEDS_AMX, WITH_AMX, usable
from vector_targets import EVERYWHERE

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Unsupported
from convbench.algorithms.fft import int8x3_plan
from convbench.algorithms.fft.int8x3_kernel import convolve
from convbench.algorithms.fft.int8x3_plan import ROOM, cut_up
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import ConvShape, parse_shape
from convbench.vector import tiles
from convbench.vector.build import compiled
from convbench.vector.digits import MOST_DEPTH
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL

SHAPES = [  # with a size of transforms: each is compiled, so there are few
    ("n2c3h13w13k33r3s3p1", (14, 14)),  # one tile an image, on a ring
    ("n1c1h9w40k1r3s3p1", (8, 9)),
    ("n2c66h7w9k50r3s3p1", (8, 9)),  # two steps of the depth
    ("n2c3h23w17k16r7s7u2p3", (8, 9)),  # polyphase
    ("n1c10h5w30k40r1s3p0x1g2", (1, 9)),  # one line of a filter
    ("n5c6h8w5k96r3s3p4g3", (8, 9)),  # padding wider than the filter
    ("n1c7h3w3k9r3s2", (8, 8)),  # one row of output
    ("n1c2h40w14k16r15s3", (14, 9)),  # a filter in pieces
    ("n20c5h4w4k32r3s3p1", (8, 8)),  # more images than a tile of A has rows
]


def variant(size: tuple[int, int], target: Target = IN_MEMORY) -> Algorithm:
    return Algorithm("test.fft", on={"cpu": lambda problem, device: int8x3_plan.of_size(problem, device, size, target)})


@st.composite
def sliding(draw: st.DrawFn) -> ConvShape:
    """Filters of two or three taps, so that the sizes of SIZES hold them."""
    r, s = draw(st.tuples(st.integers(2, 3), st.integers(2, 3)))
    groups = draw(st.integers(1, 3))
    channels = draw(st.sampled_from([1, 3, 16, 17, 70]))
    filters = draw(st.sampled_from([1, 15, 16, 33, 50]))
    h, w = draw(st.integers(r + 1, 30)), draw(st.integers(s + 1, 30))
    pad = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    return ConvShape(draw(st.integers(1, 5)), groups * channels, h, w, groups * filters, r, s, pad=pad, groups=groups)


@EVERYWHERE
@pytest.mark.parametrize(("word", "size"), SHAPES[:3])
def test_shapes_on_every_kind_of_register(target: Target, word: str, size: tuple[int, int]) -> None:
    algorithm, problem = variant(size, usable(target)), Problem(parse_shape(word))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, Poisoned(2)))


@pytest.mark.parametrize(("word", "size"), SHAPES[3:])
def test_other_shapes(word: str, size: tuple[int, int]) -> None:
    algorithm, problem = variant(size), Problem(parse_shape(word))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, Poisoned(3)))


@NEEDS_AMX
@pytest.mark.parametrize(("word", "size"), SHAPES)
def test_the_same_bits_without_amx(word: str, size: tuple[int, int]) -> None:
    problem = Problem(parse_shape(word))
    one, other = (run_guarded(variant(size, target), problem, Poisoned(2))[2] for target in (host(), IN_MEMORY))
    assert np.array_equal(one, other)


@given(
    shape=sliding(), threads=st.integers(1, 3), room=st.sampled_from([1, 200_000, ROOM]),
    least=st.sampled_from([1, 3, int8x3_plan.LEAST_TILES]), caches=st.sampled_from([1, 1 << 25]),
)  # fmt: skip
@settings(max_examples=25)
def test_random_shapes_in_any_cut(shape: ConvShape, threads: int, room: int, least: int, caches: int) -> None:
    """A tiny room cuts tiles into as many blocks, and filters into as many chunks, as there may be."""
    algorithm, problem, device = variant((8, 9)), Problem(shape), Poisoned(threads, (1 << 19, caches))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8x3_plan, "LEAST_TILES", least)
        patch.setattr(int8x3_plan, "ROOM", room)
        assert_right(algorithm, problem, *run_guarded(algorithm, problem, device))


@given(shape=sliding(), threads=st.integers(2, 7), room=st.integers(1, 1 << 20))
@settings(max_examples=10)
def test_the_same_bits_in_any_cut(shape: ConvShape, threads: int, room: int) -> None:
    """Each tile has its own scales, so that it does not matter which tiles come together."""
    problem = Problem(shape)
    whole = run_guarded(variant((8, 9)), problem, Poisoned(1))[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8x3_plan, "LEAST_TILES", 1)
        patch.setattr(int8x3_plan, "ROOM", room)
        other = run_guarded(variant((8, 9)), problem, Poisoned(threads))[2]
    assert np.array_equal(whole, other)


@pytest.mark.parametrize(("layer", "size"), [("conv2", (30, 30)), ("conv3", (14, 14))])
def test_errors_on_alexnet(layer: str, size: tuple[int, int]) -> None:
    """As those of arithmetic in float32, without what Winograd's tiles add."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    narrow = replace(shape, k=32)
    problem, device = Problem(narrow), Cpu(2)
    x, w = problem.operands(1)
    plan, y = int8x3_plan.of_size(problem, device, size, IN_MEMORY), np.empty(narrow.y_shape, np.float32)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, narrow)).error < 5e-7


SMALL = Problem(parse_shape("n3c5h8w20k20r3s3p1"))  # with transforms of 8 x 9: two rows of three tiles an image


def small(x: Any, w: Any) -> Any:
    plan = int8x3_plan.of_size(SMALL, Cpu(2), (8, 9), IN_MEMORY)
    y = np.full(SMALL.shape.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    return y


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_numbers_of_any_size(factor: float) -> None:
    x, w = SMALL.operands(2)
    y, scaled = small(x, w), small(x * np.float32(factor), w / np.float32(factor))
    assert np.allclose(y, scaled, rtol=1e-6, atol=1e-6 * abs(y).max())


def test_images_of_very_different_sizes() -> None:
    """An image's error follows its own size: no scale is shared between tiles."""
    x, w = SMALL.operands(2)
    x *= np.array([1, 1e-12, 1e12], np.float32).reshape(3, 1, 1, 1)
    y, one = small(x, w), replace(SMALL.shape, n=1)
    for image in (slice(i, i + 1) for i in range(3)):
        assert judge(y[image], truth(x[image], w, one)).error < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_tiles_or_filter(bad: float) -> None:
    x, w = SMALL.operands(2)
    y = small(x, w)
    x[1, 2, 3, 4], w[7, 1, 1, 1] = bad, bad
    broken = small(x, w)
    assert np.isnan(broken[1, :, 2:5, 3:6]).all(), "whoever sees it"
    assert np.isnan(broken[:, 7]).all()
    others = [k for k in range(20) if k != 7]
    assert np.array_equal(broken[::2, others], y[::2, others])
    assert np.array_equal(broken[1, others][:, :, 7:], y[1, others][:, :, 7:]), "tiles that do not see it"


def test_zeros_give_zeros() -> None:
    x, w = SMALL.operands(3)
    assert (small(x * 0, w * 0) == 0).all()


@pytest.mark.parametrize(
    ("word", "size"),
    [
        ("n2c5h13w13k32r3s3p1", (14, 14)),  # planes of 676 bytes, put together by 16
        ("n2c4h15w11k64r3s3p1g2", (8, 9)),  # of several rows of tiles
        ("n2c5h16w16k40r3s3p1", (9, 9)),  # whole lines, but a panel that is not full
    ],
)
def test_a_y_too_large_for_the_caches_is_the_same_wherever_it_lies(word: str, size: tuple[int, int]) -> None:
    problem = Problem(parse_shape(word))
    answers = answers_wherever_y_lies(lambda device: int8x3_plan.of_size(problem, device, size, IN_MEMORY), problem)
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


def test_phases_make_up_the_call() -> None:
    device = Cpu(2)
    plan = int8x3_plan.of_size(SMALL, device, (8, 9), IN_MEMORY)
    assert phases_of(plan, SMALL, device) == ["input transform", "products", "output transform"]


def test_it_is_compiled_for_amx() -> None:
    """On any CPU."""
    tile = cut_up(SMALL, (8, 9), 1).tile
    assert compiled(KERNEL, convolve, (tile, (1, 1, True), False), WITH_AMX)


# Refusals


def named() -> Algorithm:
    (found,) = [algorithm for algorithm in built_in() if algorithm.name == "fft.int8x3"]
    return found


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("n1c4h9w9k4r3s3d2", "the taps of a filter are no neighbours"),
        ("n1c4h9w9k4r1s1", "nothing slides"),
        ("n1c4h3w3k4r3s3", "nothing slides"),
    ],
)
def test_what_it_refuses(word: str, why: str) -> None:
    assert why in str(named().refusal(Problem(parse_shape(word)), "cpu"))


def test_without_amx_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "host", lambda: IN_MEMORY)
    tiles.why_no_tiles.cache_clear()
    try:
        with pytest.raises(Unsupported, match="this CPU has no AMX for bytes"):
            named().on["cpu"](Problem(parse_shape("n1c4h8w8k4r3s3")), Cpu(1))
    finally:
        tiles.why_no_tiles.cache_clear()


def test_sums_too_deep_are_refused() -> None:
    deep = Problem(ConvShape(1, MOST_DEPTH // 2 + 1, 4, 4, 1, 3, 3))
    with pytest.raises(Unsupported, match=f"hold those of {MOST_DEPTH}"):
        int8x3_plan.plan(deep, Cpu(1), IN_MEMORY)
