// What a warp computes together (votes, tensor core products, ldmatrix), and cp.async.
//
// A copy's destination is NaN from its issue until the wait that covers it, so a missing wait shows, and so does a copy
// that is issued while others still read the place.
#pragma once
#include "machine.hpp"
#include "intrinsics.hpp"
#include "tensor.hpp"

namespace cuda_host {

struct Voted { Vote what; unsigned in, out; };

unsigned voted(Vote what, unsigned a, unsigned b) {
  switch (what) {
    case SUM: return a + b;
    case AND: return a & b;
    case OR: return a | b;
    case XOR: return a ^ b;
    case LEAST: return (int)a < (int)b ? a : b;
    case GREATEST: return (int)a > (int)b ? a : b;
    case LEAST_UNSIGNED: return a < b ? a : b;
    default: return a > b ? a : b;
  }
}

void resolve_vote(void* const (&operands)[WARP], unsigned lanes, unsigned) {
  for (unsigned i = 0; i < WARP; ++i) {
    if (!(lanes >> i & 1)) continue;
    auto* mine = (Voted*)operands[i];
    unsigned ballot = 0, matching = 0, total = 0;
    bool first = true;
    for (unsigned j = 0; j < WARP; ++j) {
      if (!(lanes >> j & 1)) continue;
      const unsigned other = ((Voted*)operands[j])->in;
      ballot |= unsigned(other != 0) << j;
      matching |= unsigned(other == mine->in) << j;
      total = first ? other : voted(mine->what, total, other);
      first = false;
    }
    mine->out = mine->what == BALLOT ? ballot : mine->what == MATCH ? matching : total;
  }
}

unsigned vote(Vote what, unsigned mask, unsigned value, uintptr_t place) {
  Voted operands = {what, value, 0};
  warp_operation(mask, resolve_vote, &operands, place);
  return operands.out;
}

void resolve_nothing(void* const (&)[WARP], unsigned, unsigned warp) { race_warp(warp); }
void synchronise_warp(unsigned mask, uintptr_t place) { warp_operation(mask, resolve_nothing, nullptr, place); }

int counting_barrier(int predicate, const char* file, int line) {
  machine.current->predicate = predicate;
  wait_at_barrier(file, line);
  const int count = machine.current->predicate;
  machine.current->predicate = 0;
  return count;
}

bool is_shared(const void* p, size_t bytes) {
  const char *begin = (const char*)p, *end = begin + bytes;
  return (begin >= machine.dynamic && end <= machine.dynamic + machine.dynamic_bytes) ||
         (begin >= machine.static_begin && end <= machine.static_end);
}

void copy_async(void* to, const void* from, int bytes, bool valid) {
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

// Completes all groups of this thread but the `left` newest.
void copy_async_wait(int left) {
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
    fiber.unpublished = true;
    if (copy.valid)
      memcpy(copy.to, copy.from, copy.bytes);
    else
      memset(copy.to, 0, copy.bytes);
  }
  fiber.copies = kept;
}

struct Product {
  float* d;
  const unsigned *a, *b;
};

// d[16 x 8] += a[16 x DEPTH] b[DEPTH x 8] of a whole warp; PER_WORD numbers stand in a register. The PTX manual's layout:
// with lane = 4 g + t, register i of a: row g + 8 (i & 1), columns from PER_WORD t + 8 (or 4) (i >> 1) on.
template <int PER_WORD>
void resolve_product(void* const (&operands)[WARP], unsigned lanes, unsigned) {
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

void multiply_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Product operands = {d, a, b};
  warp_operation(~0u, resolve_product<1>, &operands, CUDA_HOST_HERE);
}
void multiply_half(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  Product operands = {d, a, b};
  warp_operation(~0u, resolve_product<2>, &operands, CUDA_HOST_HERE);
}

struct Matrices {
  unsigned* r;
  const void* row;
};

template <bool TRANSPOSED>
void resolve_matrices(void* const (&operands)[WARP], unsigned lanes, unsigned) {
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

void load_matrices(unsigned (&r)[4], const void* row, bool transposed) {
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
