"""Networks as texts, against torch's own cells and against the published equations written by hand in torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

import ctrnn
from ctrnn import inputs
from ctrnn.errors import UnknownNameError, UsageError

N, NX, T, TAU = 5, 3, 7, 0.3


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _held(X: np.ndarray) -> inputs.Input:
    return inputs.Sampled(TAU * np.arange(len(X) + 1), np.concatenate([X, X[-1:]]), "hold")


def _torch_rnn() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.RNN(NX, N, dtype=torch.float64)


def _gru() -> tuple[torch.nn.Module, ctrnn.Field]:
    torch.manual_seed(0)
    module = torch.nn.GRU(NX, N, dtype=torch.float64)
    return module, ctrnn.GRUNetwork.from_torch(module, tau=TAU)


def _lstm() -> tuple[torch.nn.Module, ctrnn.Field]:
    torch.manual_seed(0)
    module = torch.nn.LSTM(NX, N, dtype=torch.float64)
    return module, ctrnn.LSTMNetwork.from_torch(module, tau=TAU)


@pytest.mark.parametrize("make", [_gru, _lstm], ids=["GRU", "LSTM"])
def test_an_euler_step_of_tau_is_the_cell_of_torch_in_values_and_gradients_to_1e12(
    make: Callable[[], tuple[torch.nn.Module, ctrnn.Field]],
) -> None:
    module, field = make()
    rng = _rng()
    X, Y = rng.normal(size=(T, NX)), rng.normal(size=(T, N))
    names = [f"h[{i}]" for i in range(N)]
    objective = ctrnn.Objective(target=Y, at=TAU * np.arange(1, T + 1), readout=names)
    problem = ctrnn.Problem(field, np.zeros(field.n), (0.0, T * TAU), x=_held(X), objective=objective)
    states = ctrnn.simulate(problem, solver="euler", dt=TAU).r[1:, :N]
    expected = module(torch.from_numpy(X))[0]
    assert np.abs(states - expected.detach().numpy()).max() < 1e-14
    loss = 0.5 * (expected - torch.from_numpy(Y)).square().sum()
    loss.backward()
    for method in ("adjoint", ctrnn.RTRL(block=3), "adjoint-checkpoint"):
        g = ctrnn.gradient(problem, method, solver="euler", dt=TAU)
        assert abs(g.loss - loss.item()) < 1e-12 * loss.item()
        # a gradient goes to torch's names as weights do
        moved = field.with_parameters(**g.parameters)
        weight_ih, weight_hh, bias_ih, _ = moved._to_stacks()
        for ours, theirs in (
            (weight_ih, module.weight_ih_l0),
            (weight_hh, module.weight_hh_l0),
            (bias_ih, module.bias_ih_l0),
        ):
            assert np.abs(ours - theirs.grad.numpy()).max() < 1e-12 * np.abs(theirs.grad.numpy()).max()


def test_the_hidden_bias_of_a_gru_has_its_own_gradient() -> None:
    module, field = _gru()
    X = _rng().normal(size=(T, NX))
    problem = ctrnn.Problem(
        field, np.zeros(N), (0.0, T * TAU), x=_held(X), objective=ctrnn.Objective(target=0.0, at=[T * TAU])
    )
    module(torch.from_numpy(X))[0][-1].square().sum().mul(0.5).backward()
    ours = ctrnn.gradient(problem, "adjoint", solver="euler", dt=TAU).parameters["c_n"]
    theirs = module.bias_hh_l0.grad[2 * N :].numpy()
    assert np.abs(ours - theirs).max() < 1e-13 * np.abs(theirs).max()


@pytest.mark.parametrize("make", [_gru, _lstm], ids=["GRU", "LSTM"])
def test_to_torch_and_back(make: Callable[[], tuple[torch.nn.Module, ctrnn.Field]]) -> None:
    module, field = make()
    X = torch.from_numpy(_rng().normal(size=(2, T, NX)))
    again = field.to_torch()  # type: ignore[attr-defined]
    expected = module(X.transpose(0, 1))[0].transpose(0, 1)
    assert (again(X)[0] - expected).abs().max() < 1e-14
    assert np.array_equal(type(field).from_torch(again, tau=TAU).vector, field.vector)  # type: ignore[attr-defined]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_a_network_is_that_of_a_cell(kind: str, bias: bool) -> None:
    """One Euler step of tau is the cell, to 1e-14; and a module of torch's own layout gives the same."""
    torch.manual_seed(2)
    cell = getattr(torch.nn, f"{kind}Cell")(NX, N, bias=bias, dtype=torch.float64)
    make = {"RNN": ctrnn.RateNetwork, "GRU": ctrnn.GRUNetwork, "LSTM": ctrnn.LSTMNetwork}[kind]
    field = make.from_torch(cell)
    r, x = _rng().normal(size=field.n), _rng().normal(size=NX)
    parts = tuple(torch.from_numpy(part[None]) for part in np.split(r, field.n // N))
    after = cell(torch.from_numpy(x[None]), parts if kind == "LSTM" else parts[0])
    expected = torch.cat(after, 1) if kind == "LSTM" else after
    assert np.abs(r + field(0.0, r, x) - expected[0].detach().numpy()).max() < 1e-14
    X = torch.from_numpy(_rng().normal(size=(T, 2, NX)))
    in_time, in_lanes = field.to_torch(batch_first=False)(X)[0], field.to_torch()(X.transpose(0, 1))[0]
    assert (in_time - in_lanes.transpose(0, 1)).abs().max() < 1e-14
    with pytest.raises(UsageError, match="layer"):
        make.from_torch(cell, layer=1)


def test_layers_and_directions_of_a_module() -> None:
    torch.manual_seed(1)
    module = torch.nn.GRU(NX, N, num_layers=2, bidirectional=True, dtype=torch.float64)
    field = ctrnn.GRUNetwork.from_torch(module, layer=1, reverse=True)
    assert field.input_size == 2 * N
    assert np.array_equal(field.parameters["W_z"], module.weight_hh_l1_reverse[N : 2 * N].detach().numpy())
    with pytest.raises(UsageError, match="layer"):
        ctrnn.GRUNetwork.from_torch(module, layer=2)
    with pytest.raises(UsageError, match="GRU"):
        ctrnn.GRUNetwork.from_torch(torch.nn.LSTM(NX, N))
    with pytest.raises(UsageError, match="after"):
        ctrnn.GRUNetwork.from_torch(torch.nn.GRU(NX, N), reset="before")


# --- the published equations, by hand


def _sig(u: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(u)


def _gru_before(h: torch.Tensor, w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    g = _sig(w["W_r"] @ h + w["U_r"] @ x + w["b_r"])
    z = _sig(w["W_z"] @ h + w["U_z"] @ x + w["b_z"])
    return (1 - z) * (torch.tanh(w["W_n"] @ (g * h) + w["U_n"] @ x + w["b_n"]) - h) / TAU


def _liquid(h: torch.Tensor, w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    f = _sig(w["W"] @ h + w["U"] @ x + w["b"])
    return -(1 / w["tau"] + f) * h + f * w["A"]


def _linear(r: torch.Tensor, w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return w["A"] @ r + w["B"] @ x + w["b"]


def _mlp(r: torch.Tensor, w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    a = torch.tanh(w["W1"] @ r + w["U"] @ x + w["b1"])
    return w["W3"] @ torch.tanh(w["W2"] @ a + w["b2"]) + w["b3"]


BY_HAND = {
    "GRU, reset before": (lambda: ctrnn.GRUNetwork(N, NX, TAU, reset="before", seed=1), _gru_before),
    "liquid": (lambda: ctrnn.LiquidNetwork(N, NX, np.linspace(0.2, 1.0, N), seed=2, train_tau=True), _liquid),
    "linear": (lambda: ctrnn.LinearNetwork(N, NX, seed=3), _linear),
    "MLP": (lambda: ctrnn.MLPField(N, hidden=(8, 6), inputs=NX, seed=4), _mlp),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_values_and_rk4_gradients_are_those_of_torch_to_1e11(name: str) -> None:
    make, by_hand = BY_HAND[name]
    rng = _rng()
    field = make()
    field = field.with_vector(field.vector + 0.1 * rng.random(field.m))
    r0, x, y = rng.normal(size=N), rng.normal(size=NX), rng.normal(size=N)
    problem = ctrnn.Problem(field, r0, (0.0, 1.0), x=x, objective=ctrnn.Objective(target=y[None], at=[1.0]))
    w = {k: torch.tensor(v, requires_grad=True) for k, v in field.parameters.items()}
    start, drive, h = torch.tensor(r0, requires_grad=True), torch.from_numpy(x), 0.1
    r = start
    assert np.abs(field(0.0, r0, x) - by_hand(r, w, drive).detach().numpy()).max() < 1e-13
    for _ in range(10):
        k1 = by_hand(r, w, drive)
        k2 = by_hand(r + h / 2 * k1, w, drive)
        k3 = by_hand(r + h / 2 * k2, w, drive)
        k4 = by_hand(r + h * k3, w, drive)
        r = r + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    (0.5 * (r - torch.from_numpy(y)).square().sum()).backward()
    expected = np.concatenate([*(v.grad.numpy().ravel() for v in w.values()), start.grad.numpy()])
    for method in ("adjoint", ctrnn.RTRL(block=1), ctrnn.RTRL(block=4), "adjoint-checkpoint"):
        g = ctrnn.gradient(problem, method, solver="rk4", dt=h)
        found = np.concatenate([g.vector, g.r0])
        assert np.linalg.norm(found - expected) < 1e-11 * np.linalg.norm(expected)


def test_an_activation_may_be_a_formula() -> None:
    named, written = (ctrnn.MLPField(2, (4,), activation=a, seed=0) for a in ("tanh", "(exp(2*z) - 1)/(exp(2*z) + 1)"))
    assert np.abs(named(0.0, [0.3, -0.2]) - written(0.0, [0.3, -0.2])).max() < 1e-15
    with pytest.raises(UsageError, match="formula in z"):
        ctrnn.MLPField(2, (4,), activation="tanhh")


def test_the_zero_order_hold_is_exact_for_steps_of_any_size() -> None:
    field = ctrnn.LinearNetwork(4, inputs=2, seed=0).with_parameters(b=np.arange(4.0))
    x, r = np.array([0.5, -1.0]), np.ones(4)
    Phi, Gamma, gamma = field.zero_order_hold(3.0)
    exact = ctrnn.simulate(ctrnn.Problem(field, r, (0.0, 3.0), x=x), solver="dop853", rtol=1e-13, atol=1e-14).r[-1]
    assert np.abs(Phi @ r + Gamma @ x + gamma - exact).max() < 1e-11
    # and two steps of half the size are one
    P, G, g = field.zero_order_hold(1.5)
    assert np.abs(P @ P - Phi).max() < 1e-13
    assert np.abs(P @ (G @ x + g) + G @ x + g - Gamma @ x - gamma).max() < 1e-12


def test_time_constants_are_positive_fixed_or_trained() -> None:
    fixed, trained = (ctrnn.GRUNetwork(3, tau=[1.0, 2.0, 3.0], seed=0, train_tau=t) for t in (False, True))
    assert "tau" not in fixed.parameters
    assert trained.parameters["tau"].shape == (3,)
    assert np.array_equal(fixed.tau, trained.tau)
    assert (trained.bounds[0][-3:] > 0.0).all()
    with pytest.raises(UsageError, match="tau"):
        ctrnn.GRUNetwork(3, tau=-1.0)
    with pytest.raises(UsageError, match="tau"):
        trained.with_parameters(tau=[1.0, 0.0, 1.0])


def test_masked_weights_stay_zero_and_have_no_gradient() -> None:
    mask = np.eye(4, dtype=bool)
    field = ctrnn.LinearNetwork(4, seed=0, masks={"A": mask})
    problem = ctrnn.Problem(field, np.ones(4), (0.0, 1.0), objective=ctrnn.Objective(target=0.0, at=[1.0]))
    g = ctrnn.gradient(problem, "rtrl", solver="rk4", dt=0.1).parameters["A"]
    assert not g[~mask].any()
    assert g[mask].all()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (ctrnn.GRUNetwork, "W_z"),
        (ctrnn.LSTMNetwork, "W_f"),
        (ctrnn.LiquidNetwork, "W"),
        (ctrnn.LinearNetwork, "A"),
        (lambda n, inputs, **more: ctrnn.MLPField(n, (n,), inputs=inputs, **more), "W1"),
    ],
)
def test_random_weights_are_drawn_inside_masks_and_trained_there(make: Callable[..., ctrnn.Field], name: str) -> None:
    mask = _rng().random((4, 4)) < 0.5
    field, plain = make(4, 2, seed=0, masks={name: mask}), make(4, 2, seed=0)
    assert np.array_equal(field.parameters[name], np.where(mask, plain.parameters[name], 0.0))
    objective = ctrnn.Objective(target=0.1, at=[1.0])
    problem = ctrnn.Problem(field, 0.3, (0.0, 1.0), x=[0.4, -0.2], objective=objective)
    g = ctrnn.gradient(problem, "adjoint", solver="rk4", dt=0.1).parameters[name]
    w = ctrnn.gradient(problem, "autograd", solver="rk4", dt=0.1).parameters[name]
    assert not g[~mask].any() and g[mask].all()
    assert np.abs(g - w * mask).max() < 1e-13 * np.abs(g).max()
    with pytest.raises(UsageError, match="mask"):
        field.with_parameters(**{name: np.ones((4, 4))})
    with pytest.raises(UsageError, match=r"masks\["):
        make(4, 2, masks={name: np.ones(3)})
    with pytest.raises(UnknownNameError, match="masks"):
        make(4, 2, masks={"V": mask})


def test_signs_of_dale_hold_for_what_a_unit_sends() -> None:
    dale = np.array([1, 1, -1])
    liquid, linear = ctrnn.LiquidNetwork(3, seed=0, dale=dale), ctrnn.LinearNetwork(3, tau=[1.0, 2.0, 4.0], dale=dale)
    assert (liquid.parameters["W"] * dale >= 0.0).all() and (liquid.parameters["A"] > 0.0).all()
    with pytest.raises(UsageError, match="'A'.*positive"):
        liquid.with_parameters(A=[1.0, -1.0, 1.0])
    h = ctrnn.simulate(ctrnn.Problem(liquid, 0.0, (0.0, 20.0))).r
    assert (h >= 0.0).all() and (h <= liquid.parameters["A"]).all()
    assert ((liquid.jacobian(0.0, h[-1]) * dale)[~np.eye(3, dtype=bool)] >= 0.0).all()  # the sign is that of the effect
    A, off = linear.parameters["A"], ~np.eye(3, dtype=bool)
    assert ((A * dale)[off] >= 0.0).all() and (np.diag(A) < 0.0).all()
    for field, name in ((liquid, "W"), (linear, "A")):
        low, high = (field.unflatten(bound)[name] for bound in field.bounds)
        wrong = -field.parameters[name]
        with pytest.raises(UsageError, match=r"column 0 not negative \(dale\)"):
            field.with_parameters(**{name: wrong})
        nearest = field.project(wrong)
        assert np.array_equal(nearest, np.clip(wrong, low, high))
        assert field.with_parameters(**{name: nearest}).n == 3
    with pytest.raises(UsageError, match="dale"):
        ctrnn.LiquidNetwork(3, dale=[1, 2, 1])
    for gated in (ctrnn.GRUNetwork, ctrnn.LSTMNetwork):
        with pytest.raises(UsageError, match="both signs"):
            gated(3, dale=dale)
    with pytest.raises(UsageError, match="tau"):
        ctrnn.LinearNetwork(3, tau=[1.0, 2.0])
    with pytest.raises(UsageError, match="a network with a parameter W"):
        ctrnn.GRUNetwork(3, seed=0).project(np.eye(3))
    fast, slow = (ctrnn.LinearNetwork(2, tau=tau, seed=3).parameters["A"] for tau in (1.0, [1.0, 2.0]))
    assert np.array_equal(slow, fast / np.array([[1.0], [2.0]]))


def test_what_is_not_allowed_is_said() -> None:
    with pytest.raises(UnknownNameError, match="reset"):
        ctrnn.GRUNetwork(3, reset="behind")
    for bad in (0, -1, 2.5, True):
        with pytest.raises(UsageError, match="n"):
            ctrnn.LSTMNetwork(bad)
    with pytest.raises(UsageError, match="hidden"):
        ctrnn.MLPField(2, hidden=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="seed"):
        ctrnn.LiquidNetwork(2, seed=-1)
    for bad in (-1.0, float("nan"), "x"):
        for make in (ctrnn.LiquidNetwork, ctrnn.LinearNetwork, lambda n, gain: ctrnn.RateNetwork(n, rank=1, gain=gain)):
            with pytest.raises(UsageError, match="gain"):
                make(2, gain=bad)
        with pytest.raises(UsageError, match="dt"):
            ctrnn.LinearNetwork(2).zero_order_hold(bad)
    assert ctrnn.GRUNetwork(2, inputs=1, seed=0)(0.0, np.zeros(2)).shape == (2,)  # no input is x = 0


# --- rate networks: formulas, rank, torch


def test_an_activation_of_a_rate_network_may_be_a_formula() -> None:
    named, written = (ctrnn.RateNetwork(4, 1, activation=a, seed=0) for a in ("tanh", "(exp(2*z) - 1)/(exp(2*z) + 1)"))
    r = np.linspace(-1.0, 1.0, 4)
    assert np.abs(named(0.0, r, [0.5]) - written(0.0, r, [0.5])).max() < 1e-15
    for wrong in ("x**2", np.tanh):
        with pytest.raises(UsageError, match=r"activation: .*or a formula in z such as 'z\*\*2"):
            ctrnn.RateNetwork(4, activation=wrong)
    saturating = ctrnn.RateNetwork(4, activation="z**2/(1 + z**2)", seed=0)
    assert np.abs(saturating(0.0, r) - (-r + saturating.parameters["W"] @ (r**2 / (1 + r**2)))).max() < 1e-15


@pytest.mark.parametrize("form", ["state", "rate"])
def test_a_network_of_low_rank_is_that_of_its_product(form: str) -> None:
    low = ctrnn.RateNetwork(6, 2, tau=0.5, rank=2, seed=0, form=form)
    assert {k: v.shape for k, v in low.parameters.items()} == {"M": (6, 2), "N": (6, 2), "U": (6, 2), "b": (6,)}
    M, N = low.parameters["M"], low.parameters["N"]
    whole = ctrnn.RateNetwork(6, 2, tau=0.5, form=form, seed=0).with_parameters(
        W=M @ N.T / 6, U=low.parameters["U"], b=low.parameters["b"]
    )
    rng = _rng()
    r, x = rng.normal(size=6), rng.normal(size=2)
    assert np.abs(low(0.0, r, x) - whole(0.0, r, x)).max() < 1e-14
    problems = [
        ctrnn.Problem(f, r, (0.0, 1.0), x=x, objective=ctrnn.Objective(target=0.0, at=[1.0])) for f in (low, whole)
    ]
    g, G = (ctrnn.gradient(p, "adjoint", solver="rk4", dt=0.1) for p in problems)
    assert np.abs(g.parameters["M"] - G.parameters["W"] @ N / 6).max() < 1e-13  # W = M Nᵀ / n
    assert np.abs(g.parameters["N"] - G.parameters["W"].T @ M / 6).max() < 1e-13
    with pytest.raises(UsageError, match="rank"):
        ctrnn.RateNetwork(3, rank=4)
    with pytest.raises(UsageError, match="mask"):
        ctrnn.RateNetwork(3, rank=1, mask=np.ones((3, 3)))


def test_a_rate_network_is_torch_rnn_and_back() -> None:
    module = _torch_rnn()
    field = ctrnn.RateNetwork.from_torch(module, tau=TAU)
    X = _rng().normal(size=(T, NX))
    problem = ctrnn.Problem(field, np.zeros(N), (0.0, T * TAU), x=_held(X))
    states = ctrnn.simulate(problem, solver="euler", dt=TAU).r[1:]
    assert np.abs(states - module(torch.from_numpy(X))[0].detach().numpy()).max() < 1e-14
    again = field.to_torch()(torch.from_numpy(X)[None])[0][0]
    assert np.abs(states - again.detach().numpy()).max() < 1e-14
    with pytest.raises(UsageError, match="form"):
        ctrnn.RateNetwork(3).to_torch()
