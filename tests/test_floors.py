"""The order of floors: imports look down, heavy libraries come in late, files (tests' too) and functions stay short."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import convbench

ROOT = Path(convbench.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.rglob("*.py"))
FLOORS = {
    "_version": 0, "shapes": 0, "stats": 0, "units": 0,
    "layers": 1, "problem": 1, "reference": 1,
    "devices": 2, "vector": 2,
    "algorithms": 3,
    "measure": 4, "machine": 4, "process": 4,
    "results": 5,
    "sweep": 6, "bench": 6, "worker": 6, "gate": 6, "report": 6, "bench_cpu": 6,
    "verify": 7, "listing": 7, "console": 7, "options": 7, "cli": 7, "cli_gate": 7, "cli_duel": 7,
    "bench_gpu": 7, "__main__": 7,
}  # fmt: skip
HEAVY = {
    "numpy", "numba", "llvmlite", "scipy", "pandas", "matplotlib", "cupy", "cupyx", "torch", "rich", "typer",
    "threadpoolctl",
}  # fmt: skip
ALLOWED = {
    "direct/loops.py": {"numpy", "numba"},
    "gemm/stretch.py": {"numpy", "numba"},
    "fused/dft.py": {"numpy"},
    "fused/stages.py": {"numpy"},
    "fused/toom.py": {"numpy"},
    "vector/build.py": {"llvmlite"},
    "vector/code.py": {"llvmlite"},
    "vector/complex_digits.py": {"llvmlite"},
    "vector/digits.py": {"llvmlite"},
    "vector/launch.py": {"numba", "llvmlite"},
    "vector/lines.py": {"llvmlite"},
    "vector/numbers.py": {"llvmlite"},
    "vector/scaling.py": {"llvmlite"},
    "vector/team.py": {"llvmlite"},
    "vector/tiles.py": {"llvmlite"},
    "vector/windows.py": {"llvmlite"},
    "cli.py": {"typer"},
    "options.py": {"typer"},
    "cli_gate.py": {"typer"},
    "cli_duel.py": {"typer"},
}
ONLY_TABLES = {"_version", "shapes", "stats", "units", "layers", "problem", "results"}  # what gate and report may know
LONGEST_FILE, LONGEST_FUNCTION = 300, 60
PRINTERS = {
    "cli.py",
    "console.py",
    "listing.py",
    "verify.py",
    "gate/selftest.py",
    "bench_cpu/__main__.py",
    "bench_gpu/__main__.py",
    "bench_gpu/check.py",
    "bench_gpu/table.py",
}


def name_of(path: Path) -> str:
    """The module's dotted name below convbench."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path) for path in FILES}


def imports(path: Path, late: bool = True) -> Iterator[str]:
    """Full names of what a file imports; late: also inside functions and for type checkers."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            typing = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            if not late and (typing or isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))):
                continue
            yield child
            yield from walk(child)

    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path: Path, late: bool = True) -> set[str]:
    """Modules of convbench, below convbench, that a file imports."""
    found = set()
    for name in imports(path, late):
        parts = name.split(".")
        if parts[0] == "convbench":
            below = ".".join(parts[1:])
            found.add(below if below in MODULES else below.rpartition(".")[0])
    return found


COMMANDS = {"gate.selftest": 7, "bench_cpu.__main__": 7}  # run by `python -m`: the top floor, in a package


def floor(module: str) -> int:
    return COMMANDS.get(module, FLOORS[module.partition(".")[0]])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_look_down(path: Path) -> None:
    if name_of(path) == "":
        return  # convbench/__init__.py names what a plug-in needs
    for target in own_imports(path):
        if target == "":
            assert floor(name_of(path)) >= 3, "the names of a plug-in come from the algorithms' floor"
        else:
            assert floor(target) <= floor(name_of(path)), f"{name_of(path)} imports {target}"


def test_every_module_has_a_floor() -> None:
    assert {module.partition(".")[0] for module in MODULES if module} <= set(FLOORS)


def test_no_circles() -> None:
    graph = {name_of(path): own_imports(path) - {name_of(path), ""} for path in FILES if name_of(path)}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_come_in_late(path: Path) -> None:
    relative = path.relative_to(ROOT).as_posix()
    allowed = next((names for end, names in ALLOWED.items() if relative.endswith(end)), set())
    heavy = {name.partition(".")[0] for name in imports(path, late=False)} & HEAVY
    assert heavy <= allowed


def test_the_table_of_algorithms_loads_nothing_heavy() -> None:
    late = f"import sys, convbench.algorithms as a; a.built_in(); print({HEAVY!r} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_measuring_knows_no_algorithm() -> None:
    for path in (*(ROOT / "measure").glob("*.py"), ROOT / "sweep.py"):
        targets = {target for target in own_imports(path) if target.startswith("algorithms")}
        assert targets <= {"algorithms.base"}


# The duel measures; the rest of the gate runs on a laptop, from files.
DUEL = {"arrange", "decision", "duel", "duelist", "judging", "opponents", "selftest", "trees"}


def reads_tables(module: str) -> bool:
    floor, _, rest = module.partition(".")
    return floor == "report" or (floor == "gate" and rest not in DUEL)


@pytest.mark.parametrize("path", [p for p in FILES if reads_tables(name_of(p))], ids=name_of)
def test_reports_know_tables_only(path: Path) -> None:
    assert {target.partition(".")[0] for target in own_imports(path)} <= ONLY_TABLES | {"gate", "report", "machine"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno + 1 <= LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_files_of_tests_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", [p for p in FILES if p.relative_to(ROOT).as_posix() not in PRINTERS], ids=name_of)
def test_only_the_top_floor_prints(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]


@pytest.mark.parametrize("path", [*FILES, *ROOT.rglob("*.cu")], ids=lambda path: path.name)
def test_the_first_line_says_what_it_is(path: Path) -> None:
    first = path.read_text().partition("\n")[0]
    if path.suffix == ".py":
        assert first.startswith('"""') or path.name == "_version.py"
    else:
        assert first.startswith("//")


def test_nothing_is_left_to_do() -> None:
    for path in (*FILES, *ROOT.rglob("*.cu"), *ROOT.rglob("*.toml")):
        text = path.read_text()
        assert not [mark for mark in ("TO" + "DO", "FIX" + "ME", "XX" + "X") if mark in text], path
