"""Cases of which it is known what they do: the campaign finds what it looks for."""

from __future__ import annotations

import os
from collections.abc import Callable
from random import Random


def warm_up() -> None:
    """Nothing is to be compiled."""


def case(random: Random) -> tuple[str, Callable[[], str]]:
    """One of four ends."""
    kind = random.choice(("refused", "taken", "raises", "ends"))

    def run() -> str:
        if kind == "raises":
            raise TypeError("an error that is none of ours")
        if kind == "ends":
            os._exit(7)
        return kind

    return kind, run
