"""Losses and read-outs against central differences and torch autograd, and what they refuse."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from types import SimpleNamespace

import numpy as np
import pytest

from ctrnn.errors import ExpressionError, UnknownNameError, UsageError
from ctrnn.inputs import Constant, Sampled, Sine, Step, stack
from ctrnn.losses import Readout
from ctrnn.objective import Objective

N, P, K = 4, 3, 5
FIELD = SimpleNamespace(n=N, state_names=("prey", "pred", "E", "y3"))
RNG = np.random.default_rng(5)
TIMES = np.array([0.0, 0.5, 1.25, 3.0, 7.5])
R = RNG.normal(size=(K, N))
WEIGHTS = np.array([1.0, 0.0, 2.5, -1.0, 0.3])
V, C = RNG.normal(size=(P, N)), RNG.normal(size=P)
LINEAR, SOFTMAX = Readout(V, C), Readout(V, C, activation="softmax")
TARGETS = RNG.normal(size=(K, P))
CLASSES = RNG.dirichlet(np.ones(P), size=K) * np.array([[1.0], [2.0], [0.5], [1.0], [1.0]])
LABELS = np.eye(P)[[0, 2, 1, 1, 0]]


def smooth(o, y):
    import torch

    return torch.log1p(((o - y) ** 4).sum()) + o[0] * o[-1]


def free(o):
    import torch

    return torch.tanh(o).prod() + (o**2).sum()


def branching(o, y):
    return (o - y).abs().sum() if o[0].item() > 0 else ((o - y) ** 2).sum() * y[0]


EXPRESSION = "prey**2 + pred*sigmoid(E) - max(prey, pred)*softplus(y3) + (erf(E) if y3 < 0.1 else 1)"
OBJECTIVES = {
    "squared error": {"target": RNG.normal(size=(K, N))},
    "squared error of one state": {"target": RNG.normal(size=K), "readout": "pred"},
    "squared error of states": {"target": TARGETS, "readout": ["E", "prey", "y3"]},
    "squared error, linear": {"target": TARGETS, "readout": LINEAR},
    "squared error, softmax": {"target": TARGETS, "readout": SOFTMAX},
    "cross-entropy": {"loss": "cross_entropy", "target": CLASSES, "readout": SOFTMAX},
    "cross-entropy, labels": {"loss": "cross_entropy", "target": LABELS, "readout": SOFTMAX},
    "one state": {"loss": "y3"},
    "expression": {"loss": EXPRESSION},
    "callable": {"loss": smooth, "target": RNG.normal(size=(K, N))},
    "callable of o": {"loss": free},
    "callable of states": {"loss": free, "readout": ["y3", "prey"]},
    "callable, linear": {"loss": smooth, "target": TARGETS, "readout": LINEAR},
    "callable, softmax": {"loss": smooth, "target": TARGETS, "readout": SOFTMAX},
    "callable with an if": {"loss": branching, "target": TARGETS, "readout": LINEAR},
}
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


def made(name, **changes):
    return Objective(**OBJECTIVES[name], **{"at": TIMES, "weight": WEIGHTS, **changes})


# --- derivatives


@every_objective
def test_derivatives_are_central_differences(name):
    """∂l/∂r and Σ_k ∂l_k/∂(V, c) to 1e-7, entry by entry."""
    objective, h = made(name), 1e-5
    bound = objective.bind(FIELD)
    l, l_r, l_o = bound.at_observations(R)
    assert l.shape == (K,)
    assert l_r.shape == (K, N)
    assert l_o.shape == (bound.readout_size,)
    for j in range(N):
        d = h * np.eye(N)[j]
        slope = (bound.at_observations(R + d)[0] - bound.at_observations(R - d)[0]) / (2 * h)
        np.testing.assert_allclose(l_r[:, j], slope, atol=1e-7)
    for j in range(bound.readout_size):
        ls = []
        for sign in (h, -h):
            flat = np.append(V.ravel(), C)
            flat[j] += sign
            changed = replace(objective.readout, **bound.unflatten_readout(flat))
            moved = replace(objective, readout=changed).bind(FIELD)
            ls.append(moved.at_observations(R)[0].sum())
        np.testing.assert_allclose(l_o[j], (ls[0] - ls[1]) / (2 * h), atol=1e-7)


def in_torch(name, r, V, c):
    """Σ_k a_k ℓ_k written anew in torch."""
    import torch

    spec = OBJECTIVES[name]
    loss, readout, y = spec.get("loss", "squared_error"), spec.get("readout"), spec.get("target")
    if isinstance(readout, Readout):
        u = r @ V.T + c
        o = torch.softmax(u, dim=1) if readout.activation == "softmax" else u
    elif readout is not None:
        names = [readout] if isinstance(readout, str) else readout
        o = r[:, [FIELD.state_names.index(n) for n in names]]
    else:
        o = r
    if loss == "squared_error":
        l = 0.5 * ((o - torch.tensor(y).reshape(K, -1)) ** 2).sum(1)
    elif loss == "cross_entropy":
        l = -(torch.tensor(y) * torch.log(o)).sum(1)
    elif loss == "y3":
        l = r[:, 3]
    elif loss == EXPRESSION:
        prey, pred, E, y3 = r.T
        l = prey**2 + pred * torch.sigmoid(E)
        l = l - torch.maximum(prey, pred) * torch.nn.functional.softplus(y3)
        l = l + torch.where(y3 < 0.1, torch.erf(E), 1.0)
    elif y is None:
        l = torch.stack([loss(row) for row in o])
    else:
        l = torch.stack([loss(*rows) for rows in zip(o, torch.tensor(y), strict=True)])
    return (torch.tensor(WEIGHTS) * l).sum()


@every_objective
def test_derivatives_are_autograd(name):
    """Value, ∂l/∂r and ∂l/∂(V, c) to 1e-12 relative."""
    import torch

    leaves = [torch.tensor(a, requires_grad=True) for a in (R, V, C)]
    expected = in_torch(name, *leaves)
    grads = torch.autograd.grad(expected, leaves, allow_unused=True)
    l, l_r, l_o = made(name).bind(FIELD).at_observations(R)
    np.testing.assert_allclose(l.sum(), expected.item(), rtol=1e-12)
    np.testing.assert_allclose(l_r, grads[0].numpy(), rtol=1e-12, atol=1e-13)
    if l_o.size:
        reference = np.append(grads[1].numpy().ravel(), grads[2].numpy())
        np.testing.assert_allclose(l_o, reference, rtol=1e-12, atol=1e-13)


@every_objective
def test_the_integral_has_the_same_values(name):
    """rate at the signals' values = at_observations, whatever the way in."""
    spec = {k: v for k, v in OBJECTIVES[name].items() if k != "target"}
    y = OBJECTIVES[name].get("target")
    target = None if y is None else Sampled(TIMES, y, kind="linear")
    weight = Sampled(TIMES, WEIGHTS, kind="linear")
    integral = Objective(**spec, target=target, weight=weight).bind(FIELD)
    assert integral.times is None
    s = integral.signals(TIMES)
    assert s.shape == (K, 1 if y is None else np.reshape(y, (K, -1)).shape[1] + 1)
    for a, b in zip(integral.rate(R, s), made(name).bind(FIELD).at_observations(R), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-14)
    observed = Objective(**spec, target=target, weight=weight, at=TIMES).bind(FIELD)
    for a, b in zip(observed.at_observations(R), integral.rate(R, s), strict=True):
        np.testing.assert_array_equal(a, b)


@every_objective
def test_some_of_the_times(name):
    """The observations before number 2 and those from it on make up all of them."""
    bound = made(name).bind(FIELD)
    l, l_r, l_o = bound.at_observations(R)
    before, after = bound.at_observations(R[:2]), bound.at_observations(R[2:], first=2)
    np.testing.assert_allclose(np.concatenate([before[0], after[0]]), l, rtol=1e-14)
    np.testing.assert_allclose(np.concatenate([before[1], after[1]]), l_r, rtol=1e-14)
    np.testing.assert_allclose(before[2] + after[2], l_o, rtol=1e-12, atol=1e-14)


def test_cross_entropy_is_stable():
    """u of ±1e4: the losses are 0 and 2e4, not NaN."""
    readout = Readout([[1.0], [-1.0]], activation="softmax")
    field = SimpleNamespace(state_names=("z",))
    objective = Objective("cross_entropy", target=[[1, 0], [0, 1]], at=[0, 1], readout=readout)
    l, l_r, _ = objective.bind(field).at_observations(np.full((2, 1), 1e4))
    np.testing.assert_array_equal(l, [0.0, 2e4])
    np.testing.assert_array_equal(l_r, [[0.0], [2.0]])


def test_expression_is_stable_and_takes_one_branch():
    field = SimpleNamespace(state_names=("x",))
    bound = Objective("log(x) if x > 0 else softplus(-x)", at=[0, 1, 2]).bind(field)
    l, l_r, _ = bound.at_observations(np.array([[2.0], [-1e4], [-1.0]]))
    np.testing.assert_allclose(l, [np.log(2), 1e4, np.log1p(np.e)], rtol=1e-15)
    np.testing.assert_allclose(l_r[:, 0], [0.5, -1.0, -1 / (1 + np.exp(-1))], rtol=1e-15)


def test_a_constant_slope_is_an_array():
    l, l_r, _ = Objective("2*prey - y3/4", at=TIMES).bind(FIELD).at_observations(R)
    np.testing.assert_allclose(l, 2 * R[:, 0] - R[:, 3] / 4, rtol=1e-15)
    np.testing.assert_array_equal(l_r, np.tile([2.0, 0.0, 0.0, -0.25], (K, 1)))


def test_a_callable_is_vectorised_unless_it_looks_at_values():
    calls = []

    def counted(o):
        calls.append(1)
        return (o**2).sum()

    bound = Objective(counted, at=TIMES).bind(FIELD)
    calls.clear()
    bound.at_observations(R)
    assert len(calls) == 1
    bound = made("callable with an if").bind(FIELD)
    bound.at_observations(R)
    assert not bound._loss.vectorised


def test_float32_and_no_grad():
    import torch

    bound = Objective(lambda o: o.float().pow(2).sum(), at=TIMES).bind(FIELD)
    with torch.no_grad():
        l, l_r, _ = bound.at_observations(R)
    assert l.dtype == l_r.dtype == np.float64
    np.testing.assert_allclose(l_r, 2 * R, rtol=1e-6)


# --- signals, targets, weights


def test_signals_and_their_breaks():
    target = stack(Sine(0.3), Step(2.0))
    objective = Objective(target=target, weight=Step(1.0, 3.0), readout=["prey", "E"])
    bound = objective.bind(FIELD)
    np.testing.assert_array_equal(bound.signal_breaks, [1.0, 2.0])
    np.testing.assert_allclose(bound.signals(2.0), [np.sin(1.2 * np.pi), 1.0, 3.0], rtol=1e-14)
    at = replace(objective, at=[0.5, 2.0]).bind(FIELD)  # right-continuous, as signals are
    np.testing.assert_array_equal(at.weights, [0.0, 3.0])
    np.testing.assert_array_equal(at.targets[:, 1], [0.0, 1.0])
    assert at.signals is None
    assert at.signal_breaks.size == 0


@pytest.mark.parametrize("at", [None, TIMES])
@pytest.mark.parametrize("target", [2.0, Constant([2.0] * N), [2.0] * N])
def test_constant_targets(at, target):
    if at is not None and isinstance(target, list):
        target = [target] * K
    bound = Objective(target=target, at=at).bind(FIELD)
    if at is None:
        l, l_r, _ = bound.rate(R, bound.signals(TIMES))
    else:
        l, l_r, _ = bound.at_observations(R)
    np.testing.assert_allclose(l, 0.5 * np.sum((R - 2.0) ** 2, axis=1), rtol=1e-14)
    np.testing.assert_array_equal(l_r, R - 2.0)


def test_one_time():
    bound = Objective(target=[1.0, 2.0, 3.0, 4.0], at=2, weight=2.0).bind(FIELD)
    np.testing.assert_array_equal(bound.times, [2.0])
    l, l_r, _ = bound.at_observations(R[:1])
    np.testing.assert_array_equal(l_r, 2 * (R[:1] - [1.0, 2.0, 3.0, 4.0]))
    assert l.shape == (1,)


def test_functions_of_time_as_target_and_weight():
    objective = Objective(target=np.sin, weight=lambda t: t**2, at=TIMES, readout="E")
    l, _, _ = objective.bind(FIELD).at_observations(R)
    np.testing.assert_allclose(l, TIMES**2 * 0.5 * (R[:, 2] - np.sin(TIMES)) ** 2, rtol=1e-14)


def test_a_callable_takes_a_target_of_another_size():
    labels = Objective(lambda o, y: -o.log_softmax(0)[y[0].long()], target=[0, 3, 1, 2, 0], at=TIMES)
    l, _, _ = labels.bind(FIELD).at_observations(R)
    reference = np.log(np.exp(R).sum(1)) - R[np.arange(K), [0, 3, 1, 2, 0]]
    np.testing.assert_allclose(l, reference, rtol=1e-13)


def test_readout():
    np.testing.assert_allclose(LINEAR(R[0]), V @ R[0] + C, rtol=1e-14)
    np.testing.assert_allclose(SOFTMAX(R).sum(axis=1), 1.0, rtol=1e-14)
    np.testing.assert_allclose(np.log(SOFTMAX(R) / SOFTMAX(R)[:, :1]), (LINEAR(R).T - LINEAR(R)[:, 0]).T)
    bound = made("squared error, linear").bind(FIELD)
    assert bound.readout_size == P * N + P
    parts = bound.unflatten_readout(np.append(V.ravel(), C))
    np.testing.assert_array_equal(parts["V"], V)
    np.testing.assert_array_equal(parts["c"], C)
    np.testing.assert_array_equal(bound.output(R), LINEAR(R))
    assert made("one state").bind(FIELD).unflatten_readout(np.empty(0)) == {}


def test_inputs_are_not_shared_and_objects_do_not_change():
    targets = TARGETS.copy()
    objective = Objective(target=targets, at=TIMES, readout=LINEAR)
    targets[:] = np.nan
    assert np.isfinite(objective.target).all()
    with pytest.raises(ValueError, match="read-only"):
        objective.target[0] = 1.0
    with pytest.raises(FrozenInstanceError):
        objective.weight = 2.0
    with pytest.raises(FrozenInstanceError):
        LINEAR.V = V


def test_describe():
    lines = {name: made(name).bind(FIELD).describe() for name in OBJECTIVES}
    assert lines["squared error"] == "squared error of prey, pred, E, y3 at 5 times from 0 to 7.5"
    assert lines["cross-entropy"].startswith("cross entropy of 3 outputs softmax(V r + c) at 5")
    assert lines["callable"].startswith("smooth of prey")
    assert Objective("y3").bind(FIELD).describe() == "integral of y3"
    assert Objective("y3", at=2.0).bind(FIELD).describe() == "y3 at t = 2"
    assert all("\n" not in line for line in lines.values())


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"loss": 3}, "^loss: got 3; allowed: squared_error, cross_entropy"),
        ({}, "^target: got None.*squared_error"),
        ({"loss": "y3", "target": 1.0}, "^target.*None for a loss that is an expression"),
        ({"loss": "y3", "readout": "y3"}, "^readout.*names the states"),
        ({"loss": "cross_entropy", "target": LABELS}, "^readout.*softmax"),
        ({"loss": "cross_entropy", "target": LABELS, "readout": LINEAR}, "^readout.*softmax"),
        ({"loss": smooth}, r"^loss: got '\(o, y\)'.*l\(o\)"),
        ({"loss": free, "target": 1.0}, r"^loss: got '\(o\)'.*l\(o, y\)"),
        ({"target": 1.0, "at": [0.0, 2.0, 1.0]}, "^at: got '2 followed by 1'.*increasing"),
        ({"target": 1.0, "at": [0.0, 0.0]}, "^at.*increasing"),
        ({"target": 1.0, "at": []}, "^at.*at least one"),
        ({"target": 1.0, "at": [0.0, np.nan]}, "^at.*finite"),
        ({"target": [1.0, np.nan], "at": [0.0, 1.0]}, '^target .row 1.: got nan.*missing="skip"'),
        ({"target": 1.0, "at": "data"}, "^at.*times"),
        ({"target": np.ones((4, N)), "at": TIMES}, r"^target: got 'shape \(4, 4\)'.*\(5,\)"),
        ({"target": np.ones(4), "at": TIMES}, r"^target.*\(5,\)"),
        ({"target": np.full((K, N), np.inf), "at": TIMES}, "^target.*finite"),
        ({"target": np.ones((K, N))}, "^target.*Sampled"),
        ({"target": "data"}, "^target.*number"),
        ({"target": 1.0, "at": TIMES, "weight": [1.0, 2.0]}, r"^weight.*\(5,\)"),
        ({"target": 1.0, "at": TIMES, "weight": np.ones((K - 1, 1))}, "^weight"),
        ({"loss": "prey", "at": TIMES, "weight": np.ones((K, 1))}, "^weight"),
        ({"target": 1.0, "weight": [1.0, 2.0]}, "^weight.*Sampled"),
        ({"target": 1.0, "weight": np.nan}, "^weight.*finite"),
        ({"target": 1.0, "weight": Constant([1.0, 2.0])}, "^weight: got '2 channels'"),
        ({"target": 1.0, "readout": V}, "^readout.*Readout"),
        ({"target": 1.0, "readout": []}, "^readout"),
        ({"target": 1.0, "readout": ["prey", "prey"]}, "^readout.*once"),
    ],
)
def test_refused_when_made(arguments, says):
    with pytest.raises(UsageError, match=says):
        Objective(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"target": np.ones((K, 3)), "at": TIMES}, UsageError, "^target: got '3 columns'.*4"),
        ({"target": np.ones(K), "at": TIMES}, UsageError, "^target: got '1 columns'.*4"),
        ({"target": [1.0, 2.0]}, UsageError, "^target: got '2 channels'.*4"),
        ({"target": Sine(1.0)}, UsageError, "^target: got '1 channels'.*4"),
        ({"target": 1.0, "readout": "pry"}, UnknownNameError, "did you mean 'prey'"),
        ({"target": 1.0, "readout": Readout(np.ones((2, 3)))}, UsageError, r"^readout V.*\(2, 4\)"),
        ({"loss": "squared_eror"}, UnknownNameError, "did you mean 'squared_error'"),
        ({"loss": "prey + q"}, ExpressionError, "unknown name 'q' at column 8"),
        ({"loss": "prey +"}, ExpressionError, "^loss: .*column 7"),
        ({"loss": "pi**2"}, UsageError, "depends on the states"),
        ({"loss": lambda o: o}, UsageError, "^loss.*scalar"),
        ({"loss": lambda o: 1.0}, UsageError, "^loss.*scalar"),
        ({"loss": lambda o: o.detach().sum()}, UsageError, "^loss.*depends on o"),
        (
            {"loss": "cross_entropy", "target": -LABELS, "at": TIMES, "readout": SOFTMAX},
            UsageError,
            "^target: got -1.0.*not negative",
        ),
        (
            {"loss": "cross_entropy", "target": np.ones(K), "at": TIMES, "readout": SOFTMAX},
            UsageError,
            r"^target: got '1 columns'.*np.eye\(3\)",
        ),
        (
            {
                "loss": "cross_entropy",
                "target": 1.0,
                "readout": Readout(V[:1], activation="softmax"),
            },
            UsageError,
            "always 1",
        ),
    ],
)
def test_refused_when_bound(arguments, error, says):
    objective = Objective(**arguments)
    with pytest.raises(error, match=says):
        objective.bind(FIELD)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"V": [1.0, 2.0]}, "^readout V.*\\(p, n\\)"),
        ({"V": np.empty((0, 3))}, "^readout V"),
        ({"V": [[1.0, np.nan]]}, "^readout V.*finite"),
        ({"V": np.ones((2, 3)), "c": np.ones(3)}, r"^readout c.*\(2,\)"),
        ({"V": np.ones((2, 3)), "activation": "tanh"}, "^readout activation.*linear, softmax"),
    ],
)
def test_readout_refused(arguments, says):
    with pytest.raises(UsageError, match=says):
        Readout(**arguments)


@pytest.mark.parametrize("r", [np.ones((K + 1, N)), np.ones((K, N - 1)), np.ones(N)])
def test_wrong_shapes_of_states_are_refused(r):
    with pytest.raises(UsageError, match="^r: "):
        made("squared error").bind(FIELD).at_observations(r)


def test_wrong_shape_of_a_readout_vector_is_refused():
    with pytest.raises(UsageError, match="^readout vector: "):
        made("squared error, linear").bind(FIELD).unflatten_readout(np.ones(3))
