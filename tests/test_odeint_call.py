"""The whole of torchdiffeq's call: states, gradients to t, jumps, and what goes through torchdiffeq itself."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torchdiffeq
from torch import nn

import ctrnn
from ctrnn import Equations, as_module, odeint, odeint_adjoint, odeint_event
from ctrnn.errors import UnknownNameError, UsageError

DOUBLE = {"dtype": torch.float64}
TIMES = torch.tensor([0.0, 0.5, 1.0], **DOUBLE)


def turn(t, y):
    """A rotation by 2t with a leak 0.3: y = e^(−0.3t) R(2t) y0."""
    return y @ torch.tensor([[-0.3, 2.0], [-2.0, -0.3]], dtype=y.dtype)


class Leak(nn.Module):
    def __init__(self):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(0.7, **DOUBLE))

    def forward(self, t, y):
        return -self.k * y * torch.cos(t)


class Pair(Leak):
    def forward(self, t, y):
        return super().forward(t, y[0]), y[0].sum() - y[1]


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)])
@pytest.mark.parametrize("f", [Leak(), lambda t, y: -0.7 * y * torch.cos(t)], ids=["module", "callable"])
def test_states_of_any_shape(shape, f):
    y = odeint(f, torch.ones(shape, **DOUBLE), TIMES, rtol=1e-10, atol=1e-12)
    assert y.shape == (3, *shape)
    exact = torch.exp(-0.7 * torch.sin(TIMES)).reshape(3, *[1] * len(shape)).expand_as(y)
    torch.testing.assert_close(y.detach(), exact, rtol=1e-8, atol=0)


def test_tuples_of_states():
    """Values and gradients are torchdiffeq's; tolerances may come by the part."""
    y0 = torch.tensor([1.0, 2.0], **DOUBLE, requires_grad=True), torch.tensor(0.5, **DOUBLE, requires_grad=True)
    f, tight = Pair(), {"rtol": 1e-10, "atol": 1e-11, "method": "dopri5"}
    found = []
    for solve in (odeint, torchdiffeq.odeint):
        a, b = solve(f, y0, TIMES, **tight)
        assert a.shape == (3, 2) and b.shape == (3,)
        found.append([a, b, *torch.autograd.grad((a**2).sum() + b[-1], [*y0, f.k])])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)
    loose = odeint(f, y0, TIMES, rtol=(1e-6, 1e-6), atol=(1e-8, 1e-7))
    assert float((loose[0] - found[0][0]).abs().max().detach()) < 1e-4
    with pytest.raises(UsageError, match="one for each of 2 states"):
        odeint(f, y0, TIMES, rtol=(1e-6,))
    with pytest.raises(UsageError, match="tuple of tensors of the shapes"):
        odeint(lambda t, y: (y[0],), y0, TIMES)
    with pytest.raises(UsageError, match="one dtype"):
        odeint(f, (y0[0], y0[1].float()), TIMES)


def test_closures_over_tuples_get_their_gradient():
    k = torch.tensor(2.0, **DOUBLE, requires_grad=True)
    a, _ = odeint(lambda t, y: (-k * y[0], y[1]), (torch.ones(1, **DOUBLE), torch.ones(2, **DOUBLE)), TIMES)
    a[-1, 0].backward()
    assert abs(float(k.grad) + np.exp(-2.0)) < 1e-6


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", ["field", "module", "callable", "tuple"])
def test_gradients_to_the_times(kind, reverse):
    """torch's own differences of the solution by each time, the first one too."""
    field = as_module(Equations({"u": "-k*u + sin(3*t)", "v": "u - v"}, {"k": 0.8}))
    f = {"field": field, "module": Leak(), "callable": turn, "tuple": Pair()}[kind]
    y0 = torch.tensor([0.4, 1.1], **DOUBLE, requires_grad=True)
    t = torch.tensor([0.2, 0.5, 1.3], **DOUBLE)
    t = (t.flip(0) if reverse else t).requires_grad_()

    def solve(y0, t):
        start = (y0, y0.sum()) if kind == "tuple" else y0
        return odeint(f, start, t, rtol=1e-11, atol=1e-12, method="dop853")

    assert torch.autograd.gradcheck(solve, (y0, t))


class Jump:
    """−y/2 before 0.5, y² from there on; it counts, and remembers when it was asked."""

    def __init__(self):
        self.times = []

    def __call__(self, t, y):
        self.times.append(float(t))
        return -0.5 * y if t < 0.5 else y**2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("end", [0.9, -0.1])
def test_at_a_jump_f_is_called_strictly_inside_each_piece(dtype, end):
    start = 0.0 if end > 0 else 0.9
    y0, t = torch.tensor([1.0, 1.2], dtype=dtype), torch.tensor([start, max(end, 0.0)], dtype=dtype)
    told = {"jump_t": torch.tensor([0.5], dtype=dtype)}
    ours, theirs, blind = Jump(), Jump(), Jump()
    tolerances = {"rtol": 1e-6, "atol": 1e-6}
    y = odeint(ours, y0, t, method="dopri5", options=told, **tolerances)
    torchdiffeq.odeint(theirs, y0, t, method="dopri5", options=told, **tolerances)
    odeint(blind, y0, t, method="dopri5", **tolerances)
    assert 0.5 not in ours.times and len(ours.times) < min(2 * len(theirs.times), len(blind.times))
    middle = np.exp(-0.25) * y0.double().numpy()
    exact = 1.0 / (1.0 / middle - 0.4)
    if end < 0:
        exact = np.exp(0.25) / (1.0 / y0.double().numpy() + 0.4)
    assert np.abs(y[-1].double().numpy() - exact).max() < 1e-4


def test_the_gradient_across_a_jump():
    y0 = torch.tensor([1.0, 1.2], **DOUBLE, requires_grad=True)
    options = {"jump_t": torch.tensor([0.5], **DOUBLE)}
    y = odeint(lambda t, y: -0.5 * y if t < 0.5 else y**2, y0, [0.0, 0.9], rtol=1e-9, atol=1e-10, options=options)
    (g,) = torch.autograd.grad(y[-1].sum(), y0)
    middle = np.exp(-0.25) * y0.detach().numpy()
    assert np.abs(g.numpy() - np.exp(-0.25) / (1.0 - 0.4 * middle) ** 2).max() < 1e-7


def test_lengths_of_steps():
    calls = []

    def f(t, y):
        calls.append(float(t))
        return -y

    y0 = torch.ones(1, **DOUBLE)
    odeint(f, y0, [0.0, 1.0])
    free = len(calls)
    odeint(f, y0, [0.0, 1.0], options={"max_step": 0.01, "first_step": 1e-3})
    assert len(calls) - free > 500
    assert any(abs(t - 1e-3) < 1e-12 for t in calls)


# --- through torchdiffeq


@pytest.mark.parametrize(
    "how",
    [
        {"method": "adaptive_heun"},
        {"method": "fehlberg2"},
        {"method": "heun3", "options": {"step_size": 0.05}},
        {"method": "explicit_adams", "options": {"step_size": 0.05}},
        {"method": "implicit_adams", "options": {"step_size": 0.05}},
        {"method": "scipy_solver", "options": {"solver": "LSODA"}},
        {"options": {"norm": lambda y: y.abs().max()}},
        {"method": "euler", "options": {"step_size": 0.05, "perturb": True}},
        {"method": "midpoint", "options": {"grid_constructor": lambda f, y, t: torch.linspace(0, 1, 11, **DOUBLE)}},
    ],
    ids=lambda how: how.get("method") or "norm",
)
@pytest.mark.parametrize("kind", ["module", "field"])
def test_what_is_torchdiffeqs_alone_goes_through_it(how, kind):
    f = as_module(Equations({"r": "-k*r*cos(t)"}, {"k": 0.7})) if kind == "field" else Leak()
    y0 = torch.ones(1, **DOUBLE)
    ours, theirs = (solve(f, y0, TIMES, **how) for solve in (odeint, torchdiffeq.odeint))
    assert torch.equal(ours, theirs)
    if kind == "field":
        assert odeint(f._field, y0.float(), TIMES, **how).dtype == torch.float32


def test_complex_states():
    y = odeint(lambda t, y: 1j * y, torch.ones(1, dtype=torch.complex128), TIMES)
    assert abs(complex(y[-1, 0]) - np.exp(1j)) < 1e-6


def test_callbacks():
    f, seen = Leak(), []
    f.callback_step = lambda t, y, h: seen.append(t.item())
    odeint(f, torch.ones(1, **DOUBLE), TIMES)
    assert len(seen) > 2


@pytest.mark.parametrize("method", ["rk4", "dopri5"])
def test_callbacks_on_the_way_back(method):
    """Alone, without those of the way forward."""
    f, seen = Leak(), []
    f.callback_step_adjoint = lambda t, y, h: seen.append(t.item())
    ctrnn.odeint_adjoint(f, torch.ones(1, **DOUBLE, requires_grad=True), TIMES, method=method)[-1].sum().backward()
    assert len(seen) > 0


def test_jumps_of_a_fields_input_are_told_to_torchdiffeq():
    x = ctrnn.inputs.Step(0.5, 1.0)
    module = as_module(Equations({"r": "-r + x"}, {}, inputs=["x"]), x)
    y = odeint(module, torch.zeros(1, **DOUBLE), TIMES, method="adaptive_heun", rtol=1e-8, atol=1e-9)
    assert abs(float(y[-1, 0]) - (1.0 - np.exp(-0.5))) < 1e-6


def test_an_event_and_its_gradient():
    """r = e^(−kt) is 1/2 at log(2)/k; the same by torchdiffeq, by either of our kinds of f."""
    for field in (True, False):
        leak = as_module(Equations({"r": "-k*r"}, {"k": 2.0}))
        k = leak.k if field else torch.tensor(2.0, **DOUBLE, requires_grad=True)
        f = leak if field else lambda t, y, k=k: -k * y
        y0, t0 = torch.ones(1, **DOUBLE), torch.tensor(0.0, **DOUBLE)
        t, y = odeint(f, y0, torch.tensor([0.0, 1.0], **DOUBLE), event_fn=lambda t, y: y[0] - 0.5)
        assert abs(t.item() - np.log(2.0) / 2.0) < 1e-6 and abs(float(y[-1, 0]) - 0.5) < 1e-6
        t, y = odeint_event(f, y0, t0, event_fn=lambda t, y: y[0] - 0.5, odeint_interface=odeint)
        t.backward()
        assert abs(float(k.grad) + np.log(2.0) / 4.0) < 1e-5
    with pytest.raises(UsageError, match="method: got 'kvaerno5'"):
        odeint_event(leak, y0, t0, event_fn=lambda t, y: y[0], method="kvaerno5")


def test_odeint_adjoint():
    f, y0 = Leak(), torch.ones(1, **DOUBLE, requires_grad=True)
    exact = torch.autograd.grad(odeint(f, y0, TIMES, rtol=1e-9, atol=1e-10)[-1, 0], [y0, f.k])
    for how in ({}, {"adjoint_rtol": 1e-9, "adjoint_atol": 1e-10}, {"adjoint_options": {"norm": "seminorm"}}):
        y = odeint_adjoint(f, y0, TIMES, rtol=1e-9, atol=1e-10, **how)
        for a, b in zip(torch.autograd.grad(y[-1, 0], [y0, f.k]), exact, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
    with pytest.raises(UnknownNameError, match="adjoint_rtol"):
        odeint_adjoint(f, y0, TIMES, adjoint_tol=1e-3)


def test_methods_of_another_torchdiffeq_are_refused_by_name():
    """Names that newer releases have, and this one may not: typed, with what to do."""
    from ctrnn.learning.torchdiffeq_call import THEIRS

    there = sys.modules["torchdiffeq._impl.odeint"].SOLVERS
    y0, times = torch.ones(1, **DOUBLE), torch.tensor([0.0, 1.0], **DOUBLE)
    assert set(there) <= set(THEIRS)
    for method in set(THEIRS) - set(there):
        with pytest.raises(UsageError, match=f"method: got '{method}'.*newer torchdiffeq"):
            odeint(Leak(), y0, times, method=method)
    with pytest.raises(UsageError, match="method: got 'tsit5'"):
        odeint(Leak(), y0, times, method="tsit5", event_fn=lambda t, y: y[0] - 0.5)
