"""F(m, r): m outputs of a filter of r taps by evaluating at points (Toom, Cook; Winograd 1980), as code.

    y = A^T [ (E g) * (B^T d) ],   A^T[k, p] = p^k,   (E g)[p] = sum_k g_k p^k / N_p,   N_p = prod_{q /= p} (p - q)

where row p of B^T holds the coefficients of prod_{q /= p} (x - q), and the point at infinity stands for the highest
coefficient. Points may be complex, in conjugate pairs: with i and -i among them a large tile errs far less than with
as many real points (Barabasz & Gregg, arXiv 1905.05233, who write the pair as the factor x^2 + 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from convbench.algorithms.fused.factors import evaluate, factors_of
from convbench.algorithms.fused.values import Complex, Real, add, conjugate, minus, plus, subtract, times, weighted

Matrix = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Toom:
    """Tiles of `outputs` from windows of outputs + taps - 1, by real points, pairs of complex ones, and infinity."""

    outputs: int
    taps: int
    points: tuple[float, ...]
    complex_points: tuple[complex, ...] = ()  # one of each pair

    pair_weight = 2.0  # a pair counts twice: its conjugate's product is the conjugate

    @property
    def window(self) -> int:
        """Inputs a tile."""
        return self.outputs + self.taps - 1

    @property
    def reals(self) -> int:
        """Real points, infinity among them."""
        return len(self.points) + 1

    @property
    def pairs(self) -> int:
        """Pairs of complex points."""
        return len(self.complex_points)

    @property
    def infinity(self) -> int | None:
        """The place of the point at infinity among the real ones: only the last output depends on it."""
        return self.reals - 1

    def _all_points(self) -> list[complex]:
        return [*self.points, *self.complex_points, *(p.conjugate() for p in self.complex_points)]

    def powers(self, length: int) -> Any:
        """p^k for real points, infinity and one of each pair: [reals + pairs, length], complex."""
        finite = np.array(self.points, complex)[:, None] ** np.arange(length)
        infinity = np.eye(length)[[length - 1]]
        pairs = np.array(self.complex_points, complex)[:, None] ** np.arange(length)
        return np.concatenate([finite.reshape(-1, length), infinity, pairs.reshape(-1, length)])

    def filter_rows(self) -> Any:
        """E for real points, infinity, pairs and their conjugates: [reals + 2 pairs, taps], complex."""
        everywhere = self._all_points()
        scale = [np.prod([p - q for j, q in enumerate(everywhere) if j != i]) for i, p in enumerate(everywhere)]
        kept = self.reals - 1
        norms = np.array([*scale[:kept], 1, *scale[kept : kept + self.pairs]])
        rows = self.powers(self.taps) / norms[:, None]
        return np.concatenate([rows, rows[self.reals :].conj()])

    def spectrum(self, values: Sequence[Real]) -> tuple[list[Real], list[Complex]]:
        """B^T d for real d: at the real points, and at one of each pair."""
        finite, infinity = evaluate(factors_of(self.points, self.complex_points), values)
        return [*(finite[p].re for p in self.points), infinity], [finite[p] for p in self.complex_points]

    def complex_spectrum(self, values: Sequence[Complex]) -> list[Complex]:
        """B^T d for complex d: at the real points, one of each pair, and its conjugate."""
        real, real_pairs = self.spectrum([v.re for v in values])
        imaginary, imaginary_pairs = self.spectrum([v.im for v in values])
        first, second = [], []
        for a, b in zip(real_pairs, imaginary_pairs, strict=True):
            turned = Complex(minus(None, b.im), b.re)  # i b
            first.append(add(a, turned))
            second.append(Complex(plus(a.re, b.im), minus(b.re, a.im)))  # conj(a) + i conj(b)
        return [*(Complex(a, b) for a, b in zip(real, imaginary, strict=True)), *first, *second]

    def result(self, reals: Sequence[Real], pairs: Sequence[Complex]) -> list[Real]:
        """A^T: the m outputs, Re of the pairs' part counted once."""
        powers = self.powers(self.outputs).T
        stacked = np.concatenate(
            [powers[:, : self.reals].real, powers[:, self.reals :].real, -powers[:, self.reals :].imag], axis=1
        )
        return matrix_times(stacked, [*reals, *(p.re for p in pairs), *(p.im for p in pairs)])

    def complex_result(self, values: Sequence[Complex]) -> list[Complex]:
        """A^T for complex values, which came from complex_spectrum and its order."""
        reals, pairs = values[: self.reals], values[self.reals : self.reals + self.pairs]
        others = [conjugate(v) for v in values[self.reals + self.pairs :]]
        # theta^k a + conj(theta)^k conj(b): its real part is Re theta^k (a + b), its imaginary Im theta^k (a - b).
        even = [add(a, b) for a, b in zip(pairs, others, strict=True)]
        odd = [times(subtract(a, b), -1j) for a, b in zip(pairs, others, strict=True)]
        real = self.result([v.re for v in reals], even)
        imaginary = self.result([v.im for v in reals], odd)
        return [Complex(a, b) for a, b in zip(real, imaginary, strict=True)]


def matrix_times(matrix: Any, values: Sequence[Real]) -> list[Real]:
    """matrix [rows, columns] times values. Points p and -p share their work: their columns (of A^T) differ in every
    second row's sign, so the sum and the difference of their values do.
    """
    matrix, values = _fold_columns(np.asarray(matrix, float), list(values))
    return [weighted(row, values) for row in matrix]


def _fold_columns(matrix: Any, values: list[Real]) -> tuple[Any, list[Real]]:
    """Replace two columns that differ in the sign of every odd row by their sum's (even rows) and difference's."""
    signs = (-1.0) ** np.arange(len(matrix))
    matrix = matrix.copy()
    done: set[int] = set()
    for p in range(matrix.shape[1]):
        for q in range(p + 1, matrix.shape[1]):
            column = matrix[:, p].copy()
            if (
                {p, q} & done
                or abs(matrix[:, q] - signs * column).max() > 1e-9
                or abs(column[1::2]).max(initial=0) == 0
            ):
                continue
            done |= {p, q}
            values[p], values[q] = plus(values[p], values[q]), minus(values[p], values[q])
            matrix[:, p], matrix[:, q] = column * (signs > 0), column * (signs < 0)
    return matrix, values
