// winograd.f<m>: the transforms of F(P x Q, R x S), V = B^T d B and Y = A^T M A; a thread a tile.
//
// The shape in front is that of one tile: a window of H x W inputs, P x Q outputs. So layers share what is compiled;
// what differs between them comes in Geometry. In front stand too, exact,  BT_H [TH][H], BT_W [TW][W], AT_H [P][TH],
// AT_W [Q][TW], and the bytes of shared memory of both kernels, SHARED_IN and SHARED_OUT.
// A thread copies its window to shared memory, in a lane of its own, and transforms rows and columns there: all loads
// are under way at once, loops over rows and columns need no unrolling, and windows of 10 x 10 take no more registers
// than small ones.
//
//   V [TH TW][channels][tiles], M [TH TW][filters][tiles]: tiles fastest, so that a warp moves whole lines of a plane.
//
// With TERMS the product is one of halves (halves.cuh), and V [TH TW][groups][TERMS][channels of a group][tiles]
// float16: each input is scaled by its image's power of two before it is transformed, so that all images under a tile
// are alike, and each output by the inverse and that of its filter. B^T d B is no larger than d.
//
// Tiles lie on a mosaic of images. An axis of it is a line of items (images, times the output's phases where the filter
// is dilated), `pitch` positions apart. Neighbours share their padding; outputs that fall between images are dropped:
//
//   pitch 5: images of 4 x 4, padding 1, 3 x 3 filters          input     . a b c d . e f g h . i j k l .
//   tiles of 4 outputs go on across the images                  output    A B C D - E F G H - I J K L
//                                                               tiles    [0      |1      |2      |3
//
// Where that saves no tiles, tiles start anew with every item, `pitch` is a whole number of tiles, and nothing wraps.

#include "../halves/halves.cuh"

constexpr int TH = sizeof(BT_H) / sizeof(BT_H[0]), TW = sizeof(BT_W) / sizeof(BT_W[0]);
static_assert(sizeof(T) == 4 && TH >= H && TW >= W, "windows are copied in words, and are no larger than transforms");

// One axis of the mosaic.
struct Axis {
  int pitch;    // positions from an item to the next
  int wrap;     // the position at which a window goes on in the next item; 0: never
  int phases;   // of the output: item = image * phases + phase
  int step;     // input elements from a position to the next
  int stride;   // input elements from a phase to the next
  int size;     // input elements
  int outputs;  // output elements
  int tiles;
};

struct Geometry {
  Axis row, column;
  int images, across;     // in the batch; side by side on the mosaic
  int planes;             // C of x
  int channels, filters;  // planes at each position of V and of M
  int first, tiles;       // of this chunk
  int together;           // channels that neighbouring threads take: phases of the columns, neighbours in memory
  int group_channels;     // of a group, phases and pieces included
};

constexpr int THREADS = 128, LANES = 32, WARPS = THREADS / LANES;
constexpr int PITCH = LANES + (LANES + Q - 1) / Q;  // the Q outputs of a row of a tile lie in different banks
using Half = T[H][TW][THREADS];                     // d of each thread in the first W, then d B
struct Staging {
  T staged[WARPS][P][TW][PITCH];  // A^T M of each thread, then its outputs in the first Q
  long long starts[P][LANES];     // where in y the row begins, in the leftmost image of the mosaic and in plane 0
  int limits[P][LANES];           // columns from here on are not of this row
  int columns[Q][PITCH];          // from there to each column's image and place, or OUTSIDE
  int images[TERMS ? P + Q : 1][PITCH];  // the leftmost image's number for each row, and what each column adds to it
};
static_assert(sizeof(Half) == SHARED_IN && sizeof(Staging) == SHARED_OUT, "what the launches give");
constexpr int OUTSIDE = 0x7fffffff;

// A position on an axis, and how a window goes on from there. (Outputs need not: where nothing wraps, a tile's outputs
// never pass the end of an item.)
struct Place {
  int image, phase, local;

  __device__ __forceinline__ Place(const Axis& axis, int position) {
    const int item = position / axis.pitch;
    image = item / axis.phases;
    phase = item % axis.phases;
    local = position % axis.pitch;
  }

  __device__ __forceinline__ void advance(const Axis& axis) {
    if (++local != axis.wrap) return;
    local = 0;
    if (++phase != axis.phases) return;
    phase = 0;
    ++image;
  }
};

// to = matrix from. Unrolled, the matrix is known: zeros vanish (the compiler alone must keep 0 * x).
template <int TO, int FROM>
__device__ __forceinline__ void apply(const double (&matrix)[TO][FROM], const T (&from)[FROM], T (&to)[TO]) {
#pragma unroll
  for (int i = 0; i < TO; ++i) {
    bool begun = false;
#pragma unroll
    for (int j = 0; j < FROM; ++j) {
      const T factor = T(matrix[i][j]);
      if (factor == 0) continue;
      to[i] = begun ? to[i] + factor * from[j] : factor * from[j];
      begun = true;
    }
    if (!begun) to[i] = 0;
  }
}

// Images of a row of the mosaic that there are, from the one at its left end on.
__device__ __forceinline__ int images_right_of(const Geometry& g, int row_image) {
  return max(0, min(g.across, g.images - row_image * g.across));
}

// The factors of images under the columns of a window in one row of the mosaic; 0 where there is none.
__device__ __forceinline__ void find_scales(const Geometry& g, const unsigned* largest, int tile, int row_image,
                                            float (&scales)[W]) {
  Place column(g.column, (g.first + tile) % g.column.tiles * Q);
#pragma unroll
  for (int j = 0; j < W; ++j, column.advance(g.column)) {
    const int image = row_image * g.across + column.image;
    scales[j] = column.image < g.across && image < g.images ? scale_of<0>(largest[image]) : 0;
  }
}

// V [TH TW][channels][tiles] of this chunk from x [N, C, H, W]; channels [channels] of {plane, first row, first column,
// 0} say where the window of a channel begins: phases of the stride and pieces of the filter are channels too.
extern "C" __global__ void __launch_bounds__(THREADS)
transform_input(const T* __restrict__ x, const int4* __restrict__ channels, const Geometry* __restrict__ geometry,
                const unsigned* largest, Operand<TERMS, T>::Type* __restrict__ v) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto& half = *reinterpret_cast<Half*>(shared);

  const Geometry& g = *geometry;
  const int mine = threadIdx.x;
  const int tile = blockIdx.x * (THREADS / g.together) + mine / g.together;
  const int index = blockIdx.y * g.together + mine % g.together;
  if (tile >= g.tiles) return;
  const int4 channel = channels[index];
  const int plane = g.row.size * g.column.size, image = g.planes * plane;

  int columns[W];  // elements from the first image's plane of a row to where each column is, or OUTSIDE
  Place column(g.column, (g.first + tile) % g.column.tiles * Q);
#pragma unroll
  for (int j = 0; j < W; ++j, column.advance(g.column)) {
    const int at = column.local * g.column.step + column.phase * g.column.stride + channel.z;
    const bool inside = column.image < g.across && unsigned(at) < unsigned(g.column.size);
    columns[j] = inside ? column.image * image + at : OUTSIDE;
  }

  Place row(g.row, (g.first + tile) / g.column.tiles * P);
#pragma unroll 1
  for (int i = 0; i < H; ++i, row.advance(g.row)) {
    const int at = row.local * g.row.step + row.phase * g.row.stride + channel.y;
    const int limit = unsigned(at) < unsigned(g.row.size) ? images_right_of(g, row.image) * image : 0;
    const T* from = x;
    const long long in_image = ((long long)channel.x * g.row.size + at) * g.column.size;
    if (limit > 0) from += (long long)row.image * g.across * image + in_image;
#pragma unroll
    for (int j = 0; j < W; ++j) {
      const bool inside = columns[j] < limit;
      copy_async_4(&half[i][j][mine], from + (inside ? columns[j] : 0), inside);
    }
  }
  copy_async_commit();
  copy_async_wait<0>();  // a thread's own: no other reads them
  wait_for_previous();   // largest is there

  [[maybe_unused]] float scales[W];
  [[maybe_unused]] Place image_row(g.row, (g.first + tile) / g.column.tiles * P);
#pragma unroll 1
  for (int i = 0, scaled = -1; i < H; ++i) {
    T d[W], out[TW];
#pragma unroll
    for (int j = 0; j < W; ++j) d[j] = half[i][j][mine];
    if constexpr (TERMS > 0) {
      if (image_row.image != scaled) find_scales(g, largest, tile, scaled = image_row.image, scales);
#pragma unroll
      for (int j = 0; j < W; ++j) d[j] *= scales[j];
      image_row.advance(g.row);
    }
    apply(BT_W, d, out);
#pragma unroll
    for (int b = 0; b < TW; ++b) half[i][b][mine] = out[b];
  }

  constexpr int PARTS = TERMS ? TERMS : 1;
  const long long position = (long long)PARTS * g.channels * g.tiles;  // elements from a position to the next
  const long long part = (long long)g.group_channels * g.tiles;        // from a term to the next
  v += (index / g.group_channels * (PARTS - 1LL) * g.group_channels + index) * g.tiles + tile;
#pragma unroll 1
  for (int b = 0; b < TW; ++b) {
    T d[H], out[TH];
#pragma unroll
    for (int i = 0; i < H; ++i) d[i] = half[i][b][mine];
    apply(BT_H, d, out);
#pragma unroll
    for (int a = 0; a < TH; ++a) put_terms<TERMS, T>(v + (a * TW + b) * position, part, out[a]);
  }
}

// y [N, K, P, Q] from M [TH TW][filters][tiles] of this chunk; a warp takes one filter and LANES tiles. Rows of outputs
// go through shared memory: there a tile has Q neighbours, in y neighbouring threads write neighbours.
extern "C" __global__ void __launch_bounds__(THREADS)
transform_output(const T* m, const Geometry* __restrict__ geometry, const unsigned* __restrict__ largest,
                 const float* __restrict__ unscales, T* __restrict__ y) {
  extern __shared__ __align__(16) unsigned char shared[];
  auto& [all_staged, starts, limits, columns, images] = *reinterpret_cast<Staging*>(shared);

  const Geometry& g = *geometry;
  const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
  const int first = blockIdx.x * LANES, tile = first + lane, filter = blockIdx.y * WARPS + warp;
  const int plane = g.row.outputs * g.column.outputs, image = g.filters * plane;
  auto& staged = all_staged[warp];

  // Where the tiles' rows and columns are, the same for all filters: shared out to the warps.
#pragma unroll 1
  for (int i = warp; i < P + Q; i += WARPS) {
    if (i < P) {
      const Place row(g.row, (g.first + tile) / g.column.tiles * P + i);
      const int at = row.local * g.row.phases + row.phase;
      limits[i][lane] = at < g.row.outputs ? images_right_of(g, row.image) * image : 0;
      starts[i][lane] = (long long)row.image * g.across * image + at * g.column.outputs;
      if constexpr (TERMS > 0) images[i][lane] = row.image * g.across;
    } else {
      const Place column(g.column, (g.first + tile) % g.column.tiles * Q + i - P);
      const int at = column.local * g.column.phases + column.phase;
      columns[i - P][lane] = column.image < g.across && at < g.column.outputs ? column.image * image + at : OUTSIDE;
      if constexpr (TERMS > 0) images[i][lane] = column.image;
    }
  }

  wait_for_previous();  // M is there
  if (tile < g.tiles && filter < g.filters) {
    const long long position = (long long)g.filters * g.tiles;
    m += (long long)filter * g.tiles + tile;
#pragma unroll 1
    for (int b = 0; b < TW; ++b) {
      T products[TH], out[P];
#pragma unroll
      for (int a = 0; a < TH; ++a) products[a] = m[(a * TW + b) * position];
      apply(AT_H, products, out);
#pragma unroll
      for (int p = 0; p < P; ++p) staged[p][b][lane] = out[p];
    }
#pragma unroll 1
    for (int p = 0; p < P; ++p) {
      T sums[TW], out[Q];
#pragma unroll
      for (int b = 0; b < TW; ++b) sums[b] = staged[p][b][lane];
      apply(AT_W, sums, out);
#pragma unroll
      for (int q = 0; q < Q; ++q) staged[p][q][lane] = out[q];
    }
  }
  __syncthreads();

  if (filter >= g.filters) return;
  y += (long long)filter * plane;
  [[maybe_unused]] const float unscale = TERMS > 0 ? unscales[filter] : 1.0f;
#pragma unroll 1
  for (int i = lane; i < min(LANES, g.tiles - first) * Q; i += LANES) {
    const int from = i / Q, q = i % Q, at = columns[q][from];
    long long to[P];
    T values[P];
#pragma unroll
    for (int p = 0; p < P; ++p) to[p] = starts[p][from] + at, values[p] = staged[p][q][from];
#pragma unroll
    for (int p = 0; p < P; ++p) {
      if (at >= limits[p][from]) continue;
      if constexpr (TERMS > 0) {
        values[p] = unscaled(values[p], unscale, unscale_of<0>(largest[images[p][from] + images[P + q][from]]));
      }
      y[to[p]] = values[p];
    }
  }
}
