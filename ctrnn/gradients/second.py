"""Second derivatives of the loss, d²l/dw², exact for the steps that were taken.

The derivative along a direction (δw, δr0) of the discrete adjoint: tangents δr_i of the recorded stages forward, then the tangent of the
pullback backward (ctrnn.kernels.second has the formulas; ctrnn.curvature those of the loss). Forward over reverse: H v costs a few
gradients and the memory of one, and H itself is m such products on one record.

Gauss–Newton: from p = dr/dw of the same steps,

    Σ_k a_k (∂o/∂r p_k)ᵀ ℓ_oo (∂o/∂r p_k)        or        ∫ a (∂o/∂r p)ᵀ ℓ_oo (∂o/∂r p) dt by the steps' own quadrature

which is H but for ∂ℓ/∂r d²r/dw²: positive semi-definite where ℓ_oo is, equal to H where the residuals vanish (Schraudolph 2002).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np

from ctrnn.curvature import Curvature
from ctrnn.errors import SingularJacobianError
from ctrnn.fields.base import Array, checked_array
from ctrnn.gradients.discrete import DiscreteRun
from ctrnn.gradients.gradient import check_finite
from ctrnn.gradients.losses import Part
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.solvers.auto import chosen
from ctrnn.threads import one_blas_thread

#: bytes that the tangents of one block may take
BLOCK_BYTES = 64 * 2**20


class Linearization:
    """The steps of one run, with what every direction through them needs."""

    def __init__(self, problem: Problem, settings: Settings, caller: str) -> None:
        from ctrnn.kernels import abi
        from ctrnn.kernels.linalg import lapack_addresses

        checked_problem(problem)
        self.problem, self.objective = problem, problem.needs_objective(caller)
        self.n, self.m = problem.field.n, problem.field.m
        self.run = DiscreteRun(problem, settings, caller)
        self.bound = self.run.bound
        self.kernel = problem.field.second_kernel
        self.scratch = np.zeros(max(self.kernel.scratch, 1))
        self.ctx = np.concatenate([self.bound.system.ctx, np.array(self.kernel.extra, dtype=np.int64)])
        self.ctx[abi.SCRATCH] = self.scratch.ctypes.data
        self.lapack = lapack_addresses()
        self.blas = one_blas_thread if self.bound.kernel.blas else nullcontext()
        observed = problem.observed
        #: observations at t0, and the curvature of the loss there
        self.first = int((observed == problem.t_span[0]).sum())
        self.at_start = self._observed(np.tile(problem.r0, (self.first, 1)), 0)

    def _observed(self, r: Array, first: int) -> Curvature:
        here = slice(first, first + len(r))
        return Curvature(self.objective, r, self.objective.targets[here], self.objective.weights[here], np.ones(len(r)))

    def blocks(self, capacity: int | None = None) -> Iterator[tuple[Record, Part, Curvature, Array | None]]:
        """The record of each block, its part of the losses, their curvature and, for observations, the steps they follow."""
        self.run.losses.start()
        taken, nx = self.first, self.problem.field.input_size
        for record, part in self.run.blocks() if capacity is None else self.run.blocks(capacity):
            if self.objective.times is None:
                signals = record.stage_x[:, :, nx:].reshape(record.stage_t.size, -1)
                h = (record.h[:, None] * self.run.b).ravel()
                r = record.stage_r.reshape(-1, self.n)
                yield record, part, Curvature(self.objective, r, signals[:, :-1], signals[:, -1], h), None
                continue
            times = self.problem.observed[taken:]
            rows = np.searchsorted(record.t, times[times <= record.t[-1]])
            yield record, part, self._observed(record.r[rows], taken), rows
            taken += len(rows)

    def tangent(self, record: Record, dr: Array, dw: Array, stages: Array, ends: Array) -> None:
        """δr_i and δr⁺ of a block's steps into ``stages`` and ``ends``; ``dr`` goes from its start to its end."""
        from ctrnn.kernels import second

        run = self.run
        self._regular(
            second.tangent(
                self.bound.system, self.lapack, self.kernel.jvp, self.ctx, run.a, run.b, record.h, record.stage_t,
                record.stage_r, record.stage_x, dr, dw, stages, ends,
            )
        )  # fmt: skip

    def cotangents(self, record: Record, part: Part, lam: Array, K: Array) -> None:
        from ctrnn.kernels import second

        run = self.run
        self._regular(
            second.cotangents(
                self.bound.system, self.lapack, run.a, run.b, record.h, record.stage_t, record.stage_r, record.stage_x,
                part.jumps, part.sources, lam, K,
            )
        )  # fmt: skip

    def pullback_tangent(
        self, record: Record, jumps: Array, sources: Array, K: Array, stages: Array, dw: Array, lam: Array, G: Array
    ) -> None:
        from ctrnn.kernels import second

        run = self.run
        self._regular(
            second.pullback_tangent(
                self.bound.system, self.lapack, self.kernel.second, self.ctx, run.a, run.b, record.h, record.stage_t,
                record.stage_r, record.stage_x, jumps, sources, K, stages, dw, lam, np.empty_like(K), G,
            )
        )  # fmt: skip

    def _regular(self, solved: bool) -> None:
        self.bound.raise_pending()
        if not solved:
            raise SingularJacobianError(np.inf, "I − h a_ii J of an implicit stage", "a smaller step or tolerance")

    def direction(self, v: Array) -> tuple[Array, Array, Array]:
        """A direction (m + n + readout_size,) as δw in the kernel's layout, δr0 and the change of V and c."""
        parts = np.split(v, [self.m, self.m + self.n])
        return self.problem.field.kernel_direction(parts[0]), parts[1].copy(), parts[2]

    @property
    def size(self) -> int:
        """m + n + readout_size, the length of a direction."""
        return self.m + self.n + self.objective.readout_size


class HessianOperator:
    """v -> H v in all that the loss depends on: w (m,), then r0 (n,), then a trained read-out's V and c.

    One run forward and one backward, whose record serves every product.
    """

    def __init__(self, problem: Problem, settings: Settings, caller: str = "hessian_vector_product") -> None:
        self.lin = lin = Linearization(problem, settings, caller)
        with lin.blas:
            self.taken = list(lin.blocks())
            lam = np.zeros(lin.n)
            self.K = [np.empty(record.stage_r.shape) for record, *_ in self.taken]
            for (record, part, *_), K in zip(reversed(self.taken), reversed(self.K), strict=True):
                lin.cotangents(record, part, lam, K)

    @property
    def size(self) -> int:
        return self.lin.size

    def __call__(self, v: Array) -> Array:
        with self.lin.blas:
            return self._product(v)

    def _product(self, v: Array) -> Array:
        lin = self.lin
        dw, dr, do = lin.direction(v)
        start, g_o = lin.at_start.product(np.tile(dr, (lin.first, 1)), do)
        every = []
        for record, _, curvature, rows in self.taken:
            stages, ends = np.empty(record.stage_r.shape), np.empty(record.r.shape)
            lin.tangent(record, dr, dw, stages, ends)
            jumps: Array = np.empty((0, lin.n))
            sources: Array = np.empty((0, *stages.shape[1:]))
            if rows is None:
                turned, part = curvature.product(stages.reshape(-1, lin.n), do)
                sources = turned.reshape(stages.shape)
            else:
                turned, part = curvature.product(ends[rows], do)
                if len(rows):
                    jumps = np.zeros(ends.shape)
                    np.add.at(jumps, rows, turned)
            g_o = g_o + part
            every.append((stages, jumps, sources))
        lam = np.zeros(lin.n)
        G = np.zeros((lin.bound.kernel.groups, 1, lin.bound.kernel.columns))
        for (record, *_), K, (stages, jumps, sources) in zip(
            reversed(self.taken), reversed(self.K), reversed(every), strict=True
        ):
            lin.pullback_tangent(record, jumps, sources, K, stages, dw, lam, G)
        result = np.concatenate([lin.bound.rows(G)[0], lam + start.sum(axis=0), g_o])
        check_finite(result)
        return result

    def matrix(self, columns: Array) -> Array:
        """The rows and columns of H numbered ``columns``, from one product each."""
        H = np.empty((len(columns), len(columns)))
        for k, column in enumerate(columns):
            v = np.zeros(self.size)
            v[column] = 1.0
            H[:, k] = self(v)[columns]
        return H


def gauss_newton_matrix(problem: Problem, settings: Settings, columns: Array | None = None) -> Array:
    """The Gauss–Newton matrix of the entries ``columns`` of (w, r0, V and c); all without."""
    lin = Linearization(problem, settings, "gauss_newton")
    columns = np.arange(lin.size) if columns is None else columns
    directions = [lin.direction(v) for v in np.eye(lin.size)[columns]]
    k, n, s = len(columns), lin.n, lin.run.s
    integral = lin.objective.times is None
    dr = np.array([d[1] for d in directions]).reshape(k, n)
    do = np.array([d[2] for d in directions]).reshape(k, lin.objective.readout_size)
    total = lin.at_start.gauss_newton(np.repeat(dr[:, None], lin.first, axis=1), do)
    capacity = int(max(1, min(4096, BLOCK_BYTES // (8 * max(k, 1) * n * (s if integral else 1)))))
    with lin.blas:
        for record, _, curvature, rows in lin.blocks(capacity):
            stages, ends = np.empty(record.stage_r.shape), np.empty(record.r.shape)
            p = np.empty((k, stages.size // n if rows is None else len(rows), n))
            for j in range(k):
                lin.tangent(record, dr[j], directions[j][0], stages, ends)
                p[j] = stages.reshape(-1, n) if rows is None else ends[rows]
            total += curvature.gauss_newton(p, do)
    check_finite(total)
    return total


def hessian_vector_product(
    problem: Problem,
    v: Any,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
) -> Array:
    """H v, with H = d²l/dw² (m, m), without H: forward over reverse through the steps of the solver.

    v : (m,), in the order of field.parameter_names; with ``r0`` (m + n,), the initial state behind the parameters
    r0 : whether r0 counts among the parameters
    solver, rtol, atol, dt, max_steps, min_step : as in ctrnn.simulate; a solver of our own

    Returns (m,) or (m + n,). A trained read-out is held fixed. For many products at one point make a
    ctrnn.gradients.second.HessianOperator, which solves once.

    Raises UsageError for a wrong v or another library's solver, and the errors of ctrnn.gradient.

    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> problem = ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective)
    >>> H_v = hessian_vector_product(problem, [1.0])
    >>> bool(abs(H_v[0] - 2 * np.exp(-4.0)) < 1e-8)  # l = e^(-2k)/2
    True
    """
    settings = chosen(problem, Settings(solver, rtol, atol, dt, max_steps, min_step))
    operator = HessianOperator(problem, settings)
    size = problem.field.m + r0 * problem.field.n
    direction = np.zeros(operator.size)
    direction[:size] = checked_array("v", v, (size,))
    return operator(direction)[:size]


def hessian(
    problem: Problem,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
) -> Array:
    """H = d²l/dw² (m, m), columns and rows in the order of field.parameter_names; with ``r0`` (m + n, m + n), r0 behind them.

    One product forward over reverse for each column, on one record of the steps; symmetric to round-off, and then made so. A trained
    read-out is held fixed.

    Raises what hessian_vector_product raises.

    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> problem = ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective)
    >>> (hessian(problem, r0=True) * np.exp(4.0)).round(6)  # l = r0² e^(-2k)/2
    array([[ 2., -2.],
           [-2.,  1.]])
    """
    settings = chosen(problem, Settings(solver, rtol, atol, dt, max_steps, min_step))
    H = HessianOperator(problem, settings, "hessian").matrix(np.arange(problem.field.m + r0 * problem.field.n))
    return (H + H.T) / 2


def gauss_newton(
    problem: Problem,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
    max_steps: int = 1_000_000,
    min_step: float = 0.0,
) -> Array:
    """The Gauss–Newton matrix Σ_k a_k p_kᵀ ℓ_oo p_k (m, m) of the loss, p = do/dw; with ``r0`` (m + n, m + n).

    For the squared error it is JᵀJ of the weighted residuals, for the cross-entropy of a softmax the Fisher matrix, with ℓ_oo in terms of
    the logits. An expression or a callable enters with its own ℓ_oo, which need not be positive.

    Raises what hessian_vector_product raises.

    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> problem = ctrnn.Problem(decay, r0=[1.0], t_span=(0.0, 1.0), objective=objective)
    >>> bool(abs(gauss_newton(problem)[0, 0] - np.exp(-4.0)) < 1e-8)  # (dr/dk)²
    True
    """
    settings = chosen(problem, Settings(solver, rtol, atol, dt, max_steps, min_step))
    checked_problem(problem)
    M = gauss_newton_matrix(problem, settings, np.arange(problem.field.m + r0 * problem.field.n))
    return (M + M.T) / 2
