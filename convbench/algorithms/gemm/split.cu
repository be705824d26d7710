// gemm.gemv for more images: Y [N, K] = X [N, DEPTH] W^T, a matrix product whose depth is shared out to SPLIT blocks.
//
// A block multiplies TILE_K rows of W by all images, over its share of the depth, SLICE at a time. Both lie in memory
// with the depth innermost, and so they stay in shared memory: rows of SLICE numbers, PITCH apart, copied there by
// asynchronous 16-byte copies (4 bytes where rows are not aligned) in a ring of STAGES. A thread adds up THREAD_K x THREAD_N
// products for each depth from quads along the depth.
//
// Lanes of a warp: 4 along rows x 8 along images. PITCH is an odd number of quads, so that the 8 images of a quarter warp
// lie in different banks; its row is one and the same. Each share of the depth writes a part of its own, parts
// [SPLIT][N, K], and add_parts adds them up in a fixed order.
#include "../../devices/ptx.cuh"

constexpr int DEPTH = C / GROUPS * R * S, FILTERS = K / GROUPS;
constexpr long long OUTPUTS = (long long)N * K;
constexpr int WIDTH = DEPTH % 4 ? 1 : 4;  // numbers a copy takes
constexpr int SLICE = 16, PITCH = SLICE + 4, STAGES = 3;
constexpr int TILE_K = 128, TILE_N = 32, LANES_K = 16, LANES_N = 8;
constexpr int THREADS = LANES_K * LANES_N;
constexpr int THREAD_K = TILE_K / LANES_K, THREAD_N = TILE_N / LANES_N;
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr int STEPS = ((DEPTH + SLICE - 1) / SLICE + SPLIT - 1) / SPLIT;  // of a share
static_assert(N <= TILE_N, "one tile of images");

#include "../parts.cuh"

// Copies numbers first .. first + SLICE of ROWS rows, `pitch` apart, of which there are `rows`; zeros past the end.
template <int ROWS>
__device__ __forceinline__ void copy_slice(float (&to)[ROWS][PITCH], const float* from, long long pitch, int rows,
                                           int first) {
  constexpr int PIECES = SLICE / WIDTH;  // of a row
  static_assert(ROWS * PIECES % THREADS == 0, "every thread copies equally much");
#pragma unroll
  for (int i = 0; i < ROWS * PIECES / THREADS; ++i) {
    const int row = (threadIdx.x + i * THREADS) / PIECES, column = (threadIdx.x + i * THREADS) % PIECES * WIDTH;
    const bool valid = row < rows && first + column < DEPTH;
    const float* source = valid ? from + row * pitch + first + column : from;
    if constexpr (WIDTH == 4)
      copy_async_16(&to[row][column], source, valid);
    else
      copy_async_4(&to[row][column], source, valid);
  }
}

extern "C" __global__ void __launch_bounds__(THREADS, 3)
product(const float* __restrict__ x, const float* __restrict__ w, float* __restrict__ y) {
  __shared__ __align__(16) float filters[STAGES][TILE_K][PITCH];
  __shared__ __align__(16) float images[STAGES][TILE_N][PITCH];
  let_next_begin();

  const int first_filter = blockIdx.x % FILTER_TILES * TILE_K;
  const int group = blockIdx.x / FILTER_TILES % GROUPS, share = blockIdx.x / (FILTER_TILES * GROUPS);
  constexpr long long IMAGE = (long long)GROUPS * DEPTH;
  x += (long long)group * DEPTH;
  w += ((long long)group * FILTERS + first_filter) * DEPTH;

  const auto copy = [&](int step) {
    if (step < STEPS) {
      const int first = (share * STEPS + step) * SLICE;
      copy_slice(filters[step % STAGES], w, DEPTH, FILTERS - first_filter, first);
      copy_slice(images[step % STAGES], x, IMAGE, N, first);
    }
    copy_async_commit();  // also past the last step: the wait below counts groups
  };
#pragma unroll
  for (int step = 0; step < STAGES - 1; ++step) copy(step);

  const int my_k = threadIdx.x / LANES_N, my_n = threadIdx.x % LANES_N;  // the others follow LANES_K and LANES_N apart
  float total[THREAD_K][THREAD_N] = {};
  for (int step = 0; step < STEPS; ++step) {
    copy_async_wait<STAGES - 2>();
    __syncthreads();  // all have copied this step's slice, and read the one that is overwritten next
    copy(step + STAGES - 1);
    const int stage = step % STAGES;
#pragma unroll
    for (int d = 0; d < SLICE; d += 4) {
      float4 v[THREAD_N];
#pragma unroll
      for (int n = 0; n < THREAD_N; ++n) v[n] = *reinterpret_cast<float4*>(&images[stage][my_n + n * LANES_N][d]);
#pragma unroll
      for (int k = 0; k < THREAD_K; ++k) {
        const float4 f = *reinterpret_cast<float4*>(&filters[stage][my_k + k * LANES_K][d]);
#pragma unroll
        for (int n = 0; n < THREAD_N; ++n) {
          total[k][n] += f.x * v[n].x;
          total[k][n] += f.y * v[n].y;
          total[k][n] += f.z * v[n].z;
          total[k][n] += f.w * v[n].w;
        }
      }
    }
  }

#pragma unroll
  for (int n = 0; n < THREAD_N; ++n) {
    const int image = my_n + n * LANES_N;
#pragma unroll
    for (int k = 0; k < THREAD_K; ++k) {
      const int filter = first_filter + my_k + k * LANES_K;
      if (image < N && filter < FILTERS)
        y[share * OUTPUTS + (long long)image * K + group * FILTERS + filter] = total[k][n];
    }
  }
}
