"""The unit of time is anybody's: a = 1e-200 over T = 1e200 is as exact as a = 1 over T = 1."""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn

EXACT = np.array([np.exp(-3.0), 3.0 * np.exp(-3.0)])


def chain(a: float, **options):
    field = ctrnn.Equations({"r": "-a*r", "u": "a*r - a*u"}, {"a": a})
    return ctrnn.Problem(field, [1.0, 0.0], (0.0, 3.0 / a), **options)


@pytest.mark.parametrize("a", [1e-300, 1e-200, 1e-30, 1.0, 1e30, 1e200, 1e300])
@pytest.mark.parametrize("solver", ["tsit5", "dop853", "kvaerno5"])
def test_solutions_do_not_depend_on_the_unit_of_time(a, solver):
    run = ctrnn.simulate(chain(a), solver=solver)
    assert np.abs(run.r[-1] - EXACT).max() < 2e-10


@pytest.mark.parametrize("a", [1e-200, 1.0, 1e300])
def test_nor_do_those_of_an_ensemble(a):
    field = ctrnn.Equations({"r": "-a*r"}, {"a": a})
    problem = ctrnn.Problem(field, [1.0], (0.0, 3.0 / a))
    for solver in ("tsit5", "dop853"):
        found = ctrnn.ensemble(problem, {"a": np.linspace(1.0, 1.3, 9) * a}, solver=solver).r[:, -1, 0]
        assert np.abs(found - np.exp(-3.0 * np.linspace(1.0, 1.3, 9))).max() < 2e-10


@pytest.mark.parametrize("solver", ["tsit5", "kvaerno5"])
@pytest.mark.parametrize("a", [1e-100, 1.0, 1e100])
def test_nor_do_sensitivities(a, solver):
    found = ctrnn.sensitivities(chain(a), [3.0 / a], solver=solver)
    assert np.abs(a * found.p[-1, :, 0] / [-3.0 * np.exp(-3.0), -6.0 * np.exp(-3.0)] - 1.0).max() < 1e-7
