"""Equilibrium propagation and contrastive nudging: close where J is symmetric, with errors of order β and β²; another
vector where it is not.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ctrnn import Equations, TorchField, equilibrium_gradient
from ctrnn.errors import NotAtRestError, UsageError
from ctrnn.gradients.rest.nudging import contrastive_gradient, equilibrium_propagation, settle


def hopfield(symmetric, n=5, seed=0):
    """F = −r + φ′(r)(W φ(r) + b), which is −∂E/∂r of E = ½‖r‖² − ½ φᵀWφ − bᵀφ where W is symmetric."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(n, n)) * 0.5 / np.sqrt(n)
    W = (W + W.T) / 2 if symmetric else W

    def F(t, r, w, x):
        s = torch.tanh(r)
        return -r + (1 - s**2) * (w["W"] @ s + w["b"])

    return TorchField(F, n=n, parameters={"W": W, "b": rng.normal(size=n)}), rng.normal(size=n)


def errors(field, y, betas, symmetric):
    r = settle(field, np.zeros(field.n))
    exact = equilibrium_gradient(field, r, r - y, "lu").vector
    found = [equilibrium_propagation(field, r, lambda r: r - y, beta, symmetric=symmetric).vector for beta in betas]
    return np.array([np.linalg.norm(g - exact) / np.linalg.norm(exact) for g in found])


def test_with_symmetric_weights_the_error_is_of_order_beta_and_of_order_two_when_nudged_both_ways():
    field, y = hopfield(True)
    one_sided, symmetric = (errors(field, y, [0.04, 0.02, 0.01], way) for way in (False, True))
    np.testing.assert_allclose(one_sided[:-1] / one_sided[1:], 2.0, rtol=0.1)
    np.testing.assert_allclose(symmetric[:-1] / symmetric[1:], 4.0, rtol=0.1)
    assert symmetric[-1] < 1e-4 and one_sided[-1] < 2e-2
    assert errors(field, y, [1e-4], True)[0] < 1e-8


def test_with_asymmetric_weights_it_is_another_vector_however_small_beta_is():
    field, y = hopfield(False)
    error = errors(field, y, [1e-2, 1e-3, 1e-4], True)
    assert error.min() > 0.05
    assert error[-1] == pytest.approx(error[-2], rel=1e-4)  # it has a limit, which is V = (J⁻¹ aᵀ)ᵀ
    r = settle(field, np.zeros(5))
    V = np.linalg.solve(field.jacobian(0.0, r), r - y)
    np.testing.assert_allclose(equilibrium_propagation(field, r, lambda r: r - y, 1e-4, symmetric=True).V, V, rtol=1e-6)


def test_contrastive_nudging_of_an_energy_is_its_gradient_to_order_beta():
    field, y = hopfield(True)
    n = field.n

    def energy_gradient(r):
        s = np.tanh(r)
        return np.concatenate([-0.5 * np.outer(s, s).ravel(), -s])

    r = settle(field, np.zeros(n))
    exact = equilibrium_gradient(field, r, r - y, "lu").parameters
    # E sees the symmetric part of W alone, so its gradient is symmetric
    expected = np.concatenate([(exact["W"] + exact["W"].T).ravel() / 2, exact["b"]])
    error = [
        np.linalg.norm(contrastive_gradient(field, r, lambda r: r - y, energy_gradient, beta).vector - expected)
        for beta in (0.04, 0.02, 0.01)
    ]
    np.testing.assert_allclose(np.divide(error[:-1], error[1:]), 2.0, rtol=0.1)
    assert error[-1] < 0.02 * np.linalg.norm(expected)


def test_what_is_refused():
    field, y = hopfield(True)
    r = np.zeros(5)
    for changed, match in (
        ({"beta": 0.0}, "beta"),
        ({"beta": np.nan}, "beta"),
        ({"dl_dr": y}, "dl_dr"),
        ({"r0": r[:2]}, "r0"),
    ):
        with pytest.raises(UsageError, match=match):
            equilibrium_propagation(**({"field": field, "r0": r, "dl_dr": lambda r: r - y} | changed))
    turning = Equations({"u": "k*v", "v": "-k*u"}, {"k": 1.0})
    with pytest.raises(NotAtRestError, match="smaller beta"):
        equilibrium_propagation(turning, [1.0, 0.0], lambda r: r)
