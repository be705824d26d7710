"""A problem: a shape, the precision it is computed in, and the operands to compute it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convbench.shapes import ConvShape

if TYPE_CHECKING:
    import numpy as np

    FloatArray = np.ndarray[Any, np.dtype[np.floating[Any]]]


@dataclass(frozen=True)
class Precision:
    """How numbers are kept and multiplied.

    storage is NumPy's name of the arrays' type, c_type its name in CUDA C++ (float16 as its 16 bits: a kernel converts
    by the wrappers of devices/ptx.cuh), tolerance the largest relative L2 error we accept.
    """

    name: str
    storage: str
    bytes: int
    c_type: str
    tolerance: float


# float32: honest single precision stays below 7e-6 here, half precision inside shows as 3e-4.
# float64: the reference has the same rounding, so only gross mistakes can show; Winograd reaches 1e-14.
# tf32: float32 arrays, but products may take operands rounded to 10 bits of mantissa, as tensor cores do; float16
# has as many, and so the same bound.
PRECISIONS = {
    p.name: p
    for p in (
        Precision("float32", "float32", 4, "float", 1e-5),
        Precision("float64", "float64", 8, "double", 1e-12),
        Precision("tf32", "float32", 4, "float", 1e-3),
        Precision("float16", "float16", 2, "unsigned short", 1e-3),
    )
}

USUAL_PRECISIONS = ("float32", "float64")  # what every device multiplies
COMPLEX = {"float32": "complex64", "float64": "complex128"}  # of two such numbers


@dataclass(frozen=True)
class Problem:
    """What an algorithm has to compute: y = conv(x, w) of `shape`, all three arrays in `precision`."""

    shape: ConvShape
    precision: str = "float32"
    direction: str = "forward"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision '{self.precision}' is not one of {', '.join(PRECISIONS)}")
        if self.direction != "forward":
            raise ValueError(f"direction '{self.direction}' is not known; only 'forward' is")

    @property
    def number(self) -> Precision:
        """The precision's facts."""
        return PRECISIONS[self.precision]

    @property
    def storage(self) -> str:
        """NumPy's name of the type of x, w and y."""
        return self.number.storage

    @property
    def bytes_min(self) -> int:
        """Bytes of x, w and y, each moved once."""
        return self.shape.elements * self.number.bytes

    def operands(self, seed: int) -> tuple[FloatArray, FloatArray]:
        """Random normal x and w (w scaled by 1 / sqrt(C R S / groups), so that y is of order one).

        The same seed gives the same arrays for the same shape, whatever else a run measures.
        """
        import numpy as np

        s = self.shape
        rng = np.random.default_rng([seed, *map(ord, str(s))])
        x = rng.standard_normal(s.x_shape, dtype=np.float32)
        w = rng.standard_normal(s.w_shape, dtype=np.float32)
        w *= np.float32(1 / np.sqrt(w[0].size))
        return x.astype(self.storage, copy=False), w.astype(self.storage, copy=False)
