// CUDA's arithmetic on one thread: loads and stores with cache hints, bits, roundings.
#pragma once
#include "words.hpp"

template <class V> __forceinline__ V __ldg(const V* p) { return *p; }
template <class V> __forceinline__ V __ldca(const V* p) { return *p; }
template <class V> __forceinline__ V __ldcg(const V* p) { return *p; }
template <class V> __forceinline__ V __ldcs(const V* p) { return *p; }
template <class V> __forceinline__ void __stcg(V* p, V value) { *p = value; }
template <class V> __forceinline__ void __stcs(V* p, V value) { *p = value; }
template <class V> __forceinline__ void __stwt(V* p, V value) { *p = value; }

// min and max of a NaN and a number give the number, as on a GPU.
template <class A, class B, class = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value>>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using V = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<V>::value) return V(b) != V(b) || V(a) < V(b) ? V(a) : V(b);
  return V(b) < V(a) ? V(b) : V(a);
}
template <class A, class B, class = std::enable_if_t<std::is_arithmetic<A>::value && std::is_arithmetic<B>::value>>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using V = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point<V>::value) return V(b) != V(b) || V(a) > V(b) ? V(a) : V(b);
  return V(a) < V(b) ? V(b) : V(a);
}

namespace cuda_host {
template <class To, class From>
__forceinline__ To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
}  // namespace cuda_host

inline unsigned __float_as_uint(float v) { return cuda_host::bits<unsigned>(v); }
inline int __float_as_int(float v) { return cuda_host::bits<int>(v); }
inline float __uint_as_float(unsigned v) { return cuda_host::bits<float>(v); }
inline float __int_as_float(int v) { return cuda_host::bits<float>(v); }
inline long long __double_as_longlong(double v) { return cuda_host::bits<long long>(v); }
inline double __longlong_as_double(long long v) { return cuda_host::bits<double>(v); }

inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __clz(int v) { return v ? __builtin_clz(v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll(v) : 64; }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline unsigned __brev(unsigned v) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (v >> i & 1) << (31 - i);
  return reversed;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (uint64_t)a * b >> 32; }
inline int __mulhi(int a, int b) { return (int64_t)a * b >> 32; }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
  const uint64_t bytes = (uint64_t)high << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) result |= unsigned(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
  return result;
}

inline float rsqrtf(float v) { return 1 / sqrtf(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float v) { return 1 / v; }
inline float __fsqrt_rn(float v) { return sqrtf(v); }
inline float __expf(float v) { return expf(v); }
inline float __logf(float v) { return logf(v); }
inline float __sinf(float v) { return sinf(v); }
inline float __cosf(float v) { return cosf(v); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
// Products and sums that nvcc never fuses: kept apart from their neighbours here too.
inline float __fmul_rn(float a, float b) { volatile float v = a * b; return v; }
inline float __fadd_rn(float a, float b) { volatile float v = a + b; return v; }
inline float __fsub_rn(float a, float b) { volatile float v = a - b; return v; }
inline double __dmul_rn(double a, double b) { volatile double v = a * b; return v; }
inline double __dadd_rn(double a, double b) { volatile double v = a + b; return v; }
inline float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }
inline void sincospif(float v, float* sine, float* cosine) {
  *sine = (float)sin(M_PI * v);
  *cosine = (float)cos(M_PI * v);
}
