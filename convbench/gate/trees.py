"""The two trees of a duel: git worktrees of revisions, made in a temporary folder and always removed again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

from convbench.gate.outcome import GateError

OURS = Path("convbench/algorithms")  # where convbench's own repository has its algorithms
SOURCES = {".py", ".pyx", ".so", ".cu", ".cuh", ".c", ".cc", ".cpp", ".h", ".hpp"}
LOCAL = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"}
SHORT = 12  # characters of a commit or a hash that are shown


@dataclass(frozen=True)
class Tree:
    """A side's files: the folder, resolved, and what it is called."""

    path: Path
    name: str

    def file_hash(self, relative: str) -> str:
        """Of a file's content; "" where there is no such file."""
        path = self.path / relative
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


class Repository:
    """A git repository as the duel sees it. Raises GateError where there is none, or no git."""

    def __init__(self, path: Path) -> None:
        self._folder = path
        if not path.is_dir():
            raise GateError(f"--repo {path}: there is no such folder")
        self.top = Path(self._git("rev-parse", "--show-toplevel")).resolve()

    def _git(self, *words: str) -> str:
        """Its output. Hooks and variables that a surrounding git has set are left out, and so is Ctrl-C."""
        environment = {name: value for name, value in os.environ.items() if name not in LOCAL} | {"LC_ALL": "C"}
        command = ["git", "-c", f"core.hooksPath={os.devnull}", "-C", str(self._folder), *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, env=environment, start_new_session=True)
        except FileNotFoundError:
            raise GateError("git is not installed, and a duel of revisions needs it") from None
        if done.returncode:
            said = " ".join(done.stderr.split()) or f"git {words[0]} failed"
            if "not a git repository" in said:
                said = "not a git repository; give --repo the path of one"
            raise GateError(f"{self._folder.resolve()}: {said}")
        return done.stdout.strip()

    def commit(self, revision: str) -> str:
        """The full hash of a revision. Raises GateError."""
        try:
            return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        except GateError:
            shallow = self._git("rev-parse", "--is-shallow-repository") == "true"
            hint = "; the clone is shallow: fetch more (fetch-depth: 0)" if shallow else ""
            raise GateError(f"{self.top} has no revision '{revision}'{hint}") from None

    def working_tree(self) -> Tree:
        """The files as they lie there, `+` where tracked ones differ from the commit."""
        try:
            commit = self.commit("HEAD")[:SHORT]
        except GateError:
            return Tree(self.top, "the working tree")
        changed = "+" if self._git("status", "--porcelain", "--untracked-files=no") else ""
        return Tree(self.top, f"the working tree at {commit}{changed}")

    @contextlib.contextmanager
    def worktree(self, revision: str) -> Iterator[Tree]:
        """The files of a revision in a temporary folder, for as long as the block lasts."""
        commit = self.commit(revision)
        with _termination_raises(), tempfile.TemporaryDirectory(prefix="convbench-duel-") as folder:
            path = Path(folder).resolve() / "tree"
            try:
                self._git("worktree", "add", "--quiet", "--detach", "--force", str(path), commit)
                name = commit[:SHORT] if commit.startswith(revision) else f"{revision} ({commit[:SHORT]})"
                yield Tree(path, name)
            finally:
                with contextlib.suppress(GateError):  # where it was not made, there is nothing to remove
                    self._git("worktree", "remove", "--force", "--force", str(path))


@contextlib.contextmanager
def _termination_raises() -> Iterator[None]:
    """Let SIGTERM unwind the stack like Ctrl-C does, so that worktrees go."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def source_hash(tree: Tree, files: Iterable[str]) -> str:
    """Of all these files' names and contents; a file that is not there counts as such."""
    whole = hashlib.sha256()
    for file in sorted(set(files)):
        whole.update(f"{file}\0{tree.file_hash(file)}\n".encode())
    return whole.hexdigest()[:SHORT]


def sources_of(tree: Tree, algorithm_file: str, plugin: str | None, loaded: Iterable[str]) -> set[str]:
    """The files, relative to the tree, that an algorithm in `algorithm_file` may depend on.

    Ours: its family's folder and what all families share. A plug-in's: the sources in its own folder, and every file of
    the tree that was loaded with it.
    """
    if plugin is not None:
        found = {str(path.relative_to(tree.path)) for path in _sources(tree.path / plugin, deep=False)}
        return found | {plugin, algorithm_file, *loaded}
    shared = {str(path.relative_to(tree.path)) for path in _sources(tree.path / OURS / "base.py", deep=False)}
    parts = Path(algorithm_file).relative_to(OURS).parts
    if len(parts) < 2:
        return shared | {algorithm_file}
    family = tree.path / OURS / parts[0] / "__init__.py"
    return shared | {str(path.relative_to(tree.path)) for path in _sources(family, deep=True)}


def _sources(beside: Path, deep: bool) -> Iterator[Path]:
    """Source files in the folder of a file, and below it."""
    pattern = "**/*" if deep else "*"
    return (path for path in beside.parent.glob(pattern) if path.suffix in SOURCES and path.is_file())
