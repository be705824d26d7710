"""What an algorithm is: data. A name, one plan function for each kind of device, and a reason to refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convbench.devices.base import Device
from convbench.problem import USUAL_PRECISIONS, Problem


class Unsupported(Exception):
    """Raised by a plan function that cannot take a problem; the text is the mathematical reason."""


class Missing(Exception):
    """Raised by a plan function that lacks a library; the text says what to install."""


@dataclass(frozen=True)
class Foreign:
    """How a library with arrays of its own is reached; for the family `library` alone, and never timed.

    stage(x) is x in the library's layout, made anew whenever x has changed: `run` is then given it in x's stead.
    collect(result, y) copies what that same call of `run` returned into y; it is called where the answer is checked.
    """

    stage: Callable[[Any], Any]
    collect: Callable[[Any, Any], None]


@dataclass(frozen=True)
class Plan:
    """All that could be done before the data arrive.

    run(x, prepared_w, y) fills y [N, K, P, Q] from x [N, C, H, W]; it must not change x or w, and is all that is timed.
    prepare(w) -> prepared_w does the work that depends on the filters [K, C / groups, R, S] alone (timed apart).
    workspace is the number of bytes it holds or takes beyond x, w, y and prepared_w. note goes into the result's row.
    flops is what one call executes itself: 2 for each multiply-add of its products and transforms, 0 where not stated.
    phases(x, prepared_w, y) does what run does, and returns the seconds of each phase by name, in order: on a GPU it
    waits for the device between them. It is measured apart from the timed samples.
    foreign is for libraries whose calls allocate their own result: run(staged x, prepared_w, y) then returns it and
    leaves y alone. What it stages counts as workspace; what the library allocates cannot be measured, so no peak is.
    """

    run: Callable[[Any, Any, Any], Any]
    prepare: Callable[[Any], Any] = lambda w: w
    workspace: int = 0
    note: str = ""
    flops: int = 0
    phases: Callable[[Any, Any, Any], Mapping[str, float]] | None = None
    foreign: Foreign | None = None


PlanFunction = Callable[[Problem, Device], Plan]


def _takes_everything(problem: Problem) -> str | None:
    return None


@dataclass(frozen=True)
class Algorithm:
    """An algorithm by name, `family.variant`.

    on maps a device kind ("cpu", "cuda") to its plan function; refuses(problem) is a reason in words, or None;
    precisions maps a device kind to the precisions its code computes in, where those are not float32 and float64;
    tolerance maps a precision to the error it is allowed where that is not the usual one; summary is one line for
    `list`, and needs maps a device kind to what its code wants beyond the device itself.
    """

    name: str
    on: Mapping[str, PlanFunction]
    refuses: Callable[[Problem], str | None] = _takes_everything
    tolerance: Mapping[str, float] = field(default_factory=dict)
    summary: str = ""
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The part of the name before the first dot."""
        return self.name.partition(".")[0]

    def precisions_on(self, kind: str) -> tuple[str, ...]:
        """What it computes in on a device of this kind."""
        return self.precisions.get(kind, USUAL_PRECISIONS)

    def refusal(self, problem: Problem, kind: str) -> str | None:
        """Why it does not take a problem on a device of this kind, in words, or None."""
        if problem.precision not in (known := self.precisions_on(kind)):
            return f"{self.name} has no {problem.precision} on the {kind}, only {', '.join(known)}"
        return self.refuses(problem)

    def tolerance_for(self, problem: Problem) -> float:
        """The largest relative L2 error that counts as right."""
        return self.tolerance.get(problem.precision, problem.number.tolerance)
