"""The rest point as a torch function: torch's own differences (gradcheck, gradgradcheck), the gradient of
ctrnn.equilibrium_gradient to 1e-10, the
Hessian of ctrnn.equilibrium_hessian to 1e-8; batches; and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import ctrnn
from ctrnn import Equations, RateNetwork, TorchField
from ctrnn.errors import ConvergenceError, NotAtRestError, UnknownNameError, UsageError
from ctrnn.learning.rest import RestLayer, equilibrium
from ctrnn.learning.rest_solve import flow

DOUBLE = torch.float64


def network(form="state", n=4):
    return RateNetwork(n, inputs=2, gain=0.6, seed=1, tau=np.linspace(0.5, 2.0, n), train_tau=True, form=form)


def tensors(field):
    return {k: torch.tensor(np.array(v), requires_grad=True) for k, v in field.parameters.items()}


FIELDS = {
    "state": network,
    "rate": lambda: network("rate"),
    "equations": lambda: Equations(
        {"u": "-u + k*tanh(v) + c*x", "v": "-2*v + k*u**2/4"}, {"k": 0.7, "c": 0.5}, inputs=("x",)
    ),
    "torch": lambda: TorchField(
        lambda t, r, w, x: -r + torch.tanh(w["A"] @ r) + 0.3, n=2, parameters={"A": [[0.0, 0.4], [-0.4, 0.1]]}
    ),
}


@pytest.mark.parametrize("inverse", ["flow", "lu"])
@pytest.mark.parametrize("name", FIELDS)
def test_first_and_second_derivatives_against_torchs_differences(name, inverse):
    field = FIELDS[name]()
    w = tensors(field)
    x = torch.randn(2, field.input_size, dtype=DOUBLE, generator=torch.Generator().manual_seed(0), requires_grad=True)
    given = (*w.values(), x) if field.input_size else tuple(w.values())

    def rest(*given):
        return equilibrium(
            field,
            dict(zip(w, given, strict=False)),
            given[-1] if field.input_size else None,
            inverse=inverse,
            tol=1e-13,
        )

    assert gradcheck(rest, given)
    assert gradgradcheck(rest, given)


@pytest.mark.parametrize("form", ["state", "rate"])
def test_the_layer_is_equilibrium_gradient_and_equilibrium_hessian(form):
    field, x = RateNetwork(4, inputs=2, gain=0.6, seed=1, form=form), [0.3, -0.4]
    layer = RestLayer(field, tol=1e-13)
    r = layer(x)
    a = torch.linspace(-1.0, 1.0, 4, dtype=DOUBLE)
    got = torch.autograd.grad((r * a).sum(), list(layer.parameters()))
    expected = ctrnn.equilibrium_gradient(field, r.detach().numpy(), a.numpy(), "lu", x=x)
    vector = np.concatenate([g.numpy().ravel() for g in got])
    assert np.linalg.norm(vector - expected.vector) < 1e-10 * np.linalg.norm(expected.vector)
    H = ctrnn.equilibrium_hessian(field, r.detach().numpy(), a.numpy(), inverse="lu", x=x)

    def loss(vector):
        parts = vector.split([p.numel() for p in layer.parameters()])
        w = {k: part.reshape(p.shape) for k, part, p in zip(layer.weights(), parts, layer.parameters(), strict=True)}
        return (equilibrium(field, w, x, tol=1e-13) * a).sum()

    by_torch = torch.autograd.functional.hessian(loss, torch.tensor(field.vector)).numpy()
    assert np.abs(by_torch - H).max() < 1e-8 * np.abs(H).max()


def test_a_batch_is_its_samples_and_both_solvers_agree():
    field = network()
    x = torch.randn(5, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(1))
    together = RestLayer(field, tol=1e-13)(x)
    for k in range(5):
        torch.testing.assert_close(equilibrium(field, x=x[k], tol=1e-13), together[k], rtol=0, atol=1e-11)
        assert np.abs(field(0.0, together[k].detach().numpy(), x[k].numpy())).max() < 1e-11
    plain = RestLayer(field, solver="relaxation", tol=1e-13)
    torch.testing.assert_close(plain(x), together, rtol=0, atol=1e-11)
    assert RestLayer(field)(x).grad_fn is not None and equilibrium(field, x=x[0]).shape == (4,)


def test_anderson_takes_fewer_iterations_where_relaxation_is_slow():
    W = 0.95 * np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    field = RateNetwork(20, activation="linear").with_parameters(W=(W + W.T) / 2, b=np.ones(20))
    taken = {}
    for solver in ("relaxation", "anderson"):
        layer = RestLayer(field, solver=solver)
        r = layer()
        np.testing.assert_allclose(r.detach(), np.linalg.solve(np.eye(20) - (W + W.T) / 2, np.ones(20)), rtol=1e-7)
        taken[solver] = layer.last["forward"].iterations
    assert taken["anderson"] < taken["relaxation"] / 2


def test_the_memory_of_the_backward_pass_does_not_hold_the_iterations():
    layer = RestLayer(network(), solver="relaxation", tol=1e-12)
    r = layer(torch.ones(3, 2, dtype=DOUBLE))
    seen, todo = set(), [r.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [one for one, _ in node.next_functions]
    assert len(seen) < 15 < layer.last["forward"].iterations


def test_the_abscissa_and_the_penalty_watch_the_contraction():
    field = RateNetwork(6, activation="linear").with_parameters(W=np.diag([0.9, 0.1, 0.1, 0.1, 0.1, 0.1]), b=np.ones(6))
    layer = RestLayer(field)
    r = layer(r0=torch.zeros(2, 6, dtype=DOUBLE))
    assert layer.abscissa(r) == pytest.approx(-0.1)
    penalty = layer.contraction_penalty(r, most=0.8)
    assert penalty.item() == pytest.approx(0.1**2, rel=1e-5)  # ρ(I + J) is 0.9
    assert layer.contraction_penalty(r, most=0.95).item() == 0.0
    r.sum().backward()
    assert layer.last["backward"].factor == pytest.approx(0.9, abs=0.01)
    layer.zero_grad()
    penalty.backward()
    with torch.no_grad():
        layer.W -= 0.3 * layer.W.grad
    assert layer.abscissa(layer(r0=torch.zeros(2, 6, dtype=DOUBLE))) < -0.11
    with pytest.raises(UsageError, match="most"):
        layer.contraction_penalty(r, most=1.0)


def test_a_layer_gives_its_field_back_and_pickles():
    layer = pickle.loads(pickle.dumps(RestLayer(network())))
    with torch.no_grad():
        layer.b += 1.0
    np.testing.assert_array_equal(layer.field().parameters["b"], np.ones(4))
    assert layer(torch.ones(2, dtype=DOUBLE)).shape == (4,) and "RateNetwork" in repr(layer)


def test_what_does_not_rest_is_refused():
    turning = Equations({"u": "v*k", "v": "-u*k"}, {"k": 1.0})
    with pytest.raises(NotAtRestError, match="contraction penalty"):
        equilibrium(turning, r0=[1.0, 0.0], solver="relaxation", max_iterations=100)
    # an unstable rest point: r0 lies on it, but the flow of V grows
    unstable = RateNetwork(3).with_parameters(W=2.0 * np.eye(3))
    layer = RestLayer(unstable, max_iterations=300)
    with pytest.raises(ConvergenceError, match='inverse="lu"'):
        layer().sum().backward()
    layer = RestLayer(unstable, inverse="lu")
    layer().sum().backward()
    torch.testing.assert_close(layer.b.grad, torch.full((3,), -1.0, dtype=DOUBLE))  # −J⁻¹ = −(2 − 1)⁻¹


def test_bad_arguments_are_named():
    field, x = network(), [0.1, 0.2]
    for wrong, match in (
        ({"inverse": "qr"}, "inverse"),
        ({"solver": "newton"}, "solver"),
        ({"tol": 0.0}, "tol"),
        ({"max_iterations": 0}, "max_iterations"),
        ({"x": [1.0]}, "x"),
        ({"x": [np.nan, 0.0]}, "x"),
        ({"r0": np.zeros(3)}, "r0"),
        ({"parameters": {"Q": 1.0}}, "parameters"),
        ({"parameters": {"b": np.zeros(3)}}, "'b'"),
    ):
        with pytest.raises((UsageError, UnknownNameError), match=match):
            equilibrium(**({"field": field, "x": x} | wrong))
    with pytest.raises(UsageError, match="field"):
        RestLayer("network")
    with pytest.raises(UsageError, match="x"):
        equilibrium(FIELDS["equations"]())


def test_an_empty_batch_has_an_empty_answer_and_no_gradient():
    layer = RestLayer(RateNetwork(5, inputs=2, gain=0.5, seed=0))
    r = layer(torch.ones(0, 2, dtype=torch.float64))
    r.sum().backward()
    assert r.shape == (0, 5) and not layer.W.grad.any()
    assert layer.contraction_penalty(r, torch.ones(0, 2)) == 0.0
    with pytest.raises(UsageError, match="no states"):
        layer.abscissa(r)


def test_the_abscissa_is_taken_at_the_inputs_that_led_there():
    """In the rate form, −r + φ(Wr + Ux + b), J depends on x: without it another number would come back."""
    field = RateNetwork(6, inputs=2, form="rate", gain=0.9, seed=0)
    layer, x = RestLayer(field), 2.0 * torch.ones(3, 2, dtype=torch.float64)
    r = layer(x)
    exact = max(np.linalg.eigvals(field.jacobian(0.0, one.detach().numpy(), [2.0, 2.0])).real.max() for one in r)
    assert layer.abscissa(r) == pytest.approx(exact, rel=1e-12) == layer.abscissa(r, x) == layer.abscissa(r, x[0])
    assert layer.abscissa(r, 0 * x) != pytest.approx(exact, rel=1e-2)
    assert layer.abscissa(layer()) == layer.abscissa(layer(), [0.0, 0.0])  # no input is 0
    layer(x)
    with pytest.raises(UsageError, match="that led to r"):
        layer.abscissa(r[:2])
    with pytest.raises(UsageError, match="that led to r"):
        RestLayer(field).abscissa(r)


def test_the_flow_finds_a_step_where_states_spiral_into_rest():
    """J has −0.28 ± 0.69i, where |1 + hλ| = 0.997 for h = τ; and −0.1, where a shorter step is slower."""
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    J = turned @ np.array([[-0.28, -0.69, 0, 0], [0.69, -0.28, 0, 0], [0, 0, -1, 0], [0, 0, 0, -0.1]]) @ turned.T
    field = RateNetwork(4, activation="linear").with_parameters(W=J + np.eye(4), b=np.ones(4))
    found = {}
    for inverse in ("flow", "lu"):
        layer = RestLayer(field, inverse=inverse, tol=1e-12)
        layer(r0=torch.zeros(2, 4, dtype=DOUBLE)).square().sum().backward()
        found[inverse] = layer.W.grad
    np.testing.assert_allclose(found["flow"], found["lu"], rtol=1e-9)
    rows = torch.tensor(np.stack([turned[:, 0], turned[:, 3]]))  # each mode alone has a step of its own
    alone = flow(lambda V: V @ torch.tensor(J), rows, torch.ones(4, dtype=DOUBLE), 1e-10, 2000)
    assert alone.iterations < 400  # 8,000 for the spiral by h = τ
    np.testing.assert_allclose(alone.value.numpy() @ J, rows.numpy(), atol=1e-9)
    slow = torch.tensor([[-1.0, 0.0], [0.0, -0.02]], dtype=DOUBLE)
    assert (
        flow(lambda V: V @ slow, torch.ones(1, 2, dtype=DOUBLE), torch.ones(2, dtype=DOUBLE), 1e-10, 2000).iterations
        < 1300
    )
