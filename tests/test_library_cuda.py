"""PyTorch's part on a GPU, run by a PyTorch without one: CuPy's arrays are NumPy's, streams are only recorded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_devices import CupyRules
from fakes import FakeDevice, swept

from convbench.algorithms import built_in
from convbench.algorithms.base import Missing
from convbench.algorithms.library import torch as adapter
from convbench.measure.case import open_case, operands
from convbench.measure.foreign import UNTIMED
from convbench.measure.rounds import finish
from convbench.problem import PRECISIONS, Problem
from convbench.shapes import parse_shape

ON_GPU = {a.name.rpartition(".")[2]: a for a in built_in() if a.name.startswith("library.torch.") and "cuda" in a.on}
INSTALLED = pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is not installed")
PLAIN, LINEAR = "n2c4h9w8k6r3s3p1g2", "n3c6h5w5k9r5s5"


@dataclass
class GpuOnHost(FakeDevice):
    kind: str = "cuda"
    caches: tuple[str, ...] = ("cold",)
    xp: Any = field(default_factory=CupyRules)


@dataclass
class Queue:
    """Stands for a stream: what TF32 was allowed to when PyTorch came to queue something."""

    torch: Any
    seen: list[tuple[bool, bool]] = field(default_factory=list)

    def __call__(self) -> AbstractContextManager[Any]:
        backends = self.torch.backends
        self.seen.append((backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32))
        return nullcontext()


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue]:
    """A PyTorch that believes to have a GPU."""
    torch = adapter.load()
    one = Queue(torch)
    monkeypatch.setattr(adapter, "no_cuda", lambda torch: "")
    monkeypatch.setattr(adapter, "streams", lambda torch, cupy: one)
    yield one
    torch.backends.cudnn.benchmark = False
    adapter.set_tf32(torch, False)


@INSTALLED
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("mode", ON_GPU)
def test_right_before_and_after_on_x_and_on_minus_x(queue: Queue, mode: str, precision: str) -> None:
    for word in (PLAIN, "n3c5h7w9k11r3s3u2x1p1x0d1x2", "n2c3h1w1k2r1s1p8", LINEAR, "n2c6h5w5k9r5s5g3"):
        data = operands(Problem(parse_shape(word), precision), device := GpuOnHost(), 0)
        case = open_case(ON_GPU[mode], data, device, "cold")
        assert case.status == "ok", case.note
        finish(case, data, device)
        assert case.status == "ok", case.note
        assert (case.peak_bytes, UNTIMED in case.note) == (None, True)
    assert set(queue.seen) == {(precision == "tf32", precision == "tf32")}


@INSTALLED
def test_precisions_side_by_side_each_have_their_arithmetic(queue: Queue) -> None:
    device, plans, held = GpuOnHost(), {}, {}
    for precision in ("float32", "tf32"):
        problem = Problem(parse_shape(PLAIN), precision)
        plans[precision] = ON_GPU["nchw"].on["cuda"](problem, device)
        x, w = problem.operands(0)
        held[precision] = x, plans[precision].prepare(w)
    for precision in ("tf32", "float32", "tf32"):
        queue.seen.clear()
        plan, (x, w) = plans[precision], held[precision]
        assert plan.foreign is not None
        plan.run(plan.foreign.stage(x), w, None)
        assert queue.seen == [(precision == "tf32",) * 2] * 2


@INSTALLED
def test_all_of_cudnns_plans_are_tried_and_the_note_says_so(queue: Queue) -> None:
    notes = {}
    for precision in PRECISIONS:
        problem = Problem(parse_shape(PLAIN), precision)
        notes[precision] = ON_GPU["channels_last"].on["cuda"](problem, GpuOnHost()).note
    cudnn, matmul = queue.torch.backends.cudnn, queue.torch.backends.cuda.matmul
    assert (cudnn.benchmark, cudnn.benchmark_limit, matmul.allow_fp16_reduced_precision_reduction) == (True, 0, False)
    start = f"PyTorch {queue.torch.__version__}, without cuDNN: F.conv2d, channels last; benchmark on"
    assert notes == {
        "float32": f"{start}, TF32 off", "float64": start, "tf32": f"{start}, TF32 on", "float16": start,
    }  # fmt: skip


@INSTALLED
def test_arrays_are_shared_and_layouts_are_copies(queue: Queue) -> None:
    problem = Problem(parse_shape(PLAIN))
    x, w = problem.operands(0)
    tensors, bytes_held = {}, {}
    for mode, algorithm in ON_GPU.items():
        plan = algorithm.on["cuda"](problem, GpuOnHost())
        assert plan.foreign is not None
        tensors[mode] = plan.foreign.stage(x)
        bytes_held[mode] = plan.workspace, plan.prepare(w).nbytes
    x[0, 0, 0, 0] = 77
    assert [float(tensor[0, 0, 0, 0]) == 77 for tensor in tensors.values()] == [True, False]
    assert tensors["channels_last"].stride() == (9 * 8 * 4, 1, 8 * 4, 4)
    assert bytes_held == {"nchw": (0, 0), "channels_last": (x.nbytes, w.nbytes)}


@INSTALLED
def test_a_result_of_any_layout_comes_into_y(queue: Queue) -> None:
    problem = Problem(parse_shape(PLAIN))
    foreign = ON_GPU["nchw"].on["cuda"](problem, GpuOnHost()).foreign
    assert foreign is not None
    numbers = np.arange(np.prod(problem.shape.y_shape), dtype=np.float32).reshape(problem.shape.y_shape)
    for layout in (queue.torch.contiguous_format, queue.torch.channels_last):
        y = np.zeros_like(numbers)
        foreign.collect(queue.torch.from_numpy(numbers).contiguous(memory_format=layout), y)
        assert (y == numbers).all()


@INSTALLED
def test_a_pytorch_without_cuda_is_skipped_with_the_remedy() -> None:
    torch = adapter.load()
    if torch.version.cuda is not None:
        pytest.skip("this PyTorch has CUDA")
    (row,) = swept(GpuOnHost(), ON_GPU["nchw"], shape=PLAIN)
    assert row.status == "skipped"
    assert row.note == f"PyTorch {torch.__version__} is built without CUDA: {adapter.WITH_CUDA}"


@pytest.mark.parametrize(("built", "sees", "reason"), [
    (None, False, "is built without CUDA: pip install"), ("13.0", False, "finds no GPU that its CUDA 13.0 can use"),
    ("13.0", True, ""),
])  # fmt: skip
def test_why_not(built: str | None, sees: bool, reason: str) -> None:
    cuda = SimpleNamespace(is_available=lambda: sees)
    told = adapter.no_cuda(SimpleNamespace(__version__="9.9", version=SimpleNamespace(cuda=built), cuda=cuda))
    assert reason in told
    assert bool(told) == bool(reason)


def libraries(theirs: int, ours: int) -> tuple[Any, Any]:
    """A PyTorch and a CuPy with a current stream each, on GPU 2."""
    cuda = SimpleNamespace(
        current_stream=lambda gpu: SimpleNamespace(cuda_stream={2: theirs}[gpu]),
        ExternalStream=lambda pointer, device: ("external", pointer, device),
        stream=lambda stream: nullcontext(stream),
    )
    here = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=ours), Device=lambda: SimpleNamespace(id=2))
    return SimpleNamespace(cuda=cuda), SimpleNamespace(cuda=here)


def test_pytorch_queues_where_cupy_does() -> None:
    assert adapter.streams(*libraries(0, 0)) is nullcontext, "both are on the legacy default stream"
    with adapter.streams(*libraries(0, 4096))() as stream:
        assert stream == ("external", 4096, 2)


def test_no_variable_outvotes_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1")
    monkeypatch.setitem(sys.modules, "torch", None)
    adapter.load.cache_clear()
    with pytest.raises(Missing):
        adapter.load()
    adapter.load.cache_clear()
    assert "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE" not in os.environ


def test_on_a_gpu_there_are_two_modes_in_every_precision() -> None:
    assert list(ON_GPU) == ["nchw", "channels_last"]
    assert {algorithm.precisions_on("cuda") for algorithm in ON_GPU.values()} == {tuple(PRECISIONS)}
    assert {algorithm.precisions_on("cpu") for algorithm in ON_GPU.values()} == {("float32", "float64")}
