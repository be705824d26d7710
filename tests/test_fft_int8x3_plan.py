"""How fft.int8x3 is cut up: sizes of transforms, blocks, chunks, where y goes, what it executes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fused_plans import Poisoned
from hypothesis import given, settings
from hypothesis import strategies as st
from test_digits import IN_MEMORY, WITH_AMX
from test_fft_int8x3 import sliding

from convbench.algorithms.fft import int8x3_plan
from convbench.algorithms.fft.int8x3_kernel import frequencies
from convbench.algorithms.fft.int8x3_plan import ROOM, block_bytes, cost, cut_up, is_staged
from convbench.algorithms.fft.vector import LONGEST_PIECE, sizes_of
from convbench.algorithms.fused.operations import of_tile
from convbench.algorithms.unit import axes
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.problem import Problem
from convbench.shapes import ConvShape, parse_shape
from convbench.vector.target import Target


def test_when_planes_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """conv3 has 16 planes in 11 kB, conv2 in 47: those only where y alone is too large. Never a part of an image."""
    shape = {layer.name: layer.shape for layer in load("alexnet").layers}
    device = Poisoned(2, (2 << 20, 32 << 20))

    def staged(layer: str, batch: int, size: tuple[int, int], target: Target = WITH_AMX) -> bool:
        s = replace(shape[layer], n=batch)
        return is_staged(s, cut_up(Problem(s), size, 2), device, target)

    assert staged("conv3", 16, (14, 14))
    assert not staged("conv2", 16, (30, 30))
    assert staged("conv2", 64, (30, 30))
    assert not staged("conv3", 16, (14, 14), replace(WITH_AMX, features="+avx2")), "vectors of half a line"
    assert staged("conv3", 64, (9, 9))
    monkeypatch.setattr(int8x3_plan, "ROOM", 1)
    monkeypatch.setattr(int8x3_plan, "LEAST_TILES", 6)
    assert not staged("conv3", 64, (9, 9)), "blocks of three rows of tiles, of which an image has two"


@given(shape=sliding(), threads=st.integers(1, 70), room=st.integers(1, ROOM))
@settings(max_examples=300)
def test_blocks_fit_their_room_and_chunks_keep_threads_busy(shape: ConvShape, threads: int, room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8x3_plan, "ROOM", room)
        cut = cut_up(Problem(shape), (8, 9), threads)
    assert 1 <= cut.lines <= shape.n * cut.rows.tiles
    assert min(threads, cut.panels) <= cut.chunks <= cut.panels
    a, c = block_bytes(cut.tile, cut.tiles, cut.steps, -(-cut.panels // cut.chunks))
    least = -(-int8x3_plan.LEAST_TILES // cut.columns.tiles)
    assert a + threads * c <= room or cut.lines <= least


def test_alexnet_is_cut_as_is_written() -> None:
    """conv3 at 64 images: two blocks of 32 tiles, each thread half of the filters; scratch as small as is promised."""
    shape = {layer.name: layer.shape for layer in load("alexnet").layers}
    cut = cut_up(Problem(replace(shape["conv3"], n=64)), (14, 14), 2)
    assert (cut.tiles, cut.chunks, cut.panels, cut.steps) == (32, 2, 24, 4)
    for layer in ("conv2", "conv3", "conv4", "conv5"):
        plan = int8x3_plan.plan(Problem(replace(shape[layer], n=64)), Poisoned(2, (2 << 20, 32 << 20)), IN_MEMORY)
        assert plan.workspace <= 16 << 20


def test_the_size_of_transforms_depends_on_no_thread() -> None:
    """conv2's and conv3's hold the whole image; at 512 channels, whose filters would be 180 MB, several tiles do."""
    for word, size in (
        ("n16c96h27w27k256r5s5p2g2", "30x30"), ("n16c256h13w13k384r3s3p1", "14x14"), ("n16c512h14w14k512r3s3p1", "9x9"),
    ):  # fmt: skip
        for threads in (1, 2, 5):
            plan = int8x3_plan.plan(Problem(parse_shape(word)), Poisoned(threads, (2 << 20, 32 << 20)), IN_MEMORY)
            assert plan.note.startswith(f"{size} points")


def test_a_size_costs_more_where_filters_come_from_memory() -> None:
    problem = Problem(parse_shape("n16c256h13w13k384r3s3p1"))
    near, far = (cost(problem, (14, 14), Poisoned(1, (1 << 20, cache))) for cache in (1 << 30, 1 << 20))
    assert near < far
    sizes = [sizes_of(axis) for axis in axes(problem.shape, None, LONGEST_PIECE)]
    assert all(cost(problem, (h, w), Poisoned(1)) > 0 for h in sizes[0] for w in sizes[1])


def test_flops_are_those_of_whole_panels_and_tiles_and_of_transforms() -> None:
    """Four products of depth C for each of two tiles' frequencies, which are a half and, of real ones, four."""
    shape = parse_shape("n2c40h13w13k20r3s3p1")
    problem = Problem(shape)
    plan, tile = int8x3_plan.of_size(problem, Cpu(1), (14, 14), IN_MEMORY), cut_up(problem, (14, 14), 1).tile
    assert frequencies(tile) == 14 * 14 // 2 + 2
    forward, backward = of_tile(tile)
    products_of_all = 2 * 2 * 4 * frequencies(tile) * 40 * 32
    assert plan.flops == products_of_all + 2 * (forward * 48 + backward * 32)
