// Numbers for tensor cores: brought into the range of float16 by a power of two for each image, and cut into halves.
//
//   scale = 2^(15 - HEADROOM - e)  where  2^(e-1) <= largest |x| of the image < 2^e  (largest.cu)
//
// so that sums which are up to 2^HEADROOM times x stay below 2^15. A power of two rounds nothing; 1 / scale undoes it.
#pragma once
#include "../../devices/ptx.cuh"

// The exponent, as a float's bits hold it, of an image's scale: from 2^-126, which brings any float below 4, to 2^126, so
// that 1 / scale is an ordinary number.
template <int HEADROOM>
__device__ __forceinline__ unsigned scale_exponent(unsigned largest) {
  static_assert(HEADROOM >= 0 && HEADROOM <= 127, "above 2^126 the scale is 1 / 2^126");
  const int exponent = 268 - HEADROOM - int(largest >> 23);
  return exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
}
template <int HEADROOM>
__device__ __forceinline__ float scale_of(unsigned largest) {
  return __uint_as_float(scale_exponent<HEADROOM>(largest) << 23);
}
template <int HEADROOM>
__device__ __forceinline__ float unscale_of(unsigned largest) {
  return __uint_as_float((254u - scale_exponent<HEADROOM>(largest)) << 23);
}

// v / (two scales), the smaller factor first: neither v times the larger nor the factors' product need be a float.
__device__ __forceinline__ float unscaled(float v, float a, float b) { return v * fminf(a, b) * fmaxf(a, b); }

struct Pair { unsigned bits; };  // of halves, x in the lower ones
__device__ __forceinline__ float2 pair_of(float2 v) { return v; }
__device__ __forceinline__ float2 pair_of(Pair v) {
  return make_float2(from_half(v.bits & 0xffff), from_half(v.bits >> 16));
}

// v = high + low to 22 bits where |v| >= 2^-2, as low then is no smaller than float16 can tell; to 2^-25 below.
template <class Half> struct Halves { Half high, low; };
__device__ __forceinline__ Halves<unsigned short> halves_of(float v) {
  const unsigned short high = to_half(v);
  return {high, to_half(v - from_half(high))};
}
__device__ __forceinline__ Halves<Pair> halves_of(float2 v) {
  const Halves<unsigned short> x = halves_of(v.x), y = halves_of(v.y);
  return {{x.high | unsigned(y.high) << 16}, {x.low | unsigned(y.low) << 16}};
}

// What an operand of the product is made of: numbers as they are, or halves where it has terms.
template <int TERMS, class Number> struct Operand { using Type = unsigned short; };
template <int TERMS> struct Operand<TERMS, float2> { using Type = Pair; };
template <class Number> struct Operand<0, Number> { using Type = Number; };
template <> struct Operand<0, float2> { using Type = float2; };

// Writes a scaled number: as it is, or its terms along the depth, `step` elements apart; three are low, high, high.
template <int TERMS, class Number>
__device__ __forceinline__ void put_terms(typename Operand<TERMS, Number>::Type* to, [[maybe_unused]] long long step,
                                          Number v) {
  if constexpr (TERMS == 0) {
    *to = v;
  } else {
    const auto halves = halves_of(v);
    if constexpr (TERMS == 3) to[0] = halves.low, to[step] = halves.high;
    to[(TERMS - 1) * step] = halves.high;
  }
}
