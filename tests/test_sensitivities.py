"""Sensitivities of chosen parameters, and tolerances of their own: columns as from all, errors as asked for.

Reference: dr/dk = −t e^(−kt) of exponential decay, and the columns of all sensitivities at tight tolerances.
"""

import numpy as np
import pytest
from scenarios import driven, jumping_inputs, lotka_volterra, state_network

import ctrnn
from ctrnn import Equations, Problem, sensitivities
from ctrnn.errors import UnknownNameError, UsageError

TIGHT = {"solver": "dop853", "rtol": 1e-12, "atol": 1e-13}
AT = [0.5, 1.0, 2.0]


@pytest.mark.parametrize("make", [driven, state_network], ids=["equations", "network"])
@pytest.mark.parametrize(
    "how",
    [TIGHT, {"solver": "rk4", "dt": 0.01}, {"solver": "scipy:DOP853", "rtol": 1e-11, "atol": 1e-12}],
    ids=["dop853", "rk4", "scipy"],
)
def test_chosen_columns_are_those_of_all(make, how):
    problem = driven(None, jumping_inputs()) if make is driven else state_network()
    every = sensitivities(problem, AT, **how)
    for wrt in (["k", "p"], ["s"], "q") if make is driven else (["b"], ["tau", "W"], ["U[1,0]", "W[0,2]", "b"]):
        some = sensitivities(problem, AT, wrt=wrt, **how)
        asked = [wrt] if isinstance(wrt, str) else wrt
        columns = [i for i, label in enumerate(every.labels) if label in asked or label.split("[")[0] in asked]
        assert some.labels == tuple(every.labels[i] for i in columns) and some.p.shape == (
            3,
            problem.field.n,
            len(columns),
        )
        assert np.allclose(some.p, every.p[:, :, columns], rtol=1e-9, atol=1e-10)
        assert np.allclose(some.p0, every.p0, rtol=1e-9, atol=1e-10) and np.allclose(some.r, every.r, rtol=1e-9)


def test_all_names_are_all_columns():
    problem = lotka_volterra(None)
    every = sensitivities(problem, AT)
    same = sensitivities(problem, AT, wrt=["d", "b", "a", "c"])
    assert same.labels == every.labels == ("a", "b", "c", "d")
    assert same.p.tobytes() == every.p.tobytes()


def test_what_is_left_out_has_no_say_in_the_step_test():
    """dr/dk is wild and dr/dm tame: without k, in equations and by label, the steps are fewer."""
    field = Equations({"u": "-m*u", "v": "sin(k*exp(4*sin(40*t))*0.5) - v"}, {"m": 1.0, "k": 1.0})
    problem = Problem(field, [1.0, 0.0], (0.0, 2.0))
    every, tame = (sensitivities(problem, AT, wrt=wrt, rtol=1e-6) for wrt in (None, ["m"]))
    assert tame.stats.steps < every.stats.steps
    assert np.allclose(tame.p[:, 0, 0], -np.array(AT) * np.exp(-np.array(AT)), rtol=1e-4)
    # in a network all columns are computed, and those that were not asked for have no say
    network = state_network()
    all_of_it = sensitivities(network, AT, rtol=1e-5, sensitivity_atol=1e-12, sensitivity_rtol=1e-9)
    few = np.full(5, 1e-2)
    chosen = sensitivities(network, AT, rtol=1e-5, wrt=["b"], sensitivity_atol=few, sensitivity_rtol=1e-2)
    assert chosen.stats.steps < all_of_it.stats.steps


def test_tolerances_of_their_own():
    """The error of dr/dk follows its own tolerance while that of r stays."""
    problem = Problem(Equations({"r": "-k*r"}, {"k": 2.0}), [1.0], (0.0, 2.0))
    exact = -np.array(AT) * np.exp(-2.0 * np.array(AT))

    def error(**how):
        s = sensitivities(problem, AT, rtol=1e-3, atol=1e-5, **how)
        return np.max(np.abs(s.p[:, 0, 0] - exact)), s.stats.steps

    loose, default = error(error_control="state"), error()
    tight = error(sensitivity_rtol=1e-9, sensitivity_atol=1e-11)
    tightest = error(sensitivity_rtol=1e-11, sensitivity_atol=[1e-13])
    assert tight[0] < 1e-8 and tightest[0] < 1e-10
    assert loose[1] <= default[1] < tight[1] < tightest[1]
    assert default[0] < 2e-3


def test_what_does_not_fit():
    problem = lotka_volterra(None)
    with pytest.raises(UnknownNameError, match="wrt"):
        sensitivities(problem, AT, wrt=["a", "z"])
    with pytest.raises(UnknownNameError, match="W"):
        sensitivities(state_network(), AT, wrt=["W[9,9]"])
    for options, name in (
        ({"wrt": []}, "wrt"),
        ({"sensitivity_atol": [1e-6, 1e-6]}, "sensitivity_atol"),
        ({"sensitivity_rtol": -1.0}, "sensitivity_rtol"),
        ({"sensitivity_rtol": np.nan}, "sensitivity_rtol"),
        ({"sensitivity_rtol": 0.0, "sensitivity_atol": 0.0}, "not both zero"),
        ({"sensitivity_rtol": 1e-3, "error_control": "state"}, "error_control"),
        ({"sensitivity_rtol": 1e-3, "solver": "torchdiffeq:dopri5"}, "torchdiffeq"),
    ):
        with pytest.raises(UsageError, match=name):
            sensitivities(problem, AT, **options)


def test_some_parameters_of_array_equations_with_a_definition():
    """The columns that were asked for, the others as inputs: those of all parameters, to the tolerance."""
    rng = np.random.default_rng(0)
    field = ctrnn.Equations(
        {"r": "(-r + W @ s + U @ x)/tau", "z": "-z + v[1]*sum(r)"},
        parameters={"W": rng.normal(size=(3, 3)), "U": rng.normal(size=(3, 2)), "v": [0.3, 0.4], "tau": 0.7},
        states={"r": 3},
        inputs={"x": 2},
        definitions={"s": "tanh(r)"},
    )
    problem = ctrnn.Problem(
        field, rng.normal(size=4), (0.0, 2.0), x=ctrnn.inputs.stack(ctrnn.inputs.Sine(0.3), ctrnn.inputs.Sine(0.2))
    )
    how = {"save_at": [0.5, 2.0], "rtol": 1e-10, "atol": 1e-12}
    every, some = ctrnn.sensitivities(problem, **how), ctrnn.sensitivities(problem, wrt=["v", "U"], **how)
    columns = [field.labels.index(label) for label in some.labels]
    assert len(columns) == 8
    np.testing.assert_allclose(some.p, every.p[:, :, columns], rtol=1e-7, atol=1e-9)
