// y = the sum of parts [SPLIT][OUTPUTS], in the order of the shares; one thread an output, 256 a block.
//
// For kernels whose sums are shared out to SPLIT blocks: each writes a part of its own, so that the bits do not depend on
// who is first. Wants constants SPLIT and OUTPUTS before it is included.
#pragma once

extern "C" __global__ void __launch_bounds__(256) add_parts(const T* __restrict__ parts, T* __restrict__ y) {
  const long long output = (long long)blockIdx.x * 256 + threadIdx.x;
  if (output >= OUTPUTS) return;
  T total = 0;
#pragma unroll 4
  for (int share = 0; share < SPLIT; ++share) total += parts[share * OUTPUTS + output];
  y[output] = total;
}
