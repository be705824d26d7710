"""The engine of tiles in vector code: its plans on shapes of every kind, and at the edges of memory."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable
from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from fused_plans import CACHES, Poisoned, answer, dft, error_of, plan_of, toom
from hypothesis import given, settings
from hypothesis import strategies as st

from convbench.algorithms.base import Plan
from convbench.algorithms.fused import filters, plan
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.fused.values import Transform
from convbench.algorithms.gemm import gemv
from convbench.algorithms.unit import axes
from convbench.devices.cpu import Cpu
from convbench.problem import Problem
from convbench.shapes import ConvShape, parse_shape
from convbench.vector import build
from convbench.vector.product import ALL, Kept
from convbench.vector.target import Target
from convbench.vector.weights import EVEN_PAIRS, FIXED24, FLOAT32, PAIRS, Weights


def planned(problem: Problem, device: Cpu, make: Any, m: Any, weights: Weights) -> Plan:
    """The engine's plan, or without a transform that of a fully connected layer."""
    if make is None:
        return gemv.streaming(problem, device, weights.bits, weights.in_pairs)
    return plan_of(problem, device, make, m, weights)


# Geometries, each of which is compiled: filter, stride and dilation, transform, outputs of a tile.
GEOMETRIES: list[tuple[dict[str, Any], Callable[[int, int], Transform], tuple[int, int]]] = [
    ({"r": 3, "s": 3}, toom, (4, 4)),
    ({"r": 3, "s": 3}, toom, (7, 6)),
    ({"r": 3, "s": 2}, dft, (6, 3)),
    ({"r": 1, "s": 5}, toom, (3, 2)),
    ({"r": 7, "s": 1}, dft, (2, 5)),
    ({"r": 11, "s": 11, "stride": (4, 4)}, toom, (6, 6)),  # four phases in one load
    ({"r": 5, "s": 3, "stride": (2, 3), "dilation": (1, 2)}, toom, (2, 4)),
    ({"r": 3, "s": 3, "dilation": (2, 3)}, dft, (3, 3)),  # outputs by phases
]


@st.composite
def cases(draw: st.DrawFn) -> tuple[ConvShape, Callable[[int, int], Transform], tuple[int, int]]:
    """Pads beyond the filter, groups, channels and filters around 16, images that tiles do not fill, large batches."""
    fixed, make, m = draw(st.sampled_from(GEOMETRIES))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    most = 40 if groups == 1 else 18
    c, k = groups * draw(st.integers(1, most)), groups * draw(st.integers(1, most))
    pad = (draw(st.integers(0, fixed["r"] + 2)), draw(st.integers(0, fixed["s"] + 2)))
    sizes = []
    for taps, p, d in zip((fixed["r"], fixed["s"]), pad, fixed.get("dilation", (1, 1)), strict=True):
        least = max(1, d * (taps - 1) + 1 - 2 * p)
        sizes.append(draw(st.integers(least, least + 20)))
    n = draw(st.integers(1, 4)) if max(c, k, *sizes) > 12 else draw(st.integers(1, 70))
    shape = ConvShape(n=n, c=c, h=sizes[0], w=sizes[1], k=k, pad=pad, groups=groups, **fixed)
    return shape, make, m


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names a CPU of another kind")
@pytest.mark.parametrize("weights", [FLOAT32, FIXED24, PAIRS, EVEN_PAIRS])
@pytest.mark.parametrize(
    ("word", "make", "m"),
    [
        ("n2c20h11w13k18r3s3p1", toom, (4, 4)),
        ("n1c3h35w34k20r11s11u4p3", toom, (6, 6)),
        ("n2c6h17w19k34r5s3p1g2", dft, (6, 6)),
        ("n1c300h1w1k70r1s1", None, None),
        ("n7c300h1w1k70r1s1", None, None),
    ],
)
def test_narrower_registers(monkeypatch: pytest.MonkeyPatch, word: str, make: Any, m: Any, weights: Weights) -> None:
    """The same on a CPU that has but SSE: this one can run its code."""
    for module in (build, plan, gemv):
        monkeypatch.setattr(module, "host", lambda: Target("nehalem", ""))
    problem = Problem(parse_shape(word))
    x, w = problem.operands(0)
    y = answer(planned(problem, Poisoned(2), make, m, weights), problem, x, w)
    assert error_of(y, x, w, problem.shape) < 3e-6


@pytest.mark.parametrize(("m", "taps", "with_zero"), [
    (3, 3, (0, 1.5, -1.5, -0.5)), (5, 3, (0, 1, -1, 2, -2, -1 / 3)), (3, 5, (0, 1, -1, 2, -2, -1 / 3)),
])  # fmt: skip
def test_pairs_of_points_err_less_than_those_with_zero(m: int, taps: int, with_zero: tuple[float, ...]) -> None:
    """By a quarter at least: what was the best choice before."""
    problem = Problem(parse_shape(f"n2c48h30w30k32r{taps}s{taps}"))
    x, w = problem.operands(0)

    def error(make: Callable[[int, int], Transform]) -> float:
        return error_of(answer(plan_of(problem, Poisoned(2), make, (m, m)), problem, x, w), x, w, problem.shape)

    assert error(toom) < 0.75 * error(lambda outputs, length: Toom(outputs, length, with_zero))


def test_eleven_points_err_little() -> None:
    """F(7, 5), without i and -i by more than 1e-5."""
    problem = Problem(parse_shape("n2c48h27w27k32r5s5p2"))
    x, w = problem.operands(0)
    reals = (0.25, -0.25, 0.5, -0.5, 2 / 3, -2 / 3, 1, -1, 2, -2)
    errors = []
    for make in (toom, lambda outputs, taps: Toom(outputs, taps, reals)):
        y = answer(plan_of(problem, Poisoned(2), make, (7, 7)), problem, x, w)
        errors.append(error_of(y, x, w, problem.shape))
    assert errors[0] < 4e-6
    assert errors[1] > 1e-5


@given(
    case=cases(),
    threads=st.integers(1, 3),
    caches=st.sampled_from(CACHES),
    weights=st.sampled_from([FLOAT32, FIXED24, PAIRS, EVEN_PAIRS]),
)
@settings(max_examples=80)
def test_random_shapes(case: Any, threads: int, caches: tuple[int, int], weights: Weights) -> None:
    """Right, with the same bits on one thread, and again: threads and buffers' contents decide nothing."""
    shape, make, m = case
    problem = Problem(shape)
    x, w = problem.operands(0)
    made = plan_of(problem, Poisoned(threads, caches), make, m, weights)
    y = answer(made, problem, x, w)
    assert error_of(y, x, w, shape) < (3e-6 if weights == FLOAT32 else 4e-6)
    assert np.array_equal(y, answer(made, problem, x, w))
    if threads > 1:
        alone = plan_of(problem, Poisoned(1, caches), make, m, weights)
        assert np.array_equal(y, answer(alone, problem, x, w))
    assert made.workspace > 0
    assert made.flops >= 0


@pytest.mark.parametrize("caches", CACHES)
def test_phases(caches: tuple[int, int]) -> None:
    problem = Problem(parse_shape("n9c20h14w15k20r3s3p1"))
    x, w = problem.operands(0)
    made = plan_of(problem, Poisoned(2, caches), toom, (4, 4))
    y, again = (np.full(problem.shape.y_shape, np.nan, np.float32) for _ in range(2))
    prepared = made.prepare(w)
    made.run(x, prepared, y)
    assert made.phases is not None
    seconds = made.phases(x, prepared, again)
    assert list(seconds) == ["input transform", "products", "output transform"]
    assert min(seconds.values()) > 0
    assert np.array_equal(y, again)


# Reads and writes at the very edge of memory


class Page:
    """Numbers next to memory that must not be touched: at the end of a page, or at the beginning of one."""

    def __init__(self, array: Any, at_end: bool) -> None:
        page = mmap.PAGESIZE
        inner = -(-array.nbytes // page) * page
        self.map = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        for edge in (start, start + page + inner):
            assert libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
        offset = page + (inner - array.nbytes if at_end else 0)
        self.array = np.frombuffer(self.map, array.dtype, array.size, offset).reshape(array.shape)
        self.array[...] = array


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("weights", [FLOAT32, FIXED24, PAIRS, EVEN_PAIRS])
@pytest.mark.parametrize(
    ("word", "make", "m"),
    [
        ("n2c3h7w5k5r3s3p1", toom, (4, 4)),
        ("n1c17h9w33k18r3s3p2", toom, (4, 4)),
        ("n1c3h1w1k1r3s3p4", toom, (4, 4)),
        ("n1c3h35w34k20r11s11u4p3", toom, (6, 6)),
        ("n1c2h13w14k3r3s3d2x3p1", dft, (3, 3)),
        ("n1c75h3w3k21r3s3", None, None),
        ("n9c1h1w5k3r1s5", None, None),
    ],
)
def test_nothing_is_touched_outside(word: str, make: Any, m: Any, at_end: bool, weights: Weights) -> None:
    problem = Problem(parse_shape(word))
    device = Poisoned(2)
    host_x, w = problem.operands(0)
    x, y = Page(host_x, at_end), Page(np.zeros(problem.shape.y_shape, np.float32), at_end)
    made = planned(problem, device, make, m, weights)
    u = Page(made.prepare(w), at_end)
    made.run(x.array, u.array, y.array)
    assert error_of(y.array, host_x, w, problem.shape) < 3e-6


@pytest.mark.parametrize(("word", "expected"), [
    ("n1c3h35w34k20r11s11u4p3", (ALL, Kept(12, 16), Kept(3, 4))),  # taps of the phases: 3, 3, 3, 2
    ("n1c5h35w34k20r7s7u2p3", (ALL, Kept(2, 4), Kept(1, 2))),
    ("n1c5h35w34k20r6s7u2p3", (ALL, ALL, Kept(1, 2))),
    ("n1c5h35w34k20r3s3p1", (ALL,)),
    ("n1c5h35w34k20r8s8u3", (ALL,)),  # of three phases two: not by blocks of 16
    ("n1c5h35w34k20r11s3u1p1", (ALL,)),  # pieces of a filter
])  # fmt: skip
def test_what_is_left_out_at_infinity_meets_zeros(word: str, expected: tuple[Kept, ...]) -> None:
    """U of the planes at infinity is zero in just the channels that are left out."""
    problem = Problem(parse_shape(word))
    rows, columns = axes(problem.shape, (4, 4), 5)
    tile = Tile(toom(rows.tile, rows.length), toom(columns.tile, columns.length))
    ways = filters.ways_at_infinity(tile, rows, columns)
    assert ways == expected
    assert filters.ways_at_infinity(Tile(dft(4, 3), dft(4, 3)), rows, columns) == (ALL,)
    _, w = problem.operands(0)
    u = filters.transform_filters(Cpu(1), w, problem, tile, rows, columns, FLOAT32)
    depth = problem.shape.c * rows.channels * columns.channels
    is_zero = (u.reshape(-1, tile.planes, depth, 16)[0, ..., :4] == 0).all(axis=-1)
    of_y = [j * tile.real_column + tile.y.reals - 1 for j in range(tile.x.reals - 1)]
    of_x = [(tile.x.reals - 1) * tile.real_column + i for i in range(tile.y.reals - 1)]  # it is the last real point
    for planes, way in zip((of_y, of_x), ways[1:], strict=False):
        left_out = np.arange(depth) % way.stride >= way.run
        assert (is_zero[planes] == left_out).all()
    assert not is_zero[0].any()
    kept = np.ones((tile.planes, 16), bool)
    both = tile.x.reals * tile.real_column - 1
    for planes, way in zip((of_y, [*of_x, both]), ways[1:], strict=False):
        kept[planes] = np.arange(16) % way.stride < way.run
    assert np.array_equal(filters.kept_channels(np, tile, ways), kept)
