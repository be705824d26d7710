"""Every CUDA kernel compiles for every layer, precision and GPU generation: no spills, and shared memory that fits.

NVRTC needs neither a GPU nor a driver. Its wheels belong to the `test` extra: without them these tests fail, not skip.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import convbench.algorithms
from convbench.devices.cuda_source import cuda_source
from convbench.problem import PRECISIONS, Problem
from convbench.shapes import parse_shape

ALGORITHMS = Path(convbench.algorithms.__file__).parent
KERNELS = sorted(ALGORITHMS.glob("*/*.cu"))
SHARED_MEMORY = {"sm_75": 64 << 10, "sm_80": 163 << 10, "sm_89": 99 << 10, "sm_90": 227 << 10, "sm_100": 227 << 10}
STATIC_SHARED_MEMORY = 48 << 10  # what a kernel may declare without asking the driver, on every GPU
REGISTERS = 65536  # of a multiprocessor, on every GPU

ALEXNET = {
    "conv1": "c3h227w227k96r11s11u4",
    "conv2": "c96h27w27k256r5s5p2g2",
    "conv3": "c256h13w13k384r3s3p1",
    "conv4": "c384h13w13k384r3s3p1g2",
    "conv5": "c384h13w13k256r3s3p1g2",
    "fc6": "c256h6w6k4096r6s6",
    "fc7": "c4096h1w1k4096r1s1",
    "fc8": "c4096h1w1k1000r1s1",
}
ODD = (
    "n1c1h1w1k1r1s1",
    "n3c5h7w9k11r3s2u2x1p1x0d1x2",
    "n2c64h14w14k64r3s3p1g64",
    "n2c6h5w31k10r5s1p2x0g2",
    "n7c130h6w6k129r2s2u2",
    "n1c4h1300w1300k512r1s1p3",
)
# Every layer on two generations, every generation on the first and the last of the layers.
CASES = (
    [(word, arch) for word in ALEXNET.values() for arch in ("sm_75", "sm_90")]
    + [(ALEXNET[layer], arch) for layer in ("conv1", "fc8") for arch in ("sm_80", "sm_89", "sm_100")]
    + [(word, arch) for word, arch in zip(ODD, ("sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "sm_75"), strict=True)]
)


def compile_log(source: str, arch: str) -> str:
    """What ptxas says of each kernel, after a compilation to machine code that must succeed."""
    from cuda.bindings import nvrtc

    def ok(result: tuple[object, ...]) -> object:
        assert result[0] == nvrtc.nvrtcResult.NVRTC_SUCCESS, result[0]
        return result[1] if len(result) > 1 else None

    program = ok(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
    options = [f"--gpu-architecture={arch}".encode(), b"--std=c++17", b"--ptxas-options=-v"]
    (result,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
    size = ok(nvrtc.nvrtcGetProgramLogSize(program))
    assert isinstance(size, int)
    log = b" " * size
    ok(nvrtc.nvrtcGetProgramLog(program, log))
    text = log.decode(errors="replace").rstrip(" \0")
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, text
    cubin = ok(nvrtc.nvrtcGetCUBINSize(program))
    assert isinstance(cubin, int)
    assert cubin > 0
    nvrtc.nvrtcDestroyProgram(program)
    return text


def problems() -> Iterator[tuple[str, str, str]]:
    """(shape word, precision, generation), layers at batch 1 and 128 in turn, which choose different tiles."""
    for number, (word, arch) in enumerate(CASES):
        for precision in PRECISIONS:
            batch = "" if word.startswith("n") else f"n{(1, 128)[number % 2]}"
            yield batch + word, precision, arch


@pytest.mark.parametrize("kernel", KERNELS, ids=[path.stem for path in KERNELS])
@pytest.mark.parametrize(("word", "precision", "arch"), list(problems()))
def test_compiles_without_spills(kernel: Path, word: str, precision: str, arch: str) -> None:
    problem = Problem(parse_shape(word), precision)
    module = importlib.import_module(f"convbench.algorithms.{kernel.parent.name}.{kernel.stem}")
    knobs = module.knobs(problem)
    log = compile_log(cuda_source(kernel, problem, **knobs), arch)
    assert "warning" not in log, log

    spills = [int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", log)]
    assert spills, f"ptxas said nothing of spills:\n{log}"
    assert not any(spills), log
    for shared in (int(n) for n in re.findall(r"(\d+) bytes smem", log)):
        assert shared <= min(STATIC_SHARED_MEMORY, SHARED_MEMORY[arch]), log


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("arch", SHARED_MEMORY)
def test_every_tile_of_blocked_compiles_without_spills(precision: str, arch: str) -> None:
    from convbench.algorithms.direct.blocked import TILES_BY_PRECISION

    problem = Problem(parse_shape(ODD[1]), precision)
    for tile in TILES_BY_PRECISION[precision]:
        knobs = {"TILE_K": tile.filters, "TILE_P": tile.pixels, "TILE_T": tile.taps, "SPLIT": 2}
        knobs |= {"THREAD_K": tile.thread_filters, "THREAD_P": tile.thread_pixels}
        log = compile_log(cuda_source(ALGORITHMS / "direct" / "blocked.cu", problem, **knobs), arch)
        assert not any(int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", log)), log
        registers = max(int(n) for n in re.findall(r"Used (\d+) registers", log))
        assert registers * tile.threads <= REGISTERS // 2 or precision == "float64", "two blocks on a multiprocessor"


def test_kernels_are_found() -> None:
    assert {"naive", "blocked"} <= {path.stem for path in KERNELS}


def test_wide_indices_compile() -> None:
    problem = Problem(parse_shape("n40c64h1024w1024k3r1s1"))  # 2.7e9 inputs
    naive = ALGORITHMS / "direct" / "naive.cu"
    source = cuda_source(naive, problem, THREADS=256)
    assert "using Index = long long;" in source
    assert "spill" in compile_log(source, "sm_90")


def test_a_mistake_is_reported_at_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "part.cuh").write_text("#pragma once\nint wrong = nonsense;\n")
    (tmp_path / "kernel.cu").write_text('// first\n#include "part.cuh"\nextern "C" __global__ void f() {}\n')
    source = cuda_source(tmp_path / "kernel.cu", Problem(parse_shape(ODD[0])))
    with pytest.raises(AssertionError, match=r"part\.cuh\(2\)"):
        compile_log(source, "sm_90")
