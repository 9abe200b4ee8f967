"""Approximations of RTRL that a neuron could afford.

RFLO (random feedback local online learning; Murray 2019), here with exact output weights: leak-only sensitivities

    dP/dt = D P + F_w,     D = the part of J by which a unit acts on itself directly (−1/τ for rate units)

instead of J P: each weight keeps one trace of its own, O(m) numbers in all. What it drops is the path through the
recurrent weights; in the scalar example dr/dt = −r + w r + b + x it is dp/dt = −p + r, and it parts from dp/dt = −p + w
p + r as w p grows. By Euler steps of dt = τ, D is 0: what is left of P is what the last step added, as published for
discrete networks with that leak. A learner's ``feedback="random"`` gives the rule its random feedback.

Bias: all influence through weights. Variance: none. Time: O(n² + m) for Euler steps (ctrnn.gradients.rules.traces),
otherwise O(n² m). Memory: a trace a weight.

(J. M. Murray, "Local online learning in recurrent networks with random feedback", eLife 8:e43299, 2019.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients import costs
from ctrnn.gradients.continuous.forward import forward_gradient
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, GradientMethod, Passes
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.rules.rule import Memory, Rule
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.gradients.rules.traces import Sets, ones, traces
from ctrnn.kernels.abi import LEAK
from ctrnn.problem import Problem, Settings

#: random points at which the leak is looked at
PROBES = 3


@dataclass(frozen=True)
class RFLO(GradientMethod):
    """Leak-only sensitivities, an approximation; for networks, on any solver. dl/dr0 and dr/dr0 are leak-only too.

    Examples
    --------
    >>> import ctrnn, numpy as np
    >>> network = ctrnn.RateNetwork(8, gain=1.2, seed=0)
    >>> problem = ctrnn.Problem(network, [0.1] * 8, (0.0, 5.0), objective=ctrnn.Objective(target=1.0, at=[5.0]))
    >>> exact, near = (ctrnn.gradient(problem, m).vector for m in ("adjoint", RFLO()))
    >>> bool(0.1 < np.linalg.norm(near - exact) / np.linalg.norm(exact) < 1.0)
    True
    """

    facts = Facts(
        name="rflo",
        summary="leak-only sensitivities of a network, one trace a weight: to compare with biology",
        exact_for=Exact.NOTHING,
        passes=Passes.FORWARD,
        cost="O(n² m); a learner's Euler steps O(n² + m)",
        memory="O(n m)",
        own_steps=False,
        implicit=True,
    )

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return "RFLO (leak only)"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return costs.forward_continuous(size)

    def refusal(self, problem: Problem, settings: Settings) -> str:
        """Why it cannot treat a problem; empty where it can."""
        if not problem.field._kernel.table[LEAK]:
            return "only a network, or array equations, has a leak of its own"
        return super().refusal(problem, settings)

    def rule(self) -> Rule:
        """The same, a step at a time."""
        return LeakRule()

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The loss and its gradient."""
        return forward_gradient(problem, settings, self.name, leak_only=True)


@dataclass(frozen=True)
class LeakRule(Rule):
    """RFLO as a rule along steps: P ← D P + C."""

    def start(self, lane: Lane, rng: np.random.Generator) -> Memory:
        """A memory for one lane; raises UsageError for a field that does not know its leak.

        Traces for Euler steps, where the leak takes each parameter to few states.
        """
        if not lane.has_leak:
            hint = "array equations, as {'r': '-r + W @ r'} with states={'r': 1}: the leak is beside the products"
            raise UsageError("method", given="rflo", allowed="a network, which has a leak of its own", hint=hint)
        if lane.one_stage:
            from scipy.sparse import csr_array

            keep, leak, before = lane.field._pattern()[1], csr_array(leak_pattern(lane), dtype=np.float32), -1
            while keep.nnz > before:
                before, keep = keep.nnz, ones(leak @ keep)
            sets = Sets.by_reach(keep)
            if sets.pays(lane):
                return traces(lane, rng, sets, by_leak=True)
        return LeakMemory(lane, rng)


def leak_pattern(lane: Lane) -> Array:
    """Where 1 + h D can be other than 0 (n, n), as D is at some random points."""
    rng, found = np.random.default_rng(0), np.eye(lane.n, dtype=bool)
    for _ in range(PROBES):
        r, x = (rng.normal(size=(1, lane.s, size)) for size in (lane.n, lane.bound.x_stride))
        found |= lane.leak(Step(lane, np.ones(1), np.zeros((1, lane.s)), r, x), 0) != 0.0
    return found


class LeakMemory(Memory):
    """P (groups, n, columns) by the leak alone."""

    carried: ClassVar[tuple[str, ...]] = ("P",)

    def __init__(self, lane: Lane, rng: np.random.Generator) -> None:
        super().__init__(lane, rng)
        self.P = np.zeros((lane.groups, lane.n, lane.columns))

    def reset(self) -> None:
        """P = 0."""
        self.P[...] = 0.0

    def take(self, step: Step) -> None:
        """P ← D P + C."""
        D, C = step.left_by_leak(np.eye(self.lane.n))
        P = np.matmul(D, self.P)
        P += C
        self.P = P

    def pull(self, row: Array) -> Array:
        """∂ℓ/∂r P."""
        return np.matmul(row, self.P)
