// gemm.gemv.split3, and gemm.gemv in tf32 and float16, for some images: Y^T [K x N] = W [K x DEPTH] X^T, by groups, on tensor
// cores, each weight read once.
//
// The time is that of reading W, if enough of it is under way and nobody waits for anybody else: lanes copy what they will
// multiply themselves, STAGES - 1 steps ahead, to places in shared memory that no other lane looks at.
// Of a product of 16 filters by 8 images over 8 numbers a lane holds, of each of its rows, two that are not neighbours; but in
// which order a sum runs along the depth is free. So a lane copies a piece, 16 bytes in a row, of W and of X, and takes the
// first two words (floats, or pairs of halves) as its numbers of one product, the others as those of the next.
// With TERMS = 3 a float is the sum of two tf32 numbers, but for 2^-22 of it; of their four products the smallest is left out.
// Tensor cores cut sums off, so those of a piece are then added up as floats.
//
//   a block:  WARPS warps, which share out, neighbours in turn, the depth of TILE_K = 16 PARTS_K filters
//   the grid: SPLIT shares of the depth x GROUPS x tiles of filters; with SPLIT > 1 y is parts [SPLIT][N, K] of add_parts
//
// Warps' sums are added up one after another: the same bits each time. DEPTH is whole pieces.
#include "../../devices/ptx.cuh"

constexpr int DEPTH = C / GROUPS * R * S, FILTERS = K / GROUPS;
constexpr long long OUTPUTS = (long long)N * K;
constexpr int PIECE = 16 / sizeof(T), PIECES = DEPTH / PIECE;
constexpr int PARTS_N = (N + 7) / 8, TILE_K = 16 * PARTS_K, FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr int LANES = 4 * WARPS;  // along the depth
constexpr int STEPS = (PIECES + SPLIT * LANES - 1) / (SPLIT * LANES);  // of a share
constexpr int THREADS = 32 * WARPS;
constexpr int ROWS = 2 * PARTS_K + PARTS_N;  // that a lane copies pieces of: g, g + 8 .. of W, then of X

static_assert(DEPTH % PIECE == 0 && (TERMS == 1 || (TERMS == 3 && PIECE == 4)), "rows of whole pieces");

#include "../parts.cuh"

// A piece as tensor cores take it; low is 0 where a number has no second part.
struct Words { unsigned high[4], low[4]; };

__device__ __forceinline__ Words words(const float4& piece) {
  const float number[4] = {piece.x, piece.y, piece.z, piece.w};
  Words cut = {};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    cut.high[i] = sizeof(T) == 2 ? __float_as_uint(number[i]) : to_tf32(number[i]);
    if constexpr (TERMS > 1) cut.low[i] = to_tf32(number[i] - __uint_as_float(cut.high[i]));
  }
  return cut;
}

__device__ __forceinline__ void multiply(float (&d)[4], const unsigned (&top)[4], const unsigned (&bottom)[4],
                                         const unsigned (&x)[4]) {
#pragma unroll
  for (int half = 0; half < 4; half += 2) {
    const unsigned a[4] = {top[half], bottom[half], top[half + 1], bottom[half + 1]}, b[2] = {x[half], x[half + 1]};
    if constexpr (sizeof(T) == 2) multiply_half(d, a, b);
    else multiply_tf32(d, a, b);
  }
}

// Piece `piece` of this lane's rows, of which there are `filters` and `images`, to its places of a stage; zeros past the end.
__device__ __forceinline__ void begin(float4* stage, const T* w, const T* x, int piece, int filters, int images) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const int row = 8 * (i < 2 * PARTS_K ? i : i - 2 * PARTS_K);
    const T* from = i < 2 * PARTS_K ? w + row * (long long)DEPTH : x + row * (long long)(GROUPS * DEPTH);
    const bool there = piece < PIECES && row < (i < 2 * PARTS_K ? filters : images);
    copy_async_16(stage + i * THREADS, reinterpret_cast<const float4*>(from) + piece, there);
  }
}

__device__ __forceinline__ void multiply(float (&total)[PARTS_K][PARTS_N][4], const float4* stage) {
  Words x[PARTS_N];
#pragma unroll
  for (int n = 0; n < PARTS_N; ++n) x[n] = words(stage[(2 * PARTS_K + n) * THREADS]);
#pragma unroll
  for (int k = 0; k < PARTS_K; ++k) {
    const Words top = words(stage[2 * k * THREADS]), bottom = words(stage[(2 * k + 1) * THREADS]);
#pragma unroll
    for (int n = 0; n < PARTS_N; ++n) {
      if constexpr (TERMS > 1) {
        float sum[4] = {};
        multiply(sum, top.low, bottom.low, x[n].high);
        multiply(sum, top.high, bottom.high, x[n].low);
        multiply(sum, top.high, bottom.high, x[n].high);
#pragma unroll
        for (int e = 0; e < 4; ++e) total[k][n][e] += sum[e];
      } else {
        multiply(total[k][n], top.high, bottom.high, x[n].high);
      }
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
skinny(const T* __restrict__ x, const T* __restrict__ w, Output* __restrict__ y) {
  extern __shared__ __align__(16) float4 held[];  // [STAGES][ROWS][THREADS], in the end the sums [WARPS][8 PARTS_N][TILE_K]
  let_next_begin();
  const int share = blockIdx.x % SPLIT, group = blockIdx.x / SPLIT % GROUPS;
  const int first_filter = blockIdx.x / (SPLIT * GROUPS) * TILE_K;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;

  x += ((long long)g * GROUPS + group) * DEPTH;
  w += ((long long)group * FILTERS + first_filter + g) * DEPTH;
  const int piece = share * (STEPS * LANES) + warp * 4 + t, filters = FILTERS - first_filter - g;
  float4* mine = held + threadIdx.x;
#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) {
    if (step < STEPS) begin(mine + step * (ROWS * THREADS), w, x, piece + step * LANES, filters, N - g);
    copy_async_commit();
  }

  float total[PARTS_K][PARTS_N][4] = {};
  for (int step = 0; step < STEPS; ++step) {
    const int next = step + STAGES - 1;
    if (next < STEPS) begin(mine + next % STAGES * (ROWS * THREADS), w, x, piece + next * LANES, filters, N - g);
    copy_async_commit();
    copy_async_wait<STAGES - 1>();
    multiply(total, mine + step % STAGES * (ROWS * THREADS));
  }
  __syncthreads();  // nobody reads what is held any more

  float(*sums)[8 * PARTS_N][TILE_K] = reinterpret_cast<float(*)[8 * PARTS_N][TILE_K]>(held);
#pragma unroll
  for (int k = 0; k < PARTS_K; ++k)
#pragma unroll
    for (int n = 0; n < PARTS_N; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) sums[warp][8 * n + 2 * t + e % 2][16 * k + g + e / 2 * 8] = total[k][n][e];
  __syncthreads();

  for (int i = threadIdx.x; i < N * TILE_K; i += THREADS) {
    const int n = i / TILE_K, k = i % TILE_K;
    if (first_filter + k >= FILTERS) continue;
    float sum = 0;
#pragma unroll
    for (int part = 0; part < WARPS; ++part) sum += sums[part][n][k];
    y[share * OUTPUTS + (long long)n * K + group * FILTERS + first_filter + k] = converted<Output>(sum);
  }
}
