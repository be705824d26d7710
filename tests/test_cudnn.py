"""library.cudnn on a cuDNN that convolves on the host (fake_cudnn.c): whole plans, every failure, every object's end.

CUDNN_INCLUDE, folders with NVIDIA's cudnn.h and what it includes, compiles the fake against that header: then the
header judges every signature and number that convbench uses.
"""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_devices import ArrayDevice, CupyRules
from fakes import TICK, FakeDevice, shapes, swept
from hypothesis import given, settings

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Missing, Unsupported
from convbench.algorithms.library import cudnn, cudnn_api
from convbench.algorithms.library.cudnn_api import CudnnError
from convbench.devices.base import Call, Sample
from convbench.problem import PRECISIONS, Problem
from convbench.reference import judge, truth
from convbench.shapes import ConvShape, parse_shape
from convbench.sweep import exit_code

STREAM = 0x77
CUDNN = {a.name.rpartition(".")[2]: a for a in built_in() if a.name.startswith("library.cudnn.")}
PLAIN, FIVE, ODD = "n2c4h9w8k6r3s3p1g2", "n1c3h9w9k4r5s5p2", "n3c4h7w9k6r3s2u2x1p1x0d1x2g2"
OLD, WITHOUT_FORWARD = "OLD", "WITHOUT_FORWARD"


class OnAStream(CupyRules):
    """NumPy with the one thing of CuPy's that has no like in it: the current stream."""

    cuda = SimpleNamespace(get_current_stream=lambda: SimpleNamespace(ptr=STREAM))


class StreamDevice(ArrayDevice):
    """Keeps what it gave out, as a workspace is known by it."""

    def __init__(self) -> None:
        super().__init__()
        self.xp = OnAStream()
        self.given: list[Any] = []

    def empty(self, shape: tuple[int, ...], precision: str) -> Any:
        self.given.append(np.zeros(shape, precision))
        return self.given[-1]


@dataclass
class GpuOnHost(FakeDevice):
    """A whole device for sweeps."""

    kind: str = "cuda"
    caches: tuple[str, ...] = ("cold",)
    xp: Any = field(default_factory=OnAStream)

    def time(self, calls: list[Call], loops: int) -> Sample:
        self.clock += TICK * loops
        return Sample(super().time(calls, loops).seconds + TICK)


@cache
def compiled(folder: Path, *options: str) -> Path:
    """The fake as a library of its own."""
    headers = [f"-I{path}" for path in os.environ.get("CUDNN_INCLUDE", "").split(os.pathsep) if path]
    defined = [f"-D{name}" for name in (*options, *(["WITH_HEADER"] if headers else []))]
    path = folder / f"libcudnn{''.join(options)}.so"
    source = Path(__file__).with_name("fake_cudnn.c")
    warnings = ["-Wall", "-Wextra", "-Werror", "-Wno-deprecated-declarations"]
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", *warnings, *headers, *defined, str(source), "-o", str(path)], check=True
    )
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cudnn")


class Fake:
    """The account that the library keeps; leaving it checks that nothing was misused, lost or destroyed twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))

    def number(self, name: str) -> int:
        return ctypes.c_int.in_dll(self.library, f"fake_{name}").value

    def pointer(self, name: str) -> int:
        return ctypes.c_void_p.in_dll(self.library, f"fake_{name}").value or 0

    def fail(self, function: str, status: int) -> None:
        (ctypes.c_char * 64).in_dll(self.library, "fake_failing").value = function.encode()
        ctypes.c_int.in_dll(self.library, "fake_status").value = status

    def reset(self) -> None:
        for name in ("made", "destroyed", "misused", "forwards", "status"):
            ctypes.c_int.in_dll(self.library, f"fake_{name}").value = 0

    @property
    def live(self) -> int:
        return self.number("made") - self.number("destroyed")


@pytest.fixture
def fake(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    one = Fake(compiled(folder))
    one.reset()
    monkeypatch.setenv(cudnn_api.ENVIRONMENT, str(one.path))
    cudnn_api.load.cache_clear()
    yield one
    if one.live:  # what an exception's traceback still holds
        gc.collect()
    assert (one.live, one.number("misused")) == (0, 0)
    cudnn_api.load.cache_clear()


def expected(variant: str, s: ConvShape, precision: str) -> bool:
    """Whether an algorithm takes a convolution, as cuDNN's documentation has it."""
    if variant in ("implicit_gemm", "implicit_precomp_gemm", "gemm"):
        return True
    if (s.stride, s.dilation) != ((1, 1), (1, 1)):
        return False
    if variant.startswith("fft"):
        return s.r > s.pad[0] and s.s > s.pad[1]
    filters = [(3, 3)] if variant == "winograd" else [(3, 3), (5, 5)]
    return (s.r, s.s) in filters and precision != "float64"


def check(variant: str, s: ConvShape, precision: str, fake: Fake) -> None:
    """The right answer by the algorithm of this name on CuPy's stream, or a refusal in cuDNN's words."""
    problem, device = Problem(s, precision), StreamDevice()
    plan_of = CUDNN[variant].on["cuda"]
    if not expected(variant, s, precision):
        with pytest.raises(Unsupported, match=r"^cuDNN: CUDNN_STATUS_NOT_SUPPORTED \(3000\) in .*does not take this$"):
            plan_of(problem, device)  # type: ignore[arg-type]
        return
    plan = plan_of(problem, device)  # type: ignore[arg-type]
    x, w = problem.operands(3)
    y = np.full(s.y_shape, np.nan, problem.storage)
    plan.run(x, plan.prepare(w), y)
    assert judge(y, truth(x, w, s)).error < problem.number.tolerance
    number = cudnn.VARIANTS[variant][0]
    assert (fake.number("algorithm"), fake.pointer("stream")) == (number, STREAM)
    (workspace,) = device.given
    assert plan.workspace == 1000 * number == fake.pointer("workspace_bytes")
    assert (fake.pointer("workspace"), workspace.dtype) == (workspace.ctypes.data, np.uint8)
    assert workspace.size == max(plan.workspace, 1)
    assert (workspace == 0x5A).all() or not plan.workspace


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", CUDNN)
def test_every_algorithm_is_right_or_refuses(fake: Fake, variant: str, precision: str) -> None:
    for word in (PLAIN, FIVE, ODD, "n2c3h1w1k2r1s1p8", "n2c6h5w5k9r5s5", "n2c6h3w3k8r3s3p4g2"):
        check(variant, parse_shape(word), precision, fake)


@given(shape=shapes(most=5, channels=3))
@settings(max_examples=15)
def test_random_shapes(folder: Path, shape: ConvShape) -> None:
    fake = Fake(compiled(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cudnn_api.ENVIRONMENT, str(fake.path))
        for variant in CUDNN:
            check(variant, shape, "float32", fake)
    assert fake.number("misused") == 0


# CUDNN_FMA_MATH keeps float32 from tensor cores; the numbers are cudnnMathType_t's.
@pytest.mark.parametrize(("precision", "math"), [("float32", 3), ("float64", 0), ("tf32", 0), ("float16", 1)])
def test_which_arithmetic_is_asked_for(fake: Fake, precision: str, math: int) -> None:
    check("implicit_precomp_gemm", parse_shape(PLAIN), precision, fake)
    assert fake.number("math") == math


def test_a_sweep_measures_it_checks_it_and_says_what_ran(fake: Fake) -> None:
    rows = swept(GpuOnHost(), *CUDNN.values(), shape=PLAIN, cache="cold")
    assert {(row.status, row.device) for row in rows} == {("ok", "cuda")}
    by_name = {row.algo: row for row in rows}
    row = by_name["library.cudnn.fft_tiling"]
    assert row.note == "algorithm 5 of cuDNN 9.28.1, CUDNN_FMA_MATH, NCHW, 5.00 KB of workspace"
    assert (row.workspace_bytes, row.prepared_bytes, row.family) == (5000, 0, "library")
    assert sorted(row.workspace_bytes or 0 for row in rows) == [0, 1000, 2000, 4000, 5000, 6000, 7000]
    # A handle, two tensors, a filter and a convolution for each of two plans: one of them to be weighed.
    assert fake.number("made") == 5 * 2 * len(CUDNN)


def test_names_and_their_order() -> None:
    assert [algorithm.name for algorithm in built_in()][-7:] == [f"library.cudnn.{name}" for name in (
        "implicit_gemm", "implicit_precomp_gemm", "gemm", "fft", "fft_tiling", "winograd", "winograd_nonfused",
    )]  # fmt: skip
    for algorithm in CUDNN.values():
        assert (set(algorithm.on), algorithm.precisions_on("cuda")) == ({"cuda"}, tuple(PRECISIONS))


# What goes wrong


FUNCTIONS = [name for name in cudnn_api.SIGNATURES if "Destroy" not in name]
ANSWERS = ("cudnnGetConvolutionForwardWorkspaceSize",)  # whatever it says is cuDNN's answer to this problem


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_call_that_fails_is_a_row_with_the_reason_and_leaves_nothing_behind(fake: Fake, function: str) -> None:
    fake.fail(function, 5000)
    (row,) = swept(GpuOnHost(), CUDNN["gemm"], shape=PLAIN)
    gc.collect()
    assert row.status == ("unsupported" if function in ANSWERS else "failed")
    assert f"cuDNN: CUDNN_STATUS_EXECUTION_FAILED (5000) in {function}: told to fail" in row.note
    assert fake.live == 0
    assert exit_code([row]) == 4


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_cudnn_does_not_support_is_unsupported_wherever_it_says_so(fake: Fake, function: str) -> None:
    fake.fail(function, 3000)
    (row,) = swept(GpuOnHost(), CUDNN["gemm"], shape=PLAIN)
    assert (row.status, row.note.partition(" in ")[0]) == ("unsupported", "cuDNN: CUDNN_STATUS_NOT_SUPPORTED (3000)")


def test_a_later_call_that_fails_costs_the_row(fake: Fake) -> None:
    problem, device = Problem(parse_shape(PLAIN)), StreamDevice()
    plan = CUDNN["gemm"].on["cuda"](problem, device)  # type: ignore[arg-type]
    (x, w), y = problem.operands(3), np.empty(problem.shape.y_shape, np.float32)
    plan.run(x, w, y)
    fake.fail("cudnnConvolutionForward", 1001)
    with pytest.raises(CudnnError, match=r"CUDNN_STATUS_NOT_INITIALIZED \(1001\) in cudnnConvolutionForward"):
        plan.run(x, w, y)
    assert fake.number("forwards") == 1


def test_arrays_of_more_than_two_giga_elements_are_cudnns_to_refuse(fake: Fake) -> None:
    problem = Problem(parse_shape("n40c64h1024w1024k3r1s1"))
    with pytest.raises(Unsupported, match="in cudnnSetTensor4dDescriptor: 2 Giga-elements"):
        CUDNN["implicit_gemm"].on["cuda"](problem, StreamDevice())  # type: ignore[arg-type]


def test_objects_live_as_long_as_the_plan_and_end_once(fake: Fake) -> None:
    plans = [CUDNN["gemm"].on["cuda"](Problem(parse_shape(PLAIN)), StreamDevice()) for _ in range(2)]  # type: ignore[arg-type]
    gc.collect()
    assert (fake.live, fake.number("destroyed")) == (10, 0)
    run = plans.pop().run
    assert fake.live == 10, "what runs it keeps it"
    del run
    assert (fake.live, fake.number("destroyed")) == (5, 5), "at once, without a collection"
    plans.clear()
    assert (fake.live, fake.number("destroyed")) == (0, 10)


def test_an_object_that_cannot_be_destroyed_keeps_nobody_from_the_others(fake: Fake) -> None:
    plan = CUDNN["gemm"].on["cuda"](Problem(parse_shape(PLAIN)), StreamDevice())  # type: ignore[arg-type]
    fake.fail("cudnnDestroyFilterDescriptor", 2000)
    del plan
    assert fake.live == 1
    fake.reset()


# Finding it


@pytest.fixture
def nothing_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(cudnn_api.ENVIRONMENT, raising=False)
    monkeypatch.setattr(cudnn_api, "_folders_of", lambda package: [])
    monkeypatch.setattr(cudnn_api, "NAMES", ("libno-such-cudnn.so.9",))
    cudnn_api.load.cache_clear()
    yield
    cudnn_api.load.cache_clear()


@pytest.mark.usefixtures("nothing_found")
def test_without_cudnn_its_rows_are_skipped() -> None:
    rows = swept(GpuOnHost(), *CUDNN.values(), shape=PLAIN)
    assert {(row.status, row.note) for row in rows} == {("skipped", cudnn_api.INSTALL)}
    assert "pip install nvidia-cudnn-cu13" in cudnn_api.INSTALL


def test_a_path_that_is_no_cudnn_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, reason in (
        (folder / "libabsent.so", "cannot open shared object file"),
        (compiled(folder, WITHOUT_FORWARD), "undefined symbol: cudnnConvolutionForward"),
    ):
        monkeypatch.setenv(cudnn_api.ENVIRONMENT, str(path))
        with pytest.raises(Missing, match=f"^CONVBENCH_CUDNN: {path} cannot be used as cuDNN 8 or 9: .*{reason}"):
            cudnn_api.chosen()


@pytest.mark.usefixtures("nothing_found")
def test_the_wheel_comes_first_then_pytorchs_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = {"nvidia.cudnn": folder / "wheel", "torch": folder / "torch"}
    for place in places.values():
        (place / "lib").mkdir(parents=True)
    monkeypatch.setattr(cudnn_api, "_folders_of", lambda package: [str(places[package])])
    monkeypatch.setattr(cudnn_api, "NAMES", ("libfake.so.9", "libfake.so.8"))
    broken, good = (place / "lib" / "libfake.so.8" for place in places.values())
    broken.write_text("no library")
    good.write_bytes(compiled(folder, OLD).read_bytes())
    assert list(cudnn_api.candidates()) == [str(broken), str(good), "libfake.so.9", "libfake.so.8"]
    assert cudnn_api.chosen().version == "8.9.7", "one that cannot be used is passed over"
    good.unlink()
    cudnn_api.load.cache_clear()
    with pytest.raises(Missing, match=f"^{broken} cannot be used as cuDNN 8 or 9"):
        cudnn_api.chosen()


def test_packages_are_found_without_being_imported() -> None:
    assert cudnn_api._folders_of("no_such_package.cudnn") == cudnn_api._folders_of("no_such_package") == []
    (place,) = cudnn_api._folders_of("convbench.algorithms")
    assert Path(place) == Path(cudnn.__file__).parent.parent


def test_cudnn_8(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(compiled(folder, OLD))
    monkeypatch.setenv(cudnn_api.ENVIRONMENT, str(fake.path))
    check("gemm", parse_shape(ODD), "float32", fake)
    plan_of = CUDNN["fft"].on["cuda"]
    with pytest.raises(Unsupported, match=r"^cuDNN: CUDNN_STATUS_NOT_SUPPORTED \(9\) in \w+$"):
        plan_of(Problem(parse_shape(ODD)), StreamDevice())  # type: ignore[arg-type]
    fake.fail("cudnnSetStream", 9)
    with pytest.raises(Unsupported):
        plan_of(Problem(parse_shape(PLAIN)), StreamDevice())  # type: ignore[arg-type]
    fake.reset()


@pytest.mark.parametrize(("number", "text"), [(92801, "9.28.1"), (90100, "9.1.0"), (91900, "9.19.0"), (8907, "8.9.7")])
def test_versions(number: int, text: str) -> None:
    assert cudnn_api.version_of(number) == text


def test_addresses_of_both_kinds_of_arrays() -> None:
    here = np.zeros(3)
    there: Any = SimpleNamespace(data=SimpleNamespace(ptr=1 << 40))
    assert (cudnn.address(here), cudnn.address(there)) == (here.ctypes.data, 1 << 40)


def test_the_fake_knows_a_wrong_call(folder: Path) -> None:
    """A second end, a dead object, another scale than one: each is told."""
    library = cudnn_api.Cudnn(ctypes.CDLL(str(compiled(folder))))
    made = ctypes.c_void_p()
    library.call("cudnnCreateTensorDescriptor", ctypes.byref(made))
    library.call("cudnnDestroyTensorDescriptor", made)
    for call in (
        ("cudnnDestroyTensorDescriptor", made),
        ("cudnnSetTensor4dDescriptor", made, 0, 0, 1, 1, 1, 1),
    ):
        with pytest.raises(CudnnError, match="CUDNN_STATUS_BAD_PARAM"):
            library.call(*call)
    one: Algorithm = CUDNN["gemm"]
    assert one.refusal(Problem(parse_shape(PLAIN)), "cuda") is None
