"""Learning: fit a field to data."""

from ctrnn.learning.fit import Fit, fit
from ctrnn.learning.laplace import Laplace, laplace

__all__ = ["Fit", "Laplace", "fit", "laplace"]
