// gemm.implicit on tensor cores (tf32, float16): Y^T = M^T [N P Q x depth] W^T [depth x K], by groups, M never stored.
//
// `layout` first copies x [N, C, H, W] to staged [N, STAGED_H, STAGED_W, GROUPS, STAGED_C]: channels last, so that the taps
// of a pixel are gathered 16 bytes (a chunk: 4 floats or 8 halves) at a time; padding written out, so that no tap is ever
// outside; floats rounded to tf32. Where it saves taps, PHASES_H x PHASES_W neighbours of a channel become channels: a
// stride of 4 over 11 x 11 taps of 3 channels becomes a stride of 1 over 3 x 3 taps of 48.
//
// In `product` a pixel is one (n, p, q), and a step is 8 chunks, 128 bytes, of depth. A block copies
//   pixels  [TILE_P][8 chunks]  from staged, the chunks of a pixel at offsets [DEPTH_STEPS * 8] from its first one
//   filters [TILE_K][8 chunks]  from packed [GROUPS][FILTER_TILES][DEPTH_STEPS][TILE_K][8 chunks], zeros past the ends
// into one of STAGES buffers by asynchronous copies, STAGES - 1 steps ahead. Chunk c of row r lies at c ^ r % 8: the 8 rows
// of a matrix that ldmatrix reads then lie in different banks, as do the 8 chunks of a row that is written. Each warp
// multiplies WARP_P pixels by WARP_K filters. The order of depth (chunks by 8, r, s, chunk) lets the taps (r, s) of a block's
// pixels come from the first-level cache: neighbouring pixels share them. DEPTH_STEPS = SPLIT * STEPS; see parts.cuh.
constexpr long long OUTPUTS = (long long)N * K * P * Q;
#include "../parts.cuh"

constexpr int CHUNK = 16 / sizeof(T);  // elements
constexpr int ROW = 8;                 // chunks of a step
constexpr int FILTERS = K / GROUPS, CHANNELS = C / GROUPS;
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr int STEPS = DEPTH_STEPS / SPLIT;
constexpr long long PIXELS = (long long)N * P * Q;
constexpr int PIXEL_CHUNKS = GROUPS * STAGED_C / CHUNK;

constexpr int WARPS_P = TILE_P / WARP_P, THREADS = 32 * WARPS_P * (TILE_K / WARP_K);
constexpr int ROWS = THREADS / ROW;  // that all threads together copy at once
constexpr int PIXEL_LOADS = TILE_P / ROWS, FILTER_LOADS = TILE_K / ROWS;
constexpr int STAGE = (TILE_P + TILE_K) * ROW;  // chunks of a buffer
constexpr int PARTS_P = WARP_P / 16, PARTS_K = WARP_K / 8;  // instructions of a warp along each side

static_assert(TILE_P % WARP_P == 0 && TILE_K % WARP_K == 0, "the tile is made of whole warps");
static_assert(WARP_P % 16 == 0 && WARP_K % 16 == 0, "matrices are read four at a time");
static_assert(TILE_P % ROWS == 0 && TILE_K % ROWS == 0 && ROWS % 8 == 0, "every thread copies equally much, to one bank");
static_assert(DEPTH_STEPS % SPLIT == 0 && STAGED_C % CHUNK == 0, "whole shares, whole chunks");

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

// The chunk of staged under the first tap of a pixel; past the last pixel the first one's, which is never written to y.
__device__ int first_chunk(long long pixel, int group) {
  if (pixel >= PIXELS) pixel = 0;
  const int n = int(pixel / (P * Q)), rest = int(pixel % (P * Q));
  return ((n * STAGED_H + rest / Q * STEP_H) * STAGED_W + rest % Q * STEP_W) * PIXEL_CHUNKS + group * (STAGED_C / CHUNK);
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
product(const int4* __restrict__ staged, const int4* __restrict__ packed, const int* __restrict__ offsets,
        Output* __restrict__ y) {
  extern __shared__ __align__(128) int4 stages[];  // [STAGES]{pixels [TILE_P][ROW], filters [TILE_K][ROW]}

  // Blocks that share pixels are neighbours, so that what they gather is still in the L2 cache.
  const int filter_tile = blockIdx.x % FILTER_TILES;
  const int group = blockIdx.x / FILTER_TILES % GROUPS;
  const int share = blockIdx.x / (FILTER_TILES * GROUPS) % SPLIT;
  const long long first_pixel = (long long)(blockIdx.x / (FILTER_TILES * GROUPS * SPLIT)) * TILE_P;

  // A thread copies one column of chunks; row and row + i * ROWS are the same modulo 8.
  const int column = threadIdx.x % ROW, row = threadIdx.x / ROW, place = row * ROW + (column ^ row % 8);
  int from[PIXEL_LOADS];
#pragma unroll
  for (int i = 0; i < PIXEL_LOADS; ++i) from[i] = first_chunk(first_pixel + row + i * ROWS, group);
  packed += (((long long)group * FILTER_TILES + filter_tile) * DEPTH_STEPS + share * STEPS) * (TILE_K * ROW) + threadIdx.x;
  const int first_step = share * STEPS;

  auto copy = [&](int step, int4* stage) {
    const int index = (first_step + step) * ROW + column, offset = offsets[index];
#pragma unroll
    for (int i = 0; i < PIXEL_LOADS; ++i)
      copy_async_16_cached(stage + place + i * (ROWS * ROW), staged + (from[i] + offset), index < DEPTH_CHUNKS);
#pragma unroll
    for (int i = 0; i < FILTER_LOADS; ++i)
      copy_async_16(stage + TILE_P * ROW + place + i * (ROWS * ROW),
                    packed + (long long)step * (TILE_K * ROW) + i * THREADS, true);
  };

#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) {
    if (step < STEPS) copy(step, stages + step * STAGE);
    copy_async_commit();
  }

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int warp_p = warp % WARPS_P * WARP_P, warp_k = warp / WARPS_P * WARP_K;
  float total[PARTS_P][PARTS_K][4] = {};
  for (int step = 0; step < STEPS; ++step) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();  // this step's operands are there, and nobody reads the last step's any more
    const int next = step + STAGES - 1;
    if (next < STEPS) copy(next, stages + next % STAGES * STAGE);
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

  if (SPLIT > 1) y += share * OUTPUTS;
#pragma unroll
  for (int i = 0; i < 2 * PARTS_P; ++i) {  // lanes lane / 4 of a store are neighbouring pixels
    const long long pixel = first_pixel + warp_p + i * 8 + lane / 4;
    if (pixel >= PIXELS) continue;
    Output* target = y + (pixel / (P * Q) * K + group * FILTERS) * (P * Q) + pixel % (P * Q);
#pragma unroll
    for (int j = 0; j < 2 * PARTS_K; ++j) {
      const int filter = filter_tile * TILE_K + warp_k + j / 2 * 8 + lane % 4 * 2 + j % 2;
      if (filter < FILTERS) target[(long long)filter * (P * Q)] = converted<Output>(total[i / 2][j / 2][i % 2 * 2 + j % 2]);
    }
  }
}

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
