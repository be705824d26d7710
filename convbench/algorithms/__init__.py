"""The table of algorithms, ours and those of plug-ins, and how they are found by name."""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from convbench.algorithms.base import Algorithm

# Each of these modules has a list ALGORITHMS. The order is that of tables and charts.
TABLE = (
    "gemm.im2col",
    "gemm.panel",
    "gemm.implicit",
    "gemm.gemv",
    "gemm.skinny",
    "gemm.strassen",
    "gemm.pairs",
    "gemm.int8x3",
    "gemm.split3",
    "fft.full",
    "fft.tiled",
    "fft.int8x3",
    "winograd",
    "winograd.fused2",
    "direct.naive",
    "direct.blocked",
    "direct.wide",
    "direct.int8x3",
    "library.torch",
    "library.cudnn",
)
ENTRY_POINTS = "convbench.algorithms"


class UnknownName(Exception):
    """A name that matches nothing; the text lists the nearest ones."""


class PluginError(Exception):
    """A plug-in that cannot be used; the text says which and why."""


def built_in() -> list[Algorithm]:
    """Our own algorithms."""
    modules = (importlib.import_module(f"convbench.algorithms.{name}") for name in TABLE)
    return [algorithm for module in modules for algorithm in module.ALGORITHMS]


def collect(plugins: Iterable[str] = ()) -> list[Algorithm]:
    """Our own algorithms, those of installed entry points, and those of plug-in files, in this order.

    Raises PluginError for a module that does not import, has no ALGORITHMS, or uses a name twice.
    """
    from importlib.metadata import entry_points

    found = built_in()
    origin = {algorithm.name: "convbench itself" for algorithm in found}
    modules: list[tuple[str, ModuleType]] = []
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            modules.append((f"entry point {entry.name}", entry.load()))
        except (Exception, SystemExit) as error:
            raise PluginError(f"entry point {entry.name} ({entry.value}): {type(error).__name__}: {error}") from error
    modules += [(f"plug-in {path}", load_file(Path(path))) for path in plugins]
    for source, module in modules:
        for algorithm in _algorithms_of(source, module):
            if algorithm.name in origin:
                raise PluginError(f"{source}: the name '{algorithm.name}' is taken by {origin[algorithm.name]}")
            origin[algorithm.name] = source
            found.append(algorithm)
    return found


def load_file(path: Path) -> ModuleType:
    """A plug-in file as a module. Raises PluginError where it cannot be imported."""
    if not path.is_file():
        raise PluginError(f"plug-in {path}: there is no such file")
    spec = importlib.util.spec_from_file_location(f"convbench_plugin_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PluginError(f"plug-in {path}: not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else _line_in(error, path)
        raise PluginError(f"plug-in {path}{where}: {type(error).__name__}: {error}") from error
    return module


def _line_in(error: BaseException, path: Path) -> str:
    """`, line N` of the last frame that lies in the file."""
    trace, line = error.__traceback__, None
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename) == path.absolute():
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}" if line else ""


def _algorithms_of(source: str, module: ModuleType) -> Sequence[Algorithm]:
    algorithms = getattr(module, "ALGORITHMS", None)
    if not isinstance(algorithms, (list, tuple)) or not algorithms:
        raise PluginError(f"{source}: needs ALGORITHMS, a list of convbench.Algorithm, and has none")
    for algorithm in algorithms:
        if not isinstance(algorithm, Algorithm):
            raise PluginError(f"{source}: ALGORITHMS holds a {type(algorithm).__name__}, not a convbench.Algorithm")
        name, on = algorithm.name, algorithm.on
        if not isinstance(name, str) or not re.fullmatch(r"[\w-]+(\.[\w-]+)*", name) or name == "all":
            raise PluginError(f"{source}: {name!r} is no name: use family.variant of letters, digits, '_' and '-'")
        if not isinstance(on, Mapping) or not on or set(on) - {"cpu", "cuda"} or not all(map(callable, on.values())):
            raise PluginError(f"{source}: {name} must map 'cpu' or 'cuda' to a plan function, not {on!r}")
    return algorithms


def select(wanted: str, names: Sequence[str], what: str) -> list[str]:
    """The names that a comma list of names, families and globs means, in the order of `names`; `all` means all.

    Raises UnknownName that suggests the nearest names for the first part that matches nothing.
    """
    chosen: set[str] = set()
    for part in (text.strip() for text in wanted.split(",")):
        matches = [n for n in names if part in ("all", n, n.partition(".")[0]) or fnmatch.fnmatchcase(n, part)]
        if not matches:
            families = {n.partition(".")[0] for n in names}
            near = difflib.get_close_matches(part, dict.fromkeys([*names, *sorted(families)]), n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names)}"
            raise UnknownName(f"no {what} is called '{part}'; {hint}")
        chosen.update(matches)
    return [name for name in names if name in chosen]
