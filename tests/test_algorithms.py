"""Every algorithm against two judges, on AlexNet's geometries and on shapes nobody would choose."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from fakes import second_judge, shapes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm
from convbench.algorithms.unit import axes, filter_pieces, pad_input, put_phase, windows
from convbench.algorithms.winograd.transforms import LARGEST_WINDOW, transform
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.measure.foreign import LIBRARY
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape, parse_shape

CONNECTED = ("gemm.gemv", "gemm.strassen", "gemm.pairs")  # what these names begin with refuses whatever slides
AMX = "int8x3"  # test_int8x3.py, test_fft_int8x3.py and test_winograd_int8x3.py have it: not every CPU does
OURS = [  # test_library.py, test_gemv.py, test_strassen.py, test_pairs.py and test_cuda_kernels.py have the others
    algorithm
    for algorithm in built_in()
    if algorithm.family != LIBRARY and "cpu" in algorithm.on
    if not algorithm.name.startswith(CONNECTED) and AMX not in algorithm.name
]
ALL = pytest.mark.parametrize("algorithm", OURS, ids=lambda algorithm: algorithm.name)
IN_EACH_PRECISION = pytest.mark.parametrize(
    ("algorithm", "precision"),
    [(algorithm, precision) for algorithm in OURS for precision in algorithm.precisions_on("cpu")],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
GUARD = 4096  # elements of sentinel on each side
SENTINEL = 12345.0
ODD = [
    "n1c1h1w1k1r1s1",
    "n2c3h1w1k2r1s1p8",  # outputs that see nothing but padding
    "n3c5h7w9k11r3s3u2x1p1x0d1x2",
    "n2c6h5w31k9r5s1p2x0g3",
    "n1c2h3w3k2r2s2u4p8",
    "n1c1h4w4k1r6s6p8x7u3x4",
    "n1c3h19w19k3r7s7d3",
    "n5c2h24w5k3r1s5u1x4p0x6d2",
    "n1c2h40w40k2r11s11u4p5",
    "n1c2h9w30k2r9s30",
    "n2c4h8w8k4r4s4u2d2p3g4",
    "n1c1h50w1k1r33s1p16x0",
    "n1c1h6w6k1r2s2u7p7",
]


@pytest.fixture(scope="module")
def cpu() -> Cpu:
    return Cpu(2)


def guarded(array: Any, fill: float) -> tuple[Any, Any]:
    """A copy of an array in the middle of a slab of `fill`: the slab, and the view of the copy."""
    slab = np.full(array.size + 2 * GUARD, fill, array.dtype)
    view = slab[GUARD : GUARD + array.size].reshape(array.shape)
    view[...] = array
    return slab, view


def run_guarded(algorithm: Algorithm, problem: Problem, device: Cpu, seed: int = 0) -> tuple[Any, Any, Any]:
    """x, w and y of one run between guards: nothing is read or written outside, x and w stay."""
    host_x, host_w = problem.operands(seed)
    _, x = guarded(host_x, np.nan)  # a NaN that is read shows in y
    _, w = guarded(host_w, np.nan)
    slab, y = guarded(np.full(problem.shape.y_shape, np.nan, problem.precision), SENTINEL)
    plan = algorithm.on["cpu"](problem, device)
    prepared = plan.prepare(w)
    plan.run(x, prepared, y)
    assert (slab[:GUARD] == SENTINEL).all(), "wrote before y"
    assert (slab[-GUARD:] == SENTINEL).all(), "wrote behind y"
    assert np.array_equal(x, host_x), "changed x"
    assert np.array_equal(w, host_w), "changed w"
    first = y.copy()
    y[...] = np.nan
    plan.run(x, prepared, y)
    assert np.array_equal(first, y), "the second call gives another answer"
    return x, w, y


def assert_right(algorithm: Algorithm, problem: Problem, x: Any, w: Any, y: Any) -> None:
    """Within the bound for both judges. A sum that happens to cancel is measured by its terms, not by its result."""
    shape = problem.shape
    bound, terms = algorithm.tolerance_for(problem), np.sqrt(second_judge(x**2, w**2, shape).sum())
    assert np.isfinite(y).all(), "y is not filled"
    for expected in (second_judge(x, w, shape), convolve(x, w, shape)):
        error = np.linalg.norm(y - expected)
        assert error <= bound * max(terms, np.linalg.norm(expected)), f"error {error / terms}"


@IN_EACH_PRECISION
@pytest.mark.parametrize("word", ODD)
def test_odd_shapes(cpu: Cpu, algorithm: Algorithm, precision: str, word: str) -> None:
    problem = Problem(parse_shape(word), precision)
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, cpu))


@IN_EACH_PRECISION
@given(shape=shapes(), cache_bytes=st.sampled_from([1, 20_000, 1 << 25]), seed=st.integers(0, 99))
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_shapes(
    cpu: Cpu, algorithm: Algorithm, precision: str, shape: ConvShape, cache_bytes: int, seed: int
) -> None:
    problem = Problem(shape, precision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "cache_bytes", cache_bytes)  # decides how many images a block holds
        assert_right(algorithm, problem, *run_guarded(algorithm, problem, cpu, seed))


def narrow(shape: ConvShape) -> ConvShape:
    """The same geometry on few channels, two images."""
    return replace(shape, n=2, c=min(shape.c, 4 * shape.groups), k=min(shape.k, 6 * shape.groups))


@IN_EACH_PRECISION
@pytest.mark.parametrize("layer", load("alexnet").layers, ids=lambda layer: layer.name)
def test_geometries_of_alexnet(cpu: Cpu, algorithm: Algorithm, precision: str, layer: Any) -> None:
    problem = Problem(narrow(layer.shape), precision)
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, cpu))


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "conv5", "fc8"])
def test_layers_of_alexnet(cpu: Cpu, layer: str) -> None:
    """All channels, where rounding errors add up: within the bound, and never a tenth of it by luck of the sign."""
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    data = operands(Problem(shape), cpu, 3)
    for algorithm in OURS:
        if algorithm.refuses(data.problem):
            assert (algorithm.precisions_on("cpu"), layer) == (("float32",), "fc8"), "a variant of one that takes it"
            continue
        case = open_case(algorithm, data, cpu, "hot", weigh=False)
        assert case.status == "ok", f"{algorithm.name}: {case.note}"
        assert case.judgement is not None
        assert 1e-9 < case.judgement.error < 1e-5


@ALL
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of NumPy, about the infinities
def test_nothing_is_left_over_from_the_call_before(cpu: Cpu, algorithm: Algorithm) -> None:
    """A call on NaN and infinity spoils its own y only."""
    problem = Problem(parse_shape("n3c4h11w10k6r3s4u2x1p2x5d1x2g2"))
    x, w = problem.operands(0)
    plan = algorithm.on["cpu"](problem, cpu)
    prepared = plan.prepare(w)
    y = np.empty(problem.shape.y_shape, np.float32)
    for poison in (np.nan, np.inf):
        plan.run(np.full_like(x, poison), prepared, y)
        y[...] = np.nan
        plan.run(x, prepared, y)
        assert_right(algorithm, problem, x, w, y)


@ALL
def test_plans_share_nothing(cpu: Cpu, algorithm: Algorithm) -> None:
    problem = Problem(parse_shape("n2c3h9w9k4r3s3p1"))
    plans = [algorithm.on["cpu"](problem, cpu) for _ in range(2)]
    (x0, w0), (x1, w1) = problem.operands(0), problem.operands(1)
    prepared = [plans[0].prepare(w0), plans[1].prepare(w1)]
    y0, y1 = (np.full(problem.shape.y_shape, np.nan, np.float32) for _ in range(2))
    plans[0].run(x0, prepared[0], y0)
    plans[1].run(x1, prepared[1], y1)
    assert_right(algorithm, problem, x0, w0, y0)
    assert_right(algorithm, problem, x1, w1, y1)
    plans[0].run(x1, plans[0].prepare(w1), y0)
    assert_right(algorithm, problem, x1, w1, y0)


@ALL
@pytest.mark.parametrize("threads", [1, 3])
def test_any_number_of_threads(algorithm: Algorithm, threads: int) -> None:
    device = Cpu(threads)
    problem = Problem(parse_shape("n3c6h12w13k10r3s3p1g2"))
    assert_right(algorithm, problem, *run_guarded(algorithm, problem, device))


def test_names_are_unique_and_say_their_family() -> None:
    names = [algorithm.name for algorithm in built_in()]
    assert len(set(names)) == len(names)
    assert {algorithm.family for algorithm in built_in()} >= {"gemm", "fft", "winograd", "direct"}
    assert all(algorithm.summary for algorithm in built_in())


# Memory


def test_im2col_of_conv1_is_the_matrix_and_no_more(cpu: Cpu) -> None:
    (im2col,) = [algorithm for algorithm in built_in() if algorithm.name == "gemm.im2col"]
    data = operands(Problem(load("alexnet").layers[0].shape), cpu, 0)
    case = open_case(im2col, data, cpu, "hot")
    assert case.workspace_bytes == 363 * 3025 * 4 == 4392300
    assert case.prepared_bytes == 0
    assert case.peak_bytes is not None
    assert 4392300 <= case.peak_bytes <= 1.01 * 4392300 + (64 << 10)


@ALL
@pytest.mark.parametrize("word", ["n2c16h27w27k16r5s5p2g2", "n3c3h63w63k8r11s11u4"])
def test_what_is_declared_is_really_taken(cpu: Cpu, algorithm: Algorithm, word: str) -> None:
    case = open_case(algorithm, operands(Problem(parse_shape(word)), cpu, 0), cpu, "hot")
    assert case.status == "ok", case.note
    assert case.workspace_bytes is not None
    assert case.prepared_bytes is not None
    assert case.peak_bytes is not None
    assert case.peak_bytes >= case.workspace_bytes + case.prepared_bytes


# Winograd, exactly


def applied(m: int, r: int, d: list[Fraction], g: list[Fraction]) -> list[Fraction]:
    f = transform(m, r)
    products = [
        sum((a * b for a, b in zip(g_row, g, strict=True)), Fraction(0))
        * sum((a * b for a, b in zip(b_row, d, strict=True)), Fraction(0))
        for g_row, b_row in zip(f.g, f.bt, strict=True)
    ]
    return [sum((a * b for a, b in zip(row, products, strict=True)), Fraction(0)) for row in f.at]


def unit(length: int, place: int) -> list[Fraction]:
    return [Fraction(int(i == place)) for i in range(length)]


@pytest.mark.parametrize(
    ("m", "r"), [(m, r) for m in range(1, LARGEST_WINDOW + 1) for r in range(1, LARGEST_WINDOW + 2 - m)]
)
def test_winograd_is_exact(m: int, r: int) -> None:
    """Both sides are bilinear, so equality on all pairs of basis vectors is equality."""
    window = m + r - 1
    for place in range(window):
        for tap in range(r):
            expected = [Fraction(int(place == i + tap)) for i in range(m)]
            assert applied(m, r, unit(window, place), unit(r, tap)) == expected, (place, tap)
    least, most = (window, window + 1) if min(m, r) > 1 else (window, window)
    assert least <= transform(m, r).products <= most


def test_winograd_beyond_its_points() -> None:
    with pytest.raises(KeyError):
        transform(LARGEST_WINDOW, 2)
    assert transform(1, 50).products == 50
    assert transform(50, 1).products == 50


# The polyphase split, exactly


@given(shapes(), st.integers(1, 9), st.integers(1, 9), st.integers(1, 7))
@settings(max_examples=80)
def test_the_split_is_exact(shape: ConvShape, tile_h: int, tile_w: int, limit: int) -> None:
    """Whole numbers through windows and pieces give whole numbers, the same as the reference."""
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 10, shape.x_shape).astype(np.float64)
    w = rng.integers(-9, 10, shape.w_shape).astype(np.float64)
    rows, columns = axes(shape, (tile_h, tile_w), limit)
    padded = pad_input(np, x, rows, columns, np.zeros((shape.n, shape.c, rows.extent, columns.extent)))
    view = windows(np, padded, shape, rows, columns)
    base = padded.base if padded.base is not None else padded
    reach = sum((size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True))
    assert reach + 8 <= base.nbytes, "a window reaches out of the buffer"
    filters = filter_pieces(np, w, shape, rows, columns)
    assert rows.length <= limit
    assert columns.length <= limit
    assert rows.window == rows.tile + rows.length - 1
    y = np.full(shape.y_shape, np.nan)
    for psi in np.ndindex(rows.out_phases, columns.out_phases):
        d = view[:, :, :, psi[0], :, :, :, :, psi[1]]  # n g c, phase piece tile element, phase piece tile element
        slid = np.lib.stride_tricks.sliding_window_view(d, (rows.length, columns.length), axis=(6, 10))
        # n g c phase piece tile m phase piece tile m, r s
        values = np.einsum("ngcabtmdeuovrs,gkcabdevrs->ngktmuo", _swap(slid), _one(filters))
        order = values.reshape(shape.n, shape.k, rows.tiles * rows.tile, columns.tiles * columns.tile)
        put_phase(y, order, rows, columns, (psi[0], psi[1]))
    assert np.array_equal(y, convolve(x, w, shape))


def _swap(slid: Any) -> Any:
    """An axis of length one before the taps, for einsum to sum over with _one's."""
    return slid[..., None, :, :]


def _one(filters: Any) -> Any:
    return filters[:, :, :, :, :, :, :, None]


def test_conv1_becomes_48_channels_of_57() -> None:
    rows, columns = axes(load("alexnet").layers[0].shape, None)
    assert 3 * rows.channels * columns.channels == 48
    assert (rows.length, rows.window, rows.unit_outputs) == (3, 57, 55)
