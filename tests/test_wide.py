"""direct.wide: any stride, padding, dilation, groups and width, at the edges of memory and past the caches."""

from __future__ import annotations

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from fused_plans import Poisoned, answer, answers_wherever_y_lies, error_of
from hypothesis import given, settings
from hypothesis import strategies as st
from test_fused import Page
from test_vector_cpus import EACH_TARGET, ON_X86, loops
from vector_targets import TARGETS

from convbench.algorithms.direct.wide import on_cpu, strip_rows
from convbench.algorithms.direct.wide_kernel import TOGETHER, Row, convolve, most_vectors, tile
from convbench.devices.cpu import Cpu
from convbench.problem import Problem
from convbench.shapes import ConvShape, parse_shape
from convbench.vector import build, target
from convbench.vector.build import compiled
from convbench.vector.target import Target
from convbench.vector.team import KERNEL

# Each is compiled: filters of a group, taps, stride and dilation along a row.
GEOMETRIES = [
    (1, 3, 1, 1), (2, 1, 2, 1), (3, 5, 1, 2), (7, 3, 2, 1), (9, 2, 3, 2), (4, 11, 4, 1), (5, 14, 2, 3),
    (33, 3, 1, 1), (34, 2, 2, 3),  # each tap has a copy of x for itself
]  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> ConvShape:
    """Rows shorter and longer than a tile, pads beyond the filter, strips that do not fill the image."""
    filters, taps, stride, dilation = draw(st.sampled_from(GEOMETRIES))
    groups, r, d = draw(st.sampled_from([1, 1, 2, 5])), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    pad = (draw(st.integers(0, r + 1)), draw(st.integers(0, taps + 2)))
    least = (max(1, d * (r - 1) + 1 - 2 * pad[0]), max(1, dilation * (taps - 1) + 1 - 2 * pad[1]))
    h, w = least[0] + draw(st.integers(0, 12)), least[1] + draw(st.integers(0, 130))
    c = groups * draw(st.integers(1, 4))
    strides = (draw(st.integers(1, 5)), stride)
    return ConvShape(draw(st.integers(1, 3)), c, h, w, groups * filters, r, taps, strides, pad, (d, dilation), groups)


@given(shape=cases(), threads=st.integers(1, 3), caches=st.sampled_from([(1, 1), (1 << 14, 1), (1 << 20, 1 << 25)]))
@settings(max_examples=150)
def test_random_shapes(shape: ConvShape, threads: int, caches: tuple[int, int]) -> None:
    """Right, with the same bits on one thread and whatever the caches."""
    problem = Problem(shape)
    x, w = problem.operands(0)
    y = answer(on_cpu(problem, Poisoned(threads, caches)), problem, x, w)
    assert error_of(y, x, w, shape) < 1e-6
    assert np.array_equal(y, answer(on_cpu(problem, Poisoned(1)), problem, x, w))


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    "word", ["n2c3h7w37k5r3s3p1", "n1c4h9w16k8r3s2u2d2p2g4", "n1c1h1w1k1r3s3p4", "n1c2h5w200k3r2s11u4"]
)
def test_nothing_is_touched_outside(word: str, at_end: bool) -> None:
    problem = Problem(parse_shape(word))
    host_x, w = problem.operands(0)
    x, y = Page(host_x, at_end), Page(np.zeros(problem.shape.y_shape, np.float32), at_end)
    plan = on_cpu(problem, Poisoned(2))
    u = Page(plan.prepare(w), at_end)
    plan.run(x.array, u.array, y.array)
    assert error_of(y.array, host_x, w, problem.shape) < 1e-6


@pytest.mark.parametrize("word", ["n2c3h6w64k6r3s3p1", "n1c3h6w60k6r3s3p1", "n1c3h5w90k4r3s3p1"])
def test_a_y_too_large_for_the_caches(word: str) -> None:
    """Whole lines go past them, on planes and rows that lie in whole lines, and only there."""
    problem = Problem(parse_shape(word))
    answers = answers_wherever_y_lies(lambda device: on_cpu(problem, device), problem)
    assert all(np.array_equal(answers[0], other) for other in answers[1:])
    assert error_of(answers[0], *problem.operands(0), problem.shape) < 1e-6


@ON_X86
@pytest.mark.parametrize("word", ["n2c3h7w37k5r3s3p1", "n1c4h9w16k8r3s2u2d2p2g4"])
def test_narrower_registers(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    for module in (build, target):
        monkeypatch.setattr(module, "host", lambda: Target("nehalem", ""))
    problem = Problem(parse_shape(word))
    x, w = problem.operands(0)
    y = answer(on_cpu(problem, Poisoned(2)), problem, x, w)
    assert error_of(y, x, w, problem.shape) < 1e-6


@ON_X86
@EACH_TARGET
def test_it_compiles_for_cpus_that_are_not_here(target: Target) -> None:
    assert compiled(KERNEL, convolve, (4, Row(3, 2, 1, apart=False), True), target)


@ON_X86
@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.lanes > 4])
def test_sums_stay_in_registers(name: str) -> None:
    vectors = most_vectors(TARGETS[name])
    (loop,) = loops(TARGETS[name], "ppppii", tile, vectors, TOGETHER, Row(3, 1, 1, apart=True))
    assert loop.count("vfmadd") == 3 * TOGETHER * vectors


def test_strips() -> None:
    device = Cpu(2)
    device.core_cache_bytes = 1 << 20
    shape = parse_shape("n16c3h224w224k64r3s3p1")
    assert strip_rows(shape, 3 * 4 * 240, device) == (1 << 18) // 2880 - 2
    assert strip_rows(shape.with_batch(1), 3 * 4 * 240, device) == 28
    assert strip_rows(shape, 1 << 20, device) == 1
