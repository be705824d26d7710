"""The engine of tiles in vector code: its transforms against their definition, its plans on shapes of every kind."""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from collections.abc import Callable
from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convbench.algorithms.base import Plan
from convbench.algorithms.fft import vector
from convbench.algorithms.fused import plan
from convbench.algorithms.fused.blocks import Caches, Work, cut
from convbench.algorithms.fused.dft import Dft
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.fused.toom import Toom
from convbench.algorithms.fused.values import Complex, Transform
from convbench.algorithms.gemm import gemv
from convbench.algorithms.unit import UnitAxis, axes
from convbench.algorithms.winograd.vector import POINTS
from convbench.devices.cpu import Cpu
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape, parse_shape
from convbench.vector import build, room
from convbench.vector.target import Target

TOOMS: list[Transform] = [
    Toom(window + 1 - taps, taps, *POINTS[window]) for window in POINTS for taps in range(1, window + 1)
]
DFTS: list[Transform] = [
    Dft(window + 1 - taps, taps, window) for window in range(2, 33) for taps in {1, 2, window // 2, window}
]
RINGS = [Dft(outputs, taps, window) for outputs, taps, window in ((13, 3, 14), (27, 5, 30), (6, 5, 6), (7, 7, 9))]
OTHERS: list[Transform] = [Toom(5, 3, (0, 1), (1j, complex(0.5, 0.75**0.5))), Dft(1, 1, 1)]
GUARD, SENTINEL = 4096, 12345.0  # numbers of sentinel on each side


def dft(m: int, taps: int) -> Transform:
    return Dft(m, taps, m + taps - 1)


# Transforms, on plain numbers in the place of vectors


def numbers(value: Complex) -> complex:
    """A Complex as Python's; None is a known zero."""
    return complex(value.re or 0, value.im or 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("axis", [*TOOMS, *DFTS, *RINGS, *OTHERS], ids=repr)
def test_transforms_are_a_convolution(axis: Any) -> None:
    """y_i = sum_k d_(i+k) g_k, real d by one of each pair of points, complex d by all; d may be a ring."""
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(axis.window), rng.standard_normal(axis.taps)
    filters = axis.filter_rows() @ g

    def correlated(values: Any) -> Any:
        return np.correlate(np.resize(values, axis.outputs + axis.taps - 1), g, "valid")

    expected = correlated(d)
    reals, pairs = axis.spectrum(list(d))
    assert (len(reals), len(pairs)) == (axis.reals, axis.pairs)
    real_products = [value * factor.real for value, factor in zip(reals, filters, strict=False)]
    factors = filters[axis.reals : axis.reals + axis.pairs] * axis.pair_weight
    products = [numbers(value) * factor for value, factor in zip(pairs, factors, strict=True)]
    y = axis.result(real_products, [Complex(z.real, z.imag) for z in products])
    assert len(y) == axis.outputs
    np.testing.assert_allclose(np.array(y, float), expected, rtol=0, atol=1e-9 * np.abs(d).sum() * np.abs(g).sum())

    e = rng.standard_normal(axis.window)
    whole = axis.complex_spectrum([Complex(*both) for both in zip(d, e, strict=True)])
    all_products = [numbers(value) * factor for value, factor in zip(whole, filters, strict=True)]
    z = axis.complex_result([Complex(product.real, product.imag) for product in all_products])
    both = expected + 1j * correlated(e)
    np.testing.assert_allclose([numbers(value) for value in z], both, rtol=0, atol=1e-8 * np.abs(g).sum())


def test_planes_of_a_tile() -> None:
    """Three for a complex point: a Fourier tile of 4 has 2 x 2 real points, and 6 other pairs."""
    tile = Tile(dft(2, 3), dft(2, 3))
    assert (tile.columns, tile.planes, len(tile.filters())) == (4, 4 + 3 * 6, 22)
    tile = Tile(Toom(2, 3, (0, 1, -1)), Toom(4, 1, (0, 1, -1)))
    assert (tile.columns, tile.planes, tile.filters().shape) == (4, 16, (16, 3))


# Plans


class Poisoned(Cpu):
    """A CPU whose fresh arrays hold NaN: what is read before it was written shows."""

    def __init__(self, threads: int, caches: tuple[int, int] = (1 << 19, 1 << 25)) -> None:
        """caches: bytes of a core's own and of the shared one, which decide how tiles are cut into blocks."""
        super().__init__(threads)
        self.core_cache_bytes, self.cache_bytes = caches

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        array = super().empty(shape, precision)
        array[...] = np.nan
        return array


def toom(m: int, taps: int) -> Transform:
    return Toom(m, taps, *POINTS[m + taps - 1])


def plan_of(problem: Problem, device: Cpu, make: Callable[[int, int], Transform], m: tuple[int, int]) -> Plan:
    rows, columns = axes(problem.shape, m, 5)
    tile = Tile(make(rows.tile, rows.length), make(columns.tile, columns.length))
    return plan.fused(problem, device, tile, rows, columns, "")


@pytest.mark.parametrize(
    "word", ["n2c20h9w11k40r3s3p1", "n3c7h9w11k16r3s3", "n1c36h14w13k70r3s3p1g2", "n5c50h7w7k33r3s3p1"]
)
def test_panels_side_by_side(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd and even numbers of panels, one by one and in pairs, U kept or not, V in the caches or not: the same bits.

    Whatever this CPU takes by itself: the small caches are too small for U.
    """
    problem = Problem(parse_shape(word))
    for caches in ((1 << 19, 1 << 25), (1 << 15, 1 << 17)):
        found = []
        for side, bars, far in ((1, False, False), (2, False, True), (2, True, False), (2, True, True)):
            monkeypatch.setattr(Target, "panels", side)
            monkeypatch.setattr(Target, "bars_passers", bars)
            monkeypatch.setattr(plan, "are_far_apart", lambda threads, far=far: far)
            x, w = problem.operands(2)
            found.append(answer(plan_of(problem, Poisoned(2, caches), toom, (4, 3)), problem, x, w))
        assert all(np.array_equal(found[0], other) for other in found[1:])
        assert np.linalg.norm(found[0] - convolve(x, w, problem.shape)) < 3e-6 * np.linalg.norm(found[0])


def planned(problem: Problem, device: Cpu, make: Any, m: Any) -> Plan:
    """The engine's plan, or without a transform that of a fully connected layer."""
    return gemv.streaming(problem, device) if make is None else plan_of(problem, device, make, m)


def guarded(size: int) -> tuple[Any, Any]:
    """Room for so many numbers between sentinels: all of it, and the room."""
    slab = np.full(size + 2 * GUARD, SENTINEL, np.float32)
    return slab, slab[GUARD : GUARD + size]


def answer(made: Plan, problem: Problem, x: Any, w: Any) -> Any:
    """y of a call whose x and filters cannot be written, and that wrote nothing but y."""
    slab, room = guarded(int(np.prod(problem.shape.y_shape)))
    y = room.reshape(problem.shape.y_shape)
    prepared = made.prepare(w)
    kept = prepared.copy()
    assert np.isfinite(kept).all()
    x.flags.writeable = w.flags.writeable = False
    made.run(x, prepared, y)
    assert (slab[:GUARD] == SENTINEL).all(), "wrote before y"
    assert (slab[-GUARD:] == SENTINEL).all(), "wrote behind y"
    assert np.array_equal(prepared, kept), "changed the filters"
    return y


def error_of(y: Any, x: Any, w: Any, shape: ConvShape) -> float:
    """Relative to what random signs would give: a sum that happens to cancel is no error."""
    terms = np.sqrt(convolve(x**2, w**2, shape).sum())
    expected = convolve(x, w, shape)
    return float(np.linalg.norm(y - expected) / max(terms, np.linalg.norm(expected), 1e-30))


# Geometries, each of which is compiled: filter, stride and dilation, transform, outputs of a tile.
GEOMETRIES: list[tuple[dict[str, Any], Callable[[int, int], Transform], tuple[int, int]]] = [
    ({"r": 3, "s": 3}, toom, (4, 4)),
    ({"r": 3, "s": 3}, toom, (7, 6)),
    ({"r": 3, "s": 2}, dft, (6, 3)),
    ({"r": 1, "s": 5}, toom, (3, 2)),
    ({"r": 7, "s": 1}, dft, (2, 5)),
    ({"r": 11, "s": 11, "stride": (4, 4)}, toom, (6, 6)),  # four phases in one load
    ({"r": 5, "s": 3, "stride": (2, 3), "dilation": (1, 2)}, toom, (2, 4)),
    ({"r": 3, "s": 3, "dilation": (2, 3)}, dft, (3, 3)),  # outputs by phases
]


@st.composite
def cases(draw: st.DrawFn) -> tuple[ConvShape, Callable[[int, int], Transform], tuple[int, int]]:
    """Pads beyond the filter, groups, channels and filters around 16, images that tiles do not fill, large batches."""
    fixed, make, m = draw(st.sampled_from(GEOMETRIES))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    most = 40 if groups == 1 else 18
    c, k = groups * draw(st.integers(1, most)), groups * draw(st.integers(1, most))
    pad = (draw(st.integers(0, fixed["r"] + 2)), draw(st.integers(0, fixed["s"] + 2)))
    sizes = []
    for taps, p, d in zip((fixed["r"], fixed["s"]), pad, fixed.get("dilation", (1, 1)), strict=True):
        least = max(1, d * (taps - 1) + 1 - 2 * p)
        sizes.append(draw(st.integers(least, least + 20)))
    n = draw(st.integers(1, 4)) if max(c, k, *sizes) > 12 else draw(st.integers(1, 70))
    shape = ConvShape(n=n, c=c, h=sizes[0], w=sizes[1], k=k, pad=pad, groups=groups, **fixed)
    return shape, make, m


@pytest.mark.skipif(platform.machine().lower() not in ("x86_64", "amd64"), reason="names a CPU of another kind")
@pytest.mark.parametrize(
    ("word", "make", "m"),
    [
        ("n2c20h11w13k18r3s3p1", toom, (4, 4)),
        ("n1c3h35w34k20r11s11u4p3", toom, (6, 6)),
        ("n2c6h17w19k34r5s3p1g2", dft, (6, 6)),
        ("n1c300h1w1k70r1s1", None, None),
        ("n7c300h1w1k70r1s1", None, None),
    ],
)
def test_narrower_registers(monkeypatch: pytest.MonkeyPatch, word: str, make: Any, m: Any) -> None:
    """The same on a CPU that has but SSE: this one can run its code."""
    for module in (build, plan, gemv):
        monkeypatch.setattr(module, "host", lambda: Target("nehalem", ""))
    problem = Problem(parse_shape(word))
    x, w = problem.operands(0)
    y = answer(planned(problem, Poisoned(2), make, m), problem, x, w)
    assert error_of(y, x, w, problem.shape) < 3e-6


CACHES = [(1, 1), (40_000, 1 << 20), (1 << 18, 1 << 25), (1 << 20, 1 << 17), (1 << 30, 1 << 30)]


@given(case=cases(), threads=st.integers(1, 3), caches=st.sampled_from(CACHES))
@settings(max_examples=80)
def test_random_shapes(case: Any, threads: int, caches: tuple[int, int]) -> None:
    """Right, with the same bits on one thread, and again: threads and buffers' contents decide nothing."""
    shape, make, m = case
    problem = Problem(shape)
    x, w = problem.operands(0)
    made = plan_of(problem, Poisoned(threads, caches), make, m)
    y = answer(made, problem, x, w)
    assert error_of(y, x, w, shape) < 3e-6
    assert np.array_equal(y, answer(made, problem, x, w))
    if threads > 1:
        alone = plan_of(problem, Poisoned(1, caches), make, m)
        assert np.array_equal(y, answer(alone, problem, x, w))
    assert made.workspace > 0
    assert made.flops >= 0


@given(
    taps=st.integers(1, 13), stride=st.integers(1, 4), dilation=st.integers(1, 4), pad=st.integers(0, 14),
    outputs=st.integers(1, 12), limit=st.integers(1, 5), data=st.data(),
)  # fmt: skip
def test_the_shortest_ring(
    taps: int, stride: int, dilation: int, pad: int, outputs: int, limit: int, data: st.DataObject
) -> None:
    """Read modulo the ring, every phase and piece finds what it would find in line; on a shorter one some do not."""
    size = (outputs - 1) * stride + dilation * (taps - 1) + 1 - 2 * pad + data.draw(st.integers(0, stride - 1))
    assume(size >= 1)
    axis = UnitAxis(size, taps, stride, pad, dilation, outputs, outputs, limit)
    step_phase, step_in, step_piece, _, step = axis.input_strides()
    reach = axis.unit_outputs + axis.length - 1

    def is_right(ring: int) -> bool:
        for psi, phi, piece in np.ndindex(axis.out_phases, axis.in_phases, axis.pieces):
            places = psi * step_phase + phi * step_in + piece * step_piece - pad + step * np.arange(reach)
            line = np.where((places >= 0) & (places < size), places + 1, 0)
            if not np.array_equal(line, np.resize(line[:ring], reach)):
                return False
        return True

    assert axis.unit_outputs <= axis.ring <= reach
    assert is_right(axis.ring)
    assert axis.ring == axis.unit_outputs or not is_right(axis.ring - 1)


@pytest.mark.parametrize(
    "word",
    [
        "n3c20h13w13k18r3s3p1",
        "n2c17h7w28k20r5s5p2",
        "n2c6h15w14k34r7s7u2p3",
        "n2c6h12w13k18r3s3d2p2",
        "n2c5h5w3k20r3s3p5",
        "n1c2h9w9k5r13s13p12",
    ],
)
def test_rings(word: str) -> None:
    """Strides, dilations, pads beyond the filter and filters in pieces, on rings shorter than the windows reach."""
    problem = Problem(parse_shape(word))
    both = axes(problem.shape, None, vector.LONGEST_PIECE)
    rings = [max(axis.ring, axis.length + 1) for axis in both]
    longer = [axis.window for axis in both]
    assert all(ring < window for ring, window in zip(rings, longer, strict=True))
    x, w = problem.operands(0)
    for size in ((rings[0], longer[1]), (rings[0] + 1, rings[1]), (rings[0], rings[1])):
        made = vector.of_size(problem, Poisoned(2), size)
        assert error_of(answer(made, problem, x, w), x, w, problem.shape) < 1e-6


@pytest.mark.parametrize("caches", CACHES)
def test_phases(caches: tuple[int, int]) -> None:
    problem = Problem(parse_shape("n9c20h14w15k20r3s3p1"))
    x, w = problem.operands(0)
    made = plan_of(problem, Poisoned(2, caches), toom, (4, 4))
    y, again = (np.full(problem.shape.y_shape, np.nan, np.float32) for _ in range(2))
    prepared = made.prepare(w)
    made.run(x, prepared, y)
    assert made.phases is not None
    seconds = made.phases(x, prepared, again)
    assert list(seconds) == ["input transform", "products", "output transform"]
    assert min(seconds.values()) > 0
    assert np.array_equal(y, again)


@pytest.mark.parametrize("word", ["n9c40h13w13k256r3s3p1g2", "n7c96h14w14k128r3s3p1g2"])
def test_one_group_at_a_time(word: str) -> None:
    """Where blocks of all groups are too small for filters from memory: the same bits."""
    problem = Problem(parse_shape(word))
    x, w = problem.operands(0)
    found, groups = [], []
    for caches in ((1 << 19, 1 << 18), (1 << 13, 1 << 30)):
        device = Poisoned(2, caches)
        made = plan_of(problem, device, toom, (4, 4))
        rows, columns = axes(problem.shape, (4, 4), 5)
        tile = Tile(toom(4, 3), toom(4, 3))
        blocks = cut(tile, plan.work_of(problem, tile, rows, columns), plan.caches_of(device))
        assert not blocks.private
        groups.append(blocks.groups)
        found.append(answer(made, problem, x, w))
    assert groups == [1, 2]
    assert np.array_equal(*found)
    assert error_of(found[0], x, w, problem.shape) < 3e-6


def test_plans_share_their_rooms_and_nothing_else() -> None:
    """Each finds what another left, or larger rooms than its own; the bits are those on a device of its own."""
    words = ("n2c20h9w11k40r3s3p1", "n5c50h17w17k33r3s3p1", "n1c7h5w5k16r3s3p1")
    for caches in ((1 << 19, 1 << 25), (1 << 15, 1 << 17)):
        device, cases = Poisoned(2, caches), []
        for word in words:
            problem = Problem(parse_shape(word))
            x, w = problem.operands(0)
            alone = answer(plan_of(problem, Poisoned(2, caches), toom, (4, 4)), problem, x, w)
            cases.append((plan_of(problem, device, toom, (4, 4)), problem, x, w, alone))
        for made, problem, x, w, alone in [*cases, *cases[::-1]]:
            assert np.array_equal(answer(made, problem, x, w), alone)
        held = [room.nbytes for room in room._rooms[device].values()]
        assert sum(held) < sum(case[0].workspace for case in cases)


def test_rooms_are_weighed_with_each_plan() -> None:
    """Also where another plan's would do."""
    problem = Problem(parse_shape("n5c50h27w27k33r3s3p1"))
    device = Cpu(2)
    x, w = problem.operands(0)
    y = device.empty(problem.shape.y_shape, "float32")

    def whole() -> None:
        made = plan_of(problem, device, toom, (4, 4))
        made.run(x, made.prepare(w), y)
        found.append(made.workspace)

    found: list[int] = []
    peaks = [device.peak(whole) for _ in range(3)]
    assert min(peaks[1:]) >= found[-1]


@given(
    images=st.integers(1, 70), rows=st.integers(1, 60), tiles=st.integers(1, 60), groups=st.integers(1, 4),
    depth=st.integers(1, 40), threads=st.integers(1, 64), caches=st.sampled_from(CACHES),
)  # fmt: skip
def test_blocks(
    images: int, rows: int, tiles: int, groups: int, depth: int, threads: int, caches: tuple[int, int]
) -> None:
    """Whole images, or rows of one; blocks of a thread's own fit its cache."""
    tile = Tile(toom(4, 3), toom(4, 3))
    work = Work(images, rows, tiles, groups, 64 * depth)
    blocks = cut(tile, work, Caches(*caches, threads))
    assert 1 <= blocks.images <= images
    assert 1 <= blocks.tile_rows <= rows
    assert blocks.images == 1 or blocks.tile_rows == rows
    if blocks.private and blocks.tile_rows > 1:
        assert blocks.images * blocks.tile_rows * tiles * tile.planes * 64 * depth <= caches[0]


# Reads and writes at the very edge of memory


class Page:
    """Numbers next to memory that must not be touched: at the end of a page, or at the beginning of one."""

    def __init__(self, array: Any, at_end: bool) -> None:
        page = mmap.PAGESIZE
        inner = -(-array.nbytes // page) * page
        self.map = mmap.mmap(-1, inner + 2 * page)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        libc = ctypes.CDLL(None, use_errno=True)
        for edge in (start, start + page + inner):
            assert libc.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
        offset = page + (inner - array.nbytes if at_end else 0)
        self.array = np.frombuffer(self.map, np.float32, array.size, offset).reshape(array.shape)
        self.array[...] = array


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by mprotect")
@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize(
    ("word", "make", "m"),
    [
        ("n2c3h7w5k5r3s3p1", toom, (4, 4)),
        ("n1c17h9w33k18r3s3p2", toom, (4, 4)),
        ("n1c3h1w1k1r3s3p4", toom, (4, 4)),
        ("n1c3h35w34k20r11s11u4p3", toom, (6, 6)),
        ("n1c2h13w14k3r3s3d2x3p1", dft, (3, 3)),
        ("n1c75h3w3k21r3s3", None, None),
        ("n9c1h1w5k3r1s5", None, None),
    ],
)
def test_nothing_is_touched_outside(word: str, make: Any, m: Any, at_end: bool) -> None:
    problem = Problem(parse_shape(word))
    device = Poisoned(2)
    host_x, w = problem.operands(0)
    x, y = Page(host_x, at_end), Page(np.zeros(problem.shape.y_shape, np.float32), at_end)
    made = planned(problem, device, make, m)
    made.run(x.array, made.prepare(w), y.array)
    assert error_of(y.array, host_x, w, problem.shape) < 3e-6
