"""From what was asked for to a duel: the trees, the cells that both sides have, the fight, the outcome."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convbench.gate.decision import rules_for
from convbench.gate.duel import Cell, Duel, Loss
from convbench.gate.judging import judge
from convbench.gate.opponents import BASE, HEAD, Processes, Roll
from convbench.gate.outcome import GateError, Outcome, Verdict
from convbench.gate.trees import OURS, Repository, Tree, source_hash, sources_of
from convbench.layers import Layer

DEFAULT_LAYERS = "conv2,conv3,conv4,conv5"  # of the built-in set; small, so that a duel takes less than a minute
DEFAULT_ALGORITHMS = "gemm.im2col,winograd.f4"


@dataclass(frozen=True)
class Request:
    """What `duel` was asked for. Exactly one of: base, self_test, against."""

    layers: Sequence[Layer]
    algo: str = ""  # "": DEFAULT_ALGORITHMS, or all of a plug-in's
    repo: Path = Path()
    base: str | None = None
    head: str | None = None  # None: the working tree
    self_test: bool = False
    against: str | None = None
    plugin: str | None = None
    batch: int = 0
    threads: int = 1
    slowdowns: Mapping[str, float] = field(default_factory=dict)  # by cell, in head
    delta: float | None = None
    aa_floor: float | None = None
    seed: int = 0
    timeout: float = 60.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        asked = [self.base is not None, self.self_test, self.against is not None]
        if sum(asked) == 0:
            raise GateError("nothing to compare with: give --base REV, or --self-test, or --against ALGO")
        if sum(asked) > 1:
            raise GateError("--base, --self-test and --against exclude each other")
        if self.against is not None and not self.algo:
            raise GateError("--against needs --algo, the algorithm that it is compared with")


def hold(request: Request, say: Callable[[str], None] = lambda text: None) -> tuple[Outcome, Duel]:
    """Make the trees, fight, judge. Raises GateError."""
    import time

    repository = _repository(request)
    top = repository.top if repository else Path(__file__).resolve().parent.parent.parent
    plugin = None if request.plugin is None else inside(request.plugin, top)
    tick_s = time.get_clock_info("perf_counter").resolution
    rules = rules_for(request.device, request.delta, request.aa_floor, tick_s)
    with trees(request, repository, top) as (base, head):
        if plugin is None and not (base.path / OURS).is_dir():
            raise GateError(f"{base.name} of {top} has no {OURS}: give --plugin FILE.py, or another --repo")
        if plugin is not None and not (base.path / plugin).is_file():
            raise GateError(
                f"--plugin {plugin}: base, {base.name}, has no such file, so there is nothing to compare with"
            )
        processes = Processes(
            (base, head), plugin, [str(top)], request.device, request.threads, request.timeout
        )  # fmt: skip
        try:
            say("loading both sides")
            rolls = processes.call_roll()
            cells, lost, notes = make_cells(request, *rolls)
            duel = Duel(processes, cells, request.seed, request.against is not None, say, lost=lost)
            duel.fight(rules)
        finally:
            processes.end()
        for side in (BASE, HEAD):
            duel.loaded[side].update(rolls[side].loaded)
        sides = (base, head)
        controls = unchanged(duel, sides, plugin, rolls)
        notes += source_notes(duel, sides, plugin, rolls)
        if not request.against:
            notes.append(
                f"{len(controls)} of {len(cells)} cells are the same code on both sides: they must not be slower"
            )
        notes.append(f"seed {request.seed}")
        names = (request.algo, str(request.against)) if request.against else (base.name, head.name)
        return judge(duel, rules, controls, *names, notes, rolls[BASE].hardware), duel


def _repository(request: Request) -> Repository | None:
    """The repository; None where none is needed: this convbench against itself, outside any repository."""
    if request.base is not None or request.head is not None or request.plugin is not None:
        return Repository(request.repo)
    try:
        found = Repository(request.repo)
    except GateError:
        return None
    return found if (found.top / OURS).is_dir() else None


@contextlib.contextmanager
def trees(request: Request, repository: Repository | None, top: Path) -> Iterator[tuple[Tree, Tree]]:
    """Base and head; the same tree twice for a self-test and for two algorithms of one tree."""
    with contextlib.ExitStack() as stack:
        if repository is None:
            head = Tree(top, "this convbench")
        elif request.head is None:
            head = repository.working_tree()
        else:
            head = stack.enter_context(repository.worktree(request.head))
        if repository is None or request.base is None:
            yield head, head
        else:
            yield stack.enter_context(repository.worktree(request.base)), head


def inside(plugin: str, top: Path) -> str:
    """A plug-in's path relative to the repository, whether given so or from here. Raises GateError."""
    for path in (top / plugin, Path(plugin).absolute(), Path(plugin).resolve()):
        if path.is_file() and ".." not in path.parts and path.is_relative_to(top):
            return str(path.relative_to(top))
    if Path(plugin).is_absolute() or ".." in Path(plugin).parts:
        raise GateError(f"--plugin {plugin} is not inside the repository {top}")
    return plugin


def make_cells(request: Request, base: Roll, head: Roll) -> tuple[list[Cell], dict[str, Loss], list[str]]:
    """The cells, those that are lost before they begin, and notes. Raises GateError."""
    from convbench.algorithms import UnknownName, select
    from convbench.problem import Problem
    from convbench.sweep import too_large

    known = list(dict.fromkeys([*base.files, *head.files]))
    wanted = request.algo or ("all" if request.plugin else DEFAULT_ALGORITHMS)
    try:
        chosen = select(wanted, known, "algorithm")
        rivals = select(request.against, known, "algorithm") if request.against else []
    except UnknownName as error:
        raise GateError(str(error)) from None
    if request.against and (len(chosen), len(rivals)) != (1, 1):
        raise GateError("--against compares one --algo with one other; a name here means several")
    notes = [f"{name} is new in head: there is nothing to compare it with" for name in chosen if name not in base.files]
    cells: list[Cell] = []
    lost: dict[str, Loss] = {}
    for layer in request.layers:
        problem = Problem(layer.shape.with_batch(request.batch or layer.shape.n))
        if reason := too_large(problem):
            raise GateError(f"{layer.name}: {reason}")
        for name in filter(base.files.__contains__, chosen):
            rival = rivals[0] if rivals else name
            cell = f"{layer.name}/{rival}"
            cells.append(Cell(cell, problem, name, rival, request.slowdowns.get(cell, 0.0)))
            if rival not in head.files:
                lost[cell] = Loss(Verdict.MISSING, head.reason or f"head has no {rival}")
    if unknown := set(request.slowdowns) - {cell.name for cell in cells}:
        some = ", ".join(cell.name for cell in cells[:8])
        raise GateError(f"--inject-slowdown: no cell is called {', '.join(sorted(unknown))}; there are {some}")
    return cells, lost, notes


def unchanged(duel: Duel, sides: tuple[Tree, Tree], plugin: str | None, rolls: tuple[Roll, Roll]) -> set[str]:
    """The cells whose sources are the same on both sides, and that nobody slowed down."""
    if duel.against:
        return set()
    same: dict[str, bool] = {}
    for name in {cell.base for cell in duel.cells}:
        files = sources(duel, sides, plugin, rolls, name)
        same[name] = source_hash(sides[BASE], files) == source_hash(sides[HEAD], files)
    return {cell.name for cell in duel.cells if same[cell.base] and not cell.slowdown}


def sources(
    duel: Duel, sides: tuple[Tree, Tree], plugin: str | None, rolls: tuple[Roll, Roll], algorithm: str
) -> set[str]:
    """All files that an algorithm may depend on, on either side."""
    found: set[str] = set()
    for tree, roll, loaded in zip(sides, rolls, duel.loaded, strict=True):
        if algorithm in roll.files:
            found |= sources_of(tree, roll.files[algorithm], plugin, loaded)
    return found


def source_notes(duel: Duel, sides: tuple[Tree, Tree], plugin: str | None, rolls: tuple[Roll, Roll]) -> list[str]:
    """What each side ran, proven by the paths of its modules."""
    used = {name for cell in duel.cells for name in cell.algorithms}
    files = {file for name in used for file in sources(duel, sides, plugin, rolls, name)}
    hashes = [source_hash(tree, files) for tree in sides]
    where = plugin or str(OURS)
    return [f"each side ran its own {where}: base {hashes[BASE]}, head {hashes[HEAD]} (hashes of the sources)"]
