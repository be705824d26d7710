// PTX that CUDA C++ has no word for, each instruction in a function of its own: nowhere else stands assembly.
//
// Before sm_80 there is no cp.async: the copy is then made at once, which any correct user of it cannot tell apart. On
// the CPU (no __CUDA_ARCH__) the bodies are those of tests/cuda_host, which know what the instructions promise.
#pragma once

#ifdef __CUDA_ARCH__
#define CONVBENCH_AMPERE (__CUDA_ARCH__ >= 800)
__device__ __forceinline__ unsigned shared_address(const void* p) { return (unsigned)__cvta_generic_to_shared(p); }
#endif

// Copies 16 bytes from global to shared memory, or writes zeros where `valid` is false (src is then not read, but must be
// a global address). Both 16-byte aligned. Past the first-level cache: for operands that are read once by a block.
__device__ __forceinline__ void copy_async_16(void* dst, const void* src, bool valid) {
#ifndef __CUDA_ARCH__
  cuda_host::copy_async(dst, src, 16, valid);
#elif CONVBENCH_AMPERE
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(dst)), "l"(src), "r"(valid ? 16 : 0)
               : "memory");
#else
  *reinterpret_cast<int4*>(dst) = valid ? *reinterpret_cast<const int4*>(src) : make_int4(0, 0, 0, 0);
#endif
}

// The same through the first-level cache, for operands that a block reads several times.
__device__ __forceinline__ void copy_async_16_cached(void* dst, const void* src, bool valid) {
#ifndef __CUDA_ARCH__
  cuda_host::copy_async(dst, src, 16, valid);
#elif CONVBENCH_AMPERE
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(dst)), "l"(src), "r"(valid ? 16 : 0)
               : "memory");
#else
  *reinterpret_cast<int4*>(dst) = valid ? *reinterpret_cast<const int4*>(src) : make_int4(0, 0, 0, 0);
#endif
}

// The same of 4 bytes, aligned to 4.
__device__ __forceinline__ void copy_async_4(void* dst, const void* src, bool valid) {
#ifndef __CUDA_ARCH__
  cuda_host::copy_async(dst, src, 4, valid);
#elif CONVBENCH_AMPERE
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared_address(dst)), "l"(src), "r"(valid ? 4 : 0)
               : "memory");
#else
  *reinterpret_cast<int*>(dst) = valid ? *reinterpret_cast<const int*>(src) : 0;
#endif
}

// Closes a group: the copies this thread has begun since the last one.
__device__ __forceinline__ void copy_async_commit() {
#ifndef __CUDA_ARCH__
  cuda_host::copy_async_commit();
#elif CONVBENCH_AMPERE
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// Waits until at most LEFT of this thread's groups are under way. Other threads' copies are seen after a barrier.
template <int LEFT>
__device__ __forceinline__ void copy_async_wait() {
#ifndef __CUDA_ARCH__
  cuda_host::copy_async_wait(LEFT);
#elif CONVBENCH_AMPERE
  asm volatile("cp.async.wait_group %0;\n" ::"n"(LEFT) : "memory");
#endif
}

// 16 bytes that are read once: through no first-level cache.
__device__ __forceinline__ float4 load_once(const float4* p) {
#ifdef __CUDA_ARCH__
  float4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.f32 {%0, %1, %2, %3}, [%4];\n"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(p));
  return v;
#else
  return *p;
#endif
}

// float to the bits of the nearest half (ties to even), and back.
__device__ __forceinline__ unsigned short to_half(float v) {
#ifdef __CUDA_ARCH__
  unsigned short h;
  asm("cvt.rn.f16.f32 %0, %1;\n" : "=h"(h) : "f"(v));
  return h;
#else
  return cuda_host::to_half(v);
#endif
}

__device__ __forceinline__ float from_half(unsigned short h) {
#ifdef __CUDA_ARCH__
  float v;
  asm("cvt.f32.f16 %0, %1;\n" : "=f"(v) : "h"(h));
  return v;
#else
  return cuda_host::from_half(h);
#endif
}

// float rounded to tf32 (10 bits of mantissa, ties away from zero), as the bits tensor cores take. sm_80 or newer.
__device__ __forceinline__ unsigned to_tf32(float v) {
#ifndef __CUDA_ARCH__
  return cuda_host::to_tf32(v);
#elif CONVBENCH_AMPERE
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;\n" : "=r"(bits) : "f"(v));
  return bits;
#else
  __trap();
  return 0;
#endif
}

// d[16 x 8] += a[16 x 8] b[8 x 8] by a warp, tf32. With lane = 4 g + t a lane holds
//   a[i]: row g + 8 (i & 1), column t + 4 (i >> 1);  b[i]: row t + 4 i, column g;  d[i]: row g + 8 (i >> 1), column 2 t + (i & 1).
__device__ __forceinline__ void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifndef __CUDA_ARCH__
  cuda_host::multiply_tf32(d, a, b);
#elif CONVBENCH_AMPERE
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

// d[16 x 8] += a[16 x 16] b[16 x 8] by a warp, halves in pairs (the lower address in the lower bits), float sums. A lane holds
//   a[i]: row g + 8 (i & 1), columns 2 t + 8 (i >> 1) and the next;  b[i]: rows 2 t + 8 i and the next, column g;  d as above.
__device__ __forceinline__ void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
#ifndef __CUDA_ARCH__
  cuda_host::multiply_half(d, a, b);
#elif CONVBENCH_AMPERE
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  __trap();
#endif
}

// Four 8 x 8 matrices of 16-bit numbers from shared memory: lane 8 i + j gives the address of row j of matrix i (16 bytes,
// aligned), and gets in r[i] the two neighbours at row g, columns 2 t and 2 t + 1; transposed: rows 2 t, 2 t + 1 of column g.
template <bool TRANSPOSED>
__device__ __forceinline__ void load_matrices(unsigned (&r)[4], const void* row) {
#ifndef __CUDA_ARCH__
  cuda_host::load_matrices(r, row, TRANSPOSED);
#else
  if (TRANSPOSED)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// Hopper's own: warpgroups, four warps in a row, whose tensor cores multiply matrices where they lie in shared memory. Only in
// code compiled for sm_90a (Device.load says how). Operands are rows of 128 bytes from an address that is a multiple of 1024,
// chunk c (16 bytes) of row r at c ^ r % 8.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define CONVBENCH_HOPPER 1
#else
#define CONVBENCH_HOPPER 0
#endif

// What this thread has written to shared memory (by copy_async_... too, once waited for) is there for the products of the block
// after the next barrier.
__device__ __forceinline__ void publish_to_products() {
#ifndef __CUDA_ARCH__
  cuda_host::publish_to_products();
#elif CONVBENCH_HOPPER
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
#endif
}

// Stands before a warpgroup's first product, and wherever its threads have touched the sums themselves.
__device__ __forceinline__ void begin_products() {
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

// Waits until at most LEFT groups are under way: of the others, operands may be overwritten. Sums may be read when none is.
template <int LEFT>
__device__ __forceinline__ void wait_for_products() {
#ifndef __CUDA_ARCH__
  cuda_host::wait_for_products(LEFT);
#elif CONVBENCH_HOPPER
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(LEFT) : "memory");
#endif
}

#if CONVBENCH_HOPPER
// Where the two chunks from `chunk` on of a matrix's rows lie: address, 1024 bytes from 8 rows to the next 8, swizzled.
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

// d[64 x COLUMNS] += a[64 x 2 chunks] b[COLUMNS x 2 chunks]^T by a warpgroup, halves or tf32, from the chunks `chunk` and the
// next of each row. With warp w of the warpgroup and lane = 4 g + t a thread holds, for each 8 columns, in d[4 j ..]
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
