"""An ensemble: one problem solved for many sets of parameters, or from many starts, in compiled code on all cores.

    dr_b/dt = F(t, r_b, w_b, x(t)),   r_b(t0) = r0_b,   b = 1 … B

For parameter studies, bifurcation diagrams by brute force, Bayesian samplers, clouds of initial states. Each member has
steps of its own, so that its result does not depend on the other members; nothing of Python runs between one member and
the next. Explicit methods take 32 members side by side,
in vector instructions (ctrnn.kernels.lanes.steps, ctrnn.kernels.lanes.ensemble).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from ctrnn.clock import working
from ctrnn.errors import SolverError, UnknownNameError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.kernels import abi, signals, stepper
from ctrnn.kernels import ensemble as kernel
from ctrnn.kernels.lanes import ensemble as _lanes_kernel
from ctrnn.kernels.lanes import steps as lane_steps
from ctrnn.memory import claim
from ctrnn.names import check_order, labels
from ctrnn.numbers import MOST, checked_array, flag, whole
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers import tableaus
from ctrnn.solvers.dense import DenseOutput, dense_of
from ctrnn.solvers.exponential import with_steps
from ctrnn.solvers.noise import noisy, with_noise
from ctrnn.solvers.noisy_ensemble import Paths
from ctrnn.solvers.runge_kutta import Integration, tableau_of
from ctrnn.solvers.solution import checked_times
from ctrnn.solvers.solve import course_onto
from ctrnn.solvers.tableaus import Tableau
from ctrnn.threads import map_parallel, stop, workers
from ctrnn.trajectory import Stats, Trajectory, states_named

#: members that a thread takes at a time, at most, and seconds that they may take, if all are like the first
CHUNK, PATIENCE = 1024, 0.2
#: bytes of the parameters of all lanes beyond which they leave the cache, and one member after the other is faster
LANES_BYTES = 512 * 2**10


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble:
    """The solutions of all members.

    Attributes
    ----------
    t : ndarray (T,)
        The saved times.
    r : ndarray (B, T, n)
        States; NaN of a member that failed.
    steps, rejected : ndarray (B,) of int
        Steps of each member, accepted and rejected.
    failures : dict of int to SolverError
        Member -> the error that ended it.
    names : tuple of str
        Names of the states.
    stats : ctrnn.Stats
        What all members cost together.
    dense : callable
        Member -> its dense output, which ``found[b](t)`` asks.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, {"k": 1.0}), r0=[1.0], t_span=(0.0, 1.0))
    >>> found = ensemble(decay, {"k": [1.0, 2.0]}, save_at=[0.5, 1.0])
    >>> len(found), found.r.shape, found[1]["r"].shape, found["r"].shape
    (2, (2, 2, 1), (2,), (2, 2))
    """

    t: Array
    r: Array
    steps: Array
    rejected: Array
    failures: dict[int, SolverError]
    names: tuple[str, ...]
    stats: Stats
    dense: Callable[[int], DenseOutput] | None = None

    def __len__(self) -> int:
        return len(self.r)

    def __getitem__(self, b: Any) -> Any:
        """The solution of one member, or the error that ended it raised; or by its name a state (B, T, …) of all."""
        if isinstance(b, str):
            return states_named(self.r, self.names, b)
        b = range(len(self))[b]
        if b in self.failures:
            raise self.failures[b]
        stats = Stats(self.stats.solver, int(self.steps[b]), int(self.rejected[b]))
        dense = None if self.dense is None else self.dense(b)
        return Trajectory(self.t, self.r[b], self.names, stats, dense=dense)

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
    noise: Any = None,
    seed: int | None = None,
    paths: int | None = None,
) -> Ensemble:
    """Solve a problem once for each member of an ensemble.

    Parameters
    ----------
    problem : ctrnn.Problem
        Its objective is not used.
    parameters : (B, m) array_like or mapping of str to (B, *shape) array_like, optional
        Vectors in the order of field.labels, or a table of the parameters that vary. None: all as in the field.
    r0 : (B, n) array_like, optional
        Initial states; None: the problem's.
    save_at : (T,) array_like, optional
        Increasing times; None: the end of t_span alone.
    solver, rtol, atol, dt, max_steps, min_step
        As in ctrnn.simulate, for our own solvers.
    allow_failures : bool
        False raises the first member's error; True keeps it in ``failures``, and NaN in the member's r.
    noise, seed
        As in ctrnn.simulate; member b takes path b of the seed.
    paths : int, optional
        How many members, where they differ in their noise alone.

    Returns
    -------
    Ensemble
        t (T,), r (B, T, n), the steps of each member and what all cost; ``found[b]`` is the trajectory of member b.

    Raises
    ------
    UsageError
        For shapes and values that do not fit.
    SolverError
        As ctrnn.simulate does, with the number of the member.

    Notes
    -----
    A member's result does not depend on the other members, to the last bit. It is that of ctrnn.simulate where
    members are solved one after the other: implicit solvers, exponential Euler, TorchField, networks of more than
    some 40 units. The others are solved side by side, with sums in another order: the same steps, and r to rounding
    (1e-13 or so for smooth F and |r| near 1), unless an error estimate lies within rounding of its bound or F has a
    kink, as relu has: the error of a step there depends on where it lies, and the two differ by what the tolerance
    allows. With noise member b is what ctrnn.simulate gives for path b: to rounding where all have the same parameters
    and go side by side, else to the bit.

    Examples
    --------
    >>> import ctrnn, numpy as np
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, parameters={"k": 1.0}), r0=[1.0], t_span=(0.0, 1.0))
    >>> found = ensemble(decay, {"k": np.array([0.5, 1.0, 2.0])})
    >>> found.r.shape, np.round(found.r[:, -1, 0], 6)  # e^-k
    ((3, 1, 1), array([0.606531, 0.367879, 0.135335]))
    """
    checked_problem(problem)
    problem = problem.replace(objective=None)
    if noise is not None or seed is not None:
        problem = noisy(problem, noise, seed)
    settings = Settings(solver, rtol, atol, dt, max_steps, min_step)
    allow_failures = flag("allow_failures", allow_failures)
    if problem.noise is None:
        tableau = tableau_of(settings, "ensemble")
    times = np.array([problem.t_span[1]]) if save_at is None else checked_times("save_at", save_at, problem.t_span)
    if paths is not None:
        allowed = "a whole number, at least 1, of paths of a noise"
        paths = whole("paths", paths, 1, allowed, MOST if problem.noise is not None else 0)
        claim("paths", 32.0 * paths * problem.field.n, "fewer paths at a time")
        if parameters is None and r0 is None:
            r0 = np.tile(problem.r0, (paths, 1))
    vectors, starts = _members(problem, parameters, r0)
    B, n = len(starts), problem.field.n
    claim("save_at", 8.0 * B * n * times.size, "fewer times, or fewer members at a time")
    if paths is not None and paths != B:
        raise UsageError("paths", given=paths, allowed=f"None, or {B}, as there are members")
    dense = partial(_dense_of_member, problem, settings, times, vectors, starts)
    if problem.noise is not None:
        found = _along_paths(problem, settings, vectors, starts, times)
        if found.failures and not allow_failures:
            raise next(iter(found.failures.values()))
        return replace(found, dense=dense)
    problem = with_steps(problem, settings)
    weights = _kernel_vectors(problem.field, vectors)
    course = course_onto(problem.course, settings, times)
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

    began = working()
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
    first = min(B, abi.LANES if in_lanes else 1)
    began_alone = working()
    map_parallel([first], lambda end: solve(0, end), "ensemble", takes_long=True)
    each = (working() - began_alone) / first
    turns = max(1, -(-(B - first) // int(threads * min(CHUNK, max(first, PATIENCE / each)))))
    chunk = max(first, -(-(B - first) // (threads * turns)))  # all threads end together
    map_parallel(range(first, B, chunk), lambda begin: solve(begin, min(begin + chunk, B)), "ensemble", True)
    failures = {int(b): _failure(made(), int(b), members) for b in np.flatnonzero(members.status != stepper.DONE)}
    if failures and not allow_failures:
        raise next(iter(failures.values()))
    counts = members.counts
    steps, rejected = counts[:, stepper.STEPS].copy(), counts[:, stepper.REJECTED].copy()
    evaluations = int(counts[:, stepper.EVALUATIONS].sum())
    name = idle.get().run.stats.solver
    stats = Stats(name, int(steps.sum()), int(rejected.sum()), evaluations, wall_time=working() - began)
    return Ensemble(times, members.saved, steps, rejected, failures, problem.field.state_names, stats, dense)


def _dense_of_member(
    problem: Problem, settings: Settings, times: Array, vectors: Array, starts: Array, b: int
) -> DenseOutput:
    member = problem.replace(field=problem.field.with_vector(vectors[b]), r0=starts[b])
    if member.noise is not None:
        member = with_noise(member.replace(noise=member.noise.of_path(b)), settings)
    return dense_of(with_steps(member, settings), settings, times)


def _along_paths(problem: Problem, settings: Settings, vectors: Array, starts: Array, times: Array) -> Ensemble:
    """Member b along path b of the problem's noise."""
    began = working()
    found = Paths(problem, settings, vectors, starts, times).solve()
    name = tableaus.get(settings.solver).name
    stats = Stats(name, int(found.steps.sum()), 0, found.evaluations, wall_time=working() - began)
    none = np.zeros_like(found.steps)
    return Ensemble(times, found.r, found.steps, none, found.failures, problem.field.state_names, stats)


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
        check_order("r0", labels(r0), field.state_names)
        starts = checked_array("r0", r0)
        if starts.ndim != 2 or starts.shape[1] != field.n or not len(starts):
            raise UsageError("r0", given=f"shape {starts.shape}", allowed=f"shape (B, {field.n}), B ≥ 1")
    if vectors is None and starts is None:
        raise UsageError("parameters, r0", given=None, allowed="a batch of one of them at least")
    B = len(vectors) if vectors is not None else len(starts)  # type: ignore[arg-type]
    claim("parameters, r0", 16.0 * B * (field.m + field.n), "fewer members at a time")
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
        if not isinstance(name, str) or name not in field.parameters:
            raise UnknownNameError("parameters", name, field.parameter_names)
        array = checked_array(f"parameters[{name!r}]", value)
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

    They are entries of the vector, some of them several times, and constants.
    """
    entry, constant = field._kernel_entries, field._kernel_vector()
    if not field.m:
        return np.tile(constant, (len(vectors), 1))
    made = np.take(vectors, np.maximum(entry, 0), axis=1)
    made[:, entry < 0] = constant[entry < 0]
    return made


def _failure(run: Integration, b: int, members: Any) -> SolverError:
    """The error that ``simulate`` would raise, with the member's number."""
    run.count[:], run.r[:] = members.counts[b], members.starts[b]
    run.clock[stepper.T], run.clock[stepper.H] = members.last[b]
    status = int(members.status[b])
    error = run.failure(stepper.DIVERGED if status == kernel.NOT_FINITE else status)
    error.args = (f"member {b}: {error}",)
    return error


# --- what solves the members: each worker has one of these, with the working space for all the members that it takes


def fit_in_lanes(field: Field, tableau: Tableau) -> bool:
    """Whether members can be solved side by side.

    That takes an explicit method, a field with a function for it, and parameters that stay in the cache.
    """
    if tableau.implicit or 8 * abi.LANES * field._kernel_vector().size > LANES_BYTES:
        return False
    return field._lanes_kernel is not None


class OneByOne:
    """Members one after the other, by the stepper (ctrnn.kernels.ensemble).

    run : an integration that has not begun; members : ctrnn.kernels.ensemble.Members
    """

    def __init__(self, run: Integration, members: Any) -> None:
        self.run, self.bound, self.members = run, run.bound, members
        self.bound.system.ctx[abi.STOP] = stop().address
        self.arguments = run.arguments(run.record(0), run.pace)
        self.order = (run.tableau.error_order or 2) - 1

    def solve(self, first: int, last: int) -> None:
        """Members ``first`` to ``last``."""
        kernel.solve_members(self.arguments, self.order, self.members, first, last)


class SideBySide(OneByOne):
    """LANES members at once (ctrnn.kernels.lanes.ensemble)."""

    def __init__(self, run: Integration, field: Field, members: Any) -> None:
        super().__init__(run, members)
        made, system = field._lanes_kernel, run.bound.system
        assert made is not None
        L, n, m, s, channels = abi.LANES, run.bound.n, system.w.size, run.tableau.s, run.bound.x_stride
        self._keep: list[Array] = []
        ctx = system.ctx.copy()
        ctx[abi.SCRATCH] = self._at(aligned(made.scratch))
        still = np.isin(system.code.reshape(-1, 5)[:, 0], (signals.CONSTANT, signals.ADD, signals.MULTIPLY)).all()
        self.lanes = lane_steps.Lanes(
            L=L,
            n=n,
            m=m,
            channels=channels,
            member=self._at(np.zeros(L, dtype=np.int64)),
            status=self._at(np.zeros(L, dtype=np.int64)),
            counts=self._at(np.zeros((stepper.COUNT_SIZE, L), dtype=np.int64)),
            now=self._at(aligned(lane_steps.NOW_SIZE, L)),
            w=self._at(aligned(m, L)),
            r=self._at(aligned(n, L)),
            k=self._at(aligned(run.tableau.s_total, n, L)),
            y=self._at(aligned(s + 2, n, L)),
            x=self._at(aligned(channels, L)),
            x_varies=int(channels > 0 and not still),
            x_one=self._at(np.zeros(run._work.size)),
            work=self._at(aligned(run._work.size, L)),
            work_size=run._work.size,
            code=self._at(system.code),
            rows=system.code.size // 5,
            data=self._at(system.data),
            data_size=system.data.size,
            field=made.address,
            ctx=self._at(ctx),
        )
        self.task = _lanes_kernel.Task(
            order=self.order,
            start=float(run.clock[stepper.START]),
            stop=stop().address,
            stops=self._at(run.stops),
            breaks=self._at(run.is_break.astype(np.int64)),
            K=run.stops.size,
            save_t=self._at(run.save_at),
            times=run.save_at.size,
            **{name: self._at(getattr(members, name)) for name in members._fields},
        )

    def _at(self, array: Array) -> int:
        """The address of an array, which lives as long as this object."""
        self._keep.append(array)
        return array.ctypes.data

    def solve(self, first: int, last: int) -> None:
        """Members ``first`` to ``last``."""
        _lanes_kernel.solve_in_lanes(self.run.method, self.run.control, self.task, self.lanes, first, last)


def aligned(*shape: int) -> Array:
    """Zeros whose first is at a multiple of 64 bytes: no vector of eight then lies across two lines of the cache."""
    size = int(np.prod(shape))
    block = np.zeros(size + 8)
    start = (-block.ctypes.data % 64) // 8
    return block[start : start + size].reshape(shape)
