"""The documents say what the code does: columns, commands, charts, floors, packaging."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cuda_devices import Recorder

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Unsupported
from convbench.problem import Problem
from convbench.report.readme import rewrite, rewrite_columns, rewrite_comparison, rewrite_gpu
from convbench.results import COLUMNS, read
from convbench.shapes import parse_shape

ROOT = Path(__file__).parent.parent
MACHINE = ROOT / "results" / "amd-epyc-zen5-2-cores"
HEADLINE, BENCH = MACHINE / "batch1.csv", MACHINE / "bench-cpu"
GPU = ROOT / "results" / "nvidia-h100-80gb-hbm3"


def test_the_column_list_is_that_of_the_schema(tmp_path: Path) -> None:
    copy = tmp_path / "README.md"
    copy.write_text((ROOT / "results" / "README.md").read_text())
    rewrite_columns(copy)
    assert copy.read_text() == (ROOT / "results" / "README.md").read_text(), "run `make docs`"
    assert all(f"| `{name}` |" in copy.read_text() for name in COLUMNS)


@pytest.mark.parametrize(("write", "source"), [(rewrite, HEADLINE), (rewrite_comparison, BENCH), (rewrite_gpu, GPU)])
def test_the_readme_tables_come_from_the_committed_results(
    tmp_path: Path, write: Callable[[Path, Path], object], source: Path
) -> None:
    before = (ROOT / "README.md").read_text()
    copy = ROOT / f"README.md.{tmp_path.name}"  # beside it, as the links are relative
    copy.write_text(before)
    try:
        write(copy, source)
        assert copy.read_text() == before, "run `make docs`"
    finally:
        copy.unlink()


COMMITTED = [
    path
    for path in sorted((ROOT / "results").glob("*/**/*.csv"))
    if path.relative_to(ROOT / "results").parts[0] != "runs"
    and path.parent.name not in ("gate", "trials")
    and not path.name.startswith(("stack", "head-to-head"))
]


def why_not(algorithm: Algorithm, problem: Problem, kind: str) -> str | None:
    """Why an algorithm does not take a problem: its refusal, or on CUDA what its plan function says."""
    if (refusal := algorithm.refusal(problem, kind)) or kind == "cpu":
        return refusal
    device: Any = Recorder()
    try:
        algorithm.on[kind](problem, device)
    except Unsupported as reason:
        return str(reason)
    return None


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_committed_results_are_clean(path: Path) -> None:
    if path.name.endswith(".samples.csv"):
        assert path.with_name(path.name.replace(".samples", "")).exists()
        return
    rows = read(path)
    assert rows
    known = {algorithm.name: algorithm for algorithm in built_in()}
    for row in rows:
        if row.family == "library":  # what a vendor's cannot do, or does wrong, is a result too
            assert row.status in ("ok", "skipped", "unsupported", "wrong"), (row.algo, row.layer, row.note)
        elif row.status == "unsupported" and known[row.algo].needs.get(row.device) == "AMX":
            said = why_not(known[row.algo], Problem(parse_shape(row.shape), row.precision), row.device)
            assert row.note in (said, "this CPU has no AMX for bytes"), (row.algo, row.layer)
        elif row.status == "unsupported":  # as the algorithm itself says: gemm.gemv on convolutions
            assert row.note == why_not(known[row.algo], Problem(parse_shape(row.shape), row.precision), row.device)
        else:
            assert row.status == "ok", (row.algo, row.layer, row.note)
    assert all(row.commit and not row.commit.endswith("+") for row in rows), "measured by code that is not committed"


def test_the_readme_names_every_algorithm_and_every_picture_exists() -> None:
    text = (ROOT / "README.md").read_text()
    for algorithm in built_in():
        variant = algorithm.name.partition(".")[2]
        assert f"`{algorithm.name}`" in text or f"`.{variant}`" in text, algorithm.name
    for picture in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
        assert (ROOT / picture).is_file(), picture
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
        assert (ROOT / link).exists(), link


def test_the_wheel_takes_every_data_file() -> None:
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = table["tool"]["setuptools"]["package-data"]["convbench"]
    package = ROOT / "convbench"
    for path in package.rglob("*"):
        if path.is_file() and path.suffix in (".toml", ".cu", ".cuh", ".typed"):
            name = path.relative_to(package).as_posix()
            assert any(fnmatch.fnmatch(name, pattern) for pattern in patterns), f"{name} would be missing"


def test_make_names_the_targets_that_the_documents_use() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for document in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"):
        for target in re.findall(r"`make (\w+)`", (ROOT / document).read_text()):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{document}: make {target}"
