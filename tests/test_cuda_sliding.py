"""gemm.implicit where filters slide: the copy by its definition, every cut's kernel compiled, and run on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pytest
from cuda_devices import ODD, Recorder
from cuda_host.device import HostDevice
from hypothesis import given
from hypothesis import strategies as st
from test_cuda_compile import check
from test_cuda_implicit import staged_copy

from convbench.algorithms.gemm import implicit_sliding
from convbench.algorithms.gemm.implicit_sliding import ROOM, Cut
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

MORE = (
    "n2c5h3w4k2r2s2p8",  # padding wider than what the filter reaches
    "n1c10h9w9k3r3s3u2p1",
    "n2c3h8w9k4r2s3p1x2d1x2",
)
LAYERS = [layer.shape.with_batch(batch) for layer in load("alexnet").layers[:5] for batch in (1, 16, 128)]


@pytest.mark.parametrize("chunk", [4, 8])
@pytest.mark.parametrize("word", [*ODD, *MORE])
def test_a_tap_is_the_same_step_from_every_place(word: str, chunk: int) -> None:
    problem = Problem(parse_shape(word))
    s, found = problem.shape, implicit_sliding.copy_of(problem.shape, chunk)
    assert found is not None
    copy, slab = found
    assert slab % 2 == 0
    assert copy.channels % (slab * chunk) == 0
    x, w = problem.operands(1)
    places = staged_copy(x.astype(np.float64), problem, copy).reshape(-1, s.groups, copy.channels)
    cut = Cut(copy, copy.channels // (slab * chunk), slab, 64, 64, 1, prod(copy.taps), 1, 4)
    sources = implicit_sliding.sources_of(s, cut, chunk).reshape(cut.slabs, *copy.taps, slab * chunk)
    filters = np.concatenate([w.reshape(s.k, -1), np.zeros((s.k, 1))], axis=1)[:, sources]
    y, k = np.zeros(s.y_shape), s.k // s.groups
    for n, p, q, r, i in np.ndindex(s.n, s.p, s.q, *copy.taps):
        place = (n * copy.size[0] + p) * copy.size[1] + q
        place += r * copy.reach[0] * copy.size[1] + i * copy.reach[1]
        if place < len(places):  # beyond them all is zero
            for group in range(s.groups):
                of = slice(group * k, (group + 1) * k)
                y[n, of, p, q] += filters[of, :, r, i].reshape(k, -1) @ places[place, group]
    assert judge(y, truth(x, w, s)).error < 1e-12


def cuts(word: str, precision: str) -> Iterator[Cut]:
    problem = Problem(parse_shape(word), precision)
    chunk = 16 // problem.number.bytes
    found = implicit_sliding.copy_of(problem.shape, chunk)
    assert found is not None
    for cut in implicit_sliding.cuts(problem.shape, *found, chunk):
        if cut.fits:
            yield cut


def test_strides_with_dilation_do_not_slide() -> None:
    assert implicit_sliding.copy_of(parse_shape("n1c3h20w20k9r5s5u2d2"), 8) is None


@given(st.sampled_from(LAYERS), st.sampled_from(["tf32", "float16"]))
def test_every_slab_and_tap_is_in_one_share(shape: Any, precision: str) -> None:
    problem = Problem(shape, precision)
    chunk = 16 // problem.number.bytes
    found = implicit_sliding.copy_of(shape, chunk)
    assert found is not None
    for cut in implicit_sliding.cuts(shape, *found, chunk):
        along, across = -(-cut.slabs // cut.share_slabs), -(-cut.taps // cut.share_taps)
        assert cut.shares == along * across
        assert cut.share_slabs == 1 or cut.share_taps == cut.taps
        assert (along - 1) * cut.share_slabs < cut.slabs
        assert (across - 1) * cut.share_taps < cut.taps


def test_uneven_shares_are_not_counted_twice() -> None:
    word, precision = "n1c384h13w13k256r3s3p1g2", "float16"
    problem, flops = Problem(parse_shape(word), precision), set()
    for cut in cuts(word, precision):
        if (cut.filters, cut.pixels) == (64, 64):
            device: Any = Recorder()
            flops.add(implicit_sliding.plan_of(problem, device, cut).flops)
    assert flops == {2 * 2 * 2 * 64 * 256 * 384 // 2 * 9}  # groups, tiles, filters, places, channels, taps


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("shape", LAYERS, ids=str)
def test_what_is_chosen_fits_and_fills_the_gpu(shape: Any, precision: str) -> None:
    problem = Problem(shape, precision)
    chunk = 16 // problem.number.bytes
    found = implicit_sliding.copy_of(shape, chunk)
    assert found is not None
    cut = implicit_sliding.best_cut(problem, *found, chunk)
    assert cut is not None
    assert cut.shared_bytes <= ROOM
    assert cut.shared_bytes * cut.resident <= 228 << 10
    assert cut.tiles * cut.shares >= 48
    assert cut.shares == 1 or cut.tiles < 132


TILES = implicit_sliding.TILES


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("word", ["n128c256h13w13k384r3s3p1", "n128c96h27w27k256r5s5p2g2", "n128c3h227w227k96r11s11u4"])
def test_every_cut_compiles_without_spills(word: str, precision: str) -> None:
    problem, seen = Problem(parse_shape(word), precision), set()
    for cut in cuts(word, precision):
        if cut.shares == 1 and (cut.filters, cut.pixels, cut.resident) not in seen:
            seen.add((cut.filters, cut.pixels, cut.resident))
            device: Any = Recorder()
            implicit_sliding.plan_of(problem, device, cut)
            check(device.modules[0], 90)
    assert {tile[:2] for tile in seen} == set(TILES)


def error_of(cut: Cut, word: str, precision: str, edit: Any = None) -> float:
    problem = Problem(parse_shape(word), precision)
    x, w = problem.operands(1)
    device: Any = HostDevice(seed=2, edit=edit)
    plan = implicit_sliding.plan_of(problem, device, cut)
    y = np.full(problem.shape.y_shape, np.nan, problem.storage)
    plan.run(x, plan.prepare(w), y)
    return judge(y, truth(x, w, problem.shape)).error


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_tile_is_right(tile: tuple[int, int], precision: str) -> None:
    word = "n2c35h9w8k200r2s3p1"
    (cut, *_) = (cut for cut in cuts(word, precision) if (cut.filters, cut.pixels) == tile and cut.shares == 1)
    assert error_of(cut, word, precision) < 4e-4
    if tile[0] > 64:  # the list of planted bugs reaches tiles of one warpgroup alone

        def edit(source: str) -> str:
            return source.replace("threadIdx.x / WARPGROUP * 64) * ROW", "0) * ROW")

        assert error_of(cut, word, precision, edit) > 0.1


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_every_share_is_right(precision: str) -> None:
    word, seen = "n1c140h3w4k7r2s3p1", set()
    for cut in cuts(word, precision):
        if (cut.filters, cut.pixels) == (64, 64) and (cut.shares, cut.stages) not in seen:
            seen.add((cut.shares, cut.stages))
            assert error_of(cut, word, precision) < 4e-4, cut
    assert len({shares for shares, _ in seen}) > 3
