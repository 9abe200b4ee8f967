"""The flow dV/dt = VA − a relaxed to rest by any solver of `ctrnn.solvers`.

Explicit tableaus take a fixed step from the spectrum; a step multiplies the residual by p(hA), p the stability
polynomial. All other solvers choose their own steps: in rounds, each relaxes the correction D of what is left,

    dD/dt = DA + R,  R = (VA − a)/‖VA − a‖,  over T = 7/|max Re λ|,        V ← V + ‖VA − a‖ D

so that a round leaves about e⁻⁷ of the residual, and the solver's tolerance is relative to what is left. The flow is a
linear `RateNetwork`: τ dD/dt = −D + (I + τAᵀ)D + τR.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.networks.rate import RateNetwork
from ctrnn.inverse import iterations, spectrum
from ctrnn.inverse.matrix import System
from ctrnn.inverse.plan import Plan, check_regular, condition_number, side_of_axis, source_of
from ctrnn.inverse.result import Condition, predicted
from ctrnn.problem import Problem
from ctrnn.solvers import tableaus
from ctrnn.solvers.simulate import simulate

FOLDS = 7.0  # e-foldings of the slowest mode in a round
RTOL = 1e-7


def solver_plan(system: System, tol: float, solver: str, step: float | str) -> Plan:
    """The plan of `Flow` with a solver other than Euler's."""
    check_regular(system)
    λ = system.eigenvalues
    side_of_axis(system, λ, (1.0,))
    abscissa = float(λ.real.max())
    source = source_of(system)
    outside = ":" in solver or solver == "auto"
    tableau = None if outside else tableaus.get(solver)
    if tableau is not None and tableau.exponential:
        raise UsageError(
            "solver", given=solver, allowed="a solver whose steps are of dV/dt = VA − a itself", hint="euler"
        )
    if tableau is not None and np.triu(tableau.a).any() is np.False_:
        s = tableau.stages
        a, b = tableau.a[:s, :s], tableau.b[:s]
        p = spectrum.stability_polynomial(a, b)
        best, bound = spectrum.runge_kutta_step(λ, p)
        h = best * (1.0 if system.dense is not None else 0.9) if step == "spectrum" else float(step)
        gap = 1.0 - float(np.abs(np.polynomial.polynomial.polyval(h * λ, p)).max())
        if not (0 < h < bound and gap > 0):
            raise UsageError("step", given=h, allowed=f"above 0 and below {bound:.6g}, where max |p(hλ)| is one")
        condition = Condition(
            condition_number(system), abscissa, h, bound, 1.0 - gap, predicted(gap, tol), known_by=source
        )
        ha, hb = (h * a).tolist(), (h * b).tolist()
        return Plan(
            condition,
            lambda stride, kind: iterations.runge_kutta(kind.array(system.a), kind.matrix(system.A), ha, hb, stride),
            system.inverse_norm,
            estimated=system.dense is None,
        )
    if step != "spectrum":
        raise UsageError("step", given=step, allowed=f'"spectrum": {solver} chooses its own steps')
    A = system.matrix()
    gap = -float(np.expm1(-FOLDS))
    condition = Condition(
        condition_number(system), abscissa, contraction=1.0 - gap, predicted=predicted(gap, tol), known_by=source
    )
    return Plan(
        condition,
        lambda stride, kind: _rounds(system.a, A, solver, FOLDS / -abscissa, stride),
        system.inverse_norm,
        estimated=system.dense is None,
    )


def _rounds(
    a: np.ndarray, A: np.ndarray, solver: str, T: float, stride: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    n = len(A)
    tau = 1.0 / float(np.linalg.norm(A, 2))
    network = RateNetwork(n, activation="linear", tau=tau, gain=0.0).with_parameters(W=np.eye(n) + tau * A.T)
    atol = 1e-3 * RTOL / float(np.linalg.norm(A, 2))
    V = np.zeros_like(a)
    while True:
        R = V @ A - a
        yield V, R
        for _ in range(stride):
            V = V.copy()
            for k, size in enumerate(np.linalg.norm(R, axis=1)):
                if size > 0:
                    problem = Problem(network.with_parameters(b=tau * R[k] / size), np.zeros(n), (0.0, T))
                    V[k] += size * simulate(problem, solver, rtol=RTOL, atol=atol, save_at=[T]).r[-1]
            R = V @ A - a
