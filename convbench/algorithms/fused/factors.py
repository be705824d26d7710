"""B^T of F(m, r) by factors: rows that have factors in common share their work.

Row p of B^T holds the coefficients of M / (x - p), M = prod_q (x - q) over all points (fused/toom.py). With M = M1 M2,
p a point of M1, that row is M1 / (x - p) applied to what M2 makes of the window: M2 is applied once for all points of
M1, and so on down to one point, or two of opposite sign. It is evaluation by remainders (Borodin & Moenck 1974) with
the order of its steps turned round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from convbench.algorithms.fused.values import NOTHING, Complex, Real, plus_times, weighted

Polynomial = tuple[float, ...]  # the constant term first


@dataclass(frozen=True)
class Factor:
    """A factor of M: x - p, x^2 - p^2, or for one complex p (x - p) (x - its conjugate)."""

    point: complex
    is_pair: bool = False  # -p too

    @property
    def polynomial(self) -> Polynomial:
        """Its coefficients."""
        p = self.point
        if p.imag:
            return (abs(p) ** 2, -2 * p.real, 1.0)
        return (-(p.real**2), 0.0, 1.0) if self.is_pair else (-p.real, 1.0)

    @property
    def cost(self) -> int:
        """Operations that its points take when all else is done."""
        if self.point.imag:
            return (self.point.real != 0) + (abs(self.point.imag) != 1)
        return 2 * self.is_pair

    def evaluate(self, values: Sequence[Real]) -> dict[complex, Complex]:
        """The factor without a point, applied to as many values as it has points."""
        p = self.point
        if p.imag:
            return {p: Complex(plus_times(values[1], -p.real, values[0]), plus_times(None, p.imag, values[0]))}
        if self.is_pair:
            return {q: Complex(plus_times(values[1], q.real, values[0]), None) for q in (p, -p)}
        return {p: Complex(values[0], None)}


def factors_of(points: Sequence[float], complex_points: Sequence[complex]) -> tuple[Factor, ...]:
    """Of M: points of opposite sign together, a complex point with its conjugate."""
    paired = [p for p in points if p > 0 and -p in points]
    singles = [p for p in points if abs(p) not in paired]
    return (
        *(Factor(complex(p)) for p in singles),
        *(Factor(complex(p), is_pair=True) for p in paired),
        *(Factor(complex(p)) for p in complex_points),
    )


def product(factors: Sequence[Factor]) -> Polynomial:
    """The product of their polynomials."""
    out: Polynomial = (1.0,)
    for factor in factors:
        shifted = [(0.0,) * k + tuple(c * a for a in out) for k, c in enumerate(factor.polynomial)]
        length = len(out) + len(factor.polynomial) - 1
        out = tuple(sum(row[i] for row in shifted if i < len(row)) for i in range(length))
    return out


def applied(polynomial: Polynomial, values: Sequence[Real]) -> list[Real]:
    """A polynomial applied to each run of values that is long enough."""
    length = len(polynomial)
    return [weighted(polynomial, values[i : i + length]) for i in range(len(values) - length + 1)]


def operations(polynomial: Polynomial) -> int:
    """That one application takes: a multiplication that nothing is added to, and multiply-adds."""
    factors = [abs(c) for c in polynomial if abs(c) > NOTHING]
    return len(factors) - any(abs(factor - 1) < NOTHING for factor in factors)


@lru_cache(maxsize=1024)
def halves(factors: tuple[Factor, ...], is_last: bool) -> tuple[int, tuple[Factor, ...], tuple[Factor, ...]]:
    """The two parts of M by which its points take fewest operations, which come first.

    is_last: M itself is wanted too (infinity); the first part's way leads there.
    """
    if len(factors) == 1:
        return factors[0].cost + is_last * operations(factors[0].polynomial), factors, ()
    found = []
    for count in range(1, len(factors)):
        for first in combinations(factors, count):
            second = tuple(factor for factor in factors if factor not in first)
            one, two = product(first), product(second)
            cost = (len(one) - 1 + is_last) * operations(two) + (len(two) - 1) * operations(one)
            found.append((cost + halves(first, is_last)[0] + halves(second, False)[0], first, second))
    return min(found, key=lambda way: way[0])


def evaluate(
    factors: tuple[Factor, ...], values: Sequence[Real], is_last: bool = True
) -> tuple[dict[complex, Complex], Real]:
    """B^T of a window at all finite points (one of a complex pair), and at infinity: one value more is given for it."""
    if not factors:
        return {}, values[0]
    _, first, second = halves(factors, is_last)
    if not second:
        infinity = applied(first[0].polynomial, values)[0] if is_last else None
        return first[0].evaluate(values), infinity
    finite = values[: len(values) - is_last]
    ones, infinity = evaluate(first, applied(product(second), values), is_last)
    others, _ = evaluate(second, applied(product(first), finite), False)
    return ones | others, infinity
