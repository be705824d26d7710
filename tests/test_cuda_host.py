"""The CUDA test bench computes what a GPU would: intrinsics, fragment layouts, shared memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cuda_host.snippet import kernel, run

pytestmark = pytest.mark.usefixtures("host_compiler")
LANES = np.arange(32)
ORDERS = [(seed, racecheck) for seed in (0, 1, 2, 3) for racecheck in (False, True)]


def ints(*shape: int) -> Any:
    return np.full(shape, -7, np.int32)


@pytest.mark.parametrize(("seed", "racecheck"), ORDERS)
def test_warp_intrinsics(seed: int, racecheck: bool) -> None:
    v = np.random.default_rng(seed).integers(0, 31, 32).astype(np.int32)
    code = """(int* out, const int* in) {
      int i = threadIdx.x, v = in[i], *o = out + i;
      o[0] = __shfl_sync(~0u, v, 5);
      o[32] = __shfl_up_sync(~0u, v, 3);
      o[64] = __shfl_down_sync(~0u, v, 4, 8);
      o[96] = __shfl_xor_sync(~0u, v, 9, 16);
      o[128] = __shfl_sync(~0u, v, i + 3, 8);
      o[160] = __ballot_sync(~0u, v & 1);
      o[192] = __any_sync(~0u, v > 30);
      o[224] = __all_sync(~0u, v >= 0);
      o[256] = __reduce_add_sync(~0u, v);
      o[288] = __reduce_max_sync(~0u, -v);
      if (i & 1) o[320] = __shfl_xor_sync(0xaaaaaaaau, v, 2);
      else o[320] = __shfl_xor_sync(0x55555555u, v, 4);
      __syncwarp();
      o[352] = __popc(__match_any_sync(~0u, v % 5));
      o[384] = __syncthreads_count(v & 1);
      o[416] = __syncthreads_or(v == 100);
      o[448] = __syncthreads_and(v < 100);
      o[480] = __reduce_min_sync(~0u, v);
    }"""
    out = ints(16, 32)
    run(code, out, v, seed=seed, racecheck=racecheck)
    ballot = sum((int(b) & 1) << i for i, b in enumerate(v))
    want = [
        v[5], v[np.where(LANES >= 3, LANES - 3, LANES)], v[np.where(LANES % 8 + 4 < 8, LANES + 4, LANES)], v[LANES ^ 9],
        v[LANES // 8 * 8 + (LANES + 3) % 8], np.uint32(ballot).view(np.int32), (v > 30).any(), 1, v.sum(), (-v).max(),
        v[np.where(LANES & 1, LANES ^ 2, LANES ^ 4)], [(v % 5 == a % 5).sum() for a in v], (v & 1).sum(), 0, 1, v.min(),
    ]  # fmt: skip
    for row, value in zip(out, want, strict=True):
        assert (row == value).all()


def test_wide_values_are_shuffled_whole() -> None:
    x, y = np.random.default_rng(0).standard_normal(32), np.full(32, np.nan)
    run("(double* y, const double* x) { y[threadIdx.x] = __shfl_xor_sync(~0u, x[threadIdx.x], 31); }", y, x)
    assert (y == x[::-1]).all()


def test_a_lane_that_has_left_gives_nan() -> None:
    y = np.zeros(32, np.float32)
    run("(float* y) { if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xFFFF, 1.0f, threadIdx.x + 8); }", y)
    assert (np.isnan(y) == ((LANES >= 8) & (LANES < 16))).all()


def test_arithmetic() -> None:
    y, z = np.zeros(12, np.float32), np.zeros(12, np.int32)
    code = """(float* y, int* z) {
      if (threadIdx.x) return;
      const float nan = __int_as_float(0x7fffffff);
      y[0] = max(nan, 0.0f), y[1] = min(2.0f, nan), y[2] = max(1.5f, 2), y[3] = fmaf(2.0f, 3.0f, 1.0f);
      y[4] = __fmul_rn(3.0f, 4.0f), y[5] = rsqrtf(4.0f), y[6] = __ldg(y + 3), y[7] = make_float4(1, 2, 3, 4).w;
      y[8] = __fdividef(1.0f, 4.0f), y[9] = __uint_as_float(0x40000000u), y[10] = fmax(1.0, 2.0);
      y[11] = __saturatef(7.0f);
      z[0] = __umulhi(0x80000000u, 6u), z[1] = __mulhi(-1, 1), z[2] = __clz(1), z[3] = __ffs(8), z[4] = __popc(255);
      z[5] = __brev(1) == 0x80000000u, z[6] = __byte_perm(0x33221100u, 0x77665544u, 0x7410) == 0x77441100u;
      z[7] = min(-1, 1), z[8] = max(3, 4), z[9] = __popcll(~0ull), z[10] = __clzll(1), z[11] = min(5ll, 4);
    }"""
    run(code, y, z)
    assert y.tolist() == [0, 2, 2, 7, 12, 0.5, 7, 4, 0.25, 2, 2, 1]
    assert z.tolist() == [3, -1, 31, 4, 8, 1, 1, -1, 4, 64, 63, 4]


def test_atomics() -> None:
    z = np.array([0, 0, 1000, 0, 7, 0], np.int32)
    code = """(int* z) {
      const int i = blockIdx.x * blockDim.x + threadIdx.x;
      atomicAdd(z, i), atomicMax(z + 1, i), atomicMin(z + 2, i), atomicOr(z + 3, 1 << i % 8), atomicCAS(z + 4, 7, 9);
      atomicInc((unsigned*)z + 5, 9u);
    }"""
    run(code, z, grid=3, seed=2, racecheck=True)
    assert z.tolist() == [95 * 96 // 2, 95, 0, 255, 9, 96 % 10]


def test_halves_round_as_numpy_does() -> None:
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(4096) * 10.0 ** rng.uniform(-9, 6, 4096)).astype(np.float32)
    x[:8] = [0, -0.0, 65519.9, 65520, np.inf, 2.0**-25, 1.5 * 2.0**-25, 1 + 2.0**-11]
    h, back = np.zeros(4096, np.float16), np.zeros(4096, np.float32)
    code = """(unsigned short* h, float* back, const float* x) {
      const int i = blockIdx.x * blockDim.x + threadIdx.x;
      h[i] = to_half(x[i]), back[i] = from_half(h[i]);
    }"""
    run(code, h, back, x, grid=128)
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    assert (h.view(np.uint16) == want.view(np.uint16)).all()
    assert (back == want.astype(np.float32)).all()


def test_tf32_keeps_ten_bits() -> None:
    x = np.array([1, 1 + 2.0**-11, 1 + 2.0**-10, -(1 + 2.0**-11), 1 + 2.0**-12, np.inf], np.float32)
    y = np.zeros(6, np.float32)
    run("(float* y, const float* x) { y[threadIdx.x] = __uint_as_float(to_tf32(x[threadIdx.x])); }", y, x, block=6)
    assert y.tolist() == [1, 1 + 2.0**-10, 1 + 2.0**-10, -(1 + 2.0**-10), 1, np.inf]


@pytest.mark.parametrize("depth", [8, 16])
def test_tensor_products_take_the_documented_fragments(depth: int) -> None:
    """PTX ISA, mma.m16n8k8 (tf32) and mma.m16n8k16 (f16): here by its formulas, element by element."""
    rng = np.random.default_rng(depth)
    number: Any = np.float32 if depth == 8 else np.float16
    a, b = (rng.integers(-8, 8, shape).astype(number) for shape in ((16, depth), (depth, 8)))
    d = rng.integers(-8, 8, (16, 8)).astype(np.float32)
    per_word = depth // 8
    a_lanes = np.zeros((32, 4, per_word), number)
    b_lanes = np.zeros((32, 2, per_word), number)
    d_lanes = np.zeros((32, 4), np.float32)
    for lane in LANES:
        group, thread = lane >> 2, lane % 4
        for i in range(4 * per_word):
            if depth == 8:
                row, column = group + 8 * (i in (1, 3)), thread + 4 * (i >= 2)
            else:
                row, column = group + 8 * (i in (2, 3, 6, 7)), thread * 2 + (i & 1) + 8 * (i >= 4)
            a_lanes[lane].flat[i] = a[row, column]
        for i in range(2 * per_word):
            row = thread + 4 * i if depth == 8 else thread * 2 + (i & 1) + 8 * (i >= 2)
            b_lanes[lane].flat[i] = b[row, group]
        for i in range(4):
            d_lanes[lane, i] = d[group + 8 * (i >= 2), thread * 2 + (i & 1)]
    got = np.full((32, 4), np.nan, np.float32)
    code = """(float* out, const unsigned* a, const unsigned* b, const float* c) {
      unsigned fa[4], fb[2];
      float d[4];
      for (int i = 0; i < 4; ++i) fa[i] = a[threadIdx.x * 4 + i], d[i] = c[threadIdx.x * 4 + i];
      for (int i = 0; i < 2; ++i) fb[i] = b[threadIdx.x * 2 + i];
      MULTIPLY(d, fa, fb);
      for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = d[i];
    }""".replace("MULTIPLY", "multiply_tf32" if depth == 8 else "multiply_half")
    run(code, got, a_lanes, b_lanes, d_lanes, seed=2)
    want = d + a.astype(np.float32) @ b.astype(np.float32)
    for lane in LANES:
        for i in range(4):
            assert got[lane, i] == want[(lane >> 2) + 8 * (i >= 2), (lane % 4) * 2 + (i & 1)]


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_are_loaded_by_rows(transposed: bool) -> None:
    m = np.random.default_rng(0).standard_normal((4, 8, 8)).astype(np.float16)
    r = np.zeros((32, 4, 2), np.float16)
    code = f"""(unsigned short* r, const unsigned short* m) {{
      __shared__ __align__(16) unsigned short s[4][8][8];
      for (int i = threadIdx.x; i < 256; i += 32) (&s[0][0][0])[i] = m[i];
      __syncwarp();
      unsigned v[4];
      load_matrices<{str(transposed).lower()}>(v, s[threadIdx.x / 8][threadIdx.x % 8]);
      for (int i = 0; i < 4; ++i) reinterpret_cast<unsigned*>(r)[threadIdx.x * 4 + i] = v[i];
    }}"""
    run(code, r, m, seed=1)
    for lane in LANES:
        for i in range(4):
            for part in range(2):
                row, column = lane >> 2, lane % 4 * 2 + part
                assert r[lane, i, part] == (m[i, column, row] if transposed else m[i, row, column])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("racecheck", [False, True])
def test_shared_memory_is_nan_in_every_block(dynamic: bool, racecheck: bool) -> None:
    memory = "extern __shared__ float s[];" if dynamic else "__shared__ float s[32];"
    code = f"""(float* y) {{
      {memory}
      const int i = threadIdx.x;
      if (blockIdx.x < 3) y[blockIdx.x * 32 + i] = {"0" if racecheck else "s[i]"};
      s[i] = i;
      __syncthreads();
      y[blockIdx.x * 32 + i] += s[31 - i];
    }}"""
    y = np.zeros(96, np.float32)
    run(code, y, grid=3, shared_mem=128 * dynamic, racecheck=racecheck)
    assert np.isnan(y).all() or (racecheck and (y.reshape(3, 32) == 31 - LANES).all())


def test_dynamic_shared_memory_outside_a_function() -> None:
    code = """extern __shared__ __align__(16) float s[];
    __device__ void put(int i) { s[i] = 2 * i; }
    extern "C" __global__ void f(float* y) {
      put(threadIdx.x);
      __syncthreads();
      y[threadIdx.x] = s[31 - threadIdx.x];
    }"""
    y = np.zeros(32, np.float32)
    kernel(code)((1,), (32,), (y,), shared_mem=128)
    assert (y == 62 - 2 * LANES).all()


COPY = """(float* y, const float* x) {
  __shared__ __align__(16) float s[2][128];
  copy_async_16(&s[0][4 * threadIdx.x], x + 4 * threadIdx.x, threadIdx.x < 31);
  copy_async_commit();
  copy_async_4(&s[1][threadIdx.x], x + threadIdx.x, true);
  copy_async_commit();
  copy_async_wait<LEFT>();
  __syncthreads();
  y[threadIdx.x] = s[0][4 * threadIdx.x + 3];
  y[32 + threadIdx.x] = s[1][threadIdx.x];
}"""


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_copy_is_nan_until_it_is_waited_for(left: int) -> None:
    x, y = np.arange(128, dtype=np.float32), np.zeros(64, np.float32)
    run(COPY.replace("LEFT", str(left)), y, x)
    first, second = y[:32], y[32:]
    assert np.isnan(second).all() == (left > 0)
    assert np.isnan(first).all() == (left > 1)
    if left < 2:
        assert (first == np.where(LANES < 31, 4 * LANES + 3, 0)).all()
    if left < 1:
        assert (second == LANES).all()
