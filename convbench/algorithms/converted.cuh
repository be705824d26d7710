// A sum as it is stored: as it is, or as float16's bits.
#pragma once
#include "../devices/ptx.cuh"

template <class To, class From>
__device__ __forceinline__ To converted(From v) {
  if constexpr (sizeof(To) == 2) return to_half(v);
  else return v;
}
