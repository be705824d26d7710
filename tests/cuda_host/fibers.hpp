// One fiber for each CUDA thread: a stack of its own, and a switch between stacks. One block is alive at a time, all of it
// on one thread of the operating system, so a fiber runs until it waits for others.
#pragma once
#include <stdarg.h>
#include <stdlib.h>
#include "machine.hpp"

extern "C" CUDA_HOST_HIDDEN void cuda_host_switch(void** save_stack, void* load_stack);
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

void say(const char* format, ...) {
  const size_t used = strlen(machine.message);
  va_list values;
  va_start(values, format);
  vsnprintf(machine.message + used, machine.message_bytes - used, format, values);
  va_end(values);
}

void leave() { cuda_host_switch(&machine.current->stack, machine.scheduler_stack); }

void enter(Fiber& fiber) {
  machine.current = &fiber;
  threadIdx = fiber.index;
  cuda_host_switch(&machine.scheduler_stack, fiber.stack);
  machine.current = nullptr;
}

void stop() {
  machine.failed = true;
  if (!machine.current) return;
  machine.current->state = FINISHED;
  leave();
}

void fiber_body() {
  machine.kernel(machine.arguments);
  machine.current->state = FINISHED;
  --machine.alive;
  leave();
}

// A fresh stack on which the switch "returns" into fiber_body.
void* first_stack(unsigned number) {
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

void wait_at_barrier(const char* file, int line) {
  Fiber& fiber = *machine.current;
  fiber.state = AT_BARRIER;
  fiber.file = file;
  fiber.line = line;
  leave();
}

void warp_operation(unsigned mask, Resolve resolve, void* operands, uintptr_t place) {
  Fiber& fiber = *machine.current;
  fiber.state = AT_WARP_OPERATION;
  fiber.mask = mask;
  fiber.resolve = resolve;
  fiber.operands = operands;
  fiber.place = place;
  leave();
}

}  // namespace cuda_host
