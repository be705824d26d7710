"""Calls of plans, and the untimed edges of a library's: its layout of x on the way in, its result on the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convbench.algorithms.base import Algorithm, Plan
from convbench.devices.base import Call

if TYPE_CHECKING:  # a duel runs algorithms of other revisions, whose base may lack it
    from convbench.algorithms.base import Foreign

LIBRARY = "library"  # the family of what others have built
UNTIMED = "not timed: x into its layout, its result into y"


def foreign_of(plan: Plan) -> Foreign | None:
    """A plan's foreign edges; of another revision's plan, which may lack the field, none."""
    return getattr(plan, "foreign", None)


def check_foreign(algorithm: Algorithm, plan: Plan) -> None:
    """Raises TypeError where another family than `library` asks for work that is not timed."""
    if foreign_of(plan) is not None and algorithm.family != LIBRARY:
        raise TypeError(f"the plan of {algorithm.name} is foreign: only the family {LIBRARY} may have work untimed")


def timed_call(plan: Plan, x: Any, prepared: Any, y: Any) -> Call:
    """What is timed: `run` alone, on x as the library wants it."""
    foreign = foreign_of(plan)
    staged = foreign.stage(x) if foreign else x
    return lambda: plan.run(staged, prepared, y)


def answer(plan: Plan, x: Any, prepared: Any, y: Any) -> None:
    """A whole call on x as it is now, its answer in y: what is checked."""
    foreign = foreign_of(plan)
    if foreign is None:
        plan.run(x, prepared, y)
    else:
        foreign.collect(plan.run(foreign.stage(x), prepared, y), y)
