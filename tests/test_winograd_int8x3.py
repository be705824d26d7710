"""winograd.f2.int8x3 to .f4.int8x3: any shape and cut, bits, errors, what is not finite, refusals.

Where there is no AMX the same code runs on tiles in memory; where there is, both, and they agree to the bit.
"""

from __future__ import annotations

from dataclasses import replace

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
from convbench.algorithms.winograd import int8x3_plan
from convbench.algorithms.winograd.int8x3_kernel import TOGETHER, Transforms, convolve
from convbench.algorithms.winograd.int8x3_plan import LEAST_TILES, cut_up
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import ConvShape, parse_shape
from convbench.vector import tiles
from convbench.vector.build import compiled
from convbench.vector.digits import DIGITS, MOST_DEPTH, STEP
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL

TILES = (2, 3, 4)
SHAPES = [
    "n2c3h13w13k33r3s3p1",
    "n1c1h9w40k1r3s3p1",
    "n3c5h2w2k17r2s2p1",  # one tile an image
    "n2c66h7w9k50r3s3p1",  # two steps of the depth
    "n1c10h5w30k40r1s3p0x1g2",  # one line of a filter
    "n2c4h30w3k20r3s1",
    "n5c6h8w5k96r3s3p4g3",  # padding wider than the filter
    "n1c7h3w3k9r3s3",  # one output
    "n9c2h4w4k18r2s3p1",
]


def variant(m: int, target: Target = IN_MEMORY) -> Algorithm:
    return Algorithm(
        f"test.f{m}.int8x3", on={"cpu": lambda problem, device: int8x3_plan.plan(m, problem, device, target)}
    )


def tile_of(word: str) -> int:
    """Each in turn: compiling takes long."""
    return TILES[SHAPES.index(word) % len(TILES)]


@st.composite
def sliding(draw: st.DrawFn) -> ConvShape:
    """Filters of up to three taps that move by one pixel."""
    r, s = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    groups = draw(st.integers(1, 3))
    channels = draw(st.sampled_from([1, 3, 16, 17, 70]))
    filters = draw(st.sampled_from([1, 15, 16, 33, 50]))
    h, w = draw(st.integers(r, 12)), draw(st.integers(s, 40))
    pad = draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    return ConvShape(draw(st.integers(1, 5)), groups * channels, h, w, groups * filters, r, s, pad=pad, groups=groups)


@EVERYWHERE
@pytest.mark.parametrize("word", SHAPES[:5])
def test_shapes_on_every_kind_of_register(target: Target, word: str) -> None:
    algorithm, problem = variant(tile_of(word), usable(target)), Problem(parse_shape(word))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, Poisoned(2)))


@pytest.mark.parametrize(
    ("m", "word"), [(2, "n2c20h9w11k17r6s4p2"), (3, "n1c20h9w11k17r2s5p3"), (4, "n1c20h9w11k17r4s4p1")]
)
def test_filters_as_long_as_there_are_points_for(m: int, word: str) -> None:
    algorithm, problem = variant(m), Problem(parse_shape(word))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, Poisoned(2)))


@NEEDS_AMX
@pytest.mark.parametrize("word", SHAPES)
def test_the_same_bits_without_amx(word: str) -> None:
    m, problem = tile_of(word), Problem(parse_shape(word))
    one, other = (run_guarded(variant(m, target), problem, Poisoned(2))[2] for target in (host(), IN_MEMORY))
    assert np.array_equal(one, other)


@given(
    m=st.sampled_from(TILES), shape=sliding(), core_cache=st.sampled_from([1, 200_000, 1 << 21]),
    threads=st.integers(1, 3), least=st.sampled_from([1, LEAST_TILES]),
)  # fmt: skip
@settings(max_examples=40)
def test_random_shapes_in_any_cut(m: int, shape: ConvShape, core_cache: int, threads: int, least: int) -> None:
    """A tiny cache cuts tiles into as many panels as there may be, in the middle of their rows too."""
    algorithm, problem, device = variant(m), Problem(shape), Poisoned(threads, (core_cache, 1 << 25))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8x3_plan, "LEAST_TILES", least)
        assert_right(algorithm, problem, *run_guarded(algorithm, problem, device))


@given(m=st.sampled_from(TILES), shape=sliding(), threads=st.integers(2, 7), core_cache=st.integers(1, 1 << 21))
@settings(max_examples=15)
def test_the_same_bits_in_any_cut(m: int, shape: ConvShape, threads: int, core_cache: int) -> None:
    """Each tile has its own scales, so that it does not matter which tiles come together."""
    problem = Problem(shape)
    whole = run_guarded(variant(m), problem, Poisoned(1))[2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8x3_plan, "LEAST_TILES", 3)
        other = run_guarded(variant(m), problem, Poisoned(threads, (core_cache, 1 << 25)))[2]
    assert np.array_equal(whole, other)


@pytest.mark.parametrize(("m", "most"), [(2, 7e-7), (3, 1e-6), (4, 2e-6)])
def test_errors_on_alexnet(m: int, most: float) -> None:
    """Of the smallest tile as those of a float32 product; larger ones pay for it."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == "conv3"]
    narrow = replace(shape, k=32)
    problem, device = Problem(narrow), Cpu(2)
    x, w = problem.operands(1)
    plan, y = int8x3_plan.plan(m, problem, device, IN_MEMORY), np.empty(narrow.y_shape, np.float32)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, narrow)).error < most


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_numbers_of_any_size(factor: float) -> None:
    problem, device = Problem(parse_shape("n2c5h8w9k20r3s3p1")), Cpu(2)
    x, w = problem.operands(2)
    plan = int8x3_plan.plan(2, problem, device, IN_MEMORY)
    y, scaled = (np.empty(problem.shape.y_shape, np.float32) for _ in range(2))
    plan.run(x, plan.prepare(w), y)
    plan.run(x * np.float32(factor), plan.prepare(w / np.float32(factor)), scaled)
    assert np.allclose(y, scaled, rtol=1e-6, atol=1e-6 * abs(y).max())


def test_images_and_channels_of_very_different_sizes() -> None:
    """An image's error follows its own size: no scale is shared between tiles."""
    problem, device = Problem(parse_shape("n3c5h8w9k20r3s3p1")), Cpu(2)
    x, w = problem.operands(2)
    x *= np.array([1, 1e-12, 1e12], np.float32).reshape(3, 1, 1, 1)
    plan, y = int8x3_plan.plan(2, problem, device, IN_MEMORY), np.empty(problem.shape.y_shape, np.float32)
    plan.run(x, plan.prepare(w), y)
    for image in range(3):
        one = replace(problem.shape, n=1)
        assert judge(y[image : image + 1], truth(x[image : image + 1], w, one)).error < 1e-6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_tiles_or_filter(bad: float) -> None:
    problem, device = Problem(parse_shape("n3c5h8w20k20r3s3p1")), Cpu(2)
    x, w = problem.operands(2)
    plan = int8x3_plan.plan(2, problem, device, IN_MEMORY)
    y, broken = (np.empty(problem.shape.y_shape, np.float32) for _ in range(2))
    plan.run(x, plan.prepare(w), y)
    x[1, 2, 3, 4], w[7, 1, 1, 1] = bad, bad
    plan.run(x, plan.prepare(w), broken)
    assert np.isnan(broken[1, :, 2:5, 3:6]).all(), "whoever sees it"
    assert np.isnan(broken[:, 7]).all()
    others = [k for k in range(20) if k != 7]
    assert np.array_equal(broken[::2, others], y[::2, others])
    assert np.array_equal(broken[1, others][:, :, 8:], y[1, others][:, :, 8:]), "tiles that do not see it"


def test_zeros_give_zeros() -> None:
    problem = Problem(parse_shape("n2c5h8w9k20r3s3p1"))
    plan, y = int8x3_plan.plan(2, problem, Cpu(2), IN_MEMORY), np.full(problem.shape.y_shape, np.nan, np.float32)
    x, w = problem.operands(3)
    plan.run(x * 0, plan.prepare(w * 0), y)
    assert (y == 0).all()


@pytest.mark.parametrize("word", ["n2c5h16w16k40r3s3p1", "n2c4h8w48k32r3s3p1g2"])
def test_a_y_too_large_for_the_caches_is_the_same_wherever_it_lies(word: str) -> None:
    problem = Problem(parse_shape(word))
    answers = answers_wherever_y_lies(lambda device: int8x3_plan.plan(2, problem, device, IN_MEMORY), problem)
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


def test_phases_make_up_the_call() -> None:
    device, problem = Cpu(2), Problem(parse_shape("n2c8h20w20k24r3s3p1"))
    plan = int8x3_plan.plan(2, problem, device, IN_MEMORY)
    assert phases_of(plan, problem, device) == ["digits", "products", "output"]


def test_it_is_compiled_for_amx() -> None:
    """On any CPU."""
    both: Transforms = cut_up(parse_shape("n1c8h8w8k8r3s3"), 2, 1 << 20, 1).both
    assert compiled(KERNEL, convolve, (both, False), WITH_AMX)


# Refusals


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("n1c4h9w9k4r3s3u2", "do not move by one pixel"),
        ("n1c4h9w9k4r3s3d2", "do not move by one pixel"),
        ("n1c4h9w9k4r5s5p2", "filters of 5 taps; it has points for 4"),
        ("n1c4h9w9k4r1s1", "nothing slides"),
        ("n1c4h3w3k4r3s3", "nothing slides"),
    ],
)
def test_what_it_refuses(word: str, why: str) -> None:
    (algorithm,) = [algorithm for algorithm in built_in() if algorithm.name == "winograd.f4.int8x3"]
    assert why in str(algorithm.refusal(Problem(parse_shape(word)), "cpu"))


def test_without_amx_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    (algorithm,) = [algorithm for algorithm in built_in() if algorithm.name == "winograd.f2.int8x3"]
    monkeypatch.setattr(tiles, "host", lambda: IN_MEMORY)
    tiles.why_no_tiles.cache_clear()
    try:
        with pytest.raises(Unsupported, match="this CPU has no AMX for bytes"):
            algorithm.on["cpu"](Problem(parse_shape("n1c4h8w8k4r3s3")), Cpu(1))
    finally:
        tiles.why_no_tiles.cache_clear()


def test_sums_too_deep_are_refused() -> None:
    deep = Problem(ConvShape(1, MOST_DEPTH + 1, 4, 4, 1, 3, 3))
    with pytest.raises(Unsupported, match=f"hold those of {MOST_DEPTH}"):
        int8x3_plan.plan(2, deep, Cpu(1), IN_MEMORY)


# Cuts


@given(m=st.sampled_from(TILES), shape=sliding(), core_cache=st.integers(1, 1 << 22), threads=st.integers(1, 70))
@settings(max_examples=300)
def test_panels_fit_their_part_of_the_cache(m: int, shape: ConvShape, core_cache: int, threads: int) -> None:
    cut = cut_up(shape, m, core_cache, threads)
    assert 1 <= cut.share <= cut.panels + 1
    filled = DIGITS * cut.both.points * cut.panel_tiles * cut.steps * STEP
    assert cut.panel_tiles <= LEAST_TILES or filled <= int8x3_plan.CACHE_PART * core_cache
    assert cut.panel_tiles <= shape.n * cut.tile_rows * cut.tile_columns


def test_alexnet_is_cut_as_is_written() -> None:
    """conv3 at 16 images: 784 tiles in ten panels, five for each of two threads; at one image, shares of filters."""
    shape = {layer.name: layer.shape for layer in load("alexnet").layers}["conv3"]
    many = cut_up(replace(shape, n=16), 2, 2 << 20, 2)
    assert (many.panel_tiles, many.share, many.panels) == (79, 24, 24)
    one = cut_up(shape, 2, 2 << 20, 2)
    assert (one.panel_tiles, one.share, one.panels) == (49, 12, 24)


def test_flops_are_those_of_whole_steps_panels_and_tiles_and_of_transforms() -> None:
    """F(2x2, 3x3): six operations for each of a window's eight lines, 24 for a filter's outputs; 98 rows in 7 tiles."""
    shape = parse_shape("n2c40h13w13k20r3s3p1")
    plan = int8x3_plan.plan(2, Problem(shape), Cpu(1), IN_MEMORY)
    tiles, filled = 2 * 7 * 7, TOGETHER * 16
    assert plan.flops == 2 * (7 * 14) * 16 * STEP * filled + tiles * (8 * 6 * STEP + 24 * filled)
