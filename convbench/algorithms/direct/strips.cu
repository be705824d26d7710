// direct.blocked where filters slide: strips of THREAD_P neighbouring outputs of a row, and the input they see in windows.
//
// An output row is cut into strips, SEGMENT strips are a segment, and a block computes SEGMENTS segments x TILE_K filters
// of one group. A line is a (c, r); in steps of LINES lines (one, or whole channels) a block copies, asynchronously, for the
// step after the one that is multiplied,
//   filters [LINES][S][TILE_K]  from packed [GROUPS][FILTER_TILES][SPLIT * STEPS * LINES][S][TILE_K], zeros past the end
//   inputs  [LINES][SEGMENTS]   the COLUMNS inputs of row  p * stride + r * dilation - pad  below a segment, read in order
// and of these a thread takes, for each phase of the stride, one window of THREAD_P + REACH - 1 numbers: the taps
// s = phase, phase + stride .. are multiplied with the window moved on by one. So an input is read from memory S times less
// often than there are taps, from shared memory 2 to 4 times less. With stride 4 this is the polyphase form:
//   column   0 1 2 3 4 5 6 7 8 ..   is kept as   0 4 8 ..|1 5 9 ..|2 6 ..|3 7 ..   PHASE numbers each
//
// Lanes of a warp: 4 along filters (two quads each, 16 apart) x 8 along strips. THREAD_P is odd, and a segment's pitch is
// that of its outputs (modulo the 32 banks), so that eight strips' windows lie in different banks.
// SPLIT > 1 shares the lines out to SPLIT blocks, which write parts [SPLIT][N, K, P, Q]; add_parts adds them up in order.
#include "../../devices/ptx.cuh"

constexpr int CHANNELS = C / GROUPS, FILTERS = K / GROUPS;
constexpr int LINES_ALL = CHANNELS * R;
constexpr int STEPS = ((LINES_ALL + LINES - 1) / LINES + SPLIT - 1) / SPLIT;  // of a share
constexpr int THREAD_K = 8, THREAD_P = 7, TILE_K = THREAD_K * LANES_K;
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr int WARPS_P = LANES_P / 8;
constexpr int THREADS = LANES_K * LANES_P;

constexpr int STRIPS = (Q + THREAD_P - 1) / THREAD_P;                 // of a row
constexpr int ROW_SEGMENTS = (STRIPS + LANES_P - 1) / LANES_P;
constexpr int SEGMENT = (STRIPS + ROW_SEGMENTS - 1) / ROW_SEGMENTS;   // strips of a segment
constexpr int SEGMENTS = LANES_P / SEGMENT;                           // of a block
constexpr long long SEGMENTS_ALL = (long long)N * P * ROW_SEGMENTS;
constexpr long long OUTPUTS = (long long)N * K * P * Q;

constexpr int UNROLLED = S < 4 ? 3 : 1;                               // lines in one piece of code
constexpr int REACH = (S + STRIDE_W - 1) / STRIDE_W;                  // taps of the longest phase
constexpr int PHASE = SEGMENT * THREAD_P + REACH - 1;
constexpr int COLUMNS = PHASE * STRIDE_W;                             // inputs that a segment sees, and a few more
// Of a segment in shared memory: at least COLUMNS, and as far round the banks as its strips.
constexpr int PITCH = COLUMNS + (SEGMENT * THREAD_P - COLUMNS % 32 + 32 * THREAD_P * SEGMENT) % 32;

constexpr int FILTER_QUADS = LINES * S * TILE_K / 4;
constexpr int FILTER_COPIES = (FILTER_QUADS + THREADS - 1) / THREADS;  // of a thread in a step
constexpr int STEP_INPUTS = LINES * SEGMENTS * COLUMNS;
constexpr int INPUT_COPIES = (STEP_INPUTS + THREADS - 1) / THREADS;

static_assert(LINES == 1 || LINES % R == 0, "a step begins in the same filter row for all its inputs");
static_assert(DILATION_W == 1, "a window moves on by one");
static_assert(LANES_K % 4 == 0 && LANES_P % 8 == 0, "the block is made of whole warps");
static_assert((long long)CHANNELS * H * W < 1 << 30, "offsets within one image and group are int");

#include "../parts.cuh"

struct alignas(16) Quad { T at[4]; };

// One of the inputs that a thread copies each step: where it is for the first line, in which channel and row, and where
// it goes. Outside the image row is far outside.
struct Source { const T* x; int c, row, to; };

__device__ Source source_of(const T* x, int input, long long first_segment, int group) {
  const int line = input / (SEGMENTS * COLUMNS), c = line / R, r = line % R;
  const int place = input / COLUMNS % SEGMENTS, of_segment = input % COLUMNS;
  const int to = (line * SEGMENTS + place) * PITCH + of_segment % STRIDE_W * PHASE + of_segment / STRIDE_W;
  const long long segment = first_segment + place, above = segment / ROW_SEGMENTS;
  const int column = int(segment % ROW_SEGMENTS) * (SEGMENT * THREAD_P * STRIDE_W) - PAD_W + of_segment;
  if (segment >= SEGMENTS_ALL || unsigned(column) >= unsigned(W)) return {x, 0, 1 << 29, to};
  const int row = int(above % P) * STRIDE_H - PAD_H + r * DILATION_H;
  return {x + (above / P * C + group * CHANNELS + c) * (H * W) + (long long)row * W + column, c, row, to};
}

extern "C" __global__ void __launch_bounds__(THREADS, 512 / THREADS)
strips(const T* __restrict__ x, const T* __restrict__ packed, T* __restrict__ y) {
  __shared__ __align__(16) T filters[2][LINES][S][TILE_K];
  __shared__ T inputs[2][LINES * SEGMENTS * PITCH];
  __shared__ T outputs[THREADS / 32][4][8 * THREAD_P];  // of a warp: 4 filters x 8 strips
  let_next_begin();

  // Blocks that share inputs are neighbours, so that these are still in the L2 cache.
  const int filter_tile = blockIdx.x % FILTER_TILES, group = blockIdx.x / FILTER_TILES % GROUPS;
  const int share = blockIdx.x / (FILTER_TILES * GROUPS) % SPLIT;
  const long long first_segment = (long long)(blockIdx.x / (FILTER_TILES * GROUPS * SPLIT)) * SEGMENTS;
  packed += ((long long)(group * FILTER_TILES + filter_tile) * (SPLIT * STEPS) + share * STEPS) * (LINES * S * TILE_K);

  Source sources[INPUT_COPIES];
#pragma unroll
  for (int i = 0; i < INPUT_COPIES; ++i) sources[i] = source_of(x, threadIdx.x + i * THREADS, first_segment, group);

  const auto copy = [&](int step) {
    T* to = &filters[step & 1][0][0][0];
#pragma unroll
    for (int i = 0; i < FILTER_COPIES; ++i) {
      const int quad = threadIdx.x + i * THREADS;
      if (FILTER_QUADS % THREADS == 0 || quad < FILTER_QUADS) copy_async_16(to + 4 * quad, packed + 4 * quad, true);
    }
    packed += LINES * S * TILE_K;
    const int first = (share * STEPS + step) * LINES, c = first / R, below = LINES == 1 ? first % R * DILATION_H : 0;
#pragma unroll
    for (int i = 0; i < INPUT_COPIES; ++i) {
      const Source& from = sources[i];
      const bool valid = unsigned(from.row + below) < unsigned(H) && c + from.c < CHANNELS;
      if (STEP_INPUTS % THREADS == 0 || threadIdx.x + i * THREADS < STEP_INPUTS)
        copy_async_4(&inputs[step & 1][from.to], valid ? from.x + (c * H + below) * W : x, valid);
    }
    copy_async_commit();
  };
  copy(0);

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int my_k = warp / WARPS_P * 32 + lane / 8 * 4;
  const int strip = warp % WARPS_P * 8 + lane % 8;
  const int my_segment = strip / SEGMENT < SEGMENTS ? strip / SEGMENT : 0;  // lanes left over do again what others do
  const int my_window = my_segment * PITCH + strip % SEGMENT * THREAD_P;

  T total[THREAD_K][THREAD_P] = {};
  for (int step = 0; step < STEPS; ++step) {
    copy_async_wait<0>();
    __syncthreads();  // all have copied this step's lines, and read those that are overwritten next
    if (step + 1 < STEPS) copy(step + 1);
#pragma unroll UNROLLED
    for (int line = 0; line < LINES; ++line) {
      const T* seen = &inputs[step & 1][line * (SEGMENTS * PITCH) + my_window];
      const T* taps = &filters[step & 1][line][0][my_k];
#pragma unroll
      for (int phase = 0; phase < STRIDE_W && phase < S; ++phase) {
        T window[THREAD_P + REACH - 1];
#pragma unroll
        for (int i = 0; i < THREAD_P + REACH - 1; ++i) window[i] = seen[phase * PHASE + i];  // a short phase needs fewer
#pragma unroll
        for (int tap = 0; tap < REACH; ++tap) {
          const int s = phase + tap * STRIDE_W;
          if (s >= S) break;
          const Quad f[2] = {*reinterpret_cast<const Quad*>(taps + s * TILE_K),
                             *reinterpret_cast<const Quad*>(taps + s * TILE_K + 16)};
#pragma unroll
          for (int k = 0; k < THREAD_K; ++k)
#pragma unroll
            for (int p = 0; p < THREAD_P; ++p) total[k][p] += f[k / 4].at[k % 4] * window[tap + p];
        }
      }
    }
  }

  // A warp's outputs go through shared memory, one of its threads' filters after another, to be written in order.
  y += share * OUTPUTS;
  long long target[THREAD_P];  // of the first of the eight filters, or -1 past the last pixel
#pragma unroll
  for (int i = 0; i < THREAD_P; ++i) {
    const int pixel = (lane + 32 * i) % (8 * THREAD_P), of_block = warp % WARPS_P * 8 + pixel / THREAD_P;
    const long long segment = first_segment + of_block / SEGMENT, row = segment / ROW_SEGMENTS;
    const int q = (int(segment % ROW_SEGMENTS) * SEGMENT + of_block % SEGMENT) * THREAD_P + pixel % THREAD_P;
    const bool inside = of_block / SEGMENT < SEGMENTS && segment < SEGMENTS_ALL && q < Q;
    target[i] = inside ? (row / P * K + group * FILTERS) * (P * Q) + row % P * Q + q : -1;
  }
#pragma unroll
  for (int k = 0; k < THREAD_K; ++k) {
#pragma unroll
    for (int p = 0; p < THREAD_P; ++p) outputs[warp][lane / 8][lane % 8 * THREAD_P + p] = total[k][p];
    __syncwarp();
#pragma unroll
    for (int i = 0; i < THREAD_P; ++i) {
      const int at = lane + 32 * i, filter_lane = at / (8 * THREAD_P);
      const int filter = filter_tile * TILE_K + warp / WARPS_P * 32 + filter_lane * 4 + k / 4 * 16 + k % 4;
      if (target[i] >= 0 && filter < FILTERS)
        y[target[i] + (long long)filter * (P * Q)] = outputs[warp][filter_lane][at % (8 * THREAD_P)];
    }
    __syncwarp();
  }
}
