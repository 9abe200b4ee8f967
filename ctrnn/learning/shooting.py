"""Multiple shooting: a solution in pieces, each from a state of its own, that are joined while the parameters move.

    min ½ Σ z(theta, s)²    subject to    c_j = (r(t_{j+1}; theta, s_j) − s_{j+1})/D = 0    at nodes t_1 < … < t_{M−1}

The states s_j at the nodes are unknowns beside theta, and start at the data: so every piece is near them from the first
step, however wrong theta is, and the loss has few of the valleys that a single long solution makes (Bock, in Modelling
of Chemical Reaction Systems, 1981; Bock, Recent advances in parameter identification techniques for ODE, 1983). The
constraints are met by the method of multipliers (Hestenes 1969; Powell 1969), whose problems are sums of squares,

    ½ Σ z² + ½ Σ_j ‖√rho c_j + mu_j/√rho‖²,        mu_j ← mu_j + rho c_j,      rho growing,

for SciPy's least squares. D is the size of each state. In the end the solution in one piece goes on from theta, s_0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import ConvergenceError, NotFiniteError, SolverError, UsageError
from ctrnn.gradients.sensitivity.sensitivities import sensitivities
from ctrnn.learning.loss import Loss, Statement
from ctrnn.learning.residuals import linearised
from ctrnn.memory import claim
from ctrnn.numbers import is_whole, real_array
from ctrnn.problem import Problem, Trials
from ctrnn.solvers.simulate import simulate
from ctrnn.threads import one_blas_thread

Array = NDArray[np.float64]

#: pieces where nothing else is said, if there are as many intervals between observations
PIECES = 100
#: rounds of the multipliers, and how their weight grows
_ROUNDS = 14
_GROWTH = 4.0
#: where the pieces count as one solution, relative to each state's size
_JOINED = 1e-9
_MOST_EVALUATIONS = 15
#: where the solution in one piece is as good as the pieces, as a ratio of the sums of squares
_ALIKE = 1.5


@dataclass
class _Pieces:
    """One trial in pieces: where each begins, its problem without objective, and which observations lie in it."""

    edges: Array
    problems: list[Problem]
    rows: list[NDArray[Any]]
    first_node: int


class Shooting:
    """A problem, or trials, in pieces: residuals and Jacobian in the unknowns (theta, nodes)."""

    def __init__(self, loss: Loss, pieces: Any) -> None:
        assert loss.residuals is not None
        self.loss, self.residuals, self.coordinates = loss, loss.residuals, loss.coordinates
        problem = self.coordinates.problem(loss.theta)
        self.is_batch = isinstance(problem, Trials)
        trials = list(problem) if self.is_batch else [problem]
        self.n, self.m, self.k = problem.field.n, problem.field.m, len(loss.theta)
        self.pieces: list[_Pieces] = []
        nodes, starts = 0, []
        divided = [_edges(one, pieces) for one in trials]
        unknown = self.n * sum(len(edges) - 2 for edges in divided)
        claim("shooting", 24.0 * (self.residuals.size + unknown) * (self.k + unknown), "fewer pieces")
        for one, data, edges in zip(trials, self.residuals.data, divided, strict=True):
            bare = one.replace(objective=None)
            parts = [bare.replace(t_span=(a, b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
            t = one.observed
            piece = np.clip(np.searchsorted(edges, t, side="left") - 1, 0, len(parts) - 1)
            self.pieces.append(_Pieces(edges, parts, [np.flatnonzero(piece == j) for j in range(len(parts))], nodes))
            nodes += len(parts) - 1
            starts.append(_first_nodes(one, data, edges, loss.solver_settings))
        self.start = np.concatenate([np.empty((0, self.n)), *starts])
        every = np.concatenate([self.start, *[np.atleast_2d(one.r0) for one in trials]])
        #: D, the size of each state
        self.sizes = np.maximum(np.sqrt(np.mean(every**2, axis=0)), 1e-300)
        self.sizes[self.sizes <= 1e-12 * self.sizes.max()] = 1.0

    @property
    def nodes(self) -> int:
        """Nodes of all trials."""
        return len(self.start)

    def __call__(self, theta: Array, nodes: Array) -> tuple[Array, Array, Array, Array]:
        """The residuals z of data and priors with ∂z/∂(theta, nodes), and the gaps c with ∂c/∂(theta, nodes)."""
        problem = self.coordinates.problem(theta)
        trials = list(problem) if self.is_batch else [problem]
        parts, asked = [], []
        for one, its in zip(trials, self.pieces, strict=True):
            for j, (part, rows) in enumerate(zip(its.problems, its.rows, strict=True)):
                start = one.r0 if j == 0 else nodes[its.first_node + j - 1]
                parts.append(part.replace(field=problem.field, r0=start))
                asked.append(np.unique(np.append(one.observed[rows], its.edges[j + 1])))
        settings = dict(self.loss.statement.settings)
        runs: Any = sensitivities(Trials.of(parts), save_at=asked, **settings)
        n, m, k = self.n, self.m, self.k
        width = k + nodes.size
        scale = self.coordinates.scale(theta) * self.coordinates.free
        z_parts, J_parts, gaps, C_parts = [], [], [], []
        unit = iter(np.split(self._unit(), np.cumsum([len(d.y) for d in self.residuals.data])[:-1]))
        at = 0
        for one, its, data, fitted in zip(trials, self.pieces, self.residuals.data, self.residuals.fitted, strict=True):
            mine, entries = fitted
            of_w, of_r0 = mine < m, (mine >= m) & (mine < m + n)
            K, p = len(one.observed), one.objective.output_size
            o, J = np.empty((K, p)), np.zeros((K, p, width))
            for j, rows in enumerate(its.rows):
                run, here = runs[at], np.searchsorted(asked[at], one.observed[rows])
                node = k + n * (its.first_node + j - 1)
                tangent = np.zeros((len(run.t), n, width))
                tangent[:, :, entries[of_w]] = run.p[:, :, mine[of_w]]
                if j == 0:
                    tangent[:, :, entries[of_r0]] = run.p0[:, :, mine[of_r0] - m]
                else:
                    tangent[:, :, node : node + n] = run.p0
                tangent[:, :, :k] *= scale
                o[rows], o_r, own = linearised(one.objective, run.r[here])
                J[rows] = np.einsum("kpn,kni->kpi", o_r, tangent[here])
                if own is not None:
                    readout = mine >= m + n
                    J[rows[:, None], :, entries[readout]] += np.moveaxis(
                        own[:, :, mine[readout] - m - n] * scale[entries[readout]], 2, 1
                    )
                if j + 1 < len(its.rows):
                    gaps.append((run.r[-1] - nodes[its.first_node + j]) / self.sizes)
                    C = tangent[-1].copy()
                    C[:, node + n : node + 2 * n] -= np.eye(n)
                    C_parts.append(C / self.sizes[:, None])
                at += 1
            value, slope = self.residuals.noise.residual(o[data.k, data.j], data.y)
            u = next(unit)
            z_parts.append(u * value)
            J_parts.append((u * slope)[:, None] * J[data.k, data.j])
        z_prior, J_prior = self.loss.prior_residuals(theta)
        z_parts.append(z_prior)
        J_parts.append(np.concatenate([J_prior, np.zeros((len(z_prior), nodes.size))], axis=1))
        c = np.concatenate([np.empty(0), *gaps])
        return np.concatenate(z_parts), np.concatenate(J_parts), c, np.concatenate([np.empty((0, width)), *C_parts])

    def _unit(self) -> Array:
        root = np.concatenate([data.root for data in self.residuals.data])
        return root / self.residuals.spread(self.loss.sigma)

    def solve(self) -> Array:
        """Theta at which the pieces are one solution; raises SolverError where there is none at the start."""
        from scipy.optimize import least_squares

        c, k, shape = self.coordinates, self.k, self.start.shape
        free = np.concatenate([np.flatnonzero(c.free), np.arange(k, k + self.start.size)])
        whole = np.concatenate([self.loss.theta, self.start.ravel()])
        positive = c.fits_r0 and bool(c.log[c.entries("r0", "r0")[0]].all()) and bool((self.start > 0).all())
        lower = np.concatenate([c.lower, np.full(self.start.size, 0.0 if positive else -np.inf)])[free]
        upper = np.concatenate([c.upper, np.full(self.start.size, np.inf)])[free]
        with np.errstate(over="ignore", invalid="ignore"):
            z, _, gap, _ = self(self.loss.theta, self.start)
            if not np.isfinite(z @ z):
                hint = "another start, or a larger sigma"
                raise ConvergenceError(f"shooting cannot begin: the residuals are not finite. Try: {hint}")
        root = max(float(np.sqrt(np.mean(z**2))), 1e-300)
        mu = np.zeros_like(gap)
        last: dict[bytes, Any] = {}

        def at(x: Array) -> Any:
            key = x.tobytes()
            if key not in last:
                point = whole.copy()
                point[free] = x
                theta, nodes = c.clip(point[:k]), point[k:].reshape(shape)
                last.clear()
                try:
                    if not np.isfinite(c.w(theta)).all():
                        raise NotFiniteError("beyond float64")
                    with np.errstate(over="ignore", invalid="ignore"):
                        last[key] = self(theta, nodes)
                except (SolverError, NotFiniteError):
                    last[key] = None
            return last[key]

        def residuals(x: Array) -> Array:
            found = at(x)
            if found is None:
                return np.full(len(z) + len(mu), np.nan)
            return np.concatenate([found[0], root * found[2] + mu / root])

        def jacobian(x: Array) -> Array:
            found = at(x)
            return np.concatenate([found[1], root * found[3]])[:, free]

        x = np.clip(whole[free], lower, upper)
        for turn in range(_ROUNDS):
            result = least_squares(
                residuals, x, jacobian, (lower, upper), ftol=1e-6, xtol=1e-10, gtol=None, x_scale="jac",
                max_nfev=_MOST_EVALUATIONS * (4 if turn == 0 else 1),
            )  # fmt: skip
            x = result.x
            gap = at(x)[2]
            if (
                not len(gap)
                or float(np.max(np.abs(gap))) <= _JOINED
                or self._is_one(c.clip(_put(whole, free, x)[:k]), at(x)[0])
            ):
                break
            mu = mu + root**2 * gap
            root *= _GROWTH
        return c.clip(_put(whole, free, x)[:k])

    def _is_one(self, theta: Array, pieces: Array) -> bool:
        """Whether the solution in one piece is about as near to the data as the pieces are: it goes on from there."""
        try:
            z, _ = self.residuals(theta, self.loss.sigma, jacobian=False)
        except (SolverError, NotFiniteError):
            return False
        return bool(np.isfinite(z).all() and z @ z <= _ALIKE * (pieces @ pieces))


def _put(whole: Array, free: NDArray[Any], x: Array) -> Array:
    point = whole.copy()
    point[free] = x
    return point


def shoot(problem: Problem | Trials, statement: Statement, pieces: Any, sigma: Any = None) -> Problem | Trials:
    """The problem, or trials, with values found by multiple shooting; raises what the solver raises at the start."""
    loss = Loss(statement.coordinates(problem), statement, by_residuals=True)
    if sigma is not None:
        loss.sigma = sigma
    with one_blas_thread:  # two threads spin against each other over matrices as small as these
        return loss.coordinates.problem(Shooting(loss, pieces).solve())


def _edges(problem: Problem, pieces: Any) -> Array:
    """Where the pieces begin and end, t0 and t1 included: at observations, unless times are given."""
    t0, t1 = problem.t_span
    allowed = "True, a number of pieces from 2 on, or increasing times inside t_span"
    if not isinstance(pieces, bool) and not is_whole(pieces):
        inner = np.atleast_1d(real_array("shooting", pieces, allowed))
        if inner.ndim != 1 or not len(inner) or (np.diff(inner) <= 0).any() or inner[0] <= t0 or inner[-1] >= t1:
            raise UsageError("shooting", given=pieces, allowed=allowed)
        return np.concatenate([[t0], inner, [t1]])
    if not isinstance(pieces, bool) and pieces < 2:
        raise UsageError("shooting", given=pieces, allowed=allowed)
    inner = np.unique(problem.observed)
    inner = inner[(inner > t0) & (inner < t1)]
    count = min(PIECES if isinstance(pieces, bool) else int(pieces), len(inner) + 1)
    chosen = np.unique(np.round(np.linspace(-1, len(inner), count + 1)).astype(int)[1:-1])
    return np.concatenate([[t0], inner[chosen], [t1]])


def _first_nodes(problem: Any, data: Any, edges: Array, settings: Any) -> Array:
    """States at the nodes (M − 1, n): observed ones from the data, the others from the solution that follows these."""
    objective = problem.objective
    seen: dict[int, tuple[Array, Array]] = {}
    if objective.readout is None:
        states = range(objective.n) if objective.selection is None else objective.selection
        for j, state in enumerate(states):
            mine = data.j == j
            if mine.any():
                seen[state] = problem.observed[data.k[mine]], data.y[mine]
    bare, r = problem.replace(objective=None), problem.r0.copy()
    nodes = np.empty((len(edges) - 2, objective.n))
    unseen = len(seen) < objective.n
    for j, (a, b) in enumerate(zip(edges[:-2], edges[1:-1], strict=True)):
        if unseen:
            try:
                run = simulate(
                    bare.replace(t_span=(a, b), r0=r),
                    save_at=[b],
                    solver=settings.solver,
                    rtol=1e-6,
                    atol=1e-8,
                    dt=settings.dt,
                )
                r = run.r[-1].copy()
            except SolverError:
                r = r.copy()
        for state, (t, y) in seen.items():
            r[state] = np.interp(b, t, y)
        nodes[j] = r
    return nodes
