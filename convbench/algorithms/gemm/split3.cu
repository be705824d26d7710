// gemm.split3: x scaled and cut into two float16, stretched on the way; and the products' parts put together as y.
//
//   v = scale x (halves.cuh, no headroom),   high = half(v),   low = half(2^11 (v - high)),
//   so that  v = high + 2^-11 low  to 22 bits
//
// `split` writes the matrix of im2col.cu for IMAGES images joined, both parts below each other,
//   planes [GROUPS][high, low][DEPTH][PITCH], rows c r s (those past the last tap stay zero), columns n P Q + p Q + q,
// and `combine` reads parts [SEGMENTS + 1][K][PITCH]: the sums over each SEGMENTS-th of the rows of high times high,
// then that of both cross products, which weighs 2^-11. Images with infinity or NaN come out as NaN.

#include "../halves/halves.cuh"

constexpr int CHANNELS = C / GROUPS;
constexpr int THREADS = 256;
constexpr int COLUMNS = IMAGES * P * Q;                          // that are not padding of the rows
constexpr long long PLANE = (long long)H * W, IMAGE = C * PLANE;
constexpr long long SPLITTERS = (long long)(C + EACH - 1) / EACH * (PITCH / 2);  // threads
constexpr long long COMBINERS = (long long)(K + EACH_FILTERS - 1) / EACH_FILTERS * COLUMNS;
constexpr float LOW = 2048;                                      // 2^11
static_assert(PITCH >= COLUMNS && PITCH % 2 == 0, "a row holds all columns, in pairs");

// Where an output pixel's first tap reads, image counted from x, and the image's scale. What is no pixel reads outside.
struct Pixel { long long image; int row, column; float scale; };

__device__ __forceinline__ Pixel pixel_of(const unsigned* largest, int column, int images) {
  const int image = column / (P * Q), pixel = column % (P * Q);
  if (image >= images) return {0, -(1 << 30), 0, 0};
  return {image * IMAGE, pixel / Q * STRIDE_H - PAD_H, pixel % Q * STRIDE_W - PAD_W, scale_of<0>(largest[image])};
}

struct Parts { unsigned high, low; };

__device__ __forceinline__ Parts parts_of(float v) {
  const unsigned high = to_half(v);
  return {high, to_half((v - from_half(high)) * LOW)};
}

// x [images, C, H, W] into planes; a thread writes two columns of the rows of EACH channels.
extern "C" __global__ void __launch_bounds__(THREADS)
split(const float* __restrict__ x, const unsigned* largest, unsigned* __restrict__ planes, int images) {
  wait_for_previous();
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
        Parts v[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int row = from[i].row + r * DILATION_H, column = from[i].column + s * DILATION_W;
          const bool inside = unsigned(row) < unsigned(H) && unsigned(column) < unsigned(W);
          const long long at = from[i].image + c * PLANE + (long long)row * W + column;
          v[i] = parts_of(inside ? x[at] * from[i].scale : 0.0f);
        }
        high[0] = v[0].high | v[1].high << 16;
        high[(long long)DEPTH * PAIRS] = v[0].low | v[1].low << 16;
      }
  }
}

// y [images, K, P, Q] from parts; unscale [K] is 1 / the scale of each filter. A thread takes a pixel of EACH_FILTERS.
extern "C" __global__ void __launch_bounds__(THREADS)
combine(const float* parts, const unsigned* __restrict__ largest, const float* __restrict__ unscale,
        float* __restrict__ y, int images) {
  wait_for_previous();
  const long long thread = (long long)blockIdx.x * THREADS + threadIdx.x;
  if (thread >= COMBINERS) return;
  const int column = int(thread % COLUMNS), first = int(thread / COLUMNS) * EACH_FILTERS;
  const int image = column / (P * Q);
  if (image >= images) return;
  const float unscale_x = unscale_of<0>(largest[image]);
  const float* source = parts + (long long)first * PITCH + column;
  float* target = y + ((long long)image * K + first) * (P * Q) + column % (P * Q);
  constexpr long long PART = (long long)K * PITCH;
#pragma unroll
  for (int k = 0; k < EACH_FILTERS; ++k) {
    if (K % EACH_FILTERS != 0 && first + k >= K) return;
    float total = source[(long long)k * PITCH + SEGMENTS * PART] / LOW;
#pragma unroll(SEGMENTS <= 8 ? SEGMENTS : 4)
    for (int segment = 0; segment < SEGMENTS; ++segment) total += source[(long long)k * PITCH + segment * PART];
    target[(long long)k * (P * Q)] = unscaled(total, unscale_x, unscale[first + k]);
  }
}
