"""Gradients of runs that rest in a stiff field: steps grow until hJ is in the thousands, and λ leaves float64 in them.

At rest dr/dw(T) = ∫_0^T e^(Jt) dt F_w, by the exponential of [J F_w; 0 0] T.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.linalg import expm

import ctrnn
from ctrnn import Equations

HINDMARSH_ROSE = Equations(
    {"x": "y - a*x**3 + b*x**2 - z + I", "y": "c - d*x**2 - y", "z": "r*(s*(x - x1) - z)"},
    {"a": 1.0, "b": 3.0, "c": 1.0, "d": 5.0, "r": 0.006, "s": 4.0, "x1": -1.6, "I": -3.0},
)
OREGONATOR = Equations(
    {"x": "(q*y - x*y + x*(1 - x))/e1", "y": "(-q*y - x*y + f*z)/e2", "z": "x - z"},
    {"q": 8e-4, "e1": 0.04, "e2": 4e-4, "f": 0.3},
)


def exact(field, r, T):
    """dl/dw (m,) of l = ½‖r(T)‖²."""
    n = r.size
    rows = np.eye(n)
    J = np.array([field.vjp(0.0, r, e) for e in rows])
    F_w = np.array([field.parameter_vjp(0.0, r, e) for e in rows])
    A = np.zeros((n + F_w.shape[1],) * 2)
    A[:n, :n], A[:n, n:] = J, F_w
    return r @ expm(A * T)[:n, n:]


@pytest.mark.parametrize("rtol", [1e-8, 1e-4])
@pytest.mark.parametrize(
    ("field", "r0", "T", "solver"),
    [
        (HINDMARSH_ROSE, [-1.8, -15.0, 0.0], 200.0, "tsit5"),
        (HINDMARSH_ROSE, [-1.8, -15.0, 0.0], 1000.0, "dopri5"),
        (HINDMARSH_ROSE, [-1.8, -15.0, 0.0], 400.0, "dop853"),
        (HINDMARSH_ROSE, [-1.8, -15.0, 0.0], 100.0, "bs3"),
        (HINDMARSH_ROSE, [-1.8, -15.0, 0.0], 400.0, "kvaerno5"),
        (OREGONATOR, [0.7, 0.4, 0.7], 10.0, "tsit5"),
    ],
)
def test_at_rest_in_a_stiff_field(field, r0, T, solver, rtol):
    r = ctrnn.find_equilibrium(field, r0).r
    objective = ctrnn.Objective(target=np.zeros((1, 3)), at=[T])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ctrnn.gradient(ctrnn.Problem(field, r, (0.0, T), objective=objective), solver=solver, rtol=rtol)
    expected = exact(field, r, T)
    assert np.linalg.norm(found.vector - expected) < 100 * rtol * np.linalg.norm(expected)


def test_an_unstable_step_is_made_stable_first():
    """Not by the order of its error, which took 14,000 steps where 1,000 do."""
    r = ctrnn.find_equilibrium(HINDMARSH_ROSE, [-1.8, -15.0, 0.0]).r
    objective = ctrnn.Objective(target=np.zeros((1, 3)), at=[100.0])
    found = ctrnn.gradient(ctrnn.Problem(HINDMARSH_ROSE, r, (0.0, 100.0), objective=objective), method="adjoint")
    assert found.stats.steps < 3000
