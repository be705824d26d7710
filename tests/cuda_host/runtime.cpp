// CUDA C++ on the CPU, the machine's side: compiled once, linked to every kernel.
#include "words.hpp"
#include "machine.hpp"
#include "fibers.hpp"
#include "mistakes.hpp"
#include "scheduler.hpp"
#include "warps.hpp"
#include "warpgroups.hpp"
#include "launch.hpp"
#ifdef CUDA_HOST_RACECHECK
#include "racecheck.hpp"
#else
namespace cuda_host {
void race_access(const void*, size_t, Access, uintptr_t) {}
void race_launch() {}
void race_block() {}
void race_barrier() {}
void race_warp(unsigned) {}
void race_finish() {}
}  // namespace cuda_host
#endif

CUDA_HOST_STATE uint3 threadIdx = {}, blockIdx = {}, blockDim = {}, gridDim = {};
namespace cuda_host {
CUDA_HOST_STATE Machine machine = {};
}
