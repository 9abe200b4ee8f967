"""Ensembles: each member is the solution of its own problem.

Bit for bit, with the same steps, where members go one after the other; in lanes (tests/test_lanes.py) with the same
steps and to rounding.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import ctrnn
from ctrnn import inputs
from ctrnn.errors import DivergenceError, TooManyStepsError, UnknownNameError, UsageError

RNG = np.random.default_rng(3)
DECAY = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, parameters={"k": 1.0}), r0=[2.0], t_span=(0.0, 1.0))
NETWORK = ctrnn.RateNetwork(4, inputs=1, seed=0, tau=np.linspace(0.5, 2.0, 4), train_tau=True)
DRIVEN = ctrnn.Problem(NETWORK, 0.1, (0.0, 4.0), x=inputs.Pulse(1.0, 1.5) + inputs.Sine(0.3))


def test_members_have_the_analytic_solution_to_the_tolerance():
    k = np.geomspace(0.1, 10.0, 200)
    found = ctrnn.ensemble(DECAY, {"k": k}, save_at=[0.0, 0.5, 1.0], rtol=1e-10, atol=1e-12)
    t = np.array([0.0, 0.5, 1.0])
    assert_allclose(found.r[:, :, 0], 2.0 * np.exp(-np.outer(k, t)), rtol=0, atol=1e-9)
    assert (found.steps > 0).all() and found.stats.steps == found.steps.sum()


@pytest.mark.parametrize(
    ("options", "off"),
    [
        ({}, 1e-12),
        ({"solver": "rk4", "dt": 0.1}, 1e-14),
        ({"solver": "kvaerno5"}, 0.0),
        ({"solver": "dop853"}, 1e-12),
        ({"solver": "exponential-euler", "dt": 0.1}, 0.0),
    ],
)
def test_a_member_is_its_own_problem(options, off):
    """With the same steps, and bit for bit where it does not go in lanes."""
    vectors = NETWORK.vector + 0.1 * RNG.normal(size=(300, NETWORK.m))
    vectors[:, -4:] = np.abs(vectors[:, -4:])
    starts, times = RNG.normal(size=(300, 4)), [0.0, 1.3, 4.0]
    found = ctrnn.ensemble(DRIVEN, vectors, starts, save_at=times, **options)
    for b in (0, 1, 31, 32, 165, 166, 256, 257, 299):  # the first alone, and both sides of the borders between chunks
        alone = ctrnn.simulate(
            DRIVEN.replace(field=NETWORK.with_vector(vectors[b]), r0=starts[b]), save_at=times, **options
        )
        assert_allclose(found[b].r, alone.r, rtol=0, atol=off)
        assert found[b].stats.steps == alone.stats.steps
        assert found[b].stats.rejected == alone.stats.rejected


@pytest.mark.parametrize("field", [NETWORK, ctrnn.RateNetwork(30, inputs=1, seed=0, mask=np.eye(30, dtype=bool))])
def test_a_table_of_parameters_is_the_vectors_it_stands_for(field):
    problem = ctrnn.Problem(field, 0.1, (0.0, 1.0), x=1.0)
    W = field.parameters["W"] * RNG.uniform(0.5, 1.5, size=(5, 1, 1))
    by_table = ctrnn.ensemble(problem, {"W": W})
    vectors = np.stack([field.with_parameters(W=w).vector for w in W])
    assert_array_equal(by_table.r, ctrnn.ensemble(problem, vectors).r)
    alone = ctrnn.simulate(problem.replace(field=field.with_parameters(W=W[3])), save_at=[1.0])
    assert_allclose(by_table.r[3], alone.r, rtol=0, atol=1e-13)


def test_company_does_not_matter():
    vectors = NETWORK.vector + 0.1 * RNG.normal(size=(130, NETWORK.m))
    vectors[:, -4:] = np.abs(vectors[:, -4:])
    whole, part = ctrnn.ensemble(DRIVEN, vectors), ctrnn.ensemble(DRIVEN, vectors[37:90])
    assert_array_equal(whole.r[37:90], part.r)


def test_torch_fields_have_ensembles_too():
    field = ctrnn.TorchField(lambda t, r, w, x: -w["k"] * r, n=1, parameters={"k": [1.0]})
    found = ctrnn.ensemble(ctrnn.Problem(field, [1.0], (0.0, 1.0)), np.array([[0.5], [2.0]]), rtol=1e-8)
    assert_allclose(found.r[:, 0, 0], np.exp([-0.5, -2.0]), rtol=1e-7)


BLOWS_UP = ctrnn.Problem(ctrnn.Equations({"r": "a*r**2"}, parameters={"a": -1.0}), [1.0], (0.0, 2.0))


def test_a_member_that_fails_is_told_by_number():
    a = {"a": np.array([-1.0, -2.0, 1.0, -3.0])}  # a = 1: infinite at t = 1
    with pytest.raises((DivergenceError, TooManyStepsError, ctrnn.errors.SolverError), match="member 2: "):
        ctrnn.ensemble(BLOWS_UP, a)
    found = ctrnn.ensemble(BLOWS_UP, a, allow_failures=True)
    assert list(found.failures) == [2] and np.isnan(found.r[2]).all()
    assert_allclose(found.r[[0, 1, 3], 0, 0], 1 / (1 + 2 * np.array([1.0, 2.0, 3.0])), rtol=1e-7)
    assert "1 failed" in repr(found)
    with pytest.raises(ctrnn.errors.SolverError, match="member 2"):
        found[2]
    with pytest.raises(IndexError):
        found[4]


def test_a_field_that_is_not_finite_at_a_start():
    field = ctrnn.Equations({"r": "log(r)"}, parameters={})
    problem = ctrnn.Problem(field, [1.0], (0.0, 0.1))
    found = ctrnn.ensemble(problem, r0=[[2.0], [-1.0]], allow_failures=True)
    assert list(found.failures) == [1] and isinstance(found.failures[1], DivergenceError)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, UsageError, "parameters, r0: .*a batch of one of them"),
        ({"parameters": [1.0]}, UsageError, r"parameters: .*shape \(B, 1\)"),
        ({"parameters": [[np.nan]]}, UsageError, "parameters: .*finite"),
        ({"parameters": {"q": [1.0]}}, UnknownNameError, "parameters: got 'q'"),
        ({"parameters": {"k": 1.0}}, UsageError, r"parameters\['k'\]: .*shape \(B\)"),
        ({"parameters": {}}, UsageError, "parameters: "),
        ({"parameters": [[1.0]], "r0": [[1.0], [2.0]]}, UsageError, "r0: got '2 states'"),
        ({"r0": [1.0]}, UsageError, r"r0: .*shape \(B, 1\)"),
        ({"r0": [[1.0]], "solver": "scipy:LSODA"}, UsageError, "solver: "),
        ({"r0": [[1.0]], "save_at": [2.0]}, UsageError, "save_at: "),
    ],
)
def test_bad_input_is_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        ctrnn.ensemble(DECAY, **arguments)


def test_values_outside_a_parameters_range_are_refused():
    vectors = np.tile(NETWORK.vector, (3, 1))
    vectors[1, -1] = -1.0
    with pytest.raises(UsageError, match=r"parameters: got 'tau\[3\] = -1 in member 1'"):
        ctrnn.ensemble(DRIVEN, vectors)


def test_states_of_all_members_by_name():
    """Arrays of states have their shape, behind those of members and times; so have they in one member."""
    field = ctrnn.Equations({"r": "-r", "W": "-W", "s": "-s"}, states={"r": 2, "W": (2, 3)})
    r0 = np.random.default_rng(0).normal(size=(5, 9))
    found = ctrnn.ensemble(ctrnn.Problem(field, r0[0], (0.0, 1.0)), r0=r0, save_at=[0.0, 1.0])
    for b in range(5):
        for name in ("r", "W", "s", "W[1,2]"):
            np.testing.assert_array_equal(found[name][b], found[b][name])
    np.testing.assert_array_equal(found["W"][:, 0], r0[:, 2:8].reshape(5, 2, 3))
    with pytest.raises(UnknownNameError, match="state: got 'q'"):
        found["q"]
