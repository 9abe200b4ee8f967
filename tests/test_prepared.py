"""ctrnn.value_and_gradient: the numbers of ctrnn.gradient, made ready once."""

from __future__ import annotations

import numpy as np
import pytest
from scenarios import lotka_volterra

import ctrnn
from ctrnn.errors import UnknownNameError, UsageError

OBJECTIVE = ctrnn.Objective(target=[[2.0, 1.0], [3.0, 2.0]], at=[1.0, 4.0])
W = [0.5, 0.03, 0.7, 0.03]


def network():
    field = ctrnn.RateNetwork(6, inputs=1, gain=1.2, seed=0)
    objective = ctrnn.Objective(target=0.2, at=[0.5, 1.0])
    return ctrnn.Problem(field, np.full(6, 0.1), (0.0, 1.0), x=0.3, objective=objective)


@pytest.mark.parametrize("how", [{}, {"solver": "rk4", "dt": 0.1}, {"solver": "kvaerno5"}], ids=str)
@pytest.mark.parametrize("method", ["adjoint", "rtrl", "auto", "adjoint-checkpoint", "adjoint-interpolate"])
def test_the_numbers_are_those_of_gradient_to_the_bit(method, how):
    problem = lotka_volterra(OBJECTIVE)
    if method == "adjoint-interpolate" and how.get("solver") == "kvaerno5":
        pytest.skip("an ODE backwards, by explicit solvers")
    f = ctrnn.value_and_gradient(problem, method=method, **how)
    for w in (None, W, problem.field.vector, W):
        field = problem.field if w is None else problem.field.with_vector(w)
        expected = ctrnn.gradient(problem.replace(field=field), method, **how)
        loss, g = f(w)
        assert loss == expected.loss
        flat = g if w is not None else np.concatenate([v.ravel() for v in g.values()])
        assert np.array_equal(flat, expected.vector)


def test_by_name_r0_and_x():
    problem = network()
    f = ctrnn.value_and_gradient(problem, "adjoint", solver="rk4", dt=0.05)
    b, r0 = np.linspace(-1, 1, 6), np.linspace(0, 1, 6)
    expected = ctrnn.gradient(
        problem.replace(field=problem.field.with_parameters(b=b), r0=r0, x=0.7), "adjoint", solver="rk4", dt=0.05
    )
    loss, g = f({"b": b}, r0=r0, x=0.7)
    assert loss == expected.loss
    assert set(g) == {"W", "U", "b"}
    assert all(np.array_equal(g[name], expected.parameters[name]) for name in g)
    assert np.array_equal(f.gradient({"b": b}, r0=r0, x=0.7).r0, expected.r0)
    assert f()[0] == ctrnn.gradient(problem, "adjoint", solver="rk4", dt=0.05).loss  # nothing stays of a call


def test_scipy_takes_it_with_jac_true():
    from scipy.optimize import minimize

    t = np.linspace(0.5, 4.0, 8)
    truth = lotka_volterra(None)
    data = ctrnn.simulate(truth, save_at=t).r
    problem = lotka_volterra(ctrnn.Objective(target=data, at=t))
    f = ctrnn.value_and_gradient(problem, "adjoint")
    found = minimize(f, 1.05 * truth.field.vector, jac=True, method="BFGS", options={"gtol": 1e-9})
    assert np.allclose(found.x, truth.field.vector, rtol=1e-4)


def test_trials_and_events():
    field = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    trials = ctrnn.Problem(field, [[1.0], [2.0]], (0.0, 1.0), objective=ctrnn.Objective(target=0.0, at=[1.0]))
    loss, g = ctrnn.value_and_gradient(trials)([1.5])
    assert abs(loss - 2.5 * np.exp(-3.0)) < 1e-8
    assert abs(g[0] + 5.0 * np.exp(-3.0)) < 1e-7


def test_what_does_not_fit_is_said():
    f = ctrnn.value_and_gradient(lotka_volterra(OBJECTIVE))
    with pytest.raises(UsageError, match="w"):
        f([1.0])
    with pytest.raises(UsageError, match="w"):
        f([1.0, np.nan, 1.0, 1.0])
    with pytest.raises(UnknownNameError, match="parameter"):
        f({"kk": 1.0})
    with pytest.raises(UsageError, match="objective"):
        ctrnn.value_and_gradient(lotka_volterra(None))
