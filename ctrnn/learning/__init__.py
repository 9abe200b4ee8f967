"""Learning: fit a field to data, and say how well the data determine it.

The torch side of learning is in the modules beside these: `ctrnn.odeint`, `ctrnn.as_module`, `ctrnn.RestLayer`.
"""

from ctrnn.learning import tasks
from ctrnn.learning.data import Dataset
from ctrnn.learning.fit import Fit, fit
from ctrnn.learning.laplace import Laplace, laplace

__all__ = ["Dataset", "Fit", "Laplace", "fit", "laplace", "tasks"]
