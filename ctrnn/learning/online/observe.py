"""What the states of a moment are worth: the loss of each lane, and its derivatives by the state and the read-out.

    ℓ_b(o_b, y_b),   o = g(V r + c)       mean over the B lanes:  l = Σ_b ℓ_b / B

What ℓ and g are is said in ctrnn.objective; here the read-out's V and c are the ones that learn. With random feedback
(Lillicrap, Cownden, Tweed & Akerman, Nat. Commun. 7:13276, 2016) the state sees ∂ℓ/∂u B in the place of ∂ℓ/∂u V; the
read-out itself learns by its own gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ctrnn.bound_objective import BoundObjective
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field, checked_array
from ctrnn.gradients.finite import check_finite
from ctrnn.losses import Readout, takes_target
from ctrnn.objective import Objective


class Observed(NamedTuple):
    """The mean loss, ∂l/∂r (B, n) and ∂l/∂(V, c) (readout_size,)."""

    loss: float
    l_r: Array
    readout: Array


class Observer:
    """A loss with its read-out, of one moment after another.

    needs_target : whether the loss compares with a target
    p : outputs;  target_size : numbers of a target
    """

    def __init__(self, field: Field, loss: Any, readout: Any, feedback: Any, seed: int) -> None:
        self.needs_target = takes_target(loss)
        target: Any = None
        if self.needs_target:
            probe = Objective("squared_error", 0.0, at=[0.0], readout=readout)
            self.p = probe.bind(field).output_size
            # a target that any loss takes: all of it on the first output
            target = np.eye(1, self.p) if isinstance(loss, str) else np.full((1, self.p), 0.5)
        self._bound: BoundObjective = Objective(loss, target, at=[0.0], readout=readout).bind(field)
        self.p, self.loss = self._bound.output_size, loss
        self.size = self._bound.readout_size
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
        return self._bound.readout

    def let_learn(self, V: Array, c: Array) -> None:
        """From here on V (p, n) and c (p,) are those of the read-out: the arrays themselves."""
        learns = object.__new__(Readout)
        assert self._bound.readout is not None
        for name, value in (("V", V), ("c", c), ("activation", self._bound.readout.activation)):
            object.__setattr__(learns, name, value)
        self._bound.readout = learns

    def targets(self, y: Any, B: int, shape: tuple[int, ...], checked: bool = False) -> Array:
        """Targets (B, p) from y (p,), (B, p) or one number; raises UsageError.

        ``shape``: of the lanes, () or (B,); checked: whether the values are known to be fine.
        """
        if not self.needs_target:
            raise UsageError("y", given=y, allowed="None: the loss takes no target")
        array = y if checked else checked_array("y", y)
        if callable(self.loss):  # what it makes of a target is its own affair
            flat = array.reshape(B, -1) if shape and array.shape[:1] == shape else array.reshape(1, -1)
            return np.broadcast_to(flat, (B, flat.shape[1]))
        if array.ndim == 0 or (self.p == 1 and array.shape == shape):
            array = array.reshape(array.shape + (1,))
        if array.shape not in ((self.p,), (B, self.p)) or (not shape and array.ndim == 2):
            allowed = f"shape ({self.p},)" + (f" or ({B}, {self.p})" if shape else "")
            raise UsageError("y", given=f"shape {np.shape(y)}", allowed=allowed)
        if not checked:
            self.check_range(array)
        return np.broadcast_to(array, (B, self.p))

    def check_range(self, y: Array) -> None:
        """Raises UsageError for targets that the loss does not allow."""
        named = self._bound.named
        if named is None:
            return
        low, high = named.target
        wrong = (y < low) | (y > high)
        if wrong.any():
            allowed = f"numbers from {low:g} to {high:g}, for {self.loss}"
            raise UsageError("y", given=float(y[wrong].flat[0]), allowed=allowed)

    def __call__(self, r: Array, y: Array | None, weight: float | Array) -> Observed:
        """The loss at the states r (B, n) with the targets y (B, p), weight one number or (B,).

        Raises NotFiniteError.
        """
        B = len(r)
        y = np.empty((B, 0)) if y is None else y
        l, l_r, l_o = self._bound.at_states(r, y, None if isinstance(weight, float) else weight)
        if self.feedback is not None:
            l_r = self._bound.by_output(r, y)[1] @ self.feedback
            if not isinstance(weight, float):
                l_r *= weight[:, None]
        check_finite(l, l_r, l_o)
        share = weight / B if isinstance(weight, float) else 1.0 / B
        return Observed(float(l.sum()) * share, l_r * share, l_o * share)

    @property
    def selection(self) -> tuple[str, ...] | None:
        """The states that the loss sees, by name; None for all, or a read-out that learns."""
        names = self._bound.objective.readout
        return names if isinstance(names, tuple) else None

    def output(self, r: Array) -> Array:
        """o (B, p)."""
        return self._bound.output(r)
