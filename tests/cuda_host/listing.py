"""kernels/*.toml: which algorithms and shapes reach a .cu, and the bugs planted in it that must be caught."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cuda_devices import Recorder

from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Missing, Unsupported
from convbench.problem import PRECISIONS, Problem
from convbench.shapes import parse_shape

LISTS = Path(__file__).parent / "kernels"
Edit = Callable[[str], str]


@dataclass(frozen=True)
class Mutant:
    """A wrong version of a file: the one occurrence of `old` replaced by `new`."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Case:
    """A plan that loads a file, and whether some of its images shall have one number far larger than the others."""

    algorithm: Algorithm
    problem: Problem
    capability: int
    outliers: bool = False

    def __str__(self) -> str:
        words = f"{self.algorithm.name}-{self.problem.precision}-{self.problem.shape}"
        return words + (f"-sm_{self.capability}" if self.capability != 90 else "") + "-outliers" * self.outliers


@dataclass(frozen=True)
class Listed:
    """One .toml: `file` lies below convbench/algorithms, plans are made for GPUs of these capabilities.

    `outliers` are shapes too, run with such images: among images that are alike nobody sees whose scale is taken.
    """

    file: str
    algorithms: tuple[str, ...]
    shapes: tuple[str, ...]
    mutants: tuple[Mutant, ...]
    capabilities: tuple[int, ...]
    outliers: tuple[str, ...]

    def cases(self) -> Iterator[Case]:
        """Every listed combination whose plan loads the file: precision by precision, small shapes first."""
        pairs = [(parse_shape(word), False) for word in self.shapes]
        pairs += [(parse_shape(word), True) for word in self.outliers]
        found = [algorithm for algorithm in built_in() if algorithm.name in self.algorithms]
        for precision in PRECISIONS:
            for shape, outliers in sorted(pairs, key=lambda pair: pair[0].flops):
                for algorithm in found:
                    for capability in self.capabilities:
                        case = Case(algorithm, Problem(shape, precision), capability, outliers)
                        if self.file.rpartition("/")[2] in files_of(case):
                            yield case


def files_of(case: Case) -> frozenset[str]:
    """The names of the files that a plan loads, with what they include; none where it refuses the problem."""
    if str(case) not in _files:
        _files[str(case)] = _files_of(case)
    return _files[str(case)]


_files: dict[str, frozenset[str]] = {}


def _files_of(case: Case) -> frozenset[str]:
    if case.algorithm.refusal(case.problem, "cuda"):
        return frozenset()
    device = Recorder(case.capability)
    try:
        case.algorithm.on["cuda"](case.problem, device)  # type: ignore[arg-type]
    except (Unsupported, Missing):
        return frozenset()
    return frozenset(name for module in device.modules for name in re.findall(r'^#line 1 "(.+)"', module.source, re.M))


@cache
def listed() -> tuple[Listed, ...]:
    """All lists, by file name. A key that is not known is an error."""
    lists = []
    for path in sorted(LISTS.glob("*.toml")):
        fields = tomllib.loads(path.read_text())
        mutants = tuple(Mutant(**mutant) for mutant in fields.pop("mutant", []))
        capabilities, outliers = tuple(fields.pop("capabilities", [90])), tuple(fields.pop("outliers", []))
        algorithms, shapes = tuple(fields.pop("algorithms")), tuple(fields.pop("shapes", []))
        lists.append(Listed(fields.pop("file"), algorithms, shapes, mutants, capabilities, outliers))
        assert not fields, f"{path.name}: unknown keys {sorted(fields)}"
    return tuple(lists)


def replaced(mutant: Mutant) -> Edit:
    """The edit of a planted bug; AssertionError where `old` does not occur exactly once."""

    def edit(text: str) -> str:
        assert text.count(mutant.old) == 1, f"{mutant.name}: 'old' occurs {text.count(mutant.old)} times"
        return text.replace(mutant.old, mutant.new)

    return edit


def statements(text: str, pattern: str) -> list[re.Match[str]]:
    """Where a statement stands in a source, outside comments."""
    found = re.finditer(pattern + r"\s*;", text)
    return [match for match in found if "//" not in text[text.rfind("\n", 0, match.start()) + 1 : match.start()]]


def deleted(pattern: str, number: int) -> Edit:
    """The edit that leaves out the statement of this number."""

    def edit(text: str) -> str:
        match = statements(text, pattern)[number]
        return text[: match.start()] + ";" + text[match.end() :]

    return edit


def edited(source: str, file: str, edit: Edit) -> str:
    """A whole source (cuda_source) with the lines of one of its files edited; as it is where it has none of them."""
    parts = re.split(r"^(?=#line \d+ \")", source, flags=re.M)
    name = file.rpartition("/")[2]
    mine = [i for i, part in enumerate(parts) if re.match(rf'#line \d+ "{re.escape(name)}"', part)]
    if not mine:
        return source
    mark = "\n// the next part\n"  # keeps the file's parts apart: an edit must stay within one
    text = edit(mark.join(parts[i] for i in mine))
    for i, part in zip(mine, text.split(mark), strict=True):
        parts[i] = part
    return "".join(parts)
