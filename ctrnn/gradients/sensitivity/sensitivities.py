"""The sensitivities themselves, p(t) = dr/dw and dr/dr0 along a solution: dp/dt = J p + F_w, dS/dt = J S."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np

from ctrnn.batches import one_each
from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.fields.base import Array, Field
from ctrnn.fields.checks import name_list
from ctrnn.gradients.continuous.forward import solve_forward
from ctrnn.gradients.continuous.system import ForwardSystem
from ctrnn.inputs import Constant, stack
from ctrnn.memory import claim
from ctrnn.numbers import checked_array
from ctrnn.problem import Problem, Settings, Trials, checked_problem
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.noise import with_noise
from ctrnn.solvers.solution import checked_times
from ctrnn.threads import map_parallel, one_blas_thread
from ctrnn.trajectory import Stats


@dataclass(frozen=True, repr=False, eq=False)
class Sensitivities:
    """Sensitivities along a solution.

    Attributes
    ----------
    t : ndarray (T,)
        The times.
    r : ndarray (T, n)
        The states.
    p : ndarray (T, n, m)
        dr/dw, with columns named by ``labels``.
    p0 : ndarray (T, n, n)
        dr/dr0.
    labels : tuple of str
        Names of the m columns.
    stats : Stats
        What it cost.
    """

    t: Array
    r: Array
    p: Array
    p0: Array
    labels: tuple[str, ...]
    stats: Stats

    def __repr__(self) -> str:
        sizes = f"{self.t.size} times of {self.r.shape[1]} states to {len(self.labels)} parameters"
        return f"Sensitivities at {sizes}\n{self.stats}"


@overload
def sensitivities(problem: Problem, *arguments: Any, **options: Any) -> Sensitivities: ...


@overload
def sensitivities(problem: Trials, *arguments: Any, **options: Any) -> list[Sensitivities]: ...


def sensitivities(
    problem: Problem | Trials,
    save_at: Any = None,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    error_control: str = "all",
    leak_only: bool = False,
    wrt: Iterable[str] | None = None,
    sensitivity_rtol: float | None = None,
    sensitivity_atol: Any = None,
) -> Sensitivities | list[Sensitivities]:
    """The sensitivities dr/dw and dr/dr0 at times, with their error in the step test.

    Parameters
    ----------
    problem : Problem or Trials
        Its objective is not needed.
    save_at : array_like (T,), optional
        Times, increasing; without it every step is kept. Of trials, these for all, or a list with the times of each.
    solver, rtol, atol, dt, max_steps, min_step
        As in `ctrnn.simulate`.
    error_control : {"all", "state"}, default "all"
        Whether the step test looks at the sensitivities too, or at r alone.
    leak_only : bool, default False
        The approximation of RFLO (networks only).
    wrt : iterable of str, optional
        Names of parameters, or labels of single entries as "W[0,1]": p has their columns only, in the order of
        ``field.labels``, and only their error counts. The cost falls with the parameters left out of equations; a
        network computes all and keeps some.
    sensitivity_rtol : float, optional
        Relative tolerance of dr/dw and dr/dr0 in the step test. By default rtol.
    sensitivity_atol : float or array_like, optional
        The absolute one: a number, or one for each column of p. By default, for dr/dw_j, the lesser of rtol and
        atol/|w_j|.

    Returns
    -------
    Sensitivities, or a list of them for trials
        Times, states and sensitivities.

    Raises
    ------
    UsageError
        For tolerances that have no use; and what `ctrnn.simulate` raises.
    UnknownNameError
        For a name that is no parameter.

    Notes
    -----
    From the augmented system dp/dt = J p + F_w, dS/dt = J S beside the state; where the solver is one of our own
    implicit ones, behind the state's stages (`ctrnn.gradients.continuous.staggered`).

    Examples
    --------
    >>> import ctrnn, numpy as np
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0}), r0=[1.0], t_span=(0.0, 1.0))
    >>> s = sensitivities(decay, save_at=[0.5, 1.0])
    >>> s.p.shape, bool(abs(s.p[1, 0, 0] + np.exp(-2.0)) < 1e-8)  # dr/dk = -t e^(-kt)
    ((2, 1, 1), True)
    >>> field = ctrnn.RateNetwork(3, inputs=1, seed=0)
    >>> sensitivities(ctrnn.Problem(field, np.zeros(3), (0.0, 1.0), x=1.0), [1.0], wrt=["b", "W[0,1]"]).labels
    ('W[0,1]', 'b[0]', 'b[1]', 'b[2]')
    """
    one_of("error_control", error_control, ("all", "state"))
    if isinstance(problem, Trials):
        options = (
            solver,
            rtol,
            atol,
            dt,
            max_steps,
            min_step,
            error_control,
            leak_only,
            wrt,
            sensitivity_rtol,
            sensitivity_atol,
        )
        jobs = list(zip(problem, one_each("save_at", save_at, len(problem)), strict=True))
        _ = problem.field._kernel  # compiled once, before many threads ask for it
        return map_parallel(jobs, lambda job: sensitivities(*job, *options), "sensitivities")
    settings = Settings(solver, rtol, atol, dt, max_steps, min_step)
    checked_problem(problem)
    saved = None if save_at is None else checked_times("save_at", save_at, problem.t_span)
    # the objective is not needed here, and an integral one would ride along
    problem, is_chosen = _chosen(with_noise(problem.replace(objective=None), settings), wrt)
    settings = resolve_auto_solver(problem, settings)
    problem = with_steps(problem, settings)
    n, kept = problem.field.n, 1 if saved is None else saved.size
    claim("problem", 8.0 * n * (1 + n + problem.field.m) * (12 + kept), "wrt=..., or ctrnn.gradient(method='adjoint')")
    system = ForwardSystem(problem, leak_only=leak_only)
    settings, groups = system.tolerances(settings, error_control)
    if error_control == "all":
        settings = _own_tolerances(system, settings, is_chosen, sensitivity_rtol, sensitivity_atol)
    elif sensitivity_rtol is not None or sensitivity_atol is not None:
        given = (sensitivity_rtol, sensitivity_atol)
        raise UsageError("sensitivity_rtol, sensitivity_atol", given=given, allowed="None with error_control='state'")
    with one_blas_thread:
        found = solve_forward(system, settings, groups, saved, "sensitivities")
    p = system.p(found.r)
    return Sensitivities(
        found.t,
        found.r[:, :n].copy(),
        p if is_chosen.all() else p[:, :, is_chosen],
        system.part(found.r, "S").reshape(-1, n, n).copy(),
        tuple(label for label, chosen in zip(problem.field.labels, is_chosen, strict=True) if chosen),
        found.stats,
    )


def _chosen(problem: Problem, wrt: Iterable[str] | None) -> tuple[Problem, Array]:
    """The problem to solve for the parameters that are asked for, and which entries of its vector they are (m,)."""
    field = problem.field
    if wrt is None:
        return problem, np.ones(field.m, dtype=bool)
    names = name_list("wrt", wrt)
    if not names:
        raise UsageError("wrt", given=names, allowed="at least one parameter, or None for all")
    others = [k for k in field.parameter_names if k not in names]
    smaller = field._parameters_as_inputs(others) if all(name in field.parameters for name in names) else None
    if smaller is None:
        return problem, _entries(field, names)
    if others:  # constant inputs have no column
        x = Constant(np.concatenate([field.parameters[k].ravel() for k in others]))
        problem = problem.replace(field=smaller, x=stack(problem.x, x))
    return problem, np.ones(problem.field.m, dtype=bool)


def _entries(field: Field, names: list[str]) -> Array:
    """The entries of the flat vector behind names of parameters and labels (m,)."""
    is_chosen = {k: np.zeros(v.size, dtype=bool) for k, v in field.parameters.items()}
    labels: list[str] = []
    for name in names:
        if name in is_chosen:
            is_chosen[name][:] = True
    flat = np.concatenate([np.zeros(0, dtype=bool), *is_chosen.values()])
    for name in names:
        if name not in is_chosen:
            labels = labels or field.labels
            if name not in labels:
                raise UnknownNameError("wrt", name, field.parameter_names)
            flat[labels.index(name)] = True
    return flat


def _own_tolerances(
    system: ForwardSystem, settings: Settings, is_chosen: Array, rtol: float | None, atol: Any
) -> Settings:
    """Settings in which columns that were not asked for have no say, and the others have tolerances of their own."""
    if is_chosen.all() and rtol is None and atol is None:
        return settings
    if settings.library == "torchdiffeq":
        allowed = "None with torchdiffeq, which knows one tolerance for everything"
        raise UsageError("wrt, sensitivity_rtol, sensitivity_atol", given=(rtol, atol), allowed=allowed)
    kernel, n, N = system.kernel, system.n, system.bound.n
    share = float(np.sqrt(n / N)) if settings.library else 1.0  # see ForwardSystem.tolerances
    each_rtol, each_atol = (np.array(value, dtype=float) for value in (settings.rtol, settings.atol))
    # behind each column the entry of the vector, and one more for columns that have none
    index = kernel.index.reshape(kernel.groups, 1, kernel.columns)
    counts = np.broadcast_to(np.append(is_chosen, False)[index], (kernel.groups, n, kernel.columns)).ravel()
    if rtol is not None:
        rtol = float(checked_array("sensitivity_rtol", rtol, ()))
        for name in ("P", "S"):
            system.part(each_rtol, name)[...] = rtol * share
    if atol is not None:
        atol = checked_array("sensitivity_atol", atol)
        if atol.shape not in ((), (int(is_chosen.sum()),)):
            raise UsageError(
                "sensitivity_atol", given=atol, allowed=f"a number, or one for each of {int(is_chosen.sum())} columns"
            )
        by_entry = np.full(is_chosen.size + 1, np.finfo(float).max)
        by_entry[:-1][is_chosen] = atol
        wide = np.broadcast_to(by_entry[index], (kernel.groups, n, kernel.columns)).ravel()
        system.part(each_atol, "P")[...] = wide * share
        if atol.ndim == 0:
            system.part(each_atol, "S")[...] = float(atol) * share
    if (each_rtol < 0).any() or (each_atol < 0).any() or ((each_rtol == 0) & (each_atol == 0)).any():
        raise UsageError(
            "sensitivity_rtol, sensitivity_atol", given=(rtol, atol), allowed="not negative, and not both zero"
        )
    # the mean square over all columns would be diluted by those that do not count
    inside = slice(n, n + system.sizes["P"] + system.sizes["S"])
    part = np.sqrt((counts.sum() + n * n) / (inside.stop - inside.start))
    each_rtol[inside] *= part
    each_atol[inside] *= part
    system.part(each_rtol, "P")[~counts], system.part(each_atol, "P")[~counts] = 0.0, np.finfo(float).max
    return replace(settings, rtol=each_rtol, atol=each_atol)
