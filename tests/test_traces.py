"""Traces of parameters that act on one unit beside parameters that all units share, such as a trained time constant.

The reference is the recursion in NumPy, P ← M ∘ (A P + C), with the field's Jacobians at each step, the weights moving.
"""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn
from ctrnn.gradients.rules.compiled import CompiledMemory
from ctrnn.learning import OnlineLearner

H, LR = 0.2, 0.05
RNG = np.random.default_rng(4)


def adapting(n=5):
    """Two states a unit, and two numbers that all units share."""
    return ctrnn.Equations(
        {"r": "-r + W @ tanh(r) - g*a + U @ x", "a": "(r - a)/tau"},
        parameters={"W": RNG.normal(size=(n, n)) / 2, "U": RNG.normal(size=(n, 2)), "g": 0.5, "tau": 3.0},
        states={"r": n, "a": n},
        inputs={"x": 2},
    )


def ring(n=9):
    """Equations of numbers, with weights that several of them share."""
    rates = {f"r{i}": f"(-r{i} + w*tanh(r{(i + 1) % n}) + v{i}*x0 + x1)/tau" for i in range(n)}
    return ctrnn.Equations(rates, {"w": 0.5, "tau": 2.0} | {f"v{i}": 0.1 * i for i in range(n)}, inputs=["x0", "x1"])


FIELDS = {
    "rate": lambda: ctrnn.RateNetwork(9, inputs=2, train_tau=True, tau=1.5, seed=0),
    "gated": lambda: ctrnn.GRUNetwork(9, inputs=2, train_tau=True, seed=0),
    "long short-term": lambda: ctrnn.LSTMNetwork(5, inputs=2, train_tau=True, seed=0),
    "adapting": adapting,
    "ring": ring,
    "nothing shared": lambda: ctrnn.RateNetwork(9, inputs=2, seed=0),
}


def by_hand(field, x, y, method):
    """The weights behind steps with ½|r − y|² after each, and gradient descent."""
    J, F_w = field.sparsity()
    unit = np.asarray(field.units)
    same = unit[:, None] == unit
    acts = F_w if method == "snap-1" else same @ F_w
    w, r, P = field.vector.copy(), np.zeros(field.n), np.zeros((field.n, field.m))
    for x_t, y_t in zip(x, y, strict=True):
        now = field.with_vector(w)
        phi = np.eye(field.n) + H * now.jacobian(0.0, r, x_t)
        C = H * now.parameter_jacobian(0.0, r, x_t)
        r = r + H * now(0.0, r, x_t)
        P = (phi if method == "snap-1" else np.where(same, phi, 0.0)) @ P + C
        P = np.where(acts, P, 0.0)
        w = w - LR * (r - y_t) @ P
    return w


@pytest.mark.parametrize("method", ["snap-1", "e-prop"])
@pytest.mark.parametrize("name", FIELDS)
def test_traces_are_the_recursion_that_is_written_out(name, method):
    field = FIELDS[name]()
    x, y = RNG.normal(size=(25, 2)), RNG.normal(size=(25, field.n))
    learner = OnlineLearner(field, method, optimizer="sgd", lr=LR, dt=H)
    learner.run(x, y)
    expected = by_hand(field, x, y, method)
    np.testing.assert_allclose(learner.field.vector, expected, rtol=1e-12, atol=1e-13)
    assert np.abs(expected - field.vector).max() > 0.01


@pytest.mark.parametrize("method", ["snap-1", "e-prop", "rflo"])
def test_a_number_that_all_units_share_leaves_the_loop_compiled(method, tmp_path):
    """It had every step of the network go through Python, and each weight a row of all states."""
    n = 40
    field = ctrnn.RateNetwork(n, inputs=2, train_tau=True, seed=0)
    x, y = RNG.normal(size=(20, 2)), RNG.normal(size=(20, n))
    learner = OnlineLearner(field, method, dt=H)
    assert isinstance(learner._loop.memories[0], CompiledMemory)
    learner.run(x[:10], y[:10])
    assert learner.nbytes < 16 * (field.m + n)
    learner.save(tmp_path / "learner.npz")
    again = OnlineLearner.load(tmp_path / "learner.npz")
    for one in (learner, again):
        one.run(x[10:], y[10:])
    np.testing.assert_array_equal(again.field.vector, learner.field.vector)


def test_steps_of_several_stages_have_the_same_traces_of_few_states():
    """What a shared parameter reaches is all states: then P has its zeros."""
    field = ctrnn.RateNetwork(9, inputs=2, train_tau=True, seed=0)
    x, y = RNG.normal(size=(20, 2)), RNG.normal(size=(20, 9))
    euler, stages = (OnlineLearner(field, "snap-1", "sgd", LR, dt=1e-3, solver=s) for s in ("euler", "heun"))
    for learner in (euler, stages):
        learner.run(x, y)
    np.testing.assert_allclose(stages.field.vector, euler.field.vector, atol=1e-5)
