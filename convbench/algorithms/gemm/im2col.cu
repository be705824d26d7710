// gemm.im2col: images stretched into a matrix with a row for each tap (c, r, s) and a column for each output pixel,
//
//   M[g, c r s, p q] = x[n, g, c, STRIDE_H p - PAD_H + DILATION_H r, STRIDE_W q - PAD_W + DILATION_W s],  0 on padding.
//
// JOINED = 1: one matrix [GROUPS][DEPTH][PITCH] for IMAGES images, whose columns follow one another, n P Q + p Q + q;
// the product goes to a place of its own, [K][PITCH], and `part` writes it to y. JOINED = 0: a matrix for each image,
// [IMAGES][GROUPS][DEPTH][PITCH], or a panel of it, pixels first .. first + COLUMNS - 1 (gemm.panel). Rows begin on 32
// bytes; columns past the last, as far as PITCH, are zeros; rows past a group's last tap are left alone. Numbers are
// copied as they are, halves as their bits.
//
// A thread writes one column of the rows of EACH channels: neighbouring lanes write neighbouring columns, 128 bytes of
// whole sectors at a time, and read neighbouring pixels. (With 16 bytes a lane each of the four reads would be spread
// over four times as many lines.) What is read again for the next tap is in the first-level cache.
#include "../../devices/ptx.cuh"

constexpr int CHANNELS = C / GROUPS;
constexpr int TAPS = CHANNELS * R * S;
constexpr int THREADS = 256;
constexpr long long MATRIX = (long long)GROUPS * DEPTH * PITCH;
constexpr long long PLANE = (long long)H * W;
constexpr long long STRETCHERS = (long long)(C + EACH - 1) / EACH * PITCH;  // threads, for a matrix
constexpr long long PARTERS = (long long)(K + EACH_FILTERS - 1) / EACH_FILTERS * COLUMNS;
static_assert(DEPTH >= TAPS && PITCH >= COLUMNS && (!JOINED || COLUMNS == IMAGES * P * Q), "a row holds all columns");

// Where an output pixel's first tap reads: an image of the chunk, row and column. What is no pixel reads far outside.
struct Pixel { int image, row, column; };

__device__ __forceinline__ Pixel pixel_of(int column, int images, int first) {
  const int image = JOINED ? column / (P * Q) : blockIdx.y, pixel = JOINED ? column % (P * Q) : first + column;
  if (image >= images || column >= COLUMNS || pixel >= P * Q) return {0, -(1 << 30), 0};
  return {image, pixel / Q * STRIDE_H - PAD_H, pixel % Q * STRIDE_W - PAD_W};
}

// x [images, C, H, W] into the matrix.
extern "C" __global__ void __launch_bounds__(THREADS)
im2col(const T* __restrict__ x, T* __restrict__ matrix, int images, int first_pixel) {
  const long long thread = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (thread >= STRETCHERS) return;
  const int column = int(thread % PITCH), first = int(thread / PITCH) * EACH;
  const Pixel from = pixel_of(column, images, first_pixel);
  const T* plane = x + ((long long)from.image * C + first) * PLANE;
#pragma unroll
  for (int c = 0; c < EACH; ++c, plane += PLANE) {
    if (C % EACH != 0 && first + c >= C) return;
    const long long row_of_matrix = (long long)((first + c) / CHANNELS) * DEPTH + (first + c) % CHANNELS * (R * S);
    T* target = matrix + blockIdx.y * MATRIX + row_of_matrix * PITCH + column;
#pragma unroll(R * S <= 25 ? R : 1)
    for (int r = 0; r < R; ++r) {
      const int row = from.row + r * DILATION_H;
      const bool inside = unsigned(row) < unsigned(H);
      const T* line = plane + (long long)row * W;
#pragma unroll(S <= 16 ? S : 8)
      for (int s = 0; s < S; ++s, target += PITCH) {
        const int at = from.column + s * DILATION_W;
        *target = inside && unsigned(at) < unsigned(W) ? line[at] : T(0);
      }
    }
  }
}

// y [images, K, P, Q] from the product [K][PITCH] of a joined matrix: a thread takes one pixel of EACH_FILTERS filters.
extern "C" __global__ void __launch_bounds__(THREADS)
part(const T* product, T* __restrict__ y, int images) {
  wait_for_previous();
  const long long thread = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (thread >= PARTERS) return;
  const int column = int(thread % COLUMNS), first = int(thread / COLUMNS) * EACH_FILTERS;
  const int image = column / (P * Q);
  if (image >= images) return;
  const T* source = product + (long long)first * PITCH + column;
  T* target = y + ((long long)image * K + first) * (P * Q) + column % (P * Q);
#pragma unroll
  for (int k = 0; k < EACH_FILTERS; ++k)
    if (K % EACH_FILTERS == 0 || first + k < K) target[(long long)k * (P * Q)] = source[(long long)k * PITCH];
}
