"""What a rule of learning while running is: the memory that it carries along one run, a step at a time.

    after each step      take(step)           P ← Φ P + C, or what the rule has in the place of P = dr/dw
    at a loss            g ← g + pull(∂ℓ/∂r)  ∂ℓ/∂r P, or what the rule has in its place
    ∫ ℓ dt               g ← g + λ P + c      with the step's own λ and c, and P before the step

``step`` (ctrnn.gradients.rules.step) gives Φ and C at the weights that the step was taken with, which may differ from
step to step. The same memory serves gradients along a recorded run (ctrnn.gradients.online.method), learners
(ctrnn.learning.online) and comparisons.

A rule is one file: a ``Rule``, a frozen dataclass of its options, and its ``Memory``. What is in ``carried`` is written
to checkpoints, and comes back to the same bits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.rules.step import Lane, Step


class Memory(ABC):
    """What a rule carries along one lane, and the gradient of the losses since the last ``collect``.

    Parameters
    ----------
    lane : Lane
        The field and the method of the steps.
    rng : numpy.random.Generator
        For rules that draw numbers; its state is saved with the memory.
    """

    #: names of the attributes, arrays, that make the memory; their shapes do not change
    carried: ClassVar[tuple[str, ...]] = ()

    def __init__(self, lane: Lane, rng: np.random.Generator) -> None:
        self.lane, self.rng = lane, rng
        #: (groups, columns) the gradient of the losses that were added and not collected yet
        self.g = lane.zeros()

    # -- what a rule says

    @abstractmethod
    def reset(self) -> None:
        """A state that begins anew: it owes nothing to the weights, P = 0."""

    @abstractmethod
    def take(self, step: Step) -> None:
        """One step on."""

    @abstractmethod
    def pull(self, row: Array) -> Array:
        """∂ℓ/∂w (groups, columns) of a loss at the present state with ∂ℓ/∂r = row (n,); changes nothing."""

    # -- what callers do

    def add(self, row: Array) -> None:
        """A loss at the present state, with ∂ℓ/∂r = row (n,)."""
        self.g += self.pull(row)

    def inside(self, step: Step) -> Array:
        """A loss ∫ ℓ dt over a step that ``take`` has not had yet; returns λ (n,)."""
        row, c = step.inside()
        self.g += self.pull(row)
        self.g += c
        return row

    def peek(self) -> Array:
        """What ``collect`` would give; nothing changes."""
        return self.g.copy()

    def collect(self) -> Array:
        """The gradient (groups, columns) of all losses since the last call; from here on 0."""
        found, self.g = self.g, self.lane.zeros()
        return found

    @property
    def bound(self) -> float:
        """A bound on the relative error of what is carried, where theory gives one; NaN where none."""
        return float("nan")

    @property
    def nbytes(self) -> int:
        """Bytes that are carried."""
        return sum(getattr(self, name).nbytes for name in self.carried)

    # -- to disk and back

    def state_dict(self) -> dict[str, Array]:
        """All that is carried, as arrays."""
        return {name: np.array(getattr(self, name)) for name in self.carried} | {"g": self.g.copy()}

    def load_state_dict(self, arrays: dict[str, Array]) -> None:
        """What ``state_dict`` gave, of a memory of the same rule and field; raises UsageError for another."""
        for name in (*self.carried, "g"):
            here = getattr(self, name)
            if name not in arrays or arrays[name].shape != here.shape:
                given = f"shape {arrays[name].shape}" if name in arrays else None
                raise UsageError(f"memory {name!r}", given=given, allowed=f"shape {here.shape}, of the same rule")
            setattr(self, name, np.array(arrays[name], dtype=here.dtype))


class Rule(ABC):
    """A rule with its options."""

    #: whether its memory is exact, and that of ctrnn.gradients.rules.exact
    is_exact: ClassVar[bool] = False

    @abstractmethod
    def start(self, lane: Lane, rng: np.random.Generator) -> Memory:
        """A memory for one lane, as after ``reset``; raises UsageError where the field does not suit the rule."""
