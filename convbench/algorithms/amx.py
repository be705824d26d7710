"""What the algorithms that need Intel's AMX (.int8x3) share."""

from __future__ import annotations

from convbench.algorithms.base import Unsupported
from convbench.problem import Problem


def ask_for_tiles() -> None:
    """Ask the system for AMX, once. Raises Unsupported where it cannot be used."""
    from convbench.vector.tiles import why_no_tiles

    if reason := why_no_tiles():
        raise Unsupported(reason)


def saves_nothing(problem: Problem) -> str | None:
    """Why tiles of outputs are no use: filters of one tap, or one output."""
    s = problem.shape
    return "nothing slides, so no multiplication is saved" if s.r == s.s == 1 or s.p == s.q == 1 else None
