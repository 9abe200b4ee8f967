"""Networks whose few weights are stored as lists: the same numbers as those stored whole, and a cost that follows the
weights.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import ctrnn
from ctrnn.fields.arrays import layout
from ctrnn.fields.networks.rate import RateNetwork

N = 60
RNG = np.random.default_rng(2)
MASKS = {
    "random": RNG.random((N, N)) < 0.03,
    "diagonal": np.eye(N, dtype=bool),
    "blocks": np.kron(np.eye(N // 5, dtype=bool), np.ones((5, 5), dtype=bool)),
    "one unit alone": np.diag(np.arange(N) > 0),
}


def made(mask: np.ndarray, **options) -> RateNetwork:
    return RateNetwork(N, inputs=2, seed=1, mask=mask, tau=np.linspace(0.5, 2.0, N), **options)


def whole(monkeypatch, mask: np.ndarray, **options) -> RateNetwork:
    """The same network, stored whole."""
    with monkeypatch.context() as patch:
        patch.setattr(layout, "LISTED_BELOW", 0.0)
        field = made(mask, **options)
        assert not field._arrays.code.layout.lists
    return field


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("options", [{}, {"form": "rate", "train_tau": True}])
def test_lists_and_a_whole_matrix_give_the_same_functions_to_1e13(monkeypatch, mask, options):
    lists, other = made(MASKS[mask], **options), whole(monkeypatch, MASKS[mask], **options)
    assert lists._arrays.code.layout.lists and lists._kernel.columns < other._kernel.columns
    r, x, K = RNG.normal(size=N), [0.3, -1.0], RNG.normal(size=(3, N))
    for value in ("__call__", "jacobian"):
        assert_allclose(getattr(lists, value)(0.0, r, x), getattr(other, value)(0.0, r, x), rtol=1e-13, atol=1e-14)
    for rows in (K, K[0]):
        assert_allclose(lists.vjp(0.0, r, rows, x), other.vjp(0.0, r, rows, x), rtol=1e-13, atol=1e-13)
        one, two = lists.parameter_vjp(0.0, r, rows, x), other.parameter_vjp(0.0, r, rows, x)
        assert_allclose(one, two, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("options", [{}, {"form": "rate", "train_tau": True}])
def test_lists_against_autograd_of_the_whole_matrix_to_1e13(options):
    field = made(MASKS["random"], **options)
    r, x = torch.tensor(RNG.normal(size=N), requires_grad=True), torch.tensor([0.3, -1.0], dtype=torch.float64)
    w = {k: torch.tensor(v, requires_grad=True) for k, v in field.parameters.items()}
    F = field.torch_function()(0.0, r, w, x)
    K = torch.tensor(RNG.normal(size=N))
    back, *parts = torch.autograd.grad(F, [r, *w.values()], K)
    at = r.detach().numpy()
    assert_allclose(field(0.0, at, x.numpy()), F.detach().numpy(), rtol=1e-13, atol=1e-14)
    assert_allclose(field.vjp(0.0, at, K.numpy(), x.numpy()), back.numpy(), rtol=1e-13, atol=1e-13)
    got = field.unflatten(field.parameter_vjp(0.0, at, K.numpy(), x.numpy()))
    for name, part in zip(w, parts, strict=True):
        assert_allclose(got[name], part.numpy(), rtol=1e-13, atol=1e-13)


def problem(field: RateNetwork) -> ctrnn.Problem:
    x = ctrnn.inputs.Sine(frequency=[0.3, 0.5])
    t = np.linspace(0.5, 2.0, 4)
    return ctrnn.Problem(
        field, 0.1, (0.0, 2.0), x=x, objective=ctrnn.Objective(target=np.cos(t)[:, None] + np.zeros(N), at=t)
    )


@pytest.mark.parametrize("mask", ["random", "blocks", "diagonal"])
@pytest.mark.parametrize("method", ["adjoint", "rtrl", ctrnn.RTRL(block=1), "adjoint-checkpoint"])
def test_gradients_through_lists_equal_those_through_a_whole_matrix_to_1e12(monkeypatch, mask, method):
    run = {"solver": "rk4", "dt": 0.1}
    lists = ctrnn.gradient(problem(made(MASKS[mask])), method, **run)
    other = ctrnn.gradient(problem(whole(monkeypatch, MASKS[mask])), "adjoint", **run)
    scale = np.abs(other.vector).max()
    assert_allclose(lists.vector, other.vector, rtol=0, atol=1e-12 * scale)
    assert_allclose(lists.r0, other.r0, rtol=0, atol=1e-12 * np.abs(other.r0).max())
    assert_array_equal(lists.parameters["W"][~MASKS[mask]], 0.0)


def test_curvature_through_lists_to_1e11(monkeypatch):
    v = RNG.normal(size=made(MASKS["random"]).m)
    run = {"solver": "rk4", "dt": 0.1}
    got = ctrnn.hessian_vector_product(problem(made(MASKS["random"])), v, **run)
    other = ctrnn.hessian_vector_product(problem(whole(monkeypatch, MASKS["random"])), v, **run)
    assert_allclose(getattr(got, "vector", got), getattr(other, "vector", other), rtol=1e-11, atol=1e-11)


TEXTS = {
    "GRU, original": lambda mask: ctrnn.GRUNetwork(N, 2, seed=1, reset="before", masks=dict.fromkeys(GATES, mask)),
    "GRU": lambda mask: ctrnn.GRUNetwork(N, 2, seed=1, masks=dict.fromkeys(GATES, mask)),
    "fixed weights beside": lambda mask: ctrnn.Equations(
        {"r": "-r + W @ tanh(r) + A @ sin(r) + U @ x"},
        {"W": RNG.normal(size=(N, N)) * mask, "U": np.ones((N, 2))},
        {"x": 2},
        {"r": N},
        constants={"A": np.eye(N, k=3)},
        masks={"W": mask},
    ),
}
GATES = ("W_r", "W_z", "W_n")


@pytest.mark.parametrize("which", TEXTS)
def test_lists_of_any_text_are_those_of_the_whole_matrix_to_1e12(monkeypatch, which):
    """Values and first and second derivatives, at a point and along a run."""
    lists = TEXTS[which](MASKS["random"])
    assert lists._arrays.code.layout.lists and lists.row_slots is None
    with monkeypatch.context() as patch:
        patch.setattr(layout, "LISTED_BELOW", 0.0)
        other = TEXTS[which](MASKS["random"]).with_parameters(**lists.parameters)
        assert not other._arrays.code.layout.lists
    r, dr, K = RNG.normal(size=(3, N))
    x, dw = [0.3, -1.0], RNG.normal(size=lists.m)
    for value in ("__call__", "jacobian", "parameter_jacobian"):
        assert_allclose(getattr(lists, value)(0.0, r, x), getattr(other, value)(0.0, r, x), rtol=1e-12, atol=1e-13)
    assert_allclose(lists.vjp(0.0, r, K, x), other.vjp(0.0, r, K, x), rtol=1e-12, atol=1e-13)
    assert_allclose(lists.jvp(0.0, r, dr, dw, x), other.jvp(0.0, r, dr, dw, x), rtol=1e-12, atol=1e-12)
    for mine, its in zip(*(f.second_order(0.0, r, dr, K, dw, x) for f in (lists, other)), strict=True):
        assert_allclose(mine, its, rtol=1e-12, atol=1e-12)
    mine, its = (ctrnn.gradient(problem(field), solver="rk4", dt=0.1).vector for field in (lists, other))
    assert_allclose(mine, its, rtol=0, atol=1e-12 * np.abs(its).max())


def test_what_a_network_keeps_follows_the_number_of_its_weights():
    """P = dr/dw has the columns of the weights that exist: not n² n of them, n × (longest row + inputs + 1)."""
    field = made(MASKS["blocks"])
    assert field._kernel.columns == 5 + 2 + 1
    assert field._kernel_vector().size == N * (5 + 2 + 1) + N
