// gemm.gemv for few images: y[n, k] = sum over d of x[n, d] w[k, d], each weight read once from memory.
//
// The time is that of reading w [K, DEPTH], so what counts is how many bytes are under way: a thread holds 64 bytes of
// ROWS rows while it loads the next 64, four 16-byte loads, or 16 numbers where rows are not aligned to 16 bytes. Images
// are read through the first-level cache, which the weights pass by. Pieces stay as they were loaded, floats or the bits
// of halves, until they are multiplied; sums are floats.
//
//   a block:  ROW_WARPS x DEPTH_WARPS warps; ROW_WARPS * ROWS rows, each shared out to the 32 * DEPTH_WARPS lanes of
//             DEPTH_WARPS warps, neighbours in turn
//   the grid: SPLIT shares of the depth x GROUPS x rows; with SPLIT > 1 y is parts [SPLIT][N, K], which add_parts adds up
//
// Lanes add up by a tree, the warps of a row one after another: the same bits each time.
#include "../../devices/ptx.cuh"

constexpr int DEPTH = C / GROUPS * R * S, FILTERS = K / GROUPS;
constexpr long long OUTPUTS = (long long)N * K;
constexpr int WIDEST = 16 / sizeof(T);
constexpr int WIDTH = DEPTH % WIDEST ? 1 : WIDEST;  // numbers a load takes: a piece of a row
constexpr int PIECES = DEPTH / WIDTH;
constexpr int HELD = (WIDTH == 1 ? 16 : 4) / ROWS;  // pieces of each row that a thread holds
constexpr int LANES = 32 * DEPTH_WARPS;
constexpr int STEPS = (PIECES + SPLIT * HELD * LANES - 1) / (SPLIT * HELD * LANES);  // of a share
constexpr bool WHOLE = PIECES == SPLIT * STEPS * HELD * LANES;
constexpr int THREADS = LANES * ROW_WARPS;
constexpr int BLOCK_ROWS = ROW_WARPS * ROWS;

static_assert(4 % ROWS == 0, "a thread holds 64 bytes or 16 weights");

#include "../parts.cuh"

using Piece = Either<WIDTH == 1, T, float4>::Type;  // 16 bytes are four words, whatever numbers lie in them
struct Weights { Piece at[HELD][ROWS]; };

__device__ __forceinline__ float4 loaded_once(const float4* w) { return load_once(w); }
__device__ __forceinline__ T loaded_once(const T* w) { return *w; }

// The numbers of a piece.
__device__ __forceinline__ void unpack(float (&number)[1], float piece) { number[0] = piece; }
__device__ __forceinline__ void unpack(float (&number)[1], unsigned short piece) { number[0] = from_half(piece); }
__device__ __forceinline__ void unpack(float (&number)[4], float4 piece) {
  number[0] = piece.x, number[1] = piece.y, number[2] = piece.z, number[3] = piece.w;
}
__device__ __forceinline__ void unpack(float (&number)[8], float4 piece) {
  const float words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    number[2 * i] = from_half(__float_as_uint(words[i]) & 0xffff);
    number[2 * i + 1] = from_half(__float_as_uint(words[i]) >> 16);
  }
}

// Pieces first, first + LANES .. of each of the `rows` rows that there are from w on; zeros past the end.
__device__ __forceinline__ void fetch(Weights& weights, const T* w, int first, int rows) {
#pragma unroll
  for (int held = 0; held < HELD; ++held) {
    const int piece = first + held * LANES;
#pragma unroll
    for (int row = 0; row < ROWS; ++row) {
      weights.at[held][row] = Piece{};
      if ((WHOLE || piece < PIECES) && row < rows)
        weights.at[held][row] = loaded_once(reinterpret_cast<const Piece*>(w + (long long)row * DEPTH) + piece);
    }
  }
}

__device__ __forceinline__ void multiply(float (&total)[N][ROWS], const Weights& weights, const T* x, int first) {
#pragma unroll
  for (int held = 0; held < HELD; ++held) {
    const int piece = first + held * LANES;
    if (!WHOLE && piece >= PIECES) break;
    float by[ROWS][WIDTH];
#pragma unroll
    for (int row = 0; row < ROWS; ++row) unpack(by[row], weights.at[held][row]);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      float inputs[WIDTH];
      unpack(inputs, reinterpret_cast<const Piece*>(x + (long long)n * (GROUPS * DEPTH))[piece]);
#pragma unroll
      for (int row = 0; row < ROWS; ++row)
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) total[n][row] += by[row][i] * inputs[i];
    }
  }
}

extern "C" __global__ void __launch_bounds__(THREADS)
stream(const T* __restrict__ x, const T* __restrict__ w, Output* __restrict__ y) {
  __shared__ float sums[ROW_WARPS][DEPTH_WARPS][N][ROWS];
  let_next_begin();
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
    y[share * OUTPUTS + (long long)n * K + group * FILTERS + block_row + row] = converted<Output>(sum);
  }
}
