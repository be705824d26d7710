// gemm.implicit on Hopper's tensor cores where filters slide by one place: every tap is a shifted view of the same pixels.
//
// The copy of x is one row of N STAGED_H STAGED_W places, and so is y if each place has an output: those beyond a row's or
// an image's last pixel are computed for nothing. Then tap (r, s) of place i lies at i + (r REACH_H STAGED_W + s REACH_W),
// by which all pixels of a tile are shifted alike. So a block copies a window, its TILE_P places and those beyond them that
// taps reach, once for all taps, up to 8 chunks of channels (a slab) at a time; a tap's product begins so many rows further
// down in it. Where pixels are gathered tap by tap (implicit_warpgroup.cu), copies take longer than the products.
// Padding to the right of a row is that to the left of the next one, and padding below an image that above the next.
//
// A step is a tap of a slab: its filters come from packed [GROUPS][FILTER_TILES][SLABS][TAPS][TILE_K][SLAB_CHUNKS], STAGES - 2
// steps ahead, into one of STAGES buffers; the next slab's window comes with them, in PARTS, from a slab's second step on,
// when the window before is no longer read, and early enough to have arrived with the slab's last filters.
// A share has SHARE_SLABS slabs, or SHARE_TAPS taps of one slab. Chunk c of row r lies at c ^ r % 8.
#include "warpgroup_sums.cuh"

constexpr int TAPS = TAPS_H * TAPS_W, TAP_SHARES = (TAPS + SHARE_TAPS - 1) / SHARE_TAPS;
constexpr int SLABS = STAGED_C / (CHUNK * SLAB_CHUNKS);
constexpr int BEYOND = (TAPS_H - 1) * REACH_H * STAGED_W + (TAPS_W - 1) * REACH_W;
constexpr int WINDOW = (TILE_P + BEYOND + 7) / 8 * 8, WINDOWS = SHARE_SLABS > 1 ? 2 : 1;
constexpr int AHEAD = STAGES - 2;  // steps
constexpr int PARTS = WINDOWS > 1 ? SHARE_TAPS - AHEAD : 1;
constexpr int PART = (WINDOW + PARTS - 1) / PARTS;    // rows
constexpr int ROWS = THREADS / ROW;                   // that all threads copy at once

static_assert(TILE_K % ROWS == 0 && ROWS % 8 == 0, "every thread copies equally much, to one bank");
static_assert(SLAB_CHUNKS % 2 == 0 && STAGED_C % (CHUNK * SLAB_CHUNKS) == 0, "whole products, whole slabs");
static_assert(SHARE_SLABS == 1 || SHARE_TAPS == TAPS, "a share's steps follow one another");
static_assert(SPLIT == (SLABS + SHARE_SLABS - 1) / SHARE_SLABS * TAP_SHARES, "every slab and tap is in a share");
static_assert(AHEAD > 0 && PARTS > 0, "a window arrives before it is read");

// What a block copies, and a thread's part of it: one column of chunks.
struct Copies {
  const int4 *staged, *packed;
  int first, column, row;

  __device__ Copies(const Block& block, int slab, int tap, const int4* all_staged, const int4* all_packed)
      : first(int(block.first_pixel)), column(threadIdx.x % ROW), row(threadIdx.x / ROW) {
    staged = all_staged + block.group * (STAGED_C / CHUNK) + slab * SLAB_CHUNKS + column;
    const long long tile = block.group * FILTER_TILES + block.filter_tile;
    packed = all_packed + ((tile * SLABS + slab) * TAPS + tap) * (TILE_K * SLAB_CHUNKS) + row * SLAB_CHUNKS + column;
  }

  // Rows from .. to of the window of the share's slab'th slab.
  __device__ __forceinline__ void window(int slab, int from, int to, int4* windows) const {
    int4* window = windows + slab % WINDOWS * (WINDOW * ROW);
    if (column < SLAB_CHUNKS)
      for (int i = from + row; i < to; i += ROWS) {
        const bool there = first + i < PLACES;
        const int4* place = staged + (there ? first + i : 0) * (long long)PLACE_CHUNKS + slab * SLAB_CHUNKS;
        copy_async_16(window + i * ROW + (column ^ i % 8), place, there);
      }
  }

  __device__ __forceinline__ void filters(int step, int4* buffers) const {
    int4* buffer = buffers + step % STAGES * (TILE_K * ROW) + row * ROW + (column ^ row % 8);
    const int4* from = packed + (long long)step * (TILE_K * SLAB_CHUNKS);
    if (column < SLAB_CHUNKS)
#pragma unroll
      for (int i = 0; i < TILE_K; i += ROWS) copy_async_16(buffer + i * ROW, from + i * SLAB_CHUNKS, true);
  }
};

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
product(const int4* staged, const int4* __restrict__ packed, Output* __restrict__ y) {
  extern __shared__ __align__(1024) int4 windows[];  // [WINDOWS][WINDOW][ROW], then filters [STAGES][TILE_K][ROW]
  int4* buffers = windows + WINDOWS * WINDOW * ROW;

  const Block block;
  const int first_slab = block.share / TAP_SHARES * SHARE_SLABS, first_tap = block.share % TAP_SHARES * SHARE_TAPS;
  const int slabs = min(SHARE_SLABS, SLABS - first_slab), taps = min(SHARE_TAPS, TAPS - first_tap), steps = slabs * taps;
  const Copies copies(block, first_slab, first_tap, staged, packed);
  let_next_begin();
#pragma unroll
  for (int step = 0; step < AHEAD; ++step)
    if (step < steps) copies.filters(step, buffers);
  wait_for_previous();  // staged is there
  copies.window(0, 0, WINDOW, windows);
#pragma unroll
  for (int step = 0; step < AHEAD; ++step) copy_async_commit();  // all in the first group

  float total[TILE_P / 2] = {};
  begin_products(total);
  for (int slab = 0, step = 0; slab < slabs; ++slab)
    for (int tap = 0; tap < taps; ++tap, ++step) {
      copy_async_wait<AHEAD - 1>();
      publish_to_products();
      __syncthreads();  // this step's operands are there, and all products but the last step's are done
      const int r = (first_tap + tap) / TAPS_W, s = (first_tap + tap) % TAPS_W;
      const int4* pixels = windows + (slab % WINDOWS * WINDOW + r * REACH_H * STAGED_W + s * REACH_W) * ROW;
      const int4* filters = buffers + (step % STAGES * TILE_K + threadIdx.x / WARPGROUP * 64) * ROW;
#pragma unroll
      for (int chunk = 0; chunk < SLAB_CHUNKS; chunk += 2) begin_product<T, TILE_P>(total, filters, pixels, chunk);
      commit_products();
      if (step + AHEAD < steps) copies.filters(step + AHEAD, buffers);
      if (WINDOWS > 1 && tap > 0 && tap <= PARTS && slab + 1 < slabs)
        copies.window(slab + 1, (tap - 1) * PART, min(tap * PART, WINDOW), windows);
      copy_async_commit();
      wait_for_products<1>(total);
    }
  wait_for_products<0>(total);
  __syncthreads();  // nobody multiplies any more

  write_sums(total, reinterpret_cast<float*>(windows), block, y, [](long long place) -> long long {
    const int n = int(place) / (STAGED_H * STAGED_W), p = int(place) / STAGED_W % STAGED_H, q = int(place) % STAGED_W;
    return n < N && p < P && q < Q ? ((long long)n * K * P + p) * Q + q : -1;
  });
}
