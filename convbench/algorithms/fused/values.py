"""What a transform is, and what its code computes with: vectors, None for a known zero, and pairs of them.

Zeros cost nothing, factors of one and minus one no multiplication: so a transform is written in full and comes out
without what its zeros make superfluous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from convbench.vector.code import Vector

Real = Vector | None
NOTHING = 1e-12  # a coefficient this small is a rounding error of zero


class Complex(NamedTuple):
    """re + i im."""

    re: Real
    im: Real


class Transform(Protocol):
    """One axis: Toom or Dft, which say more."""

    def __hash__(self) -> int: ...
    @property
    def outputs(self) -> int:
        """Outputs a tile, m."""

    @property
    def taps(self) -> int:
        """Taps of the filter, r."""

    @property
    def pair_weight(self) -> float:
        """By what a pair's product is multiplied."""

    @property
    def window(self) -> int:
        """Inputs a tile, m + r - 1; fewer on a ring (Dft)."""

    @property
    def reals(self) -> int:
        """Real points."""

    @property
    def pairs(self) -> int:
        """Pairs of complex points."""

    @property
    def infinity(self) -> int | None:
        """Which of the real points is infinity, if any."""

    def spectrum(self, values: Sequence[Real]) -> tuple[list[Real], list[Complex]]:
        """Of real inputs."""

    def complex_spectrum(self, values: Sequence[Complex]) -> list[Complex]:
        """Of complex inputs."""

    def result(self, reals: Sequence[Real], pairs: Sequence[Complex]) -> list[Real]:
        """The real outputs of products."""

    def complex_result(self, values: Sequence[Complex]) -> list[Complex]:
        """The complex outputs of products."""

    def filter_rows(self) -> Any:
        """What makes the filter's spectrum of its taps."""


def plus(a: Real, b: Real) -> Real:
    """a + b."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


def minus(a: Real, b: Real) -> Real:
    """a - b."""
    if b is None:
        return a
    return -b if a is None else a - b


def plus_times(total: Real, factor: float, a: Real) -> Real:
    """total + factor a."""
    if a is None or abs(factor) < NOTHING:
        return total
    if abs(factor - 1) < NOTHING:
        return plus(total, a)
    if abs(factor + 1) < NOTHING:
        return minus(total, a)
    return a * factor if total is None else a * factor + total


def weighted(factors: Sequence[float], values: Sequence[Real]) -> Real:
    """The sum of factors[k] values[k]."""
    total: Real = None
    for factor, value in sorted(zip(factors, values, strict=True), key=lambda pair: abs(abs(pair[0]) - 1) > NOTHING):
        total = plus_times(total, factor, value)
    return total


def add(a: Complex, b: Complex) -> Complex:
    """a + b."""
    return Complex(plus(a.re, b.re), plus(a.im, b.im))


def subtract(a: Complex, b: Complex) -> Complex:
    """a - b."""
    return Complex(minus(a.re, b.re), minus(a.im, b.im))


def conjugate(a: Complex) -> Complex:
    """Its complex conjugate."""
    return Complex(a.re, minus(None, a.im))


def times(a: Complex, factor: complex) -> Complex:
    """a times a number."""
    return Complex(
        plus_times(plus_times(None, factor.real, a.re), -factor.imag, a.im),
        plus_times(plus_times(None, factor.real, a.im), factor.imag, a.re),
    )
