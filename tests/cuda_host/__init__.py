"""CUDA kernels on the CPU: g++ compiles the unmodified .cu, a fiber is a CUDA thread, mistakes become exceptions."""
