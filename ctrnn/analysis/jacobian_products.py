r"""Why gradients vanish or explode: the products of Jacobians along a run, with all their singular values.

    J_t = ∂r_{t+1}/∂r_t                      one step, or interval, of the run; of Euler's step I + dt ∂F/∂r
    ∂l/∂r_t = ∂l/∂r_T · J_{T−1} … J_t        so ‖∂l/∂r_t‖ ≤ ‖∂l/∂r_T‖ σ_1(J_{T−1} … J_t)

    vanishing   max_t σ_1(J_t) = γ < 1       is enough: the product is at most γ^(T−t)
    exploding   max_t σ_1(J_t) > 1           is needed, and not enough

(Pascanu, Mikolov & Bengio 2013.) These are conditions on singular values: a spectral radius below one is not enough for
the first, as J_t of non-normal weights first amplify, and above one not enough for the second.

A product of hundreds of matrices leaves the range of numbers, and its small singular values drown in the rounding of
the large ones. So it is kept as Q D U, with D diagonal, its logarithms alone stored, and U well conditioned:

    J Q = Q′ R (columns in the order of their length times D),   D′ = |diag R| D,   U′ = D′⁻¹ R D U

and its singular values are those of D U, by the one-sided Jacobi method, which takes each of a graded matrix to its own
relative accuracy.

Sources: Pascanu, Mikolov and Bengio, ICML 2013; Bai, Lee, Li and Xu, "Stable solutions of linear systems involving long
chain of matrix multiplications", Linear Algebra Appl. 435 (2011); Drmač and Veselić, SIAM J. Matrix Anal. 29 (2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.continuous.frame import Frame
from ctrnn.memory import claim
from ctrnn.numbers import positive, real_array, whole
from ctrnn.problem import Problem, Settings, checked_problem
from ctrnn.threads import one_blas_thread

__all__ = ["JacobianProducts", "jacobian_products"]

#: a part of D below the largest by more than this, as a logarithm, is beyond the range of numbers
RANGE = 600.0
#: products that are looked at, when none are named
LOOKS = 200


@dataclass(frozen=True, eq=False, repr=False)
class JacobianProducts:
    """The products J_{T−1} … J_t of a run, from the last step back.

    Attributes
    ----------
    t : ndarray (L,)
        Where each product begins, the latest first; all end at ``t_end``.
    log_singular_values : ndarray (L, n)
        Natural logarithms of the singular values of each, the largest first.
    jacobians : ndarray (K, n, n)
        J of each step, in the order of time.
    times : ndarray (K + 1,)
        The ends of the steps.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(2).with_parameters(W=[[0.5, 0.0], [0.0, 0.25]])
    >>> found = jacobian_products(ctrnn.Problem(network, [0.0, 0.0], (0.0, 4.0)), dt=1.0)
    >>> np.exp(found.log_singular_values[-1]).round(9), found.vanishes
    (array([0.0625    , 0.00390625]), True)
    """

    t: Array
    log_singular_values: Array
    jacobians: Array
    times: Array

    @property
    def t_end(self) -> float:
        """Where all products end."""
        return float(self.times[-1])

    @property
    def log_norms(self) -> Array:
        """(L,) natural logarithms of the products' norms, their largest singular values."""
        return np.asarray(self.log_singular_values[:, 0])

    @property
    def step_norms(self) -> Array:
        """(K,) σ_1 of each J."""
        return np.asarray(np.linalg.norm(self.jacobians, 2, axis=(1, 2)))

    @property
    def bound(self) -> float:
        """γ, the largest norm of one step."""
        return float(self.step_norms.max())

    @property
    def vanishes(self) -> bool:
        """Whether γ < 1: the gradient then falls at least as γ^steps."""
        return self.bound < 1.0

    @property
    def rate(self) -> float:
        """Mean growth of the longest product's norm, per unit of t; a gradient vanishes where it is negative."""
        return float(self.log_norms[-1] / (self.t_end - self.t[-1]))

    @property
    def horizon(self) -> float:
        """−1/rate, the time in which a gradient falls by e; infinite where it does not."""
        return -1.0 / self.rate if self.rate < 0 else np.inf

    def __repr__(self) -> str:
        word = "vanish" if self.rate < 0 else "explode"
        certain = "; γ < 1: they must" if self.vanishes else ""
        return (
            f"products of {len(self.jacobians)} Jacobians from t = {self.times[0]:g} to {self.t_end:g}: on this run "
            f"gradients {word}, the norm by e^({self.rate:+.4g} per unit of t); largest norm of one step "
            f"{self.bound:.6g}{certain}"
        )


def jacobian_products(
    problem: Problem,
    dt: float | None = None,
    solver: str = "euler",
    times: Any = None,
    looks: int = LOOKS,
    rtol: float = 1e-8,
    atol: float = 1e-10,
) -> JacobianProducts:
    """Norms and singular values of the products of Jacobians along a run.

    Parameters
    ----------
    problem : Problem
        The run, over its t_span; its objective does not matter.
    dt : float, optional
        The step, in the unit of t: with Euler's a network's tau makes this the recurrent network of discrete time.
    solver : str, default "euler"
        As in ctrnn.simulate.
    times : (K + 1,) array_like, optional
        The ends of the intervals of which each J is one, from t0 to t1; None: every step. Adaptive solvers need them.
    looks : int
        Products that are decomposed, at most, evenly from one step to all.
    rtol, atol : float
        Of an adaptive solver.

    Returns
    -------
    JacobianProducts
        ``log_norms`` and ``log_singular_values`` of the products that end with the run, ``bound``, ``vanishes``.

    Raises
    ------
    UsageError
        For times that do not fit, or none where they are needed; and the errors of ctrnn.simulate.

    Notes
    -----
    Pascanu, Mikolov and Bengio (2013). 2n³ flops a step, 10n³ or so a look.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(20, gain=0.5, seed=0)
    >>> found = jacobian_products(ctrnn.Problem(network, np.zeros(20), (0.0, 50.0)), dt=1.0)
    >>> found.rate < 0, found.log_singular_values.shape
    (True, (50, 20))
    """
    problem = checked_problem(problem).replace(objective=None)
    settings = Settings(solver, rtol, atol, dt, 10_000_000)
    t0, t1 = problem.t_span
    if times is not None:
        ends = real_array("times", times)
        if ends.ndim != 1 or ends.size < 2 or (np.diff(ends) <= 0).any() or ends[0] != t0 or ends[-1] != t1:
            raise UsageError("times", given=times, allowed=f"increasing times from {t0:g} to {t1:g}")
    elif dt is None:
        raise UsageError("dt", given=None, allowed="a step, or times=(K + 1,) between which each Jacobian is taken")
    else:
        dt = positive("dt", dt)
        steps = np.ceil((t1 - t0) / dt * (1 - 1e-9))
        claim("dt", 8.0 * steps * (problem.field.n**2 + 1), "a larger dt, or times=")
        count = max(1, int(steps))
        ends = np.append(t0 + dt * np.arange(count), t1)
    looks = whole("looks", looks, 1)
    n = problem.field.n
    J = np.empty((len(ends) - 1, n, n))
    with one_blas_thread:
        frame = Frame(problem, n, settings, label="Jacobian products")
        for k, end in enumerate(ends[1:]):
            J[k] = frame.transition(float(end))
        lags = np.unique(np.linspace(1, len(J), min(looks, len(J))).round().astype(int))
        logs = _log_singular_values(J, lags)
    return JacobianProducts(ends[len(J) - lags], logs, J, ends)


def _log_singular_values(J: Array, lags: Array) -> Array:
    """Of J_{K−1} … J_{K−l} for each lag l."""
    from scipy.linalg import qr

    n = J.shape[1]
    # the transposed product J_{K−l}ᵀ … J_{K−1}ᵀ grows on its left
    Q, log_D, U = np.eye(n), np.zeros(n), np.eye(n)
    wanted, found = set(lags.tolist()), []
    tiny = np.finfo(float).tiny
    for lag in range(1, len(J) + 1):
        C = J[len(J) - lag].T @ Q
        # the columns in the order of their lengths, so that R is graded as D is
        size = np.log(np.maximum(np.linalg.norm(C, axis=0), tiny)) + log_D
        order = np.argsort(-size, kind="stable")
        # a scale of the columns leaves Q as it is, and R's columns have it
        Q, R = qr(C[:, order], mode="economic")
        log_D, scale = log_D[order], np.maximum(np.abs(np.diag(R)), tiny)
        U = (R / scale[:, None] * np.exp(np.minimum(log_D[None, :] - log_D[:, None], RANGE))) @ U[order]
        log_D = log_D + np.log(scale)
        if lag in wanted:
            found.append(_graded(log_D, U))
    return np.array(found)


def _graded(log_D: Array, U: Array) -> Array:
    """log σ_i of D U, descending."""
    from scipy.linalg.lapack import dgejsv

    top = float(log_D.max())
    inside = log_D - top > -RANGE
    A = np.exp(np.maximum(log_D - top, -RANGE))[:, None] * U
    # dgejsv gives relative accuracy for columns of any scale: the rows are its columns
    σ, _, _, work, _, info = dgejsv(A.T.copy(), joba=0, jobu=3, jobv=3, jobr=0, jobt=0, jobp=0)
    if info != 0:
        σ, work = np.linalg.svd(A, compute_uv=False), np.ones(2)
    with np.errstate(divide="ignore"):
        logs = np.log(σ * (work[0] / work[1] if work[1] else 1.0)) + top
    logs = np.sort(logs)[::-1]
    # what lies beyond the range of numbers: D itself, right but for a factor that does not grow
    outside = np.sort(log_D[~inside])[::-1]
    if outside.size:
        logs[logs.size - outside.size :] = outside
    return logs
