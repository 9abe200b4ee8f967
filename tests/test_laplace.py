"""Fits by second derivatives, and the standard errors of what was fitted, against SciPy and closed forms."""

import numpy as np
import pytest
from scenarios import (
    HARE_LYNX,
    LOTKA_VOLTERRA,
    hare_lynx,
    integral_squares,
    lotka_volterra,
    observed_squares,
    rate_network,
    softmax_readout,
)
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, fit
from ctrnn.errors import SingularJacobianError, UnknownNameError, UsageError
from ctrnn.learning import laplace


@pytest.fixture(scope="module")
def fitted():
    return fit(hare_lynx(), r0=True, transform="log", optimizer="gauss-newton")


@pytest.fixture(scope="module")
def by_scipy():
    """The same least squares by SciPy alone: values, standard errors and correlations, natural units."""
    year, *counts = np.genfromtxt(HARE_LYNX, delimiter=",", skip_header=1).T
    t, y = year - year[0], np.stack(counts)

    def residuals(q):
        def field(_, r):
            return [q[0] * r[0] - q[1] * r[0] * r[1], -q[2] * r[1] + q[3] * r[0] * r[1]]

        run = solve_ivp(field, (0.0, t[-1]), q[4:], method="DOP853", t_eval=t, rtol=1e-12, atol=1e-12)
        return (run.y - y).ravel()

    start = np.array([0.55, 0.028, 0.80, 0.024, *y[:, 0]])
    found = least_squares(residuals, start, jac="3-point", x_scale=start, xtol=1e-14, ftol=1e-14, gtol=1e-14)
    covariance = 2 * found.cost / (y.size - 6) * np.linalg.inv(found.jac.T @ found.jac)
    s = np.sqrt(np.diag(covariance))
    return found.x, s, covariance / np.outer(s, s), 2 * found.cost


# --- optimisers


@pytest.mark.parametrize("optimizer", ["gauss-newton", "newton-cg"])
def test_hare_and_lynx_reach_the_least_squares(by_scipy, optimizer):
    found = fit(hare_lynx(), r0=True, transform="log", optimizer=optimizer)
    assert found.converged and found.evaluations < 30
    assert 2 * found.loss == pytest.approx(by_scipy[3], rel=1e-8)
    np.testing.assert_allclose([*found.problem.field.vector, *found.r0], by_scipy[0], rtol=1e-4)


def test_gauss_newton_needs_no_logarithms():
    """From the rough start of the shipped experiment, in natural units."""
    rough = Equations(LOTKA_VOLTERRA, {"a": 1.0, "b": 0.05, "c": 1.0, "d": 0.02})
    problem = hare_lynx().replace(field=rough)
    assert fit(problem, r0=True, optimizer="gauss-newton").loss == pytest.approx(297.372, abs=1e-3)


def perfect():
    """Data without noise, and a start 5 % away."""
    t = np.linspace(0.5, 6.0, 12)
    truth = lotka_volterra(None, (0.0, 6.0))
    y = ctrnn.simulate(truth, save_at=t, rtol=1e-10, atol=1e-12).r
    problem = truth.replace(objective=Objective(target=y, at=t))
    field = problem.field.with_vector(problem.field.vector * [1.05, 0.95, 1.04, 0.97])
    return problem.replace(field=field), truth.field.vector


@pytest.mark.parametrize(("optimizer", "most"), [("gauss-newton", 9), ("newton-cg", 12)])
def test_few_steps_near_the_solution(optimizer, most):
    problem, truth = perfect()
    found = fit(problem, optimizer=optimizer, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.problem.field.vector, truth, rtol=1e-6)
    assert found.converged and found.iterations <= most
    # the loss falls faster and faster: that is what second derivatives buy
    falls = np.log10(found.history[:-1] / np.maximum(found.history[1:], 1e-18))
    assert max(falls) > 3


def test_networks_with_trained_time_constants_keep_their_bounds():
    truth = rate_network(train_tau=True, tau=0.9)
    t = np.linspace(0.2, 2.0, 10)
    objective = Objective(target=ctrnn.simulate(truth, save_at=t).r, at=t)
    start = truth.replace(objective=objective, field=truth.field.with_parameters(tau=0.5))
    found = fit(start, ["tau", "b"], optimizer="gauss-newton")
    assert found.loss < 1e-12 * found.initial_loss
    assert float(found.parameters["tau"]) == pytest.approx(0.9, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["gauss-newton", "newton-cg"])
def test_an_entry_at_its_bound_rests_there(optimizer):
    """Dale: the data want a negative weight from an excitatory unit."""
    field = RateNetwork(1, tau=1.0, activation="linear", dale=[1], seed=0).with_parameters(W=[[0.5]])
    t = np.linspace(0.5, 3.0, 6)
    objective = Objective(target=np.exp(-1.5 * t), at=t)  # dr/dt = −r − 0.5 r
    problem = Problem(field, r0=[1.0], t_span=(0.0, 3.0), objective=objective)
    found = fit(problem, ["W"], optimizer=optimizer)
    assert found.parameters["W"][0, 0] == 0.0 and found.converged


@pytest.mark.parametrize("optimizer", ["gauss-newton", "newton-cg"])
def test_a_read_out_is_trained_along(optimizer):
    problem = rate_network(observed_squares(3, readout=softmax_readout(4), target=np.full((5, 3), 1 / 3)))
    found = fit(problem, ["W", "b"], optimizer=optimizer, max_iterations=50)
    assert found.loss < 1e-6 * found.initial_loss
    assert not np.array_equal(found.readout["V"], softmax_readout(4).V)


def test_what_second_derivatives_need():
    with pytest.raises(UsageError, match="solver"):
        fit(hare_lynx(), optimizer="newton-cg", solver="scipy:DOP853")


def test_least_squares_take_any_solver(by_scipy):
    found = fit(hare_lynx(), r0=True, transform="log", solver="scipy:DOP853")
    assert found.converged and found.optimizer == "least-squares"
    assert 2 * found.loss == pytest.approx(by_scipy[3], rel=1e-8)
    np.testing.assert_allclose(list(found.standard_errors.values()), by_scipy[1], rtol=1e-4)


# --- standard errors


def test_standard_errors_of_hare_and_lynx(fitted, by_scipy):
    values, s, correlations, _ = by_scipy
    found = laplace(fitted)
    assert found.labels == ("a", "b", "c", "d", "r0[hare]", "r0[lynx]")
    np.testing.assert_allclose(found.values, values, rtol=1e-5)
    np.testing.assert_allclose(found.standard_errors, s, rtol=1e-4)
    np.testing.assert_allclose(found.correlations, correlations, atol=1e-4)
    assert fitted.standard_errors["r0[lynx]"] == pytest.approx(s[5], rel=1e-4)
    np.testing.assert_array_equal(fitted.standard_errors["r0"], found.standard_errors[4:])
    with pytest.raises(UnknownNameError, match="standard_errors: got 'e'"):
        fitted.standard_errors["e"]
    assert found.offset < 1e-3


def test_by_the_whole_hessian_of_hare_and_lynx(fitted):
    """Second differences of the loss itself, by SciPy's solver, at the fitted point."""
    problem, q = fitted.problem, np.array([*fitted.problem.field.vector, *fitted.r0])
    t, y = problem.observed, problem.objective.targets

    def loss(q):
        def field(_, r):
            return [q[0] * r[0] - q[1] * r[0] * r[1], -q[2] * r[1] + q[3] * r[0] * r[1]]

        run = solve_ivp(field, (0.0, t[-1]), q[4:], method="DOP853", t_eval=t, rtol=1e-12, atol=1e-12)
        return 0.5 * np.sum((run.y.T - y) ** 2)

    e, H = 1e-3 * np.diag(q), np.empty((6, 6))
    for i in range(6):
        for j in range(i + 1):
            corners = sum(a * b * loss(q + a * e[i] + b * e[j]) for a in (1, -1) for b in (1, -1))
            H[i, j] = H[j, i] = corners / (4 * e[i, i] * e[j, j])
    expected = np.sqrt(2 * fitted.loss / (42 - 6) * np.diag(np.linalg.inv(H)))
    np.testing.assert_allclose(laplace(fitted).hessian_errors, expected, rtol=2e-3)


def test_a_problem_at_its_least_needs_no_fit(fitted):
    other = laplace(fitted.problem, ["a", "c"])
    assert other.labels == ("a", "c")
    assert np.all(other.standard_errors < laplace(fitted).standard_errors[[0, 2]])  # the rest held
    assert laplace(fitted.problem, r0=True).covariance == pytest.approx(laplace(fitted).covariance, rel=1e-10)


def test_linear_regression_with_weights():
    """r = r0 + k t: (XᵀAX)⁻¹ σ² in closed form, and H the same as Gauss–Newton's."""
    rng = np.random.default_rng(8)
    t, a = np.linspace(0.0, 3.0, 20), rng.uniform(0.2, 3.0, 20)
    y = 1.0 + 0.5 * t + rng.normal(size=20) / np.sqrt(a)
    field = Equations({"r": "k"}, {"k": 0.0})
    found = fit(
        Problem(field, r0=[0.0], t_span=(0.0, 3.0), objective=Objective(target=y, at=t, weight=a)),
        r0=True,
        optimizer="gauss-newton",
    )
    X = np.stack([t, np.ones(20)], axis=1)
    normal = X.T @ (a[:, None] * X)
    best = np.linalg.solve(normal, X.T @ (a * y))
    covariance = np.sum(a * (y - X @ best) ** 2) / 18 * np.linalg.inv(normal)
    e = laplace(found)
    np.testing.assert_allclose(e.values, best, rtol=1e-7)
    np.testing.assert_allclose(e.covariance, covariance, rtol=1e-9)
    np.testing.assert_allclose(e.hessian_errors, e.standard_errors, rtol=1e-9)
    assert e.observations == 20


def test_logistic_regression():
    """Classes by a softmax read-out of a state that stands still: the Fisher matrix of multinomial regression; σ =
    1."""
    rng = np.random.default_rng(2)
    K = 60
    t = np.linspace(0.0, 1.0, K)
    label = (rng.random(K) < 1 / (1 + np.exp(2 - 4 * t))).astype(int)
    readout = ctrnn.Readout([[0.0], [1.0]], activation="softmax")
    field = Equations({"r": "k"}, {"k": 0.1})
    objective = Objective("cross_entropy", np.eye(2)[label], at=t, readout=readout)
    problem = Problem(field, r0=[-0.1], t_span=(0.0, 1.0), objective=objective)
    X = np.stack([t, np.ones(K)], axis=1)
    p = 1 / (1 + np.exp(-X @ [0.1, -0.1]))
    from ctrnn.gradients.second.hessian import gauss_newton_matrix
    from ctrnn.problem import Settings

    M = gauss_newton_matrix(problem, Settings(), np.array([0, 1]))
    np.testing.assert_allclose(M, X.T @ ((p * (1 - p))[:, None] * X), rtol=1e-10)
    # V and c are free along with k and r0: only their products are seen
    with pytest.raises(SingularJacobianError):
        laplace(problem, r0=True)


def test_it_prints_values_errors_and_correlations(fitted):
    text = repr(laplace(fitted))
    assert "6 quantities from 42 observations, sigma = 4.0646" in text
    assert "std. error" in text and "0.03509" in text and "correlations" in text and "-0.963" in text
    assert "fit first" in repr(laplace(hare_lynx(), r0=True))


def test_what_the_data_cannot_tell():
    """k and g act only through their product."""
    field = Equations({"r": "-k*g*r"}, {"k": 0.7, "g": 1.3})
    t = np.linspace(0.2, 2.0, 10)
    problem = Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=Objective(target=np.exp(-0.9 * t), at=t))
    with pytest.raises(SingularJacobianError, match="fit without [kg]"):
        laplace(problem)
    unseen = Equations({"r": "-k*r", "s": "-h*s"}, {"k": 0.7, "h": 1.3})
    objective = Objective(target=np.exp(-0.9 * t), at=t, readout="r")
    with pytest.raises(SingularJacobianError, match="fit without h"):
        laplace(Problem(unseen, r0=[1.0, 1.0], t_span=(0.0, 2.0), objective=objective))


@pytest.mark.parametrize(
    ("objective", "word"),
    [
        (None, "no objective"),
        (integral_squares(2), "integral"),
        (Objective("prey", at=1.0), "prey"),
        (Objective(target=[[1.0, 2.0]], at=1.0), "more than the 4 fitted"),
    ],
)
def test_losses_that_say_nothing_of_errors(objective, word):
    with pytest.raises(UsageError, match=word):
        laplace(lotka_volterra(objective))


def test_standard_errors_of_an_array_have_its_shape():
    """Of r = W s + noise at one s each, W = Σ r sᵀ (Σ s sᵀ)⁻¹; an entry that is held has none."""
    rng = np.random.default_rng(0)
    W, r0, t = rng.normal(size=(2, 2)), np.zeros(2), np.arange(1.0, 9.0)
    field = Equations({"r": "W @ cos(k*t)"}, {"W": W}, states={"r": 2}, constants={"k": [1.0, 0.3]})
    data = ctrnn.simulate(Problem(field, r0, (0.0, 8.0)), save_at=t).r + 0.1 * rng.normal(size=(8, 2))
    problem = Problem(field, r0, (0.0, 8.0), objective=Objective(target=data, at=t))
    S = np.sin(np.outer(t, [1.0, 0.3])) / [1.0, 0.3]
    found = ctrnn.fit(problem, sigma=0.1)
    one_row = 0.1 * np.sqrt(np.diag(np.linalg.inv(S.T @ S)))
    np.testing.assert_allclose(found.standard_errors["W"], [one_row, one_row], rtol=1e-6)
    held = ctrnn.fit(problem, sigma=0.1, fixed=["W[0,1]"]).standard_errors
    assert np.isnan(held["W"]).tolist() == [[False, True], [False, False]]
    assert held["W"][1, 0] == held["W[1,0]"] == pytest.approx(one_row[0], rel=1e-6)
    assert held["W[0,0]"] == pytest.approx(0.1 / np.linalg.norm(S[:, 0]), rel=1e-6)
