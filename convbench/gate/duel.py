"""Two sides measured against each other: who is asked what in which order, and what becomes of the answers.

Order matters more than any test: what drifts must drift for both sides alike. So both run on the same cores, strictly
in turn, base-head-head-base within a cell, the side that starts balanced, the cells shuffled in each round; and each
block is a fresh pair of processes, because samples of one process resemble each other.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from convbench.gate.decision import CONFIRMING, SCREENING, Evidence, Facts, Rules, block_value, suspects
from convbench.gate.opponents import BASE, HEAD, NAMES, Opponents, Reply, Side, SideLost
from convbench.gate.outcome import Verdict

if TYPE_CHECKING:
    from convbench.problem import Problem

ROUNDS = 4  # of each cell in a block
SCREEN, CONFIRM = "screen", "confirm"


@dataclass(frozen=True)
class Cell:
    """A case both sides can be asked: the algorithm of base, the one of head, and the slowdown put into head's."""

    name: str
    problem: Problem
    base: str
    head: str
    slowdown: float = 0.0

    @property
    def algorithms(self) -> tuple[str, str]:
        """Base's and head's."""
        return self.base, self.head


@dataclass(frozen=True)
class Taken:
    """One sample."""

    cell: str
    side: str
    stage: str
    block: int
    round: int
    seconds: float
    disturbed: bool


@dataclass(frozen=True)
class Loss:
    """Why a cell cannot be judged by its times."""

    verdict: Verdict
    reason: str


class _Restart(Exception):
    """A process is gone: its cell is lost, and the block is done again without it."""


@dataclass
class Duel:
    """A duel under way, and all that it has found."""

    opponents: Opponents
    cells: Sequence[Cell]
    seed: int = 0
    against: bool = False  # the sides are different algorithms: what one of them refuses is no cell
    say: Callable[[str], None] = lambda text: None
    lost: dict[str, Loss] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)  # cells that base cannot do, and why
    facts: dict[tuple[str, int], Facts] = field(default_factory=dict)
    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # d of each block, by cell and stage
    taken: list[Taken] = field(default_factory=list)
    loaded: tuple[set[str], set[str]] = field(default_factory=lambda: (set(), set()))  # files, by side

    def fight(self, rules: Rules) -> None:
        """Screen all cells, then confirm the suspects."""
        for number in range(SCREENING):
            self.say(f"screening, block {number + 1} of {SCREENING}, {len(self.cells)} cells")
            self._block(self.cells, SCREEN, number)
        found = set(suspects({cell.name: self.values.get((cell.name, SCREEN), []) for cell in self.cells}, rules))
        suspected = [cell for cell in self.cells if cell.name in found and self._counts(cell)]
        for number in range(SCREENING, SCREENING + CONFIRMING) if suspected else ():
            names = ", ".join(cell.name for cell in suspected)
            self.say(f"confirming, block {number + 1 - SCREENING} of {CONFIRMING}: {names}")
            self._block(suspected, CONFIRM, number)

    def evidence(self, cell: Cell, control: bool) -> Evidence:
        """What is known of a cell's times."""
        from convbench.stats import median

        screen, confirm = (tuple(self.values.get((cell.name, stage), ())) for stage in (SCREEN, CONFIRM))
        base = self.samples(cell, BASE)
        return Evidence(screen, confirm, median(base) if base else math.inf, control)

    def samples(self, cell: Cell, side: int) -> list[float]:
        """Seconds a call of one side, from the stage that decides."""
        mine = [s for s in self.taken if s.cell == cell.name and s.side == NAMES[side]]
        last = CONFIRM if any(s.stage == CONFIRM for s in mine) else SCREEN
        return [s.seconds for s in mine if s.stage == last]

    def _counts(self, cell: Cell) -> bool:
        return cell.name not in self.lost and cell.name not in self.dropped

    def _lose(self, cell: Cell, verdict: Verdict, reason: str) -> None:
        if cell.name not in self.lost or verdict is Verdict.WRONG:
            self.lost[cell.name] = Loss(verdict, " ".join(reason.split()))

    def _block(self, cells: Sequence[Cell], stage: str, number: int) -> None:
        """One fresh pair; once more without a cell that ended a process."""
        while remaining := [cell for cell in cells if self._counts(cell)]:
            try:
                sides = self.opponents.pair()
            except SideLost as reason:
                for cell in remaining:
                    self._lose(cell, Verdict.MISSING, str(reason))
                return
            try:
                taken = self._rounds(sides, remaining, stage, number)
            except _Restart:
                continue
            finally:
                for side in sides:
                    side.end()
            self._keep(remaining, taken, stage)
            return

    def _keep(self, cells: Sequence[Cell], taken: Sequence[Taken], stage: str) -> None:
        for cell in filter(self._counts, cells):
            mine = [s for s in taken if s.cell == cell.name]
            base, head = ([s.seconds for s in mine if s.side == name] for name in NAMES)
            self.values.setdefault((cell.name, stage), []).append(block_value(base, head))
            self.taken += mine

    def _rounds(self, sides: tuple[Side, Side], cells: Sequence[Cell], stage: str, number: int) -> list[Taken]:
        order = random.Random(f"{self.seed} {number}")
        shuffled = order.sample(list(cells), len(cells))
        for cell in shuffled:
            self._open(sides, cell, order.random() < 0.5, weigh=number == 0)
        starts = {cell.name: order.randrange(2) for cell in shuffled}
        taken: list[Taken] = []
        for turn in range(ROUNDS):
            order.shuffle(shuffled)
            for cell in filter(self._counts, list(shuffled)):
                first = (starts[cell.name] + turn) % 2
                for side in (first, 1 - first, 1 - first, first):
                    reply = self._ask(sides, side, cell, "sample")
                    if reply is None:
                        break
                    seconds = float(reply["seconds"])
                    if not (math.isfinite(seconds) and seconds > 0):
                        self._lose(cell, Verdict.MISSING, f"{NAMES[side]}: its time, {seconds:g} s, is no time")
                        break
                    disturbed = bool(reply.get("disturbed"))
                    taken.append(Taken(cell.name, NAMES[side], stage, number, turn, seconds, disturbed))
        for cell in filter(self._counts, list(shuffled)):
            self._compare(cell, [self._ask(sides, side, cell, "close") for side in (BASE, HEAD)])
        return taken

    def _open(self, sides: tuple[Side, Side], cell: Cell, head_first: bool, weigh: bool) -> None:
        """Both sides plan, check, weigh (once will do) and warm up a cell."""
        replies: list[Reply | None] = [None, None]
        turns = (HEAD, BASE) if head_first else (BASE, HEAD)
        for side in turns:
            replies[side] = self._ask(
                sides, side, cell, "open", algorithm=cell.algorithms[side], problem=cell.problem, seed=self.seed,
                weigh=weigh, slowdown=cell.slowdown if side == HEAD else 0.0,
            )  # fmt: skip
        self._compare(cell, replies)
        for side, reply in enumerate(replies):
            if weigh and reply is not None and reply["status"] == "ok":
                facts = Facts(
                    int(reply["workspace_bytes"]), int(reply["prepared_bytes"]), int(reply["peak_bytes"]),
                    float(reply["error_of_answer"]),
                )  # fmt: skip
                self.facts.setdefault((cell.name, side), facts)
                self.loaded[side].update(reply.get("loaded", ()))
        for side in turns:
            if self._counts(cell):
                self._ask(sides, side, cell, "warm")

    def _compare(self, cell: Cell, replies: Sequence[Reply | None]) -> None:
        """Lose or drop a cell by the two statuses."""
        base, head = (("lost", "") if reply is None else (reply["status"], reply["note"]) for reply in replies)
        if head[0] == "wrong":
            self._lose(cell, Verdict.WRONG, f"head: {head[1]}")
        elif base[0] in ("unsupported", "skipped"):
            self.dropped.setdefault(cell.name, base[1])
        elif self.against and head[0] in ("unsupported", "skipped"):
            self.dropped.setdefault(cell.name, head[1])
        elif base[0] != "ok":
            self._lose(cell, Verdict.MISSING, f"base is {base[0]}: {base[1]}")
        elif head[0] != "ok":
            self._lose(cell, Verdict.MISSING, f"head is {head[0]}: {head[1]}")

    def _ask(self, sides: tuple[Side, Side], side: int, cell: Cell, do: str, **facts: Any) -> Reply | None:
        """The reply, or None where the cell is lost by it. Raises _Restart where the process is."""
        try:
            reply = sides[side].ask(do, cell=cell.name, **facts)
        except SideLost as reason:
            self._lose(cell, Verdict.MISSING, f"{NAMES[side]}: {reason}")
            raise _Restart from None
        if "error" in reply:
            self._lose(cell, Verdict.MISSING, f"{NAMES[side]}: {reply['error']}")
            return None
        return reply
