"""The library's plans: their untimed edges, which nobody else may have; and PyTorch itself where it is installed."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import TICK, FakeDevice, shapes, swept
from hypothesis import given, settings

from convbench import machine
from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Foreign, Missing, Plan
from convbench.algorithms.library import torch as adapter
from convbench.devices.cpu import Cpu
from convbench.layers import load
from convbench.measure.case import open_case, operands
from convbench.measure.foreign import LIBRARY, UNTIMED
from convbench.measure.rounds import finish
from convbench.problem import Problem
from convbench.reference import convolve
from convbench.shapes import ConvShape, parse_shape
from convbench.sweep import exit_code

WORD = "n2c4h9w8k6r3s3p1g2"
TORCH = [algorithm for algorithm in built_in() if algorithm.name.startswith("library.torch.")]
INSTALLED = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
MODES = pytest.mark.parametrize("algorithm", TORCH, ids=lambda algorithm: algorithm.name)


class Staged(np.ndarray):
    """A library's own kind of array."""


def foreign(device: FakeDevice, name: str = "library.mine", log: list[str] | None = None, **edges: Any) -> Algorithm:
    """A right answer, returned by the call and left out of y, with edges that take a thousand ticks."""
    told = [] if log is None else log

    def plan(problem: Problem, _: Any) -> Plan:
        def stage(x: Any) -> Any:
            device.clock += 1000 * TICK
            told.append("stage")
            return x.copy().view(Staged)

        def run(x: Any, w: Any, y: Any) -> Any:
            assert isinstance(x, Staged)
            device.clock += TICK
            told.append("run")
            return convolve(np.asarray(x), w, problem.shape)

        def collect(result: Any, y: Any) -> None:
            device.clock += 1000 * TICK
            told.append("collect")
            y[...] = result

        return Plan(run, workspace=9, foreign=Foreign(**({"stage": stage, "collect": collect} | edges)))

    return Algorithm(name, on={"cpu": plan})


def test_the_edges_are_not_timed_and_the_answer_is_checked() -> None:
    device, log = FakeDevice(), list[str]()
    (row,) = swept(device, foreign(device, log=log), shape=WORD)
    assert (row.status, row.time_ms, row.samples) == ("ok", 1e3 * TICK, 15)
    assert UNTIMED in row.note
    assert (row.workspace_bytes, row.peak_bytes) == (9, None), "what it allocates cannot be seen"
    # Once for the first check, once for the timed calls, once for the last check, which is on another x.
    assert [word for word in log if word != "run"] == ["stage", "collect", "stage", "stage", "collect"]


def test_only_the_library_may_leave_work_untimed() -> None:
    device = FakeDevice()
    (row,) = swept(device, foreign(device, "gemm.cheat"), shape=WORD)
    assert row.status == "failed"
    assert "only the family library may have work untimed" in row.note


def test_a_library_that_remembers_its_answer_or_fills_too_little_is_wrong() -> None:
    device = FakeDevice()
    memory: list[Any] = []

    def remembers(result: Any, y: Any) -> None:
        memory.append(result)
        y[...] = memory[0]

    def half(result: Any, y: Any) -> None:
        y[:1] = result[:1]

    (row,) = swept(device, foreign(device, collect=remembers), shape=WORD)
    assert row.status == "wrong"
    assert "right in the first call, wrong after the timed ones" in row.note
    (row,) = swept(device, foreign(device, collect=half), shape=WORD)
    assert row.status == "wrong"
    assert "are not finite" in row.note


def test_a_library_that_changes_x_is_wrong() -> None:
    device = FakeDevice()

    def spoils(x: Any) -> Any:
        staged = x.copy().view(Staged)
        x[...] = 0
        return staged

    (row,) = swept(device, foreign(device, stage=spoils), shape=WORD)
    assert row.status == "wrong"
    assert "it changed its input x" in row.note


def test_cold_calls_stage_every_copy() -> None:
    device, log = FakeDevice(last_level_bytes=1 << 12), list[str]()
    data = operands(Problem(parse_shape(WORD)), device, 0)
    case = open_case(foreign(device, log=log), data, device, "cold")
    assert case.status == "ok", case.note
    assert log.count("stage") == 1 + len(case.calls)


# Without PyTorch


def test_without_pytorch_its_rows_are_skipped_and_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    adapter.load.cache_clear()
    try:
        with pytest.raises(Missing, match=r"^PyTorch is not installed: "):
            adapter.load()
        device = Cpu(1)
        data = operands(Problem(parse_shape(WORD)), device, 0)
        for algorithm in TORCH:
            case = open_case(algorithm, data, device, "hot")
            assert (case.status, case.note) == ("skipped", adapter.INSTALL)
    finally:
        adapter.load.cache_clear()
    (ok,) = swept(fake := FakeDevice(), foreign(fake), shape=WORD)
    assert exit_code([ok]) == 0


def test_the_note_names_versions() -> None:
    config = SimpleNamespace(show=lambda: "PyTorch built with:\n - Intel(R) MKL-DNN v3.12.0 (Git Hash 80af)")
    assert adapter.versions(SimpleNamespace(__version__="9.9", __config__=config)) == "PyTorch 9.9, oneDNN 3.12.0"


def test_names_and_their_order() -> None:
    assert [algorithm.name for algorithm in TORCH] == [
        "library.torch.nchw", "library.torch.channels_last", "library.torch.mkldnn", "library.torch.prepacked",
    ]  # fmt: skip
    families = [algorithm.family for algorithm in built_in()]
    assert families.index(LIBRARY) == len(families) - families.count(LIBRARY), "the last of all"
    assert [set(algorithm.on) for algorithm in TORCH] == [{"cpu", "cuda"}, {"cpu", "cuda"}, {"cpu"}, {"cpu"}]


def test_freed_memory_is_kept_where_glibc_is_and_nothing_happens_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    glibc = SimpleNamespace(mallopt=lambda *words: calls.append(words), malloc_trim=lambda pad: calls.append((pad, 0)))
    for known in (glibc, SimpleNamespace()):
        monkeypatch.setattr("ctypes.CDLL", lambda name, known=known: known)
        machine.keep_freed_memory()
        machine.give_back_memory()
    assert calls == [(-3, 1 << 30), (-1, 1 << 30), (0, 0)]


# With PyTorch


@pytest.fixture(scope="module")
def cpu() -> Cpu:
    return Cpu(2)


def right(algorithm: Algorithm, shape: ConvShape, precision: str, device: Cpu) -> None:
    """Right before and after, on x and on -x; or unsupported, in float64 and by oneDNN alone."""
    data = operands(Problem(shape, precision), device, 0)
    case = open_case(algorithm, data, device, "hot")
    if precision == "float64" and algorithm.name.endswith(("mkldnn", "prepacked")):
        assert case.status == "unsupported"
        assert "float64" in case.note
        return
    assert case.status == "ok", case.note
    finish(case, data, device)
    assert case.status == "ok", case.note
    assert (case.peak_bytes, UNTIMED in case.note) == (None, True)
    assert case.note.startswith("PyTorch ")


@INSTALLED
@MODES
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    "word",
    [
        "n2c4h9w8k6r3s3p1g2", "n3c5h7w9k11r3s3u2x1p1x0d1x2", "n1c1h4w4k1r6s6p8x7u3x4", "n2c3h1w1k2r1s1p8",
        "n2c6h5w5k9r5s5", "n2c6h5w5k9r5s5g3", "n1c1h1w1k1r1s1",
    ],
)  # fmt: skip
def test_shapes(cpu: Cpu, algorithm: Algorithm, precision: str, word: str) -> None:
    right(algorithm, parse_shape(word), precision, cpu)


@INSTALLED
@MODES
@given(shape=shapes())
@settings(max_examples=20)
def test_random_shapes(algorithm: Algorithm, shape: ConvShape) -> None:
    right(algorithm, shape, "float32", Cpu(2))


@INSTALLED
@MODES
@pytest.mark.parametrize("layer", ["conv1", "conv2", "fc8"])
def test_layers_of_alexnet(cpu: Cpu, algorithm: Algorithm, layer: str) -> None:
    (shape,) = [each.shape for each in load("alexnet").layers if each.name == layer]
    right(algorithm, shape, "float32", cpu)


@INSTALLED
def test_bytes_and_threads() -> None:
    problem = Problem(parse_shape("n2c16h9w9k16r3s3p1"))
    x_bytes, w_bytes = 4 * 2 * 16 * 81, 4 * 16 * 16 * 9
    held = {}
    for algorithm in TORCH:
        case = open_case(algorithm, operands(problem, device := Cpu(1), 0), device, "hot")
        held[algorithm.name.rpartition(".")[2]] = case.workspace_bytes, case.prepared_bytes
        assert adapter.load().get_num_threads() == 1
    assert held == {"nchw": (0, 0)} | dict.fromkeys(("channels_last", "mkldnn", "prepacked"), (x_bytes, w_bytes))
