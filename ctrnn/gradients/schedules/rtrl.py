"""Real-time recurrent learning: P = dr/dw forward in time, with the gradient at hand at every moment.

Discrete, exact for the steps that were taken. A block of K steps gives, by the pullback of n identity rows, its transition
matrix Φ = dr⁺/dr and its parameter part C = ∂r⁺/∂w, and by one more row the losses λ, c seen inside it:

    g ← g + λ P + c          P ← Φ P + C

K = 1 is the textbook algorithm (Williams & Zipser 1989), K = all steps is BPTT; the number that comes out is the same. The
cost is not: with n units and m ≈ n² weights, Φ P takes 2n⁴ flops, once a block instead of at every stage, and all else
2n³ a stage (Schmidhuber 1992; Williams & Zipser 1995). Memory is constant in the number of steps.

Continuous, on any solver: the sensitivity equation dP/dt = J P + F_w is integrated beside dr/dt = F, its error in the step
test (ctrnn.kernels.augmented).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.gradients import costs
from ctrnn.gradients.continuous.forward import forward_gradient
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, GradientMethod, Passes
from ctrnn.gradients.recording.discrete import DiscreteRun
from ctrnn.gradients.recording.torch.place import Place
from ctrnn.gradients.result import Gradient, result
from ctrnn.gradients.schedules.carried import Carried
from ctrnn.problem import Problem, Settings
from ctrnn.solvers.runge_kutta import BLOCK

#: bytes that the cotangents of one block may take
BLOCK_BYTES = 256 * 2**20


FACTS = {
    "discrete": Facts(
        name="rtrl",
        summary="real-time recurrent learning by blocks of K steps: for long runs, and gradients while running",
        exact_for=Exact.STEPS,
        passes=Passes.FORWARD,
        cost="O(n³) a stage and n⁴/K a step; in independent parts of k states as if n were k",
        memory="O(n m), any T",
        through_events=Passes.FORWARD,
        device=True,
        compared=True,
        options=("block",),
    ),
    "continuous": Facts(
        name="rtrl-continuous",
        aliases=("continuous-rtrl",),
        summary="the sensitivity equation on any solver, its error in the step test: for few parameters",
        exact_for=Exact.EQUATION,
        passes=Passes.FORWARD,
        cost="O(n² m) a stage",
        memory="O(n m)",
        own_steps=False,
        compared=True,
    ),
}


@dataclass(frozen=True)
class RTRL(GradientMethod):
    """Real-time recurrent learning: dr/dw carried forward, memory constant in the number of steps.

    For long runs, for a gradient that is wanted while the run goes on, and for few parameters. For one loss at the end of a run that
    fits into memory, ctrnn.Adjoint costs less. The discrete mode is exact for the steps taken, whatever the block; the continuous
    one is a solution of the sensitivity equation to the tolerance, on any solver, SciPy's stiff ones among them.

    block : steps in a block, of the discrete mode; None chooses from n and m
    mode : "discrete" (through the solver's own steps) or "continuous" (an ODE of its own)
    error_control : of the continuous mode: "all" (the sensitivities' error counts in the step test) or "state"
    device, dtype : of the discrete mode with explicit fixed steps: in torch operations (ctrnn.gradients.recording.torch), on "cpu" or "cuda", in
        "float64" or "float32". One alone takes "cpu", "float64" for the other; None, None is the compiled kernels

    Raises UsageError for other values; and, when it meets the problem, for a device that is not there.

    >>> import ctrnn
    >>> at = ctrnn.Objective(target=1.0, at=[5.0])
    >>> problem = ctrnn.Problem(ctrnn.RateNetwork(16, gain=1.2, seed=0), [0.1] * 16, (0.0, 5.0), objective=at)
    >>> g, g32 = (ctrnn.gradient(problem, m, solver="rk4", dt=0.05).vector for m in (RTRL(), RTRL(dtype="float32")))
    >>> bool(0 < abs(g32 - g).max() < 1e-5 * abs(g).max())
    True
    """

    block: int | None = None
    mode: str = "discrete"
    error_control: str = "all"
    device: str | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        if self.mode not in FACTS:
            raise UnknownNameError("mode", self.mode, FACTS)
        if self.error_control not in ("all", "state"):
            raise UnknownNameError("error_control", self.error_control, ("all", "state"))
        whole = isinstance(self.block, (int, np.integer)) and not isinstance(self.block, bool)
        if self.block is not None and not (whole and self.block >= 1):
            raise UsageError("block", given=self.block, allowed="a number of steps, at least 1, or None")
        if self.place is not None and self.mode != "discrete":
            raise UsageError("mode", given=self.mode, allowed="'discrete', with a device or a dtype")

    @property
    def place(self) -> Place | None:  # type: ignore[override]
        """Where torch computes it; None for the compiled kernels."""
        return Place.of(self.device, self.dtype)

    @property
    def name(self) -> str:
        if self.mode == "continuous":
            return "RTRL, continuous"
        name = "RTRL" if self.block is None else f"RTRL, block {self.block}"
        return name if self.place is None else f"{name}, {self.place}"

    def on_device(self, problems: Sequence[Problem], settings: Settings) -> Any:
        """The losses and gradients of problems that go together over there (ctrnn.gradients.recording.lockstep.Found)."""
        from ctrnn.gradients.recording.torch.rtrl import rtrl

        assert self.place is not None
        return rtrl(problems, settings, self.place, self.name, self.block)

    @property
    def facts(self) -> Facts:  # type: ignore[override]
        return FACTS[self.mode]

    def cost(self, size: Size) -> Cost:
        if self.mode == "continuous":
            return costs.forward_continuous(size)
        return costs.forward(size, self.block or default_block(size.n, size.entries, size.s, size.rows - 1))

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        if self.mode == "continuous":
            return forward_gradient(problem, settings, self.name, self.error_control)
        return self._discrete(problem, settings)

    def _discrete(self, problem: Problem, settings: Settings) -> Gradient:
        run = DiscreteRun(problem, settings, self.name)
        carried = Carried.at_start(run.n, run.bound.kernel, run.losses.readout_size)
        carried.observe(*run.losses.start())
        kernel = run.bound.kernel
        block = self.block or default_block(run.n, kernel.groups * kernel.columns, run.s, carried.structure.size)
        for record, part in run.blocks(block):
            carried.take(run, record, part)
        vector = run.bound.rows(carried.g[:, None])[0]
        return result(problem, self.name, carried.loss, vector, carried.g0.copy(), carried.g_o, run.stats)


def default_block(n: int, entries: int, s: int, size: int | None = None) -> int:
    """Steps in a block, so that Φ P costs a tenth of the rest, within BLOCK_BYTES of cotangents, or as many as P takes.

    n states, ``size`` of them in the largest part that hangs together (n by default), ``entries`` parameters, s stages. With q = size + 1 rows, a
    block of K steps costs 2 K s q (n size + entries) flops for its rows, and 2 q² entries for Φ P.
    """
    size = n if size is None else size
    q = size + 1
    rows = 2.0 * s * q * (n * size + entries)
    wanted = 10 * 2.0 * q * q * entries / max(rows, 1.0)
    # a small system waits for Python, not for flops: give each call something to do
    wanted = max(wanted, 5e6 / max(rows, 1.0), 16)
    return int(max(1, min(wanted, BLOCK, max(BLOCK_BYTES, 8 * q * entries) / (8 * s * n * q))))
