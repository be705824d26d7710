"""direct.int8x3: any shape and cut, bits, errors, what is not finite, refusals; its taps in fours, and ends of rows.

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
from test_fused import Page
from vector_targets import EVERYWHERE

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Unsupported
from convbench.algorithms.direct import int8x3, int8x3_plan
from convbench.algorithms.direct.int8x3_kernel import convolve
from convbench.algorithms.direct.int8x3_plan import Window, cut_up
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
from convbench.vector.tiles import FOUR, ROWS

SHAPES = [
    *ODD,
    "n1c3h47w63k17r11s11u4",  # four taps side by side, and the rest
    "n2c3h23w35k40r11s11u4",  # rows of 7 pixels: two share a tile
    "n1c5h27w27k34r5s5p2",  # whole tiles and ends of 11
    "n1c3h23w45k17r7s7u2p3",
    "n1c2h15w13k17r3s3u3",
    "n1c4h14w17k33r2s4u4",  # a stride above the filter's rows
    "n1c2h20w120k5r2s3u17",  # and one above a register's lanes
    "n1c7h9w19k17r3s2p1d2",  # rows of a window that do not follow one another
    "n3c40h7w9k70r1s1",
    "n1c20h3w700k18r1s1",
    "n2c7h9w34k18r1s1u2",
    "n1c9h11w63k20r1s1u2",  # every other pixel, of the last row the last one too
    "n2c6h7w9k18r1s1u3",
    "n1c5h6w20k18r1s1u2p1",
    "n2c10h5w40k18r1s1g2",
    "n5c9h6w5k42r6s5g3",  # a single pixel
    "n2c6h20w4k20r3s3",  # rows of 2 pixels
]


def variant(target: Target = IN_MEMORY) -> Algorithm:
    return Algorithm("test.direct", on={"cpu": lambda problem, device: int8x3_plan.plan(problem, device, target)})


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
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, device))


@pytest.mark.parametrize("word", ["n3c6h12w13k40r3s3p1g2", "n1c20h30w30k64r1s1", "n1c3h47w47k70r11s11u4"])
def test_the_same_bits_at_any_number_of_threads(word: str) -> None:
    problem = Problem(parse_shape(word))
    first, *others = [run_guarded(variant(), problem, Cpu(threads))[2] for threads in (1, 2, 3, 7)]
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("layer", ["conv1", "conv3"])
def test_errors_on_alexnet(layer: str) -> None:
    """As large as those of a float32 product, whose order of sums decides."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    narrow = ConvShape(1, *shape.x_shape[1:], 16, *shape.w_shape[2:], stride=shape.stride, pad=shape.pad, groups=1)
    problem, device = Problem(narrow), Cpu(2)
    x, w = problem.operands(1)
    plan, y = int8x3_plan.plan(problem, device, IN_MEMORY), np.empty(narrow.y_shape, np.float32)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, narrow)).error < 6e-7


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


def test_the_same_wherever_y_lies() -> None:
    problem = Problem(parse_shape("n2c5h16w19k40r3s3p1"))
    answers = answers_wherever_y_lies(lambda device: int8x3_plan.plan(problem, device, IN_MEMORY), problem)
    assert all(np.array_equal(answers[0], other) for other in answers[1:])


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    "word",
    ["n1c3h27w79k17r11s11u4", "n2c5h7w63k17r1s1u2", "n2c6h5w13k17r1s1", "n1c3h9w70k17r3s3p1", "n1c5h6w20k18r1s1u2p1"],
)
def test_nothing_is_touched_outside(word: str, at_end: bool) -> None:
    """Of memory that belongs to somebody else: not read either."""
    problem = Problem(parse_shape(word))
    host_x, w = problem.operands(0)
    x, y = Page(host_x, at_end), Page(np.zeros(problem.shape.y_shape, np.float32), at_end)
    plan = int8x3_plan.plan(problem, Poisoned(2), IN_MEMORY)
    u = Page(plan.prepare(w), at_end)
    plan.run(x.array, u.array, y.array)
    assert judge(y.array, truth(host_x, w, problem.shape)).error < 1e-6


def test_phases_make_up_the_call() -> None:
    device, problem = Cpu(2), Problem(parse_shape("n2c8h20w20k24r3s3p1"))
    plan = int8x3_plan.plan(problem, device, IN_MEMORY)
    assert phases_of(plan, problem, device) == ["digits", "products"]


@pytest.mark.parametrize(("step", "pointwise"), [(1, False), (1, True), (2, True), (3, False), (4, False)])
def test_it_is_compiled_for_amx(step: int, pointwise: bool) -> None:
    """On any CPU: what tiles are loaded, multiplied and stored by stands in the object code."""
    assert compiled(KERNEL, convolve, (step, pointwise, False), WITH_AMX)


# Refusals


def the_algorithm() -> Algorithm:
    (found,) = [algorithm for algorithm in built_in() if algorithm.name == "direct.int8x3"]
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


def test_a_fully_connected_layer_is_refused() -> None:
    """With one pixel in a tile of 16 it would be far slower than gemm.int8x3, which has the same units."""
    refusal = the_algorithm().refusal(Problem(parse_shape("n2c3h4w4k5r4s4")), "cpu")
    assert refusal == "a fully connected layer, in which no filter slides"


def test_other_precisions_are_refused() -> None:
    problem = Problem(parse_shape("n1c4h8w8k4r3s3"), "float64")
    assert "has no float64 on the cpu" in str(the_algorithm().refusal(problem, "cpu"))


# Taps and cuts


@given(shape=shapes())
@settings(max_examples=300)
def test_lines_hold_each_tap_of_a_window_once(shape: ConvShape) -> None:
    window = Window(shape)
    places = [
        (line // len(window.fours) * window.rows + r, c, column)
        for line in range(window.lines)
        for r, c, column in window.fours[line % len(window.fours)]
    ]
    taps = [(r, c, column) for r, c, column in places if r < shape.r]
    assert sorted(taps) == [
        (r, c, column) for r in range(shape.r) for c in range(shape.c // shape.groups) for column in range(shape.s)
    ]
    assert all(len(four) == FOUR for four in window.fours[:-1])


def test_conv1_needs_six_steps() -> None:
    """363 taps in 91 lines of four, where each row by itself would need 99, which are seven steps."""
    (conv1,) = [layer.shape for layer in load("alexnet").layers if layer.name == "conv1"]
    window = Window(conv1)
    assert (window.rows, window.groups, len(window.fours), window.lines, window.steps) == (4, 3, 33, 91, 6)


@given(shape=shapes(), core_cache=st.integers(1, 1 << 22), threads=st.integers(1, 70))
@settings(max_examples=300)
def test_pixels_that_share_a_scale_do_not_depend_on_threads(shape: ConvShape, core_cache: int, threads: int) -> None:
    one, many = cut_up(shape, core_cache, 1), cut_up(shape, core_cache, threads)
    assert (one.rows, one.columns) == (many.rows, many.columns)
    assert many.share >= 1
    assert many.columns == many.shape.q or many.rows == 1


@pytest.mark.parametrize(("pixels", "rows"), [(55, 2), (16, 1), (13, 1), (4, 4), (2, 8), (1, 16), (7, 2), (19, 4)])
def test_ends_of_as_many_rows_as_fit_share_a_tile(pixels: int, rows: int) -> None:
    cut = cut_up(ConvShape(1, 3, 20, pixels + 2, 16, 3, 3), 2 << 20, 1)
    assert cut.tail_rows == rows
    full, tail = divmod(pixels, ROWS)
    assert cut.tiles == cut.shape.p * full + (-(-cut.shape.p // rows) if tail else 0)


def test_flops_are_those_of_whole_tiles() -> None:
    """Three rows of 8 pixels in two tiles, 27 taps in 32."""
    problem = Problem(parse_shape("n2c4h5w10k20r3s3"))
    plan = int8x3_plan.plan(problem, Cpu(1), IN_MEMORY)
    assert plan.flops == 2 * 2 * (2 * ROWS) * 64 * 32
