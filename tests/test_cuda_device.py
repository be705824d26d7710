"""The CUDA device without a GPU: its timing on scripted primitives, its memory account, its errors."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from convbench.devices.base import Call, NoDevice
from convbench.devices.cuda import Cuda, cuda_device
from convbench.devices.cupy_parts import counting_hook
from convbench.devices.launches import (
    ENQUEUE_GUESS_S,
    HOT_LEAST_S,
    HOT_ROUNDS,
    SPIN_FACTOR,
    SPIN_LEAST_S,
    SPIN_MOST_S,
    TRIES,
    LiveBytes,
    timed,
    timed_hot,
)
from convbench.devices.nvml import Nvml


class ScriptedGpu:
    """Queues what it is told and keeps two clocks: the host's, and when the GPU would reach each event."""

    def __init__(self, launch_s: float, kernel_s: float, slack: float = 1.0) -> None:
        self.launch_s, self.kernel_s, self.slack = launch_s, kernel_s, slack
        self.host = self.busy_until = self.begin = self.end = 0.0
        self.spins: list[float] = []
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1

    def spin(self, seconds: float) -> None:
        self.spins.append(seconds)
        self.busy_until = max(self.busy_until, self.host) + seconds * self.slack

    def start(self) -> None:
        self.begin = max(self.busy_until, self.host)

    def launch(self) -> None:
        self.host += self.launch_s
        self.busy_until = max(self.busy_until, self.host) + self.kernel_s

    def stop(self) -> None:
        self.end = self.busy_until

    def started(self) -> bool:
        return self.host >= self.begin

    def elapsed(self) -> float:
        self.host = max(self.host, self.end)
        return self.end - self.begin

    def clock(self) -> float:
        return self.host


def test_a_hidden_launch_is_not_in_the_time() -> None:
    gpu = ScriptedGpu(launch_s=50e-6, kernel_s=10e-6)
    sample = timed(gpu, gpu.launch, 50e-6, cold=True)
    assert sample.seconds == pytest.approx(10e-6)
    assert sample.enqueue_s == pytest.approx(50e-6)
    assert not sample.disturbed
    assert gpu.flushes == 1
    assert gpu.spins == [pytest.approx(SPIN_FACTOR * 50e-6)]


def test_an_exposed_launch_is_dropped_and_the_spin_doubled() -> None:
    gpu = ScriptedGpu(launch_s=50e-6, kernel_s=10e-6, slack=0.2)  # the spin proves five times shorter than asked for
    sample = timed(gpu, gpu.launch, 50e-6, cold=True)
    assert gpu.spins == pytest.approx([150e-6, 300e-6])
    assert gpu.flushes == 2
    assert sample.seconds == pytest.approx(10e-6)
    assert not sample.disturbed


def test_a_spin_far_too_short_follows_the_enqueue_time() -> None:
    gpu = ScriptedGpu(launch_s=10e-3, kernel_s=1e-6)
    assert not timed(gpu, gpu.launch, 0.0, cold=False).disturbed
    assert gpu.spins == pytest.approx([SPIN_LEAST_S, SPIN_FACTOR * 10e-3])


def test_a_call_that_waits_for_the_gpu_is_given_as_disturbed_after_bounded_tries() -> None:
    gpu = ScriptedGpu(launch_s=50e-6, kernel_s=10e-6)

    def waits() -> None:
        gpu.launch()
        gpu.host = gpu.busy_until

    sample = timed(gpu, waits, 50e-6, cold=True)
    assert sample.disturbed
    assert len(gpu.spins) == TRIES
    assert max(gpu.spins) < 10e-3, "the wait for one spin must not feed the next"
    assert sample.seconds == pytest.approx(10e-6)


def test_no_spin_is_longer_than_the_bound() -> None:
    gpu = ScriptedGpu(launch_s=1.0, kernel_s=1e-3)
    assert timed(gpu, gpu.launch, 1.0, cold=False).disturbed
    assert gpu.spins == [SPIN_MOST_S] * TRIES


def test_hot_batches_last_long_enough_and_give_the_time_of_one_call() -> None:
    gpu = ScriptedGpu(launch_s=2e-6, kernel_s=7e-6)
    lengths = []
    elapsed = gpu.elapsed

    def record() -> float:
        lengths.append(elapsed())
        return lengths[-1]

    gpu.elapsed = record  # type: ignore[method-assign]
    assert timed_hot(gpu, gpu.launch) == pytest.approx(7e-6)
    assert gpu.flushes == 0
    assert len(lengths) >= 1 + HOT_ROUNDS
    assert min(lengths[-HOT_ROUNDS:]) >= HOT_LEAST_S


def test_hot_calls_that_speed_up_still_fill_a_batch() -> None:
    gpu = ScriptedGpu(launch_s=1e-6, kernel_s=400e-6)
    count = 0

    def warms() -> None:
        nonlocal count
        count += 1
        gpu.kernel_s = 400e-6 if count == 1 else 20e-6
        gpu.launch()

    assert timed_hot(gpu, warms) == pytest.approx(20e-6)
    assert count >= 1 + HOT_ROUNDS * HOT_LEAST_S / 20e-6


def test_a_long_call_is_run_once_a_batch() -> None:
    gpu = ScriptedGpu(launch_s=1e-6, kernel_s=5e-3)
    assert timed_hot(gpu, gpu.launch) == pytest.approx(5e-3)
    assert len(gpu.spins) == 1 + HOT_ROUNDS


def scripted_device(gpu: ScriptedGpu) -> Cuda:
    """A Cuda that was not opened, with scripted primitives in place of CuPy's."""
    device = Cuda.__new__(Cuda)
    vars(device).update(_launches=gpu, _nvml=Nvml(None, ""), _enqueue_s=WeakKeyDictionary())
    return device


def test_the_device_remembers_each_calls_enqueue_time() -> None:
    gpu = ScriptedGpu(launch_s=40e-6, kernel_s=10e-6)
    device = scripted_device(gpu)
    calls: list[Call] = [lambda: gpu.launch()]
    first, second = device.time(calls, 1), device.time(calls, 1)
    assert first.seconds == pytest.approx(10e-6)
    assert second.enqueue_s == pytest.approx(40e-6)
    assert gpu.spins == pytest.approx([SPIN_FACTOR * ENQUEUE_GUESS_S, SPIN_FACTOR * 40e-6])
    assert gpu.flushes == 2


def test_the_device_takes_calls_in_turn_and_gives_the_time_of_one() -> None:
    gpu = ScriptedGpu(launch_s=1e-6, kernel_s=10e-6)
    made = []

    def call(number: int) -> Call:
        def run() -> None:
            made.append(number)
            gpu.launch()

        return run

    calls = [call(0), call(1), call(2)]
    assert scripted_device(gpu).time(calls, 2).seconds == pytest.approx(10e-6)
    scripted_device(gpu).time(calls, 2)
    assert made == [0, 1, 2, 0]


def test_live_bytes_know_the_most_there_were_at_once() -> None:
    live = LiveBytes()
    live.took(1, 100)
    live.took(2, 50)
    live.gave(1)
    live.took(3, 80)
    live.gave(99)  # allocated before the account was opened
    live.took(0, 1 << 40)  # an allocation that failed
    live.gave(2)
    live.gave(3)
    assert live.peak == 150
    live.took(4, 149)
    assert live.peak == 150


def test_the_hook_keeps_account_of_what_the_pool_reports() -> None:
    class MemoryHook:  # as cupy.cuda.MemoryHook: the pool calls these with keywords
        pass

    live = LiveBytes()
    hook = counting_hook(MemoryHook, live)
    hook.malloc_postprocess(device_id=0, size=300, mem_size=512, mem_ptr=4096, pmem_id=7)
    hook.malloc_postprocess(device_id=0, size=10, mem_size=512, mem_ptr=8192, pmem_id=8)
    hook.free_postprocess(device_id=0, mem_size=512, mem_ptr=4096, pmem_id=7)
    hook.malloc_postprocess(device_id=0, size=20, mem_size=512, mem_ptr=4096, pmem_id=9)
    assert live.peak == 310
    assert hook.name


def fake_cupy(count: Callable[[], int]) -> Any:
    class CUDARuntimeError(RuntimeError):
        pass

    cupy: Any = types.ModuleType("cupy")

    def device_count() -> int:
        try:
            return count()
        except OSError as error:
            raise CUDARuntimeError(str(error)) from None

    runtime = types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=device_count)
    cupy.cuda = types.SimpleNamespace(runtime=runtime)
    return cupy


def message(monkeypatch: pytest.MonkeyPatch, cupy: Any) -> str:
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    with pytest.raises(NoDevice) as caught:
        cuda_device(1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_cupy_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    text = message(monkeypatch, None)
    assert "pip install 'convbench[cuda12]'" in text
    assert "cuda13" in text


def test_without_a_driver_the_message_says_what_cuda_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> int:
        raise OSError("cudaErrorInsufficientDriver: CUDA driver version is insufficient\nfor CUDA runtime version")

    text = message(monkeypatch, fake_cupy(fails))
    assert "cudaErrorInsufficientDriver" in text
    assert "--device cpu" in text


def test_without_a_gpu_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    text = message(monkeypatch, fake_cupy(lambda: 0))
    assert "no GPU" in text
    assert "nvidia-smi" in text


def test_tf32_is_off_before_cupy_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUPY_TF32", "1")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    message(monkeypatch, None)
    import os

    assert os.environ["CUPY_TF32"] == "0"
    assert "NVIDIA_TF32_OVERRIDE" not in os.environ
