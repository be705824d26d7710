"""Code that CuPy does not compile: by a scripted NVRTC, once, into a file that is whole or not there."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from convbench.algorithms.direct import naive
from convbench.devices.cuda import Cuda
from convbench.devices.cupy_parts import compiled
from convbench.problem import Problem
from convbench.shapes import parse_shape


class FakeNvrtc(types.ModuleType):
    """cupy_backends.cuda.libs.nvrtc as far as `compiled` knows it; its machine code tells what was asked for."""

    class NVRTCError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("nvrtc")
        self.made: list[Any] = []
        self.alive = 0

    def getVersion(self) -> tuple[int, int]:  # noqa: N802
        return 13, 0

    def createProgram(self, source: str, name: str, headers: Any, names: Any) -> list[Any]:  # noqa: N802
        self.alive += 1
        return [source, ()]

    def compileProgram(self, program: list[Any], options: tuple[str, ...]) -> None:  # noqa: N802
        program[1] = options
        if "mistake" in program[0]:
            raise self.NVRTCError("compilation error")
        self.made.append(program)

    def getProgramLog(self, program: list[Any]) -> str:  # noqa: N802
        return "kernel.cu(7): a mistake"

    def getCUBIN(self, program: list[Any]) -> bytes:  # noqa: N802
        return repr(program).encode()

    def destroyProgram(self, program: list[Any]) -> None:  # noqa: N802
        self.alive -= 1


@pytest.fixture
def nvrtc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeNvrtc:
    fake = FakeNvrtc()
    libraries = types.ModuleType("cupy_backends.cuda.libs")
    libraries.nvrtc = fake  # type: ignore[attr-defined]
    for name in ("cupy_backends", "cupy_backends.cuda"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs", libraries)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "cache"))
    return fake


def test_code_for_another_architecture_is_compiled_once(nvrtc: FakeNvrtc) -> None:
    first = compiled("kernel", "sm_90a", ("--std=c++17",))
    assert "--gpu-architecture=sm_90a" in first.read_text()
    assert "--std=c++17" in first.read_text()
    assert compiled("kernel", "sm_90a", ("--std=c++17",)) == first
    assert len(nvrtc.made) == 1
    others = {compiled("other", "sm_90a", ("--std=c++17",)), compiled("kernel", "sm_100a", ("--std=c++17",))}
    assert len(others | {first}) == 3
    assert sorted(first.parent.iterdir()) == sorted(others | {first}), "nothing half written is left"
    assert nvrtc.alive == 0


def test_what_the_compiler_says_is_the_error(nvrtc: FakeNvrtc) -> None:
    with pytest.raises(RuntimeError, match=r"NVRTC for sm_90a: kernel\.cu\(7\): a mistake"):
        compiled("a mistake", "sm_90a", ())
    assert nvrtc.alive == 0


def test_own_instructions_are_loaded_from_that_file(nvrtc: FakeNvrtc) -> None:
    device = Cuda.__new__(Cuda)
    device.capability = 90
    device.xp = types.SimpleNamespace(RawModule=lambda **facts: facts)
    source, problem = Path(naive.__file__).with_suffix(".cu"), Problem(parse_shape("n1c1h4w4k1r1s1"))
    assert "code" in device.load(source, problem, THREADS=256)
    loaded = device.load_own(source, problem, THREADS=256)
    assert "sm_90a" in Path(loaded["path"]).read_text()
    assert len(nvrtc.made) == 1
