"""Truncated back-propagation through time: each loss looks back over k steps and no farther.

With Φ_j = ∂r_j/∂r_{j−1} and C_j = ∂r_j/∂w of step j, and ∂_i the derivative of the loss seen in step i (a ∂ℓ/∂r at its end; for ∫ aℓ dt what the
step's own quadrature takes at its stages), the gradient and its truncation to the window k are

    dl/dw = Σ_i Σ_{j ≤ i} ∂_i Φ_i ⋯ Φ_{j+1} C_j         and         Σ_i Σ_{i−k < j ≤ i} ∂_i Φ_i ⋯ Φ_{j+1} C_j

(Williams & Peng 1990; Williams & Zipser 1995: BPTT(k), a pass backward from every step that has a loss.) What is left out is all influence
that takes longer than k steps to show. It is no small error where the dynamics remember: for weights whose use lies far back, it is everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, GradientMethod, Passes
from ctrnn.gradients.recording.discrete import DiscreteRun
from ctrnn.gradients.recording.losses import Part
from ctrnn.gradients.result import Gradient, result
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import BLOCK


@dataclass(frozen=True)
class TruncatedBPTT(GradientMethod):
    """The discrete adjoint, cut off after ``window`` steps: an approximation, for any solver of our own.

    The cotangent of a loss that is seen in step i is carried back through the steps i, i − 1, …, i − window + 1: for an observation those that
    end at it and before, for an integral the step whose stages carry it and those before. dl/dr0 has the losses of the first ``window`` steps,
    and that at t0, alone. The loss, and the gradient of a read-out, are not approximations. A window of all steps is ``Adjoint()``.

    With adaptive steps a window is no fixed time: choose dt where it should be one. Costs ``window`` steps backward for each step with a loss,
    T·window where all have one (the full gradient costs T), and memory for ``window`` steps and a block.

    Raises UsageError for a window that is not a number of steps.

    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> problem = ctrnn.Problem(decay, [1.0], (0.0, 1.0), objective=ctrnn.Objective(target=0.0, at=1.0))
    >>> cut, whole = (ctrnn.gradient(problem, TruncatedBPTT(k), solver="rk4", dt=0.1).vector[0] for k in (5, 10))
    >>> round(float(cut / whole), 4)  # the second half of the way, where the first counts as much
    0.5
    """

    window: int = 32

    facts = Facts(
        name="tbptt",
        summary="back-propagation cut off after k steps: the usual compromise, to compare with",
        exact_for=Exact.NOTHING,
        passes=Passes.BACKWARD,
        cost="O(n² k) a loss",
        memory="k steps",
        options=("window",),
    )

    def __post_init__(self) -> None:
        whole = isinstance(self.window, (int, np.integer)) and not isinstance(self.window, bool)
        if not whole or self.window < 1:
            raise UsageError("window", given=self.window, allowed="a number of steps, at least 1")

    @property
    def name(self) -> str:
        return f"truncated BPTT, window {self.window}"

    def cost(self, size: Size) -> Cost:
        return costs.truncated(size, self.window)

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        run = DiscreteRun(problem, settings, self.name)
        n, kernel = problem.field.n, run.bound.kernel
        loss, g0, g_o = run.losses.start()
        G = np.zeros((kernel.groups, 1, kernel.columns))
        first = 0  # the number of the first step of ``steps``
        steps: Record | None = None
        for record, part in run.blocks(BLOCK):
            steps, new = _joined(steps, record), record.h.size
            before = steps.h.size - new
            for i in map(int, np.flatnonzero(_has_loss(part))):
                end, low = before + i, max(0, before + i + 1 - self.window)
                lam = np.zeros((n, 1))
                run.pull(_cut(steps, end, end + 1), _cut_part(part, i), lam, G)
                if low < end:
                    run.pull(_cut(steps, low, end), _no_loss(part, n), lam, G)
                if first + low == 0:  # the window reaches t0
                    g0 = g0 + lam[:, 0]
            loss += part.loss
            g_o = g_o + part.readout
            left = max(0, steps.h.size - self.window + 1)
            first += left
            steps = _cut(steps, left, steps.h.size, copy=True)
        return result(problem, self.name, loss, run.bound.rows(G)[0], g0, g_o, run.stats)


def _has_loss(part: Part) -> Array:
    """Which of a block's steps see a loss (C,)."""
    if part.jumps.size:
        return np.asarray(part.jumps.any(axis=1))
    return np.asarray(part.sources.any(axis=(1, 2)))


def _cut_part(part: Part, i: int) -> Part:
    return Part(0.0, part.readout, part.jumps[i : i + 1], part.sources[i : i + 1])


def _no_loss(part: Part, n: int) -> Part:
    return Part(0.0, part.readout, np.empty((0, n)), np.empty((0, part.sources.shape[1], n)))


def _cut(record: Record, low: int, high: int, copy: bool = False) -> Record:
    return Record(*((p[low:high].copy() if copy else p[low:high]) if len(p) else p for p in record))


def _joined(one: Record | None, two: Record) -> Record:
    if one is None:
        return two
    return Record(*(np.concatenate([a, b]) if len(b) else b for a, b in zip(one, two, strict=True)))
