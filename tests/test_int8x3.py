"""gemm.int8x3: any shape and cut, bits, errors, what is not finite, refusals; test_digits.py has what it is made of.

Where there is no AMX the same code runs on tiles in memory; where there is, both, and they agree to the bit.
"""

from __future__ import annotations

import numpy as np
import pytest
from fakes import shapes
from fused_plans import Poisoned, answers_wherever_y_lies, phases_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_algorithms import ODD, assert_right, run_guarded
from test_digits import IN_MEMORY, NEEDS_AMX, WITH_AMX, usable
from test_gemv import assert_product, layers
from vector_targets import EVERYWHERE

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Unsupported
from convbench.algorithms.gemm import int8x3, int8x3_plan
from convbench.algorithms.gemm.int8x3_kernel import multiply
from convbench.algorithms.gemm.int8x3_plan import LEAST_PIXELS, Window, cut_up, shares_of
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import ConvShape, parse_shape
from convbench.vector import tiles
from convbench.vector.build import compiled
from convbench.vector.digits import DIGITS, MOST_DEPTH
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL

SHAPES = [
    *ODD,
    "n2c3h13w13k33r3s3p1",
    "n1c1h9w40k17r3s5p1",  # one channel, and two: as they are
    "n1c2h9w40k17r3s5p1u2",
    "n1c5h27w11k50r5s5p2",
    "n1c64h13w13k17r3s3p1",  # runs that are whole lines
    "n1c20h9w14k17r3s3p1",  # and runs that nearly are
    "n1c3h47w63k17r11s11u4",
    "n3c40h7w9k70r1s1",
    "n1c20h3w700k18r1s1",
    "n1c66h9w19k17r3s2p1d2",
    "n5c9h6w5k42r6s5g3",
    "n40c30h4w5k20r2s2u2",  # images that share a panel
]


def variant(target: Target = IN_MEMORY) -> Algorithm:
    return Algorithm("test.int8x3", on={"cpu": lambda problem, device: int8x3_plan.plan(problem, device, target)})


# The algorithm


@EVERYWHERE
@pytest.mark.parametrize("word", SHAPES)
def test_shapes_on_every_kind_of_register(target: Target, word: str) -> None:
    algorithm, problem = variant(usable(target)), Problem(parse_shape(word))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, Poisoned(2)))


@NEEDS_AMX
@pytest.mark.parametrize("word", SHAPES)
def test_the_same_bits_without_amx(word: str) -> None:
    problem = Problem(parse_shape(word))
    one, other = (run_guarded(variant(target), problem, Poisoned(2))[2] for target in (host(), IN_MEMORY))
    assert np.array_equal(one, other)


@given(shape=shapes(), core_cache=st.sampled_from([1, 20_000, 1 << 20]), threads=st.integers(1, 3))
@settings(max_examples=60)
def test_random_shapes_in_any_cut(shape: ConvShape, core_cache: int, threads: int) -> None:
    """A tiny cache cuts pixels into as many panels as there may be."""
    algorithm, problem, device = variant(), Problem(shape), Poisoned(threads, (core_cache, 1 << 25))
    with pytest.MonkeyPatch.context() as patch:
        if core_cache == 1:
            patch.setattr(int8x3_plan, "LEAST_PIXELS", 1)
        assert_right(algorithm, problem, *run_guarded(algorithm, problem, device))


@given(shape=layers(), threads=st.integers(1, 3))
@settings(max_examples=20)
def test_fully_connected_layers(shape: ConvShape, threads: int) -> None:
    problem = Problem(shape)
    assert_product(problem, *run_guarded(variant(), problem, Poisoned(threads)))


@pytest.mark.parametrize("word", ["n3c6h12w13k40r3s3p1g2", "n1c20h30w30k64r1s1", "n7c9h4w4k50r4s4", "n1c64h7w7k40r3s3"])
def test_the_same_bits_at_any_number_of_threads(word: str) -> None:
    problem = Problem(parse_shape(word))
    first, *others = [run_guarded(variant(), problem, Cpu(threads))[2] for threads in (1, 2, 3, 7)]
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("layer", ["conv1", "conv3", "conv5"])
def test_errors_on_alexnet(layer: str) -> None:
    """As large as those of a float32 product, whose order of sums decides."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    narrow = ConvShape(1, *shape.x_shape[1:], 32, *shape.w_shape[2:], stride=shape.stride, pad=shape.pad, groups=1)
    problem, device = Problem(narrow), Cpu(2)
    x, w = problem.operands(1)
    plan, y = int8x3_plan.plan(problem, device, IN_MEMORY), np.empty(narrow.y_shape, np.float32)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, narrow)).error < 6e-7


@pytest.mark.parametrize("factor", [2.0**-60, 2.0**60])
def test_numbers_of_any_size(factor: float) -> None:
    """Exactly as many times larger, where it is a power of two."""
    problem, device = Problem(parse_shape("n2c5h8w9k20r3s3p1")), Cpu(2)
    x, w = problem.operands(2)
    plan = int8x3_plan.plan(problem, device, IN_MEMORY)
    y, scaled = (np.empty(problem.shape.y_shape, np.float32) for _ in range(2))
    plan.run(x, plan.prepare(w), y)
    plan.run(x * np.float32(factor), plan.prepare(w / np.float32(factor)), scaled)
    assert np.allclose(y, scaled, rtol=1e-6, atol=1e-6 * abs(y).max())


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_image_or_filter(bad: float) -> None:
    problem, device = Problem(parse_shape("n3c5h8w9k20r3s3p1")), Cpu(2)
    x, w = problem.operands(2)
    plan = int8x3_plan.plan(problem, device, IN_MEMORY)
    y, broken = (np.empty(problem.shape.y_shape, np.float32) for _ in range(2))
    plan.run(x, plan.prepare(w), y)
    x[1, 2, 3, 4], w[7, 1, 1, 1] = bad, bad
    plan.run(x, plan.prepare(w), broken)
    assert np.isnan(broken[1]).all()
    assert np.isnan(broken[:, 7]).all()
    others = [k for k in range(20) if k != 7]
    assert np.array_equal(broken[::2, others], y[::2, others])


def test_zeros_give_zeros() -> None:
    problem = Problem(parse_shape("n2c5h8w9k20r3s3p1"))
    plan, y = int8x3_plan.plan(problem, Cpu(2), IN_MEMORY), np.full(problem.shape.y_shape, np.nan, np.float32)
    x, w = problem.operands(3)
    plan.run(x * 0, plan.prepare(w * 0), y)
    assert (y == 0).all()


@pytest.mark.parametrize("word", ["n2c5h16w16k40r3s3p1", "n2c4h8w10k32r1s1g2"])
def test_a_y_too_large_for_the_caches_is_the_same_wherever_it_lies(word: str) -> None:
    problem = Problem(parse_shape(word))
    answers = answers_wherever_y_lies(lambda device: int8x3_plan.plan(problem, device, IN_MEMORY), problem)
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


def test_phases_make_up_the_call() -> None:
    device, problem = Cpu(2), Problem(parse_shape("n2c8h20w20k24r3s3p1"))
    plan = int8x3_plan.plan(problem, device, IN_MEMORY)
    assert phases_of(plan, problem, device) == ["digits", "products", "output"]


def test_it_is_compiled_for_amx() -> None:
    """On any CPU: what tiles are loaded, multiplied and stored by stands in the object code."""
    assert WITH_AMX.multiplies_tiles
    assert not IN_MEMORY.multiplies_tiles
    for few, in_lines, slides in ((0, True, True), (3, False, True), (0, True, False)):
        assert compiled(KERNEL, multiply, (few, in_lines, slides, False), WITH_AMX)


# Refusals


def the_algorithm() -> Algorithm:
    (found,) = [algorithm for algorithm in built_in() if algorithm.name == "gemm.int8x3"]
    return found


def test_without_amx_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "host", lambda: IN_MEMORY)
    tiles.why_no_tiles.cache_clear()
    try:
        with pytest.raises(Unsupported, match="this CPU has no AMX for bytes"):
            int8x3.on_amx(Problem(parse_shape("n1c4h8w8k4r3s3")), Cpu(1))
    finally:
        tiles.why_no_tiles.cache_clear()


def test_sums_too_deep_are_refused() -> None:
    deep = Problem(ConvShape(1, MOST_DEPTH + 1, 1, 1, 1, 1, 1))
    with pytest.raises(Unsupported, match=f"hold those of {MOST_DEPTH}"):
        int8x3_plan.plan(deep, Cpu(1), IN_MEMORY)


def test_other_precisions_are_refused() -> None:
    problem = Problem(parse_shape("n1c4h8w8k4r3s3"), "float64")
    assert "has no float64 on the cpu" in str(the_algorithm().refusal(problem, "cpu"))


# Cuts


@given(shape=shapes(), core_cache=st.integers(1, 1 << 22), threads=st.integers(1, 70))
@settings(max_examples=300)
def test_pixels_that_share_a_scale_do_not_depend_on_threads(shape: ConvShape, core_cache: int, threads: int) -> None:
    one, many = cut_up(shape, core_cache, 1), cut_up(shape, core_cache, threads)
    assert (one.rows, one.columns) == (many.rows, many.columns)
    assert 1 <= many.images <= shape.n
    assert 1 <= many.share <= many.panels
    small = int8x3_plan.CACHE_PART * core_cache >= DIGITS * LEAST_PIXELS * Window(many.shape).depth
    assert small or many.pixels <= LEAST_PIXELS


@given(items=st.integers(1, 200), panels=st.integers(1, 300), threads=st.integers(1, 64))
def test_shares_are_no_more_than_help(items: int, panels: int, threads: int) -> None:
    shares = shares_of(items, panels, threads)
    assert 1 <= shares <= panels
    assert items % threads != 0 or shares == 1


def test_alexnet_is_cut_as_is_written() -> None:
    """conv3 in two strips; fc6 in shares of its filters, all images together."""
    shape = {layer.name: layer.shape for layer in load("alexnet").layers}
    conv3 = cut_up(shape["conv3"], 2 << 20, 2)
    assert (conv3.images, conv3.rows, conv3.columns, conv3.share, conv3.panels) == (1, 7, 13, 24, 24)
    fc6 = cut_up(ConvShape(64, 256, 6, 6, 4096, 6, 6), 2 << 20, 2)
    assert (fc6.images, fc6.pixels, fc6.share) == (64, 64, 128)


def test_runs_become_whole_lines_where_that_adds_little() -> None:
    known = {"n1c48h9w9k1r5s5": (240, 256), "n1c3h99w99k1r11s11u4": (33, 33), "n1c64h9w9k1r3s3d2": (64, 64)}
    for word, (length, pitch) in known.items():
        window = Window(parse_shape(word))
        assert (window.length, window.pitch) == (length, pitch)


def test_flops_are_those_of_whole_steps_and_panels() -> None:
    problem = Problem(parse_shape("n2c64h13w13k20r3s3p1"))
    plan = int8x3_plan.plan(problem, Cpu(1), IN_MEMORY)
    assert plan.flops * 20 == problem.shape.flops * 32
