"""One interface for a forward run that can be pulled back; schedules stand on it, backends lie behind it.

    forward     r_0 → r_1 → …         in blocks of steps, each recorded, with the losses that are seen in it
    back        Λ ← Λ Φ + jumps       q cotangents through a block, with the parameter part Ḡ ← Ḡ + Σ K̄ F_w
                (ctrnn.kernels.pullback)

A schedule says when to go forward and back (ctrnn.gradients.schedules); it does not know which backend it has. A
backend says what it can do (``supports``), and holds rows, blocks and parameter parts in forms of its own, which a
schedule hands on and never looks into:

    stepper     one problem; any field, adaptive, implicit and exponential methods, snapshots, many rows
    rows, slots B trials in lockstep by the same explicit fixed steps, one row each, in compiled code: of dense rate
                networks, and of any field that has functions of many rows
    torch       the same in torch, one row or many, on a device, in a dtype

Sizes: B trials, n states, m parameters, q cotangents ("rows"), of which the last carries the loss, C steps of s stages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, Self

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.problem import Problem, Settings
from ctrnn.trajectory import Stats


class Needs(NamedTuple):
    """What a schedule asks of a backend.

    rows       "one": a cotangent of the loss; "many": those of RTRL beside it, and their parameter part apart from the
               way back
    snapshots  go back to an earlier state, and on from there
    cuts       single steps of a block, with and without their losses
    whole_way  whether the loss's cotangent goes back through all steps as it is, so that this pass tells their errors
    device     a torch device and dtype (ctrnn.gradients.recording.torch.device.Device); None for compiled code
    """

    rows: str = "one"
    snapshots: bool = False
    cuts: bool = False
    device: Any = None
    whole_way: bool = False


class Seen(NamedTuple):
    """A loss (B,) with its derivatives.

    They are ∂/∂r (B, n) at one time, and the sum over trials of those by the read-out (readout_size,).
    """

    loss: Array
    l_r: Array
    readout: Array


class Totals(NamedTuple):
    """What a schedule finds of B trials: loss (B,), r0 (B, n).

    And their sums, vector (m,) and readout (readout_size,), and the cost.
    """

    loss: Array
    vector: Array
    r0: Array
    readout: Array
    stats: Stats


class Block(Protocol):
    """C recorded steps, with what their losses give to the cotangents."""

    @property
    def steps(self) -> int:
        """How many they are, C."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""

    @property
    def seen(self) -> tuple[Array, Array]:
        """The loss (B,), and its derivative by the read-out, summed over the trials (readout_size,)."""


class CutBlock(Block, Protocol):
    """A block of a recording that meets ``Needs.cuts``: its steps may be taken apart."""

    def cut(self, first: int, last: int, *, copy: bool = False) -> Self:
        """The steps from ``first`` to ``last``, with what their losses give.

        That is a view, or a copy that lets go of the rest.
        """

    def without_loss(self) -> Self:
        """The same steps, of which no loss is seen."""

    def with_loss(self) -> Array:
        """The numbers of the steps in which a loss is seen."""


class Carry(ABC):
    """What RTRL carries through blocks (ctrnn.gradients.schedules.rtrl).

    Its rows, and the products T [P; g] and T [S; g₀].

    P = dr/dw and S = dr/dr0 have a row for each state, and g = dl/dw, g₀ = dl/dr0 are the last of the q rows. Their
    forms are the backend's.
    """

    #: steps in a block, where the products cost a tenth of the rest
    block: int

    @abstractmethod
    def rows(self, l_r: Array | None = None) -> Any:
        """The cotangents that go back through a block: unit vectors, and ∂ℓ/∂r (B, n) or 0 as the last."""

    @abstractmethod
    def transition(self, rows: Any) -> Any:
        """T = [Φ 0; λ 1], from the rows that came back: Φ and, as the last row, λ."""

    @abstractmethod
    def zero_parameters(self) -> Any:
        """[P; g] at the start."""

    @abstractmethod
    def start_states(self) -> Any:
        """[S; g₀] at the start: S = 1."""

    @abstractmethod
    def transform_states(self, T: Any, S: Any) -> Any:
        """T [S; g₀], as a new one."""

    @abstractmethod
    def transform(self, T: Any, G: Any) -> Any:
        """T [P; g], in place: P is the largest thing there is, and there is one of it."""

    @abstractmethod
    def r0(self, S: Any) -> Array:
        """g₀ (B, n)."""

    @abstractmethod
    def vector(self, G: Any) -> Array:
        """g (m,), the sum over the trials."""


class Recording(ABC):
    """A forward run of one problem, or of B trials in lockstep, that can be pulled back.

    Raises UsageError where a backend cannot take the problem, SolverError and NotFiniteError on its way.
    """

    #: trials, and states of each
    B: int
    n: int
    readout_size: int
    #: whether its steps may be adaptive, and then answer for the sensitivity (ctrnn.gradients.recording.control)
    controls_steps = False

    # -- what a backend can do

    @classmethod
    @abstractmethod
    def supports(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
        """Whether it takes all of these problems, together."""

    @classmethod
    def at_once(cls, problems: Sequence[Problem], settings: Settings, needs: Needs) -> int:
        """How many of them at a time, for memory's sake."""
        return len(problems)

    @classmethod
    @abstractmethod
    def record(
        cls, problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs, first: int | None = None
    ) -> Recording:
        """A run of these problems, not begun yet.

        ``first``: the number of the first of them, where they are some of more.
        """

    @classmethod
    def threads(cls, problem: Problem, settings: Settings) -> AbstractContextManager[Any]:
        """A context in which libraries use as many threads as suit it."""
        return nullcontext()

    def again(self, problems: Sequence[Problem]) -> bool:
        """Make ready for another run, of problems that differ in the numbers of their field and in r0 alone.

        The memory is the same.

        Returns False where that cannot be: then another recording has to be made.
        """
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        """Let go of working memory that others may use."""
        return

    # -- forward

    @abstractmethod
    def start(self) -> Seen:
        """What is observed at t0; zeros where nothing is."""

    @abstractmethod
    def blocks(self, capacity: int | None = None) -> Iterator[Block]:
        """Run, and yield each block of up to ``capacity`` steps, or as many as suit the backend."""

    # -- back

    @abstractmethod
    def zero_rows(self) -> Any:
        """One cotangent, 0, for each trial."""

    @abstractmethod
    def zero_parameters(self) -> Any:
        """A parameter part of one cotangent, 0."""

    @abstractmethod
    def pull(self, block: Any, rows: Any, G: Any) -> None:
        """Take ``rows`` back through a block, in place, and add their parameter part to G."""

    @abstractmethod
    def r0(self, rows: Any) -> Array:
        """The cotangents that carry the loss (B, n)."""

    @abstractmethod
    def vector(self, G: Any) -> Array:
        """The parameter part of one cotangent, summed over the trials, in the order of the field's parameters (m,)."""

    @property
    @abstractmethod
    def stats(self) -> Stats:
        """The cost so far, with the time of everything since the run was made."""

    # -- where ``Needs.rows`` is "many"

    def carry(self, block: int | None = None) -> Carry:
        """What RTRL carries through this run; ``block``: steps in a block, None chooses."""
        raise NotImplementedError

    def pull_rows(self, block: Any, rows: Any) -> Any:
        """Take ``rows`` back through a block, in place; returns what ``add_parameter_part`` needs of them."""
        raise NotImplementedError

    def add_parameter_part(self, block: Any, pulled: Any, G: Any) -> None:
        """Add the parameter part of rows that were pulled to G, which may have changed in between."""
        raise NotImplementedError


def summed(parts: Sequence[Totals]) -> Totals:
    """Of groups of trials, in their order."""
    if len(parts) == 1:
        return parts[0]
    return Totals(
        np.concatenate([part.loss for part in parts]),
        np.sum([part.vector for part in parts], axis=0),
        np.concatenate([part.r0 for part in parts]),
        np.sum([part.readout for part in parts], axis=0),
        sum((part.stats for part in parts), Stats()),
    )


Schedule = Callable[[Any], Totals]
