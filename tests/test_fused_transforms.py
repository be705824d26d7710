"""The transforms of tiles against their definition, on plain numbers in the place of vectors; rings."""

from __future__ import annotations

from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from fused_plans import Poisoned, answer, dft, error_of
from hypothesis import assume, given
from hypothesis import strategies as st

from convbench.algorithms.fft import vector
from convbench.algorithms.fused.dft import Dft
from convbench.algorithms.fused.factors import evaluate, factors_of
from convbench.algorithms.fused.operations import of_axis
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.fused.values import Complex, Transform
from convbench.algorithms.unit import UnitAxis, axes
from convbench.algorithms.winograd.vector import POINTS, REAL_POINTS
from convbench.problem import Problem
from convbench.shapes import parse_shape

TOOMS: list[Transform] = [
    Toom(window + 1 - taps, taps, *points[window])
    for points in (POINTS, REAL_POINTS)
    for window in points
    for taps in range(1, window + 1)
]
DFTS: list[Transform] = [
    Dft(window + 1 - taps, taps, window) for window in range(2, 33) for taps in {1, 2, window // 2, window}
]
RINGS = [Dft(outputs, taps, window) for outputs, taps, window in ((13, 3, 14), (27, 5, 30), (6, 5, 6), (7, 7, 9))]
OTHERS: list[Transform] = [Toom(5, 3, (0, 1), (1j, complex(0.5, 0.75**0.5))), Dft(1, 1, 1)]


def numbers(value: Complex) -> complex:
    """A Complex as Python's; None is a known zero."""
    return complex(value.re or 0, value.im or 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [*TOOMS, *DFTS, *RINGS, *OTHERS], ids=repr)
def test_transforms_are_a_convolution(axis: Any) -> None:
    """y_i = sum_k d_(i+k) g_k, real d by one of each pair of points, complex d by all; d may be a ring."""
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(axis.window), rng.standard_normal(axis.taps)
    filters = axis.filter_rows() @ g

    def correlated(values: Any) -> Any:
        return np.correlate(np.resize(values, axis.outputs + axis.taps - 1), g, "valid")

    expected = correlated(d)
    reals, pairs = axis.spectrum(list(d))
    assert (len(reals), len(pairs)) == (axis.reals, axis.pairs)
    real_products = [value * factor.real for value, factor in zip(reals, filters, strict=False)]
    factors = filters[axis.reals : axis.reals + axis.pairs] * axis.pair_weight
    products = [numbers(value) * factor for value, factor in zip(pairs, factors, strict=True)]
    y = axis.result(real_products, [Complex(z.real, z.imag) for z in products])
    assert len(y) == axis.outputs
    np.testing.assert_allclose(np.array(y, float), expected, rtol=0, atol=1e-9 * np.abs(d).sum() * np.abs(g).sum())

    e = rng.standard_normal(axis.window)
    whole = axis.complex_spectrum([Complex(*both) for both in zip(d, e, strict=True)])
    all_products = [numbers(value) * factor for value, factor in zip(whole, filters, strict=True)]
    z = axis.complex_result([Complex(product.real, product.imag) for product in all_products])
    both = expected + 1j * correlated(e)
    np.testing.assert_allclose([numbers(value) for value in z], both, rtol=0, atol=1e-8 * np.abs(g).sum())


@given(
    points=st.lists(st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 1.5, -3.0]), unique=True, max_size=6),
    pairs=st.lists(st.sampled_from([1j, 0.5 + 1j, -0.25 + 0.75j]), unique=True, max_size=2),
    seed=st.integers(0, 99),
)
def test_factors_are_the_rows_of_their_polynomial(points: list[float], pairs: list[complex], seed: int) -> None:
    """Row p is prod over the others of (x - q), infinity the product of all, whatever is shared on the way."""
    roots = [*points, *pairs, *(p.conjugate() for p in pairs)]
    d = np.random.default_rng(seed).standard_normal(len(roots) + 1)
    finite, infinity = evaluate(factors_of(points, pairs), list(d))
    assert set(finite) == {*points, *pairs}
    for p, value in finite.items():
        others = [q for q in roots if q != p]
        np.testing.assert_allclose(numbers(value), np.atleast_1d(np.poly(others))[::-1] @ d[: len(roots)], atol=1e-9)
    assert infinity is not None
    np.testing.assert_allclose(float(infinity), (np.atleast_1d(np.poly(roots))[::-1] @ d).real, atol=1e-9)  # type: ignore[arg-type]


def test_factors_save_operations() -> None:
    """F(7, 3) takes less than two thirds of what its rows would one by one."""
    assert of_axis(Toom(7, 3, *POINTS[9]))[0] <= 66


def test_planes_of_a_tile() -> None:
    """Three for a complex point, of which U keeps two: a Fourier tile of 4 has 2 x 2 real points and 6 other pairs."""
    tile = Tile(dft(2, 3), dft(2, 3))
    assert (tile.columns, tile.planes, len(tile.filters())) == (4, 4 + 3 * 6, 4 + 2 * 6)
    tile = Tile(Toom(2, 3, (0, 1, -1)), Toom(4, 1, (0, 1, -1)))
    assert (tile.columns, tile.planes, tile.filters().shape) == (4, 16, (16, 3))


@given(
    taps=st.integers(1, 13), stride=st.integers(1, 4), dilation=st.integers(1, 4), pad=st.integers(0, 14),
    outputs=st.integers(1, 12), limit=st.integers(1, 5), data=st.data(),
)  # fmt: skip
def test_the_shortest_ring(
    taps: int, stride: int, dilation: int, pad: int, outputs: int, limit: int, data: st.DataObject
) -> None:
    """Read modulo the ring, every phase and piece finds what it would find in line; on a shorter one some do not."""
    size = (outputs - 1) * stride + dilation * (taps - 1) + 1 - 2 * pad + data.draw(st.integers(0, stride - 1))
    assume(size >= 1)
    axis = UnitAxis(size, taps, stride, pad, dilation, outputs, outputs, limit)
    step_phase, step_in, step_piece, _, step = axis.input_strides()
    reach = axis.unit_outputs + axis.length - 1

    def is_right(ring: int) -> bool:
        for psi, phi, piece in np.ndindex(axis.out_phases, axis.in_phases, axis.pieces):
            places = psi * step_phase + phi * step_in + piece * step_piece - pad + step * np.arange(reach)
            line = np.where((places >= 0) & (places < size), places + 1, 0)
            if not np.array_equal(line, np.resize(line[:ring], reach)):
                return False
        return True

    assert axis.unit_outputs <= axis.ring <= reach
    assert is_right(axis.ring)
    assert axis.ring == axis.unit_outputs or not is_right(axis.ring - 1)


@pytest.mark.parametrize(
    "word",
    [
        "n3c20h13w13k18r3s3p1",
        "n2c17h7w28k20r5s5p2",
        "n2c6h15w14k34r7s7u2p3",
        "n2c6h12w13k18r3s3d2p2",
        "n2c5h5w3k20r3s3p5",
        "n1c2h9w9k5r13s13p12",
    ],
)
def test_rings(word: str) -> None:
    """Strides, dilations, pads beyond the filter and filters in pieces, on rings shorter than the windows reach."""
    problem = Problem(parse_shape(word))
    both = axes(problem.shape, None, vector.LONGEST_PIECE)
    rings = [max(axis.ring, axis.length + 1) for axis in both]
    longer = [axis.window for axis in both]
    assert all(ring < window for ring, window in zip(rings, longer, strict=True))
    x, w = problem.operands(0)
    for size in ((rings[0], longer[1]), (rings[0] + 1, rings[1]), (rings[0], rings[1])):
        made = vector.of_size(problem, Poisoned(2), size)
        assert error_of(answer(made, problem, x, w), x, w, problem.shape) < 1e-6
