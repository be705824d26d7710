"""Numbers as three bytes, and tiles that multiply them.

Where there is no AMX the same code runs on tiles in memory; where there is, both, and they agree to the bit.
"""

from __future__ import annotations

import platform
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from fused_plans import POISON
from vector_targets import AVX512, EVERYWHERE, floats, run

from convbench.vector import digits, tiles
from convbench.vector.build import Program
from convbench.vector.code import Code
from convbench.vector.digits import DIGITS, LARGEST, LEAST, MOST_DEPTH, STEP, STEP_BYTES
from convbench.vector.target import Target, host
from convbench.vector.tiles import FOUR, ROWS, TILE
from convbench.vector.weights import BLOCK, LINE

NO_AMX = tiles.why_no_tiles()
IN_MEMORY = Target(host().cpu, ",".join(f for f in host().features.split(",") if "amx" not in f))
NEEDS_AMX = pytest.mark.skipif(bool(NO_AMX), reason=NO_AMX or "nothing is missing")
WITH_AMX = Target("sapphirerapids", AVX512 + ",+avx512vbmi,+amx-tile,+amx-int8")


def usable(target: Target) -> Target:
    """The target, but for tiles that the system does not permit."""
    return IN_MEMORY if NO_AMX and target.multiplies_tiles else target


def values_of(found: Any) -> Any:
    """What digits [.., digit, ..] on axis 0 come to, as whole numbers."""
    return sum(found[i].astype(np.int64) << 8 * (DIGITS - 1 - i) for i in range(DIGITS))


def row(program: Program, code: Code) -> None:
    """One row of A, measured and split."""
    source, count, factor, into, steps = code.arguments
    code.call(program.function("piiip", digits.measure), source, 0, 1, count, factor)
    code.call(program.function("ppipi", digits.split), source, factor, count, into, steps)


@EVERYWHERE
@pytest.mark.parametrize("power", [-90, 0, 100])
@pytest.mark.parametrize("count", [1, 63, 64, 200])
def test_digits_of_a_row(target: Target, power: int, count: int) -> None:
    """Whole multiples of what the largest number is LARGEST of, and zeros behind the last."""
    numbers, steps = floats(count) * np.float32(2.0**power), -(-count // STEP)
    factor, into = np.zeros(2 * LINE // 4, np.float32), np.full(steps * STEP_BYTES, POISON, np.uint8)
    run(target, "pippi", row, [numbers, count, factor, into, steps])
    found = into.view(np.int8).reshape(steps, DIGITS, ROWS, STEP)[:, :, 0].swapaxes(0, 1).reshape(DIGITS, -1)
    whole, scale = values_of(found), float(factor[LINE // 4])
    assert abs(abs(whole).max() - LARGEST) <= 1
    assert np.abs(whole[:count] - numbers.astype(float) * factor[0]).max() <= 1  # a half, and a half of the product
    assert (whole[count:] == 0).all()
    assert np.isclose(scale * factor[0], 2**16, rtol=3e-7, atol=0)


@EVERYWHERE
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_scale_says_what_is_not_finite(target: Target, bad: float) -> None:
    numbers, factor = floats(100), np.zeros(2 * LINE // 4, np.float32)
    run(target, "piiip", digits.measure, [numbers, 0, 1, 100, factor])
    assert np.isfinite(factor[LINE // 4])
    numbers[77] = bad
    run(target, "piiip", digits.measure, [numbers, 0, 1, 100, factor])
    assert np.isnan(factor[LINE // 4])


def test_filters_as_digits() -> None:
    """[step, digit, four of the depth, filter, 4], each filter with its own scale, zeros for what is missing."""
    w = floats(70, 11) * np.float32(2.0) ** np.arange(-50, 60, 10)
    w[:, 3], w[5, 4], w[6, 5] = 0, np.nan, np.inf
    into = np.full(digits.panel_bytes(70), POISON, np.uint8)
    digits.pack(np, w, into)
    scales = into[:LINE].view(np.float32)
    found = into[LINE:].view(np.int8).reshape(2, DIGITS, STEP // FOUR, BLOCK, FOUR)
    whole = values_of(found.transpose(1, 0, 2, 4, 3).reshape(DIGITS, 2 * STEP, BLOCK))
    fine = [0, 1, 2, 6, 7, 8, 9, 10]
    off = abs(whole[:70, fine] * (scales[fine] / 2.0**16) - w[:, fine]) / scales[fine] * 2**16
    assert off.max() <= 1  # a half, and the rounding of the scale
    assert (whole[:70, 3] == 0).all()
    assert scales[3] <= LEAST
    assert np.isnan(scales[[4, 5]]).all()
    assert (whole[70:] == 0).all()
    assert (whole[:, 11:] == 0).all()
    assert (scales[11:] == 0).all()


# Products


def called(program: Program, code: Code) -> None:
    """`product` with tiles that have begun."""
    here = tiles.tiles_of(code, program.target, rows=code.arguments[6])
    here.begin()
    code.call(program.function("pippp" + "iiip", digits.product), *code.arguments)
    here.end()


def product(target: Target, count: int, each: int, steps: int) -> tuple[Any, Any]:
    """C of the kernel for random digits, and what it should be; behind its rows A holds others without a scale."""
    rng = np.random.default_rng(count * 100 + steps)
    tiles_of_a = -(-count // each)
    a = rng.integers(-128, 128, (tiles_of_a, steps, DIGITS, ROWS, STEP), np.int8)
    b = rng.integers(-128, 128, (steps, DIGITS, STEP // FOUR, BLOCK, FOUR), np.int8)
    of_rows, of_columns = rng.random(count, np.float32), rng.random(BLOCK, np.float32)
    panel = np.frombuffer(of_columns.tobytes() + b.tobytes() + bytes(STEP_BYTES), np.uint8).copy()
    c = np.full((tiles_of_a * ROWS, BLOCK), np.nan, np.float32)
    arguments = [a, steps * STEP_BYTES, of_rows, panel, c, count, each, steps, panel]
    run(usable(target), "pippp" + "iiip", called, arguments)
    assert np.isnan(c[count:]).all()
    rows = a[:, :, :, :each].transpose(2, 0, 3, 1, 4).reshape(DIGITS, -1, steps * STEP)[:, :count].astype(float)
    columns = b.transpose(1, 0, 2, 4, 3).reshape(DIGITS, steps * STEP, BLOCK).astype(float)
    expected = sum(
        rows[i] @ columns[j] * 2.0 ** (-8 * (i + j)) for i in range(DIGITS) for j in range(DIGITS) if i + j < DIGITS
    )
    return c[:count], expected * of_rows[:, None] * of_columns


@pytest.mark.parametrize("others", [1, 2])
def test_a_path_makes_each_product_once_and_loads_little(others: int) -> None:
    """All but the first share a tile with the one before; with two, no sum is wanted within three."""
    path = list(digits.path(others))
    assert sorted(path) == [
        (i, j, which) for i in range(DIGITS) for j in range(DIGITS - i) for which in range(others)
    ]  # fmt: skip
    assert all(one[0] == other[0] or one[1:] == other[1:] for one, other in pairwise(path))
    sums = [(which, i + j) for i, j, which in path] * 2
    assert others == 1 or all(total not in sums[n + 1 : n + 3] for n, total in enumerate(sums[:-2]))


SIZES = pytest.mark.parametrize(
    ("count", "each", "steps"), [(16, 16, 1), (25, 13, 3), (41, 14, 2), (80, 16, 1), (3, 3, 2)]
)


@EVERYWHERE
@SIZES
def test_products_of_digits(target: Target, count: int, each: int, steps: int) -> None:
    found, expected = product(target, count, each, steps)
    assert np.allclose(found, expected, rtol=1e-6, atol=2e-6 * abs(expected).max())


@NEEDS_AMX
@SIZES
def test_amx_and_memory_agree_to_the_bit(count: int, each: int, steps: int) -> None:
    assert np.array_equal(product(host(), count, each, steps)[0], product(IN_MEMORY, count, each, steps)[0])


def test_a_product_of_other_digits_would_show() -> None:
    """The judge of the test above: without the smallest digits it is off by far more than it is allowed."""
    found, expected = product(IN_MEMORY, 32, 16, 3)
    coarse = np.round(found / abs(found).max() * 2**15) * abs(found).max() / 2**15
    assert not np.allclose(coarse, expected, rtol=1e-6, atol=2e-6 * abs(expected).max())


def test_sums_of_the_greatest_depth_do_not_overflow() -> None:
    assert MOST_DEPTH * DIGITS * 128 * 128 < 2**31
    assert (TILE, STEP_BYTES) == (ROWS * STEP, DIGITS * TILE)


def test_what_the_system_does_not_permit(monkeypatch: pytest.MonkeyPatch) -> None:
    for system, words in (("darwin", "on Linux alone"), ("linux", "does not permit")):
        monkeypatch.setattr(tiles, "host", lambda: WITH_AMX)
        monkeypatch.setattr(sys, "platform", system)
        monkeypatch.setattr(platform, "machine", lambda: "x86_64")
        monkeypatch.setattr(tiles, "ASK_PERMISSION", 0)  # no such request
        tiles.why_no_tiles.cache_clear()
        try:
            assert words in tiles.why_no_tiles()
        finally:
            tiles.why_no_tiles.cache_clear()
