"""The residuals z(theta) of a fit and their Jacobian, from the sensitivities of the solution.

    z_kj = √a_kj z(o_j(t_k), y_kj)        ∂z/∂theta = ∂z/∂o (∂o/∂r ∂r/∂w + ∂o/∂w) dw/dtheta

∂r/∂w and ∂r/∂r0 are those of :func:`ctrnn.sensitivities`: their error is in the step test, so that they are derivatives
of the solution, and not only of the steps that were taken. With V and c of a read-out o = g(V r + c): ∂u_i/∂V_ij = r_j,
∂u_i/∂c_i = 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ctrnn.bound_objective import BoundObjective
from ctrnn.errors import UsageError
from ctrnn.gradients.sensitivity.sensitivities import sensitivities
from ctrnn.learning.noise import Noise
from ctrnn.learning.transforms import Coordinates
from ctrnn.memory import claim
from ctrnn.numbers import real_array
from ctrnn.problem import Problem, Trials
from ctrnn.solvers.simulate import simulate

Array = NDArray[np.float64]


class Data(NamedTuple):
    """What one trial compares: rows and columns of its outputs that count, their data, the roots of their weights."""

    k: NDArray[Any]
    j: NDArray[Any]
    y: Array
    root: Array


class Outputs(NamedTuple):
    """Outputs (N,) that have data, the data, the roots of their weights, their observable, and ∂o/∂theta (N, k)."""

    o: Array
    y: Array
    root: Array
    j: NDArray[Any]
    J: Array


def has_residuals(problem: Any) -> bool:
    """Whether the objective of a problem, or of each trial, is a squared error at observation times."""
    return all(
        one.objective is not None
        and one.objective.is_named
        and one.objective.objective.loss == "squared_error"
        and one.objective.times is not None
        and not one.events
        for one in (problem if isinstance(problem, Trials) else [problem])
    )


class Residuals:
    """z and ∂z/∂theta of what was observed, for problems that ``has_residuals``.

    sigma (p,), (K, p) or a number divides the residuals of a noise that has one; of trials, a list of them.
    """

    def __init__(self, coordinates: Coordinates, solver: dict[str, Any], noise: Noise) -> None:
        self.coordinates, self.solver, self.noise = coordinates, solver, noise
        problem = coordinates.problem(coordinates.start)
        trials = _trials(problem)
        self.data = [_data(one.objective) for one in trials]
        for data in self.data:
            noise.check(data.y)
        self.observables = max(one.objective.output_size for one in trials)
        #: observed values
        self.size = sum(len(data.y) for data in self.data)
        k, n = len(coordinates.columns), problem.field.n
        size = problem.field.m + problem.r0.size + trials[0].objective.readout_size
        column = np.full(size, -1)
        column[coordinates.columns] = np.arange(k)
        local = (
            problem.vector_indices(trials[0].objective.readout_size)
            if isinstance(problem, Trials)
            else [np.arange(size)]
        )
        #: of each trial, what of its own (w, r0, V and c) is fitted, and as which entry of theta
        self.fitted = [(np.flatnonzero(column[here] >= 0), column[here][column[here] >= 0]) for here in local]
        self._m, self._n = problem.field.m, n

    def outputs(self, theta: Array, jacobian: bool = True) -> Outputs:
        """The outputs that have data at theta; raises what the solver raises."""
        if jacobian:
            claim("optimizer", 16.0 * self.size * len(theta), "optimizer='L-BFGS-B', which makes no matrix")
        problem = self.coordinates.problem(theta)
        trials = _trials(problem)
        times = [np.unique(one.observed) for one in trials]
        asked: Any = times if isinstance(problem, Trials) else times[0]
        runs: Any = (
            sensitivities(problem, asked, **self.solver)
            if jacobian
            else simulate(problem, save_at=asked, **self.solver)
        )
        runs = runs if isinstance(problem, Trials) else [runs]
        k = len(theta)
        parts = []
        for one, run, t, data, fitted in zip(trials, runs, times, self.data, self.fitted, strict=True):
            rows = np.searchsorted(t, one.observed)
            o, u_r, readout = linearised(one.objective, run.r[rows])
            J = np.zeros((len(data.y), k if jacobian else 0))
            if jacobian:
                mine, entries = fitted
                whole = np.concatenate([run.p[rows], run.p0[rows]], axis=2)  # (K, n, m + n)
                inner = mine < self._m + self._n
                rows_of = np.einsum("kpn,kni->kpi", u_r, whole[:, :, mine[inner]])
                J[:, entries[inner]] = rows_of[data.k, data.j]
                if readout is not None:
                    J[:, entries[~inner]] = readout[data.k, data.j][:, mine[~inner] - self._m - self._n]
            parts.append((o[data.k, data.j], data.y, data.root, data.j, J))
        scale = self.coordinates.scale(theta) * self.coordinates.free
        o, y, root, j, J = (np.concatenate(v) for v in zip(*parts, strict=True))
        return Outputs(o, y, root, j, J * scale if jacobian else J)

    def __call__(self, theta: Array, sigma: Any = 1.0, jacobian: bool = True) -> tuple[Array, Array]:
        """z (N,) and ∂z/∂theta (N, k), without which it has no columns."""
        found = self.outputs(theta, jacobian)
        z, z_o = self.noise.residual(found.o, found.y)
        unit = found.root / self.spread(sigma)
        return unit * z, (unit * z_o)[:, None] * found.J

    def information(self, theta: Array, sigma: Any = 1.0) -> Array:
        """The expected information JᵀDJ (k, k) of the data about theta."""
        found = self.outputs(theta)
        weights = (found.root / self.spread(sigma)) ** 2 * self.noise.information(found.o, found.y)
        return found.J.T @ (weights[:, None] * found.J)

    def spread(self, sigma: Any) -> Array:
        """Sigma of each observed value (N,), from a number, (p,), (K, p), or a list with those of trials."""
        several = isinstance(sigma, list) and len(self.data) > 1 and len(sigma) == len(self.data)
        each = sigma if several else [sigma] * len(self.data)
        parts = []
        for value, data in zip(each, self.data, strict=True):
            shape = (int(data.k.max(initial=-1)) + 1, int(data.j.max(initial=-1)) + 1)
            array = real_array("sigma", value)
            if array.ndim == 2:
                allowed = f"a number, (p,) for p = {self.observables} observables, or (K, p)"
                if array.shape[0] < shape[0] or array.shape[1] < shape[1]:
                    raise UsageError("sigma", given=f"shape {array.shape}", allowed=allowed)
                parts.append(array[data.k, data.j])
            elif array.ndim == 1 and array.shape[0] == self.observables:
                parts.append(array[data.j])
            elif array.ndim == 0:
                parts.append(np.full(len(data.y), float(array)))
            else:
                allowed = f"a number, (p,) for p = {self.observables} observables, or (K, p)"
                raise UsageError("sigma", given=f"shape {array.shape}", allowed=allowed)
        spread = np.concatenate(parts)
        if not (np.isfinite(spread) & (spread > 0)).all():
            raise UsageError("sigma", given=sigma, allowed="positive numbers")
        return spread


def _trials(problem: Problem | Trials) -> list[Any]:
    return list(problem) if isinstance(problem, Trials) else [problem]


def _data(objective: BoundObjective) -> Data:
    """The entries of the target with a weight."""
    weights = objective.entry_weights
    k, j = np.nonzero(weights)
    return Data(k, j, objective.targets[k, j], np.sqrt(weights[k, j]))


def linearised(objective: BoundObjective, r: Array) -> tuple[Array, Array, Array | None]:
    """The outputs o (K, p), ∂o/∂r (K, p, n) and, with a read-out, ∂o/∂(V, c) (K, p, p n + p)."""
    K, n = r.shape
    readout, p = objective.readout, objective.output_size
    if readout is None:
        chosen = np.eye(n) if objective.selection is None else np.eye(n)[objective.selection]
        return objective.output(r), np.broadcast_to(chosen, (K, p, n)), None
    own = np.zeros((K, p, p * n + p))
    for i in range(p):
        own[:, i, i * n : (i + 1) * n] = r
        own[:, i, p * n + i] = 1.0
    o = readout(r)
    o_r = np.broadcast_to(np.asarray(readout.V), (K, p, n))
    if readout.activation == "softmax":
        own, o_r = (o[:, :, None] * (v - np.einsum("kp,kpi->ki", o, v)[:, None, :]) for v in (own, np.array(o_r)))
    return o, o_r, own
