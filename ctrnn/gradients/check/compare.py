"""All gradients of one problem in one table: whether they agree, what they cost and how right they are.

Agreement is with a reference that takes the same steps: it says whether the derivatives are right. The error is the
distance from the gradient of the ODE itself, estimated by other steps: another solver, at a hundredth of the tolerances
and of the sensitivity's too. It says whether the steps are right.
"""

from __future__ import annotations

import tracemalloc
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ctrnn.clock import working
from ctrnn.errors import CtrnnError, NotFiniteError, UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.advise.choice import resolve
from ctrnn.gradients.check.alive import check_alive, refuse_certified_noise
from ctrnn.gradients.check.certificate import Certificate, digits_of, distance, is_stiff, relative_error
from ctrnn.gradients.check.certificate import certify as certificate_of
from ctrnn.gradients.costs import in_bytes, in_seconds
from ctrnn.gradients.dispatch import compute
from ctrnn.gradients.independent.autograd import Autograd
from ctrnn.gradients.independent.differences import CentralDifference, ComplexStep
from ctrnn.gradients.method import GradientMethod
from ctrnn.gradients.methods import names_where
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.schedules.adjoint import Adjoint
from ctrnn.gradients.schedules.rtrl import RTRL
from ctrnn.gradients.trials import trials_gradient
from ctrnn.numbers import flag, items
from ctrnn.problem import Problem, Settings, Trials, checked_problem
from ctrnn.solvers import tableaus
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.noise import with_noise

#: parameters and states up to which the complex step, all directions at a time, is the cheapest reference; beyond, it
#: is torch's autograd, whose cost does not grow with them
FEW = 100
#: columns of sensitivities times states up to which the ODE's gradient behind a stiff solver is found forwards
FEW_COLUMNS = 100_000
#: seconds above which a method is not run again
PATIENCE = 5.0

#: what is compared where nobody says what
DEFAULT = names_where("compared", True)


@dataclass(frozen=True)
class Row:
    """One method: its gradient, the digits to which it agrees with the reference, seconds, peak bytes (None: unknown).

    error : the estimated relative error as a gradient of the ODE; None where that could not be computed
    approximates : whether the method leaves influence out on purpose
    """

    method: str
    gradient: Gradient | None
    digits: float
    time: float
    memory: int | None
    is_reference: bool = False
    failure: str = ""
    error: float | None = None
    approximates: bool = False


@dataclass(frozen=True, repr=False)
class Comparison:
    """The table. Iterate over it, or take a row by its method's name.

    certificate : with certify=True, of the first exact method; each row's ``error`` is against the same independent
    route
    route : how the ODE's own gradient was found, against which the errors are; empty where it was not
    """

    rows: tuple[Row, ...]
    reference: str
    certificate: Certificate | None = None
    certified: str = ""
    route: str = ""

    def __iter__(self) -> Any:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, method: str) -> Row:
        return next(row for row in self.rows if row.method == method)

    def __repr__(self) -> str:
        sure = bool(self.route)
        head = f"{'method':<24}{'loss':>18}{'digits':>9}{'error' if sure else '':>{9 * sure}}"
        head += f"{'time':>11}{'memory':>11}{'F evals':>10}"
        lines = [head, "-" * len(head)]
        for row in self.rows:
            if row.gradient is None:
                lines.append(f"{row.method:<24}{row.failure}")
                continue
            digits = "ref." if row.is_reference else f"{row.digits:.1f}"
            memory = "–" if row.memory is None else in_bytes(row.memory)
            lines.append(
                f"{row.method:<24}{row.gradient.loss:>18.10g}{digits:>9}{_error(row) if sure else '':>{9 * sure}}"
                f"{in_seconds(row.time):>11}{memory:>11}"
                f"{row.gradient.stats.evaluations:>10}"
            )
        lines.append(
            "digits: −log10(‖g − g_ref‖/‖g_ref‖) of [dl/dw, dl/dr0, dl/d(V, c)], entries of w and r0 times their size; "
            f"reference: {self.reference}"
        )
        return "\n".join([*lines, *self.remarks])

    @property
    def remarks(self) -> tuple[str, ...]:
        """What the errors are, and the certificate, in lines; none without."""
        said = f"error: estimated ‖g − g*‖/‖g*‖ as a gradient of the ODE, against g* by {self.route}"
        lines = [said] if self.route else []
        if self.certificate is not None:
            lines += f"{self.certified}: {self.certificate.text}".splitlines()
        return tuple(lines)


def compare_gradients(
    problem: Problem | Trials,
    methods: Iterable[Any] = DEFAULT,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    reference: Any = None,
    certify: bool = False,
    error_control: str = "all",
) -> Comparison:
    """Compute the gradient by each method, and compare with a reference.

    Parameters
    ----------
    problem : Problem or Trials
        With an objective; of trials the sums over them are compared, with dl/dr0 of each.
    methods : iterable of str or methods
        As in ``ctrnn.gradient``; by default all that are exact and none of the dearest.
    solver, rtol, atol, dt, max_steps, error_control
        As in ``ctrnn.gradient``.
    reference : str or method, optional
        What to compare with, through the same steps. By default the cheapest that shares no derivative with ours: the
        complex step up to some 100 parameters and states, beyond them torch's autograd; the other one, or central
        differences, where it cannot treat the problem.
    certify : bool
        Also certify the first exact gradient, with the largest Lyapunov exponent and the horizon beyond which no
        gradient means anything. Not for trials.

    Returns
    -------
    Comparison
        A row for each method, which prints as a table: how far it agrees with the reference on the same steps, and its
        estimated error as a gradient of the ODE. A method that cannot treat the problem has a row that says why.

    Raises
    ------
    UsageError
        For a reference that cannot treat the problem, or ``certify`` of trials or without an exact method.
    NotFiniteError
        Where no reference can be computed; and what the solver raises.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> problem = ctrnn.Problem(decay, [1.0], (0.0, 1.0), objective=ctrnn.Objective(target=[0.0], at=[1.0]))
    >>> table = compare_gradients(problem, ["adjoint", "rtrl-continuous"])
    >>> table.reference, table["adjoint, discrete"].digits > 13 > table["RTRL, continuous"].digits > 6
    ('complex step', True)
    """
    settings = Settings(solver, rtol, atol, dt, max_steps, error_control=error_control)
    if flag("certify", certify) and isinstance(problem, Trials):
        hint = "gradient(trials, certify=True), or compare one of them: trials[0]"
        raise UsageError("certify", given=True, allowed="False, for trials", hint=hint)
    methods = (
        (methods,) if isinstance(methods, str) or hasattr(methods, "compute") else tuple(items("methods", methods))
    )
    one = problem[0] if isinstance(problem, Trials) else problem
    checked_problem(one).needs_objective("a comparison of gradients")
    check_alive(problem if isinstance(problem, Trials) else [one])
    refuse_certified_noise(certify, [one])
    problem = with_noise(problem, settings)
    one = problem[0] if isinstance(problem, Trials) else problem
    settings = resolve_auto_solver(one, settings)
    chosen = [resolve(m, one, settings)[0] for m in methods]
    judge = _reference(problem, settings, reference)
    rows = [_row(method, problem, settings, judge) for method in chosen if method.name != judge.method]
    place = next((i for i, method in enumerate(chosen) if method.name == judge.method), len(rows))
    rows.insert(place, judge)
    if certify:
        return _certified(rows, judge.method, [m for m in chosen if m.name != judge.method], problem, settings)
    star, route = _of_the_equation(problem, settings)
    if star is not None:
        scale = _scale(problem)
        rows = [
            row if row.gradient is None else replace(row, error=distance(row.gradient, star, scale)) for row in rows
        ]
    return Comparison(tuple(rows), judge.method, route=route)


def _of_the_equation(problem: Problem | Trials, settings: Settings) -> tuple[Gradient | None, str]:
    """The gradient of the ODE itself, by steps that are none of the rows', and how it was found; None where it fails.

    By the adjoint with steps that answer for the sensitivity too; behind stiff solvers, whose steps answer for the
    state alone, by sensitivities forward with an error test of their own, where these are few.
    """
    one = problem[0] if isinstance(problem, Trials) else problem
    if one.is_noisy:  # a path is known on its own grid alone
        return None, ""
    n, m = one.field.n, one.field.m
    rtol, atol = np.maximum(np.asarray(settings.rtol) / 100.0, 1e-13), np.asarray(settings.atol) / 100.0
    if is_stiff(settings):
        other = "kencarp4" if settings.solver == "kvaerno5" else "kvaerno5"
        few = n * (n + m) <= FEW_COLUMNS and not one.events and not isinstance(problem, Trials)
        judge: GradientMethod = RTRL(mode="continuous") if few else Adjoint()
    else:
        other, judge = "tsit5" if settings.solver == "dop853" else "dop853", Adjoint()
    tight = Settings(other, rtol, atol, max_steps=10**7)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what this run says of itself is not about the rows
            star = _computed(judge, problem, tight)
    except CtrnnError:
        return None, ""
    return star, f"{judge.name}, by {other} at rtol = {float(np.min(rtol)):.1g}"


def _certified(
    rows: list[Row], reference: str, methods: list[GradientMethod], problem: Any, settings: Settings
) -> Comparison:
    """The table with the certificate of the first exact method, and each row's error."""
    found = {row.method: row.gradient for row in rows if row.gradient is not None}
    exact = [m for m in methods if m.name in found and not m.facts.approximates]
    if not exact:
        hint = "methods=['adjoint', ...]"
        raise UsageError("certify", given=True, allowed="with an exact method among the methods", hint=hint)
    its = certificate_of(found[exact[0].name], exact[0], problem, settings)
    if its.reference is not None:
        star = its.reference
        rows = [
            row if row.gradient is None else replace(row, error=relative_error(row.gradient, star, problem))
            for row in rows
        ]
    return Comparison(tuple(rows), reference, its, exact[0].name, "" if its.reference is None else its.route)


def _computed(method: GradientMethod, problem: Problem | Trials, settings: Settings) -> Gradient:
    return (
        trials_gradient(problem, method, settings)
        if isinstance(problem, Trials)
        else compute(method, problem, settings)
    )


def _reference(problem: Problem | Trials, settings: Settings, wanted: Any) -> Row:
    """The judge: independent of our derivatives, and affordable."""
    one = problem[0] if isinstance(problem, Trials) else problem
    if settings.library or one.events:
        # no steps of our own to take again, or other ones where the events move: an independent solution, much tighter
        stiff = not settings.library and tableaus.get(settings.solver).implicit
        settings = Settings("kvaerno5" if stiff else "dop853", 1e-12, 1e-13)
    if wanted is not None:
        row = _row(resolve(wanted, one, settings)[0], problem, settings, None)
        if row.gradient is None:
            raise UsageError("reference", given=wanted, allowed="a method that can treat the problem", hint=row.failure)
        return row
    judges: tuple[GradientMethod, ...] = (ComplexStep(), Autograd())
    judges = (judges if one.field.m + one.field.n <= FEW else judges[1:]) + (CentralDifference(),)
    if one.events:
        judges = (CentralDifference(),)
    for judge in judges:
        row = _row(judge, problem, settings, None)
        if row.gradient is not None:
            return row
    raise NotFiniteError(f"no reference gradient could be computed: {row.failure}")


def _row(method: GradientMethod, problem: Problem | Trials, settings: Settings, judge: Row | None) -> Row:
    """Run a method once to load and compile what it needs, once for its time, and once for its memory."""
    approximates = method.facts.approximates
    try:
        found, taken = _timed(method, problem, settings)
        if taken < PATIENCE:
            found, taken = _timed(method, problem, settings)
        peak = None
        # tracing is slow itself, and torch's memory is not seen by it
        if taken < PATIENCE and not method.facts.by_torch:
            tracemalloc.start()
            try:
                _computed(method, problem, settings)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    except CtrnnError as error:
        return Row(method.name, None, np.nan, np.nan, None, failure=str(error), approximates=approximates)
    if judge is None or judge.gradient is None:
        return Row(method.name, found, np.nan, taken, peak, is_reference=True)
    digits = digits_of(distance(found, judge.gradient, _scale(problem)))
    return Row(method.name, found, digits, taken, peak, approximates=approximates)


def _timed(method: GradientMethod, problem: Problem | Trials, settings: Settings) -> tuple[Gradient, float]:
    began = working()
    found = _computed(method, problem, settings)
    return found, working() - began


def _scale(problem: Problem | Trials) -> Array:
    r0 = [trial.r0 for trial in problem] if isinstance(problem, Trials) else [problem.r0]
    scale = np.concatenate([problem.field.vector, *r0])
    return np.where(scale == 0, 1.0, np.abs(scale))


def _error(row: Row) -> str:
    return "–" if row.error is None else f"{row.error:.0e}"
