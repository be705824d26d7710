// A kernel launch as Python sees it: memory, signals that become messages, a watchdog, and every block of the grid.
#pragma once
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include "scheduler.hpp"

// The static __shared__ memory lies between these: the runtime is linked in front of the kernel, the linker defines _end.
asm(R"(.bss
.balign 128
.hidden cuda_host_static_begin
.globl cuda_host_static_begin
cuda_host_static_begin:
.text
)");
extern "C" CUDA_HOST_HIDDEN char cuda_host_static_begin[], _end[];

namespace cuda_host {

// Rounded up to 8 by the linker.
size_t static_bytes() { return _end > cuda_host_static_begin ? _end - cuda_host_static_begin : 0; }

// What Python fills in (launch.py has the same fields).
struct Launch {
  void (*kernel)(void**);
  void** arguments;
  unsigned grid[3], block[3];
  unsigned dynamic_bytes, seed, cpu_microseconds, region_count;
  Region* regions;
  Arena* arena;
  char* message;
  size_t message_bytes;
  uintptr_t fault[18];
};

CUDA_HOST_STATE pthread_t launching_thread = {};

char* map(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) abort();
  return (char*)p;
}

void make_arena(Arena& arena) {
  arena.fibers = (Fiber*)map(MOST_THREADS * sizeof(Fiber));
  arena.copies = (Copy*)map(MOST_THREADS * MOST_COPIES * sizeof(Copy));
  arena.warpgroups = (Warpgroup*)map(MOST_THREADS * sizeof(Warpgroup));
  arena.stacks = map(MOST_THREADS * (STACK + GUARD));
  for (unsigned i = 0; i < MOST_THREADS; ++i) mprotect(arena.stacks + i * (STACK + GUARD), GUARD, PROT_NONE);
  constexpr size_t shared = 256 << 10;  // MOST_SHARED and its slack
  char* around = map(shared + 2 * FAR);
  arena.shared_end = around + FAR + shared;
  mprotect(around, FAR, PROT_NONE);
  mprotect(arena.shared_end, FAR, PROT_NONE);
  arena.signal_stack = map(STACK);
}

// The instruction that a signal interrupted, then the calls that led there.
void trace(const ucontext_t& context, uintptr_t* places, int most) {
#if defined(__x86_64__)
  const uintptr_t here = context.uc_mcontext.gregs[REG_RIP];
#else
  const uintptr_t here = context.uc_mcontext.pc;
#endif
  void* frames[24];
  const int count = backtrace(frames, 24);
  int next = 0;
  while (next < count && (uintptr_t)frames[next] != here) ++next;
  *places = here;
  for (++next; next < count && --most; ++next) *++places = (uintptr_t)frames[next] - 1;
}

void on_signal(int number, siginfo_t* info, void* context) {
  if (number == SIGVTALRM && !pthread_equal(pthread_self(), launching_thread)) {
    pthread_kill(launching_thread, number);
    return;
  }
  if (number != SIGVTALRM && !machine.current) {  // not the kernel's doing
    signal(number, SIG_DFL);
    return;
  }
  if (machine.failed) return;
  machine.fault[0] = number == SIGVTALRM ? 0 : (uintptr_t)info->si_addr;
  trace(*(ucontext_t*)context, machine.fault + 1, 17);
  const char* what = number == SIGVTALRM ? "watchdog: the kernel does not end"
                     : number == SIGFPE  ? "integer division by zero"
                     : number == SIGILL  ? "trap"
                     : machine.hides     ? "invalid memory access, or one before wait_for_previous,"
                                         : "invalid memory access";
  const char* address = (const char*)machine.fault[0];
  const bool dynamic = address >= machine.arena.shared_end && address < machine.arena.shared_end + FAR;
  char where[80] = "";
  if (dynamic)
    sprintf(where, ", byte %ld of %u of dynamic shared memory,", (long)(address - machine.dynamic), machine.dynamic_bytes);
  CUDA_HOST_FAIL("%s%s in " CUDA_HOST_THREAD, what, where, CUDA_HOST_THREAD_VALUES);
}

// Signal handlers for the time of a launch. The watchdog counts this process's own CPU time, so a busy machine is no reason.
struct Signals {
  static constexpr int numbers[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGVTALRM};
  struct sigaction before[5];
  stack_t stack_before;

  explicit Signals(unsigned cpu_microseconds) {
    launching_thread = pthread_self();
    void* warm[2];
    backtrace(warm, 2);  // the first call loads a library
    stack_t stack = {};
    stack.ss_sp = machine.arena.signal_stack;
    stack.ss_size = STACK;
    sigaltstack(&stack, &stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 5; ++i) sigaction(numbers[i], &action, &before[i]);
    const itimerval timer = {{}, {(time_t)cpu_microseconds / 1000000, (suseconds_t)cpu_microseconds % 1000000}};
    setitimer(ITIMER_VIRTUAL, &timer, nullptr);
  }

  ~Signals() {
    const itimerval off = {};
    setitimer(ITIMER_VIRTUAL, &off, nullptr);
    if (before[4].sa_handler == SIG_DFL) before[4].sa_handler = SIG_IGN;  // one more may be on its way to another thread
    for (int i = 0; i < 5; ++i) sigaction(numbers[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

int launch(Launch& launch) {
  if (!launch.arena->fibers) make_arena(*launch.arena);
  machine = {};
  machine.arena = *launch.arena;
  machine.kernel = launch.kernel;
  machine.arguments = launch.arguments;
  machine.static_begin = cuda_host_static_begin;
  machine.static_end = cuda_host_static_begin + static_bytes();
  machine.dynamic_bytes = launch.dynamic_bytes;
  machine.dynamic = machine.arena.shared_end - (launch.dynamic_bytes + 15) / 16 * 16;
  machine.threads = launch.block[0] * launch.block[1] * launch.block[2];
  machine.seed = launch.seed;
  machine.random = launch.seed * 2654435761u | 1;
  machine.regions = launch.regions;
  machine.region_count = launch.region_count;
  machine.message = launch.message;
  machine.message_bytes = launch.message_bytes;
  launch.message[0] = 0;
  gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
  blockDim = {launch.block[0], launch.block[1], launch.block[2]};
  char* static_page_end = (char*)(((uintptr_t)machine.static_end + 4095) & ~(uintptr_t)4095);

  {
    const Signals signals(launch.cpu_microseconds);
    const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
    const Order order = order_of(blocks);
    race_launch();
    for (unsigned i = 0; i < blocks && !machine.failed; ++i) {
      machine.block = order[i];
      blockIdx = {machine.block % gridDim.x, machine.block / gridDim.x % gridDim.y, machine.block / (gridDim.x * gridDim.y)};
      run_block(static_page_end);
    }
    hide_regions(false);
    race_finish();
  }
  memcpy(launch.fault, machine.fault, sizeof launch.fault);
  return machine.failed;
}

}  // namespace cuda_host

CUDA_HOST_EXPORT int cuda_host_launch(cuda_host::Launch* launch) { return cuda_host::launch(*launch); }
CUDA_HOST_EXPORT size_t cuda_host_static_bytes() { return cuda_host::static_bytes(); }
