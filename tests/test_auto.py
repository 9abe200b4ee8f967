"""solver="auto" takes the explicit solver where it can, the implicit one where it must, and one of them for the whole
run.
"""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn
from ctrnn import Equations, Objective, Problem, gradient, simulate
from ctrnn.errors import UsageError

VAN_DER_POL = Equations({"x": "y", "y": "mu*(1 - x**2)*y - x"}, parameters={"mu": 1000.0})
DECAY = Equations({"r": "-k*r"}, parameters={"k": 2.0})


def test_a_stiff_problem_is_given_to_the_implicit_solver():
    """And reaches the published end point (Mazzia & Magherini, test set for IVP solvers)."""
    run = simulate(
        Problem(VAN_DER_POL, [2.0, 0.0], (0.0, 2000.0)), solver="auto", save_at=[2000.0], rtol=1e-9, atol=1e-11
    )
    assert run.stats.solver == "kvaerno5"
    np.testing.assert_allclose(run.r[-1], [1.706167732170469, -0.8928097010248125e-3], rtol=1e-6)


def test_any_other_problem_stays_explicit():
    explicit = simulate(Problem(DECAY, [1.0], (0.0, 1.0)), solver="tsit5")
    run = simulate(Problem(DECAY, [1.0], (0.0, 1.0)), solver="auto")
    assert run.stats.solver == "tsit5"
    np.testing.assert_array_equal(run.r, explicit.r)


@pytest.mark.parametrize("method", ["adjoint", "rtrl"])
def test_the_gradient_is_that_of_the_chosen_solver(method):
    stiff = Problem(VAN_DER_POL, [2.0, 0.0], (0.0, 200.0), objective=Objective("x", at=[200.0]))
    g = gradient(stiff, method, solver="auto")
    np.testing.assert_array_equal(g.vector, gradient(stiff, method, solver="kvaerno5").vector)
    assert ctrnn.compare_gradients(stiff, ["adjoint"], solver="auto", reference="rtrl").rows[0].digits > 9


def test_a_fixed_step_is_refused():
    with pytest.raises(UsageError, match="auto"):
        simulate(Problem(DECAY, [1.0], (0.0, 1.0)), solver="auto", dt=0.1)
