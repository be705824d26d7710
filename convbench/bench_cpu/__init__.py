"""`make bench-cpu`: ours against PyTorch on the CPU, layer by layer and with the layers in sequence."""
