// Sums that several blocks share: each writes its part, and a second kernel adds the parts in a fixed order.
//
// So the bits do not depend on who is first. Wants SPLIT, the shares that an output's sum goes in, and OUTPUTS before it
// is included. Sums are floats where T is float16's bits.
#pragma once
#include "converted.cuh"

template <bool FIRST, class A, class B> struct Either { using Type = A; };
template <class A, class B> struct Either<false, A, B> { using Type = B; };
using Sum = Either<sizeof(T) == 8, double, float>::Type;
using Output = Either<(SPLIT > 1), Sum, T>::Type;  // what a block writes: parts [SPLIT][N, K, P, Q], or y itself

// y = the sum of parts [SPLIT][N, K, P, Q]; one thread an output.
extern "C" __global__ void __launch_bounds__(256) add_parts(const Sum* parts, T* __restrict__ y) {
  wait_for_previous();
  const long long output = (long long)blockIdx.x * 256 + threadIdx.x;
  if (output >= OUTPUTS) return;
  Sum total = 0;
#pragma unroll 4
  for (int share = 0; share < SPLIT; ++share) total += parts[share * OUTPUTS + output];
  y[output] = converted<T>(total);
}
