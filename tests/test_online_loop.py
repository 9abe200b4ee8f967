"""Many steps of a learner in one call of compiled code: the same bits as one at a time, and torch's own updates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_online_learner import data, network

from ctrnn import Readout
from ctrnn.errors import NotFiniteError, UnknownNameError, UsageError
from ctrnn.gradients.rules.rule import Memory, Rule
from ctrnn.kernels.rules import loop
from ctrnn.learning import OnlineLearner


@pytest.mark.parametrize("method", ["rtrl", "snap-1", "e-prop", {"name": "tbptt", "window": 5}, "uoro"])
@pytest.mark.parametrize(("solver", "optimizer"), [("euler", "adam"), ("heun", {"name": "sgd", "momentum": 0.5})])
def test_many_steps_in_one_call_are_the_same_bits_as_one_at_a_time(method, solver, optimizer):
    """Whatever ends a call of the compiled loop: rows of a table, starts of a window, resets, a checkpoint."""
    (x, y), options = data(90, 3, 2), {"solver": solver, "optimizer": optimizer, "lr": 0.01, "clip": 0.5, "dt": 0.5}
    readout = Readout(np.random.default_rng(1).normal(size=(2, 5)))
    at_once, by_one = (
        OnlineLearner(network(), method, readout=readout, drift_window=w, update_every=3, **options) for w in (0, 7)
    )
    at_once.run(x, y, reset_every=40)
    for k in range(90):
        if k in (40, 80):
            by_one.reset()
        by_one.step(x[k], y[k])
    assert at_once.updates == by_one.updates == 30
    np.testing.assert_array_equal(at_once.r, by_one.r)
    np.testing.assert_array_equal(at_once.field.vector, by_one.field.vector)
    np.testing.assert_array_equal(at_once.readout.V, by_one.readout.V)


def test_updates_at_times_within_one_call():
    (x, y), times = data(30, 3, 5), [0.3, 4.0, 4.5, 17.2, 99.0]
    at_once, by_one = (OnlineLearner(network(), update_every=times, lr=0.01) for _ in range(2))
    at_once.run(x, y)
    after = [by_one.updates for x_t, y_t in zip(x, y, strict=True) if by_one.step(x_t, y_t) is not None]
    assert [1 + int(np.argmax(np.array(after) == k)) for k in (1, 2, 3, 4)] == [1, 4, 5, 18] and after[-1] == 4
    np.testing.assert_array_equal(at_once.field.vector, by_one.field.vector)


@pytest.mark.parametrize(
    "made",
    [
        lambda p: torch.optim.SGD(p, lr=0.1),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, dampening=0.3, weight_decay=0.1),
        lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.2),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.3),
    ],
)
def test_compiled_updates_are_those_of_torch(made):
    """300 updates with the state that torch began, beside torch alone along the same gradients."""
    field, (x, y) = network(), data(300, 3, 5)
    learner = OnlineLearner(field, optimizer=made)
    tensors = [torch.tensor(v, requires_grad=True) for v in field.parameters.values()]
    theirs = made(tensors)
    for x_t, y_t in zip(x, y, strict=True):
        learner.step(x_t, y_t)
        for tensor, part in zip(tensors, learner.gradient().parameters.values(), strict=True):
            tensor.grad = torch.tensor(part)
        theirs.step()
    expected = np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])
    np.testing.assert_allclose(learner.field.vector, expected, rtol=1e-13, atol=1e-13)
    assert np.abs(expected - field.vector).max() > 0.01


@pytest.mark.parametrize("option", [{"amsgrad": True}, {"maximize": True}])
def test_an_optimizer_with_more_to_it_is_left_to_torch(option):
    (x, y), field = data(20, 3, 5), network()
    plain, other = (
        OnlineLearner(field, optimizer={"name": "adam", **more}, lr=0.01, update_every=2) for more in ({}, option)
    )
    for learner in (plain, other):
        learner.run(x, y)
    tensor = torch.tensor(field.vector, requires_grad=True)
    theirs, by_torch = torch.optim.Adam([tensor], lr=0.01, **option), OnlineLearner(field, update_every=None)
    assert other.updates == 10 and np.abs(other.field.vector - plain.field.vector).max() > 1e-6
    by_torch.step(x[0], y[0]), by_torch.step(x[1], y[1])
    tensor.grad = torch.tensor(by_torch.gradient().vector)
    theirs.step()
    first = OnlineLearner(field, optimizer={"name": "adam", **option}, lr=0.01, update_every=2)
    first.run(x[:2], y[:2])
    np.testing.assert_allclose(first.field.vector, tensor.detach().numpy(), rtol=0, atol=1e-15)


class _Counting(Rule):
    """A rule in Python that is of no use, and fails at its third step."""

    def start(self, lane, rng):
        class Nothing(Memory):
            steps = 0

            def reset(self):
                self.steps = 0

            def take(self, step):
                self.steps += 1
                if self.steps == 3:
                    raise ValueError("the third step")

            def pull(self, row):
                return self.lane.zeros()

        return Nothing(lane, rng)


def test_what_a_rule_in_python_raises_comes_out_of_the_loop():
    learner, (x, y) = OnlineLearner(network(), _Counting()), data(9, 3, 5)
    with pytest.raises(ValueError, match="the third step"):
        learner.run(x, y)
    assert learner.steps == 3 and learner.updates == 2
    learner.reset()
    assert learner.step(x[0], y[0]) > 0.0


def test_a_large_p_is_divided_among_threads(monkeypatch):
    (x, y), found = data(60, 3, 5), []
    for least in (2**23, 0):
        monkeypatch.setattr("ctrnn.gradients.rules.exact.WORTH_THREADS", least)
        learner = OnlineLearner(network(), lr=0.01)
        learner.run(x, y)
        found.append(learner.field.vector)
    np.testing.assert_array_equal(*found)


def test_a_loss_that_is_infinite_moves_nothing():
    learner, (x, _) = OnlineLearner(network(), loss="1e308*exp(1000*r0)"), data(5, 3, 5)
    before = learner.field.vector
    with pytest.raises(NotFiniteError):
        learner.run(x)
    assert learner.steps == 1 and learner.updates == 0
    np.testing.assert_array_equal(learner.field.vector, before)


def test_what_goes_wrong_is_told_in_the_words_of_learning():
    """Not those of a gradient along a solution: neither the objective nor backward methods are to blame."""
    field, (x, y) = network(activation="linear", gain=30.0), data(60, 3, 5)
    with pytest.raises(NotFiniteError, match=r"at t = \d+\. Try: a smaller lr"):
        OnlineLearner(field, optimizer="sgd", lr=10.0, clip=1e200).run(x * 1e100, y)
    with pytest.raises(UnknownNameError, match="did you mean 'snap-1'") as told:
        OnlineLearner(network(), "snap1")
    assert "kf-rtrl" in str(told.value) and "adjoint" not in str(told.value)
    with pytest.raises(UsageError, match="goes forward with the run: rtrl"):
        OnlineLearner(network(), "adjoint")


def test_data_compile_nothing_new_whether_they_are_seen_or_copied():
    """Those of each lane are seen, and cannot be written to, which is a type of its own; those of all are copied."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 5))
    seen, copied = (OnlineLearner(network(), lr=0.01, batch=4) for _ in range(2))
    seen.run(np.repeat(x[:, None], 4, axis=1), np.repeat(y[:, None], 4, axis=1))
    known = set(loop.learn.signatures)
    copied.run(x, y)
    assert set(loop.learn.signatures) == known
    np.testing.assert_array_equal(seen.field.vector, copied.field.vector)
