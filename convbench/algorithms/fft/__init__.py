"""FFT families: whole images, and tiles with overlap-save."""
