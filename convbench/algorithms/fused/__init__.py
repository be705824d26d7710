"""Convolution in a transformed domain without ever holding it whole: Winograd's and Fourier's tiles, one engine."""
