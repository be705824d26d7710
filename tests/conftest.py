"""Kernels compiled by the tests are kept in a folder of their own, shared with the workers that tests start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVBENCH_CACHE", str(tmp_path_factory.mktemp("kernels")))
        yield
