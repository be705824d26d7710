// direct.blocked: a block of threads computes TILE_K filters x TILE_P pixels of one group in registers.
//
// A pixel is one (n, p, q), counted through the whole batch; a tap is one (c, r, s) of a filter. In steps of TILE_T taps a
// block copies
//   filters [TILE_T][TILE_K]  from packed [GROUPS][SPLIT * STEPS * TILE_T][K / GROUPS, rounded up to TILE_K], zeros past the end
//   inputs  [TILE_T][TILE_P]  gathered from x [N, C, H, W] through taps [SPLIT * STEPS * TILE_T] of {offset, row, column, 0}
// into shared memory, and each thread adds up THREAD_K x THREAD_P products a tap. The next step's values travel from global
// memory into registers meanwhile, and go to the other half of the shared buffers: one barrier a step.
// An offset is where the tap reads relative to the pixel's first tap; row and column say whether that is padding. Taps past
// the last have a row far outside. There is no division in the loop.
//
// Lanes of a warp:  4 along filters x 8 along pixels, each holding quads of four neighbours, so that a warp reads shared
// memory 16 bytes a lane without conflicts. SPLIT > 1 shares the taps of an output out to SPLIT blocks, which write
// parts [SPLIT][N, K, P, Q]; add_parts adds them up in a fixed order.

constexpr int CHANNELS = C / GROUPS;
constexpr int FILTERS = K / GROUPS;
constexpr int TAPS = CHANNELS * R * S;
constexpr int STEPS = ((TAPS + TILE_T - 1) / TILE_T + SPLIT - 1) / SPLIT;  // of one of the SPLIT shares
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr long long PIXELS = (long long)N * P * Q;
constexpr long long OUTPUTS = PIXELS * K;

#include "../parts.cuh"

constexpr int QUADS_K = THREAD_K / 4, QUADS_P = THREAD_P / 4;    // quads a thread holds along each side
constexpr int WARP_K = 4 * THREAD_K, WARP_P = 8 * THREAD_P;      // filters and pixels of a warp
constexpr int WARPS_P = TILE_P / WARP_P;
constexpr int THREADS = 32 * (TILE_K / WARP_K) * WARPS_P;
// Two large blocks on a multiprocessor, that is 128 registers a thread. One is said of the others, since ptxas takes fewer
// registers where nothing is said, and spills.
constexpr int LEAST_BLOCKS = sizeof(T) == 4 && THREADS > 128 ? 2 : 1;
constexpr int FILTER_LOADS = TILE_T * TILE_K / 4 / THREADS;      // quads a thread copies each step
constexpr int INPUT_LOADS = TILE_T * TILE_P / THREADS;           // elements
constexpr int INPUT_ROWS = THREADS / TILE_P;                     // taps that all threads together copy at once

static_assert(THREAD_K % 4 == 0 && THREAD_P % 4 == 0, "threads hold quads");
static_assert(TILE_K % WARP_K == 0 && TILE_P % WARP_P == 0, "the tile is made of whole warps");
static_assert(THREADS <= 1024 && THREADS % TILE_P == 0, "a thread gathers for one pixel");
static_assert(TILE_T * TILE_K / 4 % THREADS == 0 && TILE_T % INPUT_ROWS == 0, "every thread copies equally much");
static_assert((long long)CHANNELS * H * W < 1 << 30, "offsets within one image and group are int");

struct alignas(16) Quad { T at[4]; };

// What a thread carries from global to shared memory in one step.
struct Cargo { Quad filters[FILTER_LOADS]; T inputs[INPUT_LOADS]; };

// Where a thread gathers: the input under the first tap of its pixel. Past the last pixel, row is far outside.
struct Source { const T* x; int row, column; };

__device__ Source source_of(const T* x, long long pixel, int group) {
  if (pixel >= PIXELS) return {x, 1 << 29, 0};
  const int n = int(pixel / (P * Q)), rest = int(pixel % (P * Q));
  const int row = rest / Q * STRIDE_H - PAD_H, column = rest % Q * STRIDE_W - PAD_W;
  return {x + ((long long)n * C + group * CHANNELS) * H * W, row, column};
}

__device__ __forceinline__ void fetch(Cargo& cargo, const T* packed, const int4* taps, const Source& from) {
#pragma unroll
  for (int i = 0; i < FILTER_LOADS; ++i) {
    const int quad = threadIdx.x + i * THREADS, tap = quad / (TILE_K / 4), k = quad % (TILE_K / 4) * 4;
    cargo.filters[i] = *reinterpret_cast<const Quad*>(packed + tap * (FILTER_TILES * TILE_K) + k);
  }
#pragma unroll
  for (int i = 0; i < INPUT_LOADS; ++i) {
    const int4 tap = taps[threadIdx.x / TILE_P + i * INPUT_ROWS];
    const bool inside = unsigned(from.row + tap.y) < unsigned(H) && unsigned(from.column + tap.z) < unsigned(W);
    cargo.inputs[i] = inside ? from.x[from.row * W + from.column + tap.x] : T(0);
  }
}

__device__ __forceinline__ void store(const Cargo& cargo, T (*filters)[TILE_K], T (*inputs)[TILE_P]) {
#pragma unroll
  for (int i = 0; i < FILTER_LOADS; ++i) {
    const int quad = threadIdx.x + i * THREADS;
    *reinterpret_cast<Quad*>(&filters[quad / (TILE_K / 4)][quad % (TILE_K / 4) * 4]) = cargo.filters[i];
  }
#pragma unroll
  for (int i = 0; i < INPUT_LOADS; ++i)
    inputs[threadIdx.x / TILE_P + i * INPUT_ROWS][threadIdx.x % TILE_P] = cargo.inputs[i];
}

extern "C" __global__ void __launch_bounds__(THREADS, LEAST_BLOCKS)
blocked(const T* __restrict__ x, const T* __restrict__ packed, const int4* __restrict__ taps, T* __restrict__ y) {
  __shared__ __align__(16) T filters[2][TILE_T][TILE_K];
  __shared__ __align__(16) T inputs[2][TILE_T][TILE_P];
  let_next_begin();

  // Blocks that share pixels are neighbours, so that the inputs they gather are still in the L2 cache.
  const int filter_tile = blockIdx.x % FILTER_TILES;
  const int group = blockIdx.x / FILTER_TILES % GROUPS;
  const int share = blockIdx.x / (FILTER_TILES * GROUPS) % SPLIT;
  const long long first_pixel = (long long)(blockIdx.x / (FILTER_TILES * GROUPS * SPLIT)) * TILE_P;
  const int first_filter = filter_tile * TILE_K;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int my_k = warp / WARPS_P * WARP_K + lane / 8 * 4;  // of the first quad; the others follow 16 filters,
  const int my_p = warp % WARPS_P * WARP_P + lane % 8 * 4;  // or 32 pixels, further

  const Source from = source_of(x, first_pixel + threadIdx.x % TILE_P, group);
  constexpr int STEP_SIZE = TILE_T * FILTER_TILES * TILE_K;
  packed += ((long long)group * SPLIT + share) * STEPS * STEP_SIZE + first_filter;
  taps += share * STEPS * TILE_T;

  Cargo cargo;
  fetch(cargo, packed, taps, from);
  store(cargo, filters[0], inputs[0]);
  __syncthreads();

  T total[THREAD_K][THREAD_P] = {};
  for (int step = 0; step < STEPS; ++step) {
    const int now = step & 1;
    const bool more = step + 1 < STEPS;
    packed += STEP_SIZE;
    taps += TILE_T;
    if (more) fetch(cargo, packed, taps, from);
#pragma unroll
    for (int t = 0; t < TILE_T; ++t) {
      Quad f[QUADS_K], v[QUADS_P];
#pragma unroll
      for (int i = 0; i < QUADS_K; ++i) f[i] = *reinterpret_cast<const Quad*>(&filters[now][t][my_k + i * 16]);
#pragma unroll
      for (int i = 0; i < QUADS_P; ++i) v[i] = *reinterpret_cast<const Quad*>(&inputs[now][t][my_p + i * 32]);
#pragma unroll
      for (int k = 0; k < THREAD_K; ++k)
#pragma unroll
        for (int p = 0; p < THREAD_P; ++p) total[k][p] += f[k / 4].at[k % 4] * v[p / 4].at[p % 4];
    }
    if (more) store(cargo, filters[1 - now], inputs[1 - now]);
    __syncthreads();  // the next half is complete, and this one may be overwritten
  }

  y += share * OUTPUTS;
#pragma unroll
  for (int p = 0; p < THREAD_P; ++p) {
    const long long pixel = first_pixel + my_p + p / 4 * 32 + p % 4;
    if (pixel >= PIXELS) continue;
    T* target = y + (pixel / (P * Q) * K + group * FILTERS) * (P * Q) + pixel % (P * Q);
#pragma unroll
    for (int k = 0; k < THREAD_K; ++k) {
      const int filter = first_filter + my_k + k / 4 * 16 + k % 4;
      if (filter < FILTERS) target[(long long)filter * (P * Q)] = total[k][p];
    }
  }
}
