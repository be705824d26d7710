"""The cases of one layer, timed round by round in turn, so that whatever drifts drifts for all of them alike."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from convbench.devices.base import Device, Sample
from convbench.measure.case import Case, Operands, changed_operands, check, guarded, poison
from convbench.measure.phases import UNMEASURED, measure_phases
from convbench.measure.rules import Budget, has_converged, is_done, is_warm, loops_for, turn_is_over
from convbench.reference import judge


@dataclass
class _Timing:
    """Where one case stands."""

    case: Case
    times: list[float] = field(default_factory=list)
    spent: float = 0.0  # seconds of sampling


def measure(
    cases: Sequence[Case],
    data: Operands,
    device: Device,
    budget: Budget,
    seed: int = 0,
    turn: Callable[[Case], None] = lambda case: None,
) -> Iterator[Case]:
    """Time all cases that can be timed; yield each as soon as it is finished, those that cannot be timed first.

    A round gives each unfinished case one turn, in an order shuffled anew: one untimed call, then a few samples.
    `turn` is told whose turn comes.
    """
    active = []
    for case in cases:
        if case.alive:
            turn(case)
            guarded(case, lambda case=case: warm_up(case, device, budget))  # type: ignore[misc]
        if case.alive:
            active.append(_Timing(case))
        else:
            case.release()
            yield case
    order = random.Random(seed)
    number = 0
    while active:
        order.shuffle(active)
        for timing in list(active):
            turn(timing.case)
            guarded(timing.case, lambda timing=timing, number=number: take_turn(timing, device, budget, number))  # type: ignore[misc]
            if not timing.case.alive or is_done(timing.times, timing.spent, budget):
                active.remove(timing)
                guarded(timing.case, lambda timing=timing: finish(timing.case, data, device, budget.energy))  # type: ignore[misc]
                timing.case.release()
                yield timing.case
        number += 1


def warm_up(case: Case, device: Device, budget: Budget) -> None:
    """Call until times are steady (rules.is_warm), and choose the loops a sample takes."""
    times: list[float] = []
    begin = device.now()
    while not is_warm(times, device.now() - begin, budget):
        times.append(device.time(case.calls, 1).seconds)
    case.loops = 1 if device.kind == "cuda" else loops_for(min(times[-5:]))


def take_turn(timing: _Timing, device: Device, budget: Budget, number: int) -> None:
    """One untimed call, which pays for the switch from another algorithm, then samples until the turn is over."""
    case = timing.case
    turn_start = begin = device.now()
    device.time(case.calls, 1)
    taken = 0
    while True:
        sample: Sample = device.time(case.calls, case.loops)
        if sample.seconds <= 0:
            raise ValueError("the clock says that it took no time: it does nothing, or too little to be timed")
        now = device.now()
        case.samples.append(sample)
        case.rounds.append(number)
        timing.times.append(sample.seconds)
        timing.spent += now - begin
        begin, taken = now, taken + 1
        if is_done(timing.times, timing.spent, budget) or turn_is_over(taken, now - turn_start):
            return


def finish(case: Case, data: Operands, device: Device, energy: bool = True) -> None:
    """After the last sample: hot time, energy and phases where there are any, and a second check of the answer.

    The check is on -x, whose answer is -y, and on an output that is full already: who remembers an answer is found out.
    """
    if not case.alive:
        return
    assert case.call is not None
    assert case.answer is not None
    case.hot_s = device.time_hot(case.call)
    case.joule = device.joules(case.call) if energy else None
    split_up(case, data, device)
    changed_operands(data, device)  # by whom, nobody can tell any more
    data.x[...] = -data.x
    case.answer()
    first = case.judgement
    case.judgement = judge(-device.get(case.output), data.truth)
    check(case, data, device, sign=-1)
    if case.status == "wrong" and first is not None and first.error <= case.algorithm.tolerance_for(data.problem):
        case.add_note("right in the first call, wrong after the timed ones")


def split_up(case: Case, data: Operands, device: Device) -> None:
    """Measure the phases where the case has kept what tells them; a fault costs the phases, never the case's time."""
    if not case.split:
        return
    poison(case.output)
    phases, fault = measure_phases(case.split, device)
    if not fault:
        error = judge(device.get(case.output), data.truth).error
        if not error <= case.algorithm.tolerance_for(data.problem):
            fault = f"what they compute has an error of {error:.1e}"
    if fault:
        case.add_note(f"{UNMEASURED}: {fault}")
    else:
        case.phases = phases


def converged(case: Case) -> bool:
    """Whether a finished case's median is known well enough."""
    return has_converged([sample.seconds for sample in case.samples])
