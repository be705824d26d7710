"""fft on CUDA without a GPU: cuFFT's plans by a fake one; sizes, chunks, frequencies and filters of fft.tiled."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_devices import ODD, ArrayDevice, FakeCufft, Recorder
from cuda_host.device import HostDevice

from convbench.algorithms.fft import full, tiled
from convbench.algorithms.fft.tiled import Work, filter_spectra, frequencies
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
CONV2 = "c96h27w27k256r5s5p2g2"
CONV3 = "c256h13w13k384r3s3p1"


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
@pytest.mark.parametrize("gauss", [False, True])
@pytest.mark.parametrize("size", [(8, 32), (16, 8), (16, 32), (32, 16)])
def test_sides_of_any_two_sizes_in_chunks(size: tuple[int, int], gauss: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(parse_shape("n3c4h37w31k6r3s4u2x1p1x2d1x2g2"))
    work = Work(problem.shape, size, gauss)
    monkeypatch.setattr(tiled, "MOST_BYTES", work.tile_bytes * (work.tiles - 1) // 2)
    device: Any = HostDevice(cache_bytes=1)
    plan = tiled.kernels(problem, device, work)
    assert "tiles at a time" in plan.note
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    assert device.launches == 2 * work.phases * -(-work.tiles // work.chunk(1))
    assert judge(y, truth(x, w, problem.shape)).error < 4e-7  # half the digits a direct sum loses, and far from 1e-5


def test_gauss_is_taken_where_products_outweigh_the_third_plane() -> None:
    works = [Work(parse_shape(f"n128{CONV3}"), (16, 16), gauss) for gauss in (False, True)]
    assert works[1].product_flops * 4 == works[0].product_flops * 3
    assert works[1].tile_bytes * 2 == works[0].tile_bytes * 3
    assert works[1].cost < works[0].cost
    thin = [Work(parse_shape("n128c8h13w13k8r3s3p1"), (16, 16), gauss) for gauss in (False, True)]
    assert thin[0].cost < thin[1].cost


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
    monkeypatch.setattr(tiled, "PREPARE_BYTES", budget)
    _, w = problem.operands(1)
    spectra = filter_spectra(np, w, work)
    assert spectra.dtype == np.complex64
    assert spectra.shape == (work.planes, work.channels, work.filters)
    s, rows, columns = problem.shape, work.rows, work.columns
    planes = filter_spectra(np, w, Work(problem.shape, size, gauss=True))
    assert planes.dtype == np.float32
    real, imaginary, both = planes.reshape(3, *spectra.shape)
    np.testing.assert_array_equal(real + 1j * imaginary, spectra)
    np.testing.assert_allclose(both, real + imaginary, atol=1e-8)
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


@pytest.mark.parametrize(
    ("word", "size"), [(f"n128{CONV2}", (32, 32)), (f"n128{CONV3}", (16, 16)), ("n4c64h6w6k64r3s3p1", (8, 8))]
)
def test_the_cheapest_size_is_taken(word: str, size: tuple[int, int]) -> None:
    plan = tiled.on_cuda(Problem(parse_shape(word)), Recorder())  # type: ignore[arg-type]
    assert plan.note.startswith(f"{size[0]}x{size[1]} points, 1 tile an image")


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


def test_a_chunk_stays_in_the_cache_where_that_moves_fewer_bytes() -> None:
    few_filters = Work(parse_shape("n256c8h112w112k8r3s3p1"), (16, 16))
    chunk = few_filters.chunk(200 << 20)
    assert chunk % tiled.COLUMN_STEP == 0
    assert chunk * few_filters.tile_bytes <= tiled.CACHE_PART * (200 << 20) < few_filters.tiles * few_filters.tile_bytes
    many_filters = Work(parse_shape(f"n128{CONV3}"), (16, 16))
    assert many_filters.chunk(50 << 20) == many_filters.tiles == 128


def test_a_chunk_has_at_least_one_tile_and_at_most_all() -> None:
    work = Work(parse_shape(f"n3{CONV2}"), (16, 32))
    assert work.tiles == 9
    assert tiled.whole_steps(0, 9) == 1
    assert tiled.whole_steps(5, 9) == 5
    assert tiled.whole_steps(70, 99) == 64
    assert tiled.whole_steps(100, 99) == 99
    assert work.chunk(1) == 9


def test_spectra_are_bounded_however_large_the_images() -> None:
    device: Any = Recorder()
    problem = Problem(parse_shape("n128c64h224w224k64r3s3p1"))
    plan = tiled.on_cuda(problem, device)
    assert 0 < plan.workspace <= tiled.MOST_BYTES
    assert "tiles at a time" in plan.note


def test_flops_are_those_of_products_and_transforms() -> None:
    plan = tiled.on_cuda(Problem(parse_shape(f"n128{CONV3}")), Recorder())  # type: ignore[arg-type]
    products = 6 * 130 * 256 * 384 * 128
    transforms = (256 + 384) * 128 * (8 + 8) * 5 * 16 * 4
    assert plan.flops == products + transforms
