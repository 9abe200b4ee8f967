"""What a gradient method is, and the facts that it carries.

A method is an object with a name, ``compute(problem, settings)`` and ``facts``: for what its number is exact, what it
needs, what it costs. Whoever has to choose, compare or explain methods asks the facts; nobody asks for a class, nor how
a name is spelt. The list of all methods is ctrnn.gradients.methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.recording.base import Needs, Totals
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.rules.rule import Rule
from ctrnn.problem import Problem, Settings
from ctrnn.solvers import tableaus


class Exact(StrEnum):
    """What a method's number is the exact gradient of."""

    #: the loss of the steps that the solver took, to rounding
    STEPS = "the steps taken"
    #: the loss of the solution of the differential equation, to the tolerance
    EQUATION = "the differential equation"
    #: neither: influence is left out on purpose
    NOTHING = "nothing"


class Passes(StrEnum):
    """Which way the derivatives go in time."""

    FORWARD = "forward"
    BACKWARD = "backward"
    #: whole solutions, again and again
    SOLUTIONS = "whole solutions"


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a method before it is run.

    Attributes
    ----------
    name, aliases
        The words by which ``ctrnn.gradient(problem, method=...)`` takes it.
    summary
        What it is and when to take it, in one line.
    exact_for
        What its number is exact for; ``NOTHING`` is an approximation.
    unless
        Where even that is not so.
    unbiased
        Of an approximation that draws random numbers: whether its mean over all draws is the exact gradient.
    passes
        Which way its derivatives go in time.
    own_steps
        Whether it needs the steps of one of our own solvers; otherwise it takes any solver.
    implicit
        Whether our own implicit solvers are among those that it takes.
    through_events
        Whether it goes through events: forward with dr/dw, backward with λ, or by whole solutions; None where it does
        not.
    device
        Whether it can compute on a device, in torch operations (``device=``, ``dtype=``).
    independent
        Whether its derivatives are not those of the compiled fields: then it is a check on all that are.
    by_torch
        Whether torch holds its memory, which Python's tracing does not see.
    compared
        Whether ``ctrnn.compare_gradients`` takes it unasked.
    options
        The arguments that an experiment file may set, each a whole number: {name = "rtrl", block = 7}.
    cost, memory
        How both grow, in words, for n states, m parameters and T steps of s stages; ``GradientMethod.cost`` has the
        numbers.
    """

    name: str
    summary: str
    exact_for: Exact
    passes: Passes
    cost: str
    memory: str
    aliases: tuple[str, ...] = ()
    unless: str = ""
    unbiased: bool = False
    own_steps: bool = True
    implicit: bool = True
    through_events: Passes | None = None
    device: bool = False
    independent: bool = False
    by_torch: bool = False
    compared: bool = False
    options: tuple[str, ...] = ()

    @property
    def approximates(self) -> bool:
        """Whether it leaves influence out on purpose."""
        return self.exact_for is Exact.NOTHING

    @property
    def through_noise(self) -> bool:
        """Whether it goes along a path of noise: not by an equation of its own that runs backwards in time."""
        return not (self.exact_for is Exact.EQUATION and self.passes is Passes.BACKWARD)

    @property
    def exactness(self) -> str:
        """For what its number is exact, in words."""
        if self.unbiased:
            return f"{Exact.STEPS}, in the mean over seeds"
        if self.approximates:
            return "nothing: an approximation"
        return f"{self.exact_for}, {self.unless}" if self.unless else str(self.exact_for)


class GradientMethod(ABC):
    """A way to compute a gradient; each is a frozen dataclass of its options."""

    #: what is known of it; of a class with several modes a property
    facts: Facts
    #: what it asks of a recording, if it is a schedule of one (ctrnn.gradients.schedules.recorded); None if it is not
    needs: Needs | None = None
    #: steps in a block, of methods that go forward in blocks; None: chosen
    block: int | None = None
    #: where torch computes it; None for the compiled kernels
    torch_device: Any = None

    @property
    @abstractmethod
    def name(self) -> str:
        """What a result says that it was computed by."""

    @abstractmethod
    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The loss and its gradient."""

    @abstractmethod
    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""

    def totals(self, problems: Sequence[Problem], settings: Settings) -> Totals:
        """Of problems that one recording takes together; of a method whose ``needs`` are not None."""
        raise NotImplementedError

    def rule(self) -> Rule | None:
        """What it is as a rule of learning while the run goes on; None where it needs a run that is over."""
        return None

    def refusal(self, problem: Problem, settings: Settings) -> str:
        """Why it cannot treat a problem with these settings; empty where it can, as far as is known before a run."""
        if settings.library and self.facts.own_steps:
            return f"{settings.solver} does not show its steps"
        if not settings.library and not self.facts.implicit and tableaus.get(settings.solver).implicit:
            return f"not on {settings.solver}, whose stages need a Jacobian of λ's equation"
        if problem.events and self.facts.through_events is None:
            return "it does not go through events"
        if (problem.noise is not None or problem.is_noisy) and not self.facts.through_noise:
            return "its equation runs backwards, which a path of noise has none of"
        return ""
