// What the products of gemm.implicit on tensor cores share that gather tap by tap: what a block copies of layout.cuh's x.
//
// In a product a pixel is one (n, p, q), and a step is 8 chunks, 128 bytes, of depth. A block copies
//   pixels  [TILE_P][8 chunks]  from staged, the chunks of a pixel at offsets [DEPTH_STEPS * 8] from its first one
//   filters [TILE_K][8 chunks]  from packed [GROUPS][FILTER_TILES][DEPTH_STEPS][TILE_K][8 chunks], zeros past the ends
// into one of STAGES buffers by asynchronous copies. Chunk c of row r lies at c ^ r % 8: the 8 rows of a matrix then lie in
// different banks, as do the 8 chunks of a row that is written. The order of depth (chunks by 8, r, s, chunk) lets the taps
// (r, s) of a block's pixels come from the first-level cache: neighbouring pixels share them.
// DEPTH_STEPS = SPLIT * STEPS; see parts.cuh. Wants THREADS before it is included.
#pragma once
#include "layout.cuh"

constexpr int STEPS = DEPTH_STEPS / SPLIT;
constexpr long long PIXELS = (long long)N * P * Q;
constexpr int ROWS = THREADS / ROW;  // that all threads together copy at once
constexpr int PIXEL_LOADS = TILE_P / ROWS, FILTER_LOADS = TILE_K / ROWS;
constexpr int STAGE = (TILE_P + TILE_K) * ROW;  // chunks of a buffer: pixels, then filters

static_assert(TILE_P % ROWS == 0 && TILE_K % ROWS == 0 && ROWS % 8 == 0, "every thread copies equally much, to one bank");
static_assert(DEPTH_STEPS % SPLIT == 0, "whole shares");

// The chunk of staged under the first tap of a pixel; past the last pixel the first one's, which is never written to y.
__device__ int first_chunk(long long pixel, int group) {
  if (pixel >= PIXELS) pixel = 0;
  const int n = int(pixel / (P * Q)), rest = int(pixel % (P * Q));
  return ((n * STAGED_H + rest / Q * STEP_H) * STAGED_W + rest % Q * STEP_W) * PLACE_CHUNKS + group * (STAGED_C / CHUNK);
}

// A thread's part of the copies of each step: one column of chunks; row and row + i * ROWS are the same modulo 8.
struct Copies {
  const int4 *staged, *packed;
  const int* offsets;  // of this thread's column in the block's first step
  int index, place;
  int from[PIXEL_LOADS];

  __device__ Copies(const Block& block, const int4* staged, const int4* all_packed, const int* all_offsets) : staged(staged) {
    const int column = threadIdx.x % ROW, row = threadIdx.x / ROW;
    place = row * ROW + (column ^ row % 8);
    index = block.share * STEPS * ROW + column;
    offsets = all_offsets + index;
#pragma unroll
    for (int i = 0; i < PIXEL_LOADS; ++i) from[i] = first_chunk(block.first_pixel + row + i * ROWS, block.group);
    const long long steps = ((long long)block.group * FILTER_TILES + block.filter_tile) * DEPTH_STEPS + block.share * STEPS;
    packed = all_packed + steps * (TILE_K * ROW) + threadIdx.x;
  }

  __device__ __forceinline__ void begin(int step, int4* stage) const {
    const int offset = offsets[step * ROW];
#pragma unroll
    for (int i = 0; i < PIXEL_LOADS; ++i)
      copy_async_16_cached(stage + place + i * (ROWS * ROW), staged + (from[i] + offset), index + step * ROW < DEPTH_CHUNKS);
#pragma unroll
    for (int i = 0; i < FILTER_LOADS; ++i)
      copy_async_16(stage + TILE_P * ROW + place + i * (ROWS * ROW),
                    packed + (long long)step * (TILE_K * ROW) + i * THREADS, true);
  }
};
