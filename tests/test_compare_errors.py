"""compare_gradients: agreement on the same steps beside the error against the ODE's own; losses along the way."""

from __future__ import annotations

import time
import warnings

import numpy as np
import pytest

import ctrnn
from ctrnn import Equations, Objective, Problem, compare_gradients, gradient
from ctrnn.errors import ZeroGradientWarning

LEAK = Problem(
    Equations({"r": "-k*r + I"}, {"k": 1.0, "I": 1.0}), [1.0], (0.0, 10.0), objective=Objective("r", at=[10.0])
)
#: dl/dk = −(1 − e^−10), dl/dI = 1 − e^−10, dl/dr0 = e^−10
EXACT = np.array([-1.0, 1.0, 0.0]) + np.exp(-10.0) * np.array([1.0, -1.0, 1.0])


def bump(end):
    """l = ∫ relu(a − 12)² dt, a = k (5t − t²/2): dl/dk = 16.5333…, from |t − 5| < 1 alone."""
    field = Equations({"a": "k*(5 - t)"}, {"k": 1.0})
    return Problem(field, [0.0], (0.0, end), objective=Objective("relu(a - 12)**2"))


@pytest.mark.parametrize("control", ["all", "state"])
@pytest.mark.parametrize("solver", ["tsit5", "kvaerno5", "bs3"])
def test_wrong_steps_show_in_the_error_and_not_in_the_agreement(solver, control):
    """At rest the steps of the state have a derivative, to 13 digits, that is none of the ODE."""
    table = compare_gradients(LEAK, ["adjoint", "rtrl"], solver=solver, rtol=1e-6, atol=1e-8, error_control=control)
    assert len(table) == 3 and "error" in repr(table) and table.route
    for row in table:
        g = np.append(row.gradient.vector, row.gradient.r0)
        off = np.linalg.norm(g - EXACT) / np.linalg.norm(EXACT)
        assert row.error == pytest.approx(off, rel=0.1)
        assert row.is_reference or row.digits > 12
    assert (table["adjoint, discrete"].error > 1e-3) == (control == "state")


def test_trials_and_fixed_steps_have_errors_too():
    trials = Problem(LEAK.field, [[1.0], [2.0]], (0.0, 10.0), objective=Objective("r", at=[10.0]))
    table = compare_gradients(trials, ["adjoint"])
    assert table["adjoint, discrete"].error < 1e-6
    coarse = compare_gradients(LEAK, ["adjoint"], solver="euler", dt=0.5)
    assert coarse["adjoint, discrete"].error > 1e-5 and coarse["adjoint, discrete"].digits > 12


def test_the_reference_is_the_cheapest():
    """The complex step, all directions at a time, for few; torch's autograd for many."""
    assert compare_gradients(LEAK, ["adjoint"]).reference == "complex step"
    network = ctrnn.RateNetwork(16, seed=1)
    problem = Problem(network, np.ones(16), (0.0, 5.0), objective=Objective(target=np.zeros((1, 16)), at=[5.0]))
    began = time.perf_counter()
    table = compare_gradients(problem, ["adjoint"], rtol=1e-6)
    assert table.reference == "torch autograd" and table["adjoint, discrete"].digits > 12
    assert time.perf_counter() - began < 20.0  # half a minute by the complex step


@pytest.mark.parametrize("end", [10.0, 40.0])
@pytest.mark.parametrize("method", ["adjoint", "rtrl", "adjoint-interpolate", "rtrl-continuous"])
def test_a_loss_along_the_way_is_not_stepped_over(method, end):
    g = gradient(bump(end), method)
    assert g.vector[0] == pytest.approx(2 * (12.5 - 13 / 3 + 0.1), rel=3e-6)


def test_a_prepared_function_warns_of_a_gradient_that_is_zero():
    dead = Problem(LEAK.field, [1.0], (0.0, 1.0), objective=Objective("relu(r - 5) + 1", at=[1.0]))
    f = ctrnn.value_and_gradient(dead)
    with pytest.warns(ZeroGradientWarning):
        f()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ctrnn.value_and_gradient(LEAK)()


def test_on_a_device_with_rates_that_depend_on_no_state():
    problem = Problem(
        Equations({"a": "k*(5 - t)"}, {"k": 1.0}), [0.0], (0.0, 10.0), objective=Objective("a**2", at=[3.0, 10.0])
    )
    how = {"solver": "rk4", "dt": 0.1}
    for method in (ctrnn.Adjoint(device="cpu"), ctrnn.RTRL(device="cpu")):
        np.testing.assert_allclose(gradient(problem, method, **how).vector, gradient(problem, "adjoint", **how).vector)
