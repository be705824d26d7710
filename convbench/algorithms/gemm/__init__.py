"""Matrix product families: im2col, whole and in panels."""
