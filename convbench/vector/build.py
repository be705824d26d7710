"""Compiling vector code, once for each source, parameters and CPU: object files are kept on disk.

The folder is CONVBENCH_CACHE, or convbench below XDG_CACHE_HOME (~/.cache); it can be deleted at any time. A file is
written under another name and then renamed, and begins with its own digest, so processes may share the folder, and
what a full disk or a killed process leaves behind is compiled anew. Where nothing can be written nothing is kept.
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from convbench.vector.code import Code
from convbench.vector.target import Target, host

ENTRY = "kernel"  # the exported function of every module
SOURCES = ("vector", "algorithms")  # the packages whose text decides what is compiled
DIGEST_BYTES = 32


class Program:
    """A module being written: its functions, and what each function was made from."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.module = ir.Module("convbench")
        self._made: dict[Any, Any] = {}

    def function(self, arguments: str, write: Callable[..., None], *parameters: Any) -> Any:
        """The function that write(program, code, *parameters) writes; written once for the same parameters."""
        key = (write, *parameters)
        if key not in self._made:
            name = f"{write.__module__.rpartition('.')[2]}.{write.__name__}.{len(self._made)}"
            self._made[key] = self._write(name, arguments, write, parameters, public=False)
        return self._made[key]

    def _write(
        self, name: str, arguments: str, write: Callable[..., None], parameters: tuple[Any, ...], public: bool
    ) -> Any:
        code = Code(self.module, name, arguments, self.target.lanes, public)
        write(self, code, *parameters)
        code.finish()
        return code.function


Write = Callable[..., None]
_one_at_a_time = Lock()  # no kernel is loaded by two threads


def address_of(arguments: str, write: Write, *parameters: Any, target: Target | None = None) -> int:
    """The address of the compiled kernel that write(program, code, *parameters) writes.

    parameters must have a repr that says all of what they are.
    """
    with _one_at_a_time:
        return _loaded(arguments, write, parameters, target or host())[0]


@cache
def _loaded(arguments: str, write: Write, parameters: tuple[Any, ...], target: Target) -> tuple[int, Any]:
    """Address, and what must live as long as it is used."""
    sources = (source_digest(), file_digest(write.__code__.co_filename))  # the kernel may be a plug-in's
    what = (*sources, llvmlite.__version__, target, write.__module__, write.__qualname__, parameters)
    key = hashlib.sha256(repr(what).encode()).hexdigest()
    code = read_kept(key)
    if code is None:
        code = compiled(arguments, write, parameters, target)
        keep(key, code)
    library = llvm.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(ENTRY)
    tracker = library.link(_jit(), key)
    return tracker[ENTRY], tracker


def compiled(arguments: str, write: Write, parameters: tuple[Any, ...], target: Target) -> bytes:
    """The object code of a kernel."""
    machine, module = optimised(arguments, write, parameters, target)
    return bytes(machine.emit_object(module))


def optimised(arguments: str, write: Write, parameters: tuple[Any, ...], target: Target) -> tuple[Any, Any]:
    """LLVM's machine, which can emit objects and assembly, and the optimised module of a kernel."""
    _initialise()
    with _nothing_collected():
        program = Program(target)
        program._write(ENTRY, arguments, write, parameters, public=True)
    module = program.module
    triple = llvm.Target.from_triple(llvm.get_process_triple())
    machine = triple.create_target_machine(
        cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="default"
    )
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    # The loops are written as they shall run: unrolled once more, a product's sums would no longer fit the registers.
    options = llvm.create_pipeline_tuning_options(2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = options.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return machine, parsed


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """No garbage collection meanwhile: for the many objects of a module it would take as long as writing them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@lru_cache(maxsize=1)
def _initialise() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # of what kernels say in assembly


@lru_cache(maxsize=1)
def _jit() -> Any:
    _initialise()
    return llvm.create_lljit_compiler()


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Of all source files that vector code is made from."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(file for package in SOURCES for file in (root / package).rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@cache
def file_digest(path: str) -> str:
    """Of the file a kernel is written in."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:  # typed in, or in an archive
        return ""


def cache_folder() -> Path:
    """Where compiled code is kept."""
    named = os.environ.get("CONVBENCH_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convbench"


def read_kept(key: str) -> bytes | None:
    """Compiled code that was kept, if it is whole."""
    try:
        content = (cache_folder() / f"{key}.o").read_bytes()
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return None
    digest, code = content[:DIGEST_BYTES], content[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == digest else None


def keep(key: str, code: bytes) -> None:
    """Keep compiled code, if that can be done."""
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(code).digest() + code)
            os.replace(temporary, folder / f"{key}.o")
        except OSError:
            Path(temporary).unlink(missing_ok=True)
    except (OSError, RuntimeError):
        return
