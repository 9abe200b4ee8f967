"""Ensembles in lanes (ctrnn.kernels.lanes.steps): the same steps as alone, whatever the company, and numbers that
differ by rounding at most.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import ctrnn
from ctrnn import inputs
from ctrnn.errors import DivergenceError, StepUnderflowError, TooManyStepsError
from ctrnn.solvers import tableaus
from ctrnn.solvers.ensemble import fit_in_lanes

LANES = 32
RNG = np.random.default_rng(11)
LORENZ = ctrnn.Equations(
    {"x": "s*(y - x)", "y": "x*(rho - z) - y", "z": "x*y - beta*z"}, parameters={"s": 10.0, "rho": 28.0, "beta": 8 / 3}
)
VAN_DER_POL = ctrnn.Problem(
    ctrnn.Equations({"y": "v", "v": "mu*(1 - y**2)*v - y"}, parameters={"mu": 1.0}), [2.0, 0.0], (0.0, 6.0)
)
SMOOTH = {
    "a": "exp(-a**2) - tanh(b) + sin(t)",
    "b": "log(1 + a**2) + w*sigmoid(a) - b + x",
    "c": "softplus(b) - sqrt(1 + c**2) + cos(a) + a/(1 + c**2)**1.5",
}
KINKS = {"d": "relu(a) - d", "e": "abs(b) - e*sign(c - 0.5)", "f": "max(a, b) - f"}


def alone(problem, vector, **options):
    return ctrnn.simulate(problem.replace(field=problem.field.with_vector(vector)), **options)


@pytest.mark.parametrize("B", [1, 5, LANES - 1, LANES, LANES + 1, 3 * LANES + 7])
def test_any_number_of_members(B):
    vectors = RNG.uniform(0.2, 3.0, size=(B, 1))
    found = ctrnn.ensemble(VAN_DER_POL, vectors, save_at=[2.0, 6.0])
    for b in {0, B // 2, B - 1}:
        one = alone(VAN_DER_POL, vectors[b], save_at=[2.0, 6.0])
        assert_allclose(found.r[b], one.r, rtol=0, atol=1e-12)
        assert (found.steps[b], found.rejected[b]) == (one.stats.steps, one.stats.rejected)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_neither_the_company_nor_the_lane_matters_to_the_last_bit(data):
    """Steps differ 10-fold among the members, so that each moves into a lane when some other leaves it."""
    B = data.draw(st.integers(2, 100))
    seed = data.draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    mu = 10.0 ** rng.uniform(-1.0, 1.7, size=(B, 1))
    chosen = rng.permutation(B)[: data.draw(st.integers(1, B))]
    options = data.draw(st.sampled_from([{"save_at": [0.0, 0.7, 6.0]}, {"solver": "bs3", "rtol": 1e-5}, {"dt": 0.01}]))
    whole, part = ctrnn.ensemble(VAN_DER_POL, mu, **options), ctrnn.ensemble(VAN_DER_POL, mu[chosen], **options)
    assert_array_equal(whole.r[chosen], part.r)
    assert_array_equal(whole.steps[chosen], part.steps)


def test_one_member_of_many_more_steps():
    mu = np.full((70, 1), 0.5)
    mu[40] = 300.0
    found = ctrnn.ensemble(VAN_DER_POL, mu, save_at=[0.0, 6.0])
    assert found.steps[40] > 10 * found.steps[0]
    assert_array_equal(np.delete(found.r, 40, axis=0), np.broadcast_to(found.r[0], (69, 2, 2)))
    one = alone(VAN_DER_POL, mu[40], save_at=[0.0, 6.0])
    assert found.steps[40] == one.stats.steps
    assert_allclose(found.r[40], one.r, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", [k for k in tableaus.names() if not tableaus.get(k).gamma])
@pytest.mark.parametrize("dt", [None, 0.03])
def test_every_explicit_method_at_times_between_the_steps(name, dt):
    tableau = tableaus.get(name)
    if tableau.exponential or (dt is None and not tableau.embedded_orders):
        return
    problem = ctrnn.Problem(LORENZ, [1.0, 1.0, 1.0], (0.0, 0.5))
    vectors = LORENZ.vector * RNG.uniform(0.9, 1.1, size=(40, 3))
    options = {"solver": name, "dt": dt, "save_at": [0.0, 0.1, 0.11, 0.29, 0.5], "rtol": 1e-6, "atol": 1e-8}
    found = ctrnn.ensemble(problem, vectors, **options)
    for b in (0, 17, 39):
        one = alone(problem, vectors[b], **options)
        assert_allclose(found.r[b], one.r, rtol=1e-12, atol=1e-12)
        assert (found.steps[b], found.rejected[b]) == (one.stats.steps, one.stats.rejected)


@pytest.mark.parametrize(
    ("x", "off"),
    [
        (0.4, 1e-12),
        (inputs.Sine(0.3), 1e-12),
        (inputs.Pulse(1.0, 0.7) * inputs.Constant(0.5) + inputs.Sine(1.0), 1e-12),
        (inputs.Sampled(np.linspace(0.0, 3.0, 7), RNG.normal(size=7), kind="hold"), 1e-12),
        # the third derivative of a spline jumps within steps: a kink of a sort
        (inputs.Sampled(np.linspace(0.0, 3.0, 7), RNG.normal(size=7), kind="cubic"), 1e-9),
        (inputs.Function(np.cos), 1e-12),
    ],
)
def test_inputs_are_those_of_each_lanes_own_time(x, off):
    problem = ctrnn.Problem(ctrnn.Equations(SMOOTH, {"w": 0.5}, ("x",)), [0.3, -0.2, 0.1], (0.0, 3.0), x=x)
    vectors = RNG.uniform(-2.0, 2.0, size=(35, 1))
    found = ctrnn.ensemble(problem, vectors, save_at=[1.0, 2.2, 3.0])
    for b in (0, 20, 34):
        one = alone(problem, vectors[b], save_at=[1.0, 2.2, 3.0])
        assert_allclose(found.r[b], one.r, rtol=0, atol=off)
        assert found.steps[b] == one.stats.steps


def test_inputs_of_several_channels():
    """A single channel times or plus several, on either side."""
    both = inputs.stack(inputs.Sine(0.5), inputs.Pulse(0.4, 1.0))
    one, field = inputs.Sine(1.5), ctrnn.RateNetwork(3, inputs=2, seed=2)
    vectors = field.vector * RNG.uniform(0.5, 1.5, size=(40, 1))
    for x in (one * both, both * one, one + both * inputs.Constant([2.0, -1.0])):
        problem = ctrnn.Problem(field, 0.1, (0.0, 2.0), x=x)
        found = ctrnn.ensemble(problem, vectors)
        assert_allclose(found.r[39], alone(problem, vectors[39], save_at=[2.0]).r, rtol=0, atol=1e-12)


def test_functions_with_kinks():
    """By fixed steps: where a step lies about a kink decides its error, and steps that differ by rounding may differ in
    all digits of that."""
    field = ctrnn.Equations(SMOOTH | KINKS, {"w": 0.5}, ("x",))
    problem = ctrnn.Problem(field, [0.3, -0.2, 0.1, 0.0, 0.1, 0.2], (0.0, 3.0), x=0.4)
    vectors = RNG.uniform(-2.0, 2.0, size=(35, 1))
    found = ctrnn.ensemble(problem, vectors, save_at=[1.0, 3.0], solver="rk4", dt=0.01)
    for b in range(35):
        one = alone(problem, vectors[b], save_at=[1.0, 3.0], solver="rk4", dt=0.01)
        assert_allclose(found.r[b], one.r, rtol=0, atol=1e-13)
    close = ctrnn.ensemble(problem, vectors, save_at=[3.0], rtol=1e-9, atol=1e-11)
    assert_allclose(close.r[:, 0], found.r[:, 1], rtol=0, atol=1e-3)  # rk4 errs by O(h) where sign jumps


@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus", "sigmoid", "linear", "erf"])
@pytest.mark.parametrize("form", ["state", "rate"])
def test_every_cell(activation, form):
    field = ctrnn.RateNetwork(5, inputs=2, activation=activation, form=form, tau=np.linspace(0.5, 1.5, 5), seed=1)
    problem = ctrnn.Problem(field, 0.2, (0.0, 2.0), x=[0.5, -1.0])
    vectors = field.vector + 0.3 * RNG.normal(size=(40, field.m))
    for options in [{"solver": "rk4", "dt": 0.05}] + ([{}] if activation != "relu" else []):
        found = ctrnn.ensemble(problem, vectors, **options)
        for b in (3, 39):
            one = alone(problem, vectors[b], save_at=[2.0], **options)
            assert_allclose(found.r[b], one.r, rtol=0, atol=1e-12)
            assert found.steps[b] == one.stats.steps


def test_networks_of_lists_of_weights():
    mask = np.eye(60, k=1) + np.eye(60, k=-7) + np.eye(60)
    field = ctrnn.RateNetwork(60, inputs=1, mask=mask, seed=1)
    problem = ctrnn.Problem(field, 0.2, (0.0, 1.0), x=1.0)
    assert field._arrays.code.layout.lists and fit_in_lanes(field, tableaus.get("tsit5"))
    vectors = field.vector * RNG.uniform(0.5, 1.5, size=(40, 1))
    found = ctrnn.ensemble(problem, vectors)
    assert_allclose(found.r[33], alone(problem, vectors[33], save_at=[1.0]).r, rtol=0, atol=1e-12)


def test_large_networks_and_implicit_methods_go_one_by_one():
    small, large = ctrnn.RateNetwork(3), ctrnn.RateNetwork(100)
    assert fit_in_lanes(small, tableaus.get("tsit5"))
    assert not fit_in_lanes(large, tableaus.get("tsit5"))
    assert not fit_in_lanes(small, tableaus.get("kvaerno5"))


RICCATI = ctrnn.Problem(ctrnn.Equations({"r": "a*r**2"}, parameters={"a": -1.0}), [1.0], (0.0, 2.0))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, StepUnderflowError),
        ({"dt": 0.05, "solver": "rk4"}, DivergenceError),
        ({"max_steps": 50}, TooManyStepsError),
    ],
)
def test_members_that_fail_leave_the_others_as_they_were(options, error):
    """r = 1/(1 − a t) is infinite at t = 1/a; the error is that of the member alone, in type, time and hint."""
    a = -np.linspace(0.5, 2.0, 80)[:, None]
    clean = ctrnn.ensemble(RICCATI, a, **options)
    lost = [0, 31, 32, 63, 79]
    a[lost] = 1.0
    found = ctrnn.ensemble(RICCATI, a, allow_failures=True, **options)
    assert list(found.failures) == lost and np.isnan(found.r[lost]).all()
    kept = np.setdiff1d(np.arange(80), lost)
    assert_array_equal(found.r[kept], clean.r[kept])
    with pytest.raises(error) as one:
        alone(RICCATI, a[0], save_at=[2.0], **options)
    assert type(found.failures[63]) is error
    assert found.failures[63].t == pytest.approx(one.value.t, rel=1e-6)  # beside a pole, where all differences grow
    assert found.failures[63].hint == one.value.hint and str(found.failures[63]).startswith("member 63: ")


def test_stiffness_is_suspected_in_lanes_too():
    problem = ctrnn.Problem(ctrnn.Equations({"r": "-k*(r - cos(t))"}, parameters={"k": 1.0}), [0.0], (0.0, 10.0))
    found = ctrnn.ensemble(problem, {"k": np.array([1.0, 1e5])}, max_steps=2000, allow_failures=True)
    assert list(found.failures) == [1] and "stiffness suspected" in str(found.failures[1])


def test_members_that_cannot_begin_are_passed_over():
    problem = ctrnn.Problem(ctrnn.Equations({"r": "log(r)"}, parameters={}), [1.0], (0.0, 0.1))
    starts = np.full((100, 1), 2.0)
    starts[[0, 40, 41, 99]] = -1.0
    found = ctrnn.ensemble(problem, r0=starts, allow_failures=True)
    assert list(found.failures) == [0, 40, 41, 99]
    assert_array_equal(found.r[1:40], np.broadcast_to(found.r[1], (39, 1, 1)))
    assert all(isinstance(e, DivergenceError) for e in found.failures.values())


def test_the_solution_is_right_to_the_tolerance():
    """Against the logistic formula r = 1/(1 + (1/r0 − 1) e^{−a t})."""
    field = ctrnn.Equations({"r": "a*r*(1 - r)"}, parameters={"a": 1.0})
    a, r0, t = np.geomspace(0.1, 30.0, 150), RNG.uniform(0.01, 0.99, 150), np.linspace(0.0, 3.0, 13)
    found = ctrnn.ensemble(ctrnn.Problem(field, [0.5], (0.0, 3.0)), {"a": a}, r0[:, None], t, rtol=1e-10, atol=1e-12)
    assert_allclose(found.r[:, :, 0], 1 / (1 + (1 / r0 - 1)[:, None] * np.exp(-np.outer(a, t))), rtol=0, atol=3e-10)
