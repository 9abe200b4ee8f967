"""What the states of a moment are worth: the loss of each lane, and its derivatives by the state and the read-out.

    ℓ_b(o_b, y_b),   o = g(V r + c)       mean over the B lanes:  l = Σ_b ℓ_b / B

What ℓ and g are is said in ctrnn.objective; here the read-out's V and c are the ones that learn. With random feedback
(Lillicrap, Cownden, Tweed & Akerman, Nat. Commun. 7:13276, 2016) the state sees ∂ℓ/∂u B in the place of ∂ℓ/∂u V; the
read-out itself learns by its own gradient.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.bound_objective import BoundObjective
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.losses import Readout, takes_target
from ctrnn.numbers import checked_array
from ctrnn.objective import Objective


class Observer:
    """A loss with its read-out, of one moment after another.

    needs_target : whether the loss compares with a target
    p : outputs;  target_size : numbers of a target;  size : numbers of a read-out that learns
    bound : the loss, of these states
    """

    def __init__(self, field: Field, loss: Any, readout: Any, feedback: Any, seed: int) -> None:
        self.needs_target = takes_target(loss)
        target: Any = None
        if self.needs_target:
            probe = Objective("squared_error", 0.0, at=[0.0], readout=readout)
            self.p = probe.bind(field).output_size
            # a target that any loss takes: all of it on the first output
            target = np.eye(1, self.p) if isinstance(loss, str) else np.full((1, self.p), 0.5)
        self.bound: BoundObjective = Objective(loss, target, at=[0.0], readout=readout).bind(field)
        self.p, self.loss = self.bound.output_size, loss
        self.size, self.target_size = self.bound.readout_size, self.bound.targets.shape[1]
        self.feedback = self._checked_feedback(feedback, field.n, seed)

    def _checked_feedback(self, feedback: Any, n: int, seed: int) -> Array | None:
        if feedback is None:
            return None
        if not self.size:
            raise UsageError("feedback", given=feedback, allowed="None, without a read-out that is trained")
        if isinstance(feedback, str):
            if feedback != "random":
                raise UsageError("feedback", given=feedback, allowed=f"None, 'random' or an array ({self.p}, {n})")
            return np.random.default_rng([seed, 1]).normal(size=(self.p, n)) / np.sqrt(self.p)
        return checked_array("feedback", feedback, (self.p, n))

    @property
    def readout(self) -> Readout | None:
        """The read-out, as it was given."""
        return self.bound.readout

    def let_learn(self, V: Array, c: Array) -> None:
        """From here on V (p, n) and c (p,) are those of the read-out: the arrays themselves."""
        learns = object.__new__(Readout)
        assert self.bound.readout is not None
        for name, value in (("V", V), ("c", c), ("activation", self.bound.readout.activation)):
            object.__setattr__(learns, name, value)
        self.bound.readout = learns

    def check_range(self, y: Array) -> None:
        """Raises UsageError for targets that the loss does not allow."""
        named = self.bound.named
        if named is None:
            return
        low, high = named.target
        wrong = (y < low) | (y > high)
        if wrong.any():
            allowed = f"numbers from {low:g} to {high:g}, for {self.loss}"
            raise UsageError("y", given=float(y[wrong].flat[0]), allowed=allowed)

    @property
    def selection(self) -> tuple[str, ...] | None:
        """The states that the loss sees, by name; None for all, or a read-out that learns."""
        names = self.bound.objective.readout
        return names if isinstance(names, tuple) else None

    def output(self, r: Array) -> Array:
        """o (B, p)."""
        return self.bound.output(r)
