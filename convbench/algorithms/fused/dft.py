"""The discrete Fourier transform of one tile, as code: y = (1 / L) F* [ conj(F g) * (F d) ].

That is the correlation on a ring: output p is the sum over k of g_k d_{(p + k) mod L}. L = m + r - 1 where windows do
not wrap, less where those that do find zeros (unit.py, UnitAxis.ring).

Factors of L that share no divisor are split by Good's mapping, others by Cooley and Tukey's with twiddle factors
(Good 1958; Cooley & Tukey 1965); what is left, primes, pairs x_j with x_{n-j}. A real input's spectrum is computed
half, the other half being its conjugate, on every level.
"""

from __future__ import annotations

from cmath import exp, pi
from collections.abc import Sequence
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np

from convbench.algorithms.fused.values import (
    Complex,
    Real,
    add,
    conjugate,
    minus,
    plus,
    plus_times,
    subtract,
    times,
)


@dataclass(frozen=True)
class Dft:
    """Tiles of `outputs` by the frequencies of a ring of `window` inputs."""

    outputs: int
    taps: int
    window: int  # L

    pair_weight = 1.0  # `result` counts the conjugate half by itself

    @property
    def reals(self) -> int:
        """Frequencies whose value is real for real data: 0, and L / 2 where L is even."""
        return 2 - self.window % 2

    @property
    def pairs(self) -> int:
        """Pairs of frequencies k, L - k."""
        return (self.window - 1) // 2

    @property
    def infinity(self) -> int | None:
        """None: every output depends on every frequency."""
        return None

    def _order(self) -> list[int]:
        pairs = list(range(1, self.pairs + 1))
        return [*([0, self.window // 2][: self.reals]), *pairs, *(self.window - k for k in pairs)]

    def filter_rows(self) -> Any:
        """conj(F g) / L, [reals + 2 pairs, taps], complex."""
        turns = np.outer(self._order(), np.arange(self.taps))
        return np.exp(2j * np.pi * turns / self.window) / self.window

    def spectrum(self, values: Sequence[Real]) -> tuple[list[Real], list[Complex]]:
        """F d for real d: the real frequencies, and one of each pair."""
        out = transform([Complex(v, None) for v in values], -1)
        order = self._order()
        return [out[k].re for k in order[: self.reals]], [out[k] for k in order[self.reals : self.reals + self.pairs]]

    def complex_spectrum(self, values: Sequence[Complex]) -> list[Complex]:
        """F d for complex d."""
        out = transform(list(values), -1)
        return [out[k] for k in self._order()]

    def result(self, reals: Sequence[Real], pairs: Sequence[Complex]) -> list[Real]:
        """F* of a spectrum whose other half is the conjugate, the first m outputs."""
        half = [Complex(reals[0], None), *pairs, *(Complex(v, None) for v in reals[1:])]
        return real_inverse(half, self.window)[: self.outputs]

    def complex_result(self, values: Sequence[Complex]) -> list[Complex]:
        """F*, the first m outputs."""
        spectrum = dict(zip(self._order(), values, strict=True))
        return transform([spectrum[k] for k in range(self.window)], +1)[: self.outputs]


def factors(n: int) -> tuple[int, int] | None:
    """n as a product, the first factor small, coprime to the other where that can be; None for a prime."""
    splits = [(a, n // a) for a in (4, 3, 5, 2, 7) if n % a == 0 and a < n]
    return next((split for split in splits if gcd(*split) == 1), splits[0] if splits else None)


def root(turns: int, n: int, sign: int) -> complex:
    """exp(sign 2 pi i turns / n), exact for quarter turns."""
    if 4 * turns % n == 0:
        return (1, 1j * sign, -1, -1j * sign)[4 * turns // n % 4]
    return exp(sign * 2j * pi * turns / n)


def transform(x: Sequence[Complex], sign: int) -> list[Complex]:
    """X_k = sum_j x_j exp(sign 2 pi i j k / n), all n of them; where x is real, half are made from the other half."""
    n = len(x)
    if n == 1:
        return list(x)
    if n == 2:
        return [add(x[0], x[1]), subtract(x[0], x[1])]
    split = factors(n)
    if split is None:
        return _prime(x, sign)
    is_real = all(v.im is None for v in x)
    return (_coprime if gcd(*split) == 1 else _common)(x, sign, *split, is_real)


def _coprime(x: Sequence[Complex], sign: int, a: int, b: int, is_real: bool) -> list[Complex]:
    """Good's mapping: j = (b i + a j') mod n, k by its remainders; no twiddle factors."""
    n = a * b
    columns = [transform([x[(b * i + a * j) % n] for i in range(a)], sign) for j in range(b)]
    grid = {}
    for k in range(a // 2 + 1 if is_real else a):
        grid[k] = transform([column[k] for column in columns], sign)
    out = []
    for k in range(n):
        if k % a in grid:
            out.append(grid[k % a][k % b])
        else:
            out.append(conjugate(grid[-k % a][-k % b]))
    return out


def _common(x: Sequence[Complex], sign: int, a: int, b: int, is_real: bool) -> list[Complex]:
    """Cooley and Tukey: n = a b, j = a j' + i, k = k' + b l."""
    n = a * b
    columns = [transform(x[i::a], sign) for i in range(a)]
    out: list[Complex | None] = [None] * n
    for k in range(b // 2 + 1 if is_real else b):
        values = transform([times(columns[i][k], root(i * k, n, sign)) for i in range(a)], sign)
        for l_, value in enumerate(values):
            out[k + b * l_] = value
    return [value if value is not None else conjugate(out[n - k]) for k, value in enumerate(out)]  # type: ignore[arg-type]


def _prime(x: Sequence[Complex], sign: int) -> list[Complex]:
    """x_j and x_{n-j} have the same cosine and opposite sines."""
    n = len(x)
    half = range(1, (n + 1) // 2)
    sums = [add(x[j], x[n - j]) for j in half]
    differences = [subtract(x[j], x[n - j]) for j in half]
    first = x[0]
    for value in sums:
        first = add(first, value)
    out = [first] * n
    for k in half:
        even, odd = x[0], Complex(None, None)
        for j, (s, d) in enumerate(zip(sums, differences, strict=True), 1):
            w = root(j * k % n, n, sign)
            even = Complex(plus_times(even.re, w.real, s.re), plus_times(even.im, w.real, s.im))
            odd = Complex(plus_times(odd.re, -w.imag, d.im), plus_times(odd.im, w.imag, d.re))  # i sin d
        out[k], out[n - k] = add(even, odd), subtract(even, odd)
    return out


def real_inverse(half: Sequence[Complex], n: int) -> list[Real]:
    """x_j = sum_k X_k exp(2 pi i j k / n), real as X_{n-k} = conj X_k; of X the first n // 2 + 1."""

    def whole(k: int) -> Complex:
        k %= n
        return half[k] if k <= n // 2 else conjugate(half[n - k])

    if n == 1:
        return [half[0].re]
    if n == 2:
        return [plus(half[0].re, half[1].re), minus(half[0].re, half[1].re)]
    split = factors(n)
    if split is None:
        return _prime_inverse(half, n)
    a, b = split
    out: list[Real] = [None] * n
    if gcd(a, b) == 1:
        # Good's mapping, k by its remainders: rows that are real after the first step, and half of the others.
        at = {(k % a, k % b): k for k in range(n)}
        rows: dict[int, list[Complex]] = {}
        for i in range(a // 2 + 1):
            if 2 * i % a == 0:
                real = real_inverse([whole(at[i, j]) for j in range(b // 2 + 1)], b)
                rows[i] = [Complex(v, None) for v in real]
            else:
                rows[i] = transform([whole(at[i, j]) for j in range(b)], +1)
        for j in range(b):
            for i, value in enumerate(real_inverse([rows[i][j] for i in range(a // 2 + 1)], a)):
                out[(b * i + a * j) % n] = value
        return out
    # Cooley and Tukey: k = k' + b l, j = a j' + i.
    columns: list[list[Complex]] = [[] for _ in range(a)]
    for k in range(b // 2 + 1):
        if k == 0:
            values = [Complex(v, None) for v in real_inverse([whole(b * l_) for l_ in range(a // 2 + 1)], a)]
        else:
            values = transform([whole(k + b * l_) for l_ in range(a)], +1)
        for i in range(a):
            columns[i].append(times(values[i], root(i * k, n, +1)))
    for i in range(a):
        out[i::a] = real_inverse(columns[i], b)
    return out


def _prime_inverse(half: Sequence[Complex], n: int) -> list[Real]:
    doubled = [Complex(plus(v.re, v.re), plus(v.im, v.im)) for v in half]
    out: list[Real] = [half[0].re] * n
    for value in doubled[1:]:
        out[0] = plus(out[0], value.re)
    for j in range(1, (n + 1) // 2):
        even, odd = half[0].re, None
        for k in range(1, len(half)):
            w = root(j * k % n, n, +1)
            even = plus_times(even, w.real, doubled[k].re)
            odd = plus_times(odd, w.imag, doubled[k].im)
        out[j], out[n - j] = minus(even, odd), plus(even, odd)
    return out
