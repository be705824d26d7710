"""The vector code of direct.blocked, gemm.panel and gemm.im2col: every CPU's registers, any number of threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fakes import shapes
from fused_plans import answers_wherever_y_lies, phases_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_algorithms import ODD, assert_right, run_guarded

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.direct import packed as direct
from convbench.algorithms.direct.rows import Axis, cut
from convbench.algorithms.fft import vector
from convbench.algorithms.gemm import packed as panel
from convbench.algorithms.gemm.unfold import stretcher
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.problem import Problem
from convbench.shapes import ConvShape, parse_shape
from convbench.vector.build import compiled
from convbench.vector.target import Target, host

MODULES = {"direct.blocked": direct, "gemm.panel": panel, "gemm.panel.pairs": panel}
MAKERS = {"direct.blocked": direct.packed, "gemm.panel": panel.packed, "gemm.panel.pairs": panel.in_pairs}
NAMES = pytest.mark.parametrize("name", MODULES)
TARGETS = {  # what the machine at hand can run of: SSE's 4 lanes, AVX's 8 without multiply-adds, its own
    "sse": Target("nehalem", ""),
    "avx": Target("sandybridge", "+avx"),
    "host": host(),
}
CAN_RUN = [name for name, target in TARGETS.items() if target.lanes <= host().lanes]
SHAPES = [
    "n2c3h13w13k33r3s3p1",
    "n1c5h27w11k50r5s5p2g1",
    "n1c3h47w63k17r11s11u4",
    "n2c40h7w9k70r1s1",
    "n1c20h3w700k18r1s1",
    "n1c200h5w6k40r1s1",
    "n1c6h21w21k20r1s1u2",
    "n1c2h30w300k20r3s3p1",
    "n1c2h9w50k4r3s33p1x16",  # more kinds of tiles in a row than are compiled
    "n1c4h9w9k6r3s3p9u2",
]


class Poisoned(Cpu):
    """Hands out arrays of NaN: what is read before it was written shows."""

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        array = super().empty(shape, precision)
        array[...] = np.nan
        return array


def variant(make: Callable[..., Plan], target: Target | None = None) -> Algorithm:
    return Algorithm("test.packed", on={"cpu": lambda problem, device: make(problem, device, target)})


@NAMES
@pytest.mark.parametrize("target", CAN_RUN)
@pytest.mark.parametrize("word", SHAPES)
def test_on_every_kind_of_register(name: str, target: str, word: str) -> None:
    algorithm, problem = variant(MAKERS[name], TARGETS[target]), Problem(parse_shape(word))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, Poisoned(2)))


@NAMES
@pytest.mark.parametrize("word", SHAPES)
def test_two_blocks_of_filters_together(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with AVX-512."""
    monkeypatch.setattr(MODULES[name], "blocks_together", lambda *rest: 2)
    algorithm, problem = variant(MAKERS[name]), Problem(parse_shape(word))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, Poisoned(2)))


class NotRunHere(Exception):
    """What was compiled is for another CPU."""


@NAMES
def test_it_compiles_for_avx512(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Target("skylake-avx512", "+avx512f,+avx512vl,+avx512dq,+avx512bw,+fma,+avx2")
    assert (target.lanes, target.sums) == (16, 28)
    code = []

    def address(arguments: str, write: Any, *parameters: Any, target: Target) -> int:
        code.append(compiled(arguments, write, parameters, target))
        raise NotRunHere

    monkeypatch.setattr(MODULES[name], "address_of", address)
    for word in SHAPES[:3]:
        problem = Problem(parse_shape(word))
        plan, (x, w) = MAKERS[name](problem, Cpu(1), target), problem.operands(0)
        with pytest.raises(NotRunHere):
            plan.run(x, plan.prepare(w), np.empty(problem.shape.y_shape, np.float32))
    assert len(code) == 3
    assert all(code)


@NAMES
@given(shape=shapes(), cache_bytes=st.sampled_from([1, 20_000, 1 << 20]), threads=st.integers(1, 3))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_shapes_in_any_cut(name: str, shape: ConvShape, cache_bytes: int, threads: int) -> None:
    """A tiny cache cuts everything into the smallest pieces."""
    device = Poisoned(threads)
    device.core_cache_bytes = cache_bytes
    with pytest.MonkeyPatch.context() as patch:
        if cache_bytes == 1:
            patch.setattr(direct, "STRIP_PART", 0)
            patch.setattr(MODULES[name], "CHUNK_TAPS", 1)
        algorithm, problem = variant(MAKERS[name]), Problem(shape)
        assert_right(algorithm, problem, *run_guarded(algorithm, problem, device))


@pytest.mark.parametrize("name", [*MODULES, "gemm.im2col"])
@pytest.mark.parametrize("word", ["n3c6h12w13k40r3s3p1g2", "n1c20h30w30k64r1s1", "n1c3h63w63k40r11s11u4"])
def test_the_same_bits_at_any_number_of_threads(name: str, word: str) -> None:
    (algorithm,) = [each for each in built_in() if each.name == name]
    problem = Problem(parse_shape(word))
    first, *others = [run_guarded(algorithm, problem, Cpu(threads))[2] for threads in (1, 2, 3)]
    if name == "gemm.im2col":  # BLAS sums otherwise where it is given other parts of the filters
        assert all(np.allclose(first, other, rtol=1e-4, atol=1e-4) for other in others)
    else:
        assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("name", [*MODULES, "gemm.im2col"])
def test_phases_make_up_the_call(name: str) -> None:
    (algorithm,) = [each for each in built_in() if each.name == name]
    device, problem = Cpu(2), Problem(parse_shape("n2c8h20w20k24r3s3p1"))
    assert len(phases_of(algorithm.on["cpu"](problem, device), problem, device)) >= 2


@given(shape=shapes(), data=st.data())
@settings(max_examples=60)
def test_stretching_writes_its_own_rows(shape: ConvShape, data: st.DataObject) -> None:
    """Whatever part of the matrix a thread is given, the numbers before and behind it stay."""
    problem, device = Problem(shape), Cpu(1)
    depth, pixels = shape.c // shape.groups * shape.r * shape.s, shape.p * shape.q
    first = data.draw(st.integers(0, depth - 1))
    last = data.draw(st.integers(first + 1, depth))
    x = problem.operands(0)[0][0, : shape.c // shape.groups]
    x = np.ascontiguousarray(x)
    slab = np.full(depth * pixels + 128, np.nan, np.float32)
    matrix = slab[64:-64].reshape(depth, pixels)
    stretcher(shape, device)(x, matrix, first, last, 0)
    expected = np.full_like(slab, np.nan)
    inner = expected[64:-64].reshape(depth, pixels)
    (ph, pw), (uh, uw), (dh, dw) = shape.pad, shape.stride, shape.dilation
    padded = np.pad(x, ((0, 0), (ph, ph), (pw, pw)))
    for t in range(first, last):
        c, r, s = np.unravel_index(t, (len(x), shape.r, shape.s))
        view = padded[c, r * dh :: uh, s * dw :: uw][: shape.p, : shape.q]
        inner[t] = view.ravel()
    assert np.array_equal(slab, expected, equal_nan=True)


# What is executed


def test_padding_is_not_multiplied() -> None:
    """conv3 of AlexNet, 13 x 13 with a border of zeros: a tenth of the nominal work is left out."""
    (shape,) = [layer.shape for layer in load("alexnet").layers if layer.name == "conv3"]
    device = Cpu(2)
    assert direct.packed(Problem(shape), device).flops == shape.flops_true == shape.flops * 37 * 37 // 39**2
    assert panel.packed(Problem(shape), device).flops == shape.flops


def test_filters_that_fill_up_a_block_are_executed() -> None:
    problem = Problem(parse_shape("n1c3h9w9k20r3s3"))
    blocks = panel.cut_up(problem.shape, host(), 1 << 19, 2).blocks
    executed = -(-20 // (16 * blocks)) * 16 * blocks
    for make in MAKERS.values():
        assert make(problem, Cpu(1)).flops * 20 == problem.shape.flops * executed


# Rows in tiles


@given(
    st.builds(
        Axis, length=st.integers(1, 60), outputs=st.integers(1, 50), taps=st.integers(1, 12),
        stride=st.integers(1, 5), pad=st.integers(0, 20), dilation=st.integers(1, 4),
    ),
    st.sampled_from([3, 6, 28]),
)  # fmt: skip
@settings(max_examples=200)
def test_a_row_is_cut_into_what_it_has(axis: Axis, most: int) -> None:
    """Each output in one tile; each of its taps in or out as the input says."""
    runs = cut(axis, most)
    seen: list[int] = []
    for run in runs:
        for tile in range(run.count):
            first = run.first + tile * run.pixels
            seen += range(first, first + run.pixels)
            for i in range(run.pixels):
                inside = [
                    0 <= (first + i) * axis.stride + t * axis.dilation - axis.pad < axis.length
                    for t in range(axis.taps)
                ]
                low, high = axis.taps_of(first + i)
                assert inside == [low <= t < high for t in range(axis.taps)]
                if run.spans is not None:
                    assert inside == [a <= i < b for a, b in run.spans]
    assert seen == list(range(axis.outputs))
    assert max(run.pixels for run in runs) <= most


@pytest.mark.parametrize("word", ODD)
def test_tables_stay_inside_of_the_image(word: str) -> None:
    """The first tap a row has, and its last, are rows of the image."""
    s = parse_shape(word)
    rows = Axis(s.h, s.p, s.r, s.stride[0], s.pad[0], s.dilation[0])
    columns = Axis(s.w, s.q, s.s, s.stride[1], s.pad[1], s.dilation[1])
    table, _ = direct.tables(np, s, rows, columns, 64)
    for start, skipped, count in table:
        row, column = divmod(int(start) // 4 + s.pad[1], s.w)
        assert column == 0
        assert skipped % (s.s * 64) == 0
        assert count == 0 or 0 <= row <= row + (count - 1) * s.dilation[0] < s.h


@pytest.mark.parametrize("name", ["direct.blocked", "gemm.panel", "gemm.panel.pairs", "winograd.f2", "fft.tiled"])
@pytest.mark.parametrize("word", ["n2c5h16w16k40r3s3p1", "n1c3h4w12k17r3s3p1", "n2c4h8w10k32r1s1g2"])
def test_a_y_too_large_for_the_caches_is_the_same_wherever_it_lies(
    name: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole cache lines go past the caches, the rest does not: nothing beside y is written, the bits are the same."""
    monkeypatch.setattr(
        vector, "cost", lambda problem, size, device, weights: sum(size)
    )  # else the caches decide the sizes
    (algorithm,) = (a for a in built_in() if a.name == name)
    problem = Problem(parse_shape(word))
    answers = answers_wherever_y_lies(lambda device: algorithm.on["cpu"](problem, device), problem)
    assert all(np.array_equal(answers[0], other) for other in answers[1:])
