// gemm.gemv for few images: y[n, k] = sum over d of x[n, d] w[k, d], each weight read once from memory.
//
// The time is that of reading w [K, DEPTH], so what counts is how many bytes are under way: a thread holds 16 weights of
// ROWS rows while it loads the next 16, four 16-byte loads or as many numbers where rows are not aligned to 16 bytes.
// Images are read through the first-level cache, which the weights pass by.
//
//   a block:  ROW_WARPS x DEPTH_WARPS warps; ROW_WARPS * ROWS rows, each shared out to the 32 * DEPTH_WARPS lanes of
//             DEPTH_WARPS warps, neighbours in turn
//   the grid: SPLIT shares of the depth x GROUPS x rows; with SPLIT > 1 y is parts [SPLIT][N, K], which add_parts adds up
//
// Lanes add up by a tree, the warps of a row one after another: the same bits each time.
#include "../../devices/ptx.cuh"

constexpr int DEPTH = C / GROUPS * R * S, FILTERS = K / GROUPS;
constexpr long long OUTPUTS = (long long)N * K;
constexpr int WIDTH = DEPTH % 4 ? 1 : 4;       // numbers a load takes: a piece of a row
constexpr int PIECES = DEPTH / WIDTH;
constexpr int HELD = 16 / (ROWS * WIDTH);      // pieces of each row that a thread holds
constexpr int LANES = 32 * DEPTH_WARPS;
constexpr int STEPS = (PIECES + SPLIT * HELD * LANES - 1) / (SPLIT * HELD * LANES);  // of a share
constexpr bool WHOLE = PIECES == SPLIT * STEPS * HELD * LANES;
constexpr int THREADS = LANES * ROW_WARPS;
constexpr int BLOCK_ROWS = ROW_WARPS * ROWS;

static_assert(16 % (ROWS * WIDTH) == 0, "a thread holds 16 weights");

#include "../parts.cuh"

struct Weights { float at[HELD][ROWS][WIDTH]; };

__device__ __forceinline__ void load_weights(float (&piece)[4], const float* w) {
  const float4 four = load_once(reinterpret_cast<const float4*>(w));
  piece[0] = four.x, piece[1] = four.y, piece[2] = four.z, piece[3] = four.w;
}
__device__ __forceinline__ void load_weights(float (&piece)[1], const float* w) { piece[0] = *w; }

__device__ __forceinline__ void load_inputs(float (&piece)[4], const float* x) {
  const float4 four = *reinterpret_cast<const float4*>(x);
  piece[0] = four.x, piece[1] = four.y, piece[2] = four.z, piece[3] = four.w;
}
__device__ __forceinline__ void load_inputs(float (&piece)[1], const float* x) { piece[0] = *x; }

// Pieces first, first + LANES .. of each of the `rows` rows that there are from w on; zeros past the end.
__device__ __forceinline__ void fetch(Weights& weights, const float* w, int first, int rows) {
#pragma unroll
  for (int held = 0; held < HELD; ++held) {
    const int piece = first + held * LANES;
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
#pragma unroll
      for (int i = 0; i < WIDTH; ++i) weights.at[held][row][i] = 0;
      if ((WHOLE || piece < PIECES) && row < rows)
        load_weights(weights.at[held][row], w + (long long)row * DEPTH + (long long)piece * WIDTH);
    }
  }
}

__device__ __forceinline__ void multiply(float (&total)[N][ROWS], const Weights& weights, const float* x, int first) {
#pragma unroll
  for (int held = 0; held < HELD; ++held) {
    const int piece = first + held * LANES;
    if (!WHOLE && piece >= PIECES) break;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      float inputs[WIDTH];
      load_inputs(inputs, x + (long long)n * (GROUPS * DEPTH) + (long long)piece * WIDTH);
#pragma unroll
      for (int row = 0; row < ROWS; ++row)
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) total[n][row] += weights.at[held][row][i] * inputs[i];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
stream(const float* __restrict__ x, const float* __restrict__ w, float* __restrict__ y) {
  __shared__ float sums[ROW_WARPS][DEPTH_WARPS][N][ROWS];
  const int share = blockIdx.x % SPLIT, group = blockIdx.x / SPLIT % GROUPS;
  const int block_row = blockIdx.x / (SPLIT * GROUPS) * BLOCK_ROWS;
  const int warp = threadIdx.x / 32, row_warp = warp / DEPTH_WARPS, depth_warp = warp % DEPTH_WARPS;
  const int first_row = block_row + row_warp * ROWS;

  x += (long long)group * DEPTH;
  w += ((long long)group * FILTERS + first_row) * DEPTH;
  int piece = share * (STEPS * HELD * LANES) + threadIdx.x % LANES;

  float total[N][ROWS] = {};
  Weights now, next;
  fetch(now, w, piece, FILTERS - first_row);
  for (int step = 0; step < STEPS; ++step, piece += HELD * LANES) {
    if (step + 1 < STEPS) fetch(next, w, piece + HELD * LANES, FILTERS - first_row);
    multiply(total, now, x, piece);
    now = next;
  }

#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
#pragma unroll
      for (int by = 16; by; by /= 2) total[n][row] += __shfl_xor_sync(~0u, total[n][row], by);
      if (threadIdx.x % 32 == 0) sums[row_warp][depth_warp][n][row] = total[n][row];
    }
  __syncthreads();

  for (int i = threadIdx.x; i < N * BLOCK_ROWS; i += THREADS) {
    const int n = i / BLOCK_ROWS, row = i % BLOCK_ROWS;
    if (block_row + row >= FILTERS) continue;
    float sum = 0;
#pragma unroll
    for (int part = 0; part < DEPTH_WARPS; ++part) sum += sums[row / ROWS][part][n][row % ROWS];
    y[share * OUTPUTS + (long long)n * K + group * FILTERS + block_row + row] = sum;
  }
}
