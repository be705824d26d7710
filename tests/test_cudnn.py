"""library.cudnn on a cuDNN that convolves on the host: whole plans, every failure, every object's end."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cudnn_on_host import CUDNN, FIVE, ODD, PLAIN, Fake, GpuOnHost, StreamDevice, check, compiled
from fakes import shapes, swept
from hypothesis import given, settings

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Unsupported
from convbench.algorithms.library import cudnn, cudnn_api
from convbench.algorithms.library.cudnn_api import CudnnError
from convbench.problem import PRECISIONS, Problem
from convbench.shapes import ConvShape, parse_shape
from convbench.sweep import exit_code


@pytest.fixture
def fake(cudnn_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    one = Fake(compiled(cudnn_folder))
    one.reset()
    monkeypatch.setenv(cudnn_api.ENVIRONMENT, str(one.path))
    cudnn_api.load.cache_clear()
    yield one
    if one.live:  # what an exception's traceback still holds
        gc.collect()
    assert (one.live, one.number("misused")) == (0, 0)
    cudnn_api.load.cache_clear()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("variant", CUDNN)
def test_every_algorithm_is_right_or_refuses(fake: Fake, variant: str, precision: str) -> None:
    for word in (PLAIN, FIVE, ODD, "n2c3h1w1k2r1s1p8", "n2c6h5w5k9r5s5", "n2c6h3w3k8r3s3p4g2"):
        check(variant, parse_shape(word), precision, fake)


@given(shape=shapes(most=5, channels=3))
@settings(max_examples=15)
def test_random_shapes(cudnn_folder: Path, shape: ConvShape) -> None:
    fake = Fake(compiled(cudnn_folder))
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


def test_addresses_of_both_kinds_of_arrays() -> None:
    here = np.zeros(3)
    there: Any = SimpleNamespace(data=SimpleNamespace(ptr=1 << 40))
    assert (cudnn.address(here), cudnn.address(there)) == (here.ctypes.data, 1 << 40)


def test_the_fake_knows_a_wrong_call(cudnn_folder: Path) -> None:
    """A second end, a dead object, another scale than one: each is told."""
    library = cudnn_api.Cudnn(ctypes.CDLL(str(compiled(cudnn_folder))))
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
