// What devices/ptx.cuh calls on the CPU: cp.async, half and tf32 numbers, tensor core products, ldmatrix.
#pragma once
#include "machine.hpp"
#include "numbers.hpp"

namespace cuda_host {

CUDA_HOST_HIDDEN void copy_async(void* to, const void* from, int bytes, bool valid);
CUDA_HOST_HIDDEN void copy_async_wait(int left);
inline void copy_async_commit() { ++machine.current->group; }

CUDA_HOST_HIDDEN void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
CUDA_HOST_HIDDEN void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]);
CUDA_HOST_HIDDEN void begin_product(float* d, int columns, const void* a, const void* b, int chunk, bool half);
CUDA_HOST_HIDDEN void wait_for_products(int left);
inline void publish_to_products() { machine.current->unpublished = false; }
inline void begin_products() { machine.current->may_multiply = true; }
inline void commit_products() { ++machine.current->product_group; }
CUDA_HOST_HIDDEN void load_matrices(unsigned (&r)[4], const void* row, bool transposed);

// The nearest half, ties to even.
CUDA_HOST_PLAIN inline unsigned short to_half(float v) {
  const unsigned all = bits<unsigned>(v), sign = all >> 16 & 0x8000, size = all & 0x7FFFFFFF;
  if (size > 0x7F800000) return 0x7FFF;                                                  // NaN
  if (size >= 0x477FF000) return sign | 0x7C00;                                          // 65520 and above
  if (size < 0x38800000) return sign | (unsigned short)lrintf(bits<float>(size) * 0x1p24f);  // multiples of 2^-24
  return sign | (unsigned short)((size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13);
}

CUDA_HOST_PLAIN inline float from_half(unsigned short h) {
  const unsigned sign = (unsigned)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 0) return bits<float>(sign | bits<unsigned>(fraction * 0x1p-24f));
  return bits<float>(sign | (exponent == 31 ? 0x7F800000 : (exponent + 112) << 23) | fraction << 13);
}

// 10 bits of mantissa, ties away from zero.
inline unsigned to_tf32(float v) {
  const unsigned all = bits<unsigned>(v);
  return (all & 0x7F800000) == 0x7F800000 ? all : (all + 0x1000) & 0xFFFFE000u;
}

}  // namespace cuda_host
