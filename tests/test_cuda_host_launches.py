"""The CUDA test bench launches kernels as CuPy does: grids, orders, arguments, and limits that a GPU has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cuda_host.device import HostDevice
from cuda_host.launch import KernelError, LaunchError
from cuda_host.module import kernels_of
from cuda_host.snippet import kernel, run

from convbench.problem import Problem
from convbench.shapes import parse_shape

pytestmark = pytest.mark.usefixtures("host_compiler")


def test_blocks_and_threads_have_three_dimensions() -> None:
    y = np.zeros((2, 3, 2, 2, 3, 4), np.int32)
    code = """extern "C" __global__ void f(int* y) {
      const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
      y[block * blockDim.x * blockDim.y * blockDim.z + thread] = blockIdx.x + 10 * blockIdx.z + 100 * threadIdx.y;
    }"""
    kernel(code)((2, 3, 2), (4, 3, 2), (y,), seed=2)
    grid = np.indices((2, 3, 2, 2, 3, 4))
    assert (y == grid[2] + 10 * grid[0] + 100 * grid[4]).all()


def test_seeds_are_orders() -> None:
    code = "(int* order, int* next) { order[*next] = blockIdx.x * 64 + threadIdx.x; *next += 1; }"
    seen = {}
    for seed in range(4):
        order, following = np.zeros(128, np.int32), np.zeros(1, np.int32)
        run(code, order, following, grid=2, block=64, seed=seed)
        assert sorted(order) == list(range(128))
        seen[seed] = order.tolist()
    assert seen[0] == list(range(128))
    assert seen[1] == list(range(127, -1, -1))
    assert len({tuple(order) for order in seen.values()}) == 4


def test_views_keep_their_alignment() -> None:
    """A row of an odd length does not begin at 16 bytes, though its copy before the guard page could."""
    code = "(float* y) { if (threadIdx.x == 0) y[0] = (size_t)y % 16; }"
    y = np.zeros((4, 5), np.float32)
    for row in range(4):
        for guard in ("end", "start"):
            run(code, y[row], guard=guard)
            assert y[row, 0] == row * 20 % 16
    assert not y[:, 1:].any()


def test_scalars_and_structures_as_arguments() -> None:
    y = np.zeros(4, np.float32)
    code = "(float4* y, float a, int n, long long big, bool yes) { *y = make_float4(a, n, big, yes); }"
    run(code, y, np.float32(1.5), np.int32(-3), 1 << 20, True, block=1)
    assert y.tolist() == [1.5, -3, 1 << 20, 1]


@pytest.mark.parametrize(
    ("head", "want"),
    [
        ('extern "C" __global__ void f(int* p) {}', {"f": "0"}),
        ('extern "C" __global__ void __launch_bounds__(32 * (A + B), 2)\nname(T* p) {}', {"name": "32 * (A + B)"}),
        ('extern "C" __global__ __launch_bounds__(N) void g(T* p) {}', {"g": "N"}),
        ("// __global__ void comment(int)", {}),
    ],
)
def test_kernels_are_found(head: str, want: dict[str, str]) -> None:
    assert kernels_of(head) == want


LAUNCHES = {
    "a block of": {"block": 1056},
    "64 threads a block, its __launch_bounds__ are 32": {"block": 64},
    "49156 bytes of dynamic shared memory, max_dynamic_shared_size_bytes is 49152": {"shared_mem": (48 << 10) + 4},
}


@pytest.mark.parametrize("words", LAUNCHES)
def test_launches_that_no_gpu_takes(words: str) -> None:
    launch: dict[str, Any] = {"block": 32, "shared_mem": 0} | LAUNCHES[words]
    f = kernel('extern "C" __global__ void __launch_bounds__(32) f(float* y) {}')
    with pytest.raises(LaunchError, match=words):
        f((1,), (launch["block"],), (np.zeros(1, np.float32),), shared_mem=launch["shared_mem"])


def test_more_shared_memory_must_be_asked_for() -> None:
    y, code = np.zeros(1, np.float32), 'extern "C" __global__ void f(float* y) { __shared__ float s[64]; *y = *s; }'
    f = kernel(code, shared_limit=64 << 10)
    with pytest.raises(LaunchError, match="max_dynamic_shared_size_bytes is 48896"):
        f((1,), (1,), (y,), shared_mem=48 << 10)
    f.max_dynamic_shared_size_bytes = 60 << 10
    f((1,), (1,), (y,), shared_mem=60 << 10)
    f.max_dynamic_shared_size_bytes = 64 << 10
    with pytest.raises(LaunchError, match="more shared memory than the 65536 bytes of this GPU"):
        f((1,), (1,), (y,))


def test_static_shared_memory_has_a_limit() -> None:
    code = 'extern "C" __global__ void f(float* y) { __shared__ float s[12290]; y[0] = s[threadIdx.x]; }'
    with pytest.raises(LaunchError, match="49160 bytes of static shared memory"):
        kernel(code)((1,), (1,), (np.zeros(1, np.float32),))


@pytest.mark.parametrize("precision", ["float16", "float32", "float64", "complex64"])
def test_memory_of_a_device_is_poisoned(precision: str) -> None:
    assert np.isnan(HostDevice().empty((3, 5), precision)).all()
    assert (HostDevice().empty((3, 5), "int32") == -1).all()


ORDER = 'extern "C" __global__ void order(int* y, int* n) { y[(*n)++] = blockIdx.x; }'


def test_a_device_decides_how_its_kernels_run(tmp_path: Path) -> None:
    source, problem = tmp_path / "order.cu", Problem(parse_shape("n1c1h1w1k1r1s1"))
    source.write_text(ORDER)
    for seed, want in ((0, [0, 1, 2, 3]), (1, [3, 2, 1, 0])):
        device, y = HostDevice(seed=seed), np.zeros(4, np.int32)
        device.load(source, problem).get_function("order")((4,), (1,), (y, np.zeros(1, np.int32)))
        assert y.tolist() == want
        assert device.launches == 1
    watched = HostDevice(racecheck=True).load(source, problem).get_function("order")
    with pytest.raises(KernelError, match=r"race at order\.cu:1"):
        watched((4,), (1,), (y, np.zeros(1, np.int32)))
    edited = HostDevice(edit=lambda text: text.replace("= blockIdx.x", "= 7")).load(source, problem)
    edited.get_function("order")((4,), (1,), (y, np.zeros(1, np.int32)))
    assert y.tolist() == [7, 7, 7, 7]


def test_a_device_has_the_shared_memory_of_its_generation(tmp_path: Path) -> None:
    source, problem = tmp_path / "order.cu", Problem(parse_shape("n1c1h1w1k1r1s1"))
    source.write_text(ORDER)
    for capability, fits in ((75, False), (90, True)):
        f = HostDevice(capability).load(source, problem).get_function("order")
        f.max_dynamic_shared_size_bytes = 100 << 10
        arguments = np.zeros(1, np.int32), np.zeros(1, np.int32)
        if fits:
            f((1,), (1,), arguments, shared_mem=100 << 10)
        else:
            with pytest.raises(LaunchError, match="more shared memory than the 65536 bytes"):
                f((1,), (1,), arguments, shared_mem=100 << 10)
