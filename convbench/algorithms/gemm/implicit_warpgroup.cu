// gemm.implicit on Hopper's tensor cores (tf32, float16): Y = W [K x depth] M [depth x N P Q], by groups, M never stored.
//
// A block's pixels and filters come as staged.cuh says. Each warpgroup (128 threads) multiplies 64 filters by all TILE_P pixels,
// where they lie in shared memory; its threads only say which. The products of a step are under way while the next one is
// waited for, so copies are STAGES - 2 steps ahead: a buffer is filled again when the products two steps back are done.
#include "warpgroup_sums.cuh"
#include "staged.cuh"

static_assert(STAGES > 2, "a buffer to fill, one to read, one to have been read");
static_assert(SUMS_BYTES <= STAGES * STAGE * 16, "the sums fit where the operands were");

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
product(const int4* staged, const int4* __restrict__ packed, const int* __restrict__ offsets,
        Output* __restrict__ y) {
  extern __shared__ __align__(1024) int4 stages[];  // [STAGES]{pixels [TILE_P][ROW], filters [TILE_K][ROW]}

  const Block block;
  const Copies copies(block, staged, packed, offsets);
  let_next_begin();
  wait_for_previous();  // staged is there
#pragma unroll
  for (int step = 0; step < STAGES - 2; ++step) {
    if (step < STEPS) copies.begin(step, stages + step * STAGE);
    copy_async_commit();
  }

  const int warpgroup = threadIdx.x / WARPGROUP;
  float total[TILE_P / 2] = {};
  begin_products(total);
  for (int step = 0; step < STEPS; ++step) {
    copy_async_wait<STAGES - 3>();
    publish_to_products();
    __syncthreads();  // this step's operands are there, and all products but the last step's are done
    const int4* pixels = stages + step % STAGES * STAGE;
    const int4* filters = pixels + (TILE_P + 64 * warpgroup) * ROW;
#pragma unroll
    for (int chunk = 0; chunk < ROW; chunk += 2) begin_product<T, TILE_P>(total, filters, pixels, chunk);
    commit_products();
    const int next = step + STAGES - 2;
    if (next < STEPS) copies.begin(next, stages + next % STAGES * STAGE);
    copy_async_commit();
    wait_for_products<1>(total);
  }
  wait_for_products<0>(total);
  __syncthreads();  // nobody multiplies any more

  write_sums(total, reinterpret_cast<float*>(stages), block, y, [](long long pixel) {
    return pixel < PIXELS ? pixel / (P * Q) * K * (P * Q) + pixel % (P * Q) : -1;
  });
}
