// What devices/ptx.cuh calls on the CPU: cp.async, half and tf32 numbers, tensor core products, ldmatrix.
//
// A copy's destination is NaN from its issue until the wait that covers it, so a missing wait shows, and so does a copy
// that is issued while others still read the place.
#pragma once
#include "numbers.hpp"
#include "scheduler.hpp"

namespace cuda_host {

CUDA_HOST_PLAIN inline bool is_shared(const void* p, size_t bytes) {
  const char *begin = (const char*)p, *end = begin + bytes;
  return (begin >= machine.dynamic && end <= machine.dynamic + machine.dynamic_bytes) ||
         (begin >= machine.static_begin && end <= machine.static_end);
}

CUDA_HOST_PLAIN inline void copy_async(void* to, const void* from, int bytes, bool valid) {
  Fiber& fiber = *machine.current;
  const uintptr_t place = CUDA_HOST_HERE;
  if (((uintptr_t)to | (valid ? (uintptr_t)from : 0)) & (bytes - 1))
    CUDA_HOST_FAIL("misaligned cp.async of %d bytes at @%lx@ in " CUDA_HOST_THREAD, bytes, place, CUDA_HOST_THREAD_VALUES);
  if (!is_shared(to, bytes))
    CUDA_HOST_FAIL("cp.async to an address outside shared memory at @%lx@ in " CUDA_HOST_THREAD, place, CUDA_HOST_THREAD_VALUES);
  if (valid && is_shared(from, 1))
    CUDA_HOST_FAIL("cp.async from shared memory at @%lx@ in " CUDA_HOST_THREAD, place, CUDA_HOST_THREAD_VALUES);
  if (fiber.copies == MOST_COPIES)
    CUDA_HOST_FAIL("more than %u cp.async in flight in one thread at @%lx@", MOST_COPIES, place);
  race_access(to, bytes, WRITE, place);
  if (valid) {
    race_access(from, bytes, READ, place);
    volatile const char* source = (volatile const char*)from;
    (void)source[0], (void)source[bytes - 1];  // faults here, where it was issued
  }
  memset(to, 0xFF, bytes);
  machine.arena.copies[fiber.number * MOST_COPIES + fiber.copies++] = {to, from, bytes, valid, fiber.group};
}

inline void copy_async_commit() { ++machine.current->group; }

// Completes all groups of this thread but the `left` newest.
CUDA_HOST_PLAIN inline void copy_async_wait(int left) {
  Fiber& fiber = *machine.current;
  Copy* copies = machine.arena.copies + fiber.number * MOST_COPIES;
  unsigned kept = 0;
  for (unsigned i = 0; i < fiber.copies; ++i) {
    const Copy copy = copies[i];
    if (copy.group + left >= fiber.group) {
      copies[kept++] = copy;
      continue;
    }
    race_access(copy.to, copy.bytes, WRITE, CUDA_HOST_HERE);
    if (copy.valid)
      memcpy(copy.to, copy.from, copy.bytes);
    else
      memset(copy.to, 0, copy.bytes);
  }
  fiber.copies = kept;
}

// The nearest half, ties to even.
CUDA_HOST_PLAIN inline unsigned short to_half(float v) {
  const unsigned all = bits<unsigned>(v), sign = all >> 16 & 0x8000, size = all & 0x7FFFFFFF;
  if (size > 0x7F800000) return 0x7FFF;                                                  // NaN
  if (size >= 0x477FF000) return sign | 0x7C00;                                          // 65520 and above
  if (size < 0x38800000) return sign | (unsigned short)lrintf(bits<float>(size) * 0x1p24f);  // multiples of 2^-24
  return sign | (unsigned short)((size - 0x38000000 + 0xFFF + (size >> 13 & 1)) >> 13);
}

CUDA_HOST_PLAIN inline float from_half(unsigned short h) {
  const unsigned sign = (unsigned)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
  if (exponent == 0) return bits<float>(sign | bits<unsigned>(fraction * 0x1p-24f));
  return bits<float>(sign | (exponent == 31 ? 0x7F800000 : (exponent + 112) << 23) | fraction << 13);
}

// 10 bits of mantissa, ties away from zero.
inline unsigned to_tf32(float v) {
  const unsigned all = bits<unsigned>(v);
  return (all & 0x7F800000) == 0x7F800000 ? all : (all + 0x1000) & 0xFFFFE000u;
}

struct Product {
  float* d;
  const unsigned *a, *b;
};

// d[16 x 8] += a[16 x DEPTH] b[DEPTH x 8] of a whole warp; PER_WORD numbers stand in a register. The PTX manual's layout:
// with lane = 4 g + t, register i of a: row g + 8 (i & 1), columns from PER_WORD t + 8 (or 4) (i >> 1) on.
template <int PER_WORD>
CUDA_HOST_PLAIN void resolve_product(void* const (&operands)[WARP], unsigned lanes, unsigned) {
  constexpr int DEPTH = 8 * PER_WORD, HALF = DEPTH / 2;
  if (lanes != ~0u) return CUDA_HOST_FAIL("mma needs all 32 lanes");
  auto number = [](unsigned word, int part) {
    return PER_WORD == 1 ? bits<float>(word & 0xFFFFE000u) : from_half((unsigned short)(word >> 16 * part));
  };
  static_assert(WARP == 32, "");
  float a[16][DEPTH], b[DEPTH][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& mine = *(const Product*)operands[lane];
    const int g = lane / 4, t = lane % 4;
    for (int part = 0; part < PER_WORD; ++part) {
      for (int i = 0; i < 4; ++i) a[g + 8 * (i & 1)][PER_WORD * t + part + HALF * (i >> 1)] = number(mine.a[i], part);
      for (int i = 0; i < 2; ++i) b[PER_WORD * t + part + HALF * i][g] = number(mine.b[i], part);
    }
    for (int i = 0; i < 4; ++i) d[g + 8 * (i >> 1)][2 * t + (i & 1)] = mine.d[i];
  }
  for (int row = 0; row < 16; ++row)
    for (int k = 0; k < DEPTH; ++k)
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) ((Product*)operands[lane])->d[i] = d[lane / 4 + 8 * (i >> 1)][2 * (lane % 4) + (i & 1)];
}

CUDA_HOST_PLAIN inline void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Product operands = {d, a, b};
  warp_operation(~0u, resolve_product<1>, &operands, CUDA_HOST_HERE);
}
CUDA_HOST_PLAIN inline void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Product operands = {d, a, b};
  warp_operation(~0u, resolve_product<2>, &operands, CUDA_HOST_HERE);
}

struct Matrices {
  unsigned* r;
  const void* row;
};

template <bool TRANSPOSED>
CUDA_HOST_PLAIN void resolve_matrices(void* const (&operands)[WARP], unsigned lanes, unsigned) {
  if (lanes != ~0u) return CUDA_HOST_FAIL("ldmatrix needs all 32 lanes");
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      for (int part = 0; part < 2; ++part) {
        const int g = lane / 4, pair = 2 * (lane % 4) + part;
        const int row = TRANSPOSED ? pair : g, column = TRANSPOSED ? g : pair;
        const char* from = (const char*)((Matrices*)operands[8 * i + row])->row + 2 * column;
        memcpy((char*)&((Matrices*)operands[lane])->r[i] + 2 * part, from, 2);
      }
}

CUDA_HOST_PLAIN inline void load_matrices(unsigned (&r)[4], const void* row, bool transposed) {
  const uintptr_t place = CUDA_HOST_HERE;
  if ((uintptr_t)row & 15)
    CUDA_HOST_FAIL("misaligned row of ldmatrix at @%lx@ in " CUDA_HOST_THREAD, place, CUDA_HOST_THREAD_VALUES);
  if (!is_shared(row, 16))
    CUDA_HOST_FAIL("ldmatrix outside shared memory at @%lx@ in " CUDA_HOST_THREAD, place, CUDA_HOST_THREAD_VALUES);
  race_access(row, 16, READ, place);
  Matrices operands = {r, row};
  warp_operation(~0u, transposed ? resolve_matrices<true> : resolve_matrices<false>, &operands, place);
}

}  // namespace cuda_host
