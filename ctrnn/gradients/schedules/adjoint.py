"""Back-propagation through time: one row of cotangents backward, λ = dl/dr.

    discrete     the pullback of λ through the recorded steps: exact for the steps that were taken
    checkpoint   the same numbers in bounded memory: the steps are taken again, a segment at a time
                 (ctrnn.gradients.schedules.checkpoint)
    backsolve    dλ/dt = −λ J − a ∂ℓ/∂r, with r integrated backwards beside it: no memory, but r(t) is only right where
                 running F backwards is harmless (Chen et al. 2018)
    interpolate  the same λ, with r(t) from the dense output of the forward solution (as CVODES and SciML do)

λ jumps by a_k ∂ℓ/∂r at the observation t_k, and dl/dw = ∫ λ F_w dt, dl/dr0 = λ(t0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.gradients import costs
from ctrnn.gradients.continuous.backward import backward_gradient
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, Passes
from ctrnn.gradients.recording.base import Block, Needs, Recording, Totals
from ctrnn.gradients.recording.torch.device import Device
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.schedules.checkpoint import checkpointed, counted
from ctrnn.gradients.schedules.recorded import RecordedMethod
from ctrnn.memory import claim_more
from ctrnn.numbers import MOST, number
from ctrnn.problem import Problem, Settings

FACTS = {
    "discrete": Facts(
        name="adjoint",
        aliases=("bptt",),
        summary="back-propagation through time, through the recorded steps: the default, the cheapest for one loss",
        exact_for=Exact.STEPS,
        passes=Passes.BACKWARD,
        cost="O(n²) a stage",
        memory="all steps, O(T s n)",
        through_events=Passes.BACKWARD,
        device=True,
        compared=True,
    ),
    "checkpoint": Facts(
        name="adjoint-checkpoint",
        aliases=("checkpoint",),
        summary="the same number in bounded memory, the steps taken again a segment at a time: for long runs",
        exact_for=Exact.STEPS,
        passes=Passes.BACKWARD,
        cost="O(n²) a stage, and the run once more",
        memory="512 steps, or a budget in bytes",
        options=("memory", "checkpoints"),
    ),
    "backsolve": Facts(
        name="adjoint-backsolve",
        aliases=("backsolve",),
        summary="the adjoint equation with r run backwards beside it: for reversible systems only, others lose digits",
        exact_for=Exact.EQUATION,
        unless="if r runs backwards",
        passes=Passes.BACKWARD,
        cost="O(n²) a stage",
        memory="O(n + m)",
        own_steps=False,
        implicit=False,
        compared=True,
    ),
    "interpolate": Facts(
        name="adjoint-interpolate",
        aliases=("interpolate",),
        summary="the adjoint equation with r(t) from dense output: for SciPy's stiff solvers with many parameters",
        exact_for=Exact.EQUATION,
        passes=Passes.BACKWARD,
        cost="O(n²) a stage",
        memory="dense output, O(T n)",
        own_steps=False,
        implicit=False,
        compared=True,
    ),
}


@dataclass(frozen=True)
class Adjoint(RecordedMethod):
    """Back-propagation through time: one row of cotangents backward; the cheapest gradient of one loss.

    Parameters
    ----------
    mode : {"discrete", "checkpoint", "interpolate", "backsolve"}, default "discrete"
        "discrete": through the recorded steps, exact for them; "checkpoint": the same number in bounded memory;
        "interpolate" and "backsolve": the adjoint equation, with r(t) from dense output or run backwards.
    checkpoints : int, optional
        Of the mode "checkpoint": snapshots held at once. Every step is taken twice while there is one for each segment,
        and the fewer there are the more often beyond.
    memory : int, optional
        Of the mode "checkpoint": bytes for snapshots, the record of a segment and its cotangents. The segments are as
        long as that allows, and snapshots take what they leave. By default segments of 512 steps, and as much again for
        snapshots.
    device : {"cpu", "cuda", ...}, optional
        Of the mode "discrete" with explicit fixed steps: computed in torch operations there; trials of the same times
        run together. Without device and dtype the compiled kernels compute it.
    dtype : {"float64", "float32"}, optional
        Of those torch operations.

    Raises
    ------
    UnknownNameError
        For another mode.
    UsageError
        For numbers that are not positive or not of the mode; and, when it meets the problem, for a memory that is too
        small, with the smallest that is enough.

    Notes
    -----
    Formulas and sources are at the top of `ctrnn.gradients.schedules.adjoint`.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.RateNetwork(16, gain=1.2, seed=0)
    >>> problem = ctrnn.Problem(field, [0.1] * 16, (0.0, 50.0), objective=ctrnn.Objective(target=0.0))
    >>> plain, bounded = (
    ...     ctrnn.gradient(problem, m, solver="rk4", dt=0.01)
    ...     for m in (Adjoint(), Adjoint("checkpoint", memory=500_000))
    ... )
    >>> bool(abs(bounded.vector - plain.vector).max() < 1e-13 * abs(plain.vector).max())
    True
    """

    mode: str = "discrete"
    checkpoints: int | None = None
    memory: int | None = None
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        one_of("mode", self.mode, FACTS)
        for name, unit in (("checkpoints", "a number of snapshots"), ("memory", "a number of bytes")):
            value = getattr(self, name)
            if value is None:
                continue
            if self.mode != "checkpoint":
                raise UsageError(name, given=value, allowed=f"None in the mode {self.mode!r}", hint='mode="checkpoint"')
            size = number(name, value, f"{unit}, at least 1, or None")  # 2e9 bytes is a whole number, too
            if isinstance(value, bool) or not (1 <= size <= MOST and size == int(size)):
                raise UsageError(name, given=value, allowed=f"{unit}, at least 1, or None")
            object.__setattr__(self, name, int(size))
        if self.torch_device is not None and self.mode != "discrete":
            raise UsageError("mode", given=self.mode, allowed="'discrete', with a device or a dtype")

    @cached_property
    def torch_device(self) -> Device | None:  # type: ignore[override]
        """Where torch computes it; None for the compiled kernels."""
        return Device.of(self.device, self.dtype)

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return f"adjoint, {self.mode if self.torch_device is None else self.torch_device}"

    @property
    def facts(self) -> Facts:  # type: ignore[override]
        """What is known of the mode."""
        return FACTS[self.mode]

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        if self.mode == "discrete":
            return costs.discrete(size)
        if self.mode == "checkpoint":
            return counted(size, self.checkpoints, self.memory)
        return costs.backward_continuous(size, interpolate=self.mode == "interpolate")

    @cached_property
    def needs(self) -> Needs | None:  # type: ignore[override]
        """What the mode needs of a recording; None where it takes none."""
        if self.mode == "discrete":
            return Needs(device=self.torch_device, whole_way=True)
        return Needs(snapshots=True, cuts=True, whole_way=True) if self.mode == "checkpoint" else None

    def schedule(self, recording: Recording) -> Totals:
        """Forward and back through a recording that meets the needs."""
        if self.mode == "checkpoint":
            return checkpointed(recording, self.checkpoints, self.memory)
        return all_kept(recording)

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The gradient of one problem; raises NotFiniteError, and what the recording raises."""
        if self.needs is None:
            return backward_gradient(problem, settings, self.name, interpolate=self.mode == "interpolate")
        return super().compute(problem, settings)


@dataclass(frozen=True)
class BoundedAdjoint(Adjoint):
    """The discrete adjoint where T is not known before the run.

    Begun again with checkpoints should its record outgrow ``limit`` bytes.
    """

    limit: int = 0

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The gradient of one problem; raises NotFiniteError, and what the recording raises."""
        try:
            return super().compute(problem, settings)
        except RecordTooLargeError:
            pass  # and let go of the record
        return Adjoint("checkpoint").compute(problem, settings)

    def schedule(self, recording: Recording) -> Totals:
        """Forward and back through a recording that meets the needs."""
        return all_kept(recording, self.limit)


class RecordTooLargeError(Exception):
    """The record of a run has outgrown what it may take."""


def all_kept(recording: Recording, limit: float = np.inf) -> Totals:
    """One row back through every step, all of them kept.

    Raises RecordTooLargeError where they take more than ``limit`` bytes.
    """
    loss, l_r0, readout = recording.start()
    taken: list[Block] = []
    held = 0
    for block in recording.blocks():
        if taken:
            claim_more("method", block.nbytes, "method='adjoint-checkpoint', whose memory does not grow with the steps")
        taken.append(block)
        if limit < np.inf:
            held += block.nbytes
            if held > limit:
                raise RecordTooLargeError
    rows, G = recording.zero_rows(), recording.zero_parameters()
    while taken:
        block = taken.pop()  # and let go of
        recording.pull(block, rows, G)
        l, l_o = block.seen
        loss = loss + l
        if l_o.size:
            readout = readout + l_o
    return Totals(loss, recording.vector(G), l_r0 + recording.r0(rows), readout, recording.stats)
