"""winograd on CUDA, on the host: the mosaic, the chunks, what the kernels take, and whole plans in chunks."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from cuda_devices import Recorder
from cuda_host.check import answer
from cuda_host.device import HostDevice
from cuda_host.listing import Case

from convbench.algorithms import built_in
from convbench.algorithms.gpu import MOST_BYTES
from convbench.algorithms.unit import UnitAxis, axes
from convbench.algorithms.winograd import cuda
from convbench.algorithms.winograd.filters import MOST_TAPS
from convbench.algorithms.winograd.mosaic import Line, mosaic, stitched_pitch
from convbench.algorithms.winograd.transforms import LARGEST_WINDOW, transform
from convbench.layers import load
from convbench.problem import Problem
from convbench.reference import judge, truth
from convbench.shapes import parse_shape

ALGORITHMS = {algorithm.name: algorithm for algorithm in built_in()}
STEPS = [(1, 1), (2, 1), (4, 1), (1, 2), (1, 3), (2, 3), (3, 2), (4, 2), (2, 2)]
LAYERS = {layer.name: layer.shape for layer in load("alexnet").layers}


def inputs(axis: UnitAxis, local: int) -> list[int | None]:
    """What every output phase, input phase and piece of an item reads at a position; None is padding."""
    found = []
    for psi, phi, piece in product(range(axis.out_phases), range(axis.in_phases), range(axis.pieces)):
        i = axis.step * (local + piece * axis.length) + axis.stride * psi + axis.dilation * phi - axis.pad
        found.append(i if 0 <= i < axis.size else None)
    return found


def separates(axis: UnitAxis, pitch: int) -> bool:
    """Whether items that far apart share zeros alone, and no outputs."""
    reach = axis.unit_outputs + axis.length - 1
    shared = [inputs(axis, local) + inputs(axis, local - pitch) for local in range(pitch, reach)]
    return pitch >= axis.unit_outputs and all(read is None for reads in shared for read in reads)


@pytest.mark.parametrize("limit", [2, 5])
@pytest.mark.parametrize("pad", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(("stride", "dilation"), STEPS)
@pytest.mark.parametrize("taps", [1, 2, 3, 5, 7])
def test_stitched_items_never_see_each_other(taps: int, stride: int, dilation: int, pad: int, limit: int) -> None:
    for size in (1, 4, 9, 13):
        outputs = (size + 2 * pad - dilation * (taps - 1) - 1) // stride + 1
        if outputs >= 1:
            axis = UnitAxis(size, taps, stride, pad, dilation, outputs, 2, limit)
            pitch = stitched_pitch(axis)
            assert separates(axis, pitch)
            assert not separates(axis, pitch - 1) or (axis.channels, stride) != (1, 1), "a closer pitch would do"


def test_a_mosaic_of_13_by_13_wastes_almost_nothing() -> None:
    shape = LAYERS["conv3"].with_batch(128)
    for m, most in ((4, 1568), (6, 722)):  # of a mosaic of 8 x 16 images, 112 x 224 positions
        rows, columns = cuda.tile_axes(m, shape)
        layout = mosaic(128, 384 * 169, rows, columns)
        assert (layout.rows.pitch, layout.columns.pitch) == (14, 14)
        assert 128 * 169 / m**2 < layout.tiles <= most
        assert layout.rows.images * layout.across >= 128


def test_stitching_is_left_alone_where_it_saves_nothing() -> None:
    rows, columns = cuda.tile_axes(5, LAYERS["conv1"].with_batch(128))  # 5 divides 55
    layout = mosaic(128, 96 * 55 * 55, rows, columns)
    assert layout.tiles == 128 * 11 * 11
    assert layout.note == ""
    assert layout.across == 1


def test_images_side_by_side_count_in_ints() -> None:
    rows, columns = axes(parse_shape("n9c1h13w13k1r3s3p1"), (6, 6))
    assert mosaic(9, 1, rows, columns).across > 1
    assert mosaic(9, 1 << 30, rows, columns).across == 1
    assert Line(columns, 9, True).tiles == 21  # 8 x 14 + 13 = 125 positions


@pytest.mark.parametrize("tiles", [1, 63, 64, 129, 707, 15488, 100001])
@pytest.mark.parametrize("most_bytes", [1, 16 << 20, 200 << 20, 1 << 30])
def test_chunks_cover_all_tiles_and_keep_to_their_memory(
    tiles: int, most_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "MOST_BYTES", most_bytes)
    counts = cuda.chunks(tiles, 92160)
    assert 0 <= sum(counts) - tiles < cuda.ROW_QUANTUM
    assert all(count == counts[0] and count % cuda.TILES_QUANTUM == 0 for count in counts[:-1])
    assert 0 < counts[-1] <= counts[0]
    assert counts[-1] % cuda.ROW_QUANTUM == 0
    most = max(cuda.TILES_QUANTUM, most_bytes // 92160)
    assert counts[0] <= most
    assert len(counts) == 1 or len(counts) <= tiles / max(1, most - cuda.TILES_QUANTUM) + 1


@pytest.mark.parametrize("name", ["winograd.f2", "winograd.f4", "winograd.f2.split3", "winograd.f4.split3"])
def test_memory_is_bounded_however_large_the_images(name: str) -> None:
    problem = Problem(parse_shape("n128c64h224w224k64r3s3p1"))
    plan = ALGORITHMS[name].on["cuda"](problem, Recorder())  # type: ignore[arg-type]
    assert MOST_BYTES * 0.9 < plan.workspace < MOST_BYTES + (1 << 20)
    assert "chunks of" in plan.note


@pytest.mark.parametrize("word", ["n1c64h1w1k8r1s1", "n4c8h6w6k8r6s6", "n1c70000h9w9k1r3s3", "n1c1h40000w60000k1r3s3"])
def test_array_code_takes_what_kernels_do_not(word: str) -> None:
    assert not cuda.takes(4, Problem(parse_shape(word)))
    device: Any = Recorder()
    if "0000" not in word:
        ALGORITHMS["winograd.f4"].on["cuda"](Problem(parse_shape(word)), device)
    assert not device.modules


def test_precisions_of_the_kernels() -> None:
    assert cuda.takes(4, Problem(LAYERS["conv3"]))
    assert not cuda.takes(4, Problem(LAYERS["conv3"], "float64"))


TRANSFORMS = [(m, taps) for m in range(1, 8) for taps in range(1, MOST_TAPS + 1) if m + taps <= LARGEST_WINDOW + 1]


@pytest.mark.parametrize(("m", "taps"), TRANSFORMS)
def test_balanced_transforms_are_the_same_and_never_enlarge(m: int, taps: int) -> None:
    f = transform(m, taps)
    even = cuda.balanced(f)
    assert all(Fraction(1, 2) < sum(map(abs, row)) <= 1 for row in even.bt)
    assert (even.at, even.m, even.r) == (f.at, m, taps)
    for rows in zip(f.bt, f.g, even.bt, even.g, strict=True):
        products = [[a * b for a in bt for b in g] for bt, g in (rows[:2], rows[2:])]
        assert products[0] == products[1]


def test_layers_of_one_tile_share_what_is_compiled() -> None:
    device: Any = Recorder()
    for name in ("conv1", "conv3", "conv4", "conv5"):
        cuda.plan(4, Problem(LAYERS[name].with_batch(128)), device)
    assert len({module.source for module in device.modules}) == 1


def test_the_table_of_channels_is_in_the_order_of_the_filters() -> None:
    s = LAYERS["conv1"]
    rows, columns = cuda.tile_axes(4, s)
    table = cuda.channel_table(s, rows, columns)
    assert table.dtype == np.int32
    assert table.tolist() == [[c, row, column, 0] for c in range(3) for row in range(4) for column in range(4)]
    assert cuda.together_in(columns) == 4
    padded = parse_shape("n1c2h9w9k1r7s1p2x0")
    rows, columns = cuda.tile_axes(4, padded)  # two pieces of four taps
    assert cuda.channel_table(padded, rows, columns).tolist() == [[c, row, 0, 0] for c in range(2) for row in (-2, 2)]
    assert cuda.together_in(columns) == 1


def test_flops_are_those_of_the_definition() -> None:
    problem = Problem(parse_shape("n1c2h4w4k3r3s3p1"))
    device: Any = Recorder()
    plan = cuda.plan(4, problem, device)
    # B^T has 22 numbers for 6 inputs, A^T 18 for 4 outputs; a tile, and seven for the sake of the row's length
    assert plan.flops == 8 * 2 * (2 * 22 * 12 + 3 * 18 * 10 + 36 * 2 * 3)
    assert cuda.plan(4, problem, device, 3).flops == 8 * 2 * (2 * 22 * 12 + 3 * 18 * 10 + 3 * 36 * 2 * 3)


@pytest.mark.usefixtures("host_compiler")
@pytest.mark.parametrize(
    ("name", "word", "note"),
    [
        ("winograd.f2", "n5c2h13w13k3r3s3p1", "products a tile; 4 chunks of 64 tiles"),
        ("winograd.f4", "n60c1h7w7k2r3s3", "images; 3 chunks of 64 tiles"),
        ("winograd.f5", "n2c1h45w47k2r5s5p2", "products a tile; 3 chunks of 64 tiles"),
        ("winograd.f6", "n3c2h9w7k3r5s5p2", "mosaic of 1 x 3 images; 10 tiles at once"),
        ("winograd.f7", "n3c2h9w11k2r3s3p1g2", "tiles at once"),
        ("winograd.f2.split3", "n5c2h13w13k3r3s3p1", "products a tile; 4 chunks of 64 tiles"),
        ("winograd.f3.split3", "n60c2h7w7k2r3s3g2", "tiles"),
        ("winograd.f4.split3", "n60c1h7w7k2r3s3", "images; 3 chunks of 64 tiles"),
        ("winograd.f4.split3", "n2c1h45w47k2r5s5p2", "mosaic of 2 x 1 images; 5 chunks of 64 tiles"),
    ],
)
def test_plans_in_chunks_are_right(name: str, word: str, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(ALGORITHMS[name], Problem(parse_shape(word)), 90)
    whole = answer(case, HostDevice(seed=1))
    monkeypatch.setattr(cuda, "MOST_BYTES", 1)
    device: Any = HostDevice(seed=2)
    assert case.algorithm.on["cuda"](case.problem, device).note.endswith(note)
    assert answer(case, device).tobytes() == whole.tobytes(), "chunks are nothing that a tile can see"


@pytest.mark.usefixtures("host_compiler")
@pytest.mark.parametrize("name", ["winograd.f2.split3", "winograd.f3.split3", "winograd.f4.split3"])
@pytest.mark.parametrize("word", ["n9c3h7w7k3r3s3p1", "n7c2h5w9k4r3s3p2d2g2", "n6c2h6w6k3r5s3p1"])
def test_images_under_one_tile_keep_their_accuracy_each(name: str, word: str) -> None:
    """Where images of 1 and of 10^20 share a tile, one scale for both would leave nothing of the small ones."""
    problem = Problem(parse_shape(word))
    s, device = problem.shape, HostDevice()
    x, w = problem.operands(3)
    x *= np.float32(10) ** np.random.default_rng(0).integers(-20, 20, (s.n, 1, 1, 1)).astype(np.float32)
    plan = ALGORITHMS[name].on["cuda"](problem, device)  # type: ignore[arg-type]
    y = np.full(s.y_shape, np.nan, np.float32)
    plan.run(x, plan.prepare(w), y)
    for i in range(s.n):
        error = judge(y[i : i + 1], truth(x[i : i + 1], w, s.with_batch(1))).error
        assert error < ALGORITHMS[name].tolerance_for(problem), f"image {i}, {plan.note}"
