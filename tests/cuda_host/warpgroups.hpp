// Products of a warpgroup (wgmma): each thread computes its own sums, as late as the kernel's waits allow.
//
// From the first product to the wait that leaves none of them, the sums are NaN; operands are read when a wait covers their
// group. So sums that are used too early show, and buffers that are filled again too early. A thread must have begun, and
// copies must have been published before the last barrier.
#pragma once
#include "machine.hpp"
#include "numbers.hpp"
#include "tensor.hpp"

namespace cuda_host {

void begin_product(float* d, int columns, const void* a, const void* b, int chunk, bool half) {
  Fiber& fiber = *machine.current;
  const uintptr_t place = CUDA_HOST_HERE;
  if (((uintptr_t)a | (uintptr_t)b) & 127)
    CUDA_HOST_FAIL("operands of wgmma that do not begin at a multiple of 128 bytes at @%lx@ in " CUDA_HOST_THREAD, place,
                   CUDA_HOST_THREAD_VALUES);
  if (!is_shared(a, 64 * 128) || !is_shared(b, columns * 128))
    CUDA_HOST_FAIL("operands of wgmma outside shared memory at @%lx@ in " CUDA_HOST_THREAD, place, CUDA_HOST_THREAD_VALUES);
  if (!fiber.may_multiply)
    CUDA_HOST_FAIL("wgmma without begin_products() at @%lx@ in " CUDA_HOST_THREAD, place, CUDA_HOST_THREAD_VALUES);
  if (machine.unpublished)
    CUDA_HOST_FAIL("wgmma of copies that were not published at @%lx@ in " CUDA_HOST_THREAD, place, CUDA_HOST_THREAD_VALUES);
  Warpgroup& mine = machine.arena.warpgroups[fiber.number];
  if (!fiber.sums) {
    fiber.sums = d;
    fiber.columns = columns;
    memcpy(mine.sums, d, columns / 2 * sizeof(float));
    memset(d, 0xFF, columns / 2 * sizeof(float));
  }
  if (fiber.sums != d || fiber.products == MOST_PRODUCTS)
    CUDA_HOST_FAIL("too many products, or into other sums, before a wait at @%lx@ in " CUDA_HOST_THREAD, place,
                   CUDA_HOST_THREAD_VALUES);
  mine.products[fiber.products++] = {(const char*)a, (const char*)b, chunk, half, fiber.product_group};
}

// The numbers of two chunks of a row; which place they have in it follows from its address.
struct Depth {
  float of[16];
  int count;

  Depth(const char* rows, int row, const WarpgroupProduct& product, uintptr_t place) : count(product.half ? 16 : 8) {
    for (int i = 0; i < 2; ++i) {
      const char* begin = rows + 128 * row;
      const char* from = begin + 16 * ((product.chunk + i) ^ (uintptr_t)begin / 128 % 8);
      race_access(from, 16, READ, place);
      for (int e = 0; e < count / 2; ++e)
        if (product.half) {
          unsigned short h;
          memcpy(&h, from + 2 * e, 2);
          of[i * 8 + e] = from_half(h);
        } else {
          unsigned word;
          memcpy(&word, from + 4 * e, 4);
          of[i * 4 + e] = bits<float>(word & 0xFFFFE000u);
        }
    }
  }
};

void multiply(const Fiber& fiber, float* sums, const WarpgroupProduct& product, uintptr_t place) {
  const int warp = fiber.number / 32 % 4, g = fiber.number % 32 / 4, t = fiber.number % 4;
  const Depth rows[2] = {{product.a, 16 * warp + g, product, place}, {product.a, 16 * warp + g + 8, product, place}};
  for (int j = 0; j < fiber.columns / 8; ++j)
    for (int i = 0; i < 2; ++i) {
      const Depth column(product.b, 8 * j + 2 * t + i, product, place);
      for (int row = 0; row < 2; ++row)
        for (int e = 0; e < column.count; ++e) sums[4 * j + 2 * row + i] += rows[row].of[e] * column.of[e];
    }
}

// Completes all groups of this thread but the `left` newest.
void wait_for_products(int left) {
  Fiber& fiber = *machine.current;
  Warpgroup& mine = machine.arena.warpgroups[fiber.number];
  unsigned kept = 0;
  for (unsigned i = 0; i < fiber.products; ++i) {
    const WarpgroupProduct product = mine.products[i];
    if (product.group + left >= fiber.product_group)
      mine.products[kept++] = product;
    else
      multiply(fiber, mine.sums, product, CUDA_HOST_HERE);
  }
  fiber.products = kept;
  if (kept || !fiber.sums) return;
  memcpy(fiber.sums, mine.sums, fiber.columns / 2 * sizeof(float));
  fiber.sums = nullptr;
  fiber.may_multiply = false;
}

}  // namespace cuda_host
