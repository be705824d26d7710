"""convbench: how fast, how hungry and how exact each convolution algorithm is on this machine."""

from convbench._version import __version__
from convbench.algorithms.base import Algorithm, Missing, Plan, Unsupported
from convbench.problem import Problem
from convbench.shapes import ConvShape

__all__ = ["Algorithm", "ConvShape", "Missing", "Plan", "Problem", "Unsupported", "__version__"]
