"""torch's autograd through the unrolled steps: back-propagation by somebody else's derivatives, for comparison.

Exact for the steps that were taken, like the discrete adjoint; its graph takes memory for every operation of every
step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ctrnn.clock import working
from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, GradientMethod, Passes
from ctrnn.gradients.recording.replay import field_inputs, newton_matrices, recorded, replay, within_mask
from ctrnn.gradients.result import Gradient, result
from ctrnn.problem import Problem, Settings


@dataclass(frozen=True)
class Autograd(GradientMethod):
    """torch.autograd through the steps of one of our own solvers.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> problem = ctrnn.Problem(decay, [1.0], (0.0, 1.0), objective=ctrnn.Objective(target=[0.0], at=[1.0]))
    >>> ours, theirs = (ctrnn.gradient(problem, m, solver="rk4", dt=0.1).vector[0] for m in ("adjoint", Autograd()))
    >>> bool(abs(theirs / ours - 1.0) < 1e-13)
    True
    """

    facts = Facts(
        name="autograd",
        summary="torch's autograd through the recorded steps: a check on the others",
        exact_for=Exact.STEPS,
        passes=Passes.BACKWARD,
        cost="a torch operation for each operation of a step",
        memory="torch's graph, O(T s n) and more",
        independent=True,
        by_torch=True,
        compared=True,
    )

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return "torch autograd"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return costs.graph(size)

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The loss and its gradient."""
        import torch

        began = working()
        steps = recorded(problem, settings, self.name)
        w = {k: torch.tensor(v, requires_grad=True) for k, v in problem.field.parameters.items()}
        r0 = torch.tensor(problem.r0, requires_grad=True)
        function = field_inputs(problem)
        matrices = newton_matrices(steps, function, problem.field.parameters)
        states, stages = replay(steps, function, w, r0, matrices)
        outputs, seeds = states, steps.jumps
        if steps.sources.size:
            outputs, seeds = stages, steps.sources.reshape(-1, problem.field.n)
        keep = [k for k, o in enumerate(outputs) if o.requires_grad and np.any(seeds[k])]
        leaves = [*w.values(), r0]
        if keep:
            rows = [torch.from_numpy(seeds[k]) for k in keep]
            got: tuple[Any, ...] = torch.autograd.grad([outputs[k] for k in keep], leaves, rows, allow_unused=True)
        else:
            got = (None,) * len(leaves)
        parts = [
            np.zeros(leaf.numel()) if g is None else g.numpy().ravel() for g, leaf in zip(got, leaves, strict=True)
        ]
        vector = within_mask(problem.field, np.concatenate([np.empty(0), *parts[:-1]]))
        stats = replace(steps.stats, wall_time=working() - began)
        return result(problem, self.name, steps.loss, vector, parts[-1] + steps.l_r0, steps.readout, stats)
