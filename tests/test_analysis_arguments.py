"""The analysis reads numbers as everything else does: texts, masked values and dates are refused by name."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import ctrnn
from ctrnn import Equations, Problem, analysis
from ctrnn.errors import UsageError

FIELD = Equations({"x": "y", "y": "mu*(1 - x**2)*y - x"}, {"mu": 1.0})
PROBLEM = Problem(FIELD, [1.0, 0.0], (0.0, 1.0))
RUN = ctrnn.simulate(PROBLEM)

CALLS = {
    "starts": lambda v: analysis.equilibrium_branches(FIELD, v, parameter="mu", span=(0.5, 2.0)),
    "times": lambda v: analysis.jacobian_products(PROBLEM, times=v),
    "r": lambda v: analysis.EulerMap(FIELD, dt=0.1)(v),
    "t": lambda v: analysis.transient_growth(-np.eye(2), v),
    "J": analysis.henrici_number,
    "states": analysis.principal_components,
    "coordinates": lambda v: analysis.principal_components(RUN).back(v),
    "mu": lambda v: analysis.lyapunov_spectra(PROBLEM, {"mu": v}),
}
VALUES = {
    "text": [["a", "b"], ["c", "d"]],
    "masked": np.ma.masked_array([[1.0, 2.0], [3.0, 4.0]], [[True, False], [False, False]]),
    "dates": np.array([["2026-01-01", "2026-01-02"]] * 2, dtype="datetime64[D]"),
}


@pytest.mark.parametrize("name", ["I[1]", "x[1]"])
def test_an_entry_of_an_input_of_any_name_is_a_parameter(name):
    """dr/dt = −r + 1.5 tanh r + I has folds where 1.5 (1 − tanh² r) = 1, in each of the two units."""
    field = Equations({"r": "-r + 1.5*tanh(r) + I"}, states={"r": 2}, inputs={"I": 2})
    branch = analysis.continue_equilibria(field, [0.0, 0.0], name, (-1.0, 1.0), x=[0.0, 0.0])
    r = np.arctanh(np.sqrt(1.0 / 3.0))
    fold = 1.5 * np.tanh(r) - r
    np.testing.assert_allclose(sorted(p.parameter for p in branch.of_kind("fold")), [-fold, fold], rtol=1e-9)
    np.testing.assert_array_equal(branch.r[:, 0], 0.0)


@pytest.mark.parametrize("argument", CALLS)
@pytest.mark.parametrize("kind", VALUES)
def test_what_is_no_array_of_numbers_is_refused_by_name(argument, kind):
    with pytest.raises(UsageError, match=f"^{argument}: "):
        CALLS[argument](VALUES[kind])


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "2", float("nan")])
@pytest.mark.parametrize(
    ("argument", "call"),
    {
        "period": lambda v: analysis.EulerMap(FIELD, dt=0.1).cycles([[1.0, 0.0]], period=v),
        "looks": lambda v: analysis.jacobian_products(PROBLEM, dt=0.1, looks=v),
        "most": lambda v: analysis.equilibrium_branches(FIELD, [[0.0, 0.0]], parameter="mu", span=(0.5, 2.0), most=v),
        "points": lambda v: analysis.basins(FIELD, ((-1, 1), (-1, 1)), points=v),
    }.items(),
)
def test_counts(argument, call, value):
    with pytest.raises(UsageError, match=f"^{argument}: got"):
        call(value)


@pytest.mark.parametrize("value", [0.0, -1.0, "a", float("nan"), None, [1.0, 2.0]])
@pytest.mark.parametrize(
    ("argument", "call"),
    {
        "tol": lambda v: analysis.limit_cycle(PROBLEM, tol=v),
        "amplitude": lambda v: analysis.limit_cycle(LINEAR, hopf(), amplitude=v),
        "max_period": lambda v: analysis.continue_cycles(FIELD, cycle(), "mu", (0.5, 2.0), max_period=v or -1.0),
        "t_end": lambda v: analysis.saddle_manifolds(saddle(), t_end=v or -1.0),
        "distance": lambda v: analysis.saddle_manifolds(saddle(), distance=v),
    }.items(),
)
def test_positive_numbers(argument, call, value):
    with pytest.raises(UsageError, match=f"^{argument}: got"):
        call(value)


LINEAR = Equations({"u": "a*u - v", "v": "u + a*v"}, {"a": -0.5})


@functools.cache
def hopf():
    return analysis.continue_equilibria(LINEAR, [0.0, 0.0], "a", (-1.0, 1.0)).special[0]


@functools.cache
def cycle():
    return analysis.limit_cycle(PROBLEM.replace(t_span=(0.0, 40.0)))


@functools.cache
def saddle():
    return ctrnn.find_equilibrium(Equations({"u": "u", "v": "-v"}), [0.0, 0.0])


@pytest.mark.parametrize("value", [-1, 1.5, True, "2"])
def test_the_seed_of_a_noise(value):
    with pytest.raises(UsageError, match="^seed: got"):
        ctrnn.WhiteNoise(1.0, seed=value)
