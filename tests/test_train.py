"""Offline training: the same weights as plain torch, the same bits after a kill, and what is refused."""

import csv
import importlib.util
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import ctrnn
from ctrnn.errors import CtrnnError, NotFiniteError, UnknownNameError, UsageError
from ctrnn.learning import Dataset, Training, train
from ctrnn.learning.closed_loop import ClosedLoop
from ctrnn.learning.output_loss import OutputLoss
from ctrnn.learning.trained_model import Form, Model, drawn_masks
from ctrnn.named_losses import LOSSES
from ctrnn.nn.recurrence import Recurrence

N, INPUTS, OUTPUTS = 6, 2, 1


def field(seed=0):
    return ctrnn.RateNetwork(N, inputs=INPUTS, seed=seed, form="rate", gain=0.8)


def readout(p=OUTPUTS, activation="linear"):
    return ctrnn.Readout(np.random.default_rng(1).normal(size=(p, N)) / 2, activation=activation)


def delayed(B=12, T=10, seed=2):
    """Say what the first input was three steps ago."""
    x = np.random.default_rng(seed).normal(size=(B, T, INPUTS))
    y = np.zeros((B, T, OUTPUTS))
    y[:, 3:, 0] = x[:, :-3, 0]
    weight = np.ones((B, T))
    weight[:, :3] = 0.0
    return Dataset(x, y, weight)


def numbers(done):
    return np.concatenate([done.field.vector, done.readout.V.ravel(), done.readout.c, done.r0])


# --- the numbers


def test_the_weights_are_those_of_plain_torch():
    """Five epochs of AdamW with clipping, beside a loop in torch over torch.nn.RNN that shares no code."""
    data, start, out = delayed(), field(), readout()
    done = train(
        start, data, readout=out, optimizer="adamw", lr=0.05, weight_decay=0.1, clip=0.1, batch_size=12, epochs=5
    )
    net = torch.nn.RNN(INPUTS, N, batch_first=True, dtype=torch.float64)
    linear = torch.nn.Linear(N, OUTPUTS, dtype=torch.float64)
    with torch.no_grad():
        net.weight_ih_l0.copy_(torch.tensor(start.parameters["U"]))
        net.weight_hh_l0.copy_(torch.tensor(start.parameters["W"]))
        net.bias_ih_l0.copy_(torch.tensor(start.parameters["b"]))
        net.bias_hh_l0.zero_()
        linear.weight.copy_(torch.tensor(out.V))
        linear.bias.copy_(torch.tensor(out.c))
    net.bias_hh_l0.requires_grad_(False)
    matrices, vectors = [net.weight_ih_l0, net.weight_hh_l0, linear.weight], [net.bias_ih_l0, linear.bias]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    adam, losses = torch.optim.AdamW(groups, lr=0.05), []
    x, y, a = (torch.tensor(v) for v in (data.x, data.y, data.weight))
    for _ in range(5):
        o = linear(net(x)[0])
        l = (a * ((o - y) ** 2 / 2).sum(-1)).sum() / a.sum()
        adam.zero_grad()
        l.backward()
        norm = torch.sqrt(sum((v.grad**2).sum() for v in (*matrices, *vectors)))
        for v in (*matrices, *vectors):
            v.grad.mul_(min(1.0, 0.1 / float(norm)))  # torch's own clipping divides by norm + 1e-6
        adam.step()
        losses.append(float(l.detach()))
    assert np.abs(done.history["loss"] - losses).max() < 1e-13
    assert np.abs(done.field.parameters["W"] - net.weight_hh_l0.detach().numpy()).max() < 1e-11
    assert np.abs(done.readout.V - linear.weight.detach().numpy()).max() < 1e-11
    assert np.abs(done.field.parameters["W"] - start.parameters["W"]).max() > 0.05


@pytest.mark.parametrize("activation", ["linear", "softmax"])
@pytest.mark.parametrize("make", [ctrnn.RateNetwork, ctrnn.GRUNetwork])
def test_gradient_through_outputs_that_are_fed_back(make, activation):
    """Compiled, against autograd through the same steps written out; some trials and times take their own outputs."""
    rng, network = np.random.default_rng(0), make(5, inputs=3, seed=0)
    how = Recurrence(network, "midpoint", 0.3, 2, False)
    T, B, p = 9, 4, 2
    own = rng.random((T, B)) < 0.5
    own[0] = own[3:5] = False

    def some(*shape):
        return torch.tensor(rng.normal(size=shape), requires_grad=True)

    x, r0, V, c = some(T, B, 3), some(B, 5), some(p, 5), some(p)
    w = {k: torch.tensor(v, requires_grad=True) for k, v in network.parameters.items()}
    every, cotangent = [x, r0, V, c, *w.values()], torch.tensor(rng.normal(size=(T, B, 5)))
    states = ClosedLoop(how, np.array([2, 0]), activation)(x, r0, w, V, c, own)
    found = torch.autograd.grad((states * cotangent).sum(), every)
    r, o, rows = r0, torch.zeros(B, p), []
    for k in range(T):
        mine = torch.tensor(own[k])
        fed = [torch.where(mine, o[:, 1], x[k, :, 0]), x[k, :, 1], torch.where(mine, o[:, 0], x[k, :, 2])]
        r = how.replayed(None, torch.stack(fed, 1)[None], r, *w.values())[0]
        o = r @ V.T + c
        o = torch.softmax(o, -1) if activation == "softmax" else o
        rows.append(r)
    reference = torch.autograd.grad((torch.stack(rows) * cotangent).sum(), every)
    assert float((states - torch.stack(rows)).abs().max().detach()) < 1e-14
    for g, h in zip(found, reference, strict=True):
        assert float((g - h).abs().max()) < 1e-13 * max(float(h.abs().max()), 1.0)


def test_the_loss_is_the_formula_s():
    rng = np.random.default_rng(3)
    u, y = rng.normal(size=(7, 3)), rng.random((7, 3))
    softmax = np.exp(u) / np.exp(u).sum(axis=1, keepdims=True)
    for name, loss in LOSSES.items():
        activation = "softmax" if loss.of_log else "linear"
        expected = loss(np.log(softmax) if loss.of_log else u, y)[0]
        found = OutputLoss(name, activation, 3)(torch.tensor(u), torch.tensor(y))
        assert np.abs(found.numpy() - expected).max() < 1e-14
    own = OutputLoss("log(cosh(o - y))", "softmax", 3)(torch.tensor(u), torch.tensor(y)).numpy()
    assert np.abs(own - np.log(np.cosh(softmax - y)).sum(axis=1)).max() < 1e-14
    user = OutputLoss(lambda o, y: ((o - y) ** 2).sum(-1), "linear", 3)(torch.tensor(u), torch.tensor(y)).numpy()
    assert np.abs(user - ((u - y) ** 2).sum(axis=1)).max() < 1e-14


def test_it_learns_and_says_how_it_went():
    done = train(
        field(),
        delayed(40),
        readout=readout(),
        lr=0.02,
        epochs=60,
        batch_size=10,
        validation=0.25,
        patience=15,
        clip=1.0,
    )
    losses = done.history["validation"]
    assert losses.min() < 0.2 * losses[0] and done.best.validation == losses.min()
    assert done.best.epoch == int(losses.argmin()) + 1
    assert repr(done).startswith("training of 54 parameters, ") and "(kept)" in repr(done)
    assert done.converged == done.reason.startswith("no better validation for 15")


def test_early_stopping_keeps_the_best():
    train_on, held = delayed(4, seed=5), delayed(8, seed=6)  # too few to learn from: it overfits
    done = train(field(), train_on, readout=readout(), lr=0.05, epochs=400, validation=held, patience=20, train_r0=True)
    epochs = len(done.history["epoch"])
    assert done.converged and epochs == done.best.epoch + 20 < 400
    assert done.evaluate(held) == done.best.validation < done.history["validation"][-1]
    assert not train(field(), train_on, readout=readout(), epochs=2).converged  # nobody knows


def test_split_by_time_and_trials_of_unequal_lengths():
    x = [np.random.default_rng(b).normal(size=(T, INPUTS)) for b, T in enumerate((12, 20, 15))]
    y = [one[:, :1] ** 2 for one in x]
    done = train(field(), (x, y), readout=readout(), epochs=2, validation=0.25, split="time")
    data = Dataset(x, y)
    _, held = data.split(0.25, "time")
    model = Model(done._form, done.readout, done.r0, ())
    model.restore({k: torch.tensor(v.copy()) for k, v in done.field.parameters.items()})
    alone, total = 0.0, 0.0
    for b, one in enumerate(x):  # each trial by itself
        o = done.predict(one)
        a = held.weight[b, : len(one)]
        alone, total = alone + float(a @ ((o - y[b]) ** 2 / 2).sum(axis=1)), total + a.sum()
    assert abs(done.best.validation - alone / total) < 1e-13


def test_signs_masks_and_time_constants_stay_in_their_bounds():
    mask = np.random.default_rng(0).random((N, N)) < 0.7
    dale = np.array([1, 1, 1, 1, -1, -1])
    network = ctrnn.RateNetwork(N, inputs=INPUTS, seed=0, dale=dale, mask=mask, tau=1.0, train_tau=True)
    free = ctrnn.RateNetwork(N, inputs=INPUTS, seed=0, mask=mask, tau=1.0, train_tau=True).with_parameters(
        W=network.parameters["W"]
    )
    bound, loose = (
        train(one, delayed(), readout=readout(), lr=0.05, optimizer="adamw", weight_decay=0.1, epochs=30).field
        for one in (network, free)
    )
    W = bound.parameters["W"]
    assert (W * dale >= 0).all() and not W[~mask].any() and bound.parameters["tau"] > 0
    assert (loose.parameters["W"] * dale < 0).any()  # without the signs they would have been crossed


# --- what is drawn


def test_dropout_is_the_same_at_all_times():
    network, rng = field(), np.random.default_rng(0)
    form = Form(network, Recurrence(network, "euler", 1.0, 1, False), "linear", (), (), 1, False)
    masks = drawn_masks(form, {"x": 0.5, "W": 0.5}, 4, rng)
    assert masks["x"].shape == (4, INPUTS) and masks["W"].shape == (N,)
    assert set(masks["x"].unique().tolist()) <= {0.0, 2.0}
    x = torch.tensor(rng.normal(size=(8, 4, INPUTS)))
    model = Model(form, readout(), np.zeros(N), ("W",))
    found = model(x, None, masks)
    dropped = network.with_parameters(W=network.parameters["W"] * masks["W"].numpy())
    plain = Model(
        Form(dropped, Recurrence(dropped, "euler", 1.0, 1, False), "linear", (), (), 1, False),
        readout(),
        np.zeros(N),
        (),
    )
    assert torch.equal(found, plain(x * masks["x"]))
    found.sum().backward()
    gradient = model.numbers["W"].grad.numpy()
    assert not gradient[:, masks["W"].numpy() == 0].any() and gradient.any()
    mean = np.mean([drawn_masks(form, {"W": 0.3}, 1, rng)["W"].numpy().mean() for _ in range(400)])
    assert abs(mean - 1.0) < 0.08


def test_dropout_acts_in_training_only_and_changes_it():
    plain, dropped = (
        train(field(), delayed(), readout=readout(), epochs=3, dropout=d) for d in (None, {"W": 0.4, "x": 0.2})
    )
    assert np.abs(numbers(plain) - numbers(dropped)).max() > 1e-4
    x = delayed().x
    assert np.array_equal(dropped.predict(x), dropped.predict(x))


def test_curriculum_on_length():
    done = train(field(), delayed(), readout=readout(), epochs=5, curriculum={"start": 4, "increment": 3})
    assert done.history["steps"].tolist() == [4, 7, 10, 10, 10]
    with pytest.raises(UsageError, match="curriculum"):
        train(field(), delayed(), readout=readout(), epochs=5, curriculum={"start": 2})  # no target so early


def wave(B=6, T=24):
    phase = np.random.default_rng(0).uniform(0, 6, (B, 1))
    z = np.sin(phase + 0.5 * np.arange(T + 1))[..., None]
    return Dataset(z[:, :-1], z[:, 1:])


def test_scheduled_sampling_goes_from_teacher_to_free():
    network = ctrnn.RateNetwork(8, inputs=1, seed=1, form="rate")
    out = ctrnn.Readout(np.random.default_rng(0).normal(size=(1, 8)) / 3)
    options = {"readout": out, "lr": 0.01, "epochs": 40, "feedback": True, "warmup": 6, "validation": wave(2)}
    done = train(network, wave(), teacher_forcing={"start": 1.0, "decay": 0.9, "end": 0.25}, **options)
    epsilon = done.history["teacher_forcing"]
    assert epsilon[0] == 1.0 and abs(epsilon[5] - 0.9**5) < 1e-15 and epsilon[-1] == 0.25
    assert done.history["validation"].min() < 0.3 * done.history["validation"][0]
    # the validation runs free behind the warm-up: by hand, a step at a time
    held = wave(2)
    total = 0.0
    for b in range(2):
        o = done.predict(held.x[b], free_after=6)
        r, last = np.zeros(8), np.nan
        p, V, c = done.field.parameters, done.readout.V, done.readout.c
        for k in range(24):
            now = held.x[b, k, 0] if k < 6 else last
            r = np.tanh(p["W"] @ r + p["U"][:, 0] * now + p["b"])
            last = float(V[0] @ r + c[0])
            assert abs(last - o[k, 0]) < 1e-12
            total += (last - held.y[b, k, 0]) ** 2 / 2
    assert abs(done.best.validation - total / 48) < 1e-12
    assert done.predict(held.x[0], free_after=6, steps=40).shape == (40, 1)  # it needs no data any more
    with pytest.raises(UsageError, match="steps"):
        done.predict(held.x[0], steps=40)
    # the exact gradient through the feedback is not the one of the teacher
    teacher = train(network, wave(), teacher_forcing=1.0, **options | {"epochs": 1})
    sampled = train(network, wave(), teacher_forcing=0.5, **options | {"epochs": 1})
    assert abs(teacher.history["gradient_norm"][0] - sampled.history["gradient_norm"][0]) > 1e-6


def test_a_free_run_is_the_run_on_its_own_outputs_in_time_too():
    """A field that depends on t: fed with what it said, taken as plain inputs, it says the same."""
    network = ctrnn.Equations(
        {"r": "-r + W @ tanh(r) + U*x*cos(t)"},
        parameters={"W": 0.5 * np.eye(3), "U": np.array([1.0, 0.5, -0.3])},
        states={"r": 3},
        inputs=["x"],
    )
    done = train(
        network, wave(3), readout=["r[0]"], solver="midpoint", dt=0.3, steps_per_input=2, feedback=True,
        teacher_forcing=0.5, epochs=2,
    )  # fmt: skip
    x = wave(1).x[0]
    free = done.predict(x, free_after=5)
    fed = x.copy()
    fed[5:] = free[4:-1]
    assert np.abs(done.predict(fed) - free).max() < 1e-14
    assert np.abs(done.predict(x) - free)[6:].max() > 1e-3


def test_new_trials_in_each_epoch():
    seeds = []

    def fresh(seed):
        seeds.append(seed)
        return delayed(6, seed=seed % 1000)

    done = train(field(), fresh, readout=readout(), epochs=4, validation=delayed(4))
    assert len(set(seeds)) == 4 and len(done.history["epoch"]) == 4
    task = ctrnn.learning.tasks.flip_flop(bits=2, trials=4, steps=20)
    out = readout(2)
    assert train(field(), task, readout=out, epochs=1)._form.recurrence.dt == task.dt


# --- resuming

EVERYTHING = {
    "readout": readout(), "optimizer": "adamw", "lr": 0.02, "weight_decay": 1e-3, "clip": 0.5, "batch_size": 5,
    "scheduler": {"name": "ExponentialLR", "gamma": 0.97}, "validation": 0.25, "patience": 30, "train_r0": True,
    "dropout": {"W": 0.2, "x": 0.1}, "curriculum": {"start": 5}, "seed": 4,
}  # fmt: skip


def test_resumed_to_the_same_bits(tmp_path):
    straight = train(field(), delayed(), epochs=8, metrics=tmp_path / "a.csv", **EVERYTHING)
    files = {"checkpoint": tmp_path / "c.pt", "metrics": tmp_path / "b.csv"}
    train(field(), delayed(), epochs=5, **files, **EVERYTHING)
    (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text()[:-9])  # a line that was cut off
    resumed = train(field(), delayed(), epochs=8, resume=True, **files, **EVERYTHING)
    assert np.array_equal(numbers(straight), numbers(resumed)) and straight.best == resumed.best
    for name, column in straight.history.items():
        assert np.array_equal(column, resumed.history[name]), name
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    again = train(field(), delayed(), epochs=8, resume=True, **files, **EVERYTHING)  # nothing is left to do
    assert np.array_equal(numbers(resumed), numbers(again))
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == straight.history["loss"].tolist()


@pytest.mark.parametrize(
    "scheduler", ["ReduceLROnPlateau", {"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 9}, "CosineAnnealingLR"]
)
def test_every_kind_of_schedule_goes_on(tmp_path, scheduler):
    options = EVERYTHING | {"scheduler": scheduler}
    straight = train(field(), delayed(), epochs=6, **options)
    calls = []

    def stop(seed):  # breaks off in the fourth epoch
        calls.append(seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return delayed()

    options |= {"validation": delayed(3, seed=9)}
    straight = train(field(), lambda seed: delayed(), epochs=6, **options)
    with pytest.raises(KeyboardInterrupt):
        train(field(), stop, epochs=6, checkpoint=tmp_path / "c.pt", **options)
    resumed = train(field(), lambda seed: delayed(), epochs=6, checkpoint=tmp_path / "c.pt", resume=True, **options)
    assert np.array_equal(numbers(straight), numbers(resumed))
    assert np.array_equal(straight.history["lr"], resumed.history["lr"])


KILLED = """
import sys
sys.path.insert(0, {tests!r})
from test_train import EVERYTHING, delayed, field, train
options = EVERYTHING | dict(patience=None, checkpoint={checkpoint!r}, metrics={metrics!r})
train(field(), delayed(), epochs=100000, **options)
"""


def test_killed_at_any_moment_nothing_is_lost(tmp_path):
    checkpoint, metrics = str(tmp_path / "c.pt"), str(tmp_path / "m.csv")
    text = KILLED.format(tests=str(Path(__file__).parent), checkpoint=checkpoint, metrics=metrics)
    process = subprocess.Popen([sys.executable, "-c", text])
    try:
        end = time.monotonic() + 120
        while not (Path(metrics).exists() and Path(metrics).read_text().count("\n") > 20):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    state = torch.load(checkpoint, weights_only=True)["state"]
    epochs = len(state["history"]) + 3
    assert epochs > 20
    options = EVERYTHING | {"patience": None}
    resumed = train(field(), delayed(), epochs=epochs, checkpoint=checkpoint, metrics=metrics, resume=True, **options)
    straight = train(field(), delayed(), epochs=epochs, metrics=tmp_path / "s.csv", **options)
    assert np.array_equal(numbers(straight), numbers(resumed))
    assert Path(metrics).read_bytes() == (tmp_path / "s.csv").read_bytes()
    assert sorted(p.suffix for p in tmp_path.iterdir() if not p.name.startswith(".")) == [".csv", ".csv", ".pt"]


def test_a_checkpoint_of_something_else_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "c.pt"
    options = {"readout": readout(), "epochs": 2, "checkpoint": path}
    train(field(), delayed(), **options)
    whole = path.read_bytes()
    for change, words in (
        ({"lr": 0.5}, "lr = 0.001"),
        ({"optimizer": "sgd"}, "optimizer"),
        ({"loss": "huber"}, "loss"),
        ({"dropout": {"W": 0.1}}, "dropout"),
        ({"solver": "rk4"}, "solver"),
    ):
        with pytest.raises(UsageError, match=words):
            train(field(), delayed(), resume=True, **options | change)
    with pytest.raises(UsageError, match="trials"):
        train(field(), delayed(seed=8), resume=True, **options)
    slow = ctrnn.RateNetwork(N, inputs=INPUTS, seed=0, form="rate", gain=0.8, tau=2.0)
    for other, words in ((field(seed=3), "start"), (slow, "first outputs")):
        with pytest.raises(UsageError, match=words):
            train(other, delayed(), resume=True, **options)
    with pytest.raises(UsageError, match="n=6"):
        big = ctrnn.RateNetwork(N + 1, inputs=INPUTS, seed=0, form="rate")
        train(big, delayed(), resume=True, **options | {"readout": ctrnn.Readout(np.ones((1, N + 1)))})
    with pytest.raises(UsageError, match="resume"):
        train(field(), delayed(), resume=True, **options | {"checkpoint": None})
    assert path.read_bytes() == whole
    for bad in (whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(bad)
        with pytest.raises(UsageError, match="cut short"):
            train(field(), delayed(), resume=True, **options)
        assert path.read_bytes() == bad
    torch.save({"kind": "learner", "state": {}, "format": 1}, path)
    with pytest.raises(UsageError, match="a whole checkpoint of a training"):
        train(field(), delayed(), resume=True, **options)


def test_a_loss_that_runs_away_leaves_the_last_checkpoint(tmp_path):
    network = ctrnn.RateNetwork(N, inputs=INPUTS, seed=0, activation="linear", form="rate", gain=0.9)
    # a linear network under a large rate: its weights grow until the loss is infinite
    options = {"readout": readout(), "optimizer": "sgd", "lr": 50.0, "epochs": 200, "checkpoint": tmp_path / "c.pt"}
    with pytest.raises(CtrnnError) as caught:
        train(network, delayed(), **options)
    assert not isinstance(caught.value, UsageError) and "Try:" in str(caught.value)
    assert torch.load(tmp_path / "c.pt", weights_only=True)["state"]["history"]
    assert isinstance(caught.value, NotFiniteError | ctrnn.errors.DivergenceError)


def test_save_and_load(tmp_path):
    done = train(field(), delayed(), readout=readout(), epochs=3, validation=0.25, train_r0=True)
    done.save(tmp_path / "t.npz")
    back = Training.load(tmp_path / "t.npz", field(seed=5))
    assert np.array_equal(numbers(done), numbers(back)) and back.best == done.best and repr(back) == repr(done)
    assert back.evaluate(delayed()) == done.evaluate(delayed())
    with pytest.raises(UsageError, match="field"):
        Training.load(tmp_path / "t.npz", ctrnn.RateNetwork(N + 1, inputs=INPUTS, seed=0, form="rate"))
    with pytest.raises(UsageError, match="loss"):
        Training.load(tmp_path / "t.npz", field(), loss="huber")
    (tmp_path / "t.npz").write_bytes((tmp_path / "t.npz").read_bytes()[:100])
    with pytest.raises(UsageError, match="path"):
        Training.load(tmp_path / "t.npz", field())


# --- any field


def test_scalars_and_torch_functions_train_as_any_field_does(tmp_path):
    """Two ways to say one field, with time in F: the same numbers after scheduled sampling, by different programs."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 12, 1)), rng.normal(size=(6, 12, 1))
    options = {
        "readout": ctrnn.Readout([[0.5, -0.2]]),
        "dt": 0.3,
        "epochs": 3,
        "lr": 0.02,
        "solver": "heun",
        "feedback": [0],
    }
    scalars = ctrnn.Equations({"u": "-a*u + v + x", "v": "tanh(b*u) - v + t/9"}, {"a": 0.7, "b": -0.5}, inputs=["x"])

    def by_torch(t, r, w, x):
        u, v = r[..., 0], r[..., 1]
        return torch.stack([-w["a"][0] * u + v + x[..., 0], torch.tanh(w["a"][1] * u) - v + t / 9], dim=-1)

    torchs = ctrnn.TorchField(by_torch, 2, {"a": [0.7, -0.5]}, inputs=1)
    found = [train(one, (x, y), teacher_forcing=0.5, seed=3, **options) for one in (scalars, torchs)]
    np.testing.assert_allclose(found[1].field.vector, found[0].field.vector, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[1].history["loss"], found[0].history["loss"], rtol=1e-12)
    assert abs(found[0].field.vector - scalars.vector).min() > 1e-3
    np.testing.assert_allclose(found[1].predict(x, 4), found[0].predict(x, 4), rtol=0, atol=1e-12)
    found[0].save(tmp_path / "t.npz")
    again = Training.load(tmp_path / "t.npz", scalars)
    np.testing.assert_array_equal(again.predict(x), found[0].predict(x))
    assert found[0].field(0.0, [0.1, 0.2], [0.3]).shape == (2,)


# --- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trials": (np.full((2, 3, 2), np.nan), np.ones((2, 3, 1)))}, "x of trial 0, step 0"),
        ({"trials": (np.ones((2, 3, 2)), np.ones((2, 4, 1)))}, "y of trial 0"),
        ({"trials": (np.ones((2, 3, 3)), np.ones((2, 3, 1)))}, "3 inputs"),
        ({"trials": (np.ones((2, 3, 2)), np.ones((2, 3, 1)), np.zeros((2, 3)))}, "weights that are all 0"),
        ({"readout": None}, "6 states"),
        ({"readout": ["r0", "r1"]}, "2 states"),
        ({"readout": "q"}, "readout"),
        ({"readout": readout(2)}, "2 outputs of 6 states"),
        ({"loss": "cross_entropy"}, "softmax"),
        ({"loss": "square"}, "squared_error"),
        ({"loss": "o - z"}, "z"),
        ({"loss": lambda o, y: 1.0}, "a tensor"),
        ({"optimizer": "adamm"}, "did you mean 'adam'"),
        ({"scheduler": "Step"}, "StepLR"),
        ({"scheduler": "ReduceLROnPlateau"}, "validation"),
        ({"patience": 3}, "validation"),
        ({"validation": 1.5}, "fraction"),
        ({"split": "times", "validation": 0.5}, "by"),
        ({"clip": -1.0}, "clip"),
        ({"epochs": 0}, "epochs"),
        ({"dt": 0.0}, "dt"),
        ({"solver": "scipy:BDF"}, "solver"),
        ({"dropout": {"W": 1.0}}, "probability"),
        ({"dropout": {"tau": 0.1}}, "dropout"),
        ({"dropout": 0.1}, "dropout"),
        ({"feedback": True}, "2 inputs"),
        ({"feedback": ["x7"]}, "feedback"),
        ({"teacher_forcing": 0.5}, "feedback"),
        ({"feedback": [0], "teacher_forcing": 1.5}, "probability"),
        ({"feedback": [0], "teacher_forcing": {"decai": 0.5}}, "did you mean 'decay'"),
        ({"feedback": [0], "dropout": {"x": 0.5}}, "inputs with feedback"),
        ({"curriculum": {"start": 0}}, "curriculum"),
        ({"curriculum": 3}, "curriculum"),
        ({"parameters": ["W", "Q"]}, "Q"),
        ({"r0": [1.0, 2.0]}, "r0"),
        ({"interpolation": "cubic"}, "interpolation"),
        ({"checkpoint": "/nowhere/at/all/c.pt"}, "folder that exists"),
        ({"metrics": "/nowhere/at/all/m.csv"}, "folder that exists"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change, words):
    options = {"field": field(), "trials": delayed(), "readout": readout(), "epochs": 1} | change
    with pytest.raises(UsageError, match=words):
        train(options.pop("field"), options.pop("trials"), **options)
    assert issubclass(UnknownNameError, UsageError)


# --- learned to the end (scripts/learned.py has all of it)


def script():
    path = Path(__file__).resolve().parent.parent / "scripts" / "learned.py"
    spec = importlib.util.spec_from_file_location("learned", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_three_bits_in_24_units_over_99_per_cent_on_new_sequences():
    done = script().flip_flop(epochs=60)
    assert done.field.n == 24
    assert done.accuracy(ctrnn.learning.tasks.flip_flop(trials=40, steps=400, seed=1000)) > 0.99


def test_the_autoregression_foretells_a_series_that_is_one():
    learned, s = script(), [1.0, 0.5]
    for _ in range(60):
        s.append(1.6 * s[-1] - 0.9 * s[-2] + 0.3)
    s = np.array(s)
    c = learned.autoregression(s, 40, 2)
    assert np.abs(c - [1.6, -0.9, 0.3]).max() < 1e-10
    assert all(abs(learned.autoregressive_forecast(s, c, k, 5) - s[k]) < 1e-9 for k in (45, 50, 61))


def test_valid_times_of_free_runs_are_counted_to_the_first_large_error():
    learned = script()
    test = ctrnn.learning.tasks.lorenz_generation(trials=3, steps=120, seed=0)

    class Outputs:
        def predict(self, x, free_after):
            o = test.y.copy()
            o[0, free_after + 4 :] += 10.0
            o[1, 3] += 10.0  # before it runs free
            return o

    found = learned.valid_times(Outputs(), test, free_after=20)
    assert np.allclose(found, 0.9056 * 0.02 * np.array([4, 100, 100]))
