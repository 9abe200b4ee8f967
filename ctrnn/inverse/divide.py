"""a A⁻¹ by a method: the plan, the run with its measurements, and the verdict."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any

import numpy as np

from ctrnn.errors import ConvergenceError, UnknownNameError, UsageError
from ctrnn.inverse.matrix import System
from ctrnn.inverse.methods import (
    Chebyshev,
    Flow,
    GradientFlow,
    Hyperpower,
    Neumann,
    NewtonSchulz,
    Richardson,
)
from ctrnn.inverse.plan import FLOAT64, HINT, Plan
from ctrnn.inverse.references import GMRES, LU
from ctrnn.inverse.result import (
    Inverse,
    observed_inverse_norm,
    residual_rounding,
    rounding_level,
    worst_residual,
)
from ctrnn.numbers import flag, number, whole
from ctrnn.threads import one_blas_thread

_ALL: tuple[Any, ...] = (Flow, Richardson, Chebyshev, GradientFlow, NewtonSchulz, Hyperpower, Neumann, LU, GMRES)
METHODS = tuple(method.name for method in _ALL)
SMALL = 10**7  # multiplications of a product that gains nothing from a second thread
BLIND = 4  # iterations from residual to residual where no length is predicted
BLOCKS = 100  # residuals recorded in a run of the predicted length
DIVERGED = 1e8  # growth of the residual at which an iteration that nothing guarantees is given up


def right_divide(
    a: Any,
    A: Any,
    method: Any = "flow",
    *,
    tol: float = 1e-15,
    max_iterations: int = 100_000,
    step: float | str | None = None,
    raise_on_failure: bool = True,
) -> Inverse:
    """The product a A⁻¹ of rows with an inverse, by an iteration without divisions.

    Parameters
    ----------
    a : array_like, (n,) or (q, n), or None
        A row, a stack of rows, or None for the identity: then the result is A⁻¹.
    A : array_like (n, n), sparse matrix, callable, Product or LinearOperator
        A callable is the product V ↦ VA of rows shaped as ``a`` is; a `Product` has V ↦ VAᵀ too.
    method : str or method object, default "flow"
        A name stands for the object with its defaults:

        ================  ======================  =================  ===============================
        name              object                  A                  iterations
        ================  ======================  =================  ===============================
        "flow"            Flow(solver, step)      Hurwitz            ∝ κ, of one product
        "richardson"      Richardson(step)        A or −A Hurwitz    ∝ κ
        "chebyshev"       Chebyshev(interval)     A or −A Hurwitz    ∝ √κ
        "gradient-flow"   GradientFlow(step)      nonsingular        ∝ κ², of two products
        "newton-schulz"   NewtonSchulz()          nonsingular        2 log₂κ + 5, of two n³ products
        "hyperpower"      Hyperpower(order=3)     nonsingular        2 log_p κ + …, of p n³ products
        "neumann"         Neumann(K=20, step)     A or −A Hurwitz    K, then truncated
        "gmres"           GMRES(restart)          nonsingular        at most n; divides
        "lu"              LU()                    nonsingular        the reference; divides
        ================  ======================  =================  ===============================

        κ is the condition number. The counts hold for a normal A.
    tol : float, default 1e-15
        The relative residual ‖VA − a‖/‖a‖ (2-norm, worst row) to reach. The default asks for all that float64 gives.
    max_iterations : int, default 100_000
        More than so many are refused before they are spent.
    step : float or str, optional
        Of "flow" and "richardson" given by name: as in ``Flow(step=step)``.
    raise_on_failure : bool, default True
        False returns the last V of an iteration that does not converge, with ``converged=False``.

    Returns
    -------
    Inverse
        The value with its residuals, an error bound, and the condition that guaranteed it.

    Raises
    ------
    UsageError
        For wrong shapes, NaN, or a step outside its bound.
    UnknownNameError
        For a method that does not exist.
    NotHurwitzError
        Where the method asks for stability; it carries the spectral abscissa.
    SingularJacobianError
        For a singular A.
    NotFiniteError
        For a product V ↦ VA that returns NaN.
    ConvergenceError
        Where more than ``max_iterations`` would be needed, or the residual grows.

    Notes
    -----
    Where float64 cannot reach ``tol``, as ‖V‖‖A‖ is much larger than ‖a‖, the iteration ends when the residual is at
    the level of rounding and no longer improves; ``error_bound`` says what V is worth. Of a callable, and of a sparse
    matrix beyond 512 rows, the spectrum and ‖A⁻¹‖ are estimated from some 40 products (``estimated`` is then True), or
    asked for: ``Flow(step=…)``, ``Chebyshev(interval=…)``. The formulas and their sources are in `ctrnn.inverse` and
    `ctrnn.inverse.iterations`.

    Examples
    --------
    >>> A = np.array([[-2.0, 1.0], [0.0, -1.0]])
    >>> result = right_divide([1.0, 0.0], A)
    >>> np.round(result.value, 12)
    array([-0.5, -0.5])
    >>> result.converged, result.error_bound < 1e-14
    (True, True)
    >>> right_divide([1.0, 0.0], lambda V: V @ A, "gmres").value.round(12)
    array([-0.5, -0.5])
    """
    chosen = _method(method, step)
    if not 0 < number("tol", tol) < 1:
        raise UsageError("tol", given=tol, allowed="a relative residual between 0 and 1")
    raise_on_failure = flag("raise_on_failure", raise_on_failure)
    whole("max_iterations", max_iterations, 1)
    system = System(a, A)
    if isinstance(chosen, (LU, GMRES)):
        solved = chosen.solve(system, tol, max_iterations)
        V, history, condition = solved.V, solved.history, solved.condition
        inverse_norm, estimated, truncated = solved.inverse_norm, solved.estimated, False
    else:
        plan = chosen.plan(system, tol)
        condition, estimated, truncated = plan.condition, plan.estimated, plan.steps is not None
        if raise_on_failure and not truncated:
            _refuse_what_takes_too_long(chosen.name, plan, tol, max_iterations)
        small = len(system.a) * system.n**2 < SMALL
        with one_blas_thread if small else nullcontext():
            V, history = _run(plan, system, tol, max_iterations)
        inverse_norm = plan.inverse_norm
    iterations, residual = (np.array(column) for column in zip(*history, strict=True))
    if math.isnan(inverse_norm):
        assert condition.step is not None
        inverse_norm = observed_inverse_norm(iterations, residual, condition.step)
    converged = bool(residual[-1] <= max(tol, rounding_level(V, system)))
    if not converged and raise_on_failure and not truncated:
        raise ConvergenceError(_failure(chosen.name, iterations, residual, tol, condition))
    R = np.linalg.norm(V @ system.A - system.a, axis=1)  # measured, not carried along
    error_bound = inverse_norm * (R + residual_rounding(V, system))
    return Inverse(
        value=V[0] if system.is_row else V,
        residual=residual,
        residual_at=iterations,
        iterations=int(iterations[-1]),
        converged=converged,
        error_bound=float(error_bound[0]) if system.is_row else error_bound,
        condition=condition,
        method=chosen.name,
        estimated=estimated,
    )


def _method(method: Any, step: Any) -> Any:
    if isinstance(method, str):
        if method not in METHODS:
            hint = "ctrnn.inverse.zhang(A, t_span), for an A that moves" if method == "zhang" else ""
            raise UnknownNameError("method", method, METHODS, hint)
        kind = _ALL[METHODS.index(method)]
        if step is None:
            return kind()
        if kind in (Flow, Richardson):
            return kind(step=step)
    elif isinstance(method, _ALL):
        if step is None:
            return method
    else:
        raise UsageError(
            "method", given=method, allowed=f"a name ({', '.join(METHODS)}) or a method object, Flow(step=0.1)"
        )
    raise UsageError("step", given=step, allowed='None, but with method="flow" or "richardson"')


def _refuse_what_takes_too_long(name: str, plan: Plan, tol: float, max_iterations: int) -> None:
    needed = plan.condition.predicted
    if needed is None or needed <= max_iterations * (4 if plan.estimated else 1):
        return
    better = "newton-schulz, gmres or lu" if name != "newton-schulz" else "gmres or lu"
    raise ConvergenceError(
        f"the {name} would need about {needed:.4g} iterations to reach "
        f"{tol:.3g}, and max_iterations is {max_iterations} ({plan.condition}). "
        f"Try: a larger max_iterations or tol, or the method {better}"
    )


def _run(plan: Plan, system: System, tol: float, max_iterations: int) -> tuple[np.ndarray, list[tuple[int, float]]]:
    """Blocks of iterations until the residual is at tol or stays at rounding, or exactly plan.steps."""
    expected = plan.condition.predicted or BLOCKS * BLIND
    stride = 1 if plan.steps else max(1, min(expected, max_iterations) // BLOCKS)
    certified = not plan.estimated
    history: list[tuple[int, float]] = []
    with np.errstate(over="ignore", invalid="ignore"):
        for block, (ahead, R) in enumerate(plan.iterates(stride, FLOAT64)):
            done = block * stride
            residual = worst_residual(R, system.a)
            if not math.isfinite(residual):
                break  # so far from normal that the eigenvalues do not tell the step, or nothing did: keep the last V
            V = ahead
            history.append((done, residual))
            if plan.steps is not None:
                if done == plan.steps:
                    break
                continue
            stays = block > 0 and residual <= rounding_level(V, system) and residual > 0.9 * history[-2][1]
            grows = not certified and residual > DIVERGED
            if residual <= tol or stays or grows or done + stride > max_iterations:
                break
    return V, history


def _failure(name: str, iterations: np.ndarray, residual: np.ndarray, tol: float, condition: Any) -> str:
    text = (
        f"{name}: residual {residual[-1]:.3g} after {iterations[-1]} iterations, smallest "
        f"{residual.min():.3g}, asked {tol:.3g} ({condition}). "
    )
    if condition.known_by in ("products", "norms") and residual[-1] > 10.0:
        growth = (residual[-1] / residual[0]) ** (1.0 / max(int(iterations[-1]), 1))
        return text + (
            f"The residual grows, by {growth:.4g} an iteration: A is not Hurwitz, or the step is above min 2|Re "
            "λ|/|λ|². "
            f"Try: a smaller step, or {HINT}"
        )
    if name == "gmres":
        return (
            text + "GMRES stands still where A is near singular or restart is too small. Try: a larger restart, or lu"
        )
    return text + (
        "A strongly non-normal A makes the residual grow before it shrinks. Try: a larger max_iterations, or " + HINT
    )
