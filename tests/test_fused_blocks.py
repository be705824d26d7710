"""How the tile engine's work is cut into blocks, what is shared out together, and the rooms that plans share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import fakes  # noqa: F401  (its settings of hypothesis)
import numpy as np
import pytest
from fused_plans import CACHES, Poisoned, answer, error_of, plan_of, toom
from hypothesis import given
from hypothesis import strategies as st

from convbench.algorithms.fused import passing, plan
from convbench.algorithms.fused.blocks import Blocks, Caches, Work, cut
from convbench.algorithms.fused.passing import passage
from convbench.algorithms.fused.stages import Tile
from convbench.algorithms.unit import axes
from convbench.devices.cpu import Cpu
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import parse_shape
from convbench.vector import room
from convbench.vector.build import address_of
from convbench.vector.target import Target, host
from convbench.vector.team import runner
from convbench.vector.weights import BLOCK, EVEN_PAIRS, FLOAT32, PAIRS, Weights


@pytest.mark.parametrize(
    "word", ["n2c20h9w11k40r3s3p1", "n3c7h9w11k16r3s3", "n1c36h14w13k70r3s3p1g2", "n5c50h7w7k33r3s3p1"]
)
@pytest.mark.parametrize("weights", [FLOAT32, PAIRS, EVEN_PAIRS])
def test_panels_side_by_side(word: str, weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd and even numbers of panels, one by one and in pairs, U kept or not, V in the caches or not: the same bits.

    Whatever this CPU takes by itself: the small caches are too small for U.
    """
    problem = Problem(parse_shape(word))
    for caches in ((1 << 19, 1 << 25), (1 << 15, 1 << 17)):
        found = []
        for side, bars, far in ((1, False, False), (2, False, True), (2, True, False), (2, True, True)):
            monkeypatch.setattr(Target, "panels", side)
            monkeypatch.setattr(Target, "bars_passers", bars)
            monkeypatch.setattr(passing, "are_far_apart", lambda threads, far=far: far)
            x, w = problem.operands(2)
            found.append(answer(plan_of(problem, Poisoned(2, caches), toom, (4, 3), weights), problem, x, w))
        assert all(np.array_equal(found[0], other) for other in found[1:])
        assert np.linalg.norm(found[0] - convolve(x, w, problem.shape)) < 3e-6 * np.linalg.norm(found[0])


def test_phases_are_timed_when_all_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    class Watched(Poisoned):
        def now(self) -> float:
            events.append("now")
            return super().now()

    def noted(*words: Any) -> int:
        events.append("compiled")
        return address_of(*words)

    monkeypatch.setattr(plan, "address_of", noted)
    monkeypatch.setattr(plan, "passage", lambda *words: (passage(*words)[0], passing.PAST_IF_FAR))
    problem = Problem(parse_shape("n2c20h9w11k40r3s3p1"))
    x, w = problem.operands(2)
    made = plan_of(problem, Watched(2), toom, (4, 3))
    assert events == []
    assert made.phases is not None
    made.phases(x, made.prepare(w), np.empty(problem.shape.y_shape, np.float32))
    assert events == ["compiled", "compiled", "now", "now"]


@pytest.mark.skipif(host().lanes < BLOCK, reason="a register does not hold a whole line")
def test_threads_that_move_while_a_plan_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they are decides in each call whether V goes past the caches; the note says so, the bits stay."""
    problem = Problem(parse_shape("n1c36h14w13k70r3s3p1g2"))
    far = [False]
    monkeypatch.setattr(passing, "are_far_apart", lambda threads: far[0])
    monkeypatch.setattr(Target, "bars_passers", True)
    called: list[int] = []

    def noted(address: int, threads: int) -> Callable[[int], None]:
        call = runner(address, threads)

        def run(arguments: int) -> None:
            called.append(address)
            call(arguments)

        return run

    monkeypatch.setattr(passing, "runner", noted)
    made = plan_of(problem, Poisoned(2, (1 << 15, 1 << 17)), toom, (4, 3))
    assert passing.PAST_IF_FAR in made.note
    x, w = problem.operands(2)
    found = []
    for far[0] in (False, True, False):
        found.append(answer(made, problem, x, w))
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert called[0] == called[2] != called[1]


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
        blocks = cut(tile, plan.work_of(problem, tile, rows, columns, FLOAT32), plan.caches_of(device))
        assert not blocks.private
        groups.append(blocks.groups)
        found.append(answer(made, problem, x, w))
    assert groups == [1, 2]
    assert np.array_equal(*found)
    assert error_of(found[0], x, w, problem.shape) < 3e-6


@pytest.mark.parametrize(("word", "shares"), [
    ("n1c20h13w13k288r3s3p1", {1: 1, 2: 2, 3: 3}),
    ("n1c20h13w13k128r3s3p1", {1: 1, 2: 2, 3: 0}),  # too few filters for three
    ("n1c20h13w13k64r3s3p1", {1: 1, 2: 1, 3: 0}),  # and for two, which take strips
    ("n1c40h13w13k400r3s3p1g2", {1: 1, 2: 1}),  # two groups for two threads
])  # fmt: skip
def test_threads_share_out_the_filters_of_one_block(word: str, shares: dict[int, int]) -> None:
    """Each makes V anew, where filters are enough; 0: all threads make it together. The bits are the same."""
    problem = Problem(parse_shape(word))
    x, w = problem.operands(0)
    tile, (rows, columns) = Tile(toom(4, 3), toom(4, 3)), axes(problem.shape, (4, 4), 5)
    found = []
    for threads, expected in shares.items():
        device = Poisoned(threads, (1 << 20, 1 << 25))
        blocks = cut(tile, plan.work_of(problem, tile, rows, columns, FLOAT32), plan.caches_of(device))
        assert (blocks.private, blocks.shares) == (expected > 0, max(1, expected))
        found.append(answer(plan_of(problem, device, toom, (4, 4)), problem, x, w))
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert error_of(found[0], x, w, problem.shape) < 3e-6


@pytest.mark.parametrize(("images", "strips", "rows"), [(16, 10, 10), (16, 9, 5), (16, 5, 5), (16, 4, 5), (2, 5, 10)])
def test_blocks_that_leave_room_to_what_passes(images: int, strips: int, rows: int) -> None:
    """As many strips of 6 tiles as half of the cache holds with their M and T, in equal parts of 10; where those have
    fewer than 16 tiles, or each thread gets one block, as many whose V fits.
    """
    tile, work = Tile(toom(4, 3), toom(4, 3)), Work(images, 10, 6, 1, tile_bytes=2 * 64, items=1, filters=16)
    of_a_strip = 6 * 64 * (36 * 2 + 6 + 4 * 6)
    blocks = cut(tile, work, Caches(2 * strips * of_a_strip, 1 << 30, 2))
    assert (blocks.private, blocks.tile_rows) == (True, rows)


@pytest.mark.parametrize(("images", "of_filters", "keeps", "expected"), [
    (16, 4 << 20, True, 2),  # what leaves room to what passes: 2 images of 9 tiles
    (16, 4 << 20, False, 4),  # more, so that filters are read less often: 7 fit, but 4 keep both threads busy
    (15, 4 << 20, False, 4),
    (9, 4 << 20, False, 5),
    (16, 1 << 10, False, 2),  # filters that are near need no large blocks
    (16, 1 << 25, False, 4),  # from memory: at least 24 tiles,
    (6, 1 << 25, False, 3),
    (4, 1 << 25, False, 0),  # or none of a thread's own
])  # fmt: skip
def test_blocks_where_the_cache_does_not_keep_v(images: int, of_filters: int, keeps: bool, expected: int) -> None:
    tile, work = Tile(toom(4, 3), toom(4, 3)), Work(images, 3, 3, 1, 256 * 4, filter_bytes=of_filters)
    of_an_image = 9 * (36 * 1024 + 64 * 6 + 64 * 4 * 6)
    blocks = cut(tile, work, Caches(int(4.2 * of_an_image), 1 << 24, 2, keeps))
    assert blocks.images * blocks.private == expected


def test_what_a_private_block_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """V, if it is shared, or where the core's own cache does not keep it."""
    shape, device = parse_shape("n2c16h9w9k16r3s3"), Poisoned(2)
    for keeps, private, expected in ((True, True, False), (True, False, True), (False, True, True)):
        monkeypatch.setattr(Target, "keeps_own", keeps)
        asks, _ = passing.passage(shape, device, private, False, 1, 1)
        assert (asks.for_a, asks.near) == (expected, False)
        asks, where = passing.passage(shape, device, private, False, 1 << 30, 1, EVEN_PAIRS)
        assert (asks.for_a, asks.near, where) == (True, private, passing.KEPT)


@pytest.mark.parametrize("drops", [True, False])
def test_what_is_asked_for_twice(drops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filters that the cores' own caches do not hold, where requests get lost."""
    shape, device = parse_shape("n2c16h9w9k16r3s3"), Poisoned(2)
    monkeypatch.setattr(Target, "drops_requests", drops)
    own = 2 * device.core_cache_bytes
    for of_filters, expected in ((own, False), (own + 1, drops)):
        assert passing.passage(shape, device, True, False, of_filters, 1)[0].twice == expected


@pytest.mark.parametrize(("strips", "in_pairs", "rows"), [(10, False, 4), (10, True, 8), (5, True, 4), (2, True, 0)])
def test_blocks_of_products_in_pairs(strips: int, in_pairs: bool, rows: int) -> None:
    """The largest that leave a fifth of the cache, not half, of strips of six tiles; at least 16 tiles, or none."""
    tile, work = Tile(toom(4, 3), toom(4, 3)), Work(9, 16, 6, 1, tile_bytes=2 * 64, items=1, filters=16)
    of_a_strip = 6 * 64 * (36 * 2 + 6 + 4 * 6)
    blocks = cut(tile, replace(work, in_pairs=in_pairs), Caches(strips * of_a_strip, 1 << 30, 2))
    assert blocks.tile_rows * blocks.private == rows


@pytest.mark.parametrize(("rows", "whole"), [(2, False), (9, True)])
def test_the_planes_ask_for_every_line_that_is_written_or_read_later(rows: int, whole: bool) -> None:
    """Strips of 32 channels of y and 16 of x, or of each image all; what runs begin and end with counts for a line."""
    problem = Problem(parse_shape("n5c16h31w29k96r3s3p1"))
    of_rows, of_columns = axes(problem.shape, (4, 4), 5)
    tile = Tile(toom(4, 3), toom(4, 3))
    work = replace(plan.work_of(problem, tile, of_rows, of_columns, FLOAT32), panels=2, items=12)
    blocks = Blocks(3 if whole else 1, rows, True, shares=2)

    def later(room: int) -> dict[str, int]:
        return passing.later_lines(problem.shape, tile, of_rows, of_columns, work, blocks, room)

    plane, found = 4 * 31 * 29, later(1 << 20)
    cases = (("y", 32, 8, 96, tile.planes), ("x", 16, 10, 16, 6 * tile.planes))  # a block makes 6 of the 12 items
    for name, channels, strip, all_channels, planes in cases:
        run = -(-(channels * plane if whole else 4 * strip * 29) // 64) + 1
        assert (found[f"{name}_run"], found[f"{name}_step"]) == (run, all_channels * plane if whole else plane)
        runs = 3 if whole else channels
        assert 0 <= found[f"{name}_lines"] * planes - runs * run < planes
    assert later(0) == found | {"x_lines": 0}


def test_more_lines_of_x_than_channels_are_not_asked_for() -> None:
    problem = Problem(parse_shape("n5c16h31w29k96r1s1"))
    of_rows, of_columns = axes(problem.shape, (1, 1), 5)
    tile = Tile(toom(1, 1), toom(1, 1))
    work = plan.work_of(problem, tile, of_rows, of_columns, FLOAT32)
    blocks = Blocks(1, 31, True)
    assert passing.later_lines(problem.shape, tile, of_rows, of_columns, work, blocks, 1 << 20)["x_lines"] == 0


@pytest.mark.parametrize(("bars", "spare", "once"), [(True, 0, False), (True, -1, True), (False, -1, False)])
def test_filters_that_pass_once(bars: bool, spare: int, once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the shared cache holds them beside x and y they stay in it."""
    monkeypatch.setattr(Target, "bars_passers", bars)
    shape = parse_shape("n3c5h2w2k7r1s1")
    assert passing.passes_once(shape, Poisoned(2, (1, 1000 + 4 * (60 + 84) + spare)), 1000) == once


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
    depth=st.integers(1, 40), threads=st.integers(1, 64), caches=st.sampled_from(CACHES), keeps=st.booleans(),
    filter_bytes=st.sampled_from([0, 1 << 15, 1 << 19, 1 << 26]), in_pairs=st.booleans(),
)  # fmt: skip
def test_blocks(
    images: int, rows: int, tiles: int, groups: int, depth: int, threads: int, caches: tuple[int, int], keeps: bool,
    filter_bytes: int, in_pairs: bool,
) -> None:  # fmt: skip
    """Whole images, or rows of one; blocks of a thread's own fit its cache, or as much of it as V may take."""
    tile = Tile(toom(4, 3), toom(4, 3))
    work = Work(images, rows, tiles, groups, 64 * depth, filter_bytes=filter_bytes, in_pairs=in_pairs)
    blocks = cut(tile, work, Caches(*caches, threads, keeps))
    assert 1 <= blocks.images <= images
    assert 1 <= blocks.tile_rows <= rows
    assert blocks.images == 1 or blocks.tile_rows == rows
    if blocks.private and blocks.tile_rows > 1:
        v = blocks.images * blocks.tile_rows * tiles * tile.planes * 64 * depth
        assert v <= (0.75 if keeps else 1.7) * caches[0]
