// One fiber for each CUDA thread: a stack of its own, and a switch between stacks. One block is alive at a time, all of it
// on one thread of the operating system, so a fiber runs until it waits for others.
#pragma once
#include "words.hpp"

extern "C" __attribute__((visibility("hidden"))) void cuda_host_switch(void** save_stack, void* load_stack);
#if defined(__x86_64__)
asm(R"(.text
.hidden cuda_host_switch
.globl cuda_host_switch
.type cuda_host_switch,@function
cuda_host_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.size cuda_host_switch, .-cuda_host_switch
)");
#elif defined(__aarch64__)
asm(R"(.text
.hidden cuda_host_switch
.globl cuda_host_switch
.type cuda_host_switch,%function
cuda_host_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size cuda_host_switch, .-cuda_host_switch
)");
#else
#error "fibers are written for x86-64 and AArch64"
#endif

namespace cuda_host {

constexpr unsigned MOST_THREADS = 1024, WARP = 32, MOST_COPIES = 256;
constexpr size_t STACK = 64 << 10, GUARD = 64 << 10;  // GUARD is a multiple of any page size in use
constexpr size_t STATIC_SHARED = 48 << 10, MOST_SHARED = 227 << 10;

enum State { READY, FINISHED, AT_BARRIER, AT_WARP_OPERATION };

// A cp.async that has been issued and not yet waited for.
struct Copy {
  void* to;
  const void* from;
  int bytes;
  bool valid;
  unsigned group;
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
};

// An array argument: its bytes, and the mapped pages around it.
struct Region {
  char *begin, *end, *mapped_begin, *mapped_end;
};

// Memory that all libraries of the process use in turn.
struct Arena {
  Fiber* fibers;
  Copy* copies;
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
  Region* regions;
  unsigned region_count;
  bool failed;
  char* message;
  size_t message_bytes;
  uintptr_t fault[18];  // the address, then the calls that led there
};
CUDA_HOST_STATE Machine machine = {};

// Appends to the error message. @hexadecimal@ is a place in the code, which the caller turns into file:line.
__attribute__((format(printf, 1, 2))) CUDA_HOST_PLAIN inline void say(const char* format, ...) {
  const size_t used = strlen(machine.message);
  va_list values;
  va_start(values, format);
  vsnprintf(machine.message + used, machine.message_bytes - used, format, values);
  va_end(values);
}

CUDA_HOST_PLAIN inline void leave() { cuda_host_switch(&machine.current->stack, machine.scheduler_stack); }

CUDA_HOST_PLAIN inline void enter(Fiber& fiber) {
  machine.current = &fiber;
  threadIdx = fiber.index;
  cuda_host_switch(&machine.scheduler_stack, fiber.stack);
  machine.current = nullptr;
}

// The launch is over: a fiber that says so does not come back.
CUDA_HOST_PLAIN inline void stop() {
  machine.failed = true;
  if (!machine.current) return;
  machine.current->state = FINISHED;
  leave();
}

#define CUDA_HOST_FAIL(...) (cuda_host::machine.failed ? (void)0 : cuda_host::say(__VA_ARGS__), cuda_host::stop())
#define CUDA_HOST_THREAD "block (%u,%u,%u) thread (%u,%u,%u)"
#define CUDA_HOST_THREAD_VALUES blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z

CUDA_HOST_PLAIN inline void fiber_body() {
  machine.kernel(machine.arguments);
  machine.current->state = FINISHED;
  --machine.alive;
  leave();
}

// A fresh stack on which the switch "returns" into fiber_body.
CUDA_HOST_PLAIN inline void* first_stack(unsigned number) {
  void** top = (void**)(machine.arena.stacks + (number + 1) * (STACK + GUARD));
#if defined(__x86_64__)
  *--top = nullptr;  // fiber_body has no caller
  *--top = (void*)fiber_body;
  for (int i = 0; i < 6; ++i) *--top = nullptr;
#else
  top -= 20;
  memset(top, 0, 160);
  top[11] = (void*)fiber_body;
#endif
  return top;
}

#ifdef CUDA_HOST_RACECHECK  // racecheck.hpp
void race_launch();
void race_block();
void race_barrier();
void race_warp(unsigned warp);
void race_access(const void* address, size_t bytes, int kind, uintptr_t place);
void race_finish();
#else
inline void race_launch() {}
inline void race_block() {}
inline void race_barrier() {}
inline void race_warp(unsigned) {}
inline void race_access(const void*, size_t, int, uintptr_t) {}
inline void race_finish() {}
#endif
enum Access { READ, WRITE, ATOMIC };

CUDA_HOST_PLAIN inline void wait_at_barrier(const char* file, int line) {
  Fiber& fiber = *machine.current;
  fiber.state = AT_BARRIER;
  fiber.file = file;
  fiber.line = line;
  leave();
}

CUDA_HOST_PLAIN inline void warp_operation(unsigned mask, Resolve resolve, void* operands, uintptr_t place) {
  Fiber& fiber = *machine.current;
  fiber.state = AT_WARP_OPERATION;
  fiber.mask = mask;
  fiber.resolve = resolve;
  fiber.operands = operands;
  fiber.place = place;
  leave();
}

}  // namespace cuda_host
