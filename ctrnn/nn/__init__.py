"""Networks in continuous time as layers of torch, computed by the compiled kernels.

>>> import torch, ctrnn
>>> layer = ctrnn.nn.CTRNN(3, 8, dt=0.1, seed=0)
>>> states, last = layer(torch.zeros(2, 5, 3))
>>> states.shape, last.shape
(torch.Size([2, 5, 8]), torch.Size([2, 8]))
"""

from ctrnn.nn.layers import CTGRU, CTLSTM, CTRNN, LTC
from ctrnn.nn.recurrent import Recurrent

__all__ = ["LTC", "CTGRU", "CTLSTM", "CTRNN", "Recurrent"]
