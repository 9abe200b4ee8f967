"""From a rule of learning to a gradient method: the rule goes along a recorded run, and its gradients are added up.

    loss seen at the end of a step     g ← g + pull(∂ℓ/∂r) after it
    loss inside it, of ∫ aℓ dt         g ← g + pull(λ) + c before it
    dl/dr0                             by S = dr/dr0, S ← Φ S, which no rule approximates

Weights rest here: ``gradient(problem, method="snap-1")`` says what the rule would have given along this run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.recording.base import Needs, Totals
from ctrnn.gradients.rules.rule import Rule
from ctrnn.gradients.rules.step import Lane, steps_of
from ctrnn.gradients.schedules.recorded import RecordedMethod


class OnlineMethod(RecordedMethod, Rule):
    """A rule that is a gradient method too; a frozen dataclass with ``facts``, ``start`` and its options."""

    #: of the numbers that it draws
    seed: int = 0

    def rule(self) -> Rule:
        """The rule itself."""
        return self

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """What it asks of a recording."""
        return Needs(rows="many", cuts=True)

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        numbers = size.n * size.entries
        return costs.online(size, 2.0 * size.n * numbers, 3.0 * numbers)

    def schedule(self, recording: Any) -> Totals:
        """Along a recording."""
        lane = Lane(recording.problem.field, recording.bound, recording.a, recording.b)
        memory = self.start(lane, np.random.default_rng(self.seed))
        loss, (l_r,), g_o = recording.start()
        S, g0 = np.eye(lane.n), l_r.copy()
        for block in recording.blocks():
            for step, jump in steps_of(lane, block):
                if len(step.sources):
                    g0 = g0 + memory.inside(step) @ S
                S = step.phi @ S
                memory.take(step)
                if jump is not None:
                    memory.add(jump)
                    g0 = g0 + jump @ S
            l, l_o = block.seen
            loss, g_o = loss + l, g_o + l_o
        return Totals(loss, lane.vector(memory.collect()), g0[None], g_o, recording.stats)
