"""The matrices of F(m, r): y = A^T [(G g) * (B^T d)], built exactly from points by the Chinese remainder theorem.

The product of two polynomials of m and r coefficients is found modulo each factor of
    M(x) = (x - a_0) (x - a_1) ... [(x^2 + 1)],   and at infinity,
and put together again; transposing that bilinear map gives the filter y_i = sum_k d_{i+k} g_k (Winograd 1980; Lavin &
Gray, arXiv 1509.09308). A factor x - a costs one multiplication. The factor x^2 + 1 costs three (Karatsuba) where two
points cost two, but keeps rounding errors far smaller for large tiles (Barabasz & Gregg, arXiv 1905.05233): F(6, 5)
in float32 errs by 1e-6 instead of 1.5e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

Row = list[Fraction]
Matrix = list[Row]

HALF = Fraction(1, 2)
# Finite points by m + r - 1, those of least float32 error in an exhaustive search over small fractions, with 0: its
# zeros save an eighth of the additions. (They save vector code none, which factors the matrices: vector.py.)
POINTS: dict[int, tuple[Fraction, ...]] = {
    1: (),
    2: (Fraction(0),),
    3: (Fraction(0), Fraction(1)),
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    5: (Fraction(0), 3 * HALF, -3 * HALF, -HALF),
    6: (Fraction(0), 3 * HALF, -3 * HALF, Fraction(2, 3), Fraction(-2, 3)),
    7: (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), Fraction(-1, 3)),
    8: (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), HALF, -HALF),
    9: (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), HALF),  # with x^2 + 1
    10: (Fraction(0), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2), HALF, -HALF),  # with x^2 + 1
}
LARGEST_WINDOW = max(POINTS)
FROM_HERE_QUADRATIC = 9
X2_PLUS_1 = [Fraction(1), Fraction(0), Fraction(1)]


@dataclass(frozen=True)
class Transform:
    """F(m, r) with t multiplications on windows of m + r - 1: at [m, t], g [t, r], bt [t, m + r - 1], exact."""

    m: int
    r: int
    at: Matrix
    g: Matrix
    bt: Matrix

    @property
    def products(self) -> int:
        """t, multiplications for m outputs."""
        return len(self.g)


@lru_cache(maxsize=64)
def transform(m: int, r: int) -> Transform:
    """F(m, r) with the points of POINTS; with one output or one tap there is nothing to save and nothing to transform.

    Raises KeyError where m + r - 1 is larger than LARGEST_WINDOW.
    """
    if m == 1 or r == 1:
        identity = [[Fraction(int(i == j)) for j in range(m + r - 1)] for i in range(m + r - 1)]
        ones = [[Fraction(1)] * r]
        column = [[Fraction(1)] for _ in range(m)]
        return Transform(m, r, ones if m == 1 else identity, identity if m == 1 else column, identity)
    window = m + r - 1
    factors = [[-point, Fraction(1)] for point in POINTS[window]]
    if window >= FROM_HERE_QUADRATIC:
        factors.append(X2_PLUS_1)
    modulus = _product(factors)
    columns: Matrix = []
    for factor in factors:
        others = _product([f for f in factors if f is not factor])
        inverse = _inverse(_remainder(others, factor), factor)
        columns += [
            _padded(_multiply(others, _remainder(_multiply(inverse, part), factor)), window)
            for part in _PARTS[len(factor) - 1]
        ]
    columns.append(_padded(modulus, window))  # the coefficient at infinity
    at = [list(row) for row in zip(*_evaluate(factors, m), strict=True)]
    return Transform(m, r, at, _evaluate(factors, r), columns)


# Which residue each product contributes. Degree 1: itself. x^2 + 1, products p0 = a0 b0, p1 = a1 b1,
# p2 = (a0 + a1)(b0 + b1): the residue is (p0 - p1) + (p2 - p0 - p1) x.
_PARTS: dict[int, Matrix] = {
    1: [[Fraction(1)]],
    2: [[Fraction(1), Fraction(-1)], [Fraction(-1), Fraction(-1)], [Fraction(0), Fraction(1)]],
}


def _evaluate(factors: Matrix, length: int) -> Matrix:
    """Rows that map the coefficients of a polynomial of `length` terms to the operands of the products."""
    rows: Matrix = []
    for factor in factors:
        powers = [_remainder([Fraction(int(i == k)) for i in range(k + 1)], factor) for k in range(length)]
        low = [power[0] for power in powers]
        if len(factor) == 2:
            rows.append(low)
        else:
            high = [power[1] for power in powers]
            rows += [low, high, [a + b for a, b in zip(low, high, strict=True)]]
    rows.append([Fraction(int(k == length - 1)) for k in range(length)])
    return rows


def _multiply(a: Row, b: Row) -> Row:
    out = [Fraction(0)] * (len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            out[i + j] += x * y
    return out


def _product(factors: Sequence[Row]) -> Row:
    out = [Fraction(1)]
    for factor in factors:
        out = _multiply(out, factor)
    return out


def _remainder(a: Row, factor: Row) -> Row:
    """a modulo a monic factor, with exactly as many coefficients as the factor's degree."""
    out, degree = list(a), len(factor) - 1
    for i in range(len(out) - 1, degree - 1, -1):
        lead = out[i]
        for j in range(degree + 1):
            out[i - degree + j] -= lead * factor[j]
    return _padded(out, degree)


def _padded(a: Row, length: int) -> Row:
    return (a + [Fraction(0)] * length)[:length]


def _inverse(a: Row, factor: Row) -> Row:
    """1 / a modulo x - point (a number), or modulo x^2 + 1 (a complex number)."""
    if len(factor) == 2:
        return [1 / a[0]]
    norm = a[0] ** 2 + a[1] ** 2
    return [a[0] / norm, -a[1] / norm]
