"""ctrnn.nn.CTRNN against torch's autograd through steps that are written out here, against torch.nn.RNN and against
ctrnn.gradient.

Digits: 1e-12 relative in values and gradients, and 1e-13 for torch.nn.RNN; gradcheck and gradgradcheck are torch's own
differences (1e-6).
"""

from __future__ import annotations

import copy
import io
import pickle
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import ctrnn
from ctrnn.errors import DivergenceError, UnknownNameError, UsageError
from ctrnn.fields import rows
from ctrnn.nn import CTRNN

PHI = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "softplus": nn.functional.softplus,
    "linear": lambda z: z,
}


def expected(layer, x, r0, dt, solver="rk4", form="state", activation="tanh", steps=1, linear=False):
    """The states (B, T, n) by formulas of a textbook; x (B, T, inputs)."""
    phi, W, U, b, tau = PHI[activation], layer.W, layer.U, layer.b, layer.tau
    states, r = [], r0

    def F(r, x):
        if form == "state":
            return (-r + phi(r) @ W.T + x @ U.T + b) / tau
        return (-r + phi(r @ W.T + x @ U.T + b)) / tau

    for t in range(x.shape[1]):
        for j in range(steps):

            def x_at(c, t=t, j=j):
                if not linear:
                    return x[:, t]
                p = (j + c) / steps
                return (1 - p) * x[:, max(t - 1, 0)] + p * x[:, t]

            if solver == "euler":
                r = r + dt * F(r, x_at(0))
            elif solver == "exponential-euler":
                # (e^z − 1)/z with z = −dt/τ
                r = r + dt * F(r, x_at(0)) * (1 - torch.exp(-dt / tau)) / (dt / tau)
            elif solver == "midpoint":
                r = r + dt * F(r + dt / 2 * F(r, x_at(0)), x_at(0.5))
            elif solver == "heun":
                k1 = F(r, x_at(0))
                r = r + dt / 2 * (k1 + F(r + dt * k1, x_at(1)))
            else:
                k1 = F(r, x_at(0))
                k2 = F(r + dt / 2 * k1, x_at(0.5))
                k3 = F(r + dt / 2 * k2, x_at(0.5))
                k4 = F(r + dt * k3, x_at(1))
                r = r + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(r)
    return torch.stack(states, dim=1)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, digits=1e-12):
    return float((a - b).detach().norm()) <= digits * float(b.detach().norm())


def agree(layer, x, r0, reference, digits=1e-12):
    """States, and gradients of a loss of all of them and of the last, to everything that has one."""
    wanted = [*layer.parameters(), x, r0]
    y, z = randn(*x.shape[:2], layer.hidden_size, seed=7), randn(x.shape[0], layer.hidden_size, seed=8)

    def of(states, last):
        return torch.autograd.grad((states * y).sum() + (last * z).sin().sum(), wanted)

    states, last = layer(x, r0)
    exact = reference(x, r0)
    assert close(states, exact, digits) and torch.equal(last, states[:, -1])
    names = [name for name, _ in layer.named_parameters()] + ["x", "r0"]
    for name, mine, theirs in zip(names, of(states, last), of(exact, exact[:, -1]), strict=True):
        assert mine.shape == theirs.shape
        assert float(theirs.norm()) > 1e-6, name  # or nothing is compared
        assert close(mine, theirs, digits), name


@pytest.mark.parametrize("form", ["state", "rate"])
@pytest.mark.parametrize("solver", ["euler", "exponential-euler", "midpoint", "heun", "rk4"])
@pytest.mark.parametrize("linear", [False, True])
def test_states_and_gradients_are_those_of_autograd_to_1e_12(form, solver, linear) -> None:
    tau = np.linspace(0.4, 1.3, 5)
    how = {"interpolation": "linear"} if linear else {}
    layer = CTRNN(
        3, 5, dt=0.2, tau=tau, solver=solver, form=form, steps_per_input=3, train_tau=True, gain=1.5, seed=1, **how
    )
    with torch.no_grad():
        layer.b += randn(5, seed=3) / 4
    x, r0 = randn(4, 6, 3).requires_grad_(), randn(4, 5, seed=1).requires_grad_()
    agree(layer, x, r0, lambda x, r0: expected(layer, x, r0, 0.2, solver, form, steps=3, linear=linear))


@pytest.mark.parametrize("form", ["state", "rate"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "softplus", "linear"])
def test_every_activation_to_1e_12(activation, form) -> None:
    layer = CTRNN(2, 6, dt=0.1, tau=0.7, activation=activation, form=form, train_tau=True, seed=2)
    x, r0 = randn(3, 5, 2).requires_grad_(), randn(3, 6, seed=1).requires_grad_()
    agree(layer, x, r0, lambda x, r0: expected(layer, x, r0, 0.1, form=form, activation=activation))


@pytest.mark.parametrize(("n", "B", "T"), [(1, 1, 1), (3, 200, 2), (40, 1, 30), (33, 17, 9), (130, 9, 4)])
def test_every_division_into_parts_and_threads_to_1e_12(n, B, T, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr("ctrnn.fields.rows.WORTH_THREADS", 0.0)
    layer = CTRNN(2, n, dt=0.1, seed=0)
    x, r0 = randn(B, T, 2).requires_grad_(), randn(B, n, seed=1).requires_grad_()
    agree(layer, x, r0, lambda x, r0: expected(layer, x, r0, 0.1))


def test_parts_and_threads_change_no_sum(monkeypatch) -> None:
    """The same numbers to the last bit, whichever thread is quicker."""
    layer, x = CTRNN(2, 40, dt=0.1, seed=0), randn(30, 40, 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")

    def gradient():
        layer.zero_grad()
        layer(x)[0].square().sum().backward()
        return layer.W.grad

    first = gradient()
    assert all(torch.equal(gradient(), first) for _ in range(3))
    monkeypatch.setattr("ctrnn.fields.rows.WORTH_THREADS", float("inf"))
    assert torch.equal(gradient(), first)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_one_euler_step_of_dt_equal_tau_is_torch_rnn_to_1e_13(nonlinearity) -> None:
    layer = CTRNN(3, 8, dt=0.3, tau=0.3, solver="euler", form="rate", activation=nonlinearity, seed=0)
    rnn = nn.RNN(3, 8, nonlinearity=nonlinearity, batch_first=True, dtype=torch.float64)
    pairs = {"W": "weight_hh_l0", "U": "weight_ih_l0", "b": "bias_ih_l0"}
    with torch.no_grad():
        for mine, theirs in pairs.items():
            getattr(layer, mine).copy_(getattr(rnn, theirs))
        layer.b += rnn.bias_hh_l0
    x, r0 = randn(5, 30, 3).requires_grad_(), randn(5, 8, seed=1).requires_grad_()
    (states, last), (theirs, h) = layer(x, r0), rnn(x, r0[None])
    assert close(states, theirs, 1e-13) and close(last, h[0], 1e-13)
    mine = torch.autograd.grad(states.square().sum(), [*(getattr(layer, k) for k in pairs), x, r0])
    exact = torch.autograd.grad(theirs.square().sum(), [*(getattr(rnn, k) for k in pairs.values()), x, r0])
    assert all(close(a, b, 1e-13) for a, b in zip(mine, exact, strict=True))


def test_state_form_is_another_network_than_torch_rnn() -> None:
    """Its r is what torch.nn.RNN applies φ to: φ(r) of it is h, from h0 = φ(r0)."""
    layer = CTRNN(3, 8, dt=0.3, tau=0.3, solver="euler", seed=0)
    twin = CTRNN(3, 8, dt=0.3, tau=0.3, solver="euler", form="rate", seed=0)
    x, r0 = randn(2, 12, 3), randn(2, 8, seed=1)
    assert not close(layer(x, r0)[0], twin(x, r0)[0], 0.1)
    assert close(layer(x, r0)[0].tanh(), twin(x, r0.tanh())[0], 1e-13)


@pytest.mark.parametrize("solver", ["rk4", "exponential-euler", "tsit5", "dop853"])
def test_states_and_gradient_are_those_of_simulate_and_gradient_to_1e_12(solver) -> None:
    """Held input as a signal; the loss ½‖r − y‖² at the end of each interval; dl/dx is compared above."""
    layer = CTRNN(2, 6, dt=0.1, tau=0.8, solver=solver, steps_per_input=4, train_tau=True, seed=3)
    x, r0, y = randn(7, 2), randn(6, seed=1), randn(7, 6, seed=2)
    states, last = layer(x, r0)
    (0.5 * (states - y).square().sum()).backward()
    times = 0.4 * np.arange(8)
    signal = ctrnn.inputs.Sampled(times[:-1], x.numpy(), kind="hold")
    objective = ctrnn.Objective(target=y.numpy(), at=times[1:])
    problem = ctrnn.Problem(layer.field(), r0.numpy(), (0.0, times[-1]), signal, objective)
    run = ctrnn.simulate(problem, solver, dt=0.1, save_at=times[1:])
    g = ctrnn.gradient(problem, "adjoint", solver=solver, dt=0.1)
    assert close(states, torch.from_numpy(run.r))
    assert all(close(p.grad, torch.from_numpy(np.asarray(g.parameters[name]))) for name, p in layer.named_parameters())


def test_linear_input_is_that_of_a_linear_signal_and_causal() -> None:
    layer = CTRNN(2, 6, dt=0.1, steps_per_input=4, interpolation="linear", seed=3)
    x = randn(7, 2)
    times = 0.4 * np.arange(8)
    signal = ctrnn.inputs.Sampled(times, np.concatenate([x[:1], x]), kind="linear")
    run = ctrnn.simulate(
        ctrnn.Problem(layer.field(), np.zeros(6), (0.0, times[-1]), signal), "rk4", dt=0.1, save_at=times[1:]
    )
    states = layer(x)[0]
    assert close(states, torch.from_numpy(run.r))
    later = x.clone()
    later[4:] += 1.0
    assert torch.equal(layer(later)[0][:4], states[:4]) and not torch.equal(layer(later)[0][4], states[4])


def test_order_four_and_one() -> None:
    """Halving the step divides RK4's error by 16 and exponential Euler's by 2, to 10 %."""
    x = randn(3, 4, 2)

    def at(solver, steps):
        return CTRNN(2, 5, dt=1.6 / steps, solver=solver, steps_per_input=steps, interpolation="linear", seed=0)(x)[1]

    exact = at("dop853", 64)
    for solver, factor in (("rk4", 16), ("exponential-euler", 2)):
        errors = [float((at(solver, steps) - exact).detach().norm()) for steps in (32, 64)]
        assert abs(errors[0] / errors[1] / factor - 1) < 0.1


def test_gradcheck_and_second_derivatives() -> None:
    layer = CTRNN(2, 3, dt=0.3, form="rate", train_tau=True, interpolation="linear", steps_per_input=2, seed=0)
    x, r0 = randn(2, 3, 2).requires_grad_(), randn(2, 3, seed=1).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def of(x, r0, *weights):
        return torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (x, r0))[0]

    everything = (x, r0, *(p.detach().clone().requires_grad_() for p in layer.parameters()))
    assert torch.autograd.gradcheck(of, everything)
    assert torch.autograd.gradgradcheck(of, everything)


def test_backward_twice_through_one_graph() -> None:
    layer, x = CTRNN(2, 4, dt=0.1, seed=0), randn(3, 5, 2)
    loss = layer(x)[0].square().sum()
    first = torch.autograd.grad(loss, layer.W, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad(loss, layer.W)[0], first)
    loss = layer(x)[0].square().sum()
    with torch.no_grad():
        layer.W += 1.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_nothing_is_kept_once_backward_has_run(monkeypatch) -> None:
    """Though the loss be kept; and torch.utils.checkpoint, which runs forward again, gives the same bits."""
    from torch.utils.checkpoint import checkpoint

    kept, forward = [], rows.Rows.forward

    def watched(*arguments):
        parts = forward(*arguments)
        kept.extend(weakref.ref(part.tape) for part in parts)
        return parts

    monkeypatch.setattr(rows.Rows, "forward", watched)
    layer, x = CTRNN(2, 5, dt=0.1, seed=0), torch.randn(3, 4, 2)
    loss = layer(x)[1].sum()
    assert kept[0]() is not None
    loss.backward()
    assert kept[0]() is None
    again = torch.autograd.grad(checkpoint(lambda v: layer(v)[1], x, use_reentrant=False).sum(), layer.W)[0]
    assert torch.equal(again, layer.W.grad)


def test_nothing_is_kept_without_a_gradient() -> None:
    layer, x = CTRNN(2, 4, dt=0.1, seed=0), randn(3, 5, 2)
    with torch.no_grad():
        states = layer(x)[0]
    assert not states.requires_grad and torch.equal(states, layer(x)[0])
    layer.requires_grad_(False)
    assert not layer(x)[0].requires_grad
    x.requires_grad_()
    layer(x)[0].sum().backward()
    assert layer.W.grad is None and close(
        x.grad, torch.autograd.grad(expected(layer, x, torch.zeros(3, 4).double(), 0.1).sum(), x)[0]
    )


def test_shapes_of_batches_sequences_and_starts() -> None:
    layer, x, r0 = CTRNN(2, 4, dt=0.1, seed=0), randn(3, 5, 2), randn(3, 4, seed=1)
    other = CTRNN(2, 4, dt=0.1, seed=0, batch_first=False)
    states, last = layer(x, r0)
    assert states.shape == (3, 5, 4) and last.shape == (3, 4)
    assert torch.equal(other(x.transpose(0, 1), r0)[0], states.transpose(0, 1))
    alone, end = layer(x[1], r0[1])
    assert alone.shape == (5, 4) and close(alone, states[1]) and torch.equal(end, alone[-1])
    assert close(layer(x, r0[1])[0], layer(x, r0[1].expand(3, 4))[0], 0.0)
    assert close(layer(x[:, :3], r0)[1], states[:, 2]) and close(
        layer(x[:, 3:], layer(x[:, :3], r0)[1])[0], states[:, 3:]
    )
    assert torch.equal(layer(x)[0], layer(x, torch.zeros(4))[0])
    assert CTRNN(0, 4, dt=0.1, seed=0)(torch.zeros(2, 3, 0))[0].shape == (2, 3, 4)


def test_float32_is_computed_in_float64_and_given_back_in_float32() -> None:
    layer, x = CTRNN(2, 4, dt=0.1, seed=0), randn(3, 5, 2)
    single = x.float().requires_grad_()
    states, last = layer(single)
    assert states.dtype == last.dtype == torch.float32
    assert torch.equal(states, layer(single.double())[0].float())
    states.sum().backward()
    assert single.grad.dtype == torch.float32 and layer.W.grad.dtype == torch.float64
    halved = copy.deepcopy(layer).float()
    assert halved(single)[0].dtype == torch.float32 and close(halved(single)[0], states, 1e-6)
    halved(single)[0].sum().backward()
    assert halved.W.grad.dtype == torch.float32


def test_parameters_state_dict_pickle_and_modes() -> None:
    layer = CTRNN(2, 4, dt=0.1, tau=[0.5, 1.0, 1.5, 2.0], train_tau=True, seed=0)
    assert {k: tuple(p.shape) for k, p in layer.named_parameters()} == {
        "W": (4, 4),
        "U": (4, 2),
        "b": (4,),
        "tau": (4,),
    }
    fixed = CTRNN(2, 4, dt=0.1, tau=0.5)
    assert "tau" not in dict(fixed.named_parameters()) and float(fixed.state_dict()["tau"]) == 0.5
    x, file = randn(3, 5, 2), io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    twin = CTRNN(2, 4, dt=0.1, tau=np.ones(4), train_tau=True, seed=5)
    assert not torch.equal(twin(x)[0], layer(x)[0])
    twin.load_state_dict(torch.load(file))
    for other in (twin, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), layer.eval(), layer.train()):
        assert torch.equal(other(x)[0], layer(x)[0])
    assert np.array_equal(layer.field().parameters["tau"], [0.5, 1.0, 1.5, 2.0])
    fixed.load_state_dict(fixed.state_dict() | {"tau": torch.tensor(0.75)})
    assert fixed.field().tau == 0.75
    assert "dt=0.1" in repr(layer) and "rk4" in repr(layer)


def test_seed_is_that_of_the_network_or_of_torch() -> None:
    assert np.array_equal(
        CTRNN(3, 8, dt=0.1, gain=1.2, seed=4).W.detach(),
        ctrnn.RateNetwork(8, inputs=3, gain=1.2, seed=4).parameters["W"],
    )
    torch.manual_seed(11)
    first = CTRNN(3, 8, dt=0.1)
    assert not torch.equal(first.W, CTRNN(3, 8, dt=0.1).W)
    torch.manual_seed(11)
    assert torch.equal(first.W, CTRNN(3, 8, dt=0.1).W)


def test_two_layers_and_a_readout_learn() -> None:
    """Forty steps of Adam bring the loss of a memory task below a third; the first layer has a gradient through the
    second."""
    torch.manual_seed(0)
    first, second = CTRNN(1, 12, dt=0.2, train_tau=True), CTRNN(12, 8, dt=0.2, form="rate", solver="exponential-euler")
    readout = nn.Linear(8, 1, dtype=torch.float64)
    whole = nn.ModuleList([first, second, readout])
    x = randn(16, 20, 1)
    y = x.cumsum(dim=1) / 5
    optimizer, losses = torch.optim.Adam(whole.parameters(), lr=0.02), []
    for _ in range(40):
        loss = (readout(second(first(x)[0])[0]) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(float(p.grad.norm()) > 0 for p in first.parameters())
    assert losses[-1] < losses[0] / 3

    def both(r):
        return expected(
            second, expected(first, x, torch.zeros(16, 12).double(), 0.2), r, 0.2, "exponential-euler", "rate"
        )

    r = torch.zeros(16, 8).double()
    mine = torch.autograd.grad(second(first(x)[0])[0].square().sum(), list(first.parameters()))
    exact = torch.autograd.grad(both(r).square().sum(), list(first.parameters()))
    assert all(close(a, b) for a, b in zip(mine, exact, strict=True))


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_trial_does_not_depend_on_its_company(n, B, T, seed) -> None:
    """To 1e-13: products of other shapes may add in another order."""
    layer = CTRNN(2, n, dt=0.2, gain=1.5, seed=seed)
    x = randn(B, T, 2, seed=seed)
    states = layer(x)[0]
    assert all(close(layer(x[b])[0], states[b], 1e-13) for b in range(B))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"dt": None}, UsageError, "dt: got None; allowed: a positive number"),
        ({"dt": 0.0}, UsageError, "dt: got 0.0"),
        ({"dt": float("nan")}, UsageError, "dt: got nan"),
        ({"tau": 0.0}, UsageError, "tau"),
        ({"tau": [1.0, -1.0, 1.0, 1.0]}, UsageError, "tau"),
        ({"tau": [1.0, 1.0]}, UsageError, "tau"),
        ({"solver": "rk5"}, UnknownNameError, "rk4"),
        ({"solver": "kvaerno5"}, UsageError, "explicit method"),
        ({"activation": "tan"}, UnknownNameError, "tanh"),
        ({"form": "rat"}, UnknownNameError, "rate"),
        ({"interpolation": "cubic"}, UnknownNameError, "hold, linear"),
        ({"steps_per_input": 0}, UsageError, "steps_per_input: got 0"),
        ({"hidden_size": 0}, UsageError, "hidden_size: got 0"),
        ({"input_size": -1}, UsageError, "input_size: got -1"),
        ({"seed": -1}, UsageError, "seed"),
    ],
)
def test_a_layer_that_cannot_be_made_says_why(changes, error, words) -> None:
    with pytest.raises(error, match=words):
        CTRNN(**({"input_size": 2, "hidden_size": 4, "dt": 0.1} | changes))


NAN = torch.tensor([[[0.0, 0.0], [float("nan"), 0.0]]])


@pytest.mark.parametrize(
    ("x", "r0", "words"),
    [
        (torch.zeros(3, 5, 3), None, r"x: got 'shape \(3, 5, 3\)'; allowed: 'shape \(B, T, 2\)|x: got"),
        (torch.zeros(5), None, "x: got"),
        (torch.zeros(3, 0, 2), None, "T at least 1"),
        (torch.zeros(3, 5, 2, dtype=torch.int64), None, "real numbers"),
        (np.zeros((3, 5, 2)), None, "a tensor of real numbers"),
        (NAN, None, r"nan at \(0, 1, 0\)"),
        (torch.zeros(3, 5, 2), torch.zeros(2, 4), r"r0: got 'shape \(2, 4\)'"),
        (torch.zeros(5, 2), torch.zeros(2, 4), "r0"),
        (torch.zeros(3, 5, 2), torch.full((4,), float("inf")), "r0"),
        (torch.zeros(3, 5, 2, device="meta"), None, "the CPU"),
    ],
)
def test_input_that_cannot_be_taken_says_why(x, r0, words) -> None:
    with pytest.raises(UsageError, match=words):
        CTRNN(2, 4, dt=0.1, seed=0)(x, r0)


def test_parameters_that_cannot_be_used_say_why() -> None:
    layer, x = CTRNN(2, 4, dt=0.1, train_tau=True, seed=0), torch.zeros(3, 5, 2)
    with pytest.raises(UsageError, match=r"parameter 'W': got 'on meta'; allowed: the CPU. Try: layer.cpu\(\)"):
        copy.deepcopy(layer).to("meta")(x)
    with torch.no_grad():
        layer.tau -= 2.0
    with pytest.raises(UsageError, match="tau: got .*positive numbers"):
        layer(x)
    with torch.no_grad():
        layer.b[2] = float("nan")
    with pytest.raises(UsageError, match="parameter 'b'"):
        layer(x)


def test_states_that_grow_without_bound_are_an_error_with_the_last_good_state() -> None:
    layer = CTRNN(1, 2, dt=1.0, tau=0.001, activation="linear", solver="euler", seed=0)
    with pytest.raises(DivergenceError, match="trial 1 became infinite or NaN in input interval") as caught:
        layer(torch.zeros(2, 400, 1), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert np.isfinite(caught.value.r).all() and 50 < caught.value.t < 400
