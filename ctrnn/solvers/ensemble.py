"""An ensemble: one problem solved for many sets of parameters, or from many starts, in compiled code on all cores.

    dr_b/dt = F(t, r_b, w_b, x(t)),   r_b(t0) = r0_b,   b = 1 … B

For parameter studies, bifurcation diagrams by brute force, Bayesian samplers, clouds of initial states. Each member has steps of its own, so
what it gives does not depend on its company; nothing of Python runs between one member and the next. Explicit methods take 32 members side by side,
in vector instructions (ctrnn.kernels.lanes.fields, ctrnn.solvers.members).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import numpy as np

from ctrnn.errors import SolverError, UsageError
from ctrnn.fields.base import Array, Field, checked_array
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.members import OneByOne, SideBySide, fit_in_lanes
from ctrnn.solvers.runge_kutta import Integration, tableau_of
from ctrnn.solvers.solve import checked_times
from ctrnn.threads import one_blas_thread, side_by_side, workers
from ctrnn.trajectory import Stats, Trajectory

#: members that a thread takes at a time, at most, and seconds that they may take, if all are like the first: until then nothing can stop them
CHUNK, PATIENCE = 1024, 0.2


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble:
    """t (T,) and r (B, T, n); steps and rejected (B,); failures: member -> the error that ended it, where its r is NaN; stats of all."""

    t: Array
    r: Array
    steps: Array
    rejected: Array
    failures: dict[int, SolverError]
    names: tuple[str, ...]
    stats: Stats

    def __len__(self) -> int:
        return len(self.r)

    def __getitem__(self, b: int) -> Trajectory:
        """The solution of one member; raises the error that ended it, if one did."""
        b = range(len(self))[b]
        if b in self.failures:
            raise self.failures[b]
        stats = Stats(self.stats.solver, int(self.steps[b]), int(self.rejected[b]))
        return Trajectory(self.t, self.r[b], self.names, stats)

    def __repr__(self) -> str:
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"Ensemble of {len(self)} at {self.t.size} times of {len(self.names)} states{failed}\n{self.stats}"


def ensemble(
    problem: Problem,
    parameters: Any = None,
    r0: Any = None,
    save_at: Any = None,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    allow_failures: bool = False,
) -> Ensemble:
    """Solve a problem once for each member of an ensemble.

    Parameters
    ----------
    parameters : (B, m) vectors in the order of field.labels; or a table name -> (B, *shape) for those that vary. None: all as in the field
    r0 : (B, n) initial states; None: the problem's
    save_at : times (T,), increasing; None: the end of t_span alone
    solver, rtol, atol, dt, max_steps, min_step : as in ctrnn.simulate, for our own solvers
    allow_failures : False raises the first member's error; True leaves NaN in its place and tells it in ``failures``

    A member's result is the same to the last bit in any company. It is that of ctrnn.simulate where members go one after the other: implicit solvers,
    exponential Euler, TorchField, networks of more than some 40 units. The others go side by side, with sums in another order: the same steps and r to
    rounding (1e-13 or so for smooth F and |r| near 1), unless an error estimate lies within rounding of its bound or F has a kink, as relu has:
    what a step errs there depends on where it lies, and the two differ by what the tolerance allows.

    Raises UsageError for shapes and values that do not fit, and the errors of ctrnn.simulate with the number of the member.

    >>> import ctrnn, numpy as np
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, parameters={"k": 1.0}), r0=[1.0], t_span=(0.0, 1.0))
    >>> found = ensemble(decay, {"k": np.array([0.5, 1.0, 2.0])})
    >>> found.r.shape, np.round(found.r[:, -1, 0], 6)  # e^-k
    ((3, 1, 1), array([0.606531, 0.367879, 0.135335]))
    """
    from ctrnn.kernels import ensemble as kernel
    from ctrnn.kernels import stepper
    from ctrnn.kernels.abi import LANES

    checked_problem(problem)
    problem = problem.replace(objective=None)
    settings = Settings(solver, rtol, atol, dt, max_steps, min_step)
    tableau = tableau_of(settings, "ensemble")
    times = np.array([problem.t_span[1]]) if save_at is None else checked_times("save_at", save_at, problem.t_span)
    vectors, starts = _members(problem, parameters, r0)
    B, n = len(starts), problem.field.n
    problem = with_steps(problem, settings)
    weights = _kernel_vectors(problem.field, vectors)
    course = problem.course
    if dt is None and tableau.dense_order < tableau.order - 1:
        course = course.onto(times)  # as in ctrnn.solvers.solve
    members = kernel.Members(
        weights,
        starts,
        np.empty((B, times.size, n)),
        np.empty(B, dtype=np.int64),
        np.empty((B, stepper.COUNT_SIZE), dtype=np.int64),
        np.empty((B, 2)),
        np.empty((B, n + 1)),
    )

    def made() -> Integration:
        return Integration(problem.bind(), problem.r0, course, settings, times, label="ensemble")

    began = time.perf_counter()
    in_lanes = fit_in_lanes(problem.field, tableau)
    idle: SimpleQueue[OneByOne] = SimpleQueue()
    threads = workers()
    for _ in range(threads):
        idle.put(SideBySide(made(), problem.field, members) if in_lanes else OneByOne(made(), members))

    def solve(first: int, end: int) -> None:
        run = idle.get()
        run.solve(first, end)
        idle.put(run)
        run.bound.raise_pending()

    solve(0, 0)  # read from disk, or compiled
    first = min(B, LANES if in_lanes else 1)
    began_alone = time.perf_counter()
    with one_blas_thread:
        solve(0, first)
    each = (time.perf_counter() - began_alone) / first
    turns = max(1, -(-(B - first) // int(threads * min(CHUNK, max(first, PATIENCE / each)))))
    chunk = max(first, -(-(B - first) // (threads * turns)))  # all threads end together
    side_by_side(range(first, B, chunk), lambda begin: solve(begin, min(begin + chunk, B)), "ensemble")
    failures = {int(b): _failure(made(), int(b), members) for b in np.flatnonzero(members.status != stepper.DONE)}
    if failures and not allow_failures:
        raise next(iter(failures.values()))
    counts = members.counts
    steps, rejected = counts[:, stepper.STEPS].copy(), counts[:, stepper.REJECTED].copy()
    evaluations = int(counts[:, stepper.EVALUATIONS].sum())
    name = idle.get().run.stats.solver
    stats = Stats(name, int(steps.sum()), int(rejected.sum()), evaluations, wall_time=time.perf_counter() - began)
    return Ensemble(times, members.saved, steps, rejected, failures, problem.field.state_names, stats)


def _members(problem: Problem, parameters: Any, r0: Any) -> tuple[Array, Array]:
    """The vector (B, m) and the initial state (B, n) of each member."""
    field = problem.field
    vectors = starts = None
    if isinstance(parameters, Mapping):
        vectors = _from_table(field, parameters)
    elif parameters is not None:
        vectors = checked_array("parameters", parameters)
        if vectors.ndim != 2 or vectors.shape[1] != field.m or not len(vectors):
            raise UsageError("parameters", given=f"shape {vectors.shape}", allowed=f"shape (B, {field.m}), B ≥ 1")
    if r0 is not None:
        starts = checked_array("r0", r0)
        if starts.ndim != 2 or starts.shape[1] != field.n or not len(starts):
            raise UsageError("r0", given=f"shape {starts.shape}", allowed=f"shape (B, {field.n}), B ≥ 1")
    if vectors is None and starts is None:
        raise UsageError("parameters, r0", given=None, allowed="a batch of one of them at least")
    B = len(vectors) if vectors is not None else len(starts)  # type: ignore[arg-type]
    if vectors is None:
        vectors = np.tile(field.vector, (B, 1))
    if starts is None:
        starts = np.tile(problem.r0, (B, 1))
    if len(vectors) != len(starts):
        raise UsageError(
            "r0", given=f"{len(starts)} states", allowed=f"{len(vectors)}, as there are sets of parameters"
        )
    low, high = field.bounds
    wrong = (vectors < low) | (vectors > high)
    if wrong.any():
        b, j = np.argwhere(wrong)[0]
        raise UsageError(
            "parameters",
            given=f"{field.labels[j]} = {vectors[b, j]:g} in member {b}",
            allowed=f"{low[j]:g} to {high[j]:g}",
        )
    return vectors, starts


def _from_table(field: Field, table: Mapping[str, Any]) -> Array:
    arrays = {}
    for name, value in table.items():
        array = checked_array(f"parameters[{name!r}]", value)
        if name not in field.parameters:
            from ctrnn.errors import UnknownNameError

            raise UnknownNameError("parameters", name, field.parameter_names)
        shape = field.parameters[name].shape
        if array.ndim != len(shape) + 1 or array.shape[1:] != shape or not len(array):
            raise UsageError(
                f"parameters[{name!r}]",
                given=f"shape {array.shape}",
                allowed=f"shape (B{''.join(f', {k}' for k in shape)})",
            )
        arrays[name] = array
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise UsageError("parameters", given=lengths, allowed="arrays of one length B, at least one of them")
    B = next(iter(lengths.values()))
    parts = [
        arrays[name].reshape(B, -1) if name in arrays else np.tile(value.ravel(), (B, 1))
        for name, value in field.parameters.items()
    ]
    return np.concatenate(parts, axis=1)


def _kernel_vectors(field: Field, vectors: Array) -> Array:
    """Each member's parameters as the compiled functions want them, (B, ·).

    They are entries of the vector, some of them several times, and constants: the direction 1, 2, 3, … tells which is which.
    """
    place, constant = field.kernel_direction(np.arange(1.0, field.m + 1.0)).astype(np.int64), field.kernel_vector()
    if not field.m:
        return np.tile(constant, (len(vectors), 1))
    made = np.take(vectors, np.maximum(place - 1, 0), axis=1)
    made[:, place == 0] = constant[place == 0]
    return made


def _failure(run: Integration, b: int, members: Any) -> SolverError:
    """The error that ``simulate`` would raise, with the member's number."""
    from ctrnn.kernels import ensemble as kernel
    from ctrnn.kernels import stepper

    run.count[:], run.r[:] = members.counts[b], members.starts[b]
    run.clock[stepper.T], run.clock[stepper.H] = members.last[b]
    status = int(members.status[b])
    error = run.failure(stepper.DIVERGED if status == kernel.NOT_FINITE else status)
    error.args = (f"member {b}: {error}",)
    return error
