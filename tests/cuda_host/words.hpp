// The words of CUDA C++ that g++ lacks: keywords, vector types, and where a thread finds itself.
#pragma once
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <type_traits>
#include <utility>

// Runtime state stands in .data, so that .bss holds the kernel's static __shared__ variables and nothing else: that is how
// they are found and poisoned. `used` keeps g++ from folding a variable that nobody writes to zero.
#define CUDA_HOST_STATE __attribute__((section(".data"), visibility("hidden")))
#define CUDA_HOST_HIDDEN __attribute__((visibility("hidden")))
#define CUDA_HOST_PLAIN __attribute__((noinline, no_sanitize("thread", "undefined")))  // a function the checks leave alone
#define CUDA_HOST_EXPORT extern "C" __attribute__((visibility("default"), used))
#define CUDA_HOST_HERE ((uintptr_t)__builtin_return_address(0) - 1)

#define __global__ __attribute__((noinline))
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __shared__ static __attribute__((used))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...)

#define CUDA_HOST_VECTOR(T, NAME)                                                                              \
  struct NAME##1 { T x; };                                                                                     \
  struct alignas(2 * sizeof(T)) NAME##2 { T x, y; };                                                           \
  struct NAME##3 { T x, y, z; };                                                                               \
  struct alignas(4 * sizeof(T) < 16 ? 4 * sizeof(T) : 16) NAME##4 { T x, y, z, w; };                           \
  inline NAME##1 make_##NAME##1(T x) { return {x}; }                                                           \
  inline NAME##2 make_##NAME##2(T x, T y) { return {x, y}; }                                                   \
  inline NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; }                                           \
  inline NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
CUDA_HOST_VECTOR(signed char, char)
CUDA_HOST_VECTOR(unsigned char, uchar)
CUDA_HOST_VECTOR(short, short)
CUDA_HOST_VECTOR(unsigned short, ushort)
CUDA_HOST_VECTOR(int, int)
CUDA_HOST_VECTOR(unsigned, uint)
CUDA_HOST_VECTOR(long long, longlong)
CUDA_HOST_VECTOR(unsigned long long, ulonglong)
CUDA_HOST_VECTOR(float, float)
CUDA_HOST_VECTOR(double, double)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

extern CUDA_HOST_STATE uint3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;
