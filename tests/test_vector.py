"""The language of vector kernels against NumPy, on every kind of register this CPU has."""

from __future__ import annotations

import ctypes
import platform
import weakref
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest

from convbench.devices.cpu import Cpu
from convbench.vector.build import Program, address_of
from convbench.vector.code import Code, Mask
from convbench.vector.distance import are_far_apart, round_trip
from convbench.vector.peak import multiply_add_peak
from convbench.vector.product import PANEL, Asks, cut_rows, panel
from convbench.vector.target import Target, host
from convbench.vector.team import KERNEL, Arguments, Fields, Team, runner, shared_out, tickets
from convbench.vector.weights import BLOCK, FIXED24, FLOAT32, LINE, Weights

IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = "+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
AVX512 = AVX2 + ",+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"
TARGETS = {
    "nehalem": Target("nehalem", ""),
    "haswell": Target("haswell", AVX2),
    "znver3": Target("znver3", AVX2),
    "skylake-avx512": Target("skylake-avx512", AVX512),
    "znver4": Target("znver4", AVX512),
    "znver5": Target("znver5", AVX512),
}


def here() -> dict[str, Target]:
    """The targets whose code this CPU can run, itself among them; one of each width."""
    features = set(host().features.split(","))
    others = {"nehalem": Target("nehalem", ""), "haswell": TARGETS["haswell"], "avx512": TARGETS["skylake-avx512"]}
    able = {name: t for name, t in others.items() if IS_X86 and set(filter(None, t.features.split(","))) <= features}
    return {"host": host(), **able}


RUNNABLE = here()
EVERYWHERE = pytest.mark.parametrize("target", RUNNABLE.values(), ids=list(RUNNABLE))


def run(target: Target, arguments: str, write: Callable[..., None], values: list[Any], *parameters: Any) -> None:
    """Compile a kernel and call it; arrays are passed by address."""
    address = address_of(arguments, write, *parameters, target=target)
    numbers = [value.ctypes.data if isinstance(value, np.ndarray) else value for value in values]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(arguments))(address)(*numbers)


def floats(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


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


# Threads


def two_rounds(program: Program, code: Code) -> None:
    """Each item's double; then, when all are done, each item's neighbours' sum."""
    place, thread, threads = code.arguments
    f, team = Fields(code, place, ("counters", "first", "second", "items", "tickets")), Team(thread, threads)
    first, second, counters = f.pointer("first"), f.pointer("second"), f.pointer("counters")
    with shared_out(code, counters, f.items, team) as item:
        (first + item * 8).set_integer((first + item * 8).integer() + item * 2)
    with shared_out(code, counters + f.tickets, f.items - 1, team, wait=False) as item:
        (second + item * 8).set_integer((first + item * 8).integer() + (first + (item + 1) * 8).integer())


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("items", [1, 2, 1000])
def test_work_is_shared_out_once(threads: int, items: int) -> None:
    call = runner(address_of(KERNEL, two_rounds), threads)
    for _ in range(20):
        counters, first, second = (np.zeros(size, np.int64) for size in (2 * tickets(threads) // 8, items, items))
        arguments = np.array([counters.ctypes.data, first.ctypes.data, second.ctypes.data, items, tickets(threads)])
        call(arguments.ctypes.data)
        assert np.array_equal(first, 2 * np.arange(items))
        assert np.array_equal(second[:-1], 4 * np.arange(items - 1) + 2)


def test_arguments_keep_their_arrays() -> None:
    first, second = np.arange(3.0), np.arange(5.0)
    arguments = Arguments(np, ("x", "count", "other"), {"x": first, "count": 7})
    words = np.ctypeslib.as_array((ctypes.c_int64 * 3).from_address(arguments.address))
    assert words.tolist() == [first.ctypes.data, 7, 0]
    assert arguments.bytes == first.nbytes
    arguments.point("x", second)
    arguments.point("other", second)
    assert words.tolist() == [second.ctypes.data, 7, second.ctypes.data]
    place = weakref.ref(second)
    del second
    assert place() is not None, "the kernel has but its address"
    with pytest.raises(AssertionError, match="nothing"):
        Arguments(np, ("x",), {"nothing": 1})


def test_how_far_apart_threads_are() -> None:
    assert round_trip(1) is None
    assert not are_far_apart(1)
    found = round_trip(2)
    assert found is None or found > 0
    usual = numba.get_num_threads()
    numba.set_num_threads(1)  # the two come one after the other: both give up, and nobody waits for ever
    try:
        assert round_trip(2) is None
    finally:
        numba.set_num_threads(usual)


# The micro-kernels


ANY_ROWS = "pippii" + "i" * 6


def any_rows(program: Program, code: Code, panels: int, weights: Weights) -> None:
    """Products of planes whose rows are cut on the spot."""
    a, slab, b, c, rows, depth, *steps = code.arguments
    cut = cut_rows(program, code, rows, depth, slab, panels, weights)
    asks = Asks(for_a=True, once=False, for_result=True)
    written = (c, 0, 2, 3, LINE)  # the first plane asks for two lines of c, in runs of three
    code.call(program.function(PANEL, panel, panels, asks, weights), a, slab, b, c, depth, *cut, *steps, *written)


@EVERYWHERE
@pytest.mark.parametrize("weights", [FLOAT32, FIXED24])
@pytest.mark.parametrize("panels", [1, 2])
@pytest.mark.parametrize(("rows", "depth", "planes"), [(1, 1, 1), (2, 200, 3), (7, 96, 1), (30, 97, 2), (61, 33, 1)])
def test_products_of_any_size(
    target: Target, rows: int, depth: int, planes: int, panels: int, weights: Weights
) -> None:
    a, b = floats(planes, -(-depth // BLOCK), rows + 2, BLOCK), floats(2, planes, depth + 3, BLOCK)
    whole, u = weights.room(Cpu(1), (2, planes), depth + 3)
    weights.pack(np, b, u)
    c = np.full((2, planes, rows + 1, BLOCK), 5, np.float32)
    steps = [planes, a[0].nbytes, u[0, 0].nbytes, c[0, 0].nbytes, u[0].nbytes, c[0].nbytes]
    run(target, ANY_ROWS, any_rows, [a, 4 * BLOCK * (rows + 2), u, c, rows, depth, *steps], panels, weights)
    for plane in range(planes):
        whole = a[plane, :, :rows].transpose(1, 0, 2).reshape(rows, -1)[:, :depth].astype(float)
        for i in range(panels):
            np.testing.assert_allclose(c[i, plane, :rows], whole @ b[i, plane, :depth], rtol=1e-4, atol=1e-4)
    assert (c[:, :, rows] == 5).all()
    assert (c[panels:] == 5).all()


def test_a_panel_without_a_neighbour_meets_the_same_filters_twice() -> None:
    a, b = floats(6, 9, BLOCK), floats(96, BLOCK)
    c = np.zeros((2, 9, BLOCK), np.float32)
    run(host(), ANY_ROWS, any_rows, [a, a[0].nbytes, b, c, 9, 96, 1, 0, 0, 0, 0, c[0].nbytes], 2, FLOAT32)
    assert np.array_equal(c[0], c[1])
    assert c.any()


def test_a_peak_is_a_number() -> None:
    assert 1e8 < multiply_add_peak(1, seconds=0.0) < 1e13
