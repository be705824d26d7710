"""The test bench itself is tested: a bug planted in a CUDA kernel must be caught, and so must each barrier left out.

A mutant is caught when a listed shape, in some schedule or with races looked for, ends in an error of the kernel or a
wrong answer. One that does not compile is a mistake of the list.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from cuda_host.build import CompileError
from cuda_host.check import SCHEDULES, check
from cuda_host.launch import KernelError, LaunchError
from cuda_host.listing import Case, Edit, Listed, Mutant, deleted, edited, listed, replaced, statements

import convbench.algorithms

pytestmark = pytest.mark.usefixtures("host_compiler")
FOLDER = Path(convbench.algorithms.__file__).parent
ORDERS = {
    "barrier": r"__syncthreads\(\)",
    "barrier of a warp": r"__syncwarp\([^;)]*\)",
    "wait": r"copy_async_wait<[^;>]*>\(\)",
    "wait for products": r"wait_for_products<[^;>]*>\(total\)",
    "publication": r"publish_to_products\(\)",
    "begin of products": r"begin_products\(total\)",
    "wait for the kernel before": r"wait_for_previous\(\)",
}
LEAST_MUTANTS, LEAST_FILES = 20, 4
PATIENCE_SECONDS = 5.0  # with a mutant that may never end
PLANTED = [(kernel, mutant) for kernel in listed() for mutant in kernel.mutants]
REMOVED = [
    (kernel, pattern, number, f"{kernel.file}-{word} in line {text[: match.start()].count(chr(10)) + 1}")
    for kernel in listed()
    for text in [(FOLDER / kernel.file).read_text()]
    for word, pattern in ORDERS.items()
    for number, match in enumerate(statements(text, pattern))
]


def caught(kernel: Listed, edit: Edit, races_first: bool) -> str | None:
    """What first showed the edited file to be wrong, among its cases from small to large; None where nothing did."""
    change = partial(edited, file=kernel.file, edit=edit)
    for racecheck in (races_first, not races_first):
        for case in kernel.cases():
            if failure := fails(case, change, racecheck):
                return f"{case}: {failure}"
    return None


def fails(case: Case, change: Edit, racecheck: bool) -> str | None:
    schedules = SCHEDULES[:1] if racecheck else SCHEDULES
    try:
        with np.errstate(all="ignore"):  # array code that is given NaN
            check(case, schedules, racecheck=racecheck, edit=change, cpu_seconds=PATIENCE_SECONDS)
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


def naive() -> Listed:
    return next(kernel for kernel in listed() if kernel.file == "direct/naive.cu")


def test_a_change_that_changes_nothing_is_not_caught() -> None:
    kernel = replace(naive(), shapes=("n2c3h7w9k5r3s2",))
    assert caught(kernel, lambda text: text.replace("T total = 0;", "T total = 0.0;"), races_first=False) is None
    assert "error" in str(caught(kernel, lambda text: text.replace("T total = 0;", "T total = 1;"), races_first=True))


def test_a_mutant_that_does_not_compile_is_not_caught() -> None:
    with pytest.raises(CompileError, match="nonsense"):
        caught(naive(), lambda text: text.replace("T total = 0;", "nonsense;"), races_first=False)


def test_what_is_replaced_occurs_once() -> None:
    edit = replaced(Mutant("twice", "one", "two"))
    assert edit("one three") == "two three"
    with pytest.raises(AssertionError, match="twice: 'old' occurs 2 times"):
        edit("one one")
    with pytest.raises(AssertionError, match="occurs 0 times"):
        edit("three")


def test_only_the_lines_of_the_file_itself_are_edited() -> None:
    source = 'int a;\n#line 1 "k.cu"\nint a;\n#line 1 "part.cuh"\nint a;\n#line 3 "k.cu"\nint b;\n'
    assert edited(source, "some/k.cu", replaced(Mutant("", " a", " c"))) == source.replace(
        'k.cu"\nint a', 'k.cu"\nint c'
    )


def test_a_source_without_the_file_stays_as_it_is() -> None:
    """A plan may load several; the edit would find nothing in the others, and its complaint pass for a caught bug."""
    source = '#line 1 "other.cu"\nint a;\n'
    assert edited(source, "some/k.cu", replaced(Mutant("", " a", " c"))) == source


def test_statements_in_comments_are_no_statements() -> None:
    text = "wait();\n// wait();\nx; wait() ; // wait();\n"
    assert [match.start() for match in statements(text, r"wait\(\)")] == [0, 22]
    assert deleted(r"wait\(\)", 1)(text) == "wait();\n// wait();\nx; ; // wait();\n"
