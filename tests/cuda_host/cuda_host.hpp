// CUDA C++ on the CPU: included in front of a kernel's source, one translation unit for each library.
#pragma once
#include "words.hpp"
#include "fibers.hpp"
#include "scheduler.hpp"
#include "launch.hpp"
#include "mistakes.hpp"
#include "numbers.hpp"
#include "intrinsics.hpp"
#include "tensor.hpp"
#ifdef CUDA_HOST_RACECHECK
#include "racecheck.hpp"
#endif
