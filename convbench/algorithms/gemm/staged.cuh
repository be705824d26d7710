// What the products of gemm.implicit on tensor cores share: a copy of x with its channels last, and what a block copies of it.
//
// `layout` copies x [N, C, H, W] to staged [N, STAGED_H, STAGED_W, GROUPS, STAGED_C]: channels last, so that the taps of a
// pixel are gathered 16 bytes (a chunk: 4 floats or 8 halves) at a time; padding written out, so that no tap is ever
// outside; floats rounded to tf32. Where it saves taps, PHASES_H x PHASES_W neighbours of a channel become channels: a
// stride of 4 over 11 x 11 taps of 3 channels becomes a stride of 1 over 3 x 3 taps of 48.
//
// In a product a pixel is one (n, p, q), and a step is 8 chunks, 128 bytes, of depth. A block copies
//   pixels  [TILE_P][8 chunks]  from staged, the chunks of a pixel at offsets [DEPTH_STEPS * 8] from its first one
//   filters [TILE_K][8 chunks]  from packed [GROUPS][FILTER_TILES][DEPTH_STEPS][TILE_K][8 chunks], zeros past the ends
// into one of STAGES buffers by asynchronous copies. Chunk c of row r lies at c ^ r % 8: the 8 rows of a matrix then lie in
// different banks, as do the 8 chunks of a row that is written. The order of depth (chunks by 8, r, s, chunk) lets the taps
// (r, s) of a block's pixels come from the first-level cache: neighbouring pixels share them.
// DEPTH_STEPS = SPLIT * STEPS; see parts.cuh. Wants THREADS before it is included.
#pragma once
constexpr long long OUTPUTS = (long long)N * K * P * Q;
#include "../parts.cuh"

constexpr int CHUNK = 16 / sizeof(T);  // elements
constexpr int ROW = 8;                 // chunks of a step
constexpr int FILTERS = K / GROUPS, CHANNELS = C / GROUPS;
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr int STEPS = DEPTH_STEPS / SPLIT;
constexpr long long PIXELS = (long long)N * P * Q;
constexpr int PIXEL_CHUNKS = GROUPS * STAGED_C / CHUNK;
constexpr int ROWS = THREADS / ROW;  // that all threads together copy at once
constexpr int PIXEL_LOADS = TILE_P / ROWS, FILTER_LOADS = TILE_K / ROWS;
constexpr int STAGE = (TILE_P + TILE_K) * ROW;  // chunks of a buffer: pixels, then filters

static_assert(TILE_P % ROWS == 0 && TILE_K % ROWS == 0 && ROWS % 8 == 0, "every thread copies equally much, to one bank");
static_assert(DEPTH_STEPS % SPLIT == 0 && STAGED_C % CHUNK == 0, "whole shares, whole chunks");

// The chunk of staged under the first tap of a pixel; past the last pixel the first one's, which is never written to y.
__device__ int first_chunk(long long pixel, int group) {
  if (pixel >= PIXELS) pixel = 0;
  const int n = int(pixel / (P * Q)), rest = int(pixel % (P * Q));
  return ((n * STAGED_H + rest / Q * STEP_H) * STAGED_W + rest % Q * STEP_W) * PIXEL_CHUNKS + group * (STAGED_C / CHUNK);
}

// What a block computes. Blocks that share pixels are neighbours, so that what they gather is still in the L2 cache.
struct Block {
  int filter_tile = blockIdx.x % FILTER_TILES;
  int group = blockIdx.x / FILTER_TILES % GROUPS;
  int share = blockIdx.x / (FILTER_TILES * GROUPS) % SPLIT;
  long long first_pixel = (long long)(blockIdx.x / (FILTER_TILES * GROUPS * SPLIT)) * TILE_P;
};

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

// staged [N, STAGED_H, STAGED_W, GROUPS, STAGED_C] from x: 32 places by up to 64 channels, turned in shared memory.
using Cell = Either<sizeof(T) == 2, T, unsigned>::Type;
constexpr int TURNED = STAGED_C < 64 ? STAGED_C : 64;  // channels
constexpr int TURNED_TILES = (STAGED_C + TURNED - 1) / TURNED;
constexpr int PLACES = N * STAGED_H * STAGED_W;

struct alignas(16) Cells { Cell at[CHUNK]; };

__device__ __forceinline__ Cell staged_cell(T v) {
  if constexpr (sizeof(T) == 2) return v;
  else return to_tf32(v);
}

extern "C" __global__ void __launch_bounds__(256) layout(const T* __restrict__ x, Cells* __restrict__ staged) {
  __shared__ Cell turned[TURNED][33];
  const int first_channel = blockIdx.x % TURNED_TILES * TURNED, group = blockIdx.x / TURNED_TILES % GROUPS;
  const int first_place = blockIdx.x / (TURNED_TILES * GROUPS) * 32;

  const int place = first_place + threadIdx.x % 32;
  const int n = place / (STAGED_H * STAGED_W), rest = place % (STAGED_H * STAGED_W);
  const int row = rest / STAGED_W * PHASES_H - PAD_H, column = rest % STAGED_W * PHASES_W - PAD_W;
  const T* image = x + ((long long)n * C + group * CHANNELS) * H * W;
#pragma unroll 4
  for (int i = threadIdx.x / 32; i < TURNED; i += 8) {
    const int index = first_channel + i, c = index / (PHASES_H * PHASES_W);
    const int h = row + index / PHASES_W % PHASES_H, w = column + index % PHASES_W;
    const bool inside = place < PLACES && c < CHANNELS && unsigned(h) < unsigned(H) && unsigned(w) < unsigned(W);
    turned[i][threadIdx.x % 32] = inside ? staged_cell(image[((long long)c * H + h) * W + w]) : Cell(0);
  }
  __syncthreads();
  for (int i = threadIdx.x; i < 32 * (TURNED / CHUNK); i += 256) {
    const int chunk = i % (TURNED / CHUNK), to = i / (TURNED / CHUNK);
    if (first_channel + chunk * CHUNK >= STAGED_C || first_place + to >= PLACES) continue;
    Cells cells;
#pragma unroll
    for (int e = 0; e < CHUNK; ++e) cells.at[e] = turned[chunk * CHUNK + e][to];
    staged[((long long)(first_place + to) * GROUPS + group) * (STAGED_C / CHUNK) + first_channel / CHUNK + chunk] = cells;
  }
}
