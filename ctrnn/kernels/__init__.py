"""Compiled hot loops, and only those: numba source that the readable modules hand plain arrays to."""

from ctrnn.kernels import notice

notice.watch()
