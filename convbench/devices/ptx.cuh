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

// The kernel that is launched next by Device.launch(.., follows=True) may begin when every block has said so or ended: its
// blocks then wait beside this kernel's last ones, not for the GPU to be empty. Before sm_90 they wait for that.
__device__ __forceinline__ void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

// In a kernel launched so: waits until the one before has ended. Before it, nothing may be written, and nothing read that
// the one before writes; a parameter that points to such is no __restrict__ one, or its loads may be moved in front.
__device__ __forceinline__ void wait_for_previous() {
#ifndef __CUDA_ARCH__
  cuda_host::wait_for_previous();
#elif __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
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
