"""Precisions: what their arrays are, who computes in them, and what a user is told where nobody does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import FakeDevice, convbench, row
from rich.console import Console

from convbench import listing
from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.cuda_source import cuda_source
from convbench.measure.case import open_case, operands
from convbench.problem import PRECISIONS, Problem
from convbench.report.series import input_bytes
from convbench.shapes import parse_shape

SHAPE = parse_shape("n2c3h5w5k4r3s3p1")


def rounded_to_tf32(values: Any) -> Any:
    """float32 with ten bits of mantissa left, ties away from zero."""
    bits = values.view(np.uint32)
    return ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize(("name", "storage"), [("float32", "float32"), ("tf32", "float32"), ("float16", "float16")])
def test_operands_come_in_the_storage_type(name: str, storage: str) -> None:
    problem = Problem(SHAPE, name)
    x, w = problem.operands(3)
    assert (x.dtype, w.dtype, problem.storage) == (storage, storage, storage)
    assert problem.bytes_min == (x.nbytes + w.nbytes + np.prod(SHAPE.y_shape) * np.dtype(storage).itemsize)
    assert np.dtype(storage).itemsize == PRECISIONS[name].bytes


def test_a_kernel_sees_halves_as_their_bits(tmp_path: Path) -> None:
    path = tmp_path / "k.cu"
    path.write_text("")
    assert "using T = unsigned short;" in cuda_source(path, Problem(SHAPE, "float16"))
    assert "using T = float;" in cuda_source(path, Problem(SHAPE, "tf32"))


def computing(precisions: dict[str, tuple[str, ...]], round_to: Any) -> Algorithm:
    def plan(problem: Problem, device: Any) -> Plan:
        from convbench.reference import convolve

        return Plan(lambda x, w, y: np.copyto(y, convolve(round_to(x), round_to(w), problem.shape), casting="unsafe"))

    return Algorithm("mine.rounds", on={"cpu": plan}, precisions=precisions)


@pytest.mark.parametrize("precision", ["tf32", "float16"])
def test_ten_bits_are_right_in_ten_bits_and_wrong_in_float32(precision: str) -> None:
    device: Any = FakeDevice()
    algorithm = computing({"cpu": ("float32", "tf32", "float16")}, lambda v: rounded_to_tf32(v.astype(np.float32)))
    case = open_case(algorithm, operands(Problem(SHAPE, precision), device, 1), device, "hot", weigh=False)
    assert case.status == "ok", case.note
    case = open_case(algorithm, operands(Problem(SHAPE), device, 1), device, "hot", weigh=False)
    assert case.status == "wrong"


def test_eight_bits_are_wrong_in_tf32() -> None:
    device: Any = FakeDevice()
    algorithm = computing({"cpu": ("tf32",)}, lambda v: (v.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
    case = open_case(algorithm, operands(Problem(SHAPE, "tf32"), device, 1), device, "hot", weigh=False)
    assert case.status == "wrong"


def test_who_lacks_a_precision_is_unsupported_with_the_reason() -> None:
    device: Any = FakeDevice()
    algorithm = computing({}, lambda v: v)
    assert algorithm.precisions_on("cpu") == ("float32", "float64")
    case = open_case(algorithm, operands(Problem(SHAPE, "tf32"), device, 1), device, "hot", weigh=False)
    assert case.status == "unsupported"
    assert case.note == "mine.rounds has no tf32 on the cpu, only float32, float64"


def test_a_precision_nobody_has_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    out = tmp_path / "x.csv"
    ended = convbench(
        "run", "--precision", "float16", "--device", "cpu", "--layer", "fc8", "--no-isolate", "--out", str(out)
    )
    assert ended.code == 2
    assert "--precision float16: none of the chosen algorithms computes in it on the cpu" in " ".join(ended.err.split())
    assert not out.exists()


def test_unknown_precisions_are_refused_with_the_known_ones() -> None:
    ended = convbench("run", "--precision", "bfloat16")
    assert ended.code == 2
    assert "float32, float64, tf32, float16" in " ".join(ended.err.split())


def test_bytes_of_rows_follow_the_precision() -> None:
    word = "n1c2h3w4k1r1s1"
    assert input_bytes(row(shape=word, precision="float16")) == 48
    assert input_bytes(row(shape=word, precision="tf32")) == 96


def test_the_list_says_what_code_needs_and_which_precisions_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    monkeypatch.setattr(listing, "make_console", lambda: console)
    monkeypatch.setattr(listing, "unavailable", lambda kind: "no GPU here")
    needy = Algorithm(
        "m.needy", on={"cuda": lambda p, d: Plan(lambda x, w, y: None)}, summary="does it",
        precisions={"cuda": ("tf32",)}, needs={"cuda": "sm_80 or newer"},
    )  # fmt: skip
    other = Algorithm("m.other", on={"cpu": lambda p, d: Plan(lambda x, w, y: None)})
    listing.print_listing("alexnet", [], [needy, other], ("cuda",))
    text = " ".join(console.export_text().split())
    assert "without code for the cuda: m.other" in text
    assert "does it (cuda: sm_80 or newer; tf32)" in text
