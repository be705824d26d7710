"""The CUDA test bench reports mistakes: each with its kind, the line marked HERE, and the thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_host.build import CompileError
from cuda_host.launch import KernelError, LaunchError
from cuda_host.snippet import kernel, run

pytestmark = pytest.mark.usefixtures("host_compiler")
WATCHED: dict[str, Any] = {"racecheck": True}
START: dict[str, Any] = {"guard": "start"}
TWO_WARPS: dict[str, Any] = {"block": 64}

# Name: code (a kernel of `float* y`, 64 numbers, and `const float* x`, 64), launch, what is said ({HERE} is its place).
MISTAKES: dict[str, tuple[str, dict[str, Any], str]] = {
    "read past the end": (
        "y[0] = x[64 + threadIdx.x]; // HERE",
        {},
        r"invalid memory access in block \(0,0,0\) thread \(0,0,0\) at {HERE}: byte 256 of 256 of argument 1",
    ),
    "write past the end": (
        "if (threadIdx.x == 7)\n y[64] = 1; // HERE",
        {},
        r"invalid memory access in block \(0,0,0\) thread \(7,0,0\) at {HERE}: byte 256 of 256 of argument 0",
    ),
    "read before the start": (
        "const float* p = x - 1;\n y[0] = p[0]; // HERE",
        START,
        r"invalid memory access .* at {HERE}: byte -4 of 256 of argument 1",
    ),
    "write before the start": (
        "y[(int)threadIdx.x - 1] = 1; // HERE",
        START,
        r"invalid memory access .*thread \(0,0,0\) at {HERE}: byte -4 of 256 of argument 0",
    ),
    "write to const": (
        "const_cast<float*>(x)[3] = 1; // HERE",
        {},
        r"invalid memory access .* at {HERE}: byte 12 of 256 of argument 1 \(float32\[64\]\), which is const",
    ),
    "index out of bounds": (
        "__shared__ float s[16];\n s[threadIdx.x] = 0; // HERE\n y[0] = s[0];",
        {},
        r"index 16 out of bounds of 'float \[16\]' at {HERE} in block \(0,0,0\) thread \(16,0,0\)",
    ),
    "past the end of dynamic shared memory": (
        "extern __shared__ float s[];\n s[threadIdx.x + 1] = 0; // HERE",
        {"shared_mem": 128},
        r"invalid memory access, byte 128 of 128 of dynamic shared memory, in .* thread \(31,0,0\) at {HERE}",
    ),
    "within the last 16 bytes of dynamic shared memory": (
        "extern __shared__ float s[];\n s[threadIdx.x + 2] = 0;",
        {"shared_mem": 132},
        r"write past the end of dynamic shared memory in block \(0,0,0\)",
    ),
    "outside dynamic shared memory, watched": (
        "extern __shared__ float s[];\n float* p = s - 1;\n if (threadIdx.x == 0) p[0] = 0; // HERE",
        {"shared_mem": 128, "racecheck": True},
        r"access outside the array at {HERE}: byte -4 of shared memory, block 0 thread 0",
    ),
    "past the end of static shared memory": (
        "__shared__ float s[32];\n float* p = s + 3;\n p[threadIdx.x] = 0;",
        {},
        r"write past the end of static shared memory in block \(0,0,0\)",
    ),
    "misaligned": (
        "y[0] = reinterpret_cast<const float4*>(x + threadIdx.x)->x; // HERE",
        {},
        r"misaligned access of '.*float4' \(not to 16 bytes\) at {HERE} in block \(0,0,0\) thread \(1,0,0\)",
    ),
    "division by zero": (
        "const int n = int(x[0]);\n y[0] = 5 / n; // HERE",
        {},
        r"integer division of 'int' by zero at {HERE}",
    ),
    "trap": ("if (threadIdx.x == 3)\n __trap(); // HERE", {}, r"trap in block \(0,0,0\) thread \(3,0,0\) at {HERE}"),
    "endless loop": (
        "volatile int go = 1;\n while (go)\n ; // HERE",
        {"cpu_seconds": 0.2},
        r"watchdog: the kernel does not end in block \(0,0,0\) thread \(0,0,0\) at kernel\.cu:[234]",
    ),
    "waiting for a block that never comes": (
        "if (blockIdx.x == 0)\n while (*(volatile float*)y == 0)\n ; // HERE\n else y[0] = 1;",
        {"cpu_seconds": 0.2, "grid": 2},
        r"watchdog: .*block \(0,0,0\)",
    ),
    "divergent barrier": (
        "if (threadIdx.x < 40)\n __syncthreads(); // HERE\n else __syncthreads();",
        TWO_WARPS,
        r"divergent barrier in block \(0,0,0\): thread 0 waits at {HERE}, thread 40 at kernel\.cu:4",
    ),
    "deadlock": (
        "if (threadIdx.x < 32)\n __syncthreads();\n if (threadIdx.x / 16 == 2)\n __syncwarp(); // HERE\n"
        "__syncthreads();",
        TWO_WARPS,
        r"deadlock in block \(0,0,0\): from thread 0 on: at the barrier at kernel\.cu:3; "
        r"from thread 32 on: in the warp operation at {HERE} with mask ffffffff; from thread 48 on: at the barrier",
    ),
    "half a warp shuffles": (
        "if (threadIdx.x < 16)\n y[0] = __shfl_sync(~0u, 1.0f, 0); // HERE\n __syncthreads();",
        {},
        r"deadlock .* in the warp operation at {HERE} with mask ffffffff; from thread 16 on: at the barrier",
    ),
    "not in its own mask": (
        "y[threadIdx.x] = __shfl_sync(0xFFFF, 1.0f, 0); // HERE",
        {},
        r"warp operation at {HERE}: lane 16 is not in its own mask 0000ffff",
    ),
    "product by half a warp": (
        "float d[4] = {};\n unsigned a[4] = {}, b[2] = {};\n if (threadIdx.x > 15)\n multiply_tf32(d, a, b); // HERE",
        {},
        r"mma needs all 32 lanes at ptx\.cuh:\d+ from {HERE}, block \(0,0,0\) warp 0",
    ),
    "misaligned copy": (
        "__shared__ __align__(16) float s[36];\n copy_async_16(s + threadIdx.x, x, true); // HERE",
        {},
        r"misaligned cp\.async of 16 bytes at ptx\.cuh:\d+ from {HERE} in block \(0,0,0\) thread \(1,0,0\)",
    ),
    "copy to global memory": (
        "copy_async_4(y, x, true); // HERE",
        {},
        r"cp\.async to an address outside shared memory at ptx\.cuh:\d+ from {HERE}",
    ),
    "copy past the end": (
        "__shared__ float s[32];\n copy_async_4(s + threadIdx.x, x + 40 + threadIdx.x, true); // HERE",
        {},
        r"invalid memory access .*thread \(24,0,0\) at ptx\.cuh:\d+ from {HERE}: byte 256 of 256 of argument 1",
    ),
    "misaligned row of a matrix": (
        "__shared__ __align__(16) float s[64];\n unsigned r[4];\n load_matrices<false>(r, s + threadIdx.x); // HERE",
        {},
        r"misaligned row of ldmatrix at ptx\.cuh:\d+ from {HERE}",
    ),
    "uninitialised": (
        "__shared__ float s[32];\n s[threadIdx.x / 2] = 0;\n __syncthreads();\n y[0] = s[threadIdx.x]; // HERE",
        WATCHED,
        r"read of uninitialised memory at {HERE}: byte \d+ of shared memory, block 0 thread 16",
    ),
    "read after write": (
        "__shared__ float s[64];\n s[threadIdx.x] = 0;\n y[threadIdx.x] = s[63 - threadIdx.x]; // HERE",
        {"block": 64, "racecheck": True, "seed": 1},
        r"read of uninitialised memory at {HERE}.*(race at kernel\.cu:[34].* at kernel\.cu:[34])",
    ),
    "read after write, 16 bytes": (
        "__shared__ float4 s[64];\n s[threadIdx.x] = make_float4(0, 0, 0, 0);\n y[threadIdx.x] = 0;\n __syncwarp();\n"
        "const float4 v = s[threadIdx.x ^ 32];\n y[threadIdx.x] = v.w; // HERE",
        TWO_WARPS | WATCHED,
        r"race at kernel\.cu:[36].* at kernel\.cu:[36]",
    ),
    "write after read": (
        "__shared__ float s[64];\n s[threadIdx.x] = 0;\n __syncthreads();\n y[threadIdx.x] = s[63 - threadIdx.x];\n"
        "s[threadIdx.x] = 1; // HERE",
        {"block": 64, "racecheck": True},
        r"write-after-read race at {HERE}: byte \d+ of .* thread 32, and block 0 thread 31 at kernel\.cu:5",
    ),
    "a missing __syncwarp": (
        "__shared__ float s[32];\n s[threadIdx.x] = 0;\n __syncthreads();\n s[threadIdx.x] = 1;\n"
        "y[threadIdx.x] = s[threadIdx.x ^ 1]; // HERE",
        WATCHED,
        r"race at kernel\.cu:[56].* at kernel\.cu:[56]",
    ),
    "two threads write": (
        "__shared__ float s[1];\n s[0] = threadIdx.x; // HERE",
        WATCHED,
        r"write-after-write race at {HERE}: byte 0 of .* thread 1, and block 0 thread 0 at {HERE}",
    ),
    "a missing atomicAdd": (
        "y[0] += 1; // HERE",
        {"block": 1, "grid": 2, "racecheck": True},
        r"race at {HERE}: byte 0 of a global array, block 1 thread 0, and block 0 thread 0 at {HERE}",
    ),
    "atomic and not": (
        "if (blockIdx.x) atomicAdd(y, 1.0f); // HERE\n else y[0] = 1;",
        {"block": 1, "grid": 2, "racecheck": True},
        r"write-after-write race at {HERE}: byte 0 of a global array, .* block 0 thread 0 at kernel\.cu:3",
    ),
    "another block's result": (
        "y[blockIdx.x] = 1;\n if (blockIdx.x) y[9] = y[0]; // HERE",
        {"block": 1, "grid": 2, "racecheck": True},
        r"read-after-write race at {HERE}: byte 0 of a global array, block 1 thread 0, and block 0 thread 0",
    ),
    "a copy that is not waited for, watched": (
        "__shared__ float s[32];\n copy_async_4(s + threadIdx.x, x, true);\n copy_async_commit();\n __syncthreads();\n"
        "y[threadIdx.x] = s[31 - threadIdx.x]; // HERE\n copy_async_wait<0>();",
        WATCHED,
        r"race at .*kernel\.cu:[67]",
    ),
    "outside an array, watched": (
        "y[63 + threadIdx.x] = 1; // HERE",
        {"block": 2, "racecheck": True, "guard": "start"},
        r"access outside the array at {HERE}: byte 256 of a global array, block 0 thread 1",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_reported_where_it_is(name: str) -> None:
    body, launch, words = MISTAKES[name]
    code = f"(float* y, const float* x) {{\n{body}\n}}"
    line = next((i for i, text in enumerate(code.splitlines(), 1) if "HERE" in text), 0)
    with pytest.raises(KernelError, match="^f: .*?" + words.replace("{HERE}", rf"kernel\.cu:{line}\b")):
        run(code, np.zeros(64, np.float32), np.zeros(64, np.float32), **launch)


FINE = {
    "barriers between": "s[i] = 1;\n __syncthreads();\n y[i] = s[63 - i];\n __syncthreads();\n s[i] = 2;",
    "a warp among itself": "s[i] = 1;\n __syncwarp();\n y[i] = s[i ^ 1];\n __syncwarp();\n s[i] = 2;",
    "one thread": "if (i == 0) s[0] = 1, y[0] = s[0], s[0] = 2;",
    "several readers": "s[i] = 1;\n __syncthreads();\n y[i] = s[0] + s[63];",
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_ordered_is_no_race(name: str) -> None:
    code = f"(float* y) {{ __shared__ float s[64]; const int i = threadIdx.x;\n{FINE[name]} }}"
    for seed in range(3):
        run(code, np.zeros(64, np.float32), block=64, racecheck=True, seed=seed)


def test_neighbouring_halves_are_no_race() -> None:
    code = """using T = unsigned short;
    extern "C" __global__ void f(T* y) {
      __shared__ T s[64];
      s[threadIdx.x] = threadIdx.x, y[threadIdx.x] = s[threadIdx.x];
    }"""
    y = np.zeros(64, np.uint16)
    kernel(code, racecheck=True)((1,), (64,), (y,))
    assert y.tolist() == list(range(64))


def test_a_variable_that_is_not_initialised_is_far_from_right() -> None:
    y = np.zeros(32, np.float32)
    run("(float* y) { float total; total += 1; y[threadIdx.x] = total; }", y)
    assert (np.abs(y) > 1e30).all() or np.isnan(y).all()


def test_a_write_in_the_slack_after_an_array_is_reported() -> None:
    """Three floats end 4 bytes before the guard page."""
    with pytest.raises(KernelError, match=r"write outside argument 0 \(float32\[3\]\)"):
        run("(float* y) { y[3] = 1; }", np.zeros(3, np.float32))


def test_nothing_is_written_back_to_the_rest_of_a_view() -> None:
    y = np.zeros((4, 8), np.float32)
    run("(float* y) { if (threadIdx.x < 16) y[threadIdx.x] = 1; }", y[1:3])
    assert y.sum(axis=1).tolist() == [0, 8, 8, 0]
    with pytest.raises(KernelError, match="byte 64 of 64 of argument 0"):
        run("(float* y) { y[16] = 1; }", y[1:3])


ARGUMENTS = {
    "argument 1 of f: int given where the kernel has i4": (np.zeros(1, np.float32), 3),
    "argument 1 of f: int64 given where the kernel has i4": (np.zeros(1, np.float32), np.int64(3)),
    "argument 1 of f: float32 given where the kernel has i4": (np.zeros(1, np.float32), np.float32(3)),
    r"argument 0 of f: float64 given where the kernel has \*f4": (np.zeros(1), np.int32(3)),
    r"argument 0 of f: float16 given where the kernel has \*f4": (np.zeros(2, np.float16), np.int32(3)),
    r"argument 0 of f: list given where the kernel has \*f4": ([1.0], np.int32(3)),
    r"argument 0 of f: float32, not contiguous given": (np.zeros((4, 4), np.float32)[:, 1], np.int32(3)),
    "f takes 2 arguments, not 1": (np.zeros(1, np.float32),),
}


@pytest.mark.parametrize("words", ARGUMENTS)
def test_wrong_arguments(words: str) -> None:
    with pytest.raises(TypeError, match=words):
        run("(float* y, int n) {}", *ARGUMENTS[words])


def test_arrays_must_not_overlap() -> None:
    y = np.zeros(64, np.float32)
    with pytest.raises(LaunchError, match=r"argument 0 \(float32\[64\]\) and argument 1 \(float32\[8\]\) overlap"):
        run("(float* y, const float* x) {}", y, y[8:16])
    run("(const float* y, const float* x) {}", y, y[8:16])
    run("(float* y, const float* x) { y[1] = x[0] + 1; }", y, y, block=1)
    assert y[1] == 1


def test_what_does_not_compile_is_said_with_its_line() -> None:
    with pytest.raises(CompileError, match=r"kernel\.cu:2:.*nonsense"):
        kernel('extern "C" __global__ void f(int* y) {\n *y = nonsense; }')


def test_an_unknown_kernel_is_named() -> None:
    with pytest.raises(AttributeError, match="no kernel g; there are f"):
        kernel('extern "C" __global__ void f(int* y) {}', name="g")


def test_a_launch_after_a_mistake_is_as_good_as_new() -> None:
    y = np.zeros(32, np.float32)
    code = "(float* y) { if (threadIdx.x == 5 && y[0] == 0) y[1 << 20] = 1; __syncthreads(); y[threadIdx.x] = 2; }"
    with pytest.raises(KernelError):
        run(code, y)
    assert not y.any(), "a failed launch writes nothing back"
    y[:] = 1
    run(code, y)
    assert (y == 2).all()
