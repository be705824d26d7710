"""`make gpu`: every CUDA kernel checked, then measured beside the vendor's, on the GPU at hand."""
