// gemm.implicit: Y = W [K x C R S] M [C R S x N P Q], by groups, where M is gathered tile by tile and never stored.
//
// A pixel is one (n, p, q), counted through the whole batch; a tap is one (c, r, s) of a filter. In steps of TILE_T taps a
// block copies
//   filters [TILE_T][TILE_K]  from packed [GROUPS][FILTER_TILES][SPLIT * STEPS * TILE_T][TILE_K], zeros past the ends
//   inputs  [TILE_T][TILE_P]  gathered from x [N, C, H, W] through taps [SPLIT * STEPS * TILE_T]
// into one of STAGES buffers, and each thread adds up THREAD_K x THREAD_P products a tap. In the order (c, r, s) the taps
// of a step look at the same few rows of x, and find them in the first-level cache. There is no division in the loop.
//
// What differs from direct.blocked, which adds up the same products:
// - Operands travel by asynchronous copies, STAGES - 1 steps ahead, and through no registers.
// - Whether a tap falls on padding is one instruction: a pixel has a bit for each filter row and each filter column that
//   falls outside x, a tap has its row's and its column's, and reads x where they have none in common. One more bit,
//   PAST, is set in every pixel and in the taps past the last; a pixel past the last has all bits set.
// - Lanes are interleaved (my_k, my_p). Shared memory serves 16-byte reads by half warps, in one pass for all lanes that
//   share their quad with the next lane (filters) or the next but one (pixels); CUTLASS's SIMT tiles do the same.
// - Pixels lie in shared memory so (column_of) that the lanes of a store write neighbours in y.
// SPLIT > 1 shares the taps of an output out to SPLIT blocks, whose parts are added up by add_parts.
constexpr long long OUTPUTS = (long long)N * K * P * Q;
#include "../parts.cuh"

constexpr int STAGES = 4;
constexpr int CHANNELS = C / GROUPS, FILTERS = K / GROUPS;
constexpr int TAPS = CHANNELS * R * S;
constexpr int STEPS = ((TAPS + TILE_T - 1) / TILE_T + SPLIT - 1) / SPLIT;  // of one of the SPLIT shares
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr long long PIXELS = (long long)N * P * Q;

constexpr int QUADS_K = THREAD_K / 4, QUADS_P = THREAD_P / 4;   // quads a thread holds along each side
constexpr int WARP_K = 4 * THREAD_K, WARP_P = 8 * THREAD_P;     // filters and pixels of a warp
constexpr int WARPS_P = TILE_P / WARP_P;
constexpr int THREADS = 32 * (TILE_K / WARP_K) * WARPS_P;
constexpr int COPY = 16 / sizeof(T);                            // filters in a copy of 16 bytes
constexpr int FILTER_COPIES = TILE_T * TILE_K / COPY;           // of a step
constexpr int FILTER_LOADS = (FILTER_COPIES + THREADS - 1) / THREADS;
constexpr int INPUT_ROWS = THREADS / TILE_P;                    // taps that the gathering threads copy at once
constexpr int INPUT_LOADS = TILE_T / INPUT_ROWS;
constexpr int GATHERING = INPUT_ROWS * TILE_P;                  // threads that copy inputs: whole rows of taps

// Bits of padding: without padding along an axis nothing falls outside along it.
constexpr int ROW_BITS = PAD_H ? R : 0, COLUMN_BITS = PAD_W ? S : 0, PAST = ROW_BITS + COLUMN_BITS;
using Bits = Either<(PAST < 32), unsigned, unsigned long long>::Type;
struct alignas(2 * sizeof(Bits)) Tap { Bits uses; int offset; };  // offset: from the input under the pixel's first tap
struct alignas(16) Quad { T at[4]; };

static_assert(THREAD_K % 4 == 0 && THREAD_P % 4 == 0, "threads hold quads");
static_assert(TILE_K % WARP_K == 0 && TILE_P % WARP_P == 0, "the tile is made of whole warps");
static_assert(INPUT_ROWS > 0 && TILE_T % INPUT_ROWS == 0, "a thread gathers for one pixel, as many taps as the others");
static_assert(PAST < 64, "a bit for each row and column of the filter");

// Where a thread gathers: the input under the first tap of its pixel, and which rows and columns of taps are outside.
struct Source { const T* x; Bits outside; };

__device__ Source source_of(const T* x, long long pixel, int group) {
  if (pixel >= PIXELS) return {x, ~Bits(0)};
  const int n = int(pixel / (P * Q)), rest = int(pixel % (P * Q));
  const int row = rest / Q * STRIDE_H - PAD_H, column = rest % Q * STRIDE_W - PAD_W;
  Bits outside = Bits(1) << PAST;
  for (int r = 0; r < ROW_BITS; ++r) outside |= Bits(unsigned(row + r * DILATION_H) >= unsigned(H)) << r;
  for (int s = 0; s < COLUMN_BITS; ++s)
    outside |= Bits(unsigned(column + s * DILATION_W) >= unsigned(W)) << (ROW_BITS + s);
  return {x + ((long long)n * C + group * CHANNELS) * H * W + (long long)row * W + column, outside};
}

// Pixel 8 e + b of each 32 lies at 4 b + e: a thread's quad, four e of one b, is then eight pixels apart in y, and the
// lanes b of one e are neighbours.
__device__ __forceinline__ int column_of(int pixel) { return pixel / 32 * 32 + pixel % 8 * 4 + pixel / 8 % 4; }

__device__ __forceinline__ void copy_filters(T* filters, const T* packed) {
#pragma unroll
  for (int i = 0; i < FILTER_LOADS; ++i) {
    const int at = (threadIdx.x + i * THREADS) * COPY;
    if (FILTER_COPIES % THREADS == 0 || at < FILTER_COPIES * COPY) copy_async_16(filters + at, packed + at, true);
  }
}

__device__ __forceinline__ void read_taps(Tap (&own)[INPUT_LOADS], const Tap* taps) {
  if (GATHERING < THREADS && threadIdx.x >= GATHERING) return;
#pragma unroll
  for (int i = 0; i < INPUT_LOADS; ++i) own[i] = taps[threadIdx.x / TILE_P + i * INPUT_ROWS];
}

__device__ __forceinline__ void copy_inputs(T* inputs, const Tap (&taps)[INPUT_LOADS], const Source& from) {
  if (GATHERING < THREADS && threadIdx.x >= GATHERING) return;
  T* target = inputs + threadIdx.x / TILE_P * TILE_P + column_of(threadIdx.x % TILE_P);
#pragma unroll
  for (int i = 0; i < INPUT_LOADS; ++i) {
    const bool inside = !(from.outside & taps[i].uses);
    const int* words = reinterpret_cast<const int*>(from.x + taps[i].offset);  // not read where it is outside
#pragma unroll
    for (int word = 0; word < int(sizeof(T) / 4); ++word)
      copy_async_4(reinterpret_cast<int*>(target + i * (INPUT_ROWS * TILE_P)) + word, words + word, inside);
  }
}

// total += the products of a step, from the thread's first quads on.
__device__ __forceinline__ void multiply(T (&total)[THREAD_K][THREAD_P], const T* filters, const T* inputs) {
#pragma unroll
  for (int t = 0; t < TILE_T; ++t) {
    Quad f[QUADS_K], v[QUADS_P];
#pragma unroll
    for (int i = 0; i < QUADS_K; ++i) f[i] = *reinterpret_cast<const Quad*>(filters + t * TILE_K + i * 16);
#pragma unroll
    for (int i = 0; i < QUADS_P; ++i) v[i] = *reinterpret_cast<const Quad*>(inputs + t * TILE_P + i * 32);
#pragma unroll
    for (int k = 0; k < THREAD_K; ++k)
#pragma unroll
      for (int p = 0; p < THREAD_P; ++p) total[k][p] += f[k / 4].at[k % 4] * v[p / 4].at[p % 4];
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
implicit(const T* __restrict__ x, const T* __restrict__ packed, const Tap* __restrict__ taps, Output* __restrict__ y) {
  __shared__ __align__(16) T filters[STAGES][TILE_T][TILE_K];
  __shared__ __align__(16) T inputs[STAGES][TILE_T][TILE_P];
  let_next_begin();

  // Blocks that share pixels are neighbours, so that the inputs they gather are still in the L2 cache.
  const int filter_tile = blockIdx.x % FILTER_TILES;
  const int group = blockIdx.x / FILTER_TILES % GROUPS;
  const int share = blockIdx.x / (FILTER_TILES * GROUPS) % SPLIT;
  const long long first_pixel = (long long)(blockIdx.x / (FILTER_TILES * GROUPS * SPLIT)) * TILE_P;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int lane_k = lane / 2 % 2 + lane / 16 * 2, lane_p = lane % 2 + lane / 4 % 4 * 2;
  const int my_k = warp / WARPS_P * WARP_K + lane_k * 4;  // of the first quad; the others follow 16 filters,
  const int my_p = warp % WARPS_P * WARP_P + lane_p * 4;  // or 32 columns, further

  const Source from = source_of(x, first_pixel + threadIdx.x % TILE_P, group);
  packed += (((long long)group * FILTER_TILES + filter_tile) * SPLIT + share) * STEPS * (TILE_T * TILE_K);
  taps += share * STEPS * TILE_T;

  Tap own[INPUT_LOADS];
#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) {
    if (step < STEPS) {
      read_taps(own, taps);
      copy_filters(filters[step][0], packed);
      copy_inputs(inputs[step][0], own, from);
    }
    copy_async_commit();
    taps += TILE_T;
    packed += TILE_T * TILE_K;
  }

  T total[THREAD_K][THREAD_P] = {};
  for (int step = 0; step < STEPS; ++step) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();  // this step's operands are there, and nobody reads the last step's any more
    const bool more = step + STAGES - 1 < STEPS;
    const int now = step % STAGES, next = (step + STAGES - 1) % STAGES;
    if (more) read_taps(own, taps);  // they arrive while the products are added up
    multiply(total, &filters[now][0][my_k], &inputs[now][0][my_p]);
    if (more) {
      copy_filters(filters[next][0], packed);
      copy_inputs(inputs[next][0], own, from);
    }
    copy_async_commit();
    taps += TILE_T;
    packed += TILE_T * TILE_K;
  }

  if (SPLIT > 1) y += share * OUTPUTS;
#pragma unroll
  for (int p = 0; p < THREAD_P; ++p) {
    const long long pixel = first_pixel + warp % WARPS_P * WARP_P + p / 4 * 32 + p % 4 * 8 + lane_p;
    if (pixel >= PIXELS) continue;
    Output* target = y + (pixel / (P * Q) * K + group * FILTERS) * (P * Q) + pixel % (P * Q);
#pragma unroll
    for (int k = 0; k < THREAD_K; ++k) {
      const int filter = filter_tile * TILE_K + my_k + k / 4 * 16 + k % 4;
      if (filter < FILTERS) target[(long long)filter * (P * Q)] = total[k][p];
    }
  }
}
