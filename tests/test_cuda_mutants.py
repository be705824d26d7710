"""The test bench itself is tested: a bug planted in a CUDA kernel must be caught, and so must each barrier left out.

A mutant is caught when a listed shape, in some schedule or with races looked for, ends in an error of the kernel or a
wrong answer. One that does not compile is a mistake of the list.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from cuda_host.check import SCHEDULES, check
from cuda_host.launch import KernelError, LaunchError
from cuda_host.listing import Case, Edit, Listed, Mutant, deleted, edited, listed, replaced, statements

import convbench.algorithms

pytestmark = pytest.mark.usefixtures("host_compiler")
FOLDER = Path(convbench.algorithms.__file__).parent
ORDERS = {"barrier": r"__syncthreads\(\)", "wait": r"copy_async_wait<[^;>]*>\(\)"}
LEAST_MUTANTS, LEAST_FILES = 20, 4
PLANTED = [(kernel, mutant) for kernel in listed() for mutant in kernel.mutants]
REMOVED = [
    (kernel, pattern, number, f"{kernel.file}-{word} in line {text[: match.start()].count(chr(10)) + 1}")
    for kernel in listed()
    for text in [(FOLDER / kernel.file).read_text()]
    for word, pattern in ORDERS.items()
    for number, match in enumerate(statements(text, pattern))
]


def caught(kernel: Listed, edit: Edit, races_first: bool) -> str | None:
    """What first showed the edited file to be wrong; None where nothing did."""
    change = partial(edited, file=kernel.file, edit=edit)
    for case in kernel.cases():
        for racecheck in (races_first, not races_first):
            if failure := fails(case, change, racecheck):
                return f"{case}: {failure}"
    return None


def fails(case: Case, change: Edit, racecheck: bool) -> str | None:
    try:
        check(case, schedules=SCHEDULES[:1] if racecheck else SCHEDULES, racecheck=racecheck, edit=change)
    except (AssertionError, KernelError, LaunchError) as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("kernel", "mutant"), PLANTED, ids=[f"{kernel.file}-{mutant.name}" for kernel, mutant in PLANTED]
)
def test_planted_bugs_are_caught(kernel: Listed, mutant: Mutant) -> None:
    replaced(mutant)((FOLDER / kernel.file).read_text())  # raises where the list is out of date
    assert caught(kernel, replaced(mutant), races_first=False)


@pytest.mark.parametrize(("kernel", "pattern", "number"), [entry[:3] for entry in REMOVED], ids=[e[3] for e in REMOVED])
def test_a_barrier_left_out_is_caught(kernel: Listed, pattern: str, number: int) -> None:
    assert caught(kernel, deleted(pattern, number), races_first=True)


def test_there_are_enough_mutants() -> None:
    assert len(PLANTED) >= LEAST_MUTANTS
    assert len({kernel.file for kernel, _ in PLANTED}) >= LEAST_FILES
