"""Python functions called from compiled code: an exception cannot pass through it, so it waits outside."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

import numpy as np


class Pending:
    """What callbacks raised, for each thread that runs them.

    The first exception counts, as what comes after it may only be its consequence. While one is waiting, the callbacks
    answer NaN without being called, so that the run is at its end soon.
    """

    def __init__(self) -> None:
        self._raised: dict[int, BaseException] = {}

    def guard(self, body: Callable[..., None], out: Callable[..., np.ndarray]) -> Callable[..., None]:
        """``body`` as a callback that never raises; ``out(*arguments)`` is the array it fills."""

        def call(*arguments: Any) -> None:
            if get_ident() not in self._raised:
                try:
                    body(*arguments)
                    return
                except BaseException as error:
                    self._raised[get_ident()] = error
            out(*arguments)[...] = np.nan

        return call

    def raise_pending(self) -> None:
        """Raise what waits for this thread."""
        error = self._raised.pop(get_ident(), None)
        if error is not None:
            raise error
