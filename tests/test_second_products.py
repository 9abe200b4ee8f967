"""J δr + F_w δw, K δJ and K δF_w at a point: against the matrices to round-off, and against differences to 1e-7."""

from __future__ import annotations

import numpy as np
import pytest
from scenarios import SCENARIOS

from ctrnn import TorchField
from ctrnn.errors import UsageError

POINTS = [s for s in SCENARIOS if s.complex and s.name.endswith("observed")]


def fields():
    torch = pytest.importorskip("torch")
    W = np.random.default_rng(3).normal(size=(3, 3))
    yield from (scenario.make().field for scenario in POINTS)
    yield TorchField(lambda t, r, w, x: -r + w["W"] @ torch.tanh(r), 3, {"W": W})


def test_products_of_first_and_second_order():
    for field in fields():
        rng = np.random.default_rng(5)
        n, m, x = field.n, field.m, rng.normal(size=field.input_size)
        r, dr, dw, K = rng.normal(size=n), rng.normal(size=n), rng.normal(size=m), rng.normal(size=(3, n))
        dw[field.bounds[1] == field.bounds[0]] = 0.0  # outside a mask nothing moves
        exact = field.jacobian(0.3, r, x) @ dr + field.parameter_jacobian(0.3, r, x) @ dw
        assert field.jvp(0.3, r, dr, dw, x) == pytest.approx(exact, rel=1e-13, abs=1e-13)
        J, F_w = field.second_order(0.3, r, dr, K, dw, x)
        h = 1e-5
        ahead, behind = (field.with_vector(field.vector + s * h * dw) for s in (1, -1))
        dJ = (ahead.jacobian(0.3, r + h * dr, x) - behind.jacobian(0.3, r - h * dr, x)) / (2 * h)
        dF_w = (ahead.parameter_jacobian(0.3, r + h * dr, x) - behind.parameter_jacobian(0.3, r - h * dr, x)) / (2 * h)
        assert np.abs(J - K @ dJ).max() < 1e-7 * max(1.0, np.abs(dJ).max())
        assert np.abs(F_w - K @ dF_w).max() < 1e-7 * max(1.0, np.abs(dF_w).max())
        # one row is a vector, and no δw is δw = 0
        one = field.second_order(0.3, r, dr, K[0], None, x)
        assert one[0].shape == (n,)
        assert one[1].shape == (m,)
        # ∂²F is symmetric: K B(a, b) = K B(b, a)
        other = rng.normal(size=n)
        assert one[0] @ other == pytest.approx(field.second_order(0.3, r, other, K[0], None, x)[0] @ dr, rel=1e-11)


def test_the_products_follow_the_parameters():
    field = POINTS[0].make().field
    args = (0.0, np.ones(2), np.ones(2), np.ones(2))
    before = field.second_order(*args)[0]
    after = field.with_vector(2 * field.vector).second_order(*args)[0]
    assert after == pytest.approx(2 * before, rel=1e-14)  # Lotka–Volterra is linear in its parameters
    assert field.second_order(*args)[0] == pytest.approx(before, rel=0)


def test_wrong_shapes_are_named():
    field = POINTS[0].make().field
    for dr, K, dw, name in (
        (np.ones(3), np.ones(2), None, "dr"),
        (np.ones(2), np.ones(3), None, "K"),
        (np.ones(2), np.ones(2), np.ones(3), "dw"),
        ([np.nan, 0.0], np.ones(2), None, "dr"),
    ):
        with pytest.raises(UsageError, match=name):
            field.second_order(0.0, np.ones(2), dr, K, dw)
    with pytest.raises(UsageError, match="dr"):
        field.jvp(0.0, np.ones(2), np.ones(1))
