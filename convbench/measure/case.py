"""One case, brought from a name to the point where it can be timed: planned, prepared, run once, checked, weighed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import index
from typing import Any, SupportsIndex

from convbench.algorithms.base import Algorithm, Missing, Plan, Unsupported
from convbench.devices.base import Call, Device, Sample
from convbench.measure.foreign import UNTIMED, answer, check_foreign, foreign_of, timed_call
from convbench.measure.phases import phased_call, stated_flops
from convbench.problem import Problem
from convbench.reference import Judgement, Truth, judge

PREPARE_AGAIN_BELOW = 1.0  # seconds: a first preparation shorter than this is repeated, without its compiling


@dataclass(frozen=True)
class Operands:
    """What all cases of one problem share: x and w on the device and, untouched, on the host; and the truth."""

    problem: Problem
    x: Any
    w: Any
    host_x: Any
    host_w: Any
    truth: Truth


@dataclass
class Case:
    """One algorithm on one problem, and all that was found out about it."""

    algorithm: Algorithm
    problem: Problem
    status: str = "ok"
    note: str = ""
    first_s: float | None = None
    prepare_s: float | None = None
    workspace_bytes: int | None = None
    prepared_bytes: int | None = None
    peak_bytes: int | None = None
    judgement: Judgement | None = None
    samples: list[Sample] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    loops: int = 1
    hot_s: float | None = None
    joule: float | None = None
    flops: int = 0  # that one call executes; 0: not stated
    phases: dict[str, float] = field(default_factory=dict)  # seconds of each, where they were asked for
    split: Callable[[], Mapping[str, float]] | None = None  # `call`, telling the seconds of its phases
    call: Call | None = None  # on the operands themselves, into `output`
    answer: Call | None = None  # the same with a foreign plan's untimed edges: what is checked
    output: Any = None
    calls: list[Call] = field(default_factory=list)  # what is timed, in turn: `call`, or (cold) one a copy

    def add_note(self, text: str) -> None:
        """Append a remark."""
        if text not in self.note:
            self.note = f"{self.note}; {text}" if self.note else text

    def end(self, status: str, reason: str) -> None:
        """Give up on this case: keep the reason, let go of the arrays."""
        self.status, self.note = status, f"{reason}; {self.note}" if self.note else reason
        self.release()

    def release(self) -> None:
        """Let go of arrays and plans."""
        self.call = self.answer = self.output = self.split = None
        self.calls = []

    @property
    def alive(self) -> bool:
        """Whether it can be timed."""
        return self.status == "ok" and bool(self.calls)


def operands(problem: Problem, device: Device, seed: int) -> Operands:
    """Random operands and the float64 truth about them."""
    from convbench.reference import truth

    x, w = problem.operands(seed)
    return Operands(problem, device.put(x), device.put(w), x, w, truth(x, w, problem.shape, seed))


def open_case(
    algorithm: Algorithm, data: Operands, device: Device, cache: str, weigh: bool = True, phases: bool = False
) -> Case:
    """Plan, prepare, run once on poisoned output and check; any failure becomes the case's status and note.

    weigh: also measure the peak memory, in a pass of its own, with a second plan (not of a foreign one).
    phases: keep what measures them.
    """
    case = Case(algorithm, data.problem)
    guarded(case, lambda: _open(case, data, device, cache, weigh))
    if not phases:
        case.split = None
    return case


def guarded(case: Case, step: Callable[[], None]) -> None:
    """Run a step of a case; whatever it raises becomes a status with its reason."""
    try:
        step()
    except Unsupported as reason:
        case.end("unsupported", str(reason))
    except Missing as reason:
        case.end("skipped", str(reason))
    except MemoryError as error:
        case.end("failed", f"out of memory: {one_line(error) or 'no details'}")
    except (Exception, SystemExit) as error:
        case.end("failed", f"{type(error).__name__}: {one_line(error)}")


def one_line(error: BaseException) -> str:
    """An error's text on one line, shortened."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _open(case: Case, data: Operands, device: Device, cache: str, weigh: bool) -> None:
    algorithm, problem = case.algorithm, data.problem
    if device.kind not in algorithm.on:
        raise Unsupported(f"{algorithm.name} has no code for the {device.kind}, only for {', '.join(algorithm.on)}")
    if reason := algorithm.refusal(problem, device.kind):
        raise Unsupported(reason)

    begin = device.now()
    plan = _plan(algorithm, problem, device)
    planned = device.now() - begin
    case.note, case.workspace_bytes, case.flops = plan.note, index(plan.workspace), index(stated_flops(plan))
    prepared, case.prepare_s = _prepare(plan, data.w, device)
    case.prepared_bytes = held_bytes(prepared, data.w)

    y = device.empty(problem.shape.y_shape, problem.storage)
    begin = device.now()
    poison(y)
    answer(plan, data.x, prepared, y)
    case.judgement = judge(device.get(y), data.truth)  # get() waits for the device
    case.first_s = planned + device.now() - begin
    check(case, data, device)
    case.output, case.call = y, timed_call(plan, data.x, prepared, y)
    case.answer = lambda: answer(plan, data.x, prepared, y)
    case.calls, case.split = [case.call], phased_call(plan, data.x, prepared, y)
    if cache == "cold" and device.kind == "cpu":
        _spread_over_copies(case, plan, data, device)
    if foreign_of(plan):
        case.add_note(UNTIMED)
    elif weigh:
        case.peak_bytes = _weigh(algorithm, data, device)
        restore_operands(case, data, device)


def _plan(algorithm: Algorithm, problem: Problem, device: Device) -> Plan:
    plan = algorithm.on[device.kind](problem, device)
    if not isinstance(plan, Plan):
        raise TypeError(f"the plan function of {algorithm.name} returned {type(plan).__name__}, not a Plan")
    if not isinstance(plan.note, str):
        raise TypeError(f"the note of {algorithm.name}'s plan is a {type(plan.note).__name__}, not a text")
    if not isinstance(plan.workspace, SupportsIndex) or index(plan.workspace) < 0:
        raise TypeError(f"the workspace of {algorithm.name}'s plan is {plan.workspace!r}, not a number of bytes")
    if not isinstance(stated_flops(plan), SupportsIndex) or index(stated_flops(plan)) < 0:
        raise TypeError(f"the flops of {algorithm.name}'s plan are {plan.flops!r}, not a whole number")
    check_foreign(algorithm, plan)
    return plan


def _prepare(plan: Plan, w: Any, device: Device) -> tuple[Any, float]:
    """prepare(w) and its seconds, the second time around where the first was short (it may have compiled)."""
    seconds = 0.0
    for _ in range(2):
        begin = device.now()
        prepared = plan.prepare(w)
        seconds = device.now() - begin
        if seconds > PREPARE_AGAIN_BELOW:
            break
    return prepared, seconds


def poison(y: Any) -> None:
    """Fill an output with NaN, so that an element nobody writes cannot pass."""
    y[...] = float("nan")


def check(case: Case, data: Operands, device: Device, sign: int = 1) -> None:
    """Turn a judgement into `wrong` where it must be: too far off, not written, or the operands were changed."""
    assert case.judgement is not None
    size = data.problem.shape.y_shape
    bound = case.algorithm.tolerance_for(data.problem)
    if case.judgement.unwritten:
        everything = size[0] * size[1] * size[2] * size[3]
        case.status = "wrong"
        case.add_note(f"{case.judgement.unwritten} of {everything} outputs are not finite: run(x, w, y) must fill y")
    elif not case.judgement.error <= bound:
        case.status = "wrong"
        case.add_note(f"error {case.judgement.error:.1e} is over the bound {bound:.0e} for {data.problem.precision}")
    restore_operands(case, data, device, sign)


def restore_operands(case: Case, data: Operands, device: Device, sign: int = 1) -> None:
    """An algorithm that changes x (given as sign x) or w is wrong, and the next one gets them as they were."""
    for name in changed_operands(data, device, sign):
        case.status = "wrong"
        case.add_note(f"it changed its input {name}")


def changed_operands(data: Operands, device: Device, sign: int = 1) -> list[str]:
    """Put x and w back as they were; the names of those that were not sign x and w any more."""
    import numpy as np

    changed = []
    for name, given, kept, factor in (("x", data.x, data.host_x, sign), ("w", data.w, data.host_w, 1)):
        same = np.array_equal(device.get(given), factor * kept if factor != 1 else kept)
        if not same:
            changed.append(name)
        if not same or factor != 1:
            given[...] = device.put(kept)
    return changed


def _spread_over_copies(case: Case, plan: Plan, data: Operands, device: Device) -> None:
    """Cold cache on a CPU: calls rotate over copies of all operands, twice the last-level cache in all."""
    held = data.problem.bytes_min + (case.prepared_bytes or 0)
    for _ in range(min(1000, -(-2 * device.last_level_bytes // held))):
        y = device.empty(data.problem.shape.y_shape, data.problem.storage)
        case.calls.append(timed_call(plan, device.put(data.x), plan.prepare(device.put(data.w)), y))


def _weigh(algorithm: Algorithm, data: Operands, device: Device) -> int:
    """Peak bytes of a second plan, from planning to the end of a call, beyond x, w and y."""
    y = device.empty(data.problem.shape.y_shape, data.problem.storage)

    def whole() -> None:
        plan = _plan(algorithm, data.problem, device)
        plan.run(data.x, plan.prepare(data.w), y)

    return device.peak(whole)


def held_bytes(prepared: Any, w: Any) -> int:
    """Bytes of all arrays inside prepared weights (nested tuples, lists, dicts), without w itself and views of it."""
    seen: dict[int, int] = {}

    def owner(array: Any) -> Any:
        while getattr(array, "base", None) is not None and hasattr(array.base, "nbytes"):
            array = array.base
        return array

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple)):
            for part in value:
                walk(part)
        elif hasattr(value, "nbytes"):
            root = owner(value)
            if root is not owner(w):
                seen[id(root)] = int(root.nbytes)

    walk(prepared)
    return sum(seen.values())
