// gemm.implicit on Hopper's tensor cores (tf32, float16): Y = W [K x depth] M [depth x N P Q], by groups, M never stored.
//
// A block's pixels and filters come as staged.cuh says. Each warpgroup (128 threads) multiplies 64 filters by all TILE_P pixels,
// where they lie in shared memory; its threads only say which. The products of a step are under way while the next one is
// waited for, so copies are STAGES - 2 steps ahead: a buffer is filled again when the products two steps back are done.
// At the end the sums go through shared memory, so that neighbouring threads write neighbouring pixels of one filter.
constexpr int WARPGROUP = 128, THREADS = WARPGROUP * (TILE_K / 64);
#include "../../devices/warpgroup.cuh"
#include "staged.cuh"

constexpr int PITCH = TILE_P + 8;  // floats from a filter's sums to the next one's: those of a warp's store fall in all banks
constexpr int LANES = TILE_P % 128 ? 64 : 128;  // threads that write neighbouring pixels

static_assert(TILE_K % 64 == 0 && STAGES > 2, "whole warpgroups; a buffer to fill, one to read, one to have been read");
static_assert(TILE_P % LANES == 0 && THREADS % LANES == 0, "every thread writes equally much");
static_assert(TILE_K * PITCH * 4 <= STAGES * STAGE * 16, "the sums fit where the operands were");

extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
product(const int4* __restrict__ staged, const int4* __restrict__ packed, const int* __restrict__ offsets,
        Output* __restrict__ y) {
  extern __shared__ __align__(1024) int4 stages[];  // [STAGES]{pixels [TILE_P][ROW], filters [TILE_K][ROW]}

  const Block block;
  const Copies copies(block, staged, packed, offsets);
#pragma unroll
  for (int step = 0; step < STAGES - 2; ++step) {
    if (step < STEPS) copies.begin(step, stages + step * STAGE);
    copy_async_commit();
  }

  const int warpgroup = threadIdx.x / WARPGROUP;
  float total[TILE_P / 2] = {};
  begin_products();
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
    wait_for_products<1>();
  }
  wait_for_products<0>();
  __syncthreads();  // nobody multiplies any more

  float* sums = reinterpret_cast<float*>(stages);  // [TILE_K][PITCH]
  const int lane = threadIdx.x % 32, first_filter = threadIdx.x / 32 * 16 + lane / 4, first = lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < TILE_P / 8; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i)
      *reinterpret_cast<float2*>(&sums[(first_filter + 8 * i) * PITCH + j * 8 + first]) =
          make_float2(total[4 * j + 2 * i], total[4 * j + 2 * i + 1]);
  __syncthreads();  // all sums are there

  if (SPLIT > 1) y += block.share * OUTPUTS;
  for (int at = threadIdx.x % LANES; at < TILE_P; at += LANES) {
    const long long pixel = block.first_pixel + at;
    if (pixel >= PIXELS) break;
    Output* target = y + (pixel / (P * Q) * K + block.group * FILTERS) * (P * Q) + pixel % (P * Q);
#pragma unroll 4
    for (int k = threadIdx.x / LANES; k < TILE_K; k += THREADS / LANES) {
      const int filter = block.filter_tile * TILE_K + k;
      if (filter < FILTERS) target[(long long)filter * (P * Q)] = converted<Output>(sums[k * PITCH + at]);
    }
  }
}
