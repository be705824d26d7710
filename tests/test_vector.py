"""The language of vector kernels against NumPy, on every kind of register this CPU has."""

from __future__ import annotations

import numpy as np
import pytest
from vector_targets import EVERYWHERE, floats, run

from convbench.vector.build import Program
from convbench.vector.code import Code, Mask
from convbench.vector.target import Target

# Vectors


def arithmetic(program: Program, code: Code) -> None:
    x, y, out = code.arguments
    a, b = x.load(), y.load()
    results = [
        a + b, a - b, a * b, -a, a * 3.0, 3.0 * a, a + 0.5, a * b + a, a.sum(), x.broadcast(), code.vector(2.5),
        a.pick(b, [(3 * lane) % (2 * code.lanes) for lane in range(code.lanes)]),
    ]  # fmt: skip
    for i, result in enumerate(results):
        (out + i * code.bytes).store(result)


@EVERYWHERE
def test_arithmetic(target: Target) -> None:
    lanes = target.lanes
    a, b = floats(2, lanes)
    out = np.empty((12, lanes), np.float32)
    run(target, "ppp", arithmetic, [a, b, out])
    picked = np.concatenate([a, b])[3 * np.arange(lanes) % (2 * lanes)]
    expected = [
        a + b, a - b, a * b, -a, 3 * a, 3 * a, a + np.float32(0.5), a * b + a, [a.sum()] * lanes, [a[0]] * lanes,
        [2.5] * lanes, picked,
    ]  # fmt: skip
    for i, row in enumerate(expected):
        np.testing.assert_allclose(out[i], row, rtol=1e-6, atol=1e-6, err_msg=str(i))
    for i in (0, 1, 2, 3, 4, 5, 6, 9, 10, 11):
        assert np.array_equal(out[i], np.asarray(expected[i], np.float32)), i


def masked(program: Program, code: Code) -> None:
    x, out, start, size = code.arguments
    mask = code.within(start, size)
    assert isinstance(mask, Mask)
    (out + code.bytes).store(x.load(mask), mask)
    out.store(x.load(mask))


@EVERYWHERE
def test_masks(target: Target) -> None:
    lanes = target.lanes
    x = floats(lanes)
    for start in (-lanes - 3, -lanes, -1, 0, 1, lanes - 1, lanes, 1000):
        for size in (0, 1, lanes // 2, lanes, lanes + 1, 2000):
            out = np.full((2, lanes), 7, np.float32)
            run(target, "ppii", masked, [x, out, start, size])
            inside = np.array([0 <= start + lane < size for lane in range(lanes)])
            assert np.array_equal(out[0], np.where(inside, x, 0)), (start, size)
            assert np.array_equal(out[1], np.where(inside, x, 7)), (start, size)


def transposed(program: Program, code: Code, length: int) -> None:
    x, out = code.arguments
    rows = [(x + i * code.bytes).load() for i in range(code.lanes // length)]
    for i, row in enumerate(code.transpose(rows, length)):
        (out + i * code.bytes).store(row)


@EVERYWHERE
@pytest.mark.parametrize("length", [1, 2, 4, 8, 16])
def test_transpose(target: Target, length: int) -> None:
    if length > target.lanes:
        return
    rows = target.lanes // length
    x = np.arange(rows * target.lanes, dtype=np.float32).reshape(rows, rows, length)
    out = np.empty_like(x)
    run(target, "pp", transposed, [x, out], length)
    assert np.array_equal(out, x.transpose(1, 0, 2))


def sums_of_rows(program: Program, code: Code) -> None:
    x, out, rows, columns = code.arguments
    for i in code.range(rows):
        total = code.variable(0.0)
        for j in code.range(0, columns, code.lanes):
            total.add((x + (i * columns + j) * 4).load(code.within(0, columns - j)))
        (out + i * code.bytes).store(total.get().sum())


@EVERYWHERE
@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (1, 1), (3, 37), (4, 64), (2, 0)])
def test_loops_in_loops(target: Target, rows: int, columns: int) -> None:
    x, out = floats(rows, columns), np.zeros((rows, target.lanes), np.float32)
    run(target, "ppii", sums_of_rows, [x, out, rows, columns])
    np.testing.assert_allclose(out, np.repeat(x.sum(axis=1)[:, None], target.lanes, 1), rtol=1e-4, atol=1e-5)


# Integers and choices


def integers(program: Program, code: Code) -> None:
    out, a, b = code.arguments
    both = code.builder.and_(a < b, a >= 0)
    results = [
        a + b, a - b, a * b, a // b, a % b, 5 - a, 3 * a, a + 0, a * 1, code.least(a, b), code.most(a, b),
        code.least(a, 4), code.choose(both, 1, 0), code.choose(a.is_equal(b), 1, 0), code.index(9),
    ]  # fmt: skip
    for i, result in enumerate(results):
        (out + 8 * i).set_integer(result)


@EVERYWHERE
@pytest.mark.parametrize(("a", "b"), [(7, 3), (3, 7), (5, 5), (0, 1), (2**40, 3)])
def test_integers(target: Target, a: int, b: int) -> None:
    out = np.zeros(15, np.int64)
    run(target, "pii", integers, [out, a, b])
    both, same = int(a < b and a >= 0), int(a == b)
    assert out.tolist() == [
        a + b, a - b, a * b, a // b, a % b, 5 - a, 3 * a, a, a, min(a, b), max(a, b), min(a, 4), both, same, 9,
    ]  # fmt: skip


def branches(program: Program, code: Code) -> None:
    out, count = code.arguments
    for i in code.range(count):
        with code.cases(i % 4, range(4)) as cases:
            for number in cases:
                (out + i * 8).set_integer(10 * number)
        with code.when(i >= 5):
            (out + i * 8).set_integer((out + i * 8).integer() + 1)
    left = out + 8 * count
    with code.repeat_while(lambda: left.integer() < 100):
        left.set_integer(left.integer() * 2)


@EVERYWHERE
def test_branches(target: Target) -> None:
    out = np.array([0] * 9 + [3], np.int64)
    run(target, "pi", branches, [out, 9])
    assert out.tolist() == [0, 10, 20, 30, 0, 11, 21, 31, 1, 192]


def calls(program: Program, code: Code) -> None:
    out, count = code.arguments
    for i in code.range(count):
        for step in (1, 2, 1):  # the first and the third are the same function
            code.call(program.function("pi", stepped, step), out + i * 8, i)


def stepped(program: Program, code: Code, step: int) -> None:
    place, i = code.arguments
    place.set_integer(place.integer() + i * step)


@EVERYWHERE
def test_functions_are_written_once(target: Target) -> None:
    out = np.zeros(5, np.int64)
    run(target, "pi", calls, [out, 5])
    assert out.tolist() == [0, 4, 8, 12, 16]
    program = Program(target)
    one, same, other = (program.function("pi", stepped, step) for step in (1, 1, 2))
    assert one is same
    assert one is not other
