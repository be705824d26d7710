// Blocks of warpgroups, each of which multiplies 64 of TILE_K filters by all TILE_P pixels, and how they write their sums.
//
// Sums go through shared memory, so that neighbouring threads write neighbouring pixels of one filter.
#pragma once
constexpr int WARPGROUP = 128, THREADS = WARPGROUP * (TILE_K / 64);
#include "../../devices/warpgroup.cuh"
#include "layout.cuh"

constexpr int PITCH = TILE_P + 8;  // floats from a filter's sums to the next one's: those of a warp's store fall in all banks
constexpr int LANES = TILE_P % 128 ? 64 : 128;  // threads that write neighbouring pixels
constexpr int SUMS_BYTES = TILE_K * PITCH * 4;

static_assert(TILE_K % 64 == 0, "whole warpgroups");
static_assert(TILE_P % LANES == 0 && THREADS % LANES == 0, "every thread writes equally much");

// place(pixel): where a pixel's output by filter 0 lies in y [N, K, P, Q], or -1 where it has none. sums: shared memory.
template <class Place>
__device__ __forceinline__ void write_sums(const float (&total)[TILE_P / 2], float* sums, const Block& block, Output* y, Place place) {
  const int lane = threadIdx.x % 32, first_filter = threadIdx.x / 32 * 16 + lane / 4, first = lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < TILE_P / 8; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      *reinterpret_cast<float2*>(&sums[(first_filter + 8 * i) * PITCH + j * 8 + first]) =
          make_float2(total[4 * j + 2 * i], total[4 * j + 2 * i + 1]);
  __syncthreads();  // all sums are there

  if (SPLIT > 1) y += block.share * OUTPUTS;
  y += (long long)(block.group * FILTERS + block.filter_tile * TILE_K) * (P * Q);
  const int filters = FILTERS - block.filter_tile * TILE_K;
  for (int at = threadIdx.x % LANES; at < TILE_P; at += LANES) {
    const long long to = place(block.first_pixel + at);
    if (to < 0) continue;
#pragma unroll 4
    for (int k = threadIdx.x / LANES; k < TILE_K; k += THREADS / LANES)
      if (k < filters) y[to + k * (long long)(P * Q)] = converted<Output>(sums[k * PITCH + at]);
  }
}
