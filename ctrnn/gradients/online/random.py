"""Rules that draw random signs, so that their mean over all draws is the exact gradient: UORO and KF-RTRL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.method import Exact, Facts, Passes
from ctrnn.gradients.online.method import OnlineMethod
from ctrnn.numbers import whole


@dataclass(frozen=True)
class RandomMethod(OnlineMethod):
    """A rule with a ``seed``, a whole number from 0 on: of its signs, where it is run as a gradient method."""

    seed: int = 0

    def __post_init__(self) -> None:
        whole("seed", self.seed, 0)

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return self.facts.name.upper()


def random_facts(name: str, summary: str, cost: str, memory: str) -> Facts:
    """What is known of such a rule before it is run."""
    return Facts(
        name=name, summary=summary, exact_for=Exact.NOTHING, unbiased=True, passes=Passes.FORWARD, cost=cost,
        memory=memory, options=("seed",),
    )  # fmt: skip


def signs(rng: np.random.Generator, size: int) -> Array:
    """Random signs, −1 or 1."""
    return 2.0 * rng.integers(0, 2, size) - 1.0


def balance(a: Array, b: Array) -> float:
    """√(‖a‖/‖b‖), which gives a/ρ and ρ b one length; 1 where one of them is 0.

    >>> balance(np.array([8.0]), np.array([2.0])), balance(np.zeros(2), np.ones(2))
    (2.0, 1.0)
    """
    first, second = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    return float(np.sqrt(first / second)) if first > 0.0 and second > 0.0 else 1.0
