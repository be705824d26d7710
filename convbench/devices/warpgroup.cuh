// Hopper's own: warpgroups, four warps in a row, whose tensor cores multiply matrices where they lie in shared memory. Only
// in code compiled for sm_90a (Device.load_own); beside ptx.cuh the one place where assembly stands. Operands are rows of
// 128 bytes from an address that is a multiple of 128, chunk c (16 bytes) of the row at 128 i at c ^ i % 8.
#pragma once
#include "ptx.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define CONVBENCH_HOPPER 1
#else
#define CONVBENCH_HOPPER 0
#endif

// What this thread has written to shared memory (by copy_async_... too, once waited for) is there for the block's products
// after the next barrier.
__device__ __forceinline__ void publish_to_products() {
#ifndef __CUDA_ARCH__
  cuda_host::publish_to_products();
#elif CONVBENCH_HOPPER
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}

// The compiler does not see when products that are under way write their sums. This makes it keep its own reads and writes of
// these registers, and copies of them, on their side of what stands before and behind.
template <int SUMS>
__device__ __forceinline__ void hold([[maybe_unused]] float (&sums)[SUMS]) {
#if CONVBENCH_HOPPER
#pragma unroll
  for (int i = 0; i < SUMS; ++i) asm volatile("" : "+f"(sums[i])::"memory");
#endif
}

// Stands before a warpgroup's first product, and wherever its threads have touched the sums themselves.
template <int SUMS>
__device__ __forceinline__ void begin_products(float (&sums)[SUMS]) {
  hold(sums);
#ifndef __CUDA_ARCH__
  cuda_host::begin_products();
#elif CONVBENCH_HOPPER
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
#endif
}

// Closes a group: the products that have been begun since the last one.
__device__ __forceinline__ void commit_products() {
#ifndef __CUDA_ARCH__
  cuda_host::commit_products();
#elif CONVBENCH_HOPPER
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
#endif
}

// Waits until at most LEFT groups are under way: operands of the others may be overwritten. Sums may be read when none is.
template <int LEFT, int SUMS>
__device__ __forceinline__ void wait_for_products([[maybe_unused]] float (&sums)[SUMS]) {
#ifndef __CUDA_ARCH__
  cuda_host::wait_for_products(LEFT);
#elif CONVBENCH_HOPPER
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(LEFT) : "memory");
#endif
  if (LEFT == 0) hold(sums);
}

#if CONVBENCH_HOPPER
// Where the two chunks from `chunk` on of a matrix's rows lie: address, 1024 bytes from 8 rows to the next 8, swizzled. The
// swizzle goes by addresses' bits, so no offset is to be given (bits 49 to 51) where the first row is not a multiple of 1024.
__device__ __forceinline__ unsigned long long described(const int4* rows, int chunk) {
  const unsigned long long at = shared_address(rows) + 16 * chunk;
  return (at & 0x3ffff) >> 4 | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

#define CONVBENCH_TEN(n) "%" #n "0,%" #n "1,%" #n "2,%" #n "3,%" #n "4,%" #n "5,%" #n "6,%" #n "7,%" #n "8,%" #n "9,"
#define CONVBENCH_60 CONVBENCH_TEN() CONVBENCH_TEN(1) CONVBENCH_TEN(2) CONVBENCH_TEN(3) CONVBENCH_TEN(4) CONVBENCH_TEN(5)
#define CONVBENCH_32 CONVBENCH_TEN() CONVBENCH_TEN(1) CONVBENCH_TEN(2) "%30,%31"
#define CONVBENCH_64 CONVBENCH_60 "%60,%61,%62,%63"
#define CONVBENCH_96 CONVBENCH_60 CONVBENCH_TEN(6) CONVBENCH_TEN(7) CONVBENCH_TEN(8) "%90,%91,%92,%93,%94,%95"
#define CONVBENCH_128                                                                                                       \
  CONVBENCH_60 CONVBENCH_TEN(6) CONVBENCH_TEN(7) CONVBENCH_TEN(8) CONVBENCH_TEN(9) CONVBENCH_TEN(10) CONVBENCH_TEN(11) "%120,%121," \
  "%122,%123,%124,%125,%126,%127"
#define CONVBENCH_SUMS8(i) \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define CONVBENCH_SUMS32(i) CONVBENCH_SUMS8(i), CONVBENCH_SUMS8(i + 8), CONVBENCH_SUMS8(i + 16), CONVBENCH_SUMS8(i + 24)
#define CONVBENCH_PRODUCT(instruction, registers, a, b, rest, ...) \
  asm volatile("wgmma.mma_async.sync.aligned." instruction " {" registers "}, %" a ", %" b ", 1, 1, 1" rest ";\n" : __VA_ARGS__ : "l"(left), "l"(right))
#define CONVBENCH_PRODUCTS(columns, registers, a, b, ...)                                                                   \
  if constexpr (COLUMNS == columns) {                                                                                       \
    if constexpr (sizeof(T) == 2)                                                                                           \
      CONVBENCH_PRODUCT("m64n" #columns "k16.f32.f16.f16", registers, a, b, ", 0, 0", __VA_ARGS__);                         \
    else                                                                                                                    \
      CONVBENCH_PRODUCT("m64n" #columns "k8.f32.tf32.tf32", registers, a, b, "", __VA_ARGS__);                              \
  }
#endif

// d[64 x COLUMNS] += a[64 x 2 chunks] b[COLUMNS x 2 chunks]^T by a warpgroup, halves or tf32, from `chunk` and the next
// of each row. With warp w of the warpgroup and lane = 4 g + t a thread holds, for each 8 columns, in d[4 j ..]
//   row 16 w + g, columns 8 j + 2 t and the next;  row 16 w + g + 8, the same columns.
template <class T, int COLUMNS>
__device__ __forceinline__ void begin_product(float (&d)[COLUMNS / 2], const int4* a, const int4* b, int chunk) {
#ifndef __CUDA_ARCH__
  cuda_host::begin_product(d, COLUMNS, a, b, chunk, sizeof(T) == 2);
#elif CONVBENCH_HOPPER
  const unsigned long long left = described(a, chunk), right = described(b, chunk);
  static_assert(COLUMNS == 64 || COLUMNS == 128 || COLUMNS == 192 || COLUMNS == 256, "what is spelled out below");
  CONVBENCH_PRODUCTS(64, CONVBENCH_32, "32", "33", CONVBENCH_SUMS32(0))
  CONVBENCH_PRODUCTS(128, CONVBENCH_64, "64", "65", CONVBENCH_SUMS32(0), CONVBENCH_SUMS32(32))
  CONVBENCH_PRODUCTS(192, CONVBENCH_96, "96", "97", CONVBENCH_SUMS32(0), CONVBENCH_SUMS32(32), CONVBENCH_SUMS32(64))
  CONVBENCH_PRODUCTS(256, CONVBENCH_128, "128", "129", CONVBENCH_SUMS32(0), CONVBENCH_SUMS32(32), CONVBENCH_SUMS32(64),
                     CONVBENCH_SUMS32(96))
#else
  __trap();
#endif
}
