"""Fits reach minima known by other means: least squares on data, linear algebra, closed forms."""

import csv
from importlib import import_module, resources
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

import ctrnn
from ctrnn.errors import ConvergenceError, DivergenceError, UnknownNameError, UsageError
from ctrnn.learning import fit
from ctrnn.learning.transforms import Coordinates

ROUGH = {"a": 1.0, "b": 0.05, "c": 1.0, "d": 0.02}
LOTKA_VOLTERRA = {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"}


def pelts():
    """(years since 1900 (21,), thousands of hare and lynx pelts (21, 2))."""
    with (resources.files("ctrnn") / "examples" / "hare_lynx.csv").open() as f:
        rows = [list(map(float, row)) for row in list(csv.reader(f))[1:]]
    table = np.array(rows)
    return table[:, 0] - 1900.0, table[:, 1:]


def hare_lynx(**parameters):
    t, y = pelts()
    field = ctrnn.Equations(LOTKA_VOLTERRA, parameters={**ROUGH, **parameters})
    objective = ctrnn.Objective("squared_error", target=y, at=t)
    return ctrnn.Problem(field, r0=y[0], t_span=(0.0, 20.0), objective=objective)


def sum_of_squares(a, b, c, d, r0):
    """The same loss by SciPy alone."""
    t, y = pelts()
    run = solve_ivp(
        lambda _, r: [a * r[0] - b * r[0] * r[1], -c * r[1] + d * r[0] * r[1]],
        (0.0, 20.0), r0, method="DOP853", t_eval=t, rtol=1e-11, atol=1e-11,
    )  # fmt: skip
    return np.sum((run.y.T - y) ** 2)


@pytest.fixture(scope="module")
def fitted():
    return fit(hare_lynx(), r0=True, transform="log")


def test_hare_lynx_from_the_rough_start_reaches_the_least_squares(fitted):
    assert fitted.converged
    assert 2 * fitted.initial_loss == pytest.approx(73892.486, abs=1e-2)
    assert 2 * fitted.loss == pytest.approx(594.745, abs=1e-3)
    expected = {"a": 0.4812, "b": 0.02483, "c": 0.9260, "d": 0.02753}
    for name, value in expected.items():
        assert float(fitted.parameters[name]) == pytest.approx(value, abs=5e-5)
    np.testing.assert_allclose(fitted.r0, (34.915, 3.862), atol=1e-3)


def test_no_nearby_values_are_better_by_another_solver(fitted):
    best = np.array([*map(float, fitted.parameters.values()), *fitted.r0])
    least = sum_of_squares(*best[:4], best[4:])
    assert least == pytest.approx(2 * fitted.loss, rel=1e-7)
    for k in range(6):
        for factor in (0.999, 1.001):
            q = best.copy()
            q[k] *= factor
            assert sum_of_squares(*q[:4], q[4:]) > least


@pytest.mark.parametrize("optimizer", ["bfgs", "SLSQP", "trust-constr"])
def test_other_optimizers_end_at_the_same_place(fitted, optimizer):
    other = fit(hare_lynx(), r0=True, transform="log", optimizer=optimizer)
    assert other.loss == pytest.approx(fitted.loss, rel=1e-6)
    np.testing.assert_allclose(other.problem.field.vector, fitted.problem.field.vector, rtol=1e-3)


def test_adam_descends(fitted):
    start = hare_lynx(**{k: float(v) * 1.02 for k, v in fitted.parameters.items()})
    start = start.replace(r0=fitted.r0)
    found = fit(start, transform="log", optimizer="adam", learning_rate=2e-3, max_iterations=60)
    assert found.iterations == 60 and not found.converged
    assert found.initial_loss > 1.5 * fitted.loss
    assert found.loss == pytest.approx(fitted.loss, rel=1e-3)
    assert found.loss == found.history.min()


def test_history_starts_at_the_start_and_the_callback_hears_the_rest():
    told = []
    found = fit(hare_lynx(), transform="log", max_iterations=5, callback=lambda k, l: told.append((k, l)))
    assert found.history[0] == found.initial_loss
    assert told == list(enumerate(found.history))[1:]
    assert found.iterations == 5 and not found.converged


def test_only_what_was_named_changes():
    found = fit(hare_lynx(), ["d", "b"], transform="log", max_iterations=10)
    moved = {k for k, v in found.parameters.items() if float(v) != ROUGH[k]}
    assert moved == {"b", "d"}
    np.testing.assert_array_equal(found.r0, hare_lynx().r0)


def test_it_prints_start_and_end(fitted):
    text = repr(fitted)
    assert "36946.2 -> 297.372" in text and "r0[prey]" in text and "0.481199" in text


def test_a_read_out_alone_is_linear_least_squares():
    rng = np.random.default_rng(1)
    field = ctrnn.RateNetwork(5, gain=1.5, seed=2)
    t, r0 = np.linspace(0.2, 4.0, 20), rng.normal(size=5)
    y = np.stack([np.sin(t), np.cos(t)], axis=1)
    readout = ctrnn.Readout(rng.normal(size=(2, 5)), rng.normal(size=2))
    objective = ctrnn.Objective(target=y, at=t, readout=readout)
    problem = ctrnn.Problem(field, r0=r0, t_span=(0.0, 4.0), objective=objective)
    found = fit(problem, parameters=[], max_iterations=2000)

    r = ctrnn.simulate(problem, save_at=t).r
    design = np.column_stack([r, np.ones(len(t))])
    solution = np.linalg.lstsq(design, y, rcond=None)[0]
    least = 0.5 * np.sum((design @ solution - y) ** 2)
    assert found.initial_loss > 10 * least
    assert found.loss == pytest.approx(least, rel=1e-4)
    np.testing.assert_array_equal(found.problem.field.vector, field.vector)
    np.testing.assert_allclose(found.readout["V"], solution[:5].T, rtol=0.1, atol=0.1)
    text = repr(found)  # matrices by their size and rms; U has no entries here
    assert "W (5x5)" in text and "readout V (2x5)" in text and "nan" not in text


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_gradient_in_the_coordinates_is_the_slope_of_the_loss_in_them(seed):
    rng = np.random.default_rng(seed)
    field = ctrnn.RateNetwork(3, seed=seed % 1000)
    readout = ctrnn.Readout(rng.normal(size=(1, 3)), rng.normal(size=1))
    objective = ctrnn.Objective(target=np.zeros((2, 1)), at=[0.5, 1.0], readout=readout)
    r0 = rng.uniform(0.5, 1.5, 3)
    problem = ctrnn.Problem(field, r0=r0, t_span=(0.0, 1.0), objective=objective)
    at = Coordinates(problem, ["b", "W"], True, {"r0": "log"})
    fixed = {"solver": "rk4", "dt": 0.1}

    def loss(theta):
        return ctrnn.gradient(at.problem(theta), **fixed).loss

    theta, v = at.start, rng.normal(size=at.start.size)
    slope = at.gradient(ctrnn.gradient(at.problem(theta), **fixed), theta)
    h = 1e-5
    central = (loss(theta + h * v) - loss(theta - h * v)) / (2 * h)
    assert slope @ v == pytest.approx(central, rel=1e-6, abs=1e-9)
    assert loss(theta) == pytest.approx(ctrnn.gradient(problem, **fixed).loss, rel=1e-14)


class Bounded(ctrnn.Equations):
    """Equations whose parameters stay in [0.4, 3]."""

    @property
    def bounds(self):
        return np.full(self.m, 0.4), np.full(self.m, 3.0)


def decay(cls=ctrnn.Equations, k=1.0):
    """r(t) = exp(-k t), observed as exp(-0.25 t): the best k is 0.25, or the bound at 0.4."""
    t = np.array([1.0, 2.0])
    field = cls({"r": "-k*r"}, parameters={"k": k})
    objective = ctrnn.Objective(target=np.exp(-0.25 * t)[:, None], at=t)
    return ctrnn.Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=objective)


@pytest.mark.parametrize("optimizer", ["L-BFGS-B", "SLSQP", "trust-constr", "adam", "sgd"])
@pytest.mark.parametrize("transform", ["none", "log"])
def test_bounds_of_the_field_hold(optimizer, transform):
    options = {"optimizer": optimizer, "transform": transform}
    torch = {"learning_rate": 0.1, "max_iterations": 300}
    found = fit(decay(Bounded), **options, **(torch if optimizer in ("adam", "sgd") else {}))
    assert 0.4 - 1e-15 <= float(found.parameters["k"]) <= 0.4 + 1e-3
    free = fit(decay(), transform=transform)
    assert float(free.parameters["k"]) == pytest.approx(0.25, abs=1e-6)


def test_signs_of_dale_hold():
    dale = np.array([1.0, 1.0, -1.0])
    field = ctrnn.RateNetwork(3, seed=1, dale=dale)
    objective = ctrnn.Objective(target=np.full((1, 3), -1.0), at=[2.0])
    problem = ctrnn.Problem(field, r0=np.full(3, 0.5), t_span=(0.0, 2.0), objective=objective)
    found = fit(problem, max_iterations=20)
    assert found.loss < 0.1 * found.initial_loss
    assert np.all(found.parameters["W"] * dale >= 0)


def test_an_optimizer_that_cannot_keep_bounds_is_refused():
    with pytest.raises(UsageError, match="bounds"):
        fit(decay(Bounded), optimizer="BFGS")


def walled(monkeypatch, failure):
    """A gradient of l = 50 (k - 2)^2 that has no solution beyond k = 2.2, and its calls."""
    calls = []

    def gradient(problem, **_):
        k = float(problem.field.parameters["k"])
        calls.append(k)
        if k > 2.2:
            return failure()
        slope = 100 * (k - 2)
        return SimpleNamespace(loss=50 * (k - 2) ** 2, parameters={"k": slope}, readout=None)

    made = SimpleNamespace(at=gradient)
    monkeypatch.setattr(import_module("ctrnn.learning.loss"), "value_and_gradient", lambda *_, **__: made)
    return calls


def diverges():
    raise DivergenceError("no solution", t=0.0, r=[1.0], h=0.1, hint="nothing")


def overflows():
    return SimpleNamespace(loss=np.inf, parameters={"k": 1.0}, readout=None)


def loses_its_gradient():
    return SimpleNamespace(loss=0.0, parameters={"k": np.nan}, readout=None)


@pytest.mark.parametrize("failure", [diverges, overflows, loses_its_gradient])
@pytest.mark.parametrize(
    ("optimizer", "transform"),
    [
        ("L-BFGS-B", "log"),
        ("BFGS", "log"),
        ("CG", "log"),
        ("trust-constr", "log"),
        ("SLSQP", "none"),
        ("sgd", "none"),
    ],
)
def test_trial_points_without_solution_are_steps_rejected(monkeypatch, failure, optimizer, transform):
    calls = walled(monkeypatch, failure)
    found = fit(decay(k=0.7), optimizer=optimizer, transform=transform, learning_rate=0.03)
    assert float(found.parameters["k"]) == pytest.approx(2.0, abs=1e-6)
    beyond = sum(k > 2.2 for k in calls)
    assert found.rejected == beyond > 0  # each of these meets the wall on its way
    assert f"trial points without a finite solution: {beyond}" in found.message


def test_no_solution_at_the_start_is_an_error(monkeypatch):
    walled(monkeypatch, diverges)
    with pytest.raises(DivergenceError):
        fit(decay(k=2.5), optimizer="L-BFGS-B")


@pytest.mark.parametrize("failure", [overflows, loses_its_gradient])
def test_a_start_that_is_not_finite_is_an_error(monkeypatch, failure):
    walled(monkeypatch, failure)
    with pytest.raises(ConvergenceError, match="at the start|not finite"):
        fit(decay(k=2.5), optimizer="L-BFGS-B")


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"parameters": ["e"]}, UnknownNameError, "a, b, c, d"),
        ({"parameters": []}, UsageError, "something to fit"),
        ({"transform": "square"}, UnknownNameError, "none, log"),
        ({"transform": {"e": "log"}}, UnknownNameError, "a, b, c, d"),
        ({"transform": {"r0": "log"}}, UnknownNameError, "a, b, c, d"),  # r0 is not fitted
        ({"transform": {"a": "exp"}}, UnknownNameError, "none, log"),
        ({"optimizer": "adamm"}, UnknownNameError, "did you mean 'adam'"),
        ({"optimizer": "lbfgs"}, UnknownNameError, "L-BFGS-B"),
        ({"max_iterations": 0}, UsageError, "positive whole"),
        ({"max_iterations": 1.5}, UsageError, "positive whole"),
        ({"learning_rate": -1.0}, UsageError, "positive"),
    ],
)
def test_impossible_calls_are_refused(options, error, says):
    with pytest.raises(error, match=says):
        fit(hare_lynx(), **options)


def test_a_logarithm_needs_a_positive_start():
    with pytest.raises(UsageError, match=r"^b: got -0.05"):
        fit(hare_lynx(b=-0.05), transform="log")
    problem = hare_lynx().replace(r0=[30.0, 0.0])
    with pytest.raises(UsageError, match=r"^r0\[pred\]: got 0"):
        fit(problem, r0=True, transform="log")


def test_a_start_out_of_bounds_is_refused():
    with pytest.raises(UsageError, match=r"^k: got 0.1; allowed: .* 0.4 to 3"):
        fit(decay(Bounded, k=0.1))


def test_a_problem_without_objective_is_refused():
    with pytest.raises(UsageError, match="objective"):
        fit(decay().replace(objective=None))
