"""Settings that all tests share."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

from ctrnn import progress

# Before NumPy and torch are loaded: several workers with several threads each would only spin against each other.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# A shell that puts the tests into the background lets them, and all that they start, ignore Ctrl-C; some ask about it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: the first example of a test may compile a field.
settings.register_profile("ctrnn", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ctrnn")

# Whether kernels were compiled before does not show in what a test reads of standard error (tests/test_notice.py asks).
progress.silence()
