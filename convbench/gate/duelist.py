"""One side of a duel in its own process: this convbench drives, and only the algorithms come from the side's tree.

`python -m convbench.gate.duelist FD CPUS` answers messages, each a dict with `do`: load, open, warm, sample, close. It
does nothing between them: it sleeps on its connection, so that its rival has the core to itself.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from convbench.process import serve

if TYPE_CHECKING:
    from convbench.algorithms.base import Algorithm
    from convbench.devices.base import Call, Device
    from convbench.measure.case import Case, Operands
    from convbench.problem import Problem

OURS = "convbench.algorithms"
WARM_SECONDS = 0.3  # at most, of a cell in each of the fresh processes; rules.WARM_SECONDS at least


class NotItsOwn(Exception):
    """A side would run files that are not of its tree; the text names them."""


def use_algorithms_of(tree: Path) -> ModuleType:
    """Make `convbench.algorithms` and everything below it come from `tree`, before the harness imports any of it.

    What `import convbench` itself has brought in is dropped and imported anew. Submodules follow their package.
    """
    import convbench

    for name in [name for name in sys.modules if name == OURS or name.startswith(f"{OURS}.")]:
        del sys.modules[name]
    folder = tree / "convbench" / "algorithms"
    spec = importlib.util.spec_from_file_location(
        OURS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not (folder / "__init__.py").is_file():
        raise FileNotFoundError(f"{tree} has no convbench/algorithms")
    package = importlib.util.module_from_spec(spec)
    sys.modules[OURS] = package
    spec.loader.exec_module(package)
    base = importlib.import_module(f"{OURS}.base")
    convbench.algorithms = package
    for name in ("Algorithm", "Missing", "Plan", "Unsupported"):
        setattr(convbench, name, getattr(base, name))
    return package


def algorithms_of(tree: Path, plugin: str | None) -> list[Algorithm]:
    """The side's algorithms: convbench's own, or those of the plug-in file at `plugin` in the tree."""
    if plugin is None:
        found: list[Algorithm] = use_algorithms_of(tree).built_in()
        return found
    sys.path[:0] = [str(folder) for folder in dict.fromkeys([(tree / plugin).parent, tree])]
    from convbench.algorithms import PluginError, load_file

    module = load_file(tree / plugin)
    listed = getattr(module, "ALGORITHMS", None)
    if not isinstance(listed, (list, tuple)) or not listed:
        raise PluginError(f"plug-in {tree / plugin}: needs ALGORITHMS, a list of convbench.Algorithm, and has none")
    return list(listed)


def code_file(function: Any) -> str:
    """The file a plan function was written in; "" where that cannot be told (it is compiled)."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    code = getattr(function, "__code__", None)
    if code is not None:
        return str(code.co_filename)
    return str(getattr(sys.modules.get(getattr(function, "__module__", "")), "__file__", None) or "")


def files_of(algorithms: Sequence[Algorithm], tree: Path) -> dict[str, str]:
    """The file of each algorithm, relative to its tree. Raises NotItsOwn for one that lies elsewhere."""
    files = {}
    for algorithm in algorithms:
        for kind, function in algorithm.on.items():
            path = Path(code_file(function)).resolve()
            if not path.is_relative_to(tree):
                raise NotItsOwn(f"{algorithm.name} for the {kind} comes from {path}, which is not in {tree}")
            files[algorithm.name] = str(path.relative_to(tree))
    return files


def loaded_from(tree: Path, others: Sequence[Path], ours: bool) -> list[str]:
    """All modules that came from the tree, relative to it. Raises NotItsOwn for one of another side.

    The harness and installed packages may lie in a side's folder (an editable install, a .venv) and belong to neither.
    """
    folders = (Path(folder).resolve() for folder in (sys.prefix, sys.base_prefix))
    installed = [folder for folder in folders if not any(root.is_relative_to(folder) for root in (tree, *others))]
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or name in ("__main__", "__mp_main__"):
            continue
        path = Path(file)
        is_ours = name == OURS or name.startswith(f"{OURS}.")
        if is_ours and ours and not path.is_relative_to(tree):
            raise NotItsOwn(f"module {name} comes from {file}, which is not in {tree}")
        if name.partition(".")[0] == "convbench" and not (is_ours and ours):
            continue
        if "site-packages" in path.parts or any(path.is_relative_to(folder) for folder in installed):
            continue
        if path.is_relative_to(tree):
            found.append(str(path.relative_to(tree)))
        elif any(path.is_relative_to(other) for other in others):
            raise NotItsOwn(f"module {name} comes from {file}, which is not in {tree}: import it relative to the tree")
    return sorted(found)


def slowed(call: Call, share: float, clock: Callable[[], int] = time.perf_counter_ns) -> Call:
    """A call that then waits, busily, for `share` of the time it took."""

    def both() -> None:
        begin = clock()
        call()
        now = clock()
        end = now + int((now - begin) * share)
        while clock() < end:
            pass

    return both


class Duelist:
    """The state of the process: its algorithms, and the cells that are open."""

    def __init__(self) -> None:
        self._algorithms: dict[str, Algorithm] = {}
        self._data: dict[Problem, Operands] = {}
        self._cases: dict[str, Case] = {}
        self._device: Device

    def answer(self, message: Mapping[str, Any], reply: Callable[[Any], None]) -> None:
        """Do what the message asks and reply with a dict; `error` in it says why that could not be done."""
        facts = {name: value for name, value in message.items() if name != "do"}
        try:
            reply(getattr(self, message["do"])(**facts))
        except (Exception, SystemExit) as error:
            reply({"error": f"{type(error).__name__}: {' '.join(str(error).split())}"})

    def load(self, tree: str, plugin: str | None, others: Sequence[str], device: str, threads: int) -> dict[str, Any]:
        """Import the algorithms; reply with the file of each and with all files of the tree that were loaded."""
        self._tree, self._ours = Path(tree), plugin is None
        self._others = [Path(other) for other in others]
        algorithms = algorithms_of(self._tree, plugin)
        from convbench.machine import open_device

        self._device, _ = open_device(device, threads)
        files = files_of(algorithms, self._tree)
        self._algorithms = {algorithm.name: algorithm for algorithm in algorithms}
        loaded = loaded_from(self._tree, self._others, self._ours)
        return {"files": files, "loaded": loaded, "hardware": self._device.hardware}

    def open(
        self, cell: str, algorithm: str, problem: Problem, seed: int, weigh: bool, slowdown: float
    ) -> dict[str, Any]:
        """Plan, prepare, run once, check, weigh; reply with the status, bytes and error."""
        from convbench.measure.case import open_case, operands

        if algorithm not in self._algorithms:
            return {"status": "gone", "note": f"there is no {algorithm}"}
        if problem not in self._data:
            self._data[problem] = operands(problem, self._device, seed)
        data, device = self._data[problem], self._device
        case = open_case(self._algorithms[algorithm], data, device, device.caches[0], weigh)
        loaded = loaded_from(self._tree, self._others, self._ours)  # plan functions import, too
        if slowdown:
            case.calls = [slowed(call, slowdown) for call in case.calls]
        self._cases[cell] = case
        return {
            "status": case.status,
            "note": case.note,
            "workspace_bytes": case.workspace_bytes,
            "prepared_bytes": case.prepared_bytes,
            "peak_bytes": case.peak_bytes,
            "error_of_answer": case.judgement.error if case.judgement else None,
            "loaded": loaded,
        }

    def warm(self, cell: str) -> dict[str, Any]:
        """Call until times are steady, and choose the loops of a sample."""
        from convbench.measure.rounds import warm_up
        from convbench.measure.rules import Budget

        case = self._cases[cell]
        warm_up(case, self._device, Budget(WARM_SECONDS))
        return {"loops": case.loops}

    def sample(self, cell: str) -> dict[str, Any]:
        """One untimed call, which brings the caches back from the rival, then one sample."""
        case = self._cases[cell]
        self._device.time(case.calls, 1)
        sample = self._device.time(case.calls, case.loops)
        return {"seconds": sample.seconds, "disturbed": sample.disturbed}

    def close(self, cell: str) -> dict[str, Any]:
        """Check the answer once more, on other data, and let go of the arrays."""
        from convbench.measure.rounds import finish

        case = self._cases.pop(cell)
        finish(case, self._data[case.problem], self._device)
        case.release()
        return {"status": case.status, "note": case.note}


if __name__ == "__main__":
    serve(sys.argv[1:], Duelist().answer)
