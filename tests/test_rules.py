"""Rules of learning along recorded runs: what each carries, against exact gradients and against its own formula."""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn
from ctrnn import Objective, Problem, RateNetwork, gradient
from ctrnn.gradients.methods import named
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.rules.exact import ExactRule
from ctrnn.gradients.rules.step import Lane, steps_of
from ctrnn.problem import Settings

FIXED = Settings("rk4", dt=0.1)


def make_problem(field, T=3.0, at=(1.0, 2.0, 3.0)):
    r0 = np.random.default_rng(2).normal(size=field.n)
    x = ctrnn.inputs.Sine(0.3) if field.input_size else None
    return Problem(field, r0, (0.0, T), x=x, objective=Objective(target=0.3, at=list(at)))


def along(rule, problem, settings=FIXED, weights=None):
    """The gradient that a rule gives along a recorded run; ``weights``: of each step, in the place of the field's."""
    recording = StepperRecording(problem, settings, "test")
    lane = Lane(problem.field, recording.bound, recording.a, recording.b)
    memory = rule.start(lane, np.random.default_rng(0))
    recording.start()
    for block in recording.blocks():
        for step, jump in steps_of(lane, block):
            if weights is not None:
                step.w = next(weights)
            memory.take(step)
            if jump is not None:
                memory.add(jump)
    return lane.vector(memory.collect()), memory


FIELDS = {
    "network": lambda: RateNetwork(6, inputs=1, gain=1.3, seed=1),
    "rate form": lambda: RateNetwork(6, inputs=1, gain=1.3, seed=1, form="rate", train_tau=True),
    "parts": lambda: RateNetwork(6, inputs=1, gain=1.3, seed=1, mask=np.kron(np.eye(3), np.ones((2, 2)))),
    "diagonal": lambda: RateNetwork(6, inputs=1, gain=1.3, seed=1, mask=np.eye(6)),
    "text": lambda: ctrnn.GRUNetwork(4, 1, seed=0),
    "small": lambda: ctrnn.Equations({"u": "a*v - u", "v": "tanh(b*u) - v"}, {"a": 1.1, "b": -2.0}),
}
every_field = pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)


@every_field
@pytest.mark.parametrize("block", [1, 4, None])
def test_exact_is_the_adjoint(field, block):
    """To 1e-12, whatever the block: the way back of one row at each loss is that of BPTT."""
    problem = make_problem(field())
    exact = gradient(problem, "adjoint", solver="rk4", dt=0.1).vector
    g, _ = along(ExactRule(block), problem)
    assert np.linalg.norm(g - exact) < 1e-12 * np.linalg.norm(exact)


@every_field
def test_exact_with_moving_weights_is_the_textbook(field):
    """P ← Φ_t P + C_t with the weights of each step, whatever the block, to 1e-12; not so at rest."""
    problem = make_problem(field())
    rng, bound = np.random.default_rng(5), problem.bind()
    drawn = [bound.system.w * (1.0 + 0.05 * rng.normal(size=bound.system.w.size)) for _ in range(30)]
    one, few, many = (along(ExactRule(block), problem, weights=iter(drawn)) for block in (1, 4, 64))
    recording = StepperRecording(problem, FIXED, "test")
    lane = Lane(problem.field, recording.bound, recording.a, recording.b)
    recording.start()
    P, expected = np.zeros((problem.field.n, problem.field.m)), np.zeros(problem.field.m)
    for (step, jump), w in zip(steps_of(lane, next(recording.blocks())), drawn, strict=True):
        step.w = w
        P = step.phi @ P + lane.bound.rows(step.C)
        expected += 0.0 if jump is None else jump @ P
    size = np.linalg.norm(expected)
    for g, memory in (one, few, many):
        assert np.linalg.norm(g - expected) < 1e-12 * size
        np.testing.assert_allclose(memory.sensitivities, P, atol=1e-12 * np.abs(P).max())
    assert np.linalg.norm(along(ExactRule(), problem)[0] - expected) > 1e-3 * size


@every_field
def test_a_step_forward_and_back_are_transposes(field):
    problem = make_problem(field())
    recording = StepperRecording(problem, FIXED, "test")
    lane = Lane(problem.field, recording.bound, recording.a, recording.b)
    step, _ = list(steps_of(lane, next(recording.blocks())))[3]
    rng = np.random.default_rng(0)
    dr, dw, row = rng.normal(size=lane.n), rng.normal(size=lane.m), rng.normal(size=(1, lane.n))
    back, G = step.left(row)
    there = float(back[0] @ dr + lane.vector(G[:, 0]) @ dw)
    assert float(row[0] @ step.right(dr, dw)) == pytest.approx(there, rel=1e-12)
    np.testing.assert_allclose(row @ step.phi, back, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(np.matmul(row, step.C), G, rtol=1e-12, atol=1e-14)


def test_rflo_along_steps_is_rflo_of_the_equation():
    """The leak-only sensitivity through RK4 steps, forward and as a rule, to 1e-12."""
    problem = make_problem(FIELDS["network"]())
    expected = gradient(problem, "rflo", solver="rk4", dt=0.1).vector
    g, _ = along(named("rflo").rule(), problem)
    assert np.linalg.norm(g - expected) < 1e-12 * np.linalg.norm(expected)


@every_field
def test_a_window_is_truncated_bptt(field):
    problem = make_problem(field())
    method = ctrnn.TruncatedBPTT(window=5)
    expected = gradient(problem, method, solver="rk4", dt=0.1).vector
    g, _ = along(method.rule(), problem)
    assert np.linalg.norm(g - expected) < 1e-12 * np.linalg.norm(expected)
    exact = gradient(problem, "adjoint", solver="rk4", dt=0.1).vector
    assert np.linalg.norm(g - exact) > 1e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize("name", ["rtrl", "snap-1", "rflo", "tbptt"])
def test_a_memory_comes_back_to_the_same_bits(name):
    problem = make_problem(FIELDS["network"]())
    rule = named(name).rule()
    recording = StepperRecording(problem, FIXED, "test")
    lane = Lane(problem.field, recording.bound, recording.a, recording.b)
    steps = list(steps_of(lane, next(recording.blocks())))
    one, row = rule.start(lane, np.random.default_rng(0)), np.ones(lane.n)
    for step, _ in steps[:17]:
        one.take(step)
        one.add(row)
    two = rule.start(lane, np.random.default_rng(0))
    two.load_state_dict(one.state_dict())
    for memory in (one, two):
        for step, _ in steps[17:]:
            memory.take(step)
            memory.add(row)
    np.testing.assert_array_equal(one.collect(), two.collect())
    one.reset()
    assert not one.pull(row).any()
