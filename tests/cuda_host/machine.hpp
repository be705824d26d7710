// What a kernel's translation unit and the runtime (runtime.cpp) share: the state of a launch, and how a thread waits.
#pragma once
#include "words.hpp"

#pragma GCC visibility push(hidden)
namespace cuda_host {

constexpr unsigned MOST_THREADS = 1024, WARP = 32, MOST_COPIES = 256, MOST_PRODUCTS = 64, MOST_SUMS = 128;
constexpr size_t STACK = 64 << 10, GUARD = 64 << 10;  // GUARD is a multiple of any page size in use
constexpr size_t FAR = 16 << 20;                      // not mapped, on each side of dynamic shared memory

enum State { READY, FINISHED, AT_BARRIER, AT_WARP_OPERATION };

// A cp.async that has been issued and not yet waited for.
struct Copy {
  void* to;
  const void* from;
  int bytes;
  bool valid;
  unsigned group;
};

// A product of a warpgroup that has been begun and not yet waited for.
struct WarpgroupProduct {
  const char *a, *b;
  int chunk;
  bool half;
  unsigned group;
};

// A thread's part of its warpgroup's products.
struct Warpgroup {
  WarpgroupProduct products[MOST_PRODUCTS];
  float sums[MOST_SUMS];
};

// Computes a warp operation for all lanes in `lanes`, whose operands they have posted.
using Resolve = void (*)(void* const (&operands)[WARP], unsigned lanes, unsigned warp);

struct Fiber {
  void* stack;  // where its registers are saved
  uint3 index;
  unsigned number;  // within the block
  State state;
  const char* file;  // of the barrier it waits at
  int line;
  uintptr_t place;  // of the warp operation it waits in
  unsigned mask;
  Resolve resolve;
  void* operands;
  int predicate;  // of __syncthreads_count: what it brings, then what all brought
  unsigned group;  // of its next cp.async
  unsigned copies;
  unsigned product_group;  // of its next product of a warpgroup
  unsigned products;
  float* sums;  // of the products that are under way, or null
  int columns;
  bool may_multiply, unpublished;  // since begin_products; copies that products do not see yet
};

// An array argument: its bytes, and the mapped pages around it. hidden: until wait_for_previous, as the kernel before may
// still write it, or read what this one writes.
struct Region {
  char *begin, *end, *mapped_begin, *mapped_end;
  bool read_only, hidden;
};

// Memory that all libraries of the process use in turn.
struct Arena {
  Fiber* fibers;
  Copy* copies;
  Warpgroup* warpgroups;
  char *stacks, *shared_end, *signal_stack;
};

struct Machine {
  Arena arena;
  Fiber* current;  // null while the scheduler runs
  void* scheduler_stack;
  void (*kernel)(void**);
  void** arguments;
  char *dynamic, *static_begin, *static_end;
  unsigned dynamic_bytes, threads, alive, block, seed, random;
  bool unpublished;  // of any thread, at the last barrier
  Region* regions;
  unsigned region_count;
  bool hides;  // regions, at the moment
  bool failed;
  char* message;
  size_t message_bytes;
  uintptr_t fault[18];  // the address, then the calls that led there
};
extern CUDA_HOST_STATE Machine machine;

// Appends to the error message. @hexadecimal@ is a place in the code, which launch.py turns into file:line.
__attribute__((format(printf, 1, 2))) void say(const char* format, ...);

// The launch is over: a fiber that says so does not come back.
void stop();

#define CUDA_HOST_FAIL(...) (cuda_host::machine.failed ? (void)0 : cuda_host::say(__VA_ARGS__), cuda_host::stop())
#define CUDA_HOST_THREAD "block (%u,%u,%u) thread (%u,%u,%u)"
#define CUDA_HOST_THREAD_VALUES blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z

// What the kernel before writes is there: for all threads of the block, as any of them may run first in some schedule.
void wait_for_previous();

void wait_at_barrier(const char* file, int line);
void warp_operation(unsigned mask, Resolve resolve, void* operands, uintptr_t place);

// One access of memory by the current thread, where races are looked for (racecheck.hpp); else nothing.
enum Access { READ, WRITE, ATOMIC };
void race_access(const void* address, size_t bytes, Access kind, uintptr_t place);
void race_launch();
void race_block();
void race_barrier();
void race_warp(unsigned warp);
void race_finish();

}  // namespace cuda_host
#pragma GCC visibility pop
