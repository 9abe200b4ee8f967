"""What each gradient method would cost on a problem, before one of them is run.

Flops and bytes are counted (ctrnn.gradients.advise.cost). Time is the count of each kind of work times its seconds, those of F, of a row through a stage
and of torch's graph from a few steps of this field (ctrnn.gradients.advise.pilot), the rest from the machine's rates (ctrnn.gradients.advise.machine):

    time = overhead + Σ_kind count × seconds + flops / product + bytes / fresh

Fixed steps are counted without a run. With adaptive steps T is only known after one: then the plan takes one forward run. The continuous methods
choose steps of their own, for which ``FORWARD`` and ``BACK`` times those of the state alone are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctrnn.errors import UsageError
from ctrnn.gradients.advise import cost, machine
from ctrnn.gradients.advise.choice import choose
from ctrnn.gradients.advise.cost import Cost, in_bytes
from ctrnn.gradients.advise.pilot import Pilot, fly
from ctrnn.gradients.api import METHODS
from ctrnn.gradients.schedules.checkpoint import Costs
from ctrnn.gradients.schedules.rtrl import default_block
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.exponential import with_steps
from ctrnn.threads import one_blas_thread, workers

#: steps of the adaptive run of [r | P | S], and of that of λ, for one of r alone
FORWARD, BACK = 1.3, 1.4
#: what each method's number is right for
EXACT = {
    "rtrl": "the steps taken",
    "rtrl-continuous": "the ODE",
    "adjoint": "the steps taken",
    "adjoint-checkpoint": "the steps taken",
    "adjoint-backsolve": "the ODE, if r runs backwards",
    "adjoint-interpolate": "the ODE",
    "tbptt": "an approximation",
    "rflo": "an approximation",
    "autograd": "the steps taken",
    "complex-step": "the steps taken",
    "central-difference": "the steps taken, to 9 digits",
}
_OF_OUR_STEPS = ("rtrl", "adjoint", "adjoint-checkpoint", "tbptt", "autograd", "complex-step", "central-difference")
_BACKWARD = ("adjoint-backsolve", "adjoint-interpolate")


@dataclass(frozen=True)
class Prediction:
    """One method: what it is exact for, flops, seconds, peak bytes; None, and why in ``note``, where it cannot treat the problem."""

    method: str
    exact: str
    flops: float | None
    time: float | None
    memory: float | None
    note: str = ""


@dataclass(frozen=True, repr=False)
class GradientPlan:
    """The predictions, and what method="auto" would take, and why. Iterate over it, or take a row by its method's name.

    steps, evaluations  of the run, and the calls of F in it;  ``counted`` says how they are known
    memory              bytes at hand;  a method that needs more has a note
    """

    rows: tuple[Prediction, ...]
    auto: str
    reason: str
    solver: str
    steps: int
    evaluations: int
    counted: str
    memory: int

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, method: str) -> Prediction:
        return next(row for row in self.rows if row.method == method)

    @property
    def summary(self) -> str:
        return f"{self.solver}: {self.steps:,} steps, {self.evaluations:,} evaluations of F ({self.counted}); {in_bytes(self.memory)} at hand"

    def __repr__(self) -> str:
        head = f"{'method':<22}{'exact for':<30}{'flops':>9}{'time':>11}{'memory':>11}  note"
        lines = [self.summary, head, "-" * len(head)]
        for row in self.rows:
            mark = "* " if row.method == self.auto else "  "
            lines.append(f"{mark + row.method:<22}{row.exact:<30}{'':>31}  {row.note}" if row.time is None else (
                f"{mark + row.method:<22}{row.exact:<30}{row.flops:>9.1e}{in_seconds(row.time):>11}"
                f"{in_bytes(row.memory or 0.0):>11}  {row.note}"
            ).rstrip())  # fmt: skip
        return "\n".join([*lines, f'* method="auto": {self.reason}'])


def plan(
    problem: Problem,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    memory: int | None = None,
    afresh: bool = False,
) -> GradientPlan:
    """Flops, time and peak memory of each gradient method on this problem, predicted.

    solver, rtol, atol, dt, max_steps : as in ctrnn.gradient
    memory : bytes at hand; None asks the system
    afresh : measure the machine's rates again, and not take those in the cache

    With fixed steps nothing costly is run; adaptive steps, and other libraries' solvers, take one forward run. Returns a GradientPlan, which prints as
    a table.

    Raises UsageError for a problem without objective, or settings that are not allowed, and the errors of ctrnn.simulate.

    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(16, seed=0)
    >>> problem = ctrnn.Problem(network, [0.1] * 16, (0.0, 100.0), objective=ctrnn.Objective(target=0.0, at=[100.0]))
    >>> costs = plan(problem, solver="rk4", dt=0.05)
    >>> costs.steps, costs.auto, costs["rtrl"].flops > 10 * costs["adjoint"].flops
    (2000, 'adjoint', True)
    >>> plan(problem, solver="rk4", dt=0.05, memory=1_000_000).auto
    'adjoint-checkpoint'
    """
    checked_problem(problem).needs_objective("a plan")
    if memory is not None and not (isinstance(memory, int) and memory > 0):
        raise UsageError("memory", given=memory, allowed="a number of bytes, at least 1, or None")
    settings = resolve_auto_solver(problem, Settings(solver, rtol, atol, dt, max_steps))
    problem = with_steps(problem, settings)
    at_hand = machine.available_memory() if memory is None else memory
    rates = machine.rates(afresh)
    with one_blas_thread:
        pilot = fly(problem, settings)
        choice = choose(problem, settings, at_hand)
    name = choice.name
    if choice.room is not None and cost.discrete(pilot.size).memory > choice.room:
        name = "adjoint-checkpoint"
    rows = tuple(_row(method, problem, settings, pilot, rates, at_hand) for method in METHODS)
    counted = "counted" if settings.dt else "from one forward run, as adaptive steps are not known before"
    z = pilot.size
    return GradientPlan(rows, name, choice.reason, settings.solver, z.steps, z.calls, counted, at_hand)


def _row(
    method: str, problem: Problem, settings: Settings, pilot: Pilot, rates: machine.Rates, at_hand: int
) -> Prediction:
    why = _excluded(method, problem, settings)
    if why:
        return Prediction(method, EXACT[method], None, None, None, why)
    found, seconds, note = Model(pilot, rates).predict(method)
    if found.memory > at_hand:
        note = "; ".join(part for part in ("more memory than there is", note) if part)
    return Prediction(method, EXACT[method], found.flops, rates.overhead[method] + seconds, found.memory, note)


def _excluded(method: str, problem: Problem, settings: Settings) -> str:
    """Why a method cannot treat the problem; empty where it can."""
    if settings.library and method in _OF_OUR_STEPS:
        return f"{settings.solver} does not show its steps"
    if method == "rflo" and not problem.field.kernel.table[4]:
        return "only a network has a leak of its own"
    if method in _BACKWARD and not settings.library and cost.is_implicit(settings.solver):
        return f"not on {settings.solver}, whose stages need a Jacobian of λ's equation"
    return ""


class Model:
    """Counts times seconds, for one pilot and one machine."""

    def __init__(self, pilot: Pilot, rates: machine.Rates) -> None:
        self.pilot, self.rates, self.z = pilot, rates, pilot.size
        z = self.z
        own_steps = z.adaptive or z.library
        self.calls_forward = z.calls * (FORWARD if own_steps else 1.0)
        self.calls_back = z.calls * (BACK if own_steps else 1.0)
        #: the forward run; and another before it, in which the size of an integral is sampled, with adaptive steps or a continuous method
        self.run = z.calls * pilot.field
        self.sample = self.run if z.integral else 0.0
        self.scale = self.sample if own_steps else 0.0
        self.losses = z.steps * pilot.losses + pilot.observations
        self.back = z.steps * z.s * pilot.stage

    def predict(self, method: str) -> tuple[Cost, float, str]:
        """The cost, the seconds without overhead, and a remark."""
        predictor = getattr(self, "_" + method.replace("-", "_"))
        found: tuple[Cost, float, str] = predictor()
        return found

    def _adjoint(self) -> tuple[Cost, float, str]:
        z = self.z
        if self.pilot.tiled is not None:
            return cost.discrete(z), z.steps * self.pilot.tiled + self.losses, ""
        kept = z.steps * (z.record + 8.0 * z.n * (z.s if z.integral else 1))
        return cost.discrete(z), self.run + self.scale + self.back + self.losses + kept / self.rates.fresh, ""

    def _adjoint_checkpoint(self) -> tuple[Cost, float, str]:
        z, run = self.z, self.pilot.run
        assert run is not None
        schedule = Costs.of(run).plan(run.s * run.n, None, None)
        segments = -(-z.steps // schedule.segment)
        ran = cost.reruns(segments, schedule.snapshots, not z.adaptive) / segments
        costs = Costs.of(run)
        length = schedule.segment if z.adaptive else min(schedule.segment, z.steps + 1)
        chunk, held = min(schedule.chunk, z.steps), min(schedule.snapshots, segments)
        memory = max(costs.once + held * costs.snapshot + length * costs.record + chunk * costs.pull, costs.before)
        found = cost.checkpoint(z, ran, memory)
        turns = segments * ran * self.rates.overhead["adjoint"] / 10
        return found, self.run * ran + self.scale + self.back + self.losses + turns, ""

    def _rtrl(self) -> tuple[Cost, float, str]:
        z = self.z
        found = cost.forward(z)
        if self.pilot.rows is not None:
            # n + 1 rows cost no less than one
            seconds = max(self.run + self.back, self.pilot.rows - self.rates.overhead["rtrl"])
            return found, seconds + self.scale + self.losses, ""
        blocks = z.steps / min(z.steps, default_block(z.n, z.entries, z.s, z.rows - 1))
        moved = blocks * 4.0 * 8.0 * z.rows * z.entries / self.rates.stream
        seconds = (found.flops - z.calls * z.f) / (self.rates.product * workers()) + moved
        return found, self.run + self.scale + seconds + self.losses, ""

    def _sensitivities(self, calls: float) -> float:
        z = self.z
        if self.pilot.sensitivities is not None:
            return calls * self.pilot.sensitivities
        flops = cost.sensitivity_flops(z)
        passes = 8.0 * cost.forward_size(z) * (z.s + 8)
        return calls * (self.pilot.field + flops / self.rates.product + passes / self.rates.stream)

    def _rtrl_continuous(self) -> tuple[Cost, float, str]:
        note = "its own steps: a guess" if self.z.adaptive or self.z.library else ""
        found = cost.forward_continuous(self.z, self.calls_forward)
        return found, self._sensitivities(self.calls_forward) + self.sample + self.pilot.observations, note

    def _rflo(self) -> tuple[Cost, float, str]:
        return self._rtrl_continuous()

    def _backward(self, interpolate: bool) -> tuple[Cost, float, str]:
        z, pilot, rates = self.z, self.pilot, self.rates
        name = "adjoint-interpolate" if interpolate else "adjoint-backsolve"
        N = z.n * (1 if interpolate else 2) + z.entries
        passes = 8.0 * N * (z.s + 8) / rates.stream
        each = pilot.stage + passes + (0.0 if interpolate else pilot.field)
        if z.integral:  # the call of a loss is as that of a small field
            each += min(pilot.field, self.rates.overhead["adjoint"] / 1000)
        if interpolate:
            each += z.n * (z.degree + 1) * rates.polynomial
        intervals = max(0, z.observations - 1) * rates.overhead[name] / 4
        note = "its own steps: a guess" if z.adaptive or z.library else ""
        found = cost.backward_continuous(z, z.calls, self.calls_back, interpolate)
        return found, self.run + 2 * self.sample + self.calls_back * each + pilot.observations + intervals, note

    def _adjoint_backsolve(self) -> tuple[Cost, float, str]:
        return self._backward(False)

    def _adjoint_interpolate(self) -> tuple[Cost, float, str]:
        return self._backward(True)

    def _tbptt(self) -> tuple[Cost, float, str]:
        from ctrnn.gradients.schedules.truncated import TruncatedBPTT

        z, window = self.z, TruncatedBPTT().window
        losses = z.steps if z.integral else z.observations
        turns = losses * self.rates.overhead["adjoint"] / 10
        steps = losses * min(window, z.steps) * z.s * self.pilot.stage
        return cost.truncated(z, window), self.run + self.scale + steps + self.losses + turns, f"window {window}"

    def _autograd(self) -> tuple[Cost, float, str]:
        z, found = self.z, cost.graph(self.z)
        step = self.pilot.graph
        if step is None:
            step = z.s * 30 * self.rates.operation
        return found, self.run + self.scale + self.losses + z.steps * step, ""

    def _complex_step(self) -> tuple[Cost, float, str]:
        z, found = self.z, cost.complex_step(self.z)
        chunks = -(-(z.m + z.n) // cost.CHUNK)
        step = self.pilot.directions
        if step is None:
            step = z.s * (8.0 * 16 * cost.CHUNK * z.m) / self.rates.stream
        return found, self.run + self.scale + chunks * z.steps * step, ""

    def _central_difference(self) -> tuple[Cost, float, str]:
        z = self.z
        runs = 1 + 6 * (z.m + z.n)
        each = self.run + self.losses + self.rates.overhead["central-difference"] / (1 + 6 * 8)
        return cost.central(z), runs * each, f"{runs:,} runs"


def in_seconds(seconds: float) -> str:
    """Seconds to three digits, in the unit that reads best.

    >>> in_seconds(0.00212), in_seconds(12.34), in_seconds(9000.0)
    ('2.12 ms', '12.3 s', '2.5 h')
    """
    for unit, size in (("h", 3600.0), ("s", 1.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e3:.3g} ms"
