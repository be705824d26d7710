"""Products of halves on CUDA: scales, awkward numbers, and sums as tensor cores make them, for every such family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_host.device import HostDevice
from tensor_cores import CONVOLUTIONS, TensorCores

from convbench.algorithms import built_in, halves
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import ConvShape, parse_shape

pytestmark = pytest.mark.usefixtures("host_compiler")
ALGORITHMS = {algorithm.name: algorithm for algorithm in built_in()}
SPLIT3 = ["fft.split3", "winograd.f2.split3", "winograd.f3.split3", "winograd.f4.split3"]
ONE_TERM = [("fft.tiled", "tf32"), ("fft.tiled", "float16")]
ALL = [*((name, "float32") for name in SPLIT3), *ONE_TERM]
SMALL = parse_shape("n4c6h5w4k6r3s3p1g2")  # Winograd's four images lie on a mosaic
LARGEST = np.finfo(np.float32).max


def answer(name: str, problem: Problem, x: Any, w: Any, device: Any) -> Any:
    plan = ALGORITHMS[name].on["cuda"](problem, device)
    y = np.full(problem.shape.y_shape, np.nan, problem.storage)
    with np.errstate(invalid="ignore", over="ignore"):
        plan.run(x, plan.prepare(w), y)
    return y


def error(name: str, problem: Problem, x: Any, w: Any, device: Any = None) -> float:
    y = answer(name, problem, x, w, device or HostDevice())
    return judge(y, truth(x, w, problem.shape)).error


def tolerance(name: str, problem: Problem) -> float:
    return ALGORITHMS[name].tolerance_for(problem)


SCALES = f"""#include "{Path(halves.__file__).with_name("halves.cuh")}"
extern "C" __global__ void f(float* scales, float* unscales, const unsigned* largest) {{
  scales[threadIdx.x] = scale_of<HEADROOM>(largest[threadIdx.x]);
  unscales[threadIdx.x] = unscale_of<HEADROOM>(largest[threadIdx.x]);
}}"""


@pytest.mark.parametrize("headroom", [0, 5, 12])
def test_a_scale_leaves_headroom_and_is_undone(headroom: int, tmp_path: Path) -> None:
    largest = np.array([0, 1e-45, 1.2e-38, 1e-20, 0.99, 1, 1.5, 2, 65504, 1e30, LARGEST, np.inf, np.nan], np.float32)
    scales, unscales = np.zeros((2, len(largest)), np.float32)
    (tmp_path / "f.cu").write_text(SCALES)
    module = HostDevice().load(tmp_path / "f.cu", Problem(SMALL), HEADROOM=headroom)
    module.get_function("f")((1,), (len(largest),), (scales, unscales, largest.view(np.uint32)))
    assert (scales * unscales == 1).all()
    assert (np.frexp(scales)[0] == 0.5).all(), "powers of two"
    finite = largest[:-2].astype(np.float64)
    scaled = finite * scales[:-2]
    assert (scaled < 2.0 ** (halves.TOP - headroom)).all()
    not_tiny = finite > 2.0**-110
    assert (scaled[not_tiny] >= 2.0 ** (halves.TOP - headroom - 1)).all()


def test_scales_of_filters_are_undone() -> None:
    largest = np.array([0, 5e-324, 1e-38, 1, 32768, LARGEST, 1e40])
    exponents = halves.filter_exponents(np, largest)
    unscales = halves.unscales(np, exponents)
    assert unscales.dtype == np.float32
    assert (np.ldexp(unscales.astype(np.float64), exponents) == 1).all()
    assert (np.ldexp(largest[:-1], exponents[:-1]) < 2.0**halves.TOP).all()
    assert (np.ldexp(largest[3:6], exponents[3:6]) >= 2.0 ** (halves.TOP - 1)).all()
    assert halves.filter_exponents(np, largest[3:4], top=0) == -1


def test_terms_add_up_to_22_bits() -> None:
    v = np.random.default_rng(0).standard_normal(1000) * 2.0**12
    high, low, again = halves.terms_of_filters(v, halves.TERMS)
    assert (high == again).all()
    error = np.abs(high.astype(np.float64) + low - v)
    assert (error <= np.maximum(2.0**-22 * np.abs(v), 2.0**-25)).all()
    (alone,) = halves.terms_of_filters(v, 1)
    assert (alone == high).all()


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("word", ["n3c5h7w9k1r1s1", "n3c4h7w8k1r1s1", "n2c40h31w15k1r1s1", "n2c40h32w16k1r1s1"])
def test_the_largest_of_each_image_is_found_wherever_it_is(word: str, precision: str) -> None:
    problem = Problem(parse_shape(word), precision)
    numbers = np.prod(problem.shape.x_shape[1:])
    device: Any = HostDevice(seed=1)
    found, find = halves.largest_finder(problem, device)
    rng = np.random.default_rng(0)
    for place in (0, 1, 1023, 1024, 4095, 4096, 8191, 8192, numbers - 2, numbers - 1):
        x = -rng.random(problem.shape.x_shape).astype(problem.storage)
        if place < numbers:
            x.reshape(len(x), -1)[1, place] = -5
        find(x)
        want = np.abs(x).reshape(len(x), -1).max(axis=1).astype(np.float32)
        assert (found.view(np.float32) == want).all()
    x[0, 0, 0, 0], x[1, 1, 2, 3] = np.nan, -np.inf
    find(x)
    assert np.isnan(found.view(np.float32)[0])
    assert np.isposinf(found.view(np.float32)[1])


SIZES = [(1e-38, 1), (1e-20, 1), (1e-4, 1), (1, 1e-32), (1, 1e36), (1e-17, 1e-17), (1e17, 1e17)]
SIZES += [(65504, 1), (1e20, 1e-20), (1e37, 1e-30), (1e36, 1e-36), (1e-36, 1e36)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("name", "precision"), [*((name, "float32") for name in SPLIT3), ("fft.tiled", "tf32")])
def test_numbers_of_any_size(name: str, precision: str, sizes: tuple[float, float]) -> None:
    problem = Problem(SMALL, precision)
    x, w = (v * np.float32(size) for v, size in zip(problem.operands(1), sizes, strict=True))
    assert error(name, problem, x, w) < tolerance(name, problem)


@pytest.mark.parametrize("exponent", [122, 127])
@pytest.mark.parametrize("name", ["fft.tiled", "fft.split3"])
def test_sums_of_the_largest_floats_do_not_overflow(name: str, exponent: int) -> None:
    problem = Problem(parse_shape("n1c4h27w27k4r5s5p2"), "tf32" if name == "fft.tiled" else "float32")
    x, w = problem.operands(1)
    x[:], w[:] = 1.999 * 2.0**exponent, 2.0**-20
    assert error(name, problem, x, w) < tolerance(name, problem)


@pytest.mark.parametrize("size", [1e-3, 1e3])
@pytest.mark.parametrize(("name", "precision"), ONE_TERM)
def test_numbers_of_other_sizes_in_one_term(name: str, precision: str, size: float) -> None:
    problem = Problem(SMALL, precision)
    x, w = (v.astype(np.float32) for v in problem.operands(1))
    x, w = (x * np.float32(size)).astype(problem.storage), (w / np.float32(size)).astype(problem.storage)
    assert error(name, problem, x, w) < tolerance(name, problem)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e3, 1e30])
@pytest.mark.parametrize("name", SPLIT3)
def test_filters_of_very_different_size(name: str, size: float) -> None:
    problem = Problem(SMALL)
    x, w = problem.operands(1)
    w[::2] *= np.float32(size)
    y = answer(name, problem, x, w, HostDevice())
    want = truth(x, w, SMALL).whole
    for k in range(SMALL.k):
        assert np.linalg.norm(y[:, k] - want[:, k]) < tolerance(name, problem) * np.linalg.norm(want[:, k])


WIDE = [parse_shape("n1c64h13w13k4r3s3p1"), parse_shape("n1c48h27w27k4r5s5p2")]


@pytest.mark.parametrize("shape", WIDE, ids=str)
@pytest.mark.parametrize(("name", "precision"), ALL)
def test_channels_of_different_size(name: str, precision: str, shape: ConvShape) -> None:
    """Where each channel matters as much. (At a ratio of a million the small ones' bits are no longer kept.)"""
    problem = Problem(shape, precision)
    x, w = (v.astype(np.float32) for v in problem.operands(2))
    x[:, ::2], x[:, 1::2] = 100 * x[:, ::2], x[:, 1::2] / 100
    w[:, ::2], w[:, 1::2] = w[:, ::2] / 100, 100 * w[:, 1::2]
    x, w = x.astype(problem.storage), w.astype(problem.storage)
    assert error(name, problem, x, w) < tolerance(name, problem)


@pytest.mark.parametrize("shape", WIDE, ids=str)
@pytest.mark.parametrize("name", SPLIT3)
def test_a_large_number_spoils_nothing_elsewhere(name: str, shape: ConvShape) -> None:
    problem = Problem(shape)
    x, w = problem.operands(2)
    x[:, :, 0, 0] = 1e4
    y = answer(name, problem, x, w, HostDevice())[:, :, 9:, 9:]
    want = truth(x, w, shape).whole[:, :, 9:, 9:]
    assert np.linalg.norm(y - want) < tolerance(name, problem) * np.linalg.norm(want)


@pytest.mark.parametrize(("name", "precision"), ALL)
def test_images_of_very_different_size(name: str, precision: str) -> None:
    problem = Problem(SMALL, precision)
    x, w = (v.astype(np.float32) for v in problem.operands(2))
    sizes = [1e-3, 1e3, 1, 0] if precision == "float16" else [1e-30, 1e4, 1e-4, 0]
    x = (x * np.array(sizes, np.float32)[:, None, None, None]).astype(problem.storage)
    w = w.astype(problem.storage)
    y = answer(name, problem, x, w, HostDevice())
    for i in range(3):
        assert judge(y[i : i + 1], truth(x[i : i + 1], w, SMALL.with_batch(1))).error < tolerance(name, problem)
    assert float(np.abs(y[3]).max()) < 1e-37, "what its neighbours under a tile leave behind"


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(("name", "precision"), [("fft.split3", "float32"), *ONE_TERM])
def test_what_is_not_finite_stays_in_its_image(name: str, precision: str, bad: float) -> None:
    problem = Problem(SMALL, precision)
    x, w = problem.operands(2)
    clean = answer(name, problem, x, w, HostDevice())
    x[1, 2, 3, 1] = bad
    y = answer(name, problem, x, w, HostDevice())
    assert not np.isfinite(y[1, :3, 2:, 0:3]).any()
    assert np.array_equal(y[[0, 2, 3]], clean[[0, 2, 3]])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", SPLIT3)
def test_what_is_not_finite_is_no_number_afterwards(name: str, bad: float) -> None:
    for operand in range(2):
        x, w = operands = Problem(SMALL).operands(2)
        operands[operand].reshape(-1)[7] = bad
        y = answer(name, Problem(SMALL), x, w, HostDevice())
        assert not np.isfinite(y[np.isnan(reached(x, w))]).any()


def reached(x: Any, w: Any) -> Any:
    """NaN where the definition's sum has a term that is not finite."""
    x, w = (np.where(np.isfinite(v), v, np.nan) for v in (x, w))
    return truth(x, w, SMALL).whole


@pytest.mark.parametrize(("name", "precision"), [("fft.split3", "float32"), *ONE_TERM])
def test_an_image_does_not_depend_on_the_others(name: str, precision: str) -> None:
    problem = Problem(SMALL, precision)
    x, w = problem.operands(2)
    before = answer(name, problem, x, w, HostDevice())
    x[[1, 3]] *= problem.number.bytes**4  # 16 or 256
    after = answer(name, problem, x, w, HostDevice())
    assert np.array_equal(before[[0, 2]], after[[0, 2]])
    assert not np.array_equal(before[1], after[1])


@pytest.mark.parametrize("capability", [75, 80, 90])
@pytest.mark.parametrize("layer", CONVOLUTIONS)
@pytest.mark.parametrize("name", SPLIT3)
def test_sums_of_tensor_cores_are_exact_enough(name: str, layer: str, capability: int) -> None:
    """At the depths of AlexNet. The cuts add up with the depth: sm_75, with four products at once, has the most."""
    problem = Problem(parse_shape(CONVOLUTIONS[layer]))
    x, w = problem.operands(3)
    assert error(name, problem, x, w, TensorCores(capability)) < tolerance(name, problem) / 2
    assert error(name, problem, np.maximum(x, 0), w, TensorCores(capability)) < tolerance(name, problem) / 2


def test_large_terms_first_would_lose_more() -> None:
    """The order of the terms counts: small ones are cut off less while the sum is small."""
    problem = Problem(parse_shape(CONVOLUTIONS["conv3"]))
    x, w = problem.operands(3)
    first = error("fft.split3", problem, x, w, TensorCores(90))

    class Backwards(TensorCores):
        def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
            return super().matmul(a[..., ::-1], b[..., ::-1, :], out, tf32)

    assert error("fft.split3", problem, x, w, Backwards(90)) > 1.5 * first


class Watching(HostDevice):
    """Keeps the largest result of its products."""

    most = 0.0

    def matmul(self, a: Any, b: Any, out: Any, tf32: bool = False) -> Any:
        with np.errstate(over="ignore"):
            super().matmul(a, b, out, tf32)
        self.most = max(self.most, float(np.abs(out).max()))
        return out


WAVES = {"constant": lambda h, w: 1 + 0 * h * w, "alternating": lambda h, w: 1 - 2 * ((h + w) % 2)}


@pytest.mark.parametrize("wave", WAVES)
@pytest.mark.parametrize("word", ["n1c64h9w9k5r3s3p1", "n2c3h70w70k4r9s9", "n1c1h15w31k2r2s2", "n1c512h8w8k1r3s3"])
@pytest.mark.parametrize("size", [1.0, 1.99])
@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_products_in_halves_never_overflow(precision: str, size: float, word: str, wave: str) -> None:
    """Where all terms of the largest spectrum have one sign: x and w constant, or alternating alike."""
    problem = Problem(parse_shape(word), precision)
    s = problem.shape
    x, w = (WAVES[wave](*np.indices(shape)[2:]) for shape in (s.x_shape, s.w_shape))
    x = (size * x).astype(problem.storage)
    w = (w * size / (s.c * s.r * s.s)).astype(problem.storage)
    device: Any = Watching()
    assert error("fft.tiled", problem, x, w, device) < 1e-3
    assert 2.0**10 < device.most <= 2.0**halves.TOP
