"""``converged`` is a claim about the end of a fit: true only where independent least squares find nothing better."""

import numpy as np
import pytest
from scipy.optimize import least_squares

import ctrnn
from ctrnn import Equations, Objective, Problem
from ctrnn.errors import UsageError

T = np.linspace(0, 10, 21)


def growth(k):
    """dr/dt = k r from 1, against exp(−0.3 t): the loss is steep far above the answer and flat far below it."""
    field = Equations({"r": "k*r"}, parameters={"k": k})
    return Problem(field, [1.0], (0, 10), objective=Objective(target=np.exp(-0.3 * T)[:, None], at=T))


@pytest.mark.parametrize(
    "optimizer", ["auto", "gauss-newton", "newton-cg", "L-BFGS-B", "BFGS", "CG", "TNC", "SLSQP", "trust-constr"]
)
@pytest.mark.parametrize("k", [1.2, 0.5, -1.5])
def test_after_a_steep_start_the_answer_is_reached(optimizer, k):
    found = ctrnn.fit(growth(k), optimizer=optimizer)
    # trust-constr may need more than 200 iterations, and then says so
    assert found.converged or "200 iterations" in found.reason, found.reason
    assert found.converged == (abs(float(found.parameters["k"]) + 0.3) < 1e-6)
    assert found.converged or optimizer == "trust-constr"


def test_a_flat_far_away_is_no_convergence():
    """One step of gradient descent leads to k = −3e5, where the solution is 0 at once: the loss is flat."""
    found = ctrnn.fit(growth(0.9), optimizer="sgd", max_iterations=1)
    assert float(found.parameters["k"]) < -10 and not found.converged
    assert "not converged" in repr(found) and found.reason in repr(found)


@pytest.mark.parametrize("k", [-30.0, -80.0])
def test_a_start_on_a_plateau_is_left_or_not_called_converged(k):
    found = ctrnn.fit(growth(k))
    assert found.converged == (abs(float(found.parameters["k"]) + 0.3) < 1e-6)


def test_few_iterations_are_not_enough_and_that_is_said():
    found = ctrnn.fit(growth(1.2), max_iterations=2)
    assert not found.converged and "2 iterations" in found.reason
    on = ctrnn.fit(found)
    assert on.converged and on.history[0] == found.history[0] and len(on.history) > len(found.history)
    assert on.start is found.start and on.initial_loss == found.initial_loss


@pytest.mark.parametrize("seed", range(6))
def test_logistic_growth_from_anywhere(seed):
    """The ends that are called converged are minima of SciPy's own least squares on the closed form."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 8, 17)

    def closed(q):
        r, K, x0 = q
        return K / (1 + (K / x0 - 1) * np.exp(-r * t))

    y = closed([0.9, 5.0, 0.3]) + 0.05 * rng.normal(size=t.size)
    start = np.exp(rng.uniform(-2, 2, 3)) * [0.9, 5.0, 0.3]
    field = Equations({"x": "r*x*(1 - x/K)"}, parameters={"r": start[0], "K": start[1]})
    problem = Problem(field, [start[2]], (0, 8), objective=Objective(target=y, at=t))
    found = ctrnn.fit(problem, r0=True, transform="log")
    at = [*map(float, found.parameters.values()), *found.r0]
    if found.converged:
        polished = least_squares(lambda q: closed(np.exp(q)) - y, np.log(at), xtol=1e-14, ftol=1e-14, gtol=1e-14)
        assert found.loss - polished.cost <= 1e-7 * polished.cost
    best = least_squares(lambda q: closed(q) - y, [0.9, 5.0, 0.3], xtol=1e-14)
    assert found.loss == pytest.approx(best.cost, rel=1e-6) or not found.converged


def test_robust_losses_do_not_hear_an_outlier():
    y = np.exp(-0.3 * T) + 0.01 * np.random.default_rng(0).normal(size=T.size)
    y[7] += 3.0
    problem = growth(-0.1).replace(objective=Objective(target=y, at=T))
    plain, robust = ctrnn.fit(problem), ctrnn.fit(problem, robust="soft_l1", robust_scale=0.02)
    by_scipy = least_squares(lambda k: np.exp(k * T) - y, [-0.1], loss="soft_l1", f_scale=0.02, xtol=1e-14, ftol=1e-14)
    assert robust.converged and float(robust.parameters["k"]) == pytest.approx(by_scipy.x[0], rel=1e-6)
    assert robust.loss == pytest.approx(by_scipy.cost, rel=1e-6)
    assert abs(float(robust.parameters["k"]) + 0.3) < 0.2 * abs(float(plain.parameters["k"]) + 0.3)
    with pytest.raises(UsageError, match="robust"):
        ctrnn.fit(problem, robust="soft_l1", optimizer="adam")


def test_bounds_by_name_and_by_entry():
    found = ctrnn.fit(growth(-1.0), bounds={"k": (None, -0.5)})
    assert float(found.parameters["k"]) == -0.5 and found.converged
    network = ctrnn.RateNetwork(2, seed=0).with_parameters(W=[[0.5, 0.1], [0.2, -0.3]])
    problem = Problem(
        network, [1.0, 0.5], (0, 3), objective=Objective(target=np.full((3, 2), -0.5), at=[1.0, 2.0, 3.0])
    )
    found = ctrnn.fit(problem, ["W"], bounds={"W[0,1]": (0.0, None), "W": (-2.0, 2.0)})
    assert found.parameters["W"][0, 1] >= 0.0 and np.abs(found.parameters["W"]).max() <= 2.0
    for bounds, says in (
        ({"k": (1.0, 0.0)}, "lower < upper"),
        ({"k": 3.0}, "lower"),
        ({"z": (0, 1)}, "bounds"),
        ({"k": (0.0, 1.0)}, "bounds"),
    ):
        with pytest.raises(UsageError, match=says):
            ctrnn.fit(growth(-1.0), bounds=bounds)


def test_fixed_quantities_stay():
    field = Equations({"r": "-k*r + c"}, parameters={"k": 1.0, "c": 0.5})
    y = 2 + np.exp(-0.4 * T)
    problem = Problem(field, [3.0], (0, 10), objective=Objective(target=y, at=T))
    found = ctrnn.fit(problem, fixed=["c"])
    assert float(found.parameters["c"]) == 0.5 and found.names == ("k",)
    network = ctrnn.RateNetwork(2, seed=0)
    problem = Problem(
        network, [1.0, 0.5], (0, 3), objective=Objective(target=np.full((3, 2), -0.5), at=[1.0, 2.0, 3.0])
    )
    for optimizer in ("auto", "L-BFGS-B"):
        found = ctrnn.fit(problem, ["W", "b"], fixed=["W[0,1]"], optimizer=optimizer, max_iterations=10)
        assert found.parameters["W"][0, 1] == network.parameters["W"][0, 1]
        assert found.parameters["W"][0, 0] != network.parameters["W"][0, 0]
