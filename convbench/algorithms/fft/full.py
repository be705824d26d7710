"""fft.full: one FFT takes the whole padded image, Y_f = conj(W_f) X_f at every frequency f."""

from __future__ import annotations

from convbench.algorithms.base import Algorithm, Plan
from convbench.algorithms.fft.overlap_save import plan
from convbench.algorithms.unit import axes
from convbench.devices.base import Device
from convbench.problem import Problem
from convbench.shapes import ConvShape


def full_size(shape: ConvShape) -> tuple[int, int]:
    """The smallest size without large prime factors that holds the window of all outputs."""
    from scipy.fft import next_fast_len

    rows, columns = axes(shape, None)
    return next_fast_len(rows.window), next_fast_len(columns.window, real=True)


def full(problem: Problem, device: Device) -> Plan:
    """One tile takes all outputs."""
    return plan(problem, device, full_size(problem.shape))


ALGORITHMS = [Algorithm("fft.full", on={"cpu": full, "cuda": full}, summary="one FFT an image, as large as the image")]
