"""What plans on CUDA assume of a GPU: an H200's figures. On another one choices are a little worse, never wrong."""

MULTIPROCESSORS = 132
MOST_BYTES = 1 << 30  # of a chunk's operands between two steps, unless one unit has more: smaller GPUs are to do it too
