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
    here = tiles.tiles_of(code, program.target, code.arguments[8])
    here.begin()
    code.call(program.function("pipippiiippi", complex_digits.products), *code.arguments)
    here.end()


def products(target: Target, count: int, steps: int, fours: int) -> tuple[Any, Any]:
    """C of the kernel for random digits, and what it should be; A holds something behind the fours too."""
    rng = np.random.default_rng(count * 100 + steps)
    a = rng.integers(-128, 128, (count, PARTS, steps, DIGITS, ROWS, STEP), np.int8)
    b = rng.integers(-128, 128, (PARTS, steps, DIGITS, fours, BLOCK, FOUR), np.int8)
    of_rows, of_columns = rng.random(count * ROWS, np.float32), rng.random(BLOCK, np.float32)
    panel = np.frombuffer(of_columns.tobytes() + b.tobytes(), np.uint8).copy()
    c = np.full((count * ROWS, PARTS, BLOCK), np.nan, np.float32)
    arguments = [a, PARTS * steps * STEP_BYTES, of_rows, 4, panel, c, count, steps, fours, panel, a, 1]
    run(usable(target), "pipippiiippi", called, arguments)
    depth = steps * fours * FOUR
    rows = a[..., : fours * FOUR].transpose(1, 3, 0, 4, 2, 5).reshape(PARTS, DIGITS, -1, depth).astype(float)
    columns = b.transpose(0, 2, 1, 3, 5, 4).reshape(PARTS, DIGITS, depth, BLOCK).astype(float)
    rows, columns = rows[0] + 1j * rows[1], columns[0] + 1j * columns[1]
    expected = sum(
        rows[i] @ columns[j] * 2.0 ** (-8 * (i + j)) for i in range(DIGITS) for j in range(DIGITS) if i + j < DIGITS
    )
    return c[:, 0] + 1j * c[:, 1], expected * of_rows[:, None] * of_columns


COUNTS = pytest.mark.parametrize(("count", "steps", "fours"), [(1, 1, 12), (2, 3, 16), (3, 2, 1), (5, 1, 7)])


@EVERYWHERE
@COUNTS
def test_complex_products_of_digits(target: Target, count: int, steps: int, fours: int) -> None:
    found, expected = products(target, count, steps, fours)
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
def test_amx_and_memory_agree_to_the_bit(count: int, steps: int, fours: int) -> None:
    assert np.array_equal(products(host(), count, steps, fours)[0], products(IN_MEMORY, count, steps, fours)[0])
