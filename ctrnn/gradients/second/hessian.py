"""Second derivatives of the loss, d²l/dw², exact for the steps that were taken.

The derivative along a direction (δw, δr0) of the discrete adjoint: tangents δr_i of the recorded stages forward, then
the tangent of the pullback backward (ctrnn.kernels.second has the formulas; ctrnn.curvature those of the loss). Forward
over reverse: H v costs a few gradients and the memory of one, and H itself is m such products on one record.

Gauss–Newton: from p = dr/dw of the same steps,

    Σ_k a_k (∂o/∂r p_k)ᵀ ℓ_oo (∂o/∂r p_k)        or        ∫ a (∂o/∂r p)ᵀ ℓ_oo (∂o/∂r p) dt by the steps' own quadrature

which is H but for ∂ℓ/∂r d²r/dw²: positive semi-definite where ℓ_oo is, equal to H where the residuals vanish
(Schraudolph 2002).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.finite import check_finite
from ctrnn.gradients.second.tangents import Tangents
from ctrnn.gradients.second.trials import HessianOfTrials, matrix_of_trials
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, flag
from ctrnn.problem import Problem, Settings, Trials, checked_problem
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.solvers.noise import with_noise

#: bytes that the tangents of one block may take
BLOCK_BYTES = 64 * 2**20


class HessianOperator:
    """The products v ↦ H v in all that the loss depends on: w (m,), then r0 (n,), then a trained read-out's V and c.

    One run forward and one backward, whose record serves every product.
    """

    def __init__(self, problem: Problem, settings: Settings, caller: str = "hessian_vector_product") -> None:
        self.tangents = Tangents(problem, settings, caller)
        recording = self.tangents.recording
        with self.tangents.threads():
            self.at_start = self.tangents.losses.curvature_at_start()
            #: each block, the curvature of its losses and where they are, and the cotangents K̄ (C, s, n) of its stages
            self.taken = [(block, *self.tangents.curvature(block)) for block in recording.blocks()]
            K: list[Array] = []
            rows = recording.zero_rows()
            for block, *_ in reversed(self.taken):
                (pulled,) = recording.pull_rows(block, rows)
                K.append(pulled.K[..., 0].copy())
            self.K = K[::-1]

    @property
    def size(self) -> int:
        """The number of entries of v."""
        return self.tangents.size

    def __call__(self, v: Array) -> Array:
        """The product H v."""
        with self.tangents.threads():
            return self._product(v)

    def _product(self, v: Array) -> Array:
        tangents, n = self.tangents, self.tangents.n
        dw, dr, do = tangents.direction(v)
        start, g_o = self.at_start.product(np.tile(dr, (self.at_start.T, 1)), do)
        every = []
        for block, curvature, rows in self.taken:
            stages, ends = np.empty(block.record.stage_r.shape), np.empty(block.record.r.shape)
            tangents.tangent(block, dr, dw, stages, ends)
            jumps: Array = np.empty((0, n))
            sources: Array = np.empty((0, *stages.shape[1:]))
            if rows is None:
                turned, part = curvature.product(stages.reshape(-1, n), do)
                sources = turned.reshape(stages.shape)
            else:
                turned, part = curvature.product(ends[rows], do)
                if len(rows):
                    jumps = np.zeros(ends.shape)
                    np.add.at(jumps, rows, turned)
            g_o = g_o + part
            every.append((stages, jumps, sources))
        lam, G = np.zeros(n), tangents.recording.zero_parameters()
        for (block, *_), K, (stages, jumps, sources) in zip(
            reversed(self.taken), reversed(self.K), reversed(every), strict=True
        ):
            tangents.pull_back(block, jumps, sources, K, stages, dw, lam, G)
        result = np.concatenate([tangents.recording.vector(G), lam + start.sum(axis=0), g_o])
        check_finite(result)
        return result

    def matrix(self, columns: Array) -> Array:
        """The rows and columns of H numbered ``columns``, from one product each."""
        claim("hessian", 24.0 * len(columns) ** 2, "ctrnn.hessian_vector_product, which makes no matrix")
        H = np.empty((len(columns), len(columns)))
        for k, column in enumerate(columns):
            v = np.zeros(self.size)
            v[column] = 1.0
            H[:, k] = self(v)[columns]
        return H


def hessian_operator(problem: Problem | Trials, settings: Settings, caller: str) -> HessianOperator | HessianOfTrials:
    """The products v ↦ H v of a problem, or of the sum over trials, whose r0 is that of all of them (Trials.r0)."""
    problem = with_noise(problem, settings)
    if isinstance(problem, Trials):
        return HessianOfTrials(
            problem, lambda one: HessianOperator(one, resolve_auto_solver(one, settings), caller), caller
        )
    return HessianOperator(problem, resolve_auto_solver(problem, settings), caller)


def hessian_matrix(problem: Problem | Trials, settings: Settings, columns: Array, caller: str) -> Array:
    """The rows and columns of H numbered ``columns`` among (w, r0, V and c)."""
    problem = with_noise(problem, settings)
    if isinstance(problem, Trials):
        return matrix_of_trials(problem, columns, caller, lambda p, its: hessian_matrix(p, settings, its, caller))
    return HessianOperator(problem, resolve_auto_solver(problem, settings), caller).matrix(columns)


def gauss_newton_matrix(problem: Problem | Trials, settings: Settings, columns: Array | None = None) -> Array:
    """The Gauss–Newton matrix of the entries ``columns`` of (w, r0, V and c); all without."""
    problem = with_noise(problem, settings)
    if isinstance(problem, Trials):
        return matrix_of_trials(problem, columns, "gauss_newton", lambda p, its: gauss_newton_matrix(p, settings, its))
    tangents = Tangents(problem, resolve_auto_solver(problem, settings), "gauss_newton")
    columns = np.arange(tangents.size) if columns is None else columns
    claim("gauss_newton", 24.0 * len(columns) * tangents.size, "ctrnn.hessian_vector_product, which makes no matrix")
    directions = [tangents.direction(v) for v in np.eye(tangents.size)[columns]]
    k, n, s = len(columns), tangents.n, tangents.recording.s
    if k == 0:
        return np.empty((0, 0))
    integral = tangents.losses.objective.times is None
    dr = np.array([d.r0 for d in directions]).reshape(k, n)
    do = np.array([d.readout for d in directions]).reshape(k, tangents.losses.readout_size)
    capacity = int(max(1, min(4096, BLOCK_BYTES // (8 * max(k, 1) * n * (s if integral else 1)))))
    with tangents.threads():
        start = tangents.losses.curvature_at_start()
        total = start.gauss_newton(np.repeat(dr[:, None], start.T, axis=1), do)
        for block in tangents.recording.blocks(capacity):
            curvature, rows = tangents.curvature(block)
            stages, ends = np.empty(block.record.stage_r.shape), np.empty(block.record.r.shape)
            p = np.empty((k, stages.size // n if rows is None else len(rows), n))
            for j in range(k):
                tangents.tangent(block, dr[j], directions[j].w, stages, ends)
                p[j] = stages.reshape(-1, n) if rows is None else ends[rows]
            total += curvature.gauss_newton(p, do)
    check_finite(total)
    return total


def hessian_vector_product(
    problem: Problem | Trials,
    v: Any,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    error_control: str = "all",
) -> Array:
    """The product H v, with H = d²l/dw² (m, m), without H: forward over reverse through the steps of the solver.

    Parameters
    ----------
    problem : Problem or Trials
        With an objective; of trials, H of their sum, side by side.
    v : array_like
        (m,), in the order of ``field.parameter_names``; with ``r0`` (m + n,), the initial state behind the parameters;
        of trials that each have their own (m + B n,), trial after trial.
    r0 : bool, default False
        Whether r0 counts among the parameters.
    solver, rtol, atol, dt, max_steps, min_step
        As in `ctrnn.simulate`; a solver of our own.
    error_control : {"all", "state"}
        As in `ctrnn.gradient`.

    Returns
    -------
    ndarray, shaped as v
        H v. A trained read-out is held fixed.

    Raises
    ------
    UsageError
        For a wrong v or another library's solver; and the errors of `ctrnn.gradient`.

    Notes
    -----
    Exact for the steps taken. For many products at one point make a `ctrnn.gradients.second.hessian.HessianOperator`,
    which solves once. The formulas are in `ctrnn.kernels.second`.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> problem = ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective)
    >>> H_v = hessian_vector_product(problem, [1.0])
    >>> bool(abs(H_v[0] - 2 * np.exp(-4.0)) < 1e-8)  # l = e^(-2k)/2
    True
    """
    operator = hessian_operator(
        problem, Settings(solver, rtol, atol, dt, max_steps, min_step, error_control), "hessian_vector_product"
    )
    size = len(_columns(problem, r0))
    direction = np.zeros(operator.size)
    direction[:size] = checked_array("v", v, (size,))
    return operator(direction)[:size]


def hessian(
    problem: Problem | Trials,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    error_control: str = "all",
) -> Array:
    """The second derivative H = d²l/dw² (m, m) of the loss, exact for the steps taken.

    Parameters
    ----------
    problem : Problem or Trials
        With an objective; of trials, the sum over them.
    r0 : bool, default False
        Whether r0 counts among the parameters, behind them: (m + n, m + n); of trials (m + B n, m + B n), trial after
        trial, or (m + n, m + n) where they share one r0.
    solver, rtol, atol, dt, max_steps, min_step
        As in `ctrnn.simulate`; a solver of our own.
    error_control : {"all", "state"}
        As in `ctrnn.gradient`.

    Returns
    -------
    ndarray (m, m)
        Columns and rows in the order of ``field.parameter_names``.

    Raises
    ------
    UsageError
        As of `ctrnn.hessian_vector_product`.

    Notes
    -----
    One product forward over reverse for each column, on one record of the steps; symmetric to round-off, and then made
    so. A trained read-out is held fixed.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> problem = ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective)
    >>> (hessian(problem, r0=True) * np.exp(4.0)).round(6)  # l = r0² e^(-2k)/2
    array([[ 2., -2.],
           [-2.,  1.]])
    """
    settings = Settings(solver, rtol, atol, dt, max_steps, min_step, error_control)
    H = hessian_matrix(problem, settings, _columns(problem, r0), "hessian")
    return (H + H.T) / 2


def gauss_newton(
    problem: Problem | Trials,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
    error_control: str = "all",
) -> Array:
    """The Gauss–Newton matrix Σ_k a_k p_kᵀ ℓ_oo p_k (m, m) of the loss, p = do/dw.

    Parameters
    ----------
    problem : Problem or Trials
        With an objective; of trials, the sum over them.
    r0 : bool, default False
        Whether r0 counts among the parameters, as in `ctrnn.hessian`.
    solver, rtol, atol, dt, max_steps, min_step
        As in `ctrnn.simulate`; a solver of our own.
    error_control : {"all", "state"}
        As in `ctrnn.gradient`.

    Returns
    -------
    ndarray (m, m)
        As of `ctrnn.hessian`.

    Raises
    ------
    UsageError
        As of `ctrnn.hessian_vector_product`.

    Notes
    -----
    For the squared error it is JᵀJ of the weighted residuals, for the cross-entropy of a softmax the Fisher matrix,
    with ℓ_oo in terms of the logits. An expression or a callable enters with its own ℓ_oo, which need not be positive.
    Source: N. N. Schraudolph, Neural Computation 14 (2002).

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> problem = ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective)
    >>> bool(abs(gauss_newton(problem)[0, 0] - np.exp(-4.0)) < 1e-8)  # (dr/dk)²
    True
    """
    settings = Settings(solver, rtol, atol, dt, max_steps, min_step, error_control)
    M = gauss_newton_matrix(problem, settings, _columns(problem, r0))
    return (M + M.T) / 2


def _columns(problem: Problem | Trials, r0: bool) -> Array:
    """The numbers of w and, with ``r0``, of all initial states."""
    if not isinstance(problem, Trials):
        checked_problem(problem)
    return np.arange(problem.field.m + flag("r0", r0) * problem.r0.size)
