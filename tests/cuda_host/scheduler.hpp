// The scheduler: which fiber runs next, when a barrier opens, when a warp operation is computed, and when nobody can go on.
//
// Seed 0 takes blocks, warps and lanes in ascending order, 1 in descending order (both together show each pair in both
// orders), any other seed in a random one.
#pragma once
#include <sys/mman.h>
#include "fibers.hpp"

namespace cuda_host {

unsigned random_below(unsigned limit) {
  machine.random ^= machine.random << 13;
  machine.random ^= machine.random >> 17;
  machine.random ^= machine.random << 5;
  return machine.random % limit;
}

// A permutation of 0 .. count - 1: i -> start + i step, step coprime to count.
struct Order {
  unsigned count, start, step;
  unsigned operator[](unsigned i) const { return (start + (uint64_t)i * step) % count; }
};

Order order_of(unsigned count) {
  if (machine.seed == 0 || count < 2) return {count, 0, 1};
  if (machine.seed == 1) return {count, count - 1, count - 1};
  for (;;) {
    const unsigned step = 1 + random_below(count - 1);
    unsigned a = count, b = step;
    while (b) {
      const unsigned rest = a % b;
      a = b;
      b = rest;
    }
    if (a == 1) return {count, random_below(count), step};
  }
}

unsigned lanes_of(unsigned warp) {
  const unsigned rest = machine.threads - warp * WARP;
  return rest < WARP ? rest : WARP;
}

// Computes every operation of this warp whose lanes have all arrived; true if there was one.
bool resolve_operations(unsigned warp) {
  Fiber* lanes = machine.arena.fibers + warp * WARP;
  const unsigned count = lanes_of(warp);
  unsigned alive = 0;
  for (unsigned i = 0; i < count; ++i) alive |= unsigned(lanes[i].state != FINISHED) << i;
  bool any = false;
  for (unsigned i = 0; i < count; ++i) {
    const Fiber& asker = lanes[i];
    if (asker.state != AT_WARP_OPERATION) continue;
    if (!(asker.mask >> i & 1)) {
      CUDA_HOST_FAIL("warp operation at @%lx@: lane %u is not in its own mask %08x", asker.place, i, asker.mask);
      return false;
    }
    const unsigned wanted = asker.mask & alive;
    void* operands[WARP] = {};
    bool complete = true;
    for (unsigned j = 0; j < count && complete; ++j) {
      if (!(wanted >> j & 1)) continue;
      const Fiber& other = lanes[j];
      complete = other.state == AT_WARP_OPERATION && other.mask == asker.mask && other.resolve == asker.resolve;
      operands[j] = other.operands;
    }
    if (!complete) continue;
    asker.resolve(operands, wanted, warp);
    if (machine.failed) {
      say(" at @%lx@, block (%u,%u,%u) warp %u", asker.place, blockIdx.x, blockIdx.y, blockIdx.z, warp);
      return false;
    }
    for (unsigned j = 0; j < count; ++j)
      if (wanted >> j & 1) lanes[j].state = READY;
    any = true;
  }
  return any;
}

// Runs a warp as far as it goes; true if anything ran.
bool run_warp(unsigned warp) {
  Fiber* lanes = machine.arena.fibers + warp * WARP;
  const unsigned count = lanes_of(warp);
  bool any = false;
  do {
    const Order order = order_of(count);
    for (unsigned i = 0; i < count; ++i) {
      Fiber& fiber = lanes[order[i]];
      if (fiber.state != READY) continue;
      enter(fiber);
      any = true;
      if (machine.failed) return any;
    }
  } while (resolve_operations(warp));
  return any;
}

// Opens the barrier if every living thread waits at it; true if it opened.
bool open_barrier() {
  const Fiber* first = nullptr;
  int sum = 0;
  for (unsigned i = 0; i < machine.threads; ++i) {
    const Fiber& fiber = machine.arena.fibers[i];
    if (fiber.state == FINISHED) continue;
    if (fiber.state != AT_BARRIER) return false;
    if (!first) first = &fiber;
    if (fiber.line != first->line || strcmp(fiber.file, first->file)) {
      CUDA_HOST_FAIL("divergent barrier in block (%u,%u,%u): thread %u waits at %s:%d, thread %u at %s:%d", blockIdx.x,
                     blockIdx.y, blockIdx.z, first->number, first->file, first->line, fiber.number, fiber.file, fiber.line);
      return false;
    }
    sum += fiber.predicate;
  }
  machine.unpublished = false;
  for (unsigned i = 0; i < machine.threads; ++i) {
    Fiber& fiber = machine.arena.fibers[i];
    if (fiber.state != AT_BARRIER) continue;
    machine.unpublished |= fiber.unpublished;
    fiber.state = READY;
    fiber.predicate = sum;
  }
  race_barrier();
  return true;
}

// Nobody can go on: says who waits where, neighbours in the same place once.
void report_deadlock() {
  say("deadlock in block (%u,%u,%u):", blockIdx.x, blockIdx.y, blockIdx.z);
  for (unsigned i = 0; i < machine.threads; ++i) {
    const Fiber &fiber = machine.arena.fibers[i], &before = machine.arena.fibers[i ? i - 1 : 0];
    if (i && fiber.state == before.state && fiber.place == before.place && fiber.line == before.line) continue;
    if (fiber.state == FINISHED) say(" from thread %u on: exited;", i);
    if (fiber.state == AT_BARRIER) say(" from thread %u on: at the barrier at %s:%d;", i, fiber.file, fiber.line);
    if (fiber.state == AT_WARP_OPERATION)
      say(" from thread %u on: in the warp operation at @%lx@ with mask %08x;", i, fiber.place, fiber.mask);
  }
  machine.failed = true;
}

void start_fibers() {
  for (unsigned i = 0; i < machine.threads; ++i) {
    Fiber& fiber = machine.arena.fibers[i];
    memset(&fiber, 0, sizeof fiber);
    fiber.number = i;
    fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
    fiber.stack = first_stack(i);
  }
  machine.alive = machine.threads;
}

// Hides the regions that are to be, or shows them again.
void hide_regions(bool hides) {
  machine.hides = false;
  for (unsigned i = 0; i < machine.region_count; ++i) {
    const Region& region = machine.regions[i];
    if (!region.hidden) continue;
    const int shown = region.read_only ? PROT_READ : PROT_READ | PROT_WRITE;
    mprotect(region.mapped_begin, region.mapped_end - region.mapped_begin, hides ? PROT_NONE : shown);
    machine.hides = hides;
  }
}

void wait_for_previous() {
  if (machine.hides) hide_regions(false);
}

bool untouched(const char* begin, const char* end) {
  for (; begin < end; ++begin)
    if (*begin != (char)0xFF) return false;
  return true;
}

// One block from its first to its last instruction, in shared memory full of NaN.
void run_block(char* static_page_end) {
  memset(machine.dynamic, 0xFF, machine.arena.shared_end - machine.dynamic);
  memset(machine.static_begin, 0xFF, static_page_end - machine.static_begin);
  start_fibers();
  race_block();
  hide_regions(true);
  const unsigned warps = (machine.threads + WARP - 1) / WARP;
  while (machine.alive && !machine.failed) {
    bool any = false;
    const Order order = order_of(warps);
    for (unsigned i = 0; i < warps && !machine.failed; ++i) any |= run_warp(order[i]);
    if (!any && !machine.failed && !open_barrier() && !machine.failed) report_deadlock();
  }
  if (machine.failed) return;
  if (!untouched(machine.dynamic + machine.dynamic_bytes, machine.arena.shared_end))
    CUDA_HOST_FAIL("write past the end of dynamic shared memory in block (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z);
  if (!untouched(machine.static_end, static_page_end))
    CUDA_HOST_FAIL("write past the end of static shared memory in block (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z);
}

}  // namespace cuda_host
