"""Vector code for the CPU: written as Python (code), compiled and kept by LLVM (build), run on all threads (team)."""
