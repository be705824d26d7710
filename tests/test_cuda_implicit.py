"""gemm.implicit on CUDA: its tables and copies by their definitions, its tiles, and every tile's kernel on the CPU."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from cuda_devices import ODD, Recorder
from cuda_host.device import HostDevice
from test_cuda_compile import check

from convbench.algorithms.base import Unsupported
from convbench.algorithms.gemm import channels_last, implicit, implicit_tensor
from convbench.algorithms.gemm.tiling import Tile, best_tiling
from convbench.algorithms.gpu import MULTIPROCESSORS
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

MORE = (
    "n1c2h20w3k2r19s17p1x9",  # more than 32 bits of padding
    "n1c10h9w9k3r3s3u2p1",
)


@pytest.mark.parametrize("word", [*ODD, *MORE])
def test_a_tap_is_outside_where_it_shares_a_bit_with_its_pixel(word: str) -> None:
    problem = Problem(parse_shape(word))
    s = problem.shape
    rows, columns = implicit.padding_bits(problem)
    taps = s.c // s.groups * s.r * s.s
    table = implicit.tap_table(problem, taps + 5)
    assert table.dtype == np.int32
    assert table.shape == (taps + 5, 4 if rows + columns >= 32 else 2)
    uses = table[:, :-1].astype(np.uint32) if table.shape[1] == 2 else table[:, :2].copy().view(np.uint64)
    for p, q in np.ndindex(s.p, s.q):
        row, column = p * s.stride[0] - s.pad[0], q * s.stride[1] - s.pad[1]
        outside = 1 << (rows + columns)  # as source_of in implicit.cu does
        outside |= sum((not 0 <= row + r * s.dilation[0] < s.h) << r for r in range(rows))
        outside |= sum((not 0 <= column + i * s.dilation[1] < s.w) << (rows + i) for i in range(columns))
        for tap in range(taps):
            c, r, i = np.unravel_index(tap, (s.c // s.groups, s.r, s.s))
            h, w = row + int(r) * s.dilation[0], column + int(i) * s.dilation[1]
            inside = 0 <= h < s.h and 0 <= w < s.w
            assert inside == (outside & int(uses[tap, 0]) == 0)
            if inside:
                assert row * s.w + column + table[tap, -1 if table.shape[1] == 2 else 2] == (c * s.h + h) * s.w + w
        assert all(outside & int(bits) for bits in uses[taps:, 0])


def staged_copy(x: Any, problem: Problem, copy: channels_last.Staged) -> Any:
    """What the kernel `layout` writes, by the definition of Staged."""
    s = problem.shape
    out = np.zeros((s.n, *copy.size, s.groups, copy.channels), x.dtype)
    for j, i, index in np.ndindex(*copy.size, s.c // s.groups * prod(copy.phases)):
        c, phase = divmod(index, prod(copy.phases))
        h = j * copy.phases[0] + phase // copy.phases[1] - s.pad[0]
        w = i * copy.phases[1] + phase % copy.phases[1] - s.pad[1]
        if 0 <= h < s.h and 0 <= w < s.w:
            out[:, j, i, :, index] = x[:, c :: s.c // s.groups, h, w]
    return out


@pytest.mark.parametrize("chunk", [4, 8])
@pytest.mark.parametrize("word", [*ODD, *MORE])
def test_gathered_chunks_and_their_filters_make_the_convolution(word: str, chunk: int) -> None:
    problem = Problem(parse_shape(word))
    s = problem.shape
    copy = implicit_tensor.staged(s, chunk)
    x, w = problem.operands(1)
    chunks = staged_copy(x.astype(np.float64), problem, copy).reshape(-1, chunk)
    length = copy.depth // chunk + 3
    offsets, sources = implicit_tensor.offsets_and_sources(s, copy, chunk, length)
    assert not offsets[copy.depth // chunk :].any()
    filters = np.concatenate([w.reshape(s.k, -1), np.zeros((s.k, 1))], axis=1)[:, sources].reshape(s.k, -1)
    y = np.empty(s.y_shape)
    per_place, k = s.groups * copy.channels // chunk, s.k // s.groups
    for n, p, q, group in np.ndindex(s.n, s.p, s.q, s.groups):
        place = (n * copy.size[0] + p * copy.step[0]) * copy.size[1] + q * copy.step[1]
        first = place * per_place + group * copy.channels // chunk
        column = chunks[first + offsets].ravel()
        y[n, group * k : (group + 1) * k, p, q] = filters[group * k : (group + 1) * k] @ column
    assert judge(y, truth(x, w, s)).error < 1e-12


def test_phases_are_taken_where_they_save_depth() -> None:
    first = parse_shape("n1c3h227w227k96r11s11u4")
    assert implicit_tensor.staged(first, 8).phases == (4, 4)  # 3 x 3 x 48 instead of 11 x 11 x 8
    assert implicit_tensor.staged(first, 4).phases == (1, 4)  # 11 x 3 x 12 instead of 11 x 11 x 4
    assert implicit_tensor.staged(parse_shape("n1c64h56w56k64r1s1u2"), 8).phases == (1, 1)
    assert implicit_tensor.staged(parse_shape("n1c3h20w20k9r5s5u2d2"), 8).phases == (1, 1)


def test_filters_are_rounded_to_the_nearest_tf32() -> None:
    values = np.array([1, 1 + 2**-11, 1 + 2**-11 - 2**-23, -1 - 3 * 2**-11, 2**-12 + 2**-24, 0], np.float32)
    rounded = channels_last.rounded_to_tf32(np, values)
    assert rounded.tolist() == [1, 1 + 2**-10, 1, -1 - 2**-9, 2**-12, 0]


@pytest.mark.parametrize("taps", [1, 7, 8, 100, 1200, 9216])
@pytest.mark.parametrize("pixels", [1, 200, 93312, 1 << 20])
def test_no_share_is_empty_and_every_tap_is_in_one(pixels: int, taps: int) -> None:
    tiling = best_tiling(implicit.TILES, 2, 100, pixels, taps, implicit.SUM_COST)
    assert (tiling.shares - 1) * tiling.steps * tiling.tile.depth < taps <= tiling.depth
    assert tiling.blocks == 2 * tiling.shares * tiling.filter_tiles * -(-pixels // tiling.tile.pixels)
    assert tiling.shares == 1 or tiling.blocks / tiling.shares < 20 * MULTIPROCESSORS, "the GPU was full"
    assert tiling.flops >= 2 * 2 * 100 * pixels * taps


def test_large_problems_take_large_tiles_and_fully_connected_ones_share() -> None:
    assert best_tiling(implicit.TILES, 2, 128, 93312, 1200, implicit.SUM_COST).tile == implicit.TILES[0]
    assert best_tiling(implicit.TILES, 1, 96, 387200, 363, implicit.SUM_COST).tile.filters == 96
    assert best_tiling(implicit.TILES, 1, 4096, 128, 9216, implicit.SUM_COST).shares > 1
    assert best_tiling(implicit.TILES, 1, 8, 4, 9, implicit.SUM_COST).shares == 1


def test_what_it_refuses() -> None:
    def plan(word: str, precision: str, capability: int = 90) -> None:
        device: Any = Recorder(capability)
        implicit.on_cuda(Problem(parse_shape(word), precision), device)

    with pytest.raises(Unsupported, match="sm_80 or newer are needed for tf32"):
        plan("n1c4h4w4k4r1s1", "tf32", 75)
    with pytest.raises(Unsupported, match="64 filter rows and columns"):
        plan("n1c1h40w40k1r32s32p1", "float32")
    plan("n1c1h40w40k1r32s32", "float32")
    plan("n1c1h40w40k1r32s31p1", "float32")
    with pytest.raises(Unsupported, match=r"2\^30"):
        plan("n1c16h8192w8192k1r1s1", "float32")


@pytest.mark.parametrize("capability", [80, 89, 90])
@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_tiles_fit_the_shared_memory(precision: str, capability: int) -> None:
    device: Any = Recorder(capability)
    implicit.on_cuda(Problem(parse_shape("n128c256h13w13k384r3s3p1"), precision), device)
    asked = device.modules[0].kernels["product"].max_dynamic_shared_size_bytes
    assert 48 << 10 < asked <= {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}[capability]


def only(tile: Tile, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans have no choice but this tile, gathered tap by tap."""
    monkeypatch.setattr(implicit_tensor, "sliding", lambda *facts: None)
    monkeypatch.setitem(implicit.TILES_BY_PRECISION, precision, (tile,))
    monkeypatch.setattr(implicit_tensor, "TILES", (tile,))
    monkeypatch.setattr(implicit_tensor, "WARPGROUP_TILES", (tile,))


# A precision, a tile, and a GPU that takes it.
EACH = [
    *((name, tile, arch) for name, tiles in implicit.TILES_BY_PRECISION.items() for tile in tiles for arch in (80, 90)),
    *(("tf32", tile, 80) for tile in implicit_tensor.TILES),
    *((name, tile, 90) for name in ("tf32", "float16") for tile in implicit_tensor.WARPGROUP_TILES),
]


@pytest.mark.parametrize(("precision", "tile", "arch"), EACH, ids=str)
def test_every_tile_compiles_without_spills(
    precision: str, tile: Tile, arch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(tile, precision, monkeypatch)
    device: Any = Recorder(arch)
    implicit.on_cuda(Problem(parse_shape("n2c6h5w31k10r5s1p2x0g2"), precision), device)
    check(device.modules[0], arch)


def on_host(problem: Problem, x: Any, w: Any, capability: int = 90, edit: Any = None) -> Any:
    """The answer of a plan whose kernels run on the CPU."""
    device: Any = HostDevice(capability, seed=2, edit=edit)
    plan = implicit.on_cuda(problem, device)
    y = np.full(problem.shape.y_shape, np.nan, problem.storage)
    plan.run(x, plan.prepare(w), y)
    return y


def error_with(
    tile: Tile, word: str, precision: str, monkeypatch: pytest.MonkeyPatch, capability: int = 90, edit: Any = None
) -> float:
    only(tile, precision, monkeypatch)
    problem = Problem(parse_shape(word), precision)
    x, w = problem.operands(1)
    return judge(on_host(problem, x, w, capability, edit), truth(x, w, problem.shape)).error


@pytest.mark.parametrize("tile", implicit.TILES, ids=str)
def test_every_tile_of_float32_is_right(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    assert error_with(tile, "n1c9h9w16k130r2s3p1", "float32", monkeypatch) < 1e-6


@pytest.mark.parametrize("tile", implicit_tensor.TILES, ids=str)
def test_every_tile_of_tensor_cores_is_right(tile: Tile, monkeypatch: pytest.MonkeyPatch) -> None:
    precision = ("tf32", "float16")[tile.filters % 64 == 0]
    assert error_with(tile, "n2c9h9w16k130r2s3p1", precision, monkeypatch, 80) < 4e-4


@pytest.mark.parametrize("precision", ["tf32", "float16"])
@pytest.mark.parametrize("tile", implicit_tensor.WARPGROUP_TILES, ids=str)
def test_every_tile_of_warpgroups_is_right(tile: Tile, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    word = "n2c9h9w16k200r2s3p1"
    assert error_with(tile, word, precision, monkeypatch) < 4e-4
    if tile.filters > 64:  # the lists of planted bugs reach tiles of one warpgroup alone

        def edit(source: str) -> str:
            return source.replace("(TILE_P + 64 * warpgroup) * ROW", "TILE_P * ROW")

        assert error_with(tile, word, precision, monkeypatch, edit=edit) > 0.1


def test_wide_spans_are_turned_as_narrow_ones_are(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(parse_shape("n2c70h9w11k6r3s3p1"), "float16")
    x, w = problem.operands(1)
    expected = truth(x, w, problem.shape)
    monkeypatch.setattr(channels_last, "MANY_BLOCKS", 1)
    assert judge(on_host(problem, x, w), expected).error < 4e-4

    def edit(source: str) -> str:
        return source.replace("int place = first_place + at,", "int place = first_place + at % 32,")

    assert judge(on_host(problem, x, w, edit=edit), expected).error > 0.1


def test_hopper_multiplies_by_warpgroups_where_filters_slide() -> None:
    for word, capability, file in (
        ("n128c256h13w13k384r3s3p1", 90, "implicit_sliding.cu"),
        ("n128c3h227w227k96r11s11u4", 90, "implicit_sliding.cu"),
        ("n128c256h13w13k384r1s1", 90, "implicit_warpgroup.cu"),
        ("n128c256h14w14k384r13s13", 90, "implicit_warpgroup.cu"),  # 4 pixels of 196 places
        ("n8c256h33w33k256r3s3p12d12", 90, "implicit_warpgroup.cu"),
        ("n128c256h13w13k384r3s3p1u2", 90, "implicit_warpgroup.cu"),
        ("n128c256h13w13k384r3s3p1", 80, "implicit_tensor.cu"),
        ("n128c256h13w13k384r3s3p1", 100, "implicit_tensor.cu"),
        ("n128c256h6w6k4096r6s6", 90, "implicit_tensor.cu"),
    ):
        device: Any = Recorder(capability)
        implicit.on_cuda(Problem(parse_shape(word), "float16"), device)
        assert [module.file for module in device.modules] == [file]
        assert device.modules[0].own_instructions == (file != "implicit_tensor.cu")


@pytest.mark.parametrize("precision", ["float32", "tf32", "float16"])
def test_an_infinite_input_is_multiplied_by_no_zero_that_fills_a_step(precision: str) -> None:
    problem = Problem(parse_shape("n1c3h4w5k2r2s2"), precision)
    x, w = (np.abs(array) + 1 for array in problem.operands(1))
    x[0, 1, 1, 2] = np.inf
    y = on_host(problem, x, w)
    assert not np.isnan(y).any()
    assert np.isinf(y).sum() == 2 * 2 * 2
