"""Why large tiles have the factor x^2 + 1: what it does to the error of F(6, 5) in float32."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convbench.algorithms.winograd import transforms
from convbench.algorithms.winograd.transforms import transform

NINE_POINTS = tuple(
    Fraction(p) for p in ("0", "2", "-2", "1/2", "-1/2", "5/4", "-5/4", "4/5", "-4/5")
)  # the best found


def float32_error(m: int, r: int, channels: int = 48) -> float:
    """Relative L2 error of F(m x m, r x r), summed over channels in float32, on random tiles."""
    f = transform(m, r)
    at, g, bt = (np.array([[float(v) for v in row] for row in matrix]) for matrix in (f.at, f.g, f.bt))
    rng = np.random.default_rng(0)
    d = rng.standard_normal((channels, 24, m + r - 1, m + r - 1), dtype=np.float32)
    w = rng.standard_normal((8, channels, r, r), dtype=np.float32)
    u = (g @ w.astype(np.float64) @ g.T).astype(np.float32)
    v = bt.astype(np.float32) @ d @ bt.T.astype(np.float32)
    products = u.transpose(2, 3, 0, 1) @ v.transpose(2, 3, 0, 1)
    y = at.astype(np.float32) @ products.transpose(2, 3, 0, 1) @ at.T.astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(d, (r, r), axis=(2, 3)).astype(np.float64)
    truth = np.einsum("ctijrs,kcrs->ktij", windows, w.astype(np.float64), optimize=True)
    return float(np.linalg.norm(y - truth) / np.linalg.norm(truth))


def test_the_quadratic_factor_keeps_large_tiles_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    with_factor = float32_error(6, 5)
    transform.cache_clear()
    monkeypatch.setitem(transforms.POINTS, 10, NINE_POINTS)
    monkeypatch.setattr(transforms, "FROM_HERE_QUADRATIC", 11)
    try:
        assert transform(6, 5).products == 10
        assert float32_error(6, 5) > 1e-5 > 5 * with_factor
    finally:
        transform.cache_clear()
    monkeypatch.undo()
    assert transform(6, 5).products == 11
