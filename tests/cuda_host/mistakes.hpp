// What g++'s checks (-fsanitize=bounds,alignment,...) call when they find a mistake: it becomes the launch's message.
//
// The layouts are those of GCC's libubsan (ubsan_handlers.h), which is not linked.
#pragma once
#include "fibers.hpp"

namespace cuda_host {

struct SourcePlace { const char* file; uint32_t line, column; };
struct TypeName { uint16_t kind, info; char text[1]; };
struct IndexMistake { SourcePlace place; const TypeName *array, *index; };
struct AccessMistake { SourcePlace place; const TypeName* type; unsigned char log_alignment, kind; };
struct OneType { SourcePlace place; const TypeName* type; };

#define CUDA_HOST_MISTAKE(FORMAT, ...)                                                                              \
  CUDA_HOST_FAIL(FORMAT " at %s:%u in " CUDA_HOST_THREAD, __VA_ARGS__, data->place.file, data->place.line,          \
                 CUDA_HOST_THREAD_VALUES),                                                                          \
      abort()

extern "C" {
CUDA_HOST_HIDDEN void __ubsan_handle_out_of_bounds_abort(IndexMistake* data, uintptr_t index) {
  CUDA_HOST_MISTAKE("index %ld out of bounds of %s", (long)index, data->array->text);
}
CUDA_HOST_HIDDEN void __ubsan_handle_type_mismatch_v1_abort(AccessMistake* data, uintptr_t p) {
  const unsigned long alignment = 1ul << data->log_alignment;
  if (p & (alignment - 1)) CUDA_HOST_MISTAKE("misaligned access of %s (not to %lu bytes)", data->type->text, alignment);
  CUDA_HOST_MISTAKE("access of %s outside its object", data->type->text);
}
CUDA_HOST_HIDDEN void __ubsan_handle_divrem_overflow_abort(OneType* data, uintptr_t, uintptr_t) {
  CUDA_HOST_MISTAKE("integer division of %s by zero", data->type->text);
}
}

}  // namespace cuda_host
