// CUDA's device functions: barriers, warp operations, atomics, arithmetic.
#pragma once
#include "scheduler.hpp"

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

enum Vote { BALLOT, SUM, AND, OR, XOR, LEAST, GREATEST, LEAST_UNSIGNED, GREATEST_UNSIGNED, MATCH, ACTIVE };
struct Voted { Vote what; unsigned in, out; };

CUDA_HOST_PLAIN inline unsigned voted(Vote what, unsigned a, unsigned b) {
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

CUDA_HOST_PLAIN inline void resolve_vote(void* const (&operands)[WARP], unsigned lanes, unsigned) {
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
    mine->out = mine->what == BALLOT ? ballot : mine->what == MATCH ? matching : mine->what == ACTIVE ? lanes : total;
  }
}

CUDA_HOST_PLAIN inline unsigned vote(Vote what, unsigned mask, unsigned value, uintptr_t place) {
  Voted operands = {what, value, 0};
  warp_operation(mask, resolve_vote, &operands, place);
  return operands.out;
}

CUDA_HOST_PLAIN inline void resolve_nothing(void* const (&)[WARP], unsigned, unsigned warp) { race_warp(warp); }

CUDA_HOST_PLAIN inline int counting_barrier(int predicate, const char* file, int line) {
  machine.current->predicate = predicate;
  wait_at_barrier(file, line);
  const int count = machine.current->predicate;
  machine.current->predicate = 0;
  return count;
}

}  // namespace cuda_host

#define CUDA_HOST_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
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
#undef CUDA_HOST_PLACE

CUDA_HOST_PLAIN inline void __syncwarp(unsigned mask = ~0u) {
  cuda_host::warp_operation(mask, cuda_host::resolve_nothing, nullptr, CUDA_HOST_HERE);
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
