// fft.tiled: the two transforms of overlap-save; between them stands one complex product a frequency and group.
//
//   forward   V[f][g][column][c] = the spectrum, times 2, of the window of channel c at `column`
//   product   M[f][g] = V[f][g] U[f][g], U [channels, filters] = conj(the filters' spectra) / (2 POINTS_H POINTS_W)
//   inverse   y = the first TILE_H x TILE_W points of M's inverse transform, which has no factor of its own
//
// With TERMS the product is one of halves (halves.cuh), real numbers instead of complex ones: V is then, in float16,
// [f][g][column][TERMS][c][re, im], each window scaled by its image's power of two; U [f][g][TERMS][c][..][k][re, im]
// holds a + i b of k as ((a, b), (-b, a)), so M is what it is without, but with one term in halves too. What is scaled is
// undone before y is written. x and y may then be float16.
//
// A column is one (image, tile row, tile column), counted through the batch; a chunk has `columns` of them from `first`
// on. Stride and dilation become phases (unit.py): a channel here is one (c, row phase, column phase) of the input, and
// a launch computes one phase of the outputs. Padding, zeros and the phases are index arithmetic where x is read.
//
// An item is one window or tile: (column, c) or (column, k), the last fastest. A block does ITEMS of one group, which
// lie side by side in each frequency's plane: its accesses are runs of ITEMS numbers whatever the channels are.
// In shared memory an item has POINTS_H rows of POINTS_W numbers, at first real ones, then half a spectrum:
//   row transform      a thread takes rows p and p + POINTS_H / 2 as one complex row, splits the two spectra and keeps
//                      frequencies 0 .. POINTS_W / 2 where the rows lay; the two real ones share the first place
//   column transform   a thread takes one column; that of the first place is two real columns, split like the rows
// Of those two columns the upper half is the lower one's conjugate and left out. The inverse goes the same way back.
#include "../converted.cuh"
#include "../halves/halves.cuh"
#include "transform.cuh"

constexpr int LARGER = POINTS_H > POINTS_W ? POINTS_H : POINTS_W;
constexpr int ITEMS = 256 / LARGER;
constexpr int THREADS = ITEMS * LARGER / 2;
constexpr int LANES = THREADS / ITEMS;  // threads that copy an item
constexpr int PAIRS = POINTS_H / 2;     // of rows
constexpr int PLACES = POINTS_W / 2;    // of columns, the first holding two
constexpr int HALF = POINTS_H / 2;      // the highest frequency that the first place keeps
constexpr int TILES = TILES_H * TILES_W;
constexpr int CHANNELS = C / GROUPS * PHASES_H * PHASES_W;
constexpr int FILTERS = K / GROUPS;
constexpr int FREQUENCIES = POINTS_H * (PLACES - 1) + 2 * (HALF + 1);

// Pitches, in floats, for which half a warp finds its 16 pairs of floats in 32 banks both ways: rows first, or items
// first. (Rows of some that are not square cost twice.)
constexpr int ROW = POINTS_W + (POINTS_H != POINTS_W || POINTS_W == 32 ? 2 : POINTS_W == 16 ? 4 : 0);
constexpr int ITEM = (POINTS_H * ROW + 31) / 32 * 32 + (ITEMS == 8 ? 4 : 2);

static_assert(sizeof(T) == 4 || TERMS > 0, "products of float16 are summed in terms");
static_assert(POINTS_H <= 32 && POINTS_W <= 32 && POINTS_H >= 4 && POINTS_W >= 4, "what registers hold");

__shared__ __align__(16) float points[ITEMS][ITEM];  // of either kernel

// Blocks on a multiprocessor that registers of `forward` must suffice for; 0: that is left to the compiler. Left to it,
// 32 points spill on sm_100: it means to have 5 blocks there, with 96 registers, one or two too few.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
constexpr int FORWARD_BLOCKS = LARGER < 32 ? 0 : 4;
#else
constexpr int FORWARD_BLOCKS = 0;
#endif

constexpr int DEPTH = (TERMS ? TERMS : 1) * CHANNELS;  // complex numbers of V for each column
using Spectrum = Operand<TERMS, float2>::Type;         // one of them
using Product = Operand<TERMS == 1, float2>::Type;     // one of M
// Where M is in halves too, V leaves it as much of their range as U does.
constexpr float LOWERED = TERMS == 1 ? 1.0f / (1 << SHARED) : 1.0f;

#include "places.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS)
forward(const T* __restrict__ x, const unsigned* largest, Spectrum* __restrict__ spectra, long long first,
        int columns, int phase) {
  const Share share(columns, CHANNELS);

  {  // the window, zeros where there is no input
    const int mine = threadIdx.x / LANES, lane = threadIdx.x % LANES, item = share.first + mine;
    const Place place(first + item / CHANNELS);
    const int c = item % CHANNELS / (PHASES_H * PHASES_W);
    const int row = place.row * TILE_H * STEP_H + phase / OUT_PHASES_W * STRIDE_H +
                    item % CHANNELS / PHASES_W % PHASES_H * DILATION_H - PAD_H;
    const int column = place.column * TILE_W * STEP_W + phase % OUT_PHASES_W * STRIDE_W +
                       item % CHANNELS % PHASES_W * DILATION_W - PAD_W;
    const T* image = x + ((long long)place.n * C + share.group * (C / GROUPS) + c) * H * W;
#pragma unroll 4
    for (int i = 0; i < POINTS_H; ++i) {
      const int h = row + i * STEP_H;
      const bool some = mine < share.size && i < WINDOW_H && unsigned(h) < unsigned(H);
#pragma unroll
      for (int t = 0; t < POINTS_W; t += LANES) {
        const int j = lane + t, w = column + j * STEP_W;
        const bool inside = some && j < WINDOW_W && unsigned(w) < unsigned(W);
        if (j >= POINTS_W) continue;
        if constexpr (sizeof(T) == 4) {
          copy_async_4(&points[mine][i * ROW + j], inside ? image + (long long)h * W + w : x, inside);
        } else {
          points[mine][i * ROW + j] = inside ? from_half(image[(long long)h * W + w]) : 0.0f;
        }
      }
    }
    copy_async_commit();
    copy_async_wait<0>();
  }
  wait_for_previous();  // largest is there
  __syncthreads();      // items are complete

  if (threadIdx.x < share.size * PAIRS) {
    float* upper = &points[threadIdx.x / PAIRS][threadIdx.x % PAIRS * ROW];
    float* lower = upper + PAIRS * ROW;
    float scale = 1;
    if constexpr (TERMS > 0) {
      const Place place(first + (share.first + int(threadIdx.x) / PAIRS) / CHANNELS);
      scale = scale_of<HEADROOM>(largest[place.n]);
    }
    float2 v[POINTS_W];
#pragma unroll
    for (int j = 0; j < POINTS_W; j += 2) {
      const float2 a = pair_at(upper + j), b = pair_at(lower + j);
      v[j] = make_float2(a.x * scale, b.x * scale);
      v[j + 1] = make_float2(a.y * scale, b.y * scale);
    }
    transform<true>(v);
    pair_at(upper) = make_float2(v[0].x, v[PLACES].x);
    pair_at(lower) = make_float2(v[0].y, v[PLACES].y);
#pragma unroll
    for (int k = 1; k < PLACES; ++k) {
      const Two rows = split(v[k], v[POINTS_W - k]);
      pair_at(upper + 2 * k) = rows.a;
      pair_at(lower + 2 * k) = rows.b;
    }
  }
  __syncthreads();  // all rows are transformed

  const int mine = threadIdx.x % ITEMS, place = threadIdx.x / ITEMS;
  if (place >= PLACES || mine >= share.size) return;
  float2 v[POINTS_H];
#pragma unroll
  for (int i = 0; i < POINTS_H; ++i) v[i] = pair_at(&points[mine][i * ROW + 2 * place]);
  transform<true>(v);
  if (place == 0) {
#pragma unroll
    for (int f = 1; f < HALF; ++f) {
      const Two both = split(v[f], v[POINTS_H - f]);
      v[f] = both.a;
      v[POINTS_H - f] = both.b;
    }
  }
  const int item = share.first + mine;
  const long long plane = (long long)columns * DEPTH;
  const Frequencies at(share.group, place, plane);
  Spectrum* to = spectra + at.first + (long long)(item / CHANNELS) * DEPTH + item % CHANNELS;
  const auto put = [](Spectrum* to, float2 value) {
    put_terms<TERMS, float2>(to, CHANNELS, make_float2(LOWERED * value.x, LOWERED * value.y));
  };
  if (place == 0) {
    put(to + (HALF + 1) * at.step, make_float2(2 * v[0].y, 0));
    put(to + (2 * HALF + 1) * at.step, make_float2(2 * v[HALF].y, 0));
    v[0] = make_float2(2 * v[0].x, 0);
    v[HALF] = make_float2(2 * v[HALF].x, 0);
  }
  Spectrum* upper = to + at.last;
#pragma unroll
  for (int f = 0; f <= HALF; ++f, to += at.step) put(to, v[f]);
#pragma unroll
  for (int f = HALF + 1; f < POINTS_H; ++f, upper += at.turn) put(upper, v[f]);
}

// Outputs of a tile at most, along each axis.
constexpr int HEIGHT = TILE_H * OUT_PHASES_H < P ? TILE_H : (P + OUT_PHASES_H - 1) / OUT_PHASES_H;
constexpr int WIDTH = TILE_W * OUT_PHASES_W < Q ? TILE_W : (Q + OUT_PHASES_W - 1) / OUT_PHASES_W;

constexpr bool WHOLE = TILES == 1 && OUT_PHASES_H * OUT_PHASES_W == 1;  // a tile is an image's plane of y

// Where an item's outputs begin in y, how many rows and columns of them there are, and what undoes its scales.
struct Tile {
  long long start;
  int rows, columns;
  float lesser, larger;
};

__device__ __forceinline__ Tile tile_of(int group, int item, long long first, int phase, const unsigned* largest,
                                        const float* unscales) {
  const Place place(first + item / FILTERS);
  const int k = group * FILTERS + item % FILTERS;
  const int p = place.row * TILE_H * OUT_PHASES_H + phase / OUT_PHASES_W;
  const int q = place.column * TILE_W * OUT_PHASES_W + phase % OUT_PHASES_W;
  float a = 1, b = 1;
  if constexpr (TERMS > 0) a = unscales[k], b = unscale_of<HEADROOM>(largest[place.n]);
  return {(((long long)place.n * K + k) * P + p) * Q + q, min(TILE_H, (P - p + OUT_PHASES_H - 1) / OUT_PHASES_H),
          min(TILE_W, (Q - q + OUT_PHASES_W - 1) / OUT_PHASES_W), fminf(a, b), fmaxf(a, b)};
}

// An output as it is stored, its scales undone: see unscaled in halves.cuh.
__device__ __forceinline__ T output(float v, [[maybe_unused]] const Tile& tile) {
  if constexpr (TERMS > 0) v = v * (1 / LOWERED) * tile.lesser * tile.larger;
  return converted<T>(v);
}

// Of 32 points six blocks, with 80 registers a thread, took an H200 longer than four with 100.
extern "C" __global__ void __launch_bounds__(THREADS, LARGER < 32 ? 8 : 4)
inverse(const Product* products, const unsigned* __restrict__ largest, const float* __restrict__ unscales,
        T* __restrict__ y, long long first, int columns, int phase) {
  const Share share(columns, FILTERS);
  __shared__ Tile tiles[ITEMS];
  if (threadIdx.x < share.size) {
    tiles[threadIdx.x] = tile_of(share.group, share.first + threadIdx.x, first, phase, largest, unscales);
  }

  wait_for_previous();  // M is there
  {
    const int mine = threadIdx.x % ITEMS, place = threadIdx.x / ITEMS;
    if (place < PLACES && mine < share.size) {
      const Frequencies at(share.group, place, (long long)columns * FILTERS);
      const Product* from = products + at.first + share.first + mine;
      float2 v[POINTS_H];
      const Product *lower = from, *upper = from + at.last;
#pragma unroll
      for (int f = 0; f <= HALF; ++f, lower += at.step) v[f] = pair_of(*lower);
#pragma unroll
      for (int f = HALF + 1; f < POINTS_H; ++f, upper += at.turn) v[f] = pair_of(*upper);
      if (place == 0) {
#pragma unroll
        for (int f = 1; f < HALF; ++f) {
          const Two both = join({v[f], v[POINTS_H - f]});
          v[f] = both.a;
          v[POINTS_H - f] = both.b;
        }
        v[0].y = pair_of(*lower).x;
        v[HALF].y = pair_of(lower[HALF * at.step]).x;
      }
      transform<false>(v);
#pragma unroll
      for (int i = 0; i < POINTS_H; ++i) pair_at(&points[mine][i * ROW + 2 * place]) = v[i];
    }
  }
  __syncthreads();  // all columns are transformed

  if (threadIdx.x < share.size * PAIRS) {
    float* upper = &points[threadIdx.x / PAIRS][threadIdx.x % PAIRS * ROW];
    float* lower = upper + PAIRS * ROW;
    float2 v[POINTS_W];
    const float2 a = pair_at(upper), b = pair_at(lower);
    v[0] = make_float2(a.x, b.x);
    v[PLACES] = make_float2(a.y, b.y);
#pragma unroll
    for (int k = 1; k < PLACES; ++k) {
      const Two row = join({pair_at(upper + 2 * k), pair_at(lower + 2 * k)});
      v[k] = row.a;
      v[POINTS_W - k] = row.b;
    }
    transform<false>(v);
#pragma unroll
    for (int j = 0; j < POINTS_W; j += 2) {
      pair_at(upper + j) = make_float2(v[j].x, v[j + 1].x);
      pair_at(lower + j) = make_float2(v[j].y, v[j + 1].y);
    }
  }
  __syncthreads();  // tiles are complete

  if constexpr (WHOLE) {
    // Outputs of the block's items are neighbours in y: threads write them in that order, whatever rows they are of.
    constexpr int STEP_J = THREADS % WIDTH, STEP_I = THREADS / WIDTH % HEIGHT, STEP_ITEM = THREADS / (WIDTH * HEIGHT);
    int j = threadIdx.x % WIDTH, i = threadIdx.x / WIDTH % HEIGHT, mine = threadIdx.x / (WIDTH * HEIGHT);
#pragma unroll 4
    while (mine < share.size) {
      const Tile& tile = tiles[mine];
      y[tile.start + i * WIDTH + j] = output(points[mine][i * ROW + j], tile);
      j += STEP_J;
      i += STEP_I + (j >= WIDTH);
      j -= j >= WIDTH ? WIDTH : 0;
      mine += STEP_ITEM + (i >= HEIGHT);
      i -= i >= HEIGHT ? HEIGHT : 0;
    }
  } else {
    // A row of a tile after another, by as many lanes as it has numbers, or some more.
    constexpr int ROW_LANES = WIDTH > 16 ? 32 : WIDTH > 8 ? 16 : 8;
    const int j = threadIdx.x % ROW_LANES;
    for (int mine = threadIdx.x / ROW_LANES; mine < share.size; mine += THREADS / ROW_LANES) {
      const Tile tile = tiles[mine];
      if (j >= tile.columns) continue;
      T* to = y + tile.start + j * OUT_PHASES_W;
#pragma unroll 4
      for (int i = 0; i < tile.rows; ++i) {
        to[i * (OUT_PHASES_H * Q)] = output(points[mine][i * ROW + j], tile);
      }
    }
  }
}
