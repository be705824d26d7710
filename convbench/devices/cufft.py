"""Real 2-D FFTs by cuFFT: plans, their work areas and all arrays made once, so that a run only queues.

cuFFT pads nothing: images are filled into the corner of an array that is zero elsewhere and stays so, as a transform
out of place from real numbers to complex ones leaves its input alone. An axis of one point is its own transform; where
that is the last one, the images themselves are complex.
"""

from __future__ import annotations

from math import prod
from typing import Any

from convbench.devices.base import Transform
from convbench.problem import COMPLEX


def rfft2(
    xp: Any, cufft: Any, counts: tuple[int, ...], window: tuple[int, int], size: tuple[int, int], precision: str
) -> Transform:
    """As Device.rfft2; cufft is the module cupy.cuda.cufft."""
    images = xp.zeros((max(counts), *size), precision if size[1] > 1 else COMPLEX[precision])

    def source(count: int) -> Any:
        return images[:count, : window[0], : window[1]]

    if size == (1, 1):
        return Transform(source, lambda count: images[:count], images.nbytes)
    spectra = xp.empty((max(counts), *half(size)), COMPLEX[precision])
    kind = _kind(cufft, "R2C", size, precision)
    plans = {count: _plan(cufft, count, size, kind, size, half(size)) for count in counts}

    def run(count: int) -> Any:
        plans[count].fft(images, spectra, cufft.CUFFT_FORWARD)
        return spectra[:count]

    return Transform(source, run, images.nbytes + spectra.nbytes + _work_bytes(plans))


def irfft2(xp: Any, cufft: Any, counts: tuple[int, ...], size: tuple[int, int], precision: str) -> Transform:
    """As Device.irfft2: 1 / (size[0] size[1]) is left to do, where another factor waits anyway."""
    spectra = xp.empty((max(counts), *half(size)), COMPLEX[precision])

    def source(count: int) -> Any:
        return spectra[:count]

    if size == (1, 1):
        return Transform(source, lambda count: spectra[:count].real, spectra.nbytes)
    images = xp.empty((max(counts), *size), precision if size[1] > 1 else COMPLEX[precision])
    kind = _kind(cufft, "C2R", size, precision)
    plans = {count: _plan(cufft, count, size, kind, half(size), size) for count in counts}

    def run(count: int) -> Any:
        plans[count].fft(spectra, images, cufft.CUFFT_INVERSE)
        return images[:count].real

    return Transform(source, run, spectra.nbytes + images.nbytes + _work_bytes(plans), 1 / prod(size))


def half(size: tuple[int, int]) -> tuple[int, int]:
    """The frequencies of a real image that its spectrum needs."""
    return size[0], size[1] // 2 + 1


def _kind(cufft: Any, real: str, size: tuple[int, int], precision: str) -> int:
    """cuFFT's type: R2C or C2R, or between complex numbers where the last axis has one point."""
    name = real if size[1] > 1 else "C2C"
    doubles = {"R2C": "D2Z", "C2R": "Z2D", "C2C": "Z2Z"}
    return int(getattr(cufft, f"CUFFT_{name if precision == 'float32' else doubles[name]}"))


def _plan(
    cufft: Any, count: int, size: tuple[int, int], kind: int, before: tuple[int, int], after: tuple[int, int]
) -> Any:
    """A cuFFT plan for `count` images one after another, from arrays [count, *before] to [count, *after]."""
    kept = [i for i in range(2) if size[i] > 1]  # the axes that are transformed
    points, source, target = ([shape[i] for i in kept] for shape in (size, before, after))
    return cufft.PlanNd(
        points, source, 1, prod(source), target, 1, prod(target), kind, count, "C", len(kept), target[-1]
    )


def _work_bytes(plans: dict[int, Any]) -> int:
    return sum(int(plan.work_area.mem.size) for plan in plans.values())
