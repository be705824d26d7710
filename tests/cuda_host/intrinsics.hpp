// CUDA's device functions: barriers, warp operations, atomics, arithmetic.
#pragma once
#include "machine.hpp"

namespace cuda_host {

inline unsigned lane() { return machine.current->number % WARP; }

enum Shuffle { FROM, UP, DOWN, ACROSS };
template <class V>
struct Shuffled { V in, out; unsigned source; };

// A lane that reads from one that does not take part gets NaN: CUDA leaves the value undefined.
template <class V>
CUDA_HOST_PLAIN void resolve_shuffle(void* const (&operands)[WARP], unsigned lanes, unsigned) {
  for (unsigned i = 0; i < WARP; ++i) {
    if (!(lanes >> i & 1)) continue;
    auto* mine = (Shuffled<V>*)operands[i];
    if (lanes >> mine->source & 1)
      memcpy(&mine->out, &((Shuffled<V>*)operands[mine->source])->in, sizeof(V));
    else
      memset(&mine->out, 0xFF, sizeof(V));
  }
}

template <class V>
CUDA_HOST_PLAIN V shuffle(Shuffle how, unsigned mask, V value, int by, int width) {
  static_assert(std::is_arithmetic<V>::value && sizeof(V) <= 8, "CUDA shuffles numbers of at most 8 bytes");
  const int me = lane(), first = me & ~(width - 1), last = first + width - 1;
  const int from = how == FROM ? first + (by & (width - 1)) : how == UP ? me - by : how == DOWN ? me + by : me ^ by;
  const bool inside = how == UP ? from >= first : from <= last;
  Shuffled<V> operands = {value, value, unsigned(inside ? from : me)};
  warp_operation(mask, resolve_shuffle<V>, &operands, CUDA_HOST_HERE);
  return operands.out;
}

enum Vote { BALLOT, SUM, AND, OR, XOR, LEAST, GREATEST, LEAST_UNSIGNED, GREATEST_UNSIGNED, MATCH };
CUDA_HOST_HIDDEN unsigned vote(Vote what, unsigned mask, unsigned value, uintptr_t place);
CUDA_HOST_HIDDEN void synchronise_warp(unsigned mask, uintptr_t place);
CUDA_HOST_HIDDEN int counting_barrier(int predicate, const char* file, int line);

}  // namespace cuda_host

inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  cuda_host::wait_at_barrier(file, line);
}
inline int __syncthreads_count(int p, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return cuda_host::counting_barrier(p != 0, file, line);
}
inline int __syncthreads_or(int p, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return cuda_host::counting_barrier(p != 0, file, line) != 0;
}
inline int __syncthreads_and(int p, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return cuda_host::counting_barrier(p == 0, file, line) == 0;
}

CUDA_HOST_PLAIN inline void __syncwarp(unsigned mask = ~0u) {
  cuda_host::synchronise_warp(mask, CUDA_HOST_HERE);
}
template <class V>
__forceinline__ V __shfl_sync(unsigned mask, V value, int source, int width = 32) {
  return cuda_host::shuffle(cuda_host::FROM, mask, value, source, width);
}
template <class V>
__forceinline__ V __shfl_up_sync(unsigned mask, V value, unsigned by, int width = 32) {
  return cuda_host::shuffle(cuda_host::UP, mask, value, by, width);
}
template <class V>
__forceinline__ V __shfl_down_sync(unsigned mask, V value, unsigned by, int width = 32) {
  return cuda_host::shuffle(cuda_host::DOWN, mask, value, by, width);
}
template <class V>
__forceinline__ V __shfl_xor_sync(unsigned mask, V value, int by, int width = 32) {
  return cuda_host::shuffle(cuda_host::ACROSS, mask, value, by, width);
}
CUDA_HOST_PLAIN inline unsigned __ballot_sync(unsigned mask, int p) {
  return cuda_host::vote(cuda_host::BALLOT, mask, p != 0, CUDA_HOST_HERE);
}
CUDA_HOST_PLAIN inline int __any_sync(unsigned mask, int p) {
  return cuda_host::vote(cuda_host::BALLOT, mask, p != 0, CUDA_HOST_HERE) != 0;
}
CUDA_HOST_PLAIN inline int __all_sync(unsigned mask, int p) {
  return cuda_host::vote(cuda_host::BALLOT, mask, p == 0, CUDA_HOST_HERE) == 0;
}
CUDA_HOST_PLAIN inline unsigned __match_any_sync(unsigned mask, unsigned value) {
  return cuda_host::vote(cuda_host::MATCH, mask, value, CUDA_HOST_HERE);
}
CUDA_HOST_PLAIN inline unsigned __activemask() { return 1u << cuda_host::lane(); }  // the weakest that CUDA promises
template <class V>
CUDA_HOST_PLAIN V __reduce_add_sync(unsigned mask, V value) {
  return (V)cuda_host::vote(cuda_host::SUM, mask, (unsigned)value, CUDA_HOST_HERE);
}
template <class V>
CUDA_HOST_PLAIN V __reduce_min_sync(unsigned mask, V value) {
  const auto how = std::is_signed<V>::value ? cuda_host::LEAST : cuda_host::LEAST_UNSIGNED;
  return (V)cuda_host::vote(how, mask, (unsigned)value, CUDA_HOST_HERE);
}
template <class V>
CUDA_HOST_PLAIN V __reduce_max_sync(unsigned mask, V value) {
  const auto how = std::is_signed<V>::value ? cuda_host::GREATEST : cuda_host::GREATEST_UNSIGNED;
  return (V)cuda_host::vote(how, mask, (unsigned)value, CUDA_HOST_HERE);
}
#define CUDA_HOST_REDUCE(NAME, HOW)                                                       \
  CUDA_HOST_PLAIN inline unsigned NAME(unsigned mask, unsigned value) {                   \
    return cuda_host::vote(cuda_host::HOW, mask, value, CUDA_HOST_HERE);                  \
  }
CUDA_HOST_REDUCE(__reduce_and_sync, AND)
CUDA_HOST_REDUCE(__reduce_or_sync, OR)
CUDA_HOST_REDUCE(__reduce_xor_sync, XOR)

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {}
[[noreturn]] inline void __trap() { __builtin_trap(); }

#define CUDA_HOST_ATOMIC(NAME, NEW)                                                               \
  template <class V>                                                                              \
  CUDA_HOST_PLAIN V NAME(V* p, std::common_type_t<V> value) {                                     \
    cuda_host::race_access(p, sizeof(V), cuda_host::ATOMIC, CUDA_HOST_HERE);                      \
    const V old = *p;                                                                             \
    *p = (V)(NEW);                                                                                \
    return old;                                                                                   \
  }
CUDA_HOST_ATOMIC(atomicAdd, old + value)
CUDA_HOST_ATOMIC(atomicSub, old - value)
CUDA_HOST_ATOMIC(atomicExch, value)
CUDA_HOST_ATOMIC(atomicMin, value < old ? value : old)
CUDA_HOST_ATOMIC(atomicMax, value > old ? value : old)
CUDA_HOST_ATOMIC(atomicAnd, old & value)
CUDA_HOST_ATOMIC(atomicOr, old | value)
CUDA_HOST_ATOMIC(atomicXor, old ^ value)
CUDA_HOST_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
#undef CUDA_HOST_ATOMIC
template <class V>
CUDA_HOST_PLAIN V atomicCAS(V* p, std::common_type_t<V> expected, std::common_type_t<V> value) {
  cuda_host::race_access(p, sizeof(V), cuda_host::ATOMIC, CUDA_HOST_HERE);
  const V old = *p;
  if (old == expected) *p = value;
  return old;
}
