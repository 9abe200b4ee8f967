"""Real-time recurrent learning: P = dr/dw forward in time, with the gradient at hand at every moment.

Discrete, exact for the steps that were taken. A block of K steps gives, by the pullback of n identity rows, its
transition matrix Φ = dr⁺/dr and its parameter part C = ∂r⁺/∂w, and by one more row the losses λ, c seen inside it:

    g ← g + λ P + c          P ← Φ P + C

K = 1 is the textbook algorithm (Williams & Zipser 1989), K = all steps is BPTT; the number that comes out is the same.
The cost is not: with n units and m ≈ n² weights, Φ P takes 2n⁴ flops, once a block instead of at every stage, and all
else 2n³ a stage (Schmidhuber 1992; Williams & Zipser 1995). Memory is constant in the number of steps.

Continuous, on any solver: the sensitivity equation dP/dt = J P + F_w is integrated beside dr/dt = F, its error in the
step test (ctrnn.kernels.augmented).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ctrnn.errors import UsageError, one_of
from ctrnn.gradients import costs
from ctrnn.gradients.continuous.forward import forward_gradient
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.method import Exact, Facts, Passes
from ctrnn.gradients.recording.base import Needs, Recording, Totals
from ctrnn.gradients.recording.stepper import default_block
from ctrnn.gradients.recording.torch.device import Device
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.rules.exact import ExactRule
from ctrnn.gradients.rules.rule import Rule
from ctrnn.gradients.schedules.recorded import RecordedMethod
from ctrnn.gradients.schedules.rtrl_state import RTRLState
from ctrnn.numbers import whole
from ctrnn.problem import Problem, Settings

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
class RTRL(RecordedMethod):
    """Real-time recurrent learning: dr/dw carried forward, memory constant in the number of steps.

    Parameters
    ----------
    block : int, optional
        Steps in a block, of the discrete mode; chosen from n and m by default.
    mode : {"discrete", "continuous"}, default "discrete"
        Through the solver's own steps, exact for them whatever the block; or a solution of the sensitivity equation to
        the tolerance, on any solver, SciPy's stiff ones among them.
    error_control : {"all", "state"}, default "all"
        Of the continuous mode: whether the sensitivities' error counts in the step test.
    device : {"cpu", "cuda", ...}, optional
        Of the discrete mode with explicit fixed steps: computed in torch operations there. Without device and dtype the
        compiled kernels compute it.
    dtype : {"float64", "float32"}, optional
        Of those torch operations.

    Raises
    ------
    UsageError, UnknownNameError
        For other values; and, when it meets the problem, for a device that is not there.

    Notes
    -----
    For long runs, for a gradient that is wanted while the run goes on, and for few parameters. For one loss at the end
    of a run that fits into memory, `ctrnn.Adjoint` costs less. Formulas and sources (Williams and Zipser 1989, 1995;
    Schmidhuber 1992) are at the top of `ctrnn.gradients.schedules.rtrl`.

    Examples
    --------
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
        one_of("mode", self.mode, FACTS)
        one_of("error_control", self.error_control, ("all", "state"))
        if self.block is not None:
            whole("block", self.block, 1, "a number of steps, at least 1, or None")
        if self.torch_device is not None and self.mode != "discrete":
            raise UsageError("mode", given=self.mode, allowed="'discrete', with a device or a dtype")

    @cached_property
    def torch_device(self) -> Device | None:  # type: ignore[override]
        """Where torch computes it; None for the compiled kernels."""
        return Device.of(self.device, self.dtype)

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        if self.mode == "continuous":
            return "RTRL, continuous"
        name = "RTRL" if self.block is None else f"RTRL, block {self.block}"
        return name if self.torch_device is None else f"{name}, {self.torch_device}"

    @cached_property
    def needs(self) -> Needs | None:  # type: ignore[override]
        """What the mode needs of a recording; None where it takes none."""
        return Needs(rows="many", device=self.torch_device) if self.mode == "discrete" else None

    def schedule(self, recording: Recording) -> Totals:
        """Forward and back through a recording that meets the needs."""
        carry = recording.carry(self.block)
        state = RTRLState.at_start(carry, recording.B, recording.readout_size)
        state.observe(recording.start())
        for block in recording.blocks(carry.block):
            state.take(recording, block)
        return state.totals(recording.stats)

    def rule(self) -> Rule | None:
        """The same where weights move."""
        return ExactRule(self.block) if self.mode == "discrete" else None

    @property
    def facts(self) -> Facts:  # type: ignore[override]
        """What is known of the mode."""
        return FACTS[self.mode]

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        if self.mode == "continuous":
            return costs.forward_continuous(size)
        return costs.forward(size, self.block or default_block(size.n, size.entries, size.s, size.rows - 1))

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The gradient of one problem; raises NotFiniteError, and what the recording raises."""
        if self.needs is None:
            return forward_gradient(problem, settings, self.name, self.error_control)
        return super().compute(problem, settings)
