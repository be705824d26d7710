"""Compiled kernels on disk: kept, shared, mended, and done without."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convbench.vector import build
from convbench.vector.code import Code
from convbench.vector.target import host

KERNEL = """
def write(program, code, number):
    (place,) = code.arguments
    place.set_integer(number)
"""
# A process of its own, as a process remembers what it has loaded. It says what it got, and how often it compiled.
SCRIPT = """
import ctypes, sys
from convbench.vector import build
sys.path.insert(0, {folder!r})
from a_kernel import write
count, compile_now = 0, build.compiled
def counted(*words):
    global count
    count += 1
    return compile_now(*words)
build.compiled = counted
{extra}
out = ctypes.c_int64(0)
ctypes.CFUNCTYPE(None, ctypes.c_void_p)(build.address_of("p", write, 41))(ctypes.addressof(out))
print(out.value, count)
"""


def start(tmp_path: Path, cache: Path | None, extra: str = "", **changes: str) -> subprocess.Popen[str]:
    kernel = tmp_path / "a_kernel.py"
    if not kernel.exists():
        kernel.write_text(KERNEL)
    environment = {name: value for name, value in os.environ.items() if name != "CONVBENCH_CACHE"}
    if cache is not None:
        environment["CONVBENCH_CACHE"] = str(cache)
    script = SCRIPT.format(folder=str(tmp_path), extra=extra)
    words = [sys.executable, "-B", "-c", script]
    return subprocess.Popen(words, env=environment | changes, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> tuple[int, int]:
    """What the kernel wrote, and how often it was compiled."""
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    value, count = out.split()
    return int(value), int(count)


def test_a_kernel_is_compiled_once(tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    assert result(start(tmp_path, cache)) == (41, 1)
    (kept,) = cache.iterdir()
    assert kept.suffix == ".o"
    before = kept.read_bytes()
    assert result(start(tmp_path, cache)) == (41, 0)
    assert kept.read_bytes() == before


@pytest.mark.parametrize("harm", ["empty", "cut", "short", "flipped", "other"])
def test_a_spoilt_file_is_compiled_anew(tmp_path: Path, harm: str) -> None:
    assert result(start(tmp_path, tmp_path / "cache")) == (41, 1)
    (kept,) = (tmp_path / "cache").iterdir()
    whole = kept.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    harms = {"empty": b"", "cut": whole[:-1], "short": whole[:5], "flipped": bytes(flipped), "other": b"x" * len(whole)}
    kept.write_bytes(harms[harm])
    assert result(start(tmp_path, tmp_path / "cache")) == (41, 1)
    assert kept.read_bytes() == whole
    assert list((tmp_path / "cache").iterdir()) == [kept]


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert result(start(tmp_path, tmp_path / "file")) == (41, 1)
    assert result(start(tmp_path, tmp_path / "file" / "below")) == (41, 1)
    full = 'import os\ndef full(*words): raise OSError(28, "no space left")\nos.replace = full'
    assert result(start(tmp_path, tmp_path / "cache", full)) == (41, 1)
    assert list((tmp_path / "cache").iterdir()) == []


def test_processes_may_compile_the_same_kernel_at_once(tmp_path: Path) -> None:
    processes = [start(tmp_path, tmp_path / "cache") for _ in range(4)]
    assert {result(process)[0] for process in processes} == {41}
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_another_source_is_another_kernel(tmp_path: Path) -> None:
    assert result(start(tmp_path, tmp_path / "cache")) == (41, 1)
    (tmp_path / "a_kernel.py").write_text(KERNEL.replace("set_integer(number)", "set_integer(number + 1)"))
    assert result(start(tmp_path, tmp_path / "cache")) == (42, 1)
    changed = 'build.source_digest = lambda: "another version of convbench"'
    assert result(start(tmp_path, tmp_path / "cache", changed)) == (42, 1)
    assert len(list((tmp_path / "cache").iterdir())) == 3


def test_the_usual_folder(tmp_path: Path) -> None:
    assert result(start(tmp_path, None, XDG_CACHE_HOME=str(tmp_path / "xdg"))) == (41, 1)
    assert len(list((tmp_path / "xdg" / "convbench").iterdir())) == 1
    assert result(start(tmp_path, None, XDG_CACHE_HOME="", HOME=str(tmp_path / "home"))) == (41, 1)
    assert len(list((tmp_path / "home" / ".cache" / "convbench").iterdir())) == 1


def test_threads_at_once_compile_a_kernel_once(tmp_path: Path) -> None:
    extra = """
from threading import Thread
threads = [Thread(target=build.address_of, args=("p", write, 41)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert result(start(tmp_path, None, extra, CONVBENCH_CACHE="/dev/null/none")) == (41, 1)


def test_who_asks_what_a_plan_is_waits_for_no_compiler(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    words = [sys.executable, "-m", "convbench", "info", "conv1", "--batch", "2"]
    done = subprocess.run(
        words, env=os.environ | {"CONVBENCH_CACHE": str(cache)}, capture_output=True, text=True, check=True
    )
    assert "winograd.f7" in done.stdout
    assert not cache.exists()


@pytest.mark.parametrize("was_on", [True, False])
def test_garbage_collection_is_as_it_was(was_on: bool) -> None:
    """Off while a kernel is written, then as before, whatever that raises."""
    seen = []

    def write(program: build.Program, code: Code) -> None:
        seen.append(gc.isenabled())
        raise ZeroDivisionError

    (gc.enable if was_on else gc.disable)()
    try:
        with pytest.raises(ZeroDivisionError):
            build.compiled("p", write, (), host())
        assert gc.isenabled() == was_on
    finally:
        gc.enable()
    assert seen == [False]
