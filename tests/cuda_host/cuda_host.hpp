// CUDA C++ on the CPU, a kernel's side: included in front of its source. The other side is runtime.cpp.
#pragma once
#include "words.hpp"
#include "machine.hpp"
#include "numbers.hpp"
#include "intrinsics.hpp"
#include "tensor.hpp"
#include "entry.hpp"
