"""Kernels that may begin before the one queued last has ended: what the driver is told, what the test bench watches."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_host.launch import KernelError, LaunchError
from cuda_host.snippet import kernel

from convbench.devices.cuda import Cuda
from convbench.devices.following import launch_following, least_shared

TAKE = """extern "C" __global__ void take(const float* from, const float* other, float* to) {
  BEFORE
  wait_for_previous();
  if (blockIdx.x < 2) AFTER
}"""
COPY = "to[blockIdx.x * 32 + threadIdx.x] = from[threadIdx.x] + other[threadIdx.x];"


class Launched:
    """cuLaunchKernelEx, reading its configuration by the driver's own declarations."""

    def __init__(self, answer: int = 0) -> None:
        self.answer = answer
        self.facts: dict[str, Any] = {}

    def __call__(self, configuration: Any, function: Any, places: Any, extra: None) -> int:
        driver = pytest.importorskip("cuda.bindings.driver")
        told = driver.CUlaunchConfig(ctypes.addressof(configuration._obj))
        attribute = driver.CUlaunchAttribute(ctypes.addressof(configuration._obj.attributes.contents))
        self.facts = {
            "grid": (told.gridDimX, told.gridDimY, told.gridDimZ),
            "block": (told.blockDimX, told.blockDimY, told.blockDimZ),
            "shared": told.sharedMemBytes,
            "stream": int(told.hStream),
            "count": told.numAttrs,
            "attribute": attribute.id,
            "allowed": attribute.value.programmaticStreamSerializationAllowed,
            "function": function.value,
            "pointer": ctypes.c_void_p.from_address(places[0]).value,
            "number": ctypes.c_int.from_address(places[1]).value,
            "long": ctypes.c_longlong.from_address(places[2]).value,
            "extra": extra,
        }
        return self.answer


KERNEL = SimpleNamespace(name="take", kernel=SimpleNamespace(ptr=0x1234))
ARGUMENTS = (SimpleNamespace(data=SimpleNamespace(ptr=0x5678)), np.int32(-7), np.int64(1 << 40))


def test_the_driver_is_told_what_its_declarations_say() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    launched = Launched()
    launch_following(launched, KERNEL, (5, 2), (96,), ARGUMENTS, 4096, 0x99)
    name = driver.CUlaunchAttributeID.CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION
    assert launched.facts == {
        "grid": (5, 2, 1), "block": (96, 1, 1), "shared": 4096, "stream": 0x99, "count": 1, "attribute": name,
        "allowed": 1, "function": 0x1234, "pointer": 0x5678, "number": -7, "long": 1 << 40, "extra": None,
    }  # fmt: skip


def test_what_the_driver_refuses_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="cuLaunchKernelEx of take: the driver's error 1"):
        launch_following(Launched(1), KERNEL, (5,), (96,), ARGUMENTS, 0, 0)


@pytest.mark.parametrize(("capability", "follows", "early"), [(90, True, True), (90, False, False), (89, True, False)])
def test_only_what_follows_on_a_gpu_that_can_begins_early(
    monkeypatch: pytest.MonkeyPatch, capability: int, follows: bool, early: bool
) -> None:
    usual: list[Any] = []

    def take(grid: Any, block: Any, arguments: Any, shared_mem: int = 0) -> None:
        usual.append((grid, block, arguments, shared_mem))

    def by_driver(launch: Any, *told: Any) -> None:
        assert told == (take, (5,), (96,), ARGUMENTS, 4096, 0x99)

    monkeypatch.setattr("convbench.devices.cuda.launch_following", by_driver)
    monkeypatch.setattr("convbench.devices.cuda.driver_launch", lambda: None)
    device = Cuda.__new__(Cuda)
    device.capability = capability
    stream = SimpleNamespace(ptr=0x99)
    device.xp = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    device.launch(take, (5,), (96,), ARGUMENTS, 4096, follows=follows)
    assert usual == ([] if early else [((5,), (96,), ARGUMENTS, 4096)])


@pytest.mark.parametrize(("blocks", "each"), [(1, 1), (132, 1), (133, 2), (264, 2), (528, 4), (10000, 76)])
def test_no_multiprocessor_holds_more_blocks_than_an_even_deal(blocks: int, each: int) -> None:
    room, reserved = 233472, 1024
    facts = {
        "MultiProcessorCount": 132,
        "MaxSharedMemoryPerMultiprocessor": room,
        "ReservedSharedMemoryPerBlock": reserved,
    }
    least = least_shared(blocks, facts)
    assert room // (least + reserved) == each


def test_an_even_launch_asks_for_that_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr("convbench.devices.cuda.launch_following", lambda *told: seen.append(told[5]))
    monkeypatch.setattr("convbench.devices.cuda.driver_launch", lambda: None)
    device = Cuda.__new__(Cuda)
    device.capability = 90
    attributes = {
        "MultiProcessorCount": 132, "MaxSharedMemoryPerMultiprocessor": 233472, "ReservedSharedMemoryPerBlock": 1024,
    }  # fmt: skip
    device.xp = SimpleNamespace(
        cuda=SimpleNamespace(
            get_current_stream=lambda: SimpleNamespace(ptr=0), Device=lambda: SimpleNamespace(attributes=attributes)
        )
    )
    take = SimpleNamespace(max_dynamic_shared_size_bytes=4096)
    device.launch(take, (11, 12), (96,), (), 4096, follows=True, evenly=True)
    device.launch(take, (11, 12), (96,), (), 200 << 10, follows=True, evenly=True)
    device.launch(take, (11, 12), (96,), (), 4096, follows=True)
    assert seen == [233472 // 2 - 1023, 200 << 10, 4096]
    assert take.max_dynamic_shared_size_bytes == 200 << 10


def taken(before: str = "", after: str = COPY, follows: Any = None, blocks: int = 3) -> Any:
    source, other, to = np.arange(32, dtype=np.float32), np.ones(32, np.float32), np.zeros(96, np.float32)
    written = [source] if follows else None
    code = TAKE.replace("BEFORE", before).replace("AFTER", after)
    for seed in (0, 1, 2):
        kernel(code, "take")((blocks,), (32,), (source, other, to), seed=seed, follows=written)
    return to


@pytest.mark.usefixtures("host_compiler")
def test_what_the_kernel_before_writes_is_hidden_until_it_is_waited_for() -> None:
    want = np.concatenate([np.arange(1, 33), np.arange(1, 33), np.zeros(32)])
    assert np.array_equal(taken(follows=True), want)
    assert np.array_equal(taken("if (other[threadIdx.x] < 0) return;", follows=True), want), "it writes this not"
    early = "before wait_for_previous"
    with pytest.raises(KernelError, match=f"{early}.* of argument 0"):
        taken("if (from[threadIdx.x] < 0) return;", follows=True)
    with pytest.raises(KernelError, match=f"{early}.* of argument 2"):
        taken("to[threadIdx.x] = 0;", follows=True)
    with pytest.raises(KernelError, match=f"{early}.* of argument 2"):
        taken("if (to[threadIdx.x] > 5) return;", follows=True)
    assert np.array_equal(taken("if (from[threadIdx.x] < 0) return;"), want), "a launch that does not follow"


@pytest.mark.usefixtures("host_compiler")
def test_loads_of_it_stay_behind_the_wait() -> None:
    """The compiler may move those through pointers that are const and __restrict__."""
    source, to = np.ones(32, np.float32), np.zeros(32, np.float32)
    code = """extern "C" __global__ void f(const float* __restrict__ from, Two<int, 3>::Type* to, int) {
      wait_for_previous(); to[threadIdx.x] = from[threadIdx.x]; }"""
    code = "template <class A, int B> struct Two { using Type = float; };\n" + code
    launch = kernel(code)
    launch((1,), (32,), (source, to, np.int32(0)), follows=[])
    with pytest.raises(LaunchError, match=r"writes what 'const float\* __restrict__ from' points to"):
        launch((1,), (32,), (source, to, np.int32(0)), follows=[source[3:]])


@pytest.mark.usefixtures("host_compiler")
def test_each_block_waits_for_itself() -> None:
    only_the_first = "if (blockIdx.x == 1) { to[32 + threadIdx.x] = 1; return; }"
    with pytest.raises(KernelError, match="before wait_for_previous"):
        taken(only_the_first, follows=True)
