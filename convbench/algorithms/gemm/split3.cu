// gemm.split3: x scaled and cut into two float16, stretched on the way; and the products' parts put together as y.
//
//   scale = 2^(15 - e), where 2^(e-1) <= largest |x| of the image < 2^e;   v = scale x
//   high  = half(v),   low = half(2^11 (v - high)),   so that  v = high + 2^-11 low  to 22 bits
//
// `split` writes the matrix of im2col.cu for IMAGES images joined, both parts below each other,
//   planes [GROUPS][high, low][DEPTH][PITCH], rows c r s (those past the last tap stay zero), columns n P Q + p Q + q,
// and `combine` reads parts [SEGMENTS + 1][K][PITCH]: the sums over each SEGMENTS-th of the rows of high times high,
// then that of both cross products, which weighs 2^-11. A scale is a power of two: multiplying by it rounds nothing.
//
// `largest` [N][PARTS] holds the bits of the largest |x| of each part of an image: those of floats without a sign are
// ordered as the floats are, and whoever wants the scale takes the largest of PARTS. Infinity and NaN are the largest;
// they come out as NaN.

#include "../../devices/ptx.cuh"

constexpr int CHANNELS = C / GROUPS;
constexpr int THREADS = 256;
constexpr int LARGEST_THREADS = 1024;
constexpr int PARTS = 8;
constexpr int COLUMNS = IMAGES * P * Q;                          // that are not padding of the rows
constexpr long long PLANE = (long long)H * W, IMAGE = C * PLANE;
constexpr long long SPLITTERS = (long long)(C + EACH - 1) / EACH * (PITCH / 2);  // threads
constexpr long long COMBINERS = (long long)(K + EACH_FILTERS - 1) / EACH_FILTERS * COLUMNS;
constexpr float LOW = 2048;                                      // 2^11
static_assert(PITCH >= COLUMNS && PITCH % 2 == 0, "a row holds all columns, in pairs");

__device__ __forceinline__ unsigned largest_of_warp(unsigned value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value = max(value, __shfl_xor_sync(~0u, value, distance));
  return value;
}

// largest [N][PARTS] of x [N, C, H, W]; a block for each.
extern "C" __global__ void __launch_bounds__(LARGEST_THREADS)
find_largest(const float* __restrict__ x, unsigned* __restrict__ largest) {
  __shared__ unsigned of_warp[LARGEST_THREADS / 32];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  x += blockIdx.x / PARTS * IMAGE;
  unsigned value = 0;
#pragma unroll 8
  for (long long i = blockIdx.x % PARTS * LARGEST_THREADS + threadIdx.x; i < IMAGE; i += PARTS * LARGEST_THREADS)
    value = max(value, __float_as_uint(x[i]) & 0x7fffffffu);
  value = largest_of_warp(value);
  if (lane == 0) of_warp[warp] = value;
  __syncthreads();
  if (warp > 0) return;
  value = largest_of_warp(of_warp[lane]);
  if (lane == 0) largest[blockIdx.x] = value;
}

// The exponent, as a float's bits hold it, of an image's scale. At most 2^126, so that 1 / scale is an ordinary number.
__device__ __forceinline__ unsigned scale_exponent(const uint4* __restrict__ largest, int image) {
  const uint4 a = largest[2 * image], b = largest[2 * image + 1];
  const unsigned most = max(max(max(a.x, a.y), max(a.z, a.w)), max(max(b.x, b.y), max(b.z, b.w)));
  return min(268u - (most >> 23), 253u);
}

// Where an output pixel's first tap reads, image counted from x, and the image's scale. What is no pixel reads outside.
struct Pixel { long long image; int row, column; float scale; };

__device__ __forceinline__ Pixel pixel_of(const uint4* __restrict__ largest, int column, int images) {
  const int image = column / (P * Q), pixel = column % (P * Q);
  if (image >= images) return {0, -(1 << 30), 0, 0};
  const float scale = __uint_as_float(scale_exponent(largest, image) << 23);
  return {image * IMAGE, pixel / Q * STRIDE_H - PAD_H, pixel % Q * STRIDE_W - PAD_W, scale};
}

struct Halves { unsigned high, low; };

__device__ __forceinline__ Halves halves_of(float v) {
  const unsigned high = to_half(v);
  return {high, to_half((v - from_half(high)) * LOW)};
}

// x [images, C, H, W] into planes; a thread writes two columns of the rows of EACH channels.
extern "C" __global__ void __launch_bounds__(THREADS)
split(const float* __restrict__ x, const uint4* __restrict__ largest, unsigned* __restrict__ planes, int images) {
  const long long thread = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (thread >= SPLITTERS) return;
  constexpr int PAIRS = PITCH / 2;
  const int pair = int(thread % PAIRS), first = int(thread / PAIRS) * EACH;
  const Pixel from[2] = {pixel_of(largest, 2 * pair, images), pixel_of(largest, 2 * pair + 1, images)};
#pragma unroll
  for (int c = first; c < first + EACH; ++c) {
    if (C % EACH != 0 && c >= C) return;
    const long long row_of_planes = (long long)(c / CHANNELS) * (2 * DEPTH) + c % CHANNELS * (R * S);
    unsigned* high = planes + row_of_planes * PAIRS + pair;
#pragma unroll(R * S <= 25 ? R : 1)
    for (int r = 0; r < R; ++r)
#pragma unroll(S <= 16 ? S : 8)
      for (int s = 0; s < S; ++s, high += PAIRS) {
        Halves h[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int row = from[i].row + r * DILATION_H, column = from[i].column + s * DILATION_W;
          const bool inside = unsigned(row) < unsigned(H) && unsigned(column) < unsigned(W);
          const long long at = from[i].image + c * PLANE + (long long)row * W + column;
          h[i] = halves_of(inside ? x[at] * from[i].scale : 0.0f);
        }
        high[0] = h[0].high | h[1].high << 16;
        high[(long long)DEPTH * PAIRS] = h[0].low | h[1].low << 16;
      }
  }
}

// y [images, K, P, Q] from parts; unscale [K] is 1 / the scale of each filter. A thread takes a pixel of EACH_FILTERS.
extern "C" __global__ void __launch_bounds__(THREADS)
combine(const float* __restrict__ parts, const uint4* __restrict__ largest, const float* __restrict__ unscale,
        float* __restrict__ y, int images) {
  const long long thread = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (thread >= COMBINERS) return;
  const int column = int(thread % COLUMNS), first = int(thread / COLUMNS) * EACH_FILTERS;
  const int image = column / (P * Q);
  if (image >= images) return;
  const float unscale_x = __uint_as_float((254u - scale_exponent(largest, image)) << 23);
  const float* source = parts + (long long)first * PITCH + column;
  float* target = y + ((long long)image * K + first) * (P * Q) + column % (P * Q);
  constexpr long long PART = (long long)K * PITCH;
#pragma unroll
  for (int k = 0; k < EACH_FILTERS; ++k) {
    if (K % EACH_FILTERS != 0 && first + k >= K) return;
    float total = source[(long long)k * PITCH + SEGMENTS * PART] / LOW;
#pragma unroll(SEGMENTS <= 8 ? SEGMENTS : 4)
    for (int segment = 0; segment < SEGMENTS; ++segment) total += source[(long long)k * PITCH + segment * PART];
    target[(long long)k * (P * Q)] = total * (unscale_x * unscale[first + k]);
  }
}
