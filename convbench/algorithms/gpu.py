"""What plans on CUDA assume of a GPU: an H200's figures. On another one choices are a little worse, never wrong."""

MULTIPROCESSORS = 132
MOST_BYTES = 1 << 30  # of a chunk's operands between two steps, unless one unit has more: smaller GPUs are to do it too
ADDED = 256  # outputs a block of add_parts (parts.cuh), one a thread


def adding(outputs: int) -> tuple[tuple[int], tuple[int]]:
    """Grid and block of add_parts for so many outputs."""
    return (-(-outputs // ADDED),), (ADDED,)
