"""Complex products of digits: right, and on AMX the same as in memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from test_digits import IN_MEMORY, NEEDS_AMX, usable
from vector_targets import EVERYWHERE, run

from convbench.vector import complex_digits, tiles
from convbench.vector.build import Program
from convbench.vector.code import Code
from convbench.vector.complex_digits import PARTS, PASSES
from convbench.vector.digits import DIGITS, STEP, STEP_BYTES
from convbench.vector.target import Target, host
from convbench.vector.tiles import FOUR, ROWS
from convbench.vector.weights import BLOCK


def called(program: Program, code: Code) -> None:
    """`products` with tiles that have begun."""
    here = tiles.tiles_of(code, program.target, code.arguments[9], code.arguments[7])
    here.begin()
    code.call(program.function("pipippiiiippi", complex_digits.products), *code.arguments)
    here.end()


def products(target: Target, count: int, each: int, steps: int, fours: int) -> tuple[Any, Any]:
    """C of the kernel for random digits, and what it should be; A holds something behind its rows and the fours too."""
    rng = np.random.default_rng(count * 100 + steps)
    a = rng.integers(-128, 128, (-(-count // each), PARTS, steps, DIGITS, ROWS, STEP), np.int8)
    b = rng.integers(-128, 128, (PARTS, steps, DIGITS, fours, BLOCK, FOUR), np.int8)
    of_rows, of_columns = rng.random(count, np.float32), rng.random(BLOCK, np.float32)
    panel = np.frombuffer(of_columns.tobytes() + b.tobytes(), np.uint8).copy()
    c = np.full((len(a) * ROWS, PARTS, BLOCK), np.nan, np.float32)
    arguments = [a, PARTS * steps * STEP_BYTES, of_rows, 4, panel, c, count, each, steps, fours, panel, a, 1]
    run(usable(target), "pipippiiiippi", called, arguments)
    assert np.isnan(c[count:]).all()
    c = c[:count]
    depth = steps * fours * FOUR
    rows = a[..., :each, : fours * FOUR].transpose(1, 3, 0, 4, 2, 5).reshape(PARTS, DIGITS, -1, depth).astype(float)
    rows = rows[:, :, :count]
    columns = b.transpose(0, 2, 1, 3, 5, 4).reshape(PARTS, DIGITS, depth, BLOCK).astype(float)
    rows, columns = rows[0] + 1j * rows[1], columns[0] + 1j * columns[1]
    expected = sum(
        rows[i] @ columns[j] * 2.0 ** (-8 * (i + j)) for i in range(DIGITS) for j in range(DIGITS) if i + j < DIGITS
    )
    return c[:, 0] + 1j * c[:, 1], expected * of_rows[:, None] * of_columns


COUNTS = pytest.mark.parametrize(
    ("count", "each", "steps", "fours"),
    [(16, 16, 1, 12), (25, 13, 3, 16), (41, 14, 2, 1), (80, 16, 1, 7), (3, 3, 1, 16)],
)


@EVERYWHERE
@COUNTS
def test_complex_products_of_digits(target: Target, count: int, each: int, steps: int, fours: int) -> None:
    found, expected = products(target, count, each, steps, fours)
    assert np.allclose(found, expected, rtol=1e-6, atol=2e-6 * abs(expected).max())


def test_paths_make_each_product_once_and_load_little() -> None:
    """All but the first share a tile with the one before; in the first pass no sum is wanted within three products."""
    for number, orders in enumerate(PASSES):
        path = complex_digits.path(number)
        assert sorted(path) == sorted(
            ((of_a, i), (of_b, j))
            for of_a in range(PARTS) for of_b in range(PARTS) for i in range(DIGITS) for j in range(DIGITS)
            if i + j in orders
        )  # fmt: skip
        assert all(one[0] == other[0] or one[1] == other[1] for one, other in pairwise(path))
    sums = [(i + j, a + b if a == b else None) for (a, i), (b, j) in complex_digits.path(0)] * 2
    assert all(total not in sums[n + 1 : n + 3] for n, total in enumerate(sums[:-2]))


@NEEDS_AMX
@COUNTS
def test_amx_and_memory_agree_to_the_bit(count: int, each: int, steps: int, fours: int) -> None:
    one, other = (products(target, count, each, steps, fours)[0] for target in (host(), IN_MEMORY))
    assert np.array_equal(one, other)
