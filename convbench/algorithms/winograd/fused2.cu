// winograd.fused2: y = A^T [ sum over c of (G g G^T) * (B^T d B) ] A, F(2 x 2, 3 x 3), in one kernel.
//
// A block of 8 warps computes TILE_K filters x TILE_T tiles of 2 x 2 outputs of one group, at all 16 positions, in
// registers. A tile is one (n, output phase, tile row, tile column), counted through the whole batch; a channel is one
// of the polyphase's (unit.py). In steps of STEP channels a block brings into shared memory
//   filters U [16][STEP][TILE_K]  from packed [GROUPS][filter tiles][SPLIT * STEPS][16][STEP][TILE_K], 0 past the end
//   inputs  V [16][STEP][TILE_T]  windows d of 4 x 4 inputs, gathered from x [N, C, H, W], transformed on the way
// and each warp adds up two of the 16 outer products a channel. channels [(SPLIT * STEPS + 1) * STEP] of {offset, row,
// column, 0} say where a channel reads relative to the tile's first input: offset in elements, row and column for the
// test of what is padding. Channels past the last have a row far outside.
//
// The next step's U is copied behind this one's products, and its windows travel in registers: one barrier a step. At
// the end the sums M change hands through the same shared memory, ROUND filters of each thread at a time, and become
// 2 x 2 outputs. V and M are never in global memory.
//
// SPLIT > 1 shares the channels of an output out to SPLIT blocks, which write parts [SPLIT][N, K, P, Q]; add_parts adds
// them up in a fixed order.
constexpr int FILTERS = K / GROUPS;
constexpr int FILTER_TILES = (FILTERS + TILE_K - 1) / TILE_K;
constexpr int TILES_AN_IMAGE = PHASES_H * PHASES_W * TILES_H * TILES_W;
constexpr long long TILES = (long long)N * TILES_AN_IMAGE;
constexpr long long OUTPUTS = (long long)N * K * P * Q;
#include "../parts.cuh"

constexpr int THREADS = 256, POSITIONS_A_WARP = 2;
constexpr int LANES_T = TILE_T / 8, LANES_K = 32 / LANES_T;
constexpr int THREAD_K = TILE_K / LANES_K, THREAD_T = 8;  // filters and tiles of a thread, at each of two positions
constexpr int QUADS_K = THREAD_K / 4, QUADS_T = THREAD_T / 4;

constexpr int U_SIZE = 16 * STEP * TILE_K, V_SIZE = 16 * STEP * TILE_T;
constexpr int U_COPIES = U_SIZE / 4 / THREADS;                                    // quads a thread copies each step
constexpr int LOADERS = STEP * TILE_T < THREADS ? STEP * TILE_T : THREADS;        // threads that gather windows,
constexpr int WINDOWS = STEP * TILE_T / LOADERS, CHANNELS_AT_ONCE = LOADERS / TILE_T;  // each so many, of one tile

// M [16][ROWS][PITCH], twice. The pitch spreads the quads that eight lanes write over all banks.
constexpr int ROUND = STEP / 4, ROWS = LANES_K * ROUND, PITCH = TILE_T + TILE_T / 8, M_SIZE = 16 * ROWS * PITCH;

static_assert(TILE_T == 32 || TILE_T == 64, "4 or 8 lanes along tiles");
static_assert(THREAD_K % 4 == 0 && THREAD_K % ROUND == 0, "threads hold quads of filters, and whole rounds");
static_assert(U_SIZE / 4 % THREADS == 0 && STEP % CHANNELS_AT_ONCE == 0, "threads copy equally much");
static_assert(CHANNELS_AT_ONCE % 4 == 0 && 4 % LANES_C == 0, "a thread's channels are swizzled alike");

// LANES_C lanes side by side gather for as many channels: the phases of a stride, whose inputs are neighbours in a row
// of x. So that a warp still writes to all banks, tile t of channel c then stands in V at t ^ swizzle(c).
__device__ __forceinline__ constexpr int swizzle(int c) { return LANES_C == 1 ? 0 : (c & 1) * 16 + (c & 2) * 4; }

struct alignas(16) Quad { T at[4]; };
struct Window { T at[4][4]; };

// Where a tile lies: its image, the phase of its outputs, and its place among the tiles of that phase.
struct Tile { int n, phase_h, phase_w, row, column; };

__device__ Tile tile_of(long long tile) {
  const int rest = int(tile % TILES_AN_IMAGE), phase = rest / (TILES_H * TILES_W);
  return {int(tile / TILES_AN_IMAGE), phase / PHASES_W, phase % PHASES_W, rest / TILES_W % TILES_H, rest % TILES_W};
}

// Where a thread gathers: the first input of its tile's window. Past the last tile, row is far outside.
struct Source { long long offset; int row, column; };

__device__ Source source_of(long long tile, int group) {
  if (tile >= TILES) return {0, 1 << 29, 0};
  const Tile t = tile_of(tile);
  const int row = t.phase_h * STRIDE_H + t.row * 2 * JUMP_H - PAD_H;
  const int column = t.phase_w * STRIDE_W + t.column * 2 * JUMP_W - PAD_W;
  return {((long long)t.n * C + group * (C / GROUPS)) * (H * W) + (long long)row * W + column, row, column};
}

__device__ __forceinline__ Window gather(const T* x, const Source& from, const int4& channel) {
  x += from.offset + channel.x;
  const int row = from.row + channel.y, column = from.column + channel.z;
  Window d;
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const bool inside = unsigned(row + i * JUMP_H) < unsigned(H) && unsigned(column + j * JUMP_W) < unsigned(W);
      d.at[i][j] = inside ? x[i * JUMP_H * W + j * JUMP_W] : T(0);
    }
  return d;
}

// B^T d B into v [16][STEP][TILE_T].  B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1].
__device__ __forceinline__ void transform_input(const Window& d, T* v) {
  constexpr int NEXT = STEP * TILE_T;
  T e[4][4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    e[0][j] = d.at[0][j] - d.at[2][j];
    e[1][j] = d.at[1][j] + d.at[2][j];
    e[2][j] = d.at[2][j] - d.at[1][j];
    e[3][j] = d.at[1][j] - d.at[3][j];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[(4 * i + 0) * NEXT] = e[i][0] - e[i][2];
    v[(4 * i + 1) * NEXT] = e[i][1] + e[i][2];
    v[(4 * i + 2) * NEXT] = e[i][2] - e[i][1];
    v[(4 * i + 3) * NEXT] = e[i][1] - e[i][3];
  }
}

// A^T m A, the 2 x 2 outputs of a tile, to target where they lie inside.  A^T = [1 1 1 0; 0 1 -1 -1].
__device__ __forceinline__ void write_outputs(const T* m, T* target, int rows, int columns) {
  T e[2][4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const T a = m[j * ROWS * PITCH], b = m[(4 + j) * ROWS * PITCH], c = m[(8 + j) * ROWS * PITCH];
    e[0][j] = a + b + c;
    e[1][j] = b - c - m[(12 + j) * ROWS * PITCH];
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    if (i * PHASES_H >= rows) continue;
    T* row = target + i * PHASES_H * Q;
    if (columns > 0) row[0] = e[i][0] + e[i][1] + e[i][2];
    if (columns > PHASES_W) row[PHASES_W] = e[i][1] - e[i][2] - e[i][3];
  }
}

__device__ __forceinline__ void copy_filters(T* u, const T* packed) {
#pragma unroll
  for (int i = 0; i < U_COPIES; ++i) copy_async_16(u + i * 4 * THREADS, packed + i * 4 * THREADS, true);
  copy_async_commit();
}

extern "C" __global__ void __launch_bounds__(THREADS)
fused2(const T* __restrict__ x, const T* __restrict__ packed, const int4* __restrict__ channels, T* __restrict__ y) {
  extern __shared__ __align__(16) T shared[];  // U and V, twice; later M, twice
  let_next_begin();

  // Blocks that share tiles are neighbours, so that the inputs they gather are still in the L2 cache.
  const int filter_tile = blockIdx.x % FILTER_TILES, group = blockIdx.x / FILTER_TILES % GROUPS;
  const int share = blockIdx.x / (FILTER_TILES * GROUPS) % SPLIT;
  const long long first_tile = (long long)(blockIdx.x / (FILTER_TILES * GROUPS * SPLIT)) * TILE_T;

  // Four lanes along one side, eight along the other, so that lanes that read the same quad are 1 or 2 apart: a warp's
  // read of 16 bytes a lane then takes two turns, not four.
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int along_4 = lane / 16 * 2 + lane % 2, along_8 = lane / 2 % 8;
  const int lane_k = LANES_K == 4 ? along_4 : along_8, lane_t = LANES_T == 4 ? along_4 : along_8;
  const int first_position = warp * POSITIONS_A_WARP;
  const int my_u = first_position * STEP * TILE_K + lane_k * 4;  // the first quads of this thread
  const int my_v = U_SIZE + first_position * STEP * TILE_T, my_t = lane_t * 4;

  const bool gathers = LOADERS == THREADS || threadIdx.x < LOADERS;
  const int my_channel = threadIdx.x % LANES_C + threadIdx.x / (LANES_C * TILE_T) * LANES_C;
  const int from_tile = threadIdx.x / LANES_C % TILE_T;
  const Source from = source_of(first_tile + from_tile, group);
  packed += (((long long)group * FILTER_TILES + filter_tile) * SPLIT + share) * STEPS * U_SIZE + threadIdx.x * 4;
  channels += share * STEPS * STEP + my_channel;

  int4 next[WINDOWS];  // where the windows after those under way are
  Window d[WINDOWS];
  auto gather_windows = [&] {
#pragma unroll
    for (int i = 0; i < WINDOWS; ++i) d[i] = gather(x, from, next[i]);
  };
  auto look_up = [&] {
#pragma unroll
    for (int i = 0; i < WINDOWS; ++i) next[i] = channels[i * CHANNELS_AT_ONCE];
    channels += STEP;
  };
  auto transform_windows = [&](T* v) {
#pragma unroll
    for (int i = 0; i < WINDOWS; ++i)
      transform_input(d[i], v + (my_channel + i * CHANNELS_AT_ONCE) * TILE_T + (from_tile ^ swizzle(my_channel)));
  };

  copy_filters(shared + threadIdx.x * 4, packed);
  if (gathers) {
    look_up();
    gather_windows();
    look_up();
    transform_windows(shared + U_SIZE);
  }
  copy_async_wait<0>();
  __syncthreads();

  T total[POSITIONS_A_WARP][THREAD_K][THREAD_T] = {};
  int now = 0, later = U_SIZE + V_SIZE;  // where this step's operands are, and where the next one's go
  for (int step = 0; step < STEPS; ++step) {
    const bool more = step + 1 < STEPS;
    if (more) {
      packed += U_SIZE;
      copy_filters(shared + later + threadIdx.x * 4, packed);
      if (gathers) {
        gather_windows();
        look_up();
      }
    }
    const T* u = shared + now + my_u;
    const T* v = shared + now + my_v;
#pragma unroll
    for (int c = 0; c < STEP; ++c)
#pragma unroll
      for (int position = 0; position < POSITIONS_A_WARP; ++position) {
        const int row = position * STEP + c;
        Quad f[QUADS_K], w[QUADS_T];
#pragma unroll
        for (int i = 0; i < QUADS_K; ++i)
          f[i] = *reinterpret_cast<const Quad*>(u + row * TILE_K + i * 4 * LANES_K);
#pragma unroll
        for (int i = 0; i < QUADS_T; ++i)
          w[i] = *reinterpret_cast<const Quad*>(v + row * TILE_T + ((my_t + i * 4 * LANES_T) ^ swizzle(c)));
#pragma unroll
        for (int k = 0; k < THREAD_K; ++k)
#pragma unroll
          for (int t = 0; t < THREAD_T; ++t) total[position][k][t] += f[k / 4].at[k % 4] * w[t / 4].at[t % 4];
      }
    if (more) {
      if (gathers) transform_windows(shared + later + U_SIZE);
      copy_async_wait<0>();
    }
    __syncthreads();  // the next operands are complete, and these may be overwritten
    const int done = now;
    now = later;
    later = done;
  }

  const int my_tile = threadIdx.x % TILE_T;
  const long long tile = first_tile + my_tile;
  const Tile at = tile_of(tile);
  const int p = at.row * 2 * PHASES_H + at.phase_h, q = at.column * 2 * PHASES_W + at.phase_w;
  y += share * OUTPUTS + ((long long)at.n * K + group * FILTERS) * (P * Q) + (long long)p * Q + q;
  const int rows = tile < TILES ? P - p : 0;
#pragma unroll
  for (int round = 0; round < THREAD_K / ROUND; ++round) {
    T* const m = shared + (round & 1) * M_SIZE;  // [16][ROWS][PITCH], row lane_k * ROUND + i
#pragma unroll
    for (int position = 0; position < POSITIONS_A_WARP; ++position)
#pragma unroll
      for (int i = 0; i < ROUND; ++i)
#pragma unroll
        for (int j = 0; j < QUADS_T; ++j) {
          const T* sums = total[position][round * ROUND + i] + j * 4;
          T* const row = m + ((first_position + position) * ROWS + lane_k * ROUND + i) * PITCH;
          *reinterpret_cast<Quad*>(row + (lane_t + j * LANES_T) * 4) = {sums[0], sums[1], sums[2], sums[3]};
        }
    __syncthreads();  // M is complete; its other half is read by nobody any more
#pragma unroll
    for (int first = 0; first < ROWS; first += THREADS / TILE_T) {
      const int row = first + threadIdx.x / TILE_T, k = round * ROUND + row % ROUND;
      const int filter = filter_tile * TILE_K + k / 4 * (4 * LANES_K) + row / ROUND * 4 + k % 4;
      if (filter < FILTERS) write_outputs(m + row * PITCH + my_tile, y + (long long)filter * (P * Q), rows, Q - q);
    }
  }
}
