// What all products of gemm.implicit on tensor cores share: the copy of x that they read, and what a block computes.
//
// `layout` copies x [N, C, H, W] to staged [N, STAGED_H, STAGED_W, GROUPS, STAGED_C]: channels last, so that the taps of a
// pixel are copied 16 bytes (a chunk: 4 floats or 8 halves) at a time; padding written out, so that no tap is ever
// outside; floats rounded to tf32. Where it saves taps, PHASES_H x PHASES_W neighbours of a channel become channels: a
// stride of 4 over 11 x 11 taps of 3 channels becomes a stride of 1 over 3 x 3 taps of 48.
#pragma once
constexpr long long OUTPUTS = (long long)N * K * P * Q;
#include "../parts.cuh"

constexpr int CHUNK = 16 / sizeof(T);  // elements
constexpr int ROW = 8;                 // chunks of a row in shared memory
constexpr int FILTERS = K / GROUPS, CHANNELS = C / GROUPS;
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr int PLACE_CHUNKS = GROUPS * STAGED_C / CHUNK;

static_assert(STAGED_C % CHUNK == 0, "whole chunks");

// What a block computes. Blocks that share pixels are neighbours, so that what they gather is still in the L2 cache.
struct Block {
  int filter_tile = blockIdx.x % FILTER_TILES;
  int group = blockIdx.x / FILTER_TILES % GROUPS;
  int share = blockIdx.x / (FILTER_TILES * GROUPS) % SPLIT;
  long long first_pixel = (long long)(blockIdx.x / (FILTER_TILES * GROUPS * SPLIT)) * TILE_P;
};

// staged [N, STAGED_H, STAGED_W, GROUPS, STAGED_C] from x: SPAN places by up to 64 channels, turned in shared memory. A warp
// reads neighbouring places of a few neighbouring channels, all of them under way at a time.
using Cell = Either<sizeof(T) == 2, T, unsigned>::Type;
constexpr int PLACES = N * STAGED_H * STAGED_W;
constexpr int TURNED = STAGED_C < 64 ? STAGED_C : 64;  // channels
constexpr int TURNED_TILES = (STAGED_C + TURNED - 1) / TURNED;
constexpr int WARP_CHANNELS = (TURNED + 7) / 8;

struct alignas(16) Cells { Cell at[CHUNK]; };

__device__ __forceinline__ Cell staged_cell(T v) {
  if constexpr (sizeof(T) == 2) return v;
  else return to_tf32(v);
}

extern "C" __global__ void __launch_bounds__(256) layout(const T* __restrict__ x, Cells* __restrict__ staged) {
  __shared__ Cell turned[TURNED][SPAN + 1];
  let_next_begin();
  const int first_channel = blockIdx.x % TURNED_TILES * TURNED, group = blockIdx.x / TURNED_TILES % GROUPS;
  const int first_place = blockIdx.x / (TURNED_TILES * GROUPS) * SPAN, warp_channel = threadIdx.x / 32 * WARP_CHANNELS;

#pragma unroll
  for (int at = threadIdx.x % 32; at < SPAN; at += 32) {
    const int place = first_place + at, n = place / (STAGED_H * STAGED_W), rest = place % (STAGED_H * STAGED_W);
    const int row = rest / STAGED_W * PHASES_H - PAD_H, column = rest % STAGED_W * PHASES_W - PAD_W;
    const T* source = x + ((long long)n * C + group * CHANNELS) * (H * W) + row * W + column;
    T values[WARP_CHANNELS];
#pragma unroll
    for (int i = 0; i < WARP_CHANNELS; ++i) {
      const int index = first_channel + warp_channel + i, c = index / (PHASES_H * PHASES_W);
      const int down = index / PHASES_W % PHASES_H, right = index % PHASES_W;
      const bool inside = place < PLACES && c < CHANNELS && unsigned(row + down) < unsigned(H) &&
                          unsigned(column + right) < unsigned(W);
      values[i] = inside ? source[(long long)c * (H * W) + down * W + right] : T(0);
    }
#pragma unroll
    for (int i = 0; i < WARP_CHANNELS; ++i)
      if (warp_channel + i < TURNED) turned[warp_channel + i][at] = staged_cell(values[i]);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < SPAN * (TURNED / CHUNK); i += 256) {
    const int chunk = i % (TURNED / CHUNK), to = i / (TURNED / CHUNK);
    if (first_channel + chunk * CHUNK >= STAGED_C || first_place + to >= PLACES) continue;
    Cells cells;
#pragma unroll
    for (int e = 0; e < CHUNK; ++e) cells.at[e] = turned[chunk * CHUNK + e][to];
    staged[((long long)(first_place + to) * GROUPS + group) * (STAGED_C / CHUNK) + first_channel / CHUNK + chunk] = cells;
  }
}
