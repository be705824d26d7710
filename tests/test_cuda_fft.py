"""fft on CUDA without a GPU: cuFFT's plans by a fake one; sizes, chunks, frequencies and filters of the tiles."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_devices import ODD, ArrayDevice, FakeCufft, Recorder
from cuda_host.device import HostDevice

from convbench.algorithms.base import Unsupported
from convbench.algorithms.fft import cuda, full, tiled
from convbench.algorithms.fft.cuda import SIZES, Work, filter_spectra, filter_spectra_in_halves, frequencies
from convbench.algorithms.gpu import MOST_BYTES
from convbench.algorithms.halves import TERMS
from convbench.devices import cufft
from convbench.devices.cuda import Cuda
from convbench.problem import PRECISIONS, Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

MORE = (
    "n2c5h30w1k3r7s1p3x0",
    "n7c5h1w1k4r1s1",
    "n2c3h1w5k4r1s1u1x5",
)
CONV1 = "c3h227w227k96r11s11u4"
CONV2 = "c96h27w27k256r5s5p2g2"
CONV3 = "c256h13w13k384r3s3p1"
KINDS = [("float32", 0), ("float32", TERMS), ("tf32", 1), ("float16", 1)]  # precisions, and terms of a product


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("cache_bytes", [1, 30000, 1 << 24])
@pytest.mark.parametrize("word", [*ODD, *MORE])
def test_full_on_cuda_gives_the_right_answer_and_plans_nothing_in_run(
    word: str, cache_bytes: int, precision: str
) -> None:
    problem = Problem(parse_shape(word), precision)
    device: Any = ArrayDevice(cache_bytes)
    FakeCufft.made.clear()
    plan = full.full(problem, device)
    made = list(FakeCufft.made)
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, precision)
    prepared = plan.prepare(w)
    for _ in range(2):  # the second finds what the first left behind
        plan.run(x, prepared, y)
        assert judge(y, truth(x, w, problem.shape)).error < problem.number.tolerance
    assert made == FakeCufft.made
    work = sum(each.work_area.mem.size for each in made)
    assert plan.workspace >= work + (2 * PRECISIONS[precision].bytes * problem.shape.k if made else 0)


def test_work_areas_are_counted() -> None:
    few, more = (
        (
            cufft.rfft2(np, FakeCufft, counts, (3, 3), (4, 6), "float32"),
            cufft.irfft2(np, FakeCufft, counts, (4, 6), "float32"),
        )
        for counts in ((5,), (5, 2))
    )
    assert [b.nbytes - a.nbytes for a, b in zip(few, more, strict=True)] == [512 * 2, 512 * 2]
    assert few[0].nbytes == 512 * 5 + 5 * (4 * 6 * 4 + 4 * 4 * 8)


def test_the_device_plans_with_cupys_cufft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
    monkeypatch.setitem(sys.modules, "cupy.cuda", SimpleNamespace(cufft=FakeCufft))
    device = Cuda.__new__(Cuda)
    device.xp = np
    forward, inverse = device.rfft2((3,), (2, 4), (4, 6), "float32"), device.irfft2((3,), (4, 6), "float32")
    images = np.random.default_rng(1).standard_normal((3, 2, 4))
    forward.source(3)[...] = images
    inverse.source(3)[...] = forward.run(3)
    np.testing.assert_allclose(inverse.run(3)[:, :2, :4] * inverse.factor, images, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (1, 6), (1, 7), (6, 1), (1, 1)])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_transforms_are_those_of_numpy(size: tuple[int, int], precision: str) -> None:
    window = (max(1, size[0] - 1), max(1, size[1] - 2))
    images = np.random.default_rng(1).standard_normal((3, *window)).astype(precision)
    forward = cufft.rfft2(np, FakeCufft, (5, 3), window, size, precision)
    forward.source(5)[...] = 7
    forward.source(3)[...] = images
    spectra = forward.run(3).copy()
    np.testing.assert_allclose(spectra, np.fft.rfft2(images, size), atol=1e-5)
    inverse = cufft.irfft2(np, FakeCufft, (3,), size, precision)
    inverse.source(3)[...] = spectra
    again = inverse.run(3) * inverse.factor
    assert again.dtype == precision
    np.testing.assert_allclose(again[:, : window[0], : window[1]], images, atol=1e-5)


@pytest.mark.usefixtures("host_compiler")
@pytest.mark.parametrize(("precision", "terms"), KINDS)
@pytest.mark.parametrize("size", [(8, 32), (16, 8), (16, 32), (32, 16)])
def test_sides_of_any_two_sizes_in_chunks(
    size: tuple[int, int], precision: str, terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(parse_shape("n3c4h37w31k6r3s4u2x1p1x2d1x2g2"), precision)
    work = Work(problem.shape, size, terms)
    monkeypatch.setattr(cuda, "MOST_BYTES", work.tile_bytes * (work.tiles - 1) // 2)
    device: Any = HostDevice()
    plan = cuda.kernels(problem, device, work)
    assert "tiles at a time" in plan.note
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, problem.storage)
    plan.run(x, plan.prepare(w), y)
    assert device.launches == 2 * work.phases * -(-work.tiles // work.chunk) + (terms > 0)
    # float32: half the digits a direct sum loses, and far from 1e-5
    assert judge(y, truth(x, w, problem.shape)).error < (4e-7 if precision == "float32" else 7e-4)


def test_terms_are_counted() -> None:
    shape, size = parse_shape(f"n128{CONV3}"), (16, 16)
    plain, one, three = (Work(shape, size, terms) for terms in (0, 1, TERMS))
    assert [each.product_flops // plain.product_flops for each in (plain, one, three)] == [1, 1, 3]
    assert [each.tile_bytes // 130 for each in (plain, one, three)] == [
        8 * (256 + 384),
        4 * (256 + 384),  # all in halves
        12 * 256 + 8 * 384,  # V in three terms, M in float32
    ]
    assert [each.filter_bytes // (130 * 256 * 384) for each in (plain, one, three)] == [8, 8, 24]
    assert one.cost < three.cost < plain.cost


def mirrored(spectrum: Any, size: tuple[int, int]) -> Any:
    """A real image's whole spectrum [..., L_h, L_w] from the frequencies that are kept, in their order."""
    whole = np.full((*spectrum.shape[1:], *size), np.nan, complex)
    for value, (f, h) in zip(spectrum, frequencies(size), strict=True):
        whole[..., f, h] = value
        whole[..., -f % size[0], -h % size[1]] = value.conj()
    return whole


@pytest.mark.parametrize("size", [(8, 8), (8, 32), (16, 8), (32, 16)])
def test_the_frequencies_kept_say_all_of_a_real_image(size: tuple[int, int]) -> None:
    kept = frequencies(size)
    assert len(kept) == len(set(kept)) == size[0] * (size[1] // 2 - 1) + 2 * (size[0] // 2 + 1)
    image = np.random.default_rng(0).standard_normal(size)
    spectrum = np.fft.fft2(image)
    np.testing.assert_allclose(mirrored(np.array([spectrum[pair] for pair in kept]), size), spectrum)


@pytest.mark.parametrize("word", [(*ODD, *MORE)[0], (*ODD, *MORE)[1], (*ODD, *MORE)[2], (*ODD, *MORE)[3]])
@pytest.mark.parametrize("budget", [1, 4000, 1 << 20])
def test_filters_are_transformed_in_parts(word: str, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(parse_shape(word))
    size = (16, 8)
    work = Work(problem.shape, size)
    monkeypatch.setattr(cuda, "PREPARE_BYTES", budget)
    _, w = problem.operands(1)
    spectra = filter_spectra(np, w, work)
    assert spectra.dtype == np.complex64
    assert spectra.shape == (work.planes, work.channels, work.filters)
    s, rows, columns = problem.shape, work.rows, work.columns
    filters = mirrored(spectra.reshape(-1, s.groups, work.channels, work.filters), size)
    taps = np.fft.ifft2(filters.conj()).real * 2 * size[0] * size[1]
    split = (s.groups, s.c // s.groups, rows.in_phases, columns.in_phases, work.filters)
    for (g, c, i, j, k), r, t in (
        (index, r, t) for index in np.ndindex(split) for r in range(size[0]) for t in range(size[1])
    ):
        channel = (c * rows.in_phases + i) * columns.in_phases + j
        r_full, s_full = r * rows.in_phases + i, t * columns.in_phases + j
        inside = r < rows.length and t < columns.length and r_full < s.r and s_full < s.s
        expected = w[g * work.filters + k, c, r_full, s_full] if inside else 0
        assert abs(taps[g, channel, k, r, t] - expected) < 1e-5


def parts_of(u: Any, work: Work) -> Any:
    """[terms, frequencies, groups, channels, filters] complex128 of filter_spectra_in_halves, its form checked."""
    split = u.reshape(work.frequencies, work.shape.groups, work.terms, work.channels, 2, work.filters, 2)
    a, b = (split[..., 0, :, i].astype(np.float64) for i in range(2))
    np.testing.assert_array_equal(split[..., 1, :, 0], -b)
    np.testing.assert_array_equal(split[..., 1, :, 1], a)
    return np.moveaxis(a + 1j * b, 2, 0)


@pytest.mark.parametrize("terms", [1, TERMS])
@pytest.mark.parametrize("budget", [1, 4000, 1 << 20])
@pytest.mark.parametrize("word", [ODD[1], ODD[0], MORE[0]])
def test_filters_in_halves_are_those_of_float32(
    word: str, budget: int, terms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = Problem(parse_shape(word))
    work = Work(problem.shape, (16, 8), terms)
    monkeypatch.setattr(cuda, "PREPARE_BYTES", budget)
    _, w = problem.operands(1)
    w *= np.logspace(-30, 30, problem.shape.k, dtype=np.float32)[:, None, None, None]
    w[1] = 0
    u, unscale = filter_spectra_in_halves(np, w, work)
    assert (u.dtype, unscale.dtype) == (np.float16, np.float32)
    assert u.shape == (work.planes, 2 * terms * work.channels, 2 * work.filters)
    assert np.isfinite(u).all()
    parts = parts_of(u, work)
    if terms == TERMS:
        np.testing.assert_array_equal(parts[0], parts[2])
    got = (parts[0] if terms == 1 else parts[0] + parts[1]) * unscale.reshape(-1, 1, work.filters).astype(np.float64)
    want = filter_spectra(np, w, work).reshape(got.shape)
    largest = np.abs(want).max(axis=(0, 2), keepdims=True)
    assert (np.abs(got - want) <= 2.0 ** (-9 if terms == 1 else -20) * largest).all()
    assert np.abs(parts[0]).max() <= 2.0**15


@pytest.mark.parametrize(
    ("word", "terms", "size"),
    [
        (f"n128{CONV2}", 0, (32, 32)),
        (f"n128{CONV3}", 0, (16, 16)),
        (f"n128{CONV3}", TERMS, (16, 16)),
        ("n4c64h6w6k64r3s3p1", 0, (8, 8)),
        ("n4c64h6w6k64r3s3p1", 1, (8, 8)),
    ],
)
def test_the_cheapest_size_is_taken(word: str, terms: int, size: tuple[int, int]) -> None:
    plan = cuda.plan(Problem(parse_shape(word)), Recorder(), terms)  # type: ignore[arg-type]
    assert plan.note.startswith(f"{size[0]}x{size[1]} points, 1 tile an image")


def test_rows_that_end_within_a_sector_are_weighed_where_y_is_large() -> None:
    conv1 = parse_shape(f"n128{CONV1}")
    assert Work(parse_shape(f"n128{CONV3}"), (16, 16)).broken_rows_bytes == 0
    assert Work(conv1, (16, 32), TERMS).broken_rows_bytes == cuda.BROKEN_ROW_BYTES * 128 * 8 * 96 * 14
    for cache_bytes, size in ((50 << 20, "16x32 points"), (1 << 30, "16x16 points")):
        device: Any = Recorder(cache_bytes=cache_bytes)
        assert cuda.plan(Problem(conv1), device, TERMS).note.startswith(size)


@pytest.mark.parametrize(
    ("word", "precision"),
    [
        ("n2c3h9w9k4r3s3", "float64"),
        ("n7c5h6w6k4r6s6", "float32"),  # nothing slides
        ("n7c5h1w9k4r1s3", "float32"),  # an axis of one point
        ("n1c2h40w40k3r33s3", "float32"),  # taps that 32 points do not hold
    ],
)
def test_array_code_takes_the_rest(word: str, precision: str) -> None:
    device: Any = Recorder()
    problem = Problem(parse_shape(word), precision)
    plan = tiled.on_cuda(problem, device)
    assert device.modules == []
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, precision)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, problem.shape)).error < problem.number.tolerance


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("word", ["n7c5h1w9k4r1s3", "n1c2h40w40k3r33s3"])
def test_halves_are_for_what_the_kernels_take(word: str, precision: str) -> None:
    device: Any = Recorder()
    with pytest.raises(Unsupported, match="32 points a side at most"):
        tiled.on_cuda(Problem(parse_shape(word), precision), device)
    with pytest.raises(Unsupported, match="32 points a side at most"):
        tiled.split3_on_cuda(Problem(parse_shape(word)), device)


def test_chunks_are_as_large_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(parse_shape(f"n3{CONV2}"), (16, 32))
    assert work.tiles == work.chunk == 9
    assert cuda.whole_steps(0, 9) == 1
    assert cuda.whole_steps(5, 9) == 5
    assert cuda.whole_steps(70, 99) == 64
    assert cuda.whole_steps(100, 99) == 99
    for tiles in (1, 5, 8):
        monkeypatch.setattr(cuda, "MOST_BYTES", tiles * work.tile_bytes)
        assert work.chunk == tiles
    monkeypatch.setattr(cuda, "MOST_BYTES", 1)
    assert work.chunk == 1


@pytest.mark.parametrize("terms", [0, 1, TERMS])
def test_spectra_are_bounded_however_large_the_images(terms: int) -> None:
    device: Any = Recorder()
    problem = Problem(parse_shape("n128c64h224w224k64r3s3p1"))
    plan = cuda.plan(problem, device, terms)
    assert 0 < plan.workspace <= MOST_BYTES
    assert "tiles at a time" in plan.note


@pytest.mark.parametrize("word", ["n2c3h9w9k4r3s3", "n2c3h70w70k4r2s31", "n1c3h99w99k4r9s3u4x2p1d1x3"])
def test_no_spectrum_is_larger_than_the_headroom(word: str) -> None:
    for size in ((h, w) for h in SIZES for w in SIZES):
        work = Work(parse_shape(word), size, TERMS)
        if work.rows.length < size[0] and work.columns.length < size[1]:
            assert 2 * work.rows.window * work.columns.window <= 2 ** work.knobs()["HEADROOM"] <= 2**12


def test_flops_are_those_of_products_and_transforms() -> None:
    products = 8 * 130 * 256 * 384 * 128
    transforms = (256 + 384) * 128 * (8 + 8) * 5 * 16 * 4
    for terms, times in ((0, 1), (1, 1), (TERMS, 3)):
        plan = cuda.plan(Problem(parse_shape(f"n128{CONV3}")), Recorder(), terms)  # type: ignore[arg-type]
        assert plan.flops == times * products + transforms
