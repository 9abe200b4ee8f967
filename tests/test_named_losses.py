"""Losses by name: values, first and second derivatives and the compiled form follow from one formula; torch agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import ctrnn
from ctrnn.curvature import Curvature
from ctrnn.errors import UsageError
from ctrnn.gradients.continuous.integral import LossRate
from ctrnn.named_losses import LOSSES, NamedLoss

functional = torch.nn.functional


def summed(function):
    return lambda u, y: function(u, y, reduction="sum")


REFERENCE = {
    "squared_error": lambda u, y: 0.5 * summed(functional.mse_loss)(u, y),
    "cross_entropy": lambda u, y: -(y * torch.log_softmax(u, -1)).sum(),
    "absolute_error": summed(functional.l1_loss),
    "huber": summed(functional.huber_loss),
    "poisson": summed(functional.poisson_nll_loss),
    "binary_cross_entropy": summed(functional.binary_cross_entropy_with_logits),
}
RNG = np.random.default_rng(3)
FIELD = ctrnn.Equations({"a": "-a + tanh(k*b)", "b": "sin(a) - b", "c": "a*b - c"}, {"k": 1.3})


def targets(name: str, shape: tuple[int, ...]) -> np.ndarray:
    y = RNG.normal(size=shape) * 1.5
    if name == "cross_entropy":
        return np.exp(y) / np.exp(y).sum(-1, keepdims=True)
    if name == "poisson":
        return np.floor(np.abs(y) * 3)
    return (y > 0).astype(float) if name == "binary_cross_entropy" else y


def test_every_name_has_a_reference():
    assert set(LOSSES) == set(REFERENCE)


def bound(name: str, activation: str, at=(0.5, 1.0, 2.0), weight=1.0):
    if activation == "states":
        readout, p = ["c", "a"], 2
    else:
        V, c = RNG.normal(size=(4, 3)), RNG.normal(size=4)
        readout, p = ctrnn.Readout(V, c, activation), 4
    y = targets(name, (len(at), p))
    return ctrnn.Objective(name, target=y, at=at, weight=weight, readout=readout)


CASES = [
    (name, activation)
    for name, loss in LOSSES.items()
    for activation in ("states", "linear", "softmax")
    if activation == "softmax" or not loss.of_log
]


def by_torch(objective, r, V, c, a):
    """Σ_k a_k ℓ in torch, of states (K, 3) and a read-out."""
    name, readout = objective.loss, objective.readout
    y = torch.tensor(objective.target)
    total = 0.0
    for k in range(len(r)):
        u = r[k][[2, 0]] if V is None else V @ r[k] + c
        if V is not None and readout.activation == "softmax" and name != "cross_entropy":
            u = torch.softmax(u, -1)
        total = total + a[k] * REFERENCE[name](u, y[k])
    return total


@pytest.mark.parametrize(("name", "activation"), CASES)
def test_values_and_both_derivatives_agree_with_torch(name, activation):
    a = np.array([1.0, 0.3, 2.0])
    objective = bound(name, activation, weight=a)
    b = objective.bind(FIELD)
    r = RNG.normal(size=(3, 3)) * 1.4
    l, l_r, l_o = b.at_observations(r)

    state = torch.tensor(r, requires_grad=True)
    arguments = [state]
    if activation != "states":
        arguments += [torch.tensor(np.array(v), requires_grad=True) for v in (objective.readout.V, objective.readout.c)]

    def total(r, V=None, c=None):
        return by_torch(objective, r, V, c, a)

    expected = total(*arguments)
    slopes = torch.autograd.grad(expected, arguments, create_graph=True)
    np.testing.assert_allclose(l.sum(), expected.item(), rtol=1e-12)
    np.testing.assert_allclose(l_r, slopes[0].detach(), rtol=1e-12, atol=1e-14)
    if l_o.size:
        flat = np.concatenate([s.detach().numpy().ravel() for s in slopes[1:]])
        np.testing.assert_allclose(l_o, flat, rtol=1e-12, atol=1e-14)

    # along a direction of states and read-out
    directions = [torch.tensor(RNG.normal(size=v.shape)) for v in arguments]
    along = sum((s * d).sum() for s, d in zip(slopes, directions, strict=True))
    twice = [torch.zeros_like(v) for v in arguments]
    if along.requires_grad:
        found = torch.autograd.grad(along, arguments, allow_unused=True)
        twice = [z if f is None else f for z, f in zip(twice, found, strict=True)]
    curvature = Curvature(b, r, b.targets, a, np.ones(3))
    moved = None if activation == "states" else np.concatenate([d.numpy().ravel() for d in directions[1:]])
    rows, more = curvature.product(directions[0].numpy(), moved)
    np.testing.assert_allclose(rows, twice[0].numpy(force=True), rtol=1e-11, atol=1e-13)
    if more.size:
        flat = np.concatenate([t.detach().numpy(force=True).ravel() for t in twice[1:]])
        np.testing.assert_allclose(more, flat, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("name", "activation"), CASES)
def test_the_compiled_rate_is_that_of_arrays(name, activation):
    """∫ a ℓ dt: the C function at one state against the functions of whole arrays."""
    objective = bound(name, activation)
    integral = ctrnn.Objective(name, target=objective.target[0], weight=0.7, readout=objective.readout)
    problem = ctrnn.Problem(FIELD, [0.1, 0.2, 0.3], (0.0, 1.0), objective=integral)
    b = problem.objective
    rate = LossRate(b)
    r = RNG.normal(size=3) * 2.0
    for a in (0.7, 0.0):
        s = np.append(objective.target[0], a)
        out = np.full(1 + 3 + b.readout_size, np.nan)
        rate._function.ctypes(rate.context, r.ctypes.data, s.ctypes.data, out.ctypes.data, 0)
        l, l_r, l_o = b.rate(r[None], s[None])
        np.testing.assert_allclose(
            out, np.concatenate([l, l_r[0], l_o if l_o.size else np.zeros(b.readout_size)]), 1e-13
        )


@pytest.mark.parametrize(("name", "activation"), [(n, a) for n, a in CASES if n not in ("absolute_error", "huber")])
def test_gradients_of_integrals_agree_between_methods(name, activation):
    objective = bound(name, activation)
    integral = ctrnn.Objective(name, target=objective.target[0], weight=0.7, readout=objective.readout)
    problem = ctrnn.Problem(FIELD, [0.1, 0.2, 0.3], (0.0, 1.0), objective=integral)
    steps = {"solver": "rk4", "dt": 0.01}
    exact = ctrnn.gradient(problem, method="adjoint", **steps)
    other = ctrnn.gradient(problem, method="adjoint-interpolate", rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(other.vector, exact.vector, rtol=1e-6)
    np.testing.assert_allclose(other.loss, exact.loss, rtol=1e-7)


@pytest.mark.parametrize("name", [n for n, loss in LOSSES.items() if not loss.of_log])
def test_values_that_are_missing_or_weighted_one_by_one(name):
    y = targets(name, (3, 3))
    a = np.abs(RNG.normal(size=(3, 3)))
    holes = y.copy()
    holes[1, 2] = np.nan
    weighted = ctrnn.Objective(name, target=holes, at=[0.1, 0.2, 0.3], weight=a, missing="skip").bind(FIELD)
    r = RNG.normal(size=(3, 3))
    l, l_r, _ = weighted.at_observations(r)
    parts, slope = LOSSES[name].by_output(r, y)
    there = np.where(np.isnan(holes), 0.0, a)
    np.testing.assert_allclose(l, (there * parts).sum(axis=1), rtol=1e-13)
    np.testing.assert_allclose(l_r, there * slope, rtol=1e-13)


def test_counts_are_fitted_with_their_own_errors():
    """A rate k from Poisson counts: the estimate is log of their mean, and its standard error 1/√Σ counts."""
    counts = np.random.default_rng(0).poisson(7.0, size=(40, 1)).astype(float)
    level = ctrnn.Equations({"z": "2*(k - z)"}, {"k": 1.0})
    times = 20.0 + np.arange(40)
    objective = ctrnn.Objective("poisson", target=counts, at=times)
    problem = ctrnn.Problem(level, [1.0], (0.0, times[-1]), objective=objective)
    fit = ctrnn.fit(problem, optimizer="L-BFGS-B", bounds={"k": (0.0, 4.0)}, solver="rk4", dt=0.1)
    assert fit.parameters["k"] == pytest.approx(np.log(counts.mean()), rel=1e-5)
    posterior = ctrnn.laplace(fit)
    assert posterior.standard_errors[0] == pytest.approx(1.0 / np.sqrt(counts.sum()), rel=1e-3)
    outliers = ctrnn.Objective("huber", target=counts, at=times)
    fit = ctrnn.fit(
        ctrnn.Problem(level, [1.0], (0.0, times[-1]), objective=outliers), optimizer="BFGS", max_iterations=3
    )
    with pytest.raises(UsageError, match=r"a log-likelihood \(squared_error, cross_entropy, poisson, binary"):
        ctrnn.laplace(fit)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"loss": "poisson", "target": [[-1.0, 0.0, 2.0]]}, "target: got -1.0; allowed: 0 or more, for poisson"),
        ({"loss": "binary_cross_entropy", "target": [[0.0, 2.0, 1.0]]}, "numbers from 0 to 1"),
        ({"loss": "huber"}, "what huber compares with"),
        (
            {"loss": "hubert", "target": [[1.0, 0.0, 2.0]]},
            "squared_error, cross_entropy, absolute_error, huber, poisson",
        ),
    ],
)
def test_errors_read_the_table(given, says):
    with pytest.raises(UsageError, match=says):
        ctrnn.Objective(**given, at=[1.0]).bind(FIELD)


def test_a_new_loss_is_one_line(monkeypatch):
    """It works everywhere: observations, integrals, curvature, complex step."""
    monkeypatch.setitem(LOSSES, "log_cosh", NamedLoss("log(cosh(o - y))", "between squares and absolute values"))
    y = RNG.normal(size=(2, 3))
    problem = ctrnn.Problem(
        FIELD, [0.1, 0.2, 0.3], (0.0, 2.0), objective=ctrnn.Objective("log_cosh", target=y, at=[1.0, 2.0])
    )
    steps = {"solver": "rk4", "dt": 0.05}
    results = [ctrnn.gradient(problem, method=m, **steps) for m in ("adjoint", "rtrl", "complex-step")]
    for result in results[1:]:
        np.testing.assert_allclose(result.vector, results[0].vector, rtol=1e-10)
    last = ctrnn.simulate(problem, save_at=[1.0, 2.0], **steps).r
    assert results[0].loss == pytest.approx(np.log(np.cosh(last - y)).sum(), rel=1e-12)
    H = ctrnn.hessian(problem, **steps)
    h = 1e-5
    ends = []
    for sign in (1, -1):
        moved = ctrnn.Problem(FIELD.with_parameters(k=1.3 + sign * h), [0.1, 0.2, 0.3], (0.0, 2.0),
                              objective=problem.objective.objective)  # fmt: skip
        ends.append(ctrnn.gradient(moved, **steps).vector[0])
    assert np.asarray(getattr(H, "matrix", H))[0, 0] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-6)
    integral = ctrnn.Objective("log_cosh", target=0.3, weight=2.0)
    whole = ctrnn.Problem(FIELD, [0.1, 0.2, 0.3], (0.0, 2.0), objective=integral)
    fine = ctrnn.gradient(whole, method="adjoint", solver="rk4", dt=0.01)
    np.testing.assert_allclose(ctrnn.gradient(whole, method="adjoint-interpolate").vector, fine.vector, rtol=1e-4)
