"""Learning: fit a field to data."""

from ctrnn.learning.fit import Fit, fit

__all__ = ["Fit", "fit"]
