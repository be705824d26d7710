"""What tests compile is kept in folders of its own: kernels, shared with the workers that tests start, and cuDNNs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_WORKERS = pytest.StashKey[list[int]]()
LAUNCHES = "cuda_host_launches"


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base  # what one worker compiles, all may use
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVBENCH_CACHE", str(shared / "kernels"))
        yield


@pytest.fixture(scope="session")
def cudnn_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where cudnn_on_host compiles its libraries, each once."""
    return tmp_path_factory.mktemp("cudnn")


@pytest.fixture(scope="session")
def host_compiler() -> None:
    """g++ for tests/cuda_host: a machine without one skips those tests, except in continuous integration."""
    from cuda_host.build import compiler, prune

    if sys.platform != "linux":
        pytest.skip("tests/cuda_host knows Linux alone")
    if compiler() is None:
        answer = pytest.fail if os.environ.get("CI") or os.environ.get("CONVBENCH_CI") else pytest.skip
        answer("no g++ to run CUDA kernels on the CPU with")
    prune()


def _launches() -> int:
    """Kernel launches that this process ran on the CPU."""
    return getattr(sys.modules.get("cuda_host.device"), "launches", 0)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands its count to the process that started it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput[LAUNCHES] = _launches()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """pytest-xdist: a worker has ended."""
    workers = node.config.stash.setdefault(_WORKERS, [])
    workers.append(getattr(node, "workeroutput", {}).get(LAUNCHES, 0))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """How much the CUDA test bench did."""
    workers = config.stash.setdefault(_WORKERS, [])
    count = _launches() + sum(workers)
    if count:
        terminalreporter.write_line(f"{count} CUDA kernel launches run on the CPU")
