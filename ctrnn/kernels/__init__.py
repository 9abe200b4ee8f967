"""Compiled hot loops, and only those: numba source that the readable modules hand plain arrays to."""

from ctrnn.kernels import notice, stamp

stamp.check()
notice.watch()
