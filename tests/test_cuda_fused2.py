"""winograd.fused2 on the host: its matrices, tables and packing under an emulated kernel, its choices and refusals."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from cuda_devices import ArrayDevice, RecordedKernel, Recorder
from cuda_host.check import check as host_check
from cuda_host.device import SHARED_MEMORY
from cuda_host.listing import Case
from test_cuda_compile import check

from convbench.algorithms.base import Unsupported
from convbench.algorithms.unit import ceil_div
from convbench.algorithms.winograd import fused2
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

BT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], float)  # as fused2.cu computes them
AT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], float)
CONV3 = "n128c256h13w13k384r3s3p1"


def emulate(problem: Problem, work: fused2.Work, table: Any, packed: Any, x: Any, y: Any) -> None:
    """What fused2.cu computes, a tile at a time, from the same table and the same packed filters."""
    s, (rows, columns) = problem.shape, fused2.axes(problem.shape)
    # groups, filter tile, step, position, channel, filter -> groups, position, filters, channels
    u = packed.transpose(0, 3, 1, 5, 2, 4).reshape(s.groups, 4, 4, -1, work.channels)[:, :, :, : s.k // s.groups]
    reach = table[:, 1] < fused2.OUTSIDE
    for n, g, psi, phi in product(range(s.n), range(s.groups), range(rows.out_phases), range(columns.out_phases)):
        plane = x[n, g * (s.c // s.groups) : (g + 1) * (s.c // s.groups)].ravel()
        for i, j in product(range(rows.tiles), range(columns.tiles)):
            row = psi * s.stride[0] + 2 * i * rows.step - s.pad[0]
            column = phi * s.stride[1] + 2 * j * columns.step - s.pad[1]
            v = np.zeros((4, 4, work.channels))
            for a, b in product(range(4), range(4)):
                r, q = row + table[:, 1] + a * rows.step, column + table[:, 2] + b * columns.step
                inside = reach & (r >= 0) & (r < s.h) & (q >= 0) & (q < s.w)
                offsets = table[:, 0] + (row + a * rows.step) * s.w + column + b * columns.step
                v[a, b, inside[: work.channels]] = plane[offsets[inside]]
            v = np.einsum("ab,bcx,dc->adx", BT, v, BT)
            outputs = np.einsum("ab,bckx,bcx,dc->kad", AT, u[g].astype(float), v, AT)
            place = y[n, g * (s.k // s.groups) : (g + 1) * (s.k // s.groups)]
            place = place[:, psi + 2 * i * rows.out_phases :: rows.out_phases][:, :2]
            place = place[:, :, phi + 2 * j * columns.out_phases :: columns.out_phases][:, :, :2]
            place[...] = outputs[:, : place.shape[1], : place.shape[2]]


class Launches(ArrayDevice):
    """Keeps a launch's arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.launched: list[tuple[str, Any, Any, Any, int]] = []

    def load(self, *_: Any, **__: int) -> Any:
        return self

    def get_function(self, name: str) -> Any:
        launched = self.launched

        class Kernel(RecordedKernel):
            def __call__(self, grid: Any, block: Any, args: Any, shared_mem: int = 0) -> None:
                assert shared_mem == self.max_dynamic_shared_size_bytes
                launched.append((name, grid, block, args, shared_mem))

        return Kernel(name)


@pytest.mark.parametrize(
    "word",
    [
        "n2c9h5w6k5r3s3p1x0",
        "n1c3h23w19k4r11s11u4",
        "n1c4h6w5k6r5s4p2g2",
        "n1c2h11w10k3r3s2u2x3p5x3d3x2",
        "n1c2h3w3k3r5s5p4",
        "n2c3h1w9k5r1s7p0x3",
    ],
)
def test_table_and_packed_filters_make_the_convolution(word: str) -> None:
    problem = Problem(parse_shape(word))
    device: Any = Launches()
    plan = fused2.plan(problem, device)
    x, w = problem.operands(1)
    y = np.full(problem.shape.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    _, grid, block, (_, packed, table, target), _ = device.launched[0]
    work = fused2.choose(problem, device.capability)
    assert (grid, block) == ((work.blocks,), (256,))
    assert packed.shape == (
        *(work.groups, work.filter_tiles, work.split * work.steps),
        *(16, work.block.step, work.block.filters),
    )
    assert len(table) == work.channels + work.block.step, "a step is looked up ahead"
    assert (table[-work.block.step :, 1] == fused2.OUTSIDE).all()
    assert [name for name, *_ in device.launched] == ["fused2"] + ["add_parts"] * (work.split > 1)
    assert (target is y) == (work.split == 1)
    emulate(problem, work, table, packed, x, y)
    assert judge(y, truth(x, w, problem.shape)).error < 1e-6


@pytest.mark.parametrize("capability", SHARED_MEMORY)
@pytest.mark.parametrize("word", [CONV3, "n1c256h13w13k384r3s3p1", "n1c3h227w227k96r11s11u4", "n3c7h9w9k5r3s3"])
def test_shares_cover_all_channels_and_none_is_idle(word: str, capability: int) -> None:
    problem = Problem(parse_shape(word))
    s, (rows, columns) = problem.shape, fused2.axes(problem.shape)
    work = fused2.choose(problem, capability)
    channels = s.c // s.groups * rows.channels * columns.channels
    share = work.steps * work.block.step
    assert (work.split - 1) * share < channels <= work.channels
    assert work.channels == work.split * share
    assert work.filter_tiles * work.block.filters >= s.k // s.groups
    assert work.tile_blocks * work.block.tiles >= s.n * s.p * s.q / 4


def test_the_block_is_chosen_by_what_it_costs() -> None:
    def chosen(word: str) -> tuple[int, int, int]:
        work = fused2.choose(Problem(parse_shape(word)), 90)
        return work.block.filters, work.block.tiles, work.split

    assert chosen(CONV3) == (64, 32, 1)
    assert chosen("n128c3h227w227k96r11s11u4")[::2] == (32, 1), "96 filters are one and a half times 64"
    assert chosen("n1c256h13w13k384r3s3p1")[2] > 4, "49 tiles do not fill a GPU"
    assert chosen("n1c256h13w13k384r3s3p1") == chosen("n1c256h13w13k384r3s3p1")


@pytest.mark.parametrize(
    ("word", "lanes"), [("r3s3", 1), ("r11s11u4", 4), ("r5s5u3", 1), ("r3s5u3x2", 2), ("r3s9u2", 1)]
)
def test_phases_of_columns_are_gathered_side_by_side(word: str, lanes: int) -> None:
    problem = Problem(parse_shape("n1c3h30w30k4" + word))
    s, (rows, columns) = problem.shape, fused2.axes(problem.shape)
    assert fused2.knobs(fused2.choose(problem, 90), rows, columns)["LANES_C"] == lanes
    table = fused2.channel_table(s, rows, columns, 64)
    assert (np.diff(table[:lanes, 0]) == 1).all()


def test_batch_128_of_conv3_executes_little_more_than_half_of_the_products() -> None:
    work = fused2.choose(Problem(parse_shape(CONV3)), 90)
    products = 2 * 16 * 128 * 49 * 256 * 384  # 7 x 7 tiles an image, no idle filters and no idle tiles
    windows, outputs = 128 * 49 * 256 * work.filter_tiles, 128 * 49 * 384
    assert work.flops == products + 32 * windows + 24 * outputs


@pytest.mark.parametrize("capability", [75, 90])  # steps of 4 and of 8 channels
def test_every_block_fits_and_compiles_without_spills(capability: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for sides in fused2.BLOCKS:
        monkeypatch.setattr(fused2, "BLOCKS", (sides,))
        device: Any = Recorder(capability)
        fused2.plan(Problem(parse_shape("n2c20h9w7k70r3s5p1")), device)
        (module,) = device.modules
        assert f"TILE_K = {sides[0]};" in module.source
        assert module.kernels["fused2"].max_dynamic_shared_size_bytes > 0
        check(module, capability)


@pytest.mark.usefixtures("host_compiler")
@pytest.mark.parametrize("sides", fused2.BLOCKS)
def test_every_block_is_right_in_steps_of_four_channels(
    sides: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused2, "BLOCKS", (sides,))
    case = Case(fused2.ALGORITHMS[0], Problem(parse_shape("n3c3h15w11k37r3s5u1x2p1x2")), 75)
    host_check(case, [(1, "start"), (2, "end")])
    host_check(case, [(3, "end")], racecheck=True)


def test_what_is_refused_and_why() -> None:
    assert "matrix product" in str(fused2.refuses(Problem(parse_shape("n128c256h6w6k4096r6s6"))))
    assert "one tap" in str(fused2.refuses(Problem(parse_shape("n2c8h6w6k4r1s1"))))
    assert fused2.refuses(Problem(parse_shape("n2c8h6w6k4r1s2"))) is None
    with pytest.raises(Unsupported, match="32 bits"):
        fused2.plan(Problem(parse_shape("n1c64h4096w4096k1r3s3")), Recorder())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("word", "said", "unsaid"),
    [
        (CONV3, "1176 blocks of 64 filters x 32 tiles", "degenerate"),
        ("n1c256h13w13k384r3s3p1", " shares", "polyphase"),
        ("n128c96h27w27k256r5s5p2g2", "filters in pieces", "polyphase"),
        ("n16c3h227w227k96r11s11u4", "polyphase", "pieces"),
        ("n1c1h4w4k1r1s3", "degenerate", "shares"),
    ],
)
def test_the_note_says_what_ran(word: str, said: str, unsaid: str) -> None:
    plan = fused2.plan(Problem(parse_shape(word)), Recorder())  # type: ignore[arg-type]
    assert said in plan.note
    assert unsaid not in plan.note
    assert plan.flops > 0


def test_workspace_is_the_table_and_the_parts() -> None:
    problem = Problem(parse_shape("n1c256h13w13k384r3s3p1"))
    work = fused2.choose(problem, 90)
    plan = fused2.plan(problem, Recorder())  # type: ignore[arg-type]
    assert plan.workspace == 16 * (work.channels + work.block.step) + 4 * work.split * 384 * 169
    assert ceil_div(256, work.block.step * work.steps) == work.split
