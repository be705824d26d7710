"""Every CUDA kernel on the CPU: tests/cuda_host runs the unmodified .cu, one fiber a CUDA thread.

Each kernel's list (cuda_host/kernels/*.toml) is run in several schedules, which must agree to the bit, and once with
every access watched for races. All algorithms take some shapes besides that nobody would choose.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cuda_host.check import check
from cuda_host.listing import Case, Listed, files_of, listed

import convbench.algorithms
from convbench.algorithms import built_in
from convbench.algorithms.gemm import implicit_tensor
from convbench.problem import PRECISIONS, Problem
from convbench.shapes import parse_shape

pytestmark = pytest.mark.usefixtures("host_compiler")
FOLDER = Path(convbench.algorithms.__file__).parent
CASES = [(kernel, case) for kernel in listed() for case in kernel.cases()]
IDS = [f"{kernel.file}-{case}" for kernel, case in CASES]
# For all algorithms; the usual precision takes all of them, the others two each, in turn.
ODD = (
    "n1c1h1w1k1r1s1",
    "n2c3h5w7k4r3s2u2x1p1x0d1x2",
    "n1c2h3w3k3r2s2u4p8",  # mostly padding
    "n3c6h4w9k9r3s3p1g3",
    "n2c4h8w8k4r4s4u2d2p3g4",
    "n1c3h19w19k3r7s7d3",  # one pixel
    "n3c2h9w10k5r9s10",  # nothing slides
    "n1c1h6w6k1r1s2u7p7",
    "n2c5h13w11k17r5s5u3p2",
)


@pytest.fixture(autouse=True)
def few_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few that small problems fill each of them again."""
    monkeypatch.setattr(implicit_tensor, "MOST_STAGES", 4)


@pytest.mark.parametrize(("kernel", "case"), CASES, ids=IDS)
def test_listed_shapes(kernel: Listed, case: Case) -> None:
    assert check(case).launches


def watched() -> Iterator[tuple[Listed, Case]]:
    """The usual precision with every shape, the others with their largest."""
    for kernel in listed():
        largest = {case.problem.precision: case for case in kernel.cases()}
        usual = next(iter(largest), None)
        for case in kernel.cases():
            if case.problem.precision == usual or case is largest[case.problem.precision]:
                yield kernel, case


WATCHED = list(watched())


@pytest.mark.parametrize(("kernel", "case"), WATCHED, ids=[f"{kernel.file}-{case}" for kernel, case in WATCHED])
def test_no_races(kernel: Listed, case: Case) -> None:
    check(case, schedules=[(2, "end")], racecheck=True)


def odd_cases() -> Iterator[tuple[str, list[Case]]]:
    turn = 0
    for algorithm in built_in():
        if "cuda" not in algorithm.on:
            continue
        for precision in PRECISIONS:
            cases = [Case(algorithm, Problem(parse_shape(word), precision), 90) for word in ODD]
            cases = [case for case in cases if files_of(case)]
            if precision != "float32":
                cases = [cases[(turn + i) % len(cases)] for i in range(min(2, len(cases)))]
                turn += 2
            if cases:
                yield f"{algorithm.name}-{precision}", cases


ODD_CASES = list(odd_cases())


@pytest.mark.parametrize("cases", [cases for _, cases in ODD_CASES], ids=[name for name, _ in ODD_CASES])
def test_odd_shapes(cases: list[Case]) -> None:
    for case in cases:
        check(case, schedules=[(2, "end"), (1, "start")])


def test_every_kernel_has_a_list() -> None:
    kernels = {str(path.relative_to(FOLDER)) for path in FOLDER.glob("*/*.cu")}
    assert kernels
    assert kernels - {kernel.file for kernel in listed()} == set(), "no tests/cuda_host/kernels/*.toml for these"
    for kernel in listed():
        assert (FOLDER / kernel.file).is_file(), kernel.file


@pytest.mark.parametrize("kernel", listed(), ids=lambda kernel: kernel.file)
def test_every_entry_of_a_list_is_of_use(kernel: Listed) -> None:
    cases = list(kernel.cases())
    assert {case.algorithm.name for case in cases} == set(kernel.algorithms)
    words = (*kernel.shapes, *kernel.outliers)
    assert {str(case.problem.shape) for case in cases} == {str(parse_shape(word)) for word in words}
    assert {case.capability for case in cases} == set(kernel.capabilities)
