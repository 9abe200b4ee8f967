"""Truncated back-propagation through time: each loss looks back over k steps and no farther.

With Φ_j = ∂r_j/∂r_{j−1} and C_j = ∂r_j/∂w of step j, and ∂_i the derivative of the loss seen in step i (a ∂ℓ/∂r at its
end; for ∫ aℓ dt what the step's own quadrature takes at its stages), the gradient and its truncation to the window k
are

    dl/dw = Σ_i Σ_{j ≤ i} ∂_i Φ_i ⋯ Φ_{j+1} C_j         and         Σ_i Σ_{i−k < j ≤ i} ∂_i Φ_i ⋯ Φ_{j+1} C_j

(Williams & Peng 1990; Williams & Zipser 1995: BPTT(k), a pass backward from every step that has a loss.) What is left
out is all influence that takes longer than k steps to show. It is no small error where the dynamics remember: for
weights whose use lies far back, it is everything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctrnn.gradients import costs
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, Passes
from ctrnn.gradients.recording.base import CutBlock, Needs, Recording, Totals
from ctrnn.gradients.rules.rule import Rule
from ctrnn.gradients.rules.window import WindowRule
from ctrnn.gradients.schedules.recorded import RecordedMethod
from ctrnn.numbers import whole
from ctrnn.solvers.runge_kutta import BLOCK


@dataclass(frozen=True)
class TruncatedBPTT(RecordedMethod):
    """The discrete adjoint, cut off after ``window`` steps: an approximation, for any solver of our own.

    Parameters
    ----------
    window : int, default 32
        Steps that each loss looks back. All steps are `Adjoint()`.

    Raises
    ------
    UsageError
        For a window that is not a number of steps.

    Notes
    -----
    The cotangent of a loss that is seen in step i is carried back through the steps i, i − 1, …, i − window + 1: for an
    observation those that end at it and before, for an integral the step whose stages carry it and those before. dl/dr0
    has the losses of the first ``window`` steps, and that at t0, alone. The loss, and the gradient of a read-out, are
    not approximations.

    With adaptive steps a window is no fixed time: choose dt where it should be one. It costs ``window`` steps backward
    for each step with a loss, T·window where all have one (the full gradient costs T), and memory for ``window`` steps
    and a block. The formula and sources (Williams and Peng 1990) are at the top of
    `ctrnn.gradients.schedules.truncated`.

    Examples
    --------
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
        whole("window", self.window, 1, "a number of steps, at least 1")

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return f"truncated BPTT, window {self.window}"

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return costs.truncated(size, self.window)

    def rule(self) -> Rule:
        """The same where weights move."""
        return WindowRule(self.window)

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        """Blocks that can be cut."""
        return Needs(cuts=True)

    def schedule(self, recording: Recording) -> Totals:
        """Forward and back through a recording that meets the needs."""
        loss, l_r0, readout = recording.start()
        G = recording.zero_parameters()
        before: list[CutBlock] = []  # the last steps before a block, window − 1 of them, and how many lie before those
        passed = 0
        blocks: Any = recording.blocks(BLOCK)
        for block in blocks:
            behind = sum(piece.steps for piece in before)
            for i in block.with_loss().tolist():
                rows = recording.zero_rows()
                recording.pull(block.cut(i, i + 1), rows, G)
                low = max(0, behind + i + 1 - self.window)
                for piece in _reversed([*before, block], low, behind + i):
                    recording.pull(piece.without_loss(), rows, G)
                if passed + low == 0:  # the window reaches t0
                    l_r0 = l_r0 + recording.r0(rows)
            l, l_o = block.seen
            loss, readout = loss + l, readout + l_o
            every = behind + block.steps
            low = max(0, every - self.window + 1)
            passed += low
            pieces = _reversed([*before, block], low, every)
            before = [piece.without_loss().cut(0, piece.steps, copy=True) for piece in pieces][::-1]
        return Totals(loss, recording.vector(G), l_r0, readout, recording.stats)


def _reversed(blocks: list[CutBlock], low: int, high: int) -> Iterator[CutBlock]:
    """The steps from ``low`` to ``high`` of blocks that follow one another, from the last piece to the first."""
    end = sum(block.steps for block in blocks)
    for block in reversed(blocks):
        start = end - block.steps
        first, last = max(low, start), min(high, end)
        if first < last:
            yield block.cut(first - start, last - start)
        end = start
