"""What results show of themselves: short, whatever their size."""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn
from ctrnn import analysis, inputs, inverse
from ctrnn.learning import OnlineLearner, compare_learners, priors, tasks

N = 300
NETWORK = ctrnn.RateNetwork(N, inputs=1, gain=0.5, seed=0)
ROOM = np.random.default_rng(0).normal(size=(400, N))


def learner():
    learner = OnlineLearner(NETWORK, "rflo", readout=ctrnn.Readout(np.ones((1, N))), dt=0.1, update_every=None)
    learner.run(np.ones((3, 1)), np.ones((3, 1)))
    return learner


def rest():
    return ctrnn.find_equilibrium(NETWORK, np.zeros(N), x=[0.1])


MADE = {
    "OnlineGradient": lambda: learner().gradient(),
    "Equilibrium": rest,
    "FixedPoints": lambda: analysis.fixed_points(NETWORK, np.zeros((1, N)), x=[0.1]),
    "EquilibriumGradient": lambda: ctrnn.equilibrium_gradient(NETWORK, rest(), np.ones(N), x=[0.1]),
    "Nudged": lambda: ctrnn.equilibrium_propagation(NETWORK, np.zeros(N), lambda r: r, x=[0.1]),
    "Inverse": lambda: inverse.right_divide(np.ones(N), -np.eye(N)),
    "Tracked": lambda: inverse.zhang(lambda t: -np.eye(3), (0.0, 1.0), dt=0.01),
    "TransientGrowth": lambda: analysis.transient_growth(-np.eye(N), np.linspace(0.0, 1.0, 5)),
    "Projection": lambda: analysis.principal_components(ROOM),
    "LinearSubspaces": lambda: analysis.linear_subspaces(ROOM[:N]),
    "Objective": lambda: ctrnn.Objective(target=ROOM, at=np.arange(400.0)),
    "EventObjective": lambda: ctrnn.EventObjective(target=np.arange(400.0)),
    "Stream": lambda: tasks.adding(trials=4, steps=10).stream(lanes=2),
    "WhiteNoise": lambda: ctrnn.WhiteNoise(np.ones(N), seed=0),
    "Constant": lambda: inputs.Constant(np.ones(N)),
    "Sine": lambda: inputs.Sine(np.ones(N)),
    "Pulse": lambda: inputs.Pulse(0.0, 1.0, np.ones(N)),
    "Prior": lambda: priors.Normal(np.ones(N), 1.0),
}


@pytest.mark.parametrize("what", MADE)
def test_no_repr_lists_hundreds_of_numbers(what):
    made = MADE[what]()
    shown = repr(made)
    assert 10 < len(shown) < 2500 and str(made) == shown
    assert all(len(line) < 300 for line in shown.splitlines())
    assert "array([" not in shown


def test_special_points_are_a_line_each():
    field = ctrnn.Equations({"u": "a*u - v - u*(u**2 + v**2)", "v": "u + a*v - v*(u**2 + v**2)"}, {"a": -0.5})
    special = analysis.continue_equilibria(field, [0.0, 0.0], "a", (-1.0, 1.0)).special
    assert repr(special) == "(hopf (supercritical) at a = 0, ω = 1, l1 = -2,)"


def test_the_gradient_of_a_learner_names_its_parts():
    lines = repr(learner().gradient()).splitlines()
    assert lines[0].startswith("gradient since the last update: loss = ")
    assert [line.split()[0] for line in lines[1:]] == [f"|dl/d{name}|" for name in ("W", "U", "b", "V", "c")]
    assert lines[-1].endswith("(1,), of the read-out")


@pytest.mark.parametrize(
    ("T", "said"),
    [(20, "1 window of 20 steps, f"), (100, "2 windows of 50 steps, f"), (120, "50 steps, the last of 20, f")],
)
def test_windows_that_the_data_do_not_fill_are_said(T, said):
    network = ctrnn.RateNetwork(3, inputs=1, seed=0)
    found = compare_learners(network, np.ones((T, 1)), np.ones((T, 1)), ["rflo"], readout="r0", dt=0.1)
    assert said in repr(found)
    assert found.window == min(50, T) and found.step[-1] == T
