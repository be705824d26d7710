"""The micro-kernels: products of any size, and the peak that they are held against."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from vector_targets import EVERYWHERE, floats, run

from convbench.algorithms.fused.row_powers import sum_pairs
from convbench.algorithms.fused.sizes import bring_to_size
from convbench.devices.cpu import Cpu
from convbench.vector.build import Program
from convbench.vector.code import Code
from convbench.vector.panel import PANEL, Later, cut_rows, panel
from convbench.vector.peak import multiply_add_peak
from convbench.vector.product import ALL, Asks, Kept, slabs_of, summed_at_once
from convbench.vector.target import Target, host
from convbench.vector.weights import BLOCK, EVEN_PAIRS, FIXED24, FLOAT32, LINE, PAIRS, Weights

ANY_ROWS = "pippii" + "i" * 8
WAYS = (ALL, Kept(12, 16), Kept(1, 2))


def packed(weights: Weights, b: Any, is_complex: bool, size: float = 1.0) -> tuple[Any, list[int], Any]:
    """b [panels, planes, depth, 16] in bytes by panel, or of each two planes a complex point's.

    Also the number of points, and whether sums of theirs are multiplied by; and all planes that are.
    """
    if not is_complex:
        _, u = weights.room(Cpu(1), b.shape[:2], b.shape[2])
        weights.pack(np, b, u, size)
        return u.reshape(len(b), -1), [b.shape[1], 0], b
    points = b.reshape(len(b), -1, 2, *b.shape[2:])
    _, u = weights.room(Cpu(1), points.shape[:2], b.shape[2], weights.point_bytes(b.shape[2]))
    weights.pack_points(np, points, u, np.full(3, size))
    whole = np.concatenate([points, points.sum(axis=2, keepdims=True)], axis=2).reshape(len(b), -1, *b.shape[2:])
    number = [whole.shape[1], 0] if weights.holds_sums else [points.shape[1], 1]
    return u.reshape(len(b), -1), number, whole


def any_rows(program: Program, code: Code, panels: int, weights: Weights, ways: tuple[Kept, ...] = (ALL,)) -> None:
    """Products of planes whose rows are cut on the spot."""
    a, slab, b, c, rows, depth, way, *steps = code.arguments
    cut, chunk = cut_rows(program, code, rows, depth, slab, panels, weights), summed_at_once(depth, weights)
    asks = Asks(for_a=True, once=False, for_result=panels == 1, for_input=not weights.is_scaled, near=panels == 1)
    later = (c, 0, 2, 3, LINE)  # the first plane asks for two lines of c, in runs of three
    made = program.function(PANEL, panel, panels, asks, weights, ways)
    pairs, plane, sums = a + depth // BLOCK * slab, steps[2], slab  # behind each plane of A
    if weights == EVEN_PAIRS:  # behind all of A
        pairs, plane, sums = a + steps[0] * steps[2], (depth + (chunk - 1)) // chunk * slab, slab
    code.call(made, a, slab, b, c, depth, *cut, *steps, *later, *later, way, pairs, plane, sums)


def summed(program: Program, code: Code) -> None:
    """sum_pairs for planes of A, to behind them, as any_rows reads it."""
    a, slab, plane, depth, rows, kept, planes = code.arguments
    step = (depth + (summed_at_once(depth, EVEN_PAIRS) - 1)) // summed_at_once(depth, EVEN_PAIRS) * slab
    for i in code.range(planes):
        code.call(
            program.function("piiipip", sum_pairs),
            a + i * plane, slab, depth, rows, a + planes * plane + i * step, slab, kept,
        )  # fmt: skip


@EVERYWHERE
@pytest.mark.parametrize("weights", [FLOAT32, FIXED24])
@pytest.mark.parametrize("panels", [1, 2])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("rows", "depth", "planes", "way"), [
    (1, 1, 1, 0), (2, 200, 3, 0), (7, 96, 1, 0), (30, 97, 2, 0), (61, 33, 1, 0),
    (5, 48, 2, 1), (3, 34, 1, 2),
])  # fmt: skip
def test_products_of_any_size(
    target: Target, rows: int, depth: int, planes: int, way: int, is_complex: bool, panels: int, weights: Weights
) -> None:
    """What a way leaves out may be anything, but in a sum, which is multiplied by whole."""
    left_out = np.arange(depth) % WAYS[way].stride >= WAYS[way].run
    b = floats(2, planes * (1 + is_complex), depth, BLOCK)
    b[:, :, left_out] *= not is_complex
    u, points, b = packed(weights, b, is_complex)
    planes = b.shape[1]
    a, c = floats(planes, -(-depth // BLOCK), rows + 2, BLOCK), np.full((2, planes, rows + 1, BLOCK), 5, np.float32)
    steps = [*points, a[0].nbytes, weights.before(depth), c[0, 0].nbytes, u[0].nbytes, c[0].nbytes]
    values = [a, a[0, 0].nbytes, u, c, rows, depth, way, *steps]
    run(target, ANY_ROWS, any_rows, values, panels, weights, WAYS)
    for plane in range(planes):
        whole = a[plane, :, :rows].transpose(1, 0, 2).reshape(rows, -1)[:, :depth].astype(float)
        whole[:, left_out] = 0
        for i in range(panels):
            np.testing.assert_allclose(c[i, plane, :rows], whole @ b[i, plane, :depth], rtol=1e-4, atol=1e-4)
    assert (c[:, :, rows] == 5).all()
    assert (c[panels:] == 5).all()


@EVERYWHERE
@pytest.mark.parametrize("panels", [1, 2])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("rows", "depth", "planes"), [(1, 16, 1), (2, 48, 3), (7, 208, 1), (37, 96, 2), (5, 448, 2)])
def test_products_in_pairs(target: Target, rows: int, depth: int, planes: int, is_complex: bool, panels: int) -> None:
    """Rows and columns of any size, what is left behind threes, and sums that join others (448)."""
    slabs, chunk = slabs_of(depth, PAIRS), summed_at_once(depth, PAIRS)
    assert slabs - depth // BLOCK == -(-depth // chunk) == 1 + (depth > 384)
    b = floats(2, planes * (1 + is_complex), depth, BLOCK)
    b *= 10.0 ** np.linspace(-5, 5, BLOCK)
    u, points, b = packed(PAIRS, b, is_complex)
    planes = b.shape[1]
    a = np.full((planes, slabs, rows + 2, BLOCK), np.nan, np.float32)
    numbers = floats(planes, depth // BLOCK, rows, BLOCK) * 10.0 ** np.linspace(-9, 9, rows)[:, None]
    numbers = numbers.astype(np.float32)
    ways = [number for array in (numbers, a) for number in (array, array[0, 0].nbytes, array[0].nbytes)]
    run(target, "piipiiiii", bring_to_size, [*ways, planes, depth, rows], False)
    c = np.full((2, planes, rows + 1, BLOCK), 5, np.float32)
    steps = [*points, a[0].nbytes, PAIRS.before(depth), c[0, 0].nbytes, u[0].nbytes, c[0].nbytes]
    run(target, ANY_ROWS, any_rows, [a, a[0, 0].nbytes, u, c, rows, depth, 0, *steps], panels, PAIRS)
    for plane in range(planes):
        whole = numbers[plane].transpose(1, 0, 2).reshape(rows, -1).astype(float)
        for i in range(panels):
            terms = np.sqrt(whole**2 @ b[i, plane].astype(float) ** 2)
            assert (abs(c[i, plane, :rows] - whole @ b[i, plane]) < 3e-6 * terms).all()
    assert (c[:, :, rows] == 5).all()
    assert (c[panels:] == 5).all()


@EVERYWHERE
@pytest.mark.parametrize("panels", [1, 2])
@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("rows", "depth", "planes", "way"), [
    (1, 16, 1, 0), (2, 48, 3, 0), (7, 208, 1, 0), (37, 96, 2, 0), (5, 48, 2, 1), (19, 112, 1, 1), (3, 144, 2, 2),
])  # fmt: skip
def test_products_in_pairs_of_rows_without_powers(
    target: Target, rows: int, depth: int, planes: int, way: int, is_complex: bool, panels: int
) -> None:
    """What a way leaves out of B is zero, and of A may be anything but NaN."""
    slabs, sums = depth // BLOCK, -(-depth // 48)
    assert slabs_of(depth, EVEN_PAIRS) == slabs
    kept = np.arange(BLOCK) % WAYS[way].stride < WAYS[way].run
    left_out = ~np.tile(kept, slabs)
    b = floats(2, planes * (1 + is_complex), depth, BLOCK)
    b[:, :, left_out] = 0
    u, points, b = packed(EVEN_PAIRS, b, is_complex, 4.0)
    planes = b.shape[1]
    a = floats(planes, slabs, rows, BLOCK)
    room = np.full(planes * (slabs + sums) * (rows + 2) * BLOCK, np.nan, np.float32)
    inner = room[: planes * slabs * (rows + 2) * BLOCK].reshape(planes, slabs, rows + 2, BLOCK)
    inner[:, :, :rows] = a
    inner[:, :, :rows, ~kept] *= 1e6
    strides = [inner[0, 0].nbytes, inner[0].nbytes]
    run(target, "piiiipi", summed, [room, *strides, depth, rows, kept.astype(np.float32), planes])
    c = np.full((2, planes, rows + 1, BLOCK), 5, np.float32)
    steps = [*points, strides[1], EVEN_PAIRS.before(depth), c[0, 0].nbytes, u[0].nbytes, c[0].nbytes]
    run(target, ANY_ROWS, any_rows, [room, strides[0], u, c, rows, depth, way, *steps], panels, EVEN_PAIRS, WAYS)
    for plane in range(planes):
        whole = a[plane].transpose(1, 0, 2).reshape(rows, -1).astype(float)
        for i in range(panels):
            terms = np.sqrt(whole**2 @ b[i, plane].astype(float) ** 2)
            assert (abs(c[i, plane, :rows] - whole @ b[i, plane]) < 6e-6 * terms).all()
    assert (c[:, :, rows] == 5).all()
    assert (c[panels:] == 5).all()


def test_a_panel_without_a_neighbour() -> None:
    """It meets the same filters twice where two go side by side; where they go in turn the second is left alone."""
    a, b = floats(6, 9, BLOCK), floats(96, BLOCK)
    c = np.zeros((2, 9, BLOCK), np.float32)
    run(host(), ANY_ROWS, any_rows, [a, a[0].nbytes, b, c, 9, 96, 0, 1, 0, 0, 0, 0, 0, c[0].nbytes], 2, FLOAT32)
    np.testing.assert_allclose(c[0], a.transpose(1, 0, 2).reshape(9, 96) @ b, rtol=1e-4, atol=1e-4)
    assert np.array_equal(c[1], c[0] if host().panels == 2 else 0 * c[0])


def marked(program: Program, code: Code) -> None:
    """1 in each line that some planes ask for."""
    first, planes, *rest = code.arguments
    later = Later(first, *rest)
    for plane in code.range(planes):
        for line in code.range(later.lines):
            (later.of(plane) + line * LINE).store(code.vector(1.0))


@pytest.mark.parametrize(("runs", "length", "planes"), [(3, 40, 8), (1, 17, 5), (6, 4, 11), (4, 9, 40)])
def test_planes_ask_for_all_runs(runs: int, length: int, planes: int) -> None:
    """All lines of all runs and few beyond them; what straddles an end may miss the first few of the next run."""
    target, step, lines = host(), length + 16, -(-runs * length // planes)
    found = np.zeros((runs + planes, step, BLOCK), np.float32)  # the last plane may ask beyond the last run
    run(target, "piiiii", marked, [found, planes, 0, lines, length, step * LINE])
    asked = found[:runs, :, 0] == 1
    assert asked[:, lines - 1 : length].all()
    assert asked[0, 0]
    assert not asked[:, length + lines :].any()


def test_a_peak_is_a_number() -> None:
    assert 1e8 < multiply_add_peak(1, seconds=0.0) < 1e13
