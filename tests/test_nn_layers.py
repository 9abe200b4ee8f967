"""Layers of any field against torch's own RNN, GRU and LSTM, and against steps that torch takes again.

Digits: 1e-12 in values and in all gradients for torch's layers, stacked and bidirectional; gradcheck and gradgradcheck
are torch's own differences.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ctrnn
from ctrnn.errors import DivergenceError, UsageError
from ctrnn.nn import CTGRU, CTLSTM, CTRNN, LTC, Recurrent

KINDS = {"RNN": (nn.RNN, CTRNN), "GRU": (nn.GRU, CTGRU), "LSTM": (nn.LSTM, CTLSTM)}


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def flat(value):
    return torch.cat([v.reshape(-1) for v in (value if isinstance(value, tuple) else (value,))])


@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}], ids=str)
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_euler_steps_of_tau_are_torchs_layers_to_1e12(kind, batch_first, options):
    theirs, ours = KINDS[kind]
    torch.manual_seed(0)
    module = theirs(3, 4, batch_first=batch_first, dtype=torch.float64, **options)
    layer = ours.from_torch(module, dt=0.5)
    count = module.num_layers * (2 if module.bidirectional else 1)
    x = randn(5, 6, 3).requires_grad_()
    B = 5 if batch_first else 6
    start = [randn(count, B, 4, seed=k + 1).requires_grad_() for k in range(2 if kind == "LSTM" else 1)]
    r0 = tuple(start) if kind == "LSTM" else start[0]
    states, last = layer(x, r0)
    expected, end = module(x, r0)
    assert (states - expected).abs().max() < 1e-13
    assert flat(last).shape == flat(end).shape
    assert (flat(last) - flat(end)).abs().max() < 1e-13
    y, z = randn(*states.shape, seed=9), randn(*flat(last).shape, seed=10)
    mine = torch.autograd.grad((states * y).sum() + (flat(last) * z).sum(), [x, *start], retain_graph=True)
    exact = torch.autograd.grad((expected * y).sum() + (flat(end) * z).sum(), [x, *start], retain_graph=True)
    for a, b in zip(mine, exact, strict=True):
        assert (a - b).abs().max() < 1e-12 * b.abs().max()
    # and to the weights of each layer and direction
    ((states * y).sum() + (flat(last) * z).sum()).backward()
    ((expected * y).sum() + (flat(end) * z).sum()).backward()
    for k, cell in enumerate(layer.cells):
        name = f"_l{k // (count // module.num_layers)}" + ("_reverse" if module.bidirectional and k % 2 else "")
        weight = getattr(module, f"weight_hh{name}").grad
        gates = [g for g in ("r", "z", "n", "i", "f", "g", "o") if hasattr(cell, f"W_{g}")]
        order = {"GRU": "rzn", "LSTM": "ifgo"}.get(kind, "")
        found = torch.cat([getattr(cell, f"W_{g}").grad for g in order]) if gates else cell.W.grad
        assert (found - weight).abs().max() < 1e-12 * weight.abs().max()


@pytest.mark.parametrize("kind", [*KINDS, "relu"])
def test_layers_become_torchs_again(kind):
    """The module that a layer was made from, weight by weight but for its two biases, and a trained one."""
    theirs, ours = KINDS.get(kind, KINDS["RNN"])
    more = {"nonlinearity": "relu"} if kind == "relu" else {}
    torch.manual_seed(1)
    module = theirs(3, 4, num_layers=2, bidirectional=True, batch_first=True, dropout=0.25, dtype=torch.float64, **more)
    layer = ours.from_torch(module, dt=0.5)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.mul_(1.5)
    back, x = layer.to_torch(), randn(5, 6, 3)
    assert (type(back), back.dropout, back.batch_first) == (theirs, 0.25, True)
    for name, weight in module.named_parameters():
        if name.startswith("weight"):
            assert torch.equal(back.get_parameter(name), 1.5 * weight)
    layer.eval(), back.eval()
    assert (layer(x)[0] - back(x)[0]).abs().max() < 1e-13
    assert (flat(layer(x)[1]) - flat(back(x)[1])).abs().max() < 1e-13


@pytest.mark.filterwarnings("ignore:Guards may run slower:RuntimeWarning")  # torch's, of Python 3.13.0
def test_torch_compile_takes_layers_as_they_are():
    for layer in (CTGRU(3, 4, dt=0.1, seed=0), Recurrent(ctrnn.RateNetwork(4, 3, seed=0), 0.1)):

        class Model(nn.Module):
            def __init__(self, layer):
                super().__init__()
                self.layer, self.readout = layer, nn.Linear(4, 1, dtype=torch.float64)

            def forward(self, x):
                return self.readout(torch.tanh(self.layer(2.0 * x)[0])).square().sum()

        model, x = Model(layer), randn(2, 5, 3).requires_grad_()
        compiled = torch.compile(model, backend="eager")
        (found,) = torch.autograd.grad(compiled(x), x)
        (expected,) = torch.autograd.grad(model(x), x)
        assert torch.equal(found, expected)
        assert compiled(x) == model(x)


def test_layers_that_torch_has_not_are_refused():
    for layer in (
        CTGRU(3, 4, dt=0.5, tau=0.5, seed=0),
        CTGRU(3, 4, dt=0.5, tau=[0.5, 0.5, 0.5, 0.4], solver="euler", seed=0),
        CTGRU(3, 4, dt=0.5, tau=0.5, solver="euler", reset="before", seed=0),
        CTLSTM(3, 4, dt=0.5, tau=0.5, solver="euler", steps_per_input=2, seed=0),
        CTRNN(3, 4, dt=0.5, tau=0.5, solver="euler", seed=0),
        CTRNN(3, 4, dt=0.5, tau=0.5, solver="euler", form="rate", noise=0.1, seed=0),
        LTC(3, 4, dt=0.5, tau=0.5, solver="euler", seed=0),
    ):
        with pytest.raises(UsageError, match="layer|reset|network"):
            layer.to_torch()
    for make in (CTRNN.from_torch, LTC.from_torch):
        for module in (nn.GRU(3, 4), nn.RNNCell(3, 4), 3):
            with pytest.raises(UsageError, match="module"):
                make(module)


def test_without_a_batch_torchs_initial_states_are_taken():
    for kind, (theirs, ours) in KINDS.items():
        module, x = theirs(3, 4, dtype=torch.float64), randn(6, 3)
        start = tuple(randn(1, 4, seed=k) for k in range(2)) if kind == "LSTM" else randn(1, 4)
        (states, last), (expected, end) = ours.from_torch(module)(x, start), module(x, start)
        assert (states - expected).abs().max() < 1e-13
        for a, b in zip(last, end, strict=True) if kind == "LSTM" else [(last, end)]:
            assert a.shape == b.shape and (a - b).abs().max() < 1e-13


def adaptation():
    """A rate and an adaptation current a unit."""
    rng = np.random.default_rng(0)
    return ctrnn.Equations(
        {"r": "-r + tanh(W @ r + U @ x - g*a)", "a": "(r - a)/tau"},
        parameters={"W": rng.normal(size=(3, 3)) / 2, "U": rng.normal(size=(3, 2)), "g": 0.5, "tau": 4.0},
        states={"r": 3, "a": 3},
        inputs={"x": 2},
    )


LAYERS = {
    "equations": lambda **how: Recurrent(adaptation(), 0.2, **how),
    "GRU, reset before": lambda **how: CTGRU(2, 3, dt=0.2, tau=0.7, reset="before", train_tau=True, seed=0, **how),
    "LSTM": lambda **how: CTLSTM(2, 3, dt=0.2, tau=0.7, seed=0, **how),
    "liquid": lambda **how: LTC(2, 3, dt=0.2, seed=0, **how),
    "rate": lambda **how: CTRNN(2, 3, dt=0.2, seed=0, **how),
}


@pytest.mark.parametrize("how", [{}, {"solver": "heun", "steps_per_input": 2, "interpolation": "linear"}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_gradcheck_and_gradgradcheck(name, how):
    layer = LAYERS[name](**how)
    x = randn(2, 3, 2).requires_grad_()
    named = {k: v.detach().clone().requires_grad_() for k, v in layer.named_parameters()}

    def states(x, *values):
        return torch.func.functional_call(layer, dict(zip(named, values, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(states, (x, *named.values()))
    assert torch.autograd.gradgradcheck(states, (x, *named.values()))


@pytest.mark.parametrize("name", LAYERS)
def test_lengths_and_packed_sequences(name):
    layer, lengths = LAYERS[name](), torch.tensor([4, 1, 3])
    x = randn(3, 4, 2)
    states, last = layer(x, lengths=lengths)
    for b, length in enumerate(lengths):
        alone, end = layer(x[b : b + 1, :length])
        assert torch.equal(states[b, :length], alone[0])
        assert not states[b, length:].any()
        ours = tuple(p[b] for p in last) if isinstance(last, tuple) else last[b]
        theirs = tuple(p[0] for p in end) if isinstance(end, tuple) else end[0]
        assert torch.equal(flat(ours), flat(theirs))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    found, _ = pad_packed_sequence(layer(packed)[0], batch_first=True)
    assert torch.equal(found, states)


def test_both_directions_of_unequal_lengths_are_torchs():
    module = nn.GRU(2, 3, bidirectional=True, batch_first=True, dtype=torch.float64)
    layer, x, lengths = CTGRU.from_torch(module), randn(3, 5, 2), torch.tensor([5, 2, 4])
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    (found, _), (expected, _) = (pad_packed_sequence(m(packed)[0], batch_first=True) for m in (layer, module))
    assert (found - expected).abs().max() < 1e-13
    assert (layer(packed)[1] - module(packed)[1]).abs().max() < 1e-13


def test_timestamps_are_steps_of_unequal_size():
    layer, x = LAYERS["equations"](steps_per_input=2), randn(2, 3, 2)
    even = layer(x)[0]
    assert (layer(x, timestamps=[0.4, 0.8, 1.2])[0] - even).abs().max() < 1e-14
    times = np.array([0.3, 0.5, 1.4])
    uneven = layer(x, timestamps=times)[0]
    r = np.zeros(6)
    for k, (start, end) in enumerate(zip([0.0, *times[:-1]], times, strict=True)):
        problem = ctrnn.Problem(layer.field(), r, (start, end), x=x[0, k].numpy())
        r = ctrnn.simulate(problem, solver="rk4", dt=(end - start) / 2).r[-1]
        assert np.abs(uneven[0, k].detach().numpy() - r).max() < 1e-13
    for bad in ([0.1, 0.1, 0.2], [0.0, 0.1, 0.2], [0.1, 0.2], [0.1, float("nan"), 0.3]):
        with pytest.raises(UsageError, match="timestamps"):
            layer(x, timestamps=bad)
    with pytest.raises(UsageError, match=r"one at a time, as x \(T, inputs\)"):
        layer(x, timestamps=torch.ones(2, 3).cumsum(dim=1))


def test_a_layer_prints_in_one_line_as_torchs_own():
    assert "others" not in repr(CTGRU(2, 3, dt=0.1))
    text = repr(CTGRU(2, 3, dt=0.1, num_layers=2, bidirectional=True, dropout=0.25))
    assert text.startswith("CTGRU(2, 3, dt=0.1") and text.endswith("num_layers=2, dropout=0.25, bidirectional=True)")


def test_nobody_is_there():
    for layer in (LAYERS[name]() for name in LAYERS):
        x = torch.zeros(0, 3, 2, requires_grad=True)
        states, last = layer(x)
        assert states.shape[:2] == (0, 3)
        (states.sum() + flat(last).sum()).backward()
        assert x.grad.shape == x.shape
        assert all(not p.grad.any() for p in layer.parameters())


def test_last_has_memory_of_its_own_and_dropout_only_in_training():
    layer, x = CTRNN(2, 3, dt=0.1, num_layers=2, dropout=0.5, seed=0), randn(2, 4, 2)
    layer.eval()
    with torch.no_grad():
        states, last = layer(x)
        assert torch.equal(states, layer(x)[0])
        last += 1.0
        assert torch.equal(states, layer(x)[0])
        layer.train()
        assert not torch.equal(layer(x)[0], layer(x)[0])


def test_state_dicts_and_the_field():
    layer, other = (CTLSTM(2, 3, dt=0.1, num_layers=2, seed=seed) for seed in (0, 1))
    other.load_state_dict(layer.state_dict())
    x = randn(2, 4, 2)
    assert torch.equal(layer(x)[0], other(x)[0])
    assert np.array_equal(layer.field().parameters["W_f"], layer.W_f.detach().numpy())


def test_what_is_not_allowed_is_said():
    layer, x = LAYERS["LSTM"](), randn(2, 3, 2)
    for words, call in {
        "pair": lambda: layer(x, torch.zeros(2, 3)),
        "c0": lambda: layer(x, (torch.zeros(1, 2, 3), torch.zeros(1, 3, 3))),
        "lengths": lambda: layer(x, lengths=[1, 4]),
        "layer": lambda: CTGRU.from_torch(nn.LSTM(2, 3)),
        "dropout": lambda: CTRNN(2, 3, dt=0.1, dropout=1.0),
        "field": lambda: Recurrent("r", 0.1),
        r"\(1, 2, 3\), each": lambda: layer(x, (torch.zeros(2, 2, 3), torch.zeros(2, 2, 3))),
    }.items():
        with pytest.raises(UsageError, match=words if words != "layer" else "module"):
            call()


FIELDS = {
    "scalar equations": lambda: ctrnn.Equations(
        {"v": "v - v**3/3 - w + I", "w": "(v + a - b*w)/tau"}, {"a": 0.7, "b": 0.8, "tau": 12.5}, inputs=["I"]
    ),
    "torch": lambda: ctrnn.TorchField(
        lambda t, r, w, x: torch.tanh(w["A"] @ r) - r + x, n=2, parameters={"A": [[0.5, 1.0], [-1.0, 0.2]]}, inputs=1
    ),
    "sparse": lambda: ctrnn.RateNetwork(60, 1, mask=np.random.default_rng(0).random((60, 60)) < 0.03, seed=0),
}


@pytest.mark.parametrize("name", FIELDS)
def test_any_field_is_a_layer(name):
    """States and the gradient beside ctrnn.simulate and ctrnn.gradient of the field, and torch's own differences."""
    field, x = FIELDS[name](), randn(1, 4, 1)
    layer = Recurrent(field, 0.2)
    states, last = layer(x)
    held = ctrnn.inputs.Sampled(0.2 * np.arange(4), x[0].numpy())
    at = 0.2 * np.arange(1, 5)
    problem = ctrnn.Problem(field, 0.0, (0.0, 0.8), x=held, objective=ctrnn.Objective(target=0.1, at=at))
    expected = ctrnn.simulate(problem, save_at=at, solver="rk4", dt=0.2).r
    assert np.abs(states[0].detach().numpy() - expected).max() < 1e-14
    (0.5 * (states - 0.1).square().sum()).backward()
    g = ctrnn.gradient(problem, solver="rk4", dt=0.2).parameters
    for key, value in g.items():
        assert np.abs(layer.get_parameter(key).grad.numpy() - value).max() < 1e-12 * max(1.0, np.abs(value).max())
    if field.n < 9:
        more = randn(2, 3, 1).requires_grad_()
        assert torch.autograd.gradcheck(lambda v: layer(v)[0], more)
        assert torch.autograd.gradgradcheck(lambda v: layer(v)[0], more)
    with pytest.raises(DivergenceError, match="trial 0"):
        Recurrent(FIELDS[name](), 1e3, solver="euler")(torch.full((1, 4, 1), 1e306, dtype=torch.float64))


def test_a_step_of_an_optimiser_is_taken_back_to_what_the_field_allows():
    dale, mask = np.array([1, -1, 1, -1]), np.arange(16).reshape(4, 4) % 3 > 0
    for layer in (
        CTRNN(2, 4, dt=0.1, mask=mask, dale=dale, num_layers=2, seed=0),
        LTC(2, 4, dt=0.1, masks={"W": mask}, dale=dale, num_layers=2, seed=0),
    ):
        optimizer = torch.optim.SGD(layer.parameters(), lr=100.0)
        x = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))
        layer(x)[0].square().sum().backward()
        optimizer.step()
        with pytest.raises(UsageError, match="dale|positive"):
            layer(x)
        layer.project_()
        assert torch.isfinite(layer(x)[0]).all()
        for cell in layer.cells:
            W = cell.field().parameters["W"]
            assert (W * dale >= 0.0).all() and not W[~mask].any()


@pytest.mark.parametrize("options", [{}, {"solver": "exponential-euler"}, {"train_tau": True}, {"num_layers": 2}])
def test_a_layer_of_low_rank_is_the_dense_one_with_its_weights(options):
    low = CTRNN(2, 6, dt=0.1, tau=0.7, rank=2, seed=0, **options)
    dense = CTRNN(2, 6, dt=0.1, tau=0.7, seed=0, **options)
    x = randn(3, 5, 2)
    with torch.no_grad():
        for one, other in zip(low.cells, dense.cells, strict=True):
            other.W.copy_(one.M @ one.N.T / 6)
            other.U.copy_(one.U)
    assert (low(x)[0] - dense(x)[0]).abs().max() < 1e-14
    low(x)[0].square().sum().backward()
    dense(x)[0].square().sum().backward()
    torch.testing.assert_close(low.M.grad, dense.W.grad @ low.N / 6, rtol=1e-12, atol=1e-14)
    assert "rank" in str(inspect.signature(CTRNN)) and low.field().rank == 2


def test_a_layer_of_low_rank_goes_over_to_torch_but_not_back():
    low = CTRNN(2, 6, dt=0.1, tau=0.1, rank=2, form="rate", solver="euler", seed=0)
    x = randn(3, 5, 2)
    assert (low.to_torch()(x)[0] - low(x)[0]).abs().max() < 1e-14
    with pytest.raises(UsageError, match="rank"):
        CTRNN.from_torch(torch.nn.RNN(2, 6), rank=2)
