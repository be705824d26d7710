"""Products of warpgroups on the CUDA test bench: what they compute, and the mistakes that it reports."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_host.launch import KernelError
from cuda_host.snippet import run

pytestmark = pytest.mark.usefixtures("host_compiler")

# 64 rows of a and 64 of b, each 8 chunks of 16 bytes; y [64, 64] from sums as ptx's m64n64 lays them out.
KERNEL = """(const int4* a, const int4* b, float* y) {
  __shared__ __align__(1024) int4 s[2][64 * 8];
  float sums[32] = {};
  for (int i = threadIdx.x; i < 64 * 8; i += 128) {
    const int to = i / 8 * 8 + (i % 8 ^ i / 8 % 8);
    copy_async_16(&s[0][to], a + i, true);
    copy_async_16(&s[1][to], b + i, true);
  }
  copy_async_commit();
  copy_async_wait<0>();
  publish_to_products();
  __syncthreads();
  begin_products(sums);
  for (int chunk = 0; chunk < 8; chunk += 2) begin_product<TYPE, 64>(sums, s[0], s[1], chunk);
  commit_products();
  wait_for_products<0>(sums);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
  for (int j = 0; j < 32; ++j) y[(row + j / 2 % 2 * 8) * 64 + j / 4 * 8 + lane % 4 * 2 + j % 2] = sums[j];
}"""


def product(kernel: str, dtype: str) -> tuple[Any, Any]:
    """What a kernel makes of random a and b, and their product in float64."""
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal((64, 128 // np.dtype(dtype).itemsize)).astype(dtype) for _ in range(2))
    y = np.full((64, 64), np.nan, np.float32)
    text = kernel.replace("TYPE", "unsigned short" if dtype == "float16" else "float")
    run(text, a.view(np.int32).reshape(-1), b.view(np.int32).reshape(-1), y, block=128, racecheck=True)
    return y, a.astype(np.float64) @ b.astype(np.float64).T


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 1e-6), ("float32", 1e-3)])
def test_a_product_by_its_definition(dtype: str, tolerance: float) -> None:
    y, expected = product(KERNEL, dtype)
    assert np.linalg.norm(y - expected) < tolerance * np.linalg.norm(expected)


def test_sums_are_unknown_until_they_are_waited_for() -> None:
    y, _ = product(KERNEL.replace("wait_for_products<0>(sums);", "wait_for_products<1>(sums);"), "float16")
    assert np.isnan(y).all()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("begin_products(sums);", "", r"wgmma without begin_products\(\)"),
        ("publish_to_products();", "", "wgmma of copies that were not published"),
        ("(sums, s[0], s[1], chunk)", "(sums, s[0] + 4, s[1], chunk)", "do not begin at a multiple of 128 bytes"),
        ("(sums, s[0], s[1], chunk)", "(sums, s[0], s[1] + 64, chunk)", "operands of wgmma outside shared memory"),
        (
            "wait_for_products<0>(sums);",
            "float more[32];\nbegin_product<TYPE, 64>(more, s[0], s[1], 0);",
            "into other sums",
        ),
    ],
)
def test_mistakes(old: str, new: str, said: str) -> None:
    with pytest.raises(KernelError, match=said):
        product(KERNEL.replace(old, new), "float16")
