// How Python reaches a kernel: by a function that unpacks its arguments, and one that says what they are.
#pragma once
#include "machine.hpp"

namespace cuda_host {

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*(std::remove_reference_t<A>*)arguments[I]...);
}
template <class... A>
void call(void (*kernel)(A...), void** arguments) {
  call(kernel, arguments, std::index_sequence_for<A...>());
}

// A letter for what a number is, as NumPy's kinds: f floating, i integer, b bool, V anything else; then its bytes.
template <class T>
constexpr char kind_of() {
  return std::is_same<T, bool>::value ? 'b' : std::is_floating_point<T>::value ? 'f' : std::is_integral<T>::value ? 'i' : 'V';
}
template <class T>
void describe(char*& text) {
  using Target = std::remove_cv_t<std::remove_pointer_t<T>>;
  const bool pointer = std::is_pointer<T>::value, constant = std::is_const<std::remove_pointer_t<T>>::value;
  text += sprintf(text, "%s%c%zu ", !pointer ? "" : constant ? "const*" : "*", kind_of<Target>(), sizeof(Target));
}
template <class... A>
void describe_all(void (*)(A...), char* text) {
  *text = 0;
  (describe<A>(text), ...);
}

}  // namespace cuda_host

// Makes a kernel callable from Python (module.py writes one for each `__global__` function).
#define CUDA_HOST_KERNEL(NAME, MOST_THREADS_A_BLOCK)                                                      \
  CUDA_HOST_EXPORT void cuda_host_call_##NAME(void** arguments) { cuda_host::call(NAME, arguments); }     \
  CUDA_HOST_EXPORT void cuda_host_describe_##NAME(char* text) { cuda_host::describe_all(NAME, text); }    \
  CUDA_HOST_EXPORT unsigned cuda_host_bounds_##NAME() { return MOST_THREADS_A_BLOCK; }
