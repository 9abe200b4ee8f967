"""What each gradient method would cost on a problem, before one of them is run.

Flops and bytes are counted, each method's by itself (``GradientMethod.cost``, ctrnn.gradients.costs). Fixed steps are
counted without a run. With adaptive steps T is only known after one: then the plan takes one forward run. The
continuous methods choose steps of their own, which are guessed from that one.

There are no seconds here: one rate for all told the time within a factor of 3 in 41 of 95 cases (11 problems of 2 to
256 states; of the compiled methods alone in 33 of 68), as small systems wait for Python and torch, and large ones for
the memory. Compare by ``relative``, the flops in units of the forward run, among methods that run compiled; what goes
through torch says so in its note.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn import memory as machine
from ctrnn.gradients.advise.choice import choose, fixed_steps
from ctrnn.gradients.costs import Size, in_bytes
from ctrnn.gradients.method import GradientMethod
from ctrnn.gradients.methods import METHODS
from ctrnn.numbers import whole
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.noise import with_noise
from ctrnn.solvers.solve import solve
from ctrnn.threads import one_blas_thread


@dataclass(frozen=True)
class Prediction:
    """What one method would cost.

    Attributes
    ----------
    method, exact
        Its name, and what it is exact for.
    flops, memory
        Flops, and bytes at the peak; None where it cannot treat the problem.
    relative
        The flops, in units of those of the forward run.
    note
        A remark; why, where it cannot treat the problem.
    """

    method: str
    exact: str
    flops: float | None
    relative: float | None
    memory: float | None
    note: str = ""


@dataclass(frozen=True, repr=False)
class GradientPlan:
    """The predictions, and what method="auto" would take. Iterate over it, or take a row by its method's name.

    Attributes
    ----------
    rows
        A Prediction for each method.
    auto, reason
        What method="auto" would take, and why.
    solver, steps, evaluations, counted
        Of the run; how its steps and the calls of F are known.
    memory
        Bytes at hand; a method that needs more has a note.
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
        """The run and the memory at hand, in a line."""
        counts = f"{self.steps:,} steps, {self.evaluations:,} evaluations of F"
        return f"{self.solver}: {counts} ({self.counted}); {in_bytes(self.memory)} at hand"

    def __repr__(self) -> str:
        head = f"{'method':<22}{'exact for':<46}{'flops':>9}{'of a run':>12}{'memory':>10}  note"
        lines = [self.summary, head, "-" * len(head)]
        for row in self.rows:
            mark = "* " if row.method == self.auto else "  "
            numbers = f"{'':>31}"
            if row.flops is not None:
                numbers = f"{row.flops:>9.1e}{in_runs(row.relative or 0.0):>12}{in_bytes(row.memory or 0.0):>10}"
            lines.append(f"{mark + row.method:<22}{row.exact:<46}{numbers}  {row.note}".rstrip())
        return "\n".join([*lines, f'* method="auto": {self.reason}'])


def plan(
    problem: Problem,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    memory: int | None = None,
) -> GradientPlan:
    """Flops and peak memory of each gradient method on this problem, counted before one is run.

    Parameters
    ----------
    problem
        A problem with an objective.
    solver, rtol, atol, dt, max_steps
        As in ctrnn.gradient.
    memory
        Bytes at hand; None asks the system.

    Returns
    -------
    GradientPlan
        A row for each method, what method="auto" would take, and why; prints as a table. ``row.relative`` is the flops
        in units of the forward run's.

    Raises
    ------
    UsageError
        For a problem without objective, or settings that are not allowed; and the errors of ctrnn.simulate.

    Notes
    -----
    With fixed steps nothing is run; adaptive steps, and other libraries' solvers, take one forward run.

    Examples
    --------
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
    if memory is not None:
        memory = whole("memory", memory, 1, "a number of bytes, at least 1, or None")
    settings = Settings(solver, rtol, atol, dt, max_steps)
    problem = with_noise(problem, settings)
    settings = resolve_auto_solver(problem, settings)
    problem = with_steps(problem, settings)
    at_hand = machine.available_memory() if memory is None else memory
    with one_blas_thread:
        z = size_of(problem, settings)
    choice = choose(problem, settings, at_hand)
    name = choice.name
    if choice.room is not None and METHODS["adjoint"].cost(z).memory > choice.room:
        name = "adjoint-checkpoint"
    rows = tuple(_row(method, problem, settings, z, at_hand) for method in METHODS.values())
    counted = "counted" if settings.dt else "from one forward run, as adaptive steps are not known before"
    return GradientPlan(rows, name, choice.reason, settings.solver, z.steps, z.calls, counted, at_hand)


def size_of(problem: Problem, settings: Settings) -> Size:
    """The size of a problem's run: counted where the steps are fixed, else from one run; raises what that raises."""
    if settings.dt is not None and not settings.library:
        return Size.of(problem, settings, fixed_steps(problem, settings.dt))
    last = np.array(problem.course.stops[-1:])
    stats = solve(problem.bind(), problem.r0, problem.course, settings, last, label="plan").stats
    return Size.of(problem, settings, stats.steps, stats.evaluations)


def _row(method: GradientMethod, problem: Problem, settings: Settings, z: Size, at_hand: int) -> Prediction:
    facts = method.facts
    why = method.refusal(problem, settings)
    if why:
        return Prediction(facts.name, facts.exactness, None, None, None, why)
    found = method.cost(z)
    notes = ["more memory than there is"] * (found.memory > at_hand) + [found.note] * bool(found.note)
    relative = found.flops / max(z.calls * z.f, 1.0)
    return Prediction(facts.name, facts.exactness, found.flops, relative, found.memory, "; ".join(notes))


def in_runs(relative: float) -> str:
    """A number of forward runs, to three digits.

    >>> in_runs(2.951), in_runs(43210.0)
    ('2.95 ×', '4.32e+04 ×')
    """
    return f"{relative:.3g} ×"
