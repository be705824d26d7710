// Races and uninitialised reads, whatever order the fibers ran in.
//
// Compiled with -fsanitize=thread, g++ calls a hook at each memory access; libtsan is not linked, the hooks are ours. Every
// cell of shared memory and of the array arguments remembers its last write and its last reads with the epoch (barriers
// passed): two accesses in one epoch by two threads, one of them a write, are a race. Lanes of a warp are ordered by
// __syncwarp too. Blocks of a launch are never ordered.
#pragma once
#include <stdlib.h>
#include "machine.hpp"
#ifndef CUDA_HOST_CELL
#define CUDA_HOST_CELL 4  // bytes that are watched together: the smallest number that threads write apart
#endif

namespace cuda_host {

constexpr unsigned SEVERAL = ~0u, MOST_REGIONS = 64, MOST_REPORTS = 8;

struct Visit {
  unsigned thread, epoch, warp_epoch, block;
  uintptr_t place;
};
struct Cell {
  Visit write, read;  // read.thread is SEVERAL where several did since the last barrier, read_warp likewise
  unsigned read_warp;
  bool atomic;
};
struct Watched {
  char *begin, *end, *mapped_begin, *mapped_end;
  Cell* cells;
  bool shared;
};
struct Watch {
  Watched regions[MOST_REGIONS + 2];
  unsigned count, epoch, block_epoch, launch_epoch, clock, warp_epoch[MOST_THREADS / WARP], reports;
  uintptr_t reported[MOST_REPORTS];
};
CUDA_HOST_STATE Watch watch = {};

void watch_region(const Region& region, bool shared) {
  if (region.begin >= region.end || watch.count == MOST_REGIONS + 2) return;
  const size_t cells = (region.end - region.begin) / CUDA_HOST_CELL + 2;
  watch.regions[watch.count++] = {region.begin, region.end, region.mapped_begin, region.mapped_end,
                                  (Cell*)calloc(cells, sizeof(Cell)), shared};
}

void race_launch() {
  watch.count = watch.reports = 0;
  watch.launch_epoch = watch.epoch + 1;
  char* dynamic_end = machine.dynamic + machine.dynamic_bytes;
  watch_region({machine.dynamic, dynamic_end, machine.arena.shared_end - (256 << 10), machine.arena.shared_end}, true);
  watch_region({machine.static_begin, machine.static_end, machine.static_begin, machine.static_end}, true);
  for (unsigned i = 0; i < machine.region_count; ++i) watch_region(machine.regions[i], false);
}
void race_barrier() {
  ++watch.epoch;
  for (unsigned& epoch : watch.warp_epoch) epoch = ++watch.clock;
}
void race_block() {
  race_barrier();
  watch.block_epoch = watch.epoch;
}
void race_warp(unsigned warp) { watch.warp_epoch[warp] = ++watch.clock; }
void race_finish() {
  for (unsigned i = 0; i < watch.count; ++i) free(watch.regions[i].cells);
  if (watch.reports) machine.failed = true;
}

void report(const char* what, const Watched& region, const char* p, const Visit* other, uintptr_t place) {
  for (unsigned i = 0; i < watch.reports; ++i)
    if (watch.reported[i] == place) return;
  if (watch.reports == MOST_REPORTS || machine.failed) return;
  watch.reported[watch.reports++] = place;
  say("%s%s at @%lx@: byte %ld of %s, block %u thread %u", watch.reports > 1 ? "; " : "", what, place, (long)(p - region.begin),
      region.shared ? "shared memory" : "a global array", machine.block, machine.current->number);
  if (!other) return;
  if (other->thread == SEVERAL)
    say(", and other threads");
  else
    say(", and block %u thread %u", other->block, other->thread);
  say(" at @%lx@", other->place);
}

// Was an earlier visit, still of interest, by another thread with nothing between that orders the two?
bool unordered(const Visit& before, unsigned before_warp, bool shared) {
  const unsigned thread = machine.current->number, warp = thread / WARP;
  if (!shared && before.block != machine.block) return true;
  if (before.epoch != watch.epoch || before.thread == thread) return false;
  return before_warp != warp || before.warp_epoch == watch.warp_epoch[warp];
}

void visit(const Watched& region, Cell& cell, const char* p, Access kind, uintptr_t place) {
  const unsigned thread = machine.current->number, warp = thread / WARP;
  const unsigned first = region.shared ? watch.block_epoch : watch.launch_epoch;
  const bool written = cell.write.epoch >= first, read = cell.read.epoch >= first;
  if (region.shared && !written && kind != WRITE) report("read of uninitialised memory", region, p, nullptr, place);
  if (written && !(kind == ATOMIC && cell.atomic) && unordered(cell.write, cell.write.thread / WARP, region.shared))
    report(kind == READ ? "read-after-write race" : "write-after-write race", region, p, &cell.write, place);
  if (read && kind != READ && unordered(cell.read, cell.read_warp, region.shared))
    report("write-after-read race", region, p, &cell.read, place);
  const Visit now = {thread, watch.epoch, watch.warp_epoch[warp], machine.block, place};
  if (kind != READ) {
    cell.write = now;
    cell.atomic = kind == ATOMIC;
    return;
  }
  const bool alone = !read || !unordered(cell.read, cell.read_warp, region.shared);
  const bool same_warp = alone || cell.read_warp == warp;
  const bool other_block = read && !region.shared && cell.read.block != machine.block;
  cell.read = now;
  cell.read_warp = same_warp ? warp : SEVERAL;
  if (!alone) cell.read.thread = SEVERAL;
  if (other_block) cell.read.block = SEVERAL;
}

void race_access(const void* address, size_t bytes, Access kind, uintptr_t place) {
  if (!machine.current || machine.current->state != READY) return;
  const char* p = (const char*)address;
  const char* stacks = machine.arena.stacks;
  if (p >= stacks && p < stacks + MOST_THREADS * (STACK + GUARD)) return;
  for (unsigned i = 0; i < watch.count; ++i) {
    const Watched& region = watch.regions[i];
    if (p < region.mapped_begin || p >= region.mapped_end) continue;
    if (p < region.begin || p + bytes > region.end) {
      report("access outside the array", region, p, nullptr, place);
      return;
    }
    const size_t first = (p - region.begin) / CUDA_HOST_CELL, last = (p - region.begin + bytes - 1) / CUDA_HOST_CELL;
    for (size_t cell = first; cell <= last; ++cell) visit(region, region.cells[cell], p, kind, place);
    return;
  }
}

}  // namespace cuda_host

#define CUDA_HOST_HOOK(NAME, ...) \
  extern "C" CUDA_HOST_HIDDEN void __tsan_##NAME { __VA_ARGS__; }
#define CUDA_HOST_HOOKS(BYTES)                                                                                           \
  CUDA_HOST_HOOK(read##BYTES(void* p), cuda_host::race_access(p, BYTES, cuda_host::READ, CUDA_HOST_HERE))                \
  CUDA_HOST_HOOK(write##BYTES(void* p), cuda_host::race_access(p, BYTES, cuda_host::WRITE, CUDA_HOST_HERE))              \
  CUDA_HOST_HOOK(unaligned_read##BYTES(void* p), cuda_host::race_access(p, BYTES, cuda_host::READ, CUDA_HOST_HERE))      \
  CUDA_HOST_HOOK(unaligned_write##BYTES(void* p), cuda_host::race_access(p, BYTES, cuda_host::WRITE, CUDA_HOST_HERE))
CUDA_HOST_HOOKS(1)
CUDA_HOST_HOOKS(2)
CUDA_HOST_HOOKS(4)
CUDA_HOST_HOOKS(8)
CUDA_HOST_HOOKS(16)
CUDA_HOST_HOOK(read_range(void* p, size_t bytes), cuda_host::race_access(p, bytes, cuda_host::READ, CUDA_HOST_HERE))
CUDA_HOST_HOOK(write_range(void* p, size_t bytes), cuda_host::race_access(p, bytes, cuda_host::WRITE, CUDA_HOST_HERE))
CUDA_HOST_HOOK(func_entry(void*), )
CUDA_HOST_HOOK(func_exit(void*), )
CUDA_HOST_HOOK(init(), )
