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
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ctrnn.callbacks import Pending
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.kernels.abi import address_of, view
from ctrnn.kernels.rules.table import SIGNATURES, c_type
from ctrnn.memory import claim


class Slots(NamedTuple):
    """A memory as the compiled loop sees it (ctrnn.kernels.rules.table)."""

    functions: tuple[int, ...]  # addresses of TAKE, ADD, COLLECT and RESET
    memory: int  # the address that they are given
    raise_pending: Callable[[], None]  # raises what a function in Python has raised meanwhile
    keep: Any = None  # what owns the addresses


def in_c(pending: Pending, body: Callable[..., None], signature: Any) -> Any:
    """A Python function as a C function that answers 0, or 1 where it raised; what it raised waits in ``pending``."""
    failed = np.zeros(1)
    guarded = pending.guard(body, lambda *_: failed)

    def call(*arguments: Any) -> int:
        failed[0] = 0.0
        guarded(*arguments)
        return int(np.isnan(failed[0]))

    return c_type(signature)(call)


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
    #: steps back whose weights are read again where they lie; of others a step has a copy
    looks_back: int = 0

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

    def slots(self) -> Slots:
        """The memory as the compiled loop calls it: here by callbacks into Python."""
        lane, pending = self.lane, Pending()
        weights = lane.bound.system.w.size

        def take(_: int, h: float, t: int, r: int, x: int, w: int) -> None:
            s, n = lane.s, lane.n
            now = view(w, weights)
            stages = view(t, 1, s).copy(), view(r, 1, s, n).copy(), view(x, 1, s, lane.bound.x_stride).copy()
            self.take(Step(lane, np.array([h]), *stages, w=now if self.looks_back else now.copy()))

        def add(_: int, row: int) -> None:
            self.add(view(row, lane.n).copy())

        def collect(_: int, G: int) -> None:
            view(G, lane.groups, lane.columns)[...] += self.collect()

        def reset(_: int) -> None:
            self.reset()

        bodies: tuple[Callable[..., None], ...] = (take, add, collect, reset)
        calls = [in_c(pending, *pair) for pair in zip(bodies, SIGNATURES, strict=True)]
        return Slots(tuple(address_of(call) for call in calls), 0, pending.raise_pending, calls)

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
            here[...] = arrays[name]


def start_all(rule: Rule, lane: Lane, generators: Sequence[np.random.Generator]) -> list[Memory]:
    """A memory for each of several lanes; raises MemoryLimitError where they do not fit together."""
    first = rule.start(lane, generators[0])
    claim("batch", float(first.nbytes) * len(generators), "fewer lanes, or a method with a smaller memory")
    return [first, *(rule.start(lane, rng) for rng in generators[1:])]


class Rule(ABC):
    """A rule with its options."""

    #: whether its memory is exact, and that of ctrnn.gradients.rules.exact
    is_exact: ClassVar[bool] = False

    @abstractmethod
    def start(self, lane: Lane, rng: np.random.Generator) -> Memory:
        """A memory for one lane, as after ``reset``; raises UsageError where the field does not suit the rule."""
