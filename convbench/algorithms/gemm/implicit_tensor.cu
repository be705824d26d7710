// gemm.implicit on tensor cores (tf32, float16): Y^T = M^T [N P Q x depth] W^T [depth x K], by groups, M never stored.
//
// A block's pixels and filters come as staged.cuh says, STAGES - 1 steps ahead. Each warp multiplies WARP_P pixels by WARP_K
// filters, whose matrices it reads from shared memory by ldmatrix.
constexpr int WARPS_P = TILE_P / WARP_P, THREADS = 32 * WARPS_P * (TILE_K / WARP_K);
#include "staged.cuh"

constexpr int PARTS_P = WARP_P / 16, PARTS_K = WARP_K / 8;  // instructions of a warp along each side

static_assert(TILE_P % WARP_P == 0 && TILE_K % WARP_K == 0, "the tile is made of whole warps");
static_assert(WARP_P % 16 == 0 && WARP_K % 16 == 0, "matrices are read four at a time");

__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  if constexpr (sizeof(T) == 2) multiply_half(d, a, b);
  else multiply_tf32(d, a, b);
}

// The operands of two chunks of depth, of all of a warp's instructions.
struct Fragments { unsigned pixels[PARTS_P][4], filters[PARTS_K][2]; };

// chunk: 0, 2, 4 or 6. pixels and filters: the warp's rows of a buffer.
__device__ __forceinline__ void read(Fragments& f, const int4* pixels, const int4* filters, int chunk) {
  const int lane = threadIdx.x % 32, row = lane % 8;
#pragma unroll
  for (int i = 0; i < PARTS_P; ++i)  // matrices: pixels 0-7 and 8-15 of the first chunk, then of the second
    load_matrices<false>(f.pixels[i], &pixels[(i * 16 + lane % 16) * ROW + ((chunk + lane / 16) ^ row)]);
#pragma unroll
  for (int i = 0; i < PARTS_K; i += 2) {  // filters 0-7 of both chunks, then 8-15
    unsigned four[4];
    load_matrices<false>(four, &filters[(i * 8 + lane / 16 * 8 + row) * ROW + ((chunk + lane / 8 % 2) ^ row)]);
    f.filters[i][0] = four[0], f.filters[i][1] = four[1];
    f.filters[i + 1][0] = four[2], f.filters[i + 1][1] = four[3];
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
product(const int4* staged, const int4* __restrict__ packed, const int* __restrict__ offsets,
        Output* __restrict__ y) {
  extern __shared__ __align__(128) int4 stages[];  // [STAGES]{pixels [TILE_P][ROW], filters [TILE_K][ROW]}

  const Block block;
  const Copies copies(block, staged, packed, offsets);
  let_next_begin();
  wait_for_previous();  // staged is there

#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) {
    if (step < STEPS) copies.begin(step, stages + step * STAGE);
    copy_async_commit();
  }

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_p = warp % WARPS_P * WARP_P, warp_k = warp / WARPS_P * WARP_K;
  float total[PARTS_P][PARTS_K][4] = {};
  for (int step = 0; step < STEPS; ++step) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();  // this step's operands are there, and nobody reads the last step's any more
    const int next = step + STAGES - 1;
    if (next < STEPS) copies.begin(next, stages + next % STAGES * STAGE);
    copy_async_commit();
    const int4* pixels = stages + step % STAGES * STAGE + warp_p * ROW;
    const int4* filters = stages + step % STAGES * STAGE + (TILE_P + warp_k) * ROW;
    Fragments f[2];  // those of the next two chunks are read while these are multiplied
    read(f[0], pixels, filters, 0);
#pragma unroll
    for (int chunk = 0; chunk < ROW; chunk += 2) {
      if (chunk + 2 < ROW) read(f[chunk / 2 % 2 ^ 1], pixels, filters, chunk + 2);
      const Fragments& now = f[chunk / 2 % 2];
#pragma unroll
      for (int i = 0; i < PARTS_P; ++i)
#pragma unroll
        for (int j = 0; j < PARTS_K; ++j) multiply(total[i][j], now.pixels[i], now.filters[j]);
    }
  }

  if (SPLIT > 1) y += block.share * OUTPUTS;
#pragma unroll
  for (int i = 0; i < 2 * PARTS_P; ++i) {  // lanes lane / 4 of a store are neighbouring pixels
    const long long pixel = block.first_pixel + warp_p + i * 8 + lane / 4;
    if (pixel >= PIXELS) continue;
    Output* target = y + (pixel / (P * Q) * K + block.group * FILTERS) * (P * Q) + pixel % (P * Q);
#pragma unroll
    for (int j = 0; j < 2 * PARTS_K; ++j) {
      const int filter = block.filter_tile * TILE_K + warp_k + j / 2 * 8 + lane % 4 * 2 + j % 2;
      if (filter < FILTERS) target[(long long)filter * (P * Q)] = converted<Output>(total[i / 2][j / 2][i % 2 * 2 + j % 2]);
    }
  }
}
