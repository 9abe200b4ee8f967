"""Learning while it runs: against a textbook in plain NumPy, against BPTT, against itself read back from a file."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import ctrnn
from ctrnn import Objective, Problem, RateNetwork, Readout, gradient
from ctrnn.errors import CtrnnError, DivergenceError, UnknownNameError, UsageError
from ctrnn.learning import OnlineLearner, tasks

RNG = np.random.default_rng(0)


def network(n=5, inputs=3, **options):
    """A discrete network h ← φ(W h + U x + b), as Euler steps of dt = tau = 1."""
    return RateNetwork(n, inputs=inputs, form="rate", seed=1, **({"activation": "sigmoid"} | options))


def data(T, inputs, outputs, lanes=()):
    rng = np.random.default_rng(7)
    return rng.random((T, *lanes, inputs)), rng.random((T, *lanes, outputs))


GRU = {"inputs": 2, "seed": 3}
FIELDS = {
    "rate": lambda: network(6, 2),
    "state": lambda: RateNetwork(6, inputs=2, tau=2.0, seed=1),
    "diagonal": lambda: network(6, 2, mask=np.eye(6)),
    "gru": lambda: ctrnn.GRUNetwork(4, **GRU),
    "text": lambda: ctrnn.Equations(
        {"u": "a*v - u + x", "v": "tanh(b*u + y) - v"}, {"a": 0.7, "b": -0.5}, inputs=("x", "y")
    ),
}
every_field = pytest.mark.parametrize("make", FIELDS.values(), ids=FIELDS)


# --- the textbook


def textbook(W, U, b, V, c, x, y, lr):
    """Williams & Zipser's algorithm of h ← σ(W h + U x + b), o = V h + c, ½|o − y|², all weights moved at each step."""
    n = len(b)
    h, P, way = np.zeros(n), np.zeros((n, W.size + U.size + n)), []
    for x_t, y_t in zip(x, y, strict=True):
        new = 1.0 / (1.0 + np.exp(-(W @ h + U @ x_t + b)))
        immediate = np.hstack([np.kron(np.eye(n), h), np.kron(np.eye(n), x_t), np.eye(n)])
        P = (new * (1.0 - new))[:, None] * (W @ P + immediate)
        h, e = new, V @ new + c - y_t
        gW, gU, gb = np.split((V.T @ e) @ P, [W.size, W.size + U.size])
        V, c = V - lr * np.outer(e, h), c - lr * e
        W, U, b = W - lr * gW.reshape(W.shape), U - lr * gU.reshape(U.shape), b - lr * gb
        way.append(np.concatenate([W.ravel(), U.ravel(), b, V.ravel(), c, h]))
    return np.array(way)


@pytest.mark.parametrize("block", [1, 3, None])
def test_the_listing_of_note_000_mended(block):
    """n = 5, m = 3, p = 2, 100 steps, all weights moved at each one: their way equals the textbook's, to 1e-12."""
    field, (x, y) = network(5, 3), data(100, 3, 2)
    readout = Readout(0.3 * RNG.normal(size=(2, 5)))
    learner = OnlineLearner(field, ctrnn.RTRL(block=block), "sgd", lr=0.1, readout=readout)
    way = []
    for x_t, y_t in zip(x, y, strict=True):
        learner.step(x_t, y_t)
        V = learner.readout
        way.append(np.concatenate([learner.field.vector, V.V.ravel(), V.c, learner.r]))
    p = field.parameters
    expected = textbook(p["W"], p["U"], p["b"], readout.V, readout.c, x, y, 0.1)
    np.testing.assert_allclose(way, expected, rtol=0, atol=1e-12)
    assert np.abs(expected[-1, :25] - p["W"].ravel()).max() > 0.01
    assert not np.allclose(expected, textbook(p["W"], p["U"], p["b"], readout.V, readout.c, x, y, 0.0), atol=1e-3)


def problem_of(field, x, y, solver_dt, readout=None):
    T = len(x)
    dt = solver_dt
    held = ctrnn.inputs.Sampled(np.arange(T + 1) * dt, np.vstack([x, x[-1:]]))
    objective = Objective(target=y, at=np.arange(1, T + 1) * dt, readout=readout)
    return Problem(field, np.zeros(field.n), (0.0, T * dt), x=held, objective=objective)


@every_field
@pytest.mark.parametrize(("solver", "dt"), [("euler", 1.0), ("rk4", 0.25)])
def test_frozen_weights_give_the_gradient_of_bptt_on_every_prefix(make, solver, dt):
    """To 1e-12, the read-out's too."""
    field = make()
    x, y = data(30, 2, 2)
    readout = Readout(RNG.normal(size=(2, field.n)), 0.1)
    learner = OnlineLearner(field, readout=readout, solver=solver, dt=dt, update_every=None)
    for t in range(30):
        learner.step(x[t], y[t])
        if t in (0, 1, 7, 16, 29):
            g = learner.gradient()
            exact = gradient(problem_of(field, x[: t + 1], y[: t + 1], dt, readout), "adjoint", solver=solver, dt=dt)
            size = np.linalg.norm(exact.vector)
            assert np.linalg.norm(g.vector - exact.vector) <= 1e-12 * size
            np.testing.assert_allclose(g.readout["V"], exact.readout["V"], rtol=1e-12, atol=1e-13)
            assert g["V"] is g.readout["V"] and exact["c"] is exact.readout["c"]
            assert g.loss == pytest.approx(exact.loss, rel=1e-12)
    assert np.array_equal(learner.field.vector, field.vector)


@pytest.mark.parametrize("method", ["snap-1", "rflo", ctrnn.TruncatedBPTT(window=4)], ids=str)
def test_a_rule_with_frozen_weights_gives_what_gradient_gives(method):
    field, (x, y) = network(), data(20, 3, 5)
    learner = OnlineLearner(field, method, update_every=10**6)
    for x_t, y_t in zip(x, y, strict=True):
        learner.step(x_t, y_t)
    problem = problem_of(field, x, y, 1.0)
    same = gradient(problem, method, solver="euler", dt=1.0).vector
    exact = gradient(problem, "adjoint", solver="euler", dt=1.0).vector
    assert np.linalg.norm(learner.gradient().vector - same) < 1e-12 * np.linalg.norm(same)
    assert np.linalg.norm(same - exact) > 1e-3 * np.linalg.norm(exact)


# --- lanes, updates, resets


@pytest.mark.parametrize("method", ["rtrl", "snap-1", "rflo", "tbptt"])
def test_the_gradient_of_a_batch_is_the_mean_of_its_lanes(method):
    field, (x, y) = network(), data(12, 3, 5, (3,))
    r0 = RNG.random((3, 5))
    whole = OnlineLearner(field, method, batch=3, r0=r0, update_every=None)
    losses = [whole.step(x_t, y_t) for x_t, y_t in zip(x, y, strict=True)]
    single = [OnlineLearner(field, method, r0=r0[b], update_every=None) for b in range(3)]
    each = [[one.step(x[t, b], y[t, b]) for t in range(12)] for b, one in enumerate(single)]
    np.testing.assert_allclose(losses, np.mean(each, axis=0), rtol=1e-13)
    expected = np.mean([one.gradient().vector for one in single], axis=0)
    np.testing.assert_allclose(whole.gradient().vector, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    assert whole.r.shape == (3, 5) and single[0].r.shape == (5,)


def test_updates_each_k_steps_or_at_times_use_the_sum_since_the_last():
    field, (x, y) = network(), data(12, 3, 5)
    options = {"optimizer": "sgd", "lr": 0.05}
    every = OnlineLearner(field, update_every=4, **options)
    times = OnlineLearner(field, update_every=[4.0, 8.0, 12.0], **options)
    hand = OnlineLearner(field, update_every=None, **options)
    for t in range(12):
        for learner in (every, times, hand):
            learner.step(x[t], y[t])
        if t % 4 == 3:
            before, g = hand.field.vector, hand.gradient().vector
            hand.update()
            np.testing.assert_allclose(hand.field.vector, before - 0.05 * g, rtol=0, atol=1e-15)
            np.testing.assert_array_equal(hand.gradient().vector, g)
    assert every.updates == times.updates == hand.updates == 3
    np.testing.assert_array_equal(every.field.vector, hand.field.vector)
    np.testing.assert_array_equal(times.field.vector, hand.field.vector)


def test_a_reset_forgets_what_the_state_owes_to_the_weights():
    field, (x, y) = network(), data(20, 3, 5)
    learner = OnlineLearner(field, update_every=None)
    for t in range(10):
        learner.step(x[t])
    learner.reset(r0=0.5)
    for t in range(10, 20):
        learner.step(x[t], y[t])
    anew = OnlineLearner(field, update_every=None, r0=0.5)
    for t in range(10, 20):
        anew.step(x[t], y[t])
    np.testing.assert_allclose(learner.gradient().vector, anew.gradient().vector, rtol=0, atol=1e-14)
    lanes = OnlineLearner(field, update_every=None, batch=2)
    for t in range(10):
        lanes.step(x[t], y[t])
    lanes.reset(lanes=1)
    assert not lanes.r[1].any() and lanes.r[0].any()
    with pytest.raises(UsageError, match="lanes"):
        lanes.reset(lanes=2)


def test_the_stream_of_a_task_is_what_a_run_takes():
    """Lanes, weights of lanes and resets: the sum over each lane's trials of the weighted gradients of BPTT."""
    task = tasks.adding(trials=4, steps=6, seed=1)
    stream, field = task.stream(lanes=2), network(5, 2)
    readout = Readout(RNG.normal(size=(1, 5)))
    learner = OnlineLearner(field, readout=readout, batch=2, update_every=None)
    learner.run(stream.x, stream.y, weight=stream.weight, reset_every=stream.start)
    expected, loss = 0.0, 0.0
    for x, y, weight in task:
        held = ctrnn.inputs.Sampled(np.arange(7.0), np.vstack([x, x[-1:]]))
        objective = Objective(target=y, at=np.arange(1.0, 7.0), weight=weight, readout=readout)
        exact = gradient(Problem(field, np.zeros(5), (0.0, 6.0), x=held, objective=objective), solver="euler", dt=1.0)
        expected, loss = expected + exact.vector / 2, loss + exact.loss / 2
    np.testing.assert_allclose(learner.gradient().vector, expected, rtol=0, atol=1e-13 * np.abs(expected).max())
    assert learner.gradient().loss == pytest.approx(loss, rel=1e-12)
    one = OnlineLearner(field, readout=readout, batch=2, update_every=None)
    for t in range(12):
        if stream.start[t]:
            one.reset()
        one.step(stream.x[t], stream.y[t], weight=stream.weight[t])
    np.testing.assert_array_equal(one.gradient().vector, learner.gradient().vector)


def test_no_target_no_loss_and_lr_0_moves_nothing():
    field, (x, y) = network(), data(6, 3, 5)
    learner = OnlineLearner(field, lr=0.0)
    assert learner.step(x[0]) == 0.0 and not learner.gradient().vector.any()
    assert learner.step(x[1], y[1]) > 0.0 and learner.gradient().vector.any()
    assert learner.step(x[2], y[2], weight=0.0) == 0.0
    np.testing.assert_array_equal(learner.field.vector, field.vector)


# --- losses, optimisers


def test_softmax_and_cross_entropy_learn_a_class():
    field = network(8, 3, activation="tanh")
    x, _ = data(400, 3, 1)
    y = np.eye(3)[x.argmax(axis=1)]
    learner = OnlineLearner(
        field, lr=0.02, readout=Readout(np.zeros((3, 8)), activation="softmax"), loss="cross_entropy"
    )
    table = learner.run(x, y, record_every=100)
    assert table.loss[0] < 1.1 * np.log(3) and table.loss[-1] < 0.6 * np.log(3)
    assert learner.output.sum() == pytest.approx(1.0)


def test_losses_by_expression_and_function():
    """An expression needs no target; a function in torch gives what the named loss gives."""
    field = network(activation="tanh")
    learner = OnlineLearner(field, loss="r0**2 + r1", update_every=None)
    x, y = data(10, 3, 2)
    total = sum(learner.step(x_t) for x_t in x)
    assert learner.gradient().loss == pytest.approx(total)
    objective = Objective("r0**2 + r1", at=np.arange(1.0, 11.0))
    held = ctrnn.inputs.Sampled(np.arange(11.0), np.vstack([x, x[-1:]]))
    exact = gradient(Problem(field, np.zeros(5), (0.0, 10.0), x=held, objective=objective), solver="euler", dt=1.0)
    np.testing.assert_allclose(learner.gradient().vector, exact.vector, rtol=0, atol=1e-13)
    readout = Readout(RNG.normal(size=(2, 5)))
    by_name, by_torch = (
        OnlineLearner(field, loss=loss, readout=readout, update_every=None)
        for loss in ("squared_error", lambda o, y: ((o - y) ** 2).sum() / 2)
    )
    for learner in (by_name, by_torch):
        learner.run(x, y)
    np.testing.assert_allclose(by_torch.gradient().vector, by_name.gradient().vector, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["adam", "AdamW", "rmsprop", {"name": "sgd", "momentum": 0.9}])
def test_torch_optimizers_move_the_weights_as_torch_does(name):
    """Along the gradients that the learner says, on tensors of our own; clipped, with decay of matrices."""
    field, (x, y) = network(), data(15, 3, 5)
    learner = OnlineLearner(field, optimizer=name, lr=0.01, clip=0.05, weight_decay=0.1)
    tensors = [torch.tensor(v, requires_grad=True) for v in field.parameters.values()]
    groups = [{"params": tensors[:2], "weight_decay": 0.1}, {"params": tensors[2:], "weight_decay": 0.0}]
    known = {"adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "rmsprop": torch.optim.RMSprop}
    made = torch.optim.SGD(groups, lr=0.01, momentum=0.9) if isinstance(name, dict) else known[name](groups, lr=0.01)
    for x_t, y_t in zip(x, y, strict=True):
        learner.step(x_t, y_t)
        g = learner.gradient().vector
        g = g * min(1.0, 0.05 / np.linalg.norm(g))
        for tensor, part in zip(tensors, field.unflatten(g).values(), strict=True):
            tensor.grad = torch.tensor(part)
        made.step()
    expected = np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])
    np.testing.assert_allclose(learner.field.vector, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("decay", [None, 0.0])
def test_adamw_decays_by_its_own_measure_or_by_none(decay):
    """Of two learners whose losses weigh nothing, only decay moves the weights; and of the biases it moves none."""
    field = network().with_parameters(b=np.ones(5))
    learner = OnlineLearner(field, optimizer="adamw", lr=0.5, weight_decay=decay)
    learner.run(*data(1, 3, 5), weight=1e-300)
    moved = learner.field.parameters
    factor = 1.0 if decay == 0.0 else 1.0 - 0.5 * 0.01
    np.testing.assert_allclose(moved["W"], factor * field.parameters["W"], rtol=1e-14)
    np.testing.assert_array_equal(moved["b"], field.parameters["b"])


def test_a_schedule_sets_the_rate_at_each_update():
    field, (x, y) = network(), data(8, 3, 5)
    learner = OnlineLearner(
        field, lr=1.0, scheduler={"name": "ExponentialLR", "gamma": 0.5}, optimizer="sgd", clip=0.01
    )
    table = learner.run(x, y, record_every=1)
    np.testing.assert_allclose(table.lr, 0.5 ** np.arange(1, 9))
    made = OnlineLearner(field, lr=1.0, scheduler=lambda o: torch.optim.lr_scheduler.StepLR(o, 2), optimizer="sgd")
    made.run(x[:4], y[:4], record_every=4)
    assert made.history.lr[-1] == pytest.approx(0.01)


def test_masks_signs_and_time_constants_stay_where_they_belong():
    rng = np.random.default_rng(3)
    mask = rng.random((6, 6)) < 0.5
    signs = np.array([1, 1, 1, -1, -1, -1])
    field = RateNetwork(6, inputs=2, mask=mask, dale=signs, train_tau=True, seed=0)
    x, y = data(60, 2, 6)
    learner = OnlineLearner(field, lr=0.05, weight_decay=0.01, optimizer="adamw", dt=0.2)
    learner.run(x, y)
    W = learner.field.parameters["W"]
    assert not W[~mask].any() and (W * signs >= 0.0).all() and learner.field.parameters["tau"] > 0.0
    assert np.abs(W - field.parameters["W"]).max() > 0.01


def test_random_feedback_is_what_the_state_sees():
    field, (x, y) = network(), data(3, 3, 2)
    V, B = RNG.normal(size=(2, 5)), RNG.normal(size=(2, 5))
    ours = OnlineLearner(field, readout=Readout(V), feedback=B, update_every=None)
    ours.step(x[0], y[0])
    e = V @ ours.r - y[0]
    plain = OnlineLearner(field, readout=Readout(V), update_every=None)
    plain.step(x[0], y[0])
    P = ours._loop.memories[0].sensitivities
    np.testing.assert_allclose(ours.gradient().vector, (e @ B) @ P, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(ours.gradient().readout["V"], plain.gradient().readout["V"])
    assert np.linalg.norm(ours.gradient().vector - plain.gradient().vector) > 0.1 * np.linalg.norm((e @ V) @ P)


# --- drift


def test_drift_is_nothing_at_rest_and_grows_with_the_rate():
    x, y = data(150, 3, 2)

    def drift(lr, method="rtrl"):
        learner = OnlineLearner(network(activation="tanh"), method, "sgd", lr, Readout(np.eye(2, 5)))
        learner.run(x, y)
        return learner.drift()

    assert drift(0.0).relative_error < 1e-12 and drift(0.0).state == 0.0 and drift(0.0).cosine == pytest.approx(1.0)
    errors = [drift(lr).relative_error for lr in (1e-6, 1e-5, 1e-4)]
    assert errors[0] > 1e-7 and errors[2] < 0.01
    assert errors[1] / errors[0] == pytest.approx(10.0, rel=0.1)  # of first order in the rate
    assert 64 <= drift(0.0).window <= 128 and drift(0.0).is_whole and not drift(0.0, "snap-1").is_whole
    assert drift(0.0, "snap-1").relative_error > 0.01  # a rule's own error is in it


def test_drift_by_hand():
    """After 3 steps: a fresh gradient of the last loss along the same inputs, with today's weights, by BPTT."""
    x, y = data(3, 3, 2)
    learner = OnlineLearner(network(), "rtrl", "sgd", 0.5, Readout(np.eye(2, 5)))
    for t in range(3):
        learner.step(x[t], y[t])
    seen = learner._window.row[0]
    now = learner.field
    held = ctrnn.inputs.Sampled(np.arange(4.0), np.vstack([x, x[-1:]]))
    linear = Objective(lambda r: (r * torch.tensor(seen)).sum(), at=[3.0])
    fresh = gradient(Problem(now, np.zeros(5), (0.0, 3.0), x=held, objective=linear), solver="euler", dt=1.0).vector
    carried = learner.gradient().vector
    drift = learner.drift()
    assert drift.relative_error == pytest.approx(np.linalg.norm(carried - fresh) / np.linalg.norm(fresh), rel=1e-9)
    assert drift.cosine == pytest.approx(carried @ fresh / np.linalg.norm(carried) / np.linalg.norm(fresh), rel=1e-9)


# --- to disk and back


def trained(T, path=None, **options):
    """A learner after T steps of a set task."""
    x, y = data(300, 3, 2)
    learner = OnlineLearner(network(), readout=Readout(np.eye(2, 5)), lr=0.01, **options)
    learner.run(x[:T], y[:T], record_every=20)
    return learner, x, y


OPTIONS = {
    "exact": {},
    "snap": {"method": ctrnn.SnAp(2), "optimizer": {"name": "sgd", "momentum": 0.9}},
    "window": {"method": ctrnn.TruncatedBPTT(window=7), "update_every": 3, "clip": 0.1},
    "leak": {"method": "rflo", "optimizer": "rmsprop", "update_every": [20.5, 55.0, 90.0]},
    "uoro": {"method": "uoro", "seed": 3},
    "sketch": {"method": {"name": "sketch", "rank": 3}},
    "lanes": {"batch": 2, "scheduler": {"name": "CosineAnnealingLR", "T_max": 50}, "feedback": "random"},
    "a running sum": {"update_every": 7},
    "a schedule that reads the loss": {"scheduler": {"name": "ReduceLROnPlateau", "patience": 3}},
}


TEXTS = {
    "gru": lambda: ctrnn.GRUNetwork(5, 3, seed=3, tau=2.0),
    "liquid": lambda: ctrnn.LiquidNetwork(5, 3, seed=3, train_tau=True),
    "low rank": lambda: RateNetwork(5, inputs=3, rank=2, seed=1),
}


@pytest.mark.parametrize("make", TEXTS.values(), ids=TEXTS)
def test_networks_as_texts_are_in_the_file_too(tmp_path, make):
    field, (x, y) = make(), data(60, 3, 2)
    learner = OnlineLearner(field, readout=Readout(np.eye(2, field.n)), dt=0.5)
    learner.run(x[:30], y[:30])
    learner.save(tmp_path / "learner.npz")
    twin = OnlineLearner.load(tmp_path / "learner.npz")
    for one in (learner, twin):
        one.run(x[30:], y[30:])
    np.testing.assert_array_equal(learner.field.vector, twin.field.vector)
    low, high = field.bounds
    np.testing.assert_array_equal(twin.field.bounds, (low, high))
    same = OnlineLearner.load(tmp_path / "learner.npz", field=field)
    assert type(same.field) is type(field)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_learner_read_back_goes_on_to_the_same_bits(tmp_path, options):
    learner, x, y = trained(45, **options)
    learner.save(tmp_path / "learner.npz")
    twin = OnlineLearner.load(tmp_path / "learner.npz")
    for one in (learner, twin):
        one.run(x[45:110], y[45:110], record_every=20)
    np.testing.assert_array_equal(learner.field.vector, twin.field.vector)
    np.testing.assert_array_equal(learner.readout.V, twin.readout.V)
    np.testing.assert_array_equal(learner.r, twin.r)
    np.testing.assert_array_equal(learner.gradient().vector, twin.gradient().vector)
    np.testing.assert_array_equal(learner.history.loss, twin.history.loss)
    assert repr(learner.drift()) == repr(twin.drift()) and learner.updates == twin.updates
    never_saved, _, _ = trained(45, **options)
    never_saved.run(x[45:110], y[45:110], record_every=20)
    np.testing.assert_array_equal(learner.field.vector, never_saved.field.vector)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_copied_learner_goes_on_to_the_same_bits_and_by_itself(copied, options):
    learner, x, y = trained(45, **options)
    alone, _, _ = trained(45, **options)
    twin = copied(learner)
    for one in (twin, learner, alone):  # the twin has moved, the learner has not
        one.run(x[45:110], y[45:110], record_every=20)
    for one in (learner, twin):
        np.testing.assert_array_equal(one.field.vector, alone.field.vector)
        np.testing.assert_array_equal(one.r, alone.r)
        np.testing.assert_array_equal(one.history.loss, alone.history.loss)


KILLED = """
import sys
import numpy as np, ctrnn
from ctrnn.learning import OnlineLearner
sys.path.insert(0, {tests!r})
from test_online_learner import network, data
from pathlib import Path
path = Path({path!r})
x, y = data(800, 3, 2)
if path.exists():
    learner = OnlineLearner.load(path)
else:
    learner = OnlineLearner(network(), readout=ctrnn.Readout(np.eye(2, 5)), lr=0.01)
print("begun", learner.steps, flush=True)
learner.run(x[learner.steps:], y[learner.steps:], checkpoint=path, every=20)
print("done", flush=True)
"""


def test_killed_it_resumes_from_its_last_checkpoint(tmp_path):
    """With a real kill; the weights at the end are those of a run that nobody disturbed, to the bit."""
    path = tmp_path / "learner.npz"
    tests = str(Path(__file__).parent)
    command = [sys.executable, "-c", KILLED.format(tests=tests, path=str(path))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    begun = [int(process.stdout.readline().split()[1])]
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    ended = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=True)
    begun.append(int(ended.stdout.split()[1]))
    assert begun[0] == 0 < begun[1] < 800 and ended.stdout.split()[-1] == "done"
    x, y = data(800, 3, 2)
    undisturbed = OnlineLearner(network(), readout=Readout(np.eye(2, 5)), lr=0.01)
    undisturbed.run(x, y)
    np.testing.assert_array_equal(OnlineLearner.load(path).field.vector, undisturbed.field.vector)


def test_files_that_are_no_learners_are_refused(tmp_path):
    learner, _, _ = trained(10)
    path = tmp_path / "learner.npz"
    learner.save(path)
    whole = path.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"no archive")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UsageError, match="path"):
            OnlineLearner.load(tmp_path / name)
    with pytest.raises(UsageError, match="path"):
        OnlineLearner.load(tmp_path / "nowhere")
    arrays = dict(np.load(path))
    for key in ("flat", "parameter W", "text"):
        changed = arrays | {
            key: np.array(str(arrays[key]).replace("sgd", "adam") + " ") if key == "text" else arrays[key] + 1
        }
        np.savez(tmp_path / "changed.npz", **changed)
        with pytest.raises(UsageError, match="changed"):
            OnlineLearner.load(tmp_path / "changed.npz")
    with pytest.raises(UsageError, match="field"):
        OnlineLearner.load(path, field=network(6, 3))
    with pytest.raises(UsageError, match="folder"):
        learner.save(tmp_path / "no folder" / "learner.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["changed.npz", "cut", "empty", "learner.npz", "text"]


def test_python_objects_are_given_again(tmp_path):
    x, y = data(20, 3, 5)
    loss, made = (lambda o, y: ((o - y) ** 4).sum()), (lambda p: torch.optim.SGD(p, lr=0.1))
    learner = OnlineLearner(network(), loss=loss, optimizer=made)
    learner.run(x[:10], y[:10])
    learner.save(tmp_path / "a.npz")
    with pytest.raises(UsageError, match="loss"):
        OnlineLearner.load(tmp_path / "a.npz", optimizer=made)
    with pytest.raises(UsageError, match="optimizer"):
        OnlineLearner.load(tmp_path / "a.npz", loss=loss)
    twin = OnlineLearner.load(tmp_path / "a.npz", loss=loss, optimizer=made)
    for one in (learner, twin):
        one.run(x[10:], y[10:])
    np.testing.assert_array_equal(learner.field.vector, twin.field.vector)


# --- the table, and what is refused


def test_a_rule_with_a_bound_says_it_beside_the_loss():
    learner, _, _ = trained(50, method={"name": "sketch", "rank": 2})
    assert np.isfinite(learner.history.bound).all() and "bound" in repr(learner.history) and learner.bound >= 0.0
    with pytest.raises(UnknownNameError, match="ranks"):
        OnlineLearner(network(), {"name": "sketch", "ranks": 2})


def test_the_table_of_a_run(tmp_path):
    learner, _, _ = trained(50)
    table = learner.history
    assert table.step.tolist() == [20, 40, 50] and len(table) == 3 and table.steps_per_second > 0.0
    assert "loss" in repr(table) and len(repr(table).splitlines()) <= 12
    table.to_csv(tmp_path / "table.csv")
    names, *rows = (line.split(",") for line in (tmp_path / "table.csv").read_text().splitlines())
    assert names[:3] == ["step", "t", "loss"] and float(rows[1][2]) == table.loss[1]
    with pytest.raises(UnknownNameError):
        table["losses"]
    assert np.isfinite(table.loss).all() and "bound" not in names


BAD = {
    "optimizer": ({"optimizer": "adamm"}, "optimizer"),
    "method": ({"method": "rtrll"}, "method"),
    "method that goes back": ({"method": "adjoint"}, "forward"),
    "solver": ({"solver": "kvaerno5"}, "explicit"),
    "library": ({"solver": "scipy:RK45"}, "solver"),
    "dt": ({"dt": 0.0}, "dt"),
    "lr": ({"lr": -1.0}, "lr"),
    "batch": ({"batch": 0}, "batch"),
    "clip": ({"clip": 0.0}, "clip"),
    "updates": ({"update_every": 0}, "update_every"),
    "times": ({"update_every": [2.0, 1.0]}, "update_every"),
    "r0": ({"r0": [1.0, 2.0]}, "r0"),
    "loss": ({"loss": "cross_entropy"}, "softmax"),
    "feedback": ({"feedback": "random"}, "read-out"),
    "scheduler": ({"scheduler": "Cosine"}, "scheduler"),
}


@pytest.mark.parametrize(("options", "match"), BAD.values(), ids=BAD)
def test_what_does_not_fit_is_refused(options, match):
    with pytest.raises(UsageError, match=match):
        OnlineLearner(network(), **options)


def test_data_that_do_not_fit_move_nothing():
    learner = OnlineLearner(network())
    x, y = data(10, 3, 5)
    bad = x.copy()
    bad[4, 1] = np.nan
    for arguments in (
        (bad, y),
        (x, np.where(y == y[3], np.inf, y)),
        (x, y[:9]),
        (x[:, :2], y),
        (x, y[:, :4]),
        (None, None),
    ):
        with pytest.raises(UsageError):
            learner.run(*arguments)
    for arguments in ((x[0], y[0] * np.nan), (bad[4], y[0]), (x[0, :2], y[0]), (x[0], y[0, :3])):
        with pytest.raises(UsageError):
            learner.step(*arguments)
    assert learner.steps == 0 and not learner.r.any() and len(learner.history) == 0


def test_a_state_that_blows_up_is_said():
    field = ctrnn.Equations({"r": "a*r**3 + x"}, {"a": 1.0}, inputs=("x",))
    learner = OnlineLearner(field, lr=0.0, r0=2.0)
    with pytest.raises(DivergenceError, match="lr"), np.errstate(all="ignore"):
        learner.run(np.zeros(50))
    assert np.isfinite(learner.r).all()
    assert issubclass(DivergenceError, CtrnnError)


def test_targets_that_are_missing_and_classes_by_number_are_told_what_to_do():
    field, (x, y) = network(), data(4, 3, 5)
    y[2, 1] = np.nan
    with pytest.raises(UsageError, match=r"entry \(2, 1\): nan; weight = 0 where there is no target"):
        OnlineLearner(field).run(x, y)
    softmax = Readout(np.zeros((3, 5)), activation="softmax")
    learner = OnlineLearner(field, readout=softmax, loss="cross_entropy")
    with pytest.raises(UsageError, match=r"np\.eye\(3\)\[y\]"):
        learner.run(x, [0, 2, 1, 0])
    assert np.isfinite(learner.run(x, np.eye(3)[[0, 2, 1, 0]]).loss).all()
