"""Every CUDA kernel compiles for all kinds of layers, precisions, GPU generations: no spills, shared memory that fits.

NVRTC needs neither a GPU nor a driver. What is compiled is what the plans load, as they would on a GPU of that
generation. NVRTC's wheels belong to the `test` extra: without them these tests fail, not skip.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from cuda_devices import RecordedModule, Recorder
from cuda_host.device import SHARED_MEMORY

import convbench.algorithms
from convbench.algorithms import built_in
from convbench.algorithms.base import Algorithm, Missing, Unsupported
from convbench.devices.cuda_source import cuda_source
from convbench.layers import load
from convbench.problem import PRECISIONS, Problem
from convbench.shapes import parse_shape

FOLDER = Path(convbench.algorithms.__file__).parent
KERNELS = sorted(FOLDER.glob("*/*.cu"))
STATIC_SHARED_MEMORY = 48 << 10  # what a kernel may declare without asking the driver, on every GPU
REGISTERS = 65536  # of a multiprocessor, on every GPU
ODD = (
    "n1c1h1w1k1r1s1",
    "n3c5h7w9k11r3s2u2x1p1x0d1x2",
    "n2c64h14w14k64r3s3p1g64",
    "n2c6h5w31k10r5s1p2x0g2",
    "n7c130h6w6k129r2s2u2",
    "n1c4h1300w1300k512r1s1p3",
    "n24c131h1w2k260r1s2",  # nothing slides
)
# The layers at batch 1 and 128 in turn, which choose different tiles.
LAYERS = [str(layer.shape.with_batch((1, 128)[i % 2])) for i, layer in enumerate(load("alexnet").layers)]
# A library brings its own machine code, and may want a GPU to make a plan.
ON_CUDA = [algorithm for algorithm in built_in() if "cuda" in algorithm.on and algorithm.family != "library"]


@cache
def compile_log(source: str, arch: int, own_instructions: bool = False) -> str:
    """What ptxas says of each kernel, after a compilation to machine code that must succeed."""
    from cuda.bindings import nvrtc

    def ok(result: tuple[object, ...]) -> object:
        assert result[0] == nvrtc.nvrtcResult.NVRTC_SUCCESS, result[0]
        return result[1] if len(result) > 1 else None

    program = ok(nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], []))
    name = f"sm_{arch}{'a' if own_instructions else ''}"
    options = [f"--gpu-architecture={name}".encode(), b"--std=c++17", b"--ptxas-options=-v"]
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


def modules_of(algorithm: Algorithm, problem: Problem, arch: int) -> list[RecordedModule]:
    """What a plan of this algorithm loads on such a GPU; nothing where it says that it is unsupported."""
    if algorithm.refusal(problem, "cuda"):
        return []
    device = Recorder(arch)
    try:
        algorithm.on["cuda"](problem, device)  # type: ignore[arg-type]
    except (Unsupported, Missing):
        return []
    return device.modules


def check(module: RecordedModule, arch: int) -> None:
    log = compile_log(module.source, arch, module.own_instructions)
    assert "warning" not in log, log
    assert "serialized" not in log, log  # ptxas waits for each product where it sees somebody touch the sums
    spills = [int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", log)]
    assert spills, f"ptxas said nothing of spills:\n{log}"
    assert not any(spills), log
    for part in log.split("Compiling entry function '")[1:]:
        name = part.partition("'")[0]
        static = max((int(n) for n in re.findall(r"(\d+) bytes smem", part)), default=0)
        dynamic = module.kernels[name].max_dynamic_shared_size_bytes if name in module.kernels else 0
        assert static <= STATIC_SHARED_MEMORY, log
        assert static + dynamic <= SHARED_MEMORY[arch], f"{module.file}, {name}: {dynamic} bytes of it dynamic"


CASES = [
    pytest.param(algorithm, precision, arch, id=f"{algorithm.name}-{precision}-sm_{arch}")
    for algorithm in ON_CUDA
    for precision in PRECISIONS
    for arch in SHARED_MEMORY
    if precision in algorithm.precisions_on("cuda")
]


@pytest.mark.parametrize(("algorithm", "precision", "arch"), CASES)
def test_compiles_without_spills(algorithm: Algorithm, precision: str, arch: int) -> None:
    seen = set()
    turn = list(SHARED_MEMORY).index(arch)
    layers = LAYERS if arch == 90 else LAYERS[turn % 2 :: 2]  # a generation is tried with half, its neighbours the rest
    for word in (*layers, *ODD[turn :: len(SHARED_MEMORY)]):
        for module in modules_of(algorithm, Problem(parse_shape(word), precision), arch):
            if module.source not in seen:
                seen.add(module.source)
                check(module, arch)


def test_every_kernel_is_loaded_by_a_plan() -> None:
    loaded = {
        module.file
        for algorithm in ON_CUDA
        for precision in algorithm.precisions_on("cuda")
        for word in (*LAYERS, *ODD)
        for module in modules_of(algorithm, Problem(parse_shape(word), precision), 90)
    }
    assert {path.name for path in KERNELS} == loaded


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("arch", SHARED_MEMORY)
def test_every_tile_of_blocked_compiles_without_spills(precision: str, arch: int) -> None:
    from convbench.algorithms.direct.blocked import TILES_BY_PRECISION

    problem = Problem(parse_shape(ODD[1]), precision)
    for tile in TILES_BY_PRECISION[precision]:
        log = compile_log(cuda_source(FOLDER / "direct" / "blocked.cu", problem, **tile.knobs, SPLIT=2), arch)
        assert not any(int(n) for n in re.findall(r"(\d+) bytes spill (?:stores|loads)", log)), log
        registers = max(int(n) for n in re.findall(r"Used (\d+) registers", log))
        assert registers * tile.threads <= REGISTERS // 2 or precision == "float64", "two blocks on a multiprocessor"


WRAPPERS = """#include "ptx.cuh"
extern "C" __global__ void all(float* y, const float4* x) {
  __shared__ __align__(16) float4 s[64];
  copy_async_16(&s[threadIdx.x], x + threadIdx.x, true);
  copy_async_16_cached(&s[threadIdx.x], x + 32 + threadIdx.x, true);
  copy_async_4(&s[threadIdx.x].x, x, false);
  copy_async_commit();
  copy_async_wait<0>();
  __syncthreads();
  unsigned a[4], b[2] = {to_tf32(s[1].x), to_tf32(load_once(x).y)};
  float d[4] = {};
  load_matrices<true>(a, s);
  multiply_tf32(d, a, b);
  load_matrices<false>(a, s + 32);
  multiply_half(d, a, b);
  y[threadIdx.x] = d[0] + d[1] + d[2] + d[3] + from_half(to_half(s[3].x));
}
"""


OF_WARPGROUPS = """#include "warpgroup.cuh"
extern "C" __global__ void all(float* y) {
  __shared__ __align__(1024) int4 s[1024];
  float sums[32] = {};
  begin_products(sums);
  publish_to_products();
  begin_product<float, 64>(sums, s, s + 512, 2);
  begin_product<unsigned short, 64>(sums, s, s + 512, 0);
  commit_products();
  wait_for_products<0>(sums);
  y[threadIdx.x] = sums[3];
}
"""


# Sums that may be zeros as they were, or come from products: the compiler likes to add to either where they come from.
ADDED = """#include "warpgroup.cuh"
extern "C" __global__ void all(float* y, int steps) {
  __shared__ __align__(1024) int4 s[1024];
  float sums[32] = {}, more[32] = {};
  begin_products(sums);
  for (int step = 0; step < min(steps, 9); ++step) {
    begin_product<float, 64>(sums, s, s + 512, 0);
    commit_products();
    wait_for_products<1>(sums);
  }
  wait_for_products<0>(sums);
  for (int i = 0; i < 32; ++i) sums[i] += more[i];
  __syncthreads();
  for (int i = 0; i < 32; ++i) y[i] = sums[i];
}
"""


def with_wrappers(text: str, folder: Path) -> str:
    """The whole source of a kernel beside the wrappers of assembly."""
    for name in ("ptx.cuh", "warpgroup.cuh"):
        (folder / name).write_text((FOLDER.parent / "devices" / name).read_text())
    (folder / "k.cu").write_text(text)
    return cuda_source(folder / "k.cu", Problem(parse_shape(ODD[0])))


def ptx_of(source: str) -> str:
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], [])
    options = [b"--gpu-architecture=compute_90a", b"--std=c++17"]
    assert nvrtc.nvrtcCompileProgram(program, len(options), options) == (nvrtc.nvrtcResult.NVRTC_SUCCESS,)
    _, size = nvrtc.nvrtcGetPTXSize(program)
    text = b" " * size
    nvrtc.nvrtcGetPTX(program, text)
    return text.decode()


def additions(source: str) -> tuple[int, int]:
    """Before and behind the last wait."""
    before, _, after = ptx_of(source).rpartition("wgmma.wait_group")
    return before.count("add.f32"), after.count("add.f32")


def test_sums_are_not_touched_before_they_are_waited_for(tmp_path: Path) -> None:
    source = with_wrappers(ADDED, tmp_path)
    assert additions(source) == (0, 32)
    assert additions(source.replace("hold(sums);", ";")) == (32, 0), "what hold is good for"


@pytest.mark.parametrize(
    ("text", "arch", "own_instructions"),
    [*((WRAPPERS, arch, False) for arch in SHARED_MEMORY), (WRAPPERS, 90, True), (OF_WARPGROUPS, 90, True)],
)
def test_the_wrappers_of_assembly_compile(text: str, arch: int, own_instructions: bool, tmp_path: Path) -> None:
    assert "spill" in compile_log(with_wrappers(text, tmp_path), arch, own_instructions)


def test_wide_indices_compile() -> None:
    problem = Problem(parse_shape("n40c64h1024w1024k3r1s1"))  # 2.7e9 inputs
    naive = FOLDER / "direct" / "naive.cu"
    source = cuda_source(naive, problem, THREADS=256)
    assert "using Index = long long;" in source
    assert "spill" in compile_log(source, 90)


def test_a_mistake_is_reported_at_its_own_line(tmp_path: Path) -> None:
    (tmp_path / "part.cuh").write_text("#pragma once\nint wrong = nonsense;\n")
    (tmp_path / "kernel.cu").write_text('// first\n#include "part.cuh"\nextern "C" __global__ void f() {}\n')
    source = cuda_source(tmp_path / "kernel.cu", Problem(parse_shape(ODD[0])))
    with pytest.raises(AssertionError, match=r"part\.cuh\(2\)"):
        compile_log(source, 90)
