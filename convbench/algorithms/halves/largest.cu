// The largest |x| of each image, as the bits of a float: those of floats without a sign are ordered as the floats are.
//
// largest [N] is zero before. Blocks meet in an atomic maximum, whose result does not depend on who is first. Infinity
// and NaN are the largest.
#include "../../devices/ptx.cuh"

constexpr int UNIT = 16 / sizeof(T), UNITS = PART_BYTES / 16 / THREADS;  // a thread reads so many units of 16 bytes
constexpr int PART = PART_BYTES / sizeof(T);                             // of an image, for a block
static_assert(UNITS * 16 * THREADS == PART_BYTES && THREADS % 32 == 0, "every thread reads equally much");

__device__ __forceinline__ unsigned magnitude(float v) { return __float_as_uint(v) & 0x7fffffffu; }
__device__ __forceinline__ unsigned magnitude(unsigned short half) { return magnitude(from_half(half)); }

__device__ __forceinline__ unsigned largest_of_warp(unsigned value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) value = max(value, __shfl_xor_sync(~0u, value, distance));
  return value;
}

// x [images][numbers], each image in `parts` blocks.
extern "C" __global__ void __launch_bounds__(THREADS)
find_largest(const T* __restrict__ x, unsigned* __restrict__ largest, long long numbers, int parts) {
  __shared__ unsigned of_warp[THREADS / 32];
  let_next_begin();
  const int image = blockIdx.x / parts;
  const long long first = (long long)(blockIdx.x % parts) * PART;
  const int count = int(min((long long)PART, numbers - first));
  x += image * numbers + first;
  unsigned value = 0;
  if (numbers % UNIT == 0) {  // every image begins on a unit
    int4 unit[UNITS];
#pragma unroll
    for (int i = 0; i < UNITS; ++i) {
      const int at = (i * THREADS + threadIdx.x) * UNIT;
      unit[i] = at < count ? *reinterpret_cast<const int4*>(x + at) : make_int4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < UNITS; ++i)
#pragma unroll
      for (int j = 0; j < UNIT; ++j) value = max(value, magnitude(reinterpret_cast<const T*>(&unit[i])[j]));
  } else {
#pragma unroll 8
    for (int i = threadIdx.x; i < count; i += THREADS) value = max(value, magnitude(x[i]));
  }
  value = largest_of_warp(value);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  value = largest_of_warp(threadIdx.x < THREADS / 32 ? of_warp[threadIdx.x] : 0);
  wait_for_previous();  // zeros are there
  if (threadIdx.x == 0) atomicMax(&largest[image], value);
}
