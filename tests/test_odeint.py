"""torchdiffeq's call with our solvers and gradients, and our fields as modules for torchdiffeq.

Digits: where both take the same steps, 1e-12 relative, in values, gradients and second derivatives; with adaptive
steps, both converge to one number. gradcheck and gradgradcheck (torch's own differences, 1e-6) are independent of both.
"""

from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
import torchdiffeq
from scipy.linalg import expm
from torch import nn

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, TorchField, as_module, gradient, inputs, odeint
from ctrnn.errors import DivergenceError, UnknownNameError, UsageError
from ctrnn.fields.module_call import ModuleCall

LOTKA_VOLTERRA = {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"}
AT = {"a": 0.55, "b": 0.28, "c": 0.80, "d": 0.24}
TIMES = torch.tensor([0.0, 0.3, 0.75, 1.5, 2.0], dtype=torch.float64)
GRID = torch.linspace(0.0, 2.0, 21, dtype=torch.float64)


@pytest.fixture(autouse=True)
def double_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    yield
    torch.set_default_dtype(before)


def network(**changes):
    options = {
        "inputs": 2,
        "gain": 1.5,
        "seed": 3,
        "train_tau": True,
        "mask": np.random.default_rng(1).random((4, 4)) < 0.7,
    }
    return RateNetwork(4, **(options | changes))


def waves():
    return inputs.stack(inputs.Sine(0.31, amplitude=0.8), inputs.Sine(0.17, phase=0.4))


def jumps():
    return inputs.stack(inputs.Sine(0.31), inputs.Step(0.7531, 0.9) + inputs.Pulse(1.2, 0.3))


CASES = {
    "equations": lambda: (as_module(Equations(LOTKA_VOLTERRA, AT)), torch.tensor([1.5, 1.0])),
    "network": lambda: (as_module(network(), waves()), torch.randn(4)),
    "batch": lambda: (as_module(network(form="rate"), waves()), torch.randn(2, 3, 4)),
    "torch-field": lambda: (
        as_module(
            TorchField(lambda t, r, w, x: torch.sin(t) - w["k"] * torch.tanh(r) + x[0] * r.flip(0), 2, {"k": 0.7}, 1),
            inputs.Sine(0.2),
        ),
        torch.randn(2, 2),
    ),
    "module": lambda: (Net(3), torch.randn(5, 3)),
    "coupled-batch": lambda: (Coupled(3), torch.randn(4, 3)),
}


class Net(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n, 6), nn.Tanh(), nn.Linear(6, n))
        self.register_buffer("leak", torch.tensor(0.3))

    def forward(self, t, y):
        return self.layers(y) * torch.cos(t) - self.leak * y


class Coupled(Net):
    """The rows are one state: each feels the mean of all."""

    def forward(self, t, y):
        return super().forward(t, y - y.mean(dim=0))


def gradients(y, y0, module, seed=0):
    weights = torch.from_numpy(np.random.default_rng(seed).normal(size=tuple(y.shape)))
    grads = torch.autograd.grad((y * weights).sum(), [y0, *module.parameters()])
    return torch.cat([g.ravel() for g in grads])


def off(a, b):
    return float(((a - b).norm() / b.norm()).detach())


# --- both ways against torchdiffeq


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["euler", "midpoint", "heun2"])
def test_same_fixed_steps_same_numbers_as_torchdiffeq(case, method):
    module, y0 = CASES[case]()
    y0.requires_grad_()
    for t, options in ((GRID, None), (TIMES, {"step_size": 0.05}), (GRID.flip(0), None)):
        ours = odeint(module, y0, t, method=method, options=options)
        theirs = torchdiffeq.odeint(module, y0, t, method=method, options=options)
        assert ours.shape == (t.numel(), *y0.shape)
        assert off(ours, theirs) < 1e-13
        assert off(gradients(ours, y0, module), gradients(theirs, y0, module)) < 1e-12


@pytest.mark.parametrize("case", CASES)
def test_adaptive_steps_converge_to_one_number(case):
    """Values to 1e-9, gradients to 1e-8, at rtol = 1e-11, ours and both of torchdiffeq's."""
    module, y0 = CASES[case]()
    y0.requires_grad_()
    tight = {"rtol": 1e-11, "atol": 1e-12, "method": "dopri5"}
    found = [solver(module, y0, TIMES, **tight) for solver in (odeint, torchdiffeq.odeint, torchdiffeq.odeint_adjoint)]
    ours, reference, adjoint = (gradients(y, y0, module) for y in found)
    assert off(found[0], found[1]) < 1e-9
    assert off(ours, reference) < 1e-8
    assert off(ours, adjoint) < 1e-8


def test_torchdiffeqs_gradient_counts_the_time_dependence_of_the_input():
    """Its first step depends on y0 and w; were x(t) not to follow t, its gradient would be off by that step, 1e-3
    here."""
    module, y0 = as_module(network(), waves()), torch.randn(4, requires_grad=True)
    reference = gradients(odeint(module, y0, TIMES, method="dop853", rtol=1e-13, atol=1e-14), y0, module)
    loose = torchdiffeq.odeint(module, y0, TIMES, rtol=1e-6, atol=1e-8, method="dopri5")
    assert off(gradients(loose, y0, module), reference) < 3e-5


def test_jumps_of_the_input_are_stepped_onto():
    """To 1e-12 with torchdiffeq's own look at either side of a jump; ours needs not be told."""
    module, y0 = as_module(network(), jumps()), torch.randn(4, requires_grad=True)
    t = torch.cat([GRID, torch.from_numpy(module.x.breaks)]).unique()
    ours = odeint(module, y0, t, method="heun2")
    theirs = torchdiffeq.odeint(module, y0, t, method="heun2", options={"perturb": True})
    assert off(ours, theirs) < 1e-12
    assert off(gradients(ours, y0, module), gradients(theirs, y0, module)) < 1e-12
    breaks = {"jump_t": torch.from_numpy(module.x.breaks)}
    tight = {"rtol": 1e-10, "atol": 1e-12}
    for times in (TIMES, TIMES.flip(0)):
        ours = odeint(module, y0, times, **tight)
        theirs = torchdiffeq.odeint(module, y0, times, **tight, method="dopri5", options=breaks)
        assert off(ours, theirs) < 1e-8
        assert off(gradients(ours, y0, module), gradients(theirs, y0, module)) < 1e-7


def test_jumps_of_a_callable_can_be_told():
    def f(t, y):
        return -y + (t >= 0.7).to(y)

    told = odeint(f, torch.zeros(1), torch.tensor([0.0, 2.0]), options={"jump_t": torch.tensor([0.7, 5.0])})
    assert abs(float(told[-1, 0]) - (1.0 - np.exp(-1.3))) < 1e-7


def test_times_need_no_equal_step_and_a_step_may_pass_none():
    module, y0 = CASES["equations"]()
    t = torch.tensor([0.0, 1e-9, 0.4, 0.4000001, 3.0])
    fine = odeint(module, y0, t, rtol=1e-12, atol=1e-13, method="dop853")
    run = ctrnn.simulate(Problem(module.field(), y0.numpy(), (0.0, 3.0)), save_at=t.numpy(), rtol=1e-12, atol=1e-13)
    assert np.abs(fine.detach().numpy() - run.r).max() < 1e-11


# --- the derivatives themselves


@pytest.mark.parametrize("case", CASES)
def test_gradcheck_and_gradgradcheck(case):
    """torch's own central differences of value and gradient, with steps that do not depend on what is moved."""
    module, y0 = CASES[case]()
    if case == "network":
        module = as_module(RateNetwork(3, inputs=2, seed=1, train_tau=True), waves())
        y0 = torch.randn(3)
    if case in ("batch", "coupled-batch", "module"):
        y0 = y0.reshape(-1, y0.shape[-1])[:2]
    names, values = zip(*module.named_parameters(), strict=True)

    def solve(y0, *values):
        twin = copy.deepcopy(module)
        for name, value in zip(names, values, strict=True):
            *path, last = name.split(".")
            owner = twin.get_submodule(".".join(path))
            owner._parameters.pop(last)
            owner._parameters[last] = value
        return odeint(twin, y0, torch.tensor([0.0, 0.2, 0.5]), method="rk4", options={"step_size": 0.1})

    if case == "batch":
        names, values = names[-1:], values[-1:]
    args = (y0.requires_grad_(), *(v.detach().clone().requires_grad_() for v in values))
    assert torch.autograd.gradcheck(solve, args)
    if case in ("equations", "torch-field", "coupled-batch"):
        assert torch.autograd.gradgradcheck(solve, args)


def test_gradcheck_with_adaptive_steps():
    y0 = torch.tensor([1.5, 1.0], requires_grad=True)
    module = CASES["equations"]()[0]
    assert torch.autograd.gradcheck(
        lambda y0: odeint(module, y0, TIMES, method="dop853", rtol=1e-12, atol=1e-13), (y0,)
    )


def test_second_derivatives_agree_with_torchdiffeq_on_the_same_steps():
    module, y0 = CASES["network"]()
    y0.requires_grad_()

    def hessian_product(solver):
        first = torch.autograd.grad(
            (solver(module, y0, GRID, method="midpoint") ** 2).sum(), [y0, module.W], create_graph=True
        )
        return torch.cat(
            [g.ravel() for g in torch.autograd.grad(sum((g**2).sum() for g in first), [y0, *module.parameters()])]
        )

    assert off(hessian_product(odeint), hessian_product(torchdiffeq.odeint)) < 1e-12


def test_linear_system_and_its_derivative_in_closed_form():
    """y = e^(At) y0 and dl/dy0 = cᵀ e^(At), to 1e-11."""
    A = np.random.default_rng(2).normal(size=(4, 4))
    module = as_module(RateNetwork(4, activation="linear").with_parameters(W=A + np.eye(4)))
    y0, c = torch.randn(4, requires_grad=True), torch.randn(4)
    y = odeint(module, y0, [0.0, 1.3], rtol=1e-12, atol=1e-13, method="dop853")
    (y[-1] @ c).backward()
    phi = expm(1.3 * A)
    assert np.abs(y[-1].detach().numpy() - phi @ y0.detach().numpy()).max() < 1e-11
    assert np.abs(y0.grad.numpy() - c.numpy() @ phi).max() < 1e-11


def test_the_gradient_is_that_of_a_problem():
    """Bit for bit the same steps as ctrnn.gradient, so 1e-14."""
    field, x, times = network(), jumps(), np.array([0.4, 1.1, 2.0])
    target = np.random.default_rng(4).normal(size=(3, 4))
    problem = Problem(field, np.ones(4), (0.0, 2.0), x, Objective(target=target, at=times))
    reference = gradient(problem, "adjoint", rtol=1e-7, atol=1e-9)
    module, y0 = as_module(field, x), torch.ones(4, requires_grad=True)
    y = odeint(module, y0, np.append(0.0, times))
    (0.5 * (y[1:] - torch.from_numpy(target)) ** 2).sum().backward()
    for name, p in module.weights().items():
        assert (
            np.abs(p.grad.numpy() - reference.parameters[name]).max() < 1e-14 * np.abs(reference.vector).max() + 1e-15
        )
    assert np.abs(y0.grad.numpy() - reference.r0).max() < 1e-14 * np.abs(reference.r0).max() + 1e-15


def test_what_a_callable_closes_over_gets_its_gradient():
    k = torch.tensor(0.7, requires_grad=True)
    A = nn.Parameter(torch.randn(3, 3))
    y0 = torch.randn(2, 3, requires_grad=True)

    def f(t, y):
        return torch.tanh(y @ A) - k * y * torch.cos(t)

    found = [
        torch.autograd.grad((s(f, y0, GRID, method="midpoint") ** 2).sum(), [y0, k, A])
        for s in (odeint, torchdiffeq.odeint)
    ]
    for ours, theirs in zip(*found, strict=True):
        assert off(ours, theirs) < 1e-12
    with torch.no_grad():
        assert not odeint(f, y0, GRID).requires_grad


class Leaky(nn.Module):
    """dy/dt = −k y + I"""

    def __init__(self):
        super().__init__()
        self.k, self.I = (nn.Parameter(torch.tensor(1.0)) for _ in range(2))

    def forward(self, t, y):
        return self.I - self.k * y


@pytest.mark.parametrize("kind", ["module", "callable", "tuple", "field"])
@pytest.mark.parametrize("method", [None, "dopri5", "dop853", "bs3"])
def test_from_rest_the_steps_answer_for_the_gradient(kind, method):
    """y(T) = y0 e^(−kT) + (1 − e^(−kT)) I/k from y0 = I/k, where steps grow to all of T: 100 rtol; they gave −137."""
    module, T, rtol = Leaky(), 10.0, 1e-6 if method == "bs3" else 1e-8
    f = as_module(Equations({"y": "I - k*y"}, {"k": 1.0, "I": 1.0})) if kind == "field" else module
    start = torch.ones(1, requires_grad=True)
    if kind == "callable":
        f = module.forward
    if kind == "tuple":
        (y,) = odeint(lambda t, y: (module(t, y[0]),), (start,), [0.0, T], method=method, rtol=rtol)
    else:
        y = odeint(f, start, [0.0, T], method=method, rtol=rtol)
    at = f if kind == "field" else module
    gone = np.exp(-T)
    found = [g.item() for g in torch.autograd.grad(y[-1, 0], [start, at.k, at.I], create_graph=True)]
    assert found == pytest.approx([gone, gone - 1.0, 1.0 - gone], rel=0, abs=100 * rtol)
    (k,) = torch.autograd.grad(y[-1, 0], [at.k], create_graph=True)
    (second,) = torch.autograd.grad(k, [at.k])
    # d²/dk² of e^(−kT) + (1 − e^(−kT))/k at k = 1
    assert second.item() == pytest.approx(2.0 - gone * (2.0 + 2.0 * T), rel=0, abs=100 * rtol)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_scripted_module_gets_its_gradient():
    module = Leaky()
    scripted, y0 = torch.jit.script(module), torch.randn(3, requires_grad=True)
    found = [odeint(f, y0, TIMES) for f in (scripted, module)]
    ours, reference = (gradients(y, y0, f) for y, f in zip(found, (scripted, module), strict=True))
    assert off(found[0], found[1]) < 1e-9
    assert off(ours, reference) < 1e-8


class Tied(nn.Module):
    """Two layers with one weight, a third with a parametrized one, and a buffer."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(3, 3) for _ in range(3))
        self.second.weight = self.first.weight
        self.again = self.third
        nn.utils.parametrizations.weight_norm(self.third)
        self.register_buffer("scale", torch.tensor(0.7))

    def forward(self, t, y):
        if t < 0.0:
            raise ValueError("before the beginning")
        return self.again(torch.tanh(self.second(torch.sin(self.first(y))))) * self.scale


def test_a_module_is_called_with_other_tensors_as_torch_does():
    """To the bit torch.func.functional_call's value, and its own tensors are back, whatever happens."""
    module, y = Tied(), torch.randn(2, 3)
    before = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    other = {k: torch.randn_like(v).requires_grad_() for k, v in before.items()}
    call = ModuleCall(module)
    twin = copy.deepcopy(module)  # torch does not give a submodule with two names its tensors back
    ours, theirs = call(other, torch.tensor(0.0), y), torch.func.functional_call(twin, other, (torch.tensor(0.0), y))
    assert torch.equal(ours, theirs) and not torch.equal(ours, module(torch.tensor(0.0), y))
    grads = [torch.autograd.grad(v.sum(), [*other.values()]) for v in (ours, theirs)]
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    with pytest.raises(ValueError, match="before the beginning"):
        call(other, torch.tensor(-1.0), y)
    after = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    assert all(after[k] is before[k] for k in before) and after.keys() == before.keys()


@pytest.mark.parametrize("case", CASES)
def test_without_gradients_the_numbers_are_the_same(case):
    module, y0 = CASES[case]()
    for t in (TIMES, TIMES.flip(0)):
        with torch.no_grad():
            bare = odeint(module, y0, t)
        assert not bare.requires_grad
        assert torch.equal(bare, odeint(module, y0, t).detach())


@pytest.mark.parametrize("case", ["equations", "network", "module"])
def test_implicit_methods(case):
    """To 1e-7 those of a tight explicit method; a second derivative is refused, not wrong."""
    module, y0 = CASES[case]()
    y0.requires_grad_()
    y = odeint(module, y0, TIMES, method="kvaerno5", rtol=1e-10, atol=1e-12)
    reference = odeint(module, y0, TIMES, method="dop853", rtol=1e-13, atol=1e-14)
    assert off(y, reference) < 1e-8
    assert off(gradients(y, y0, module), gradients(reference, y0, module)) < 1e-7
    with pytest.raises(UsageError, match="explicit"):
        torch.autograd.grad(odeint(module, y0, TIMES, method="kvaerno5").sum(), [y0], create_graph=True)


def test_times_that_are_equal_but_for_rounding_both_count():
    module, y0 = CASES["equations"]()
    y0.requires_grad_()
    t = torch.tensor([0.0, 1.0, 1.0 + 2e-15, 2.0])
    y = odeint(module, y0, t)
    twice = odeint(module, y0, [0.0, 1.0, 2.0])
    assert torch.equal(y[1], y[2])
    both = torch.autograd.grad(y[1:3].sum(), y0)[0]
    assert off(both, 2.0 * torch.autograd.grad(twice[1].sum(), y0)[0]) < 1e-14


def test_a_batch_is_its_trials():
    module, _ = CASES["network"]()
    y0 = torch.randn(5, 4)
    whole = odeint(module, y0, TIMES)
    for k in range(5):
        assert torch.equal(whole[:, k], odeint(module, y0[k], TIMES))


# --- modules


def test_training_by_torch_changes_the_field():
    field = Equations({"r": "-k*r"}, {"k": 2.0})
    module, y0 = as_module(field), torch.ones(1)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (odeint(module, y0, [0.0, 1.0])[-1, 0] - np.exp(-1.0)) ** 2
        loss.backward()
        optimizer.step()
    assert abs(float(module.field().parameters["k"]) - 1.0) < 1e-3
    assert field.parameters["k"] == 2.0


def test_parameters_keep_their_names_whatever_they_are():
    named = Equations({"r": "-half*r + type*weights"}, {"half": 1.0, "type": 2.0, "weights": 3.0})
    module = as_module(named)
    assert [k for k, _ in module.named_parameters()] == ["half", "type", "weights"]
    assert float(module(0.0, torch.tensor([1.0])).detach()) == 5.0
    nested = as_module(TorchField(Net(2), 2))
    assert set(nested.state_dict()) == {"layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"}
    other = as_module(TorchField(Net(2), 2))
    other.load_state_dict(nested.state_dict())
    r = torch.randn(7, 2)
    assert torch.equal(other(0.3, r), nested(0.3, r))
    assert np.allclose(nested(0.3, r)[0].detach().numpy(), nested.field()(0.3, r[0].numpy()), rtol=1e-14)


def test_a_module_is_the_field():
    field, x = network(), jumps()
    module = as_module(field, x)
    for t in (0.0, 0.7531, 1.2, 1.7):
        r = torch.randn(3, 4)
        rows = [field(t, row, x(t)) for row in r.numpy()]
        assert np.abs(module(t, r).detach().numpy() - rows).max() < 1e-14
    assert np.array_equal(module.field().vector, field.vector)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(twin(0.3, r), module(0.3, r))


def test_single_precision_states():
    """A module of float32 is solved in float64; values come back as float32."""
    module, y0 = Net(3).float(), torch.randn(3, dtype=torch.float32, requires_grad=True)
    y = odeint(module, y0, TIMES)
    assert y.dtype == torch.float32
    y.sum().backward()
    assert y0.grad.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in module.parameters())
    twin = copy.deepcopy(module).double()
    reference = odeint(twin, y0.detach().double(), TIMES)
    assert float((y - reference).abs().max().detach()) < 1e-6


def test_no_warnings():
    module, y0 = as_module(network(), jumps()), torch.randn(4, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        odeint(module, y0, TIMES).sum().backward()
        torchdiffeq.odeint(module, y0, TIMES).sum().backward()


def test_one_time_is_the_start():
    y0 = torch.randn(2, 4, requires_grad=True)
    assert torch.equal(odeint(as_module(network(), waves()), y0, [0.0]), y0[None])


# --- what is refused


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"t": [0.0, 1.0, 1.0]}, UsageError, "increase"),
        ({"t": [0.0, np.nan]}, UsageError, "finite"),
        ({"y0": [1.0, 2.0]}, UsageError, "tensor"),
        ({"y0": torch.tensor([1, 2])}, UsageError, "real"),
        ({"y0": torch.ones(3)}, UsageError, r"\(2,\)"),
        ({"y0": torch.tensor([1.0, np.inf])}, UsageError, "finite"),
        ({"method": "rk5"}, UnknownNameError, "rk4"),
        ({"method": "kvaerno5", "event_fn": lambda t, y: y[0]}, UsageError, "dopri5"),
        ({"method": 5}, UsageError, "method"),
        ({"options": {"perturbed": True}}, UnknownNameError, "perturb"),
        ({"options": {"step_size": -1.0}}, UsageError, "dt"),
        ({"options": [1]}, UsageError, "options"),
        ({"options": {"jump_t": [np.nan]}}, UsageError, "jump_t"),
        ({"f": 3}, UsageError, "field"),
        ({"f": lambda t, y: y[:1]}, UsageError, "shape of y0"),
        ({"f": lambda t, y: 1.0}, UsageError, "shape of y0"),
        ({"f": Equations({"r": "x0 - r"}, {}, inputs=("x0",)), "y0": torch.ones(1)}, UsageError, "x0"),
        ({"rtol": -1.0}, UsageError, "rtol"),
    ],
)  # fmt: skip
def test_bad_calls(arguments, error, text):
    call = {"f": Equations(LOTKA_VOLTERRA, AT), "y0": torch.ones(2), "t": [0.0, 1.0]} | arguments
    f, y0, t = (call.pop(k) for k in ("f", "y0", "t"))
    with pytest.raises(error, match=text):
        odeint(f, y0, t, **call)


def test_bad_modules():
    with pytest.raises(UsageError, match="field"):
        as_module(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="2 "):
        as_module(network(), 1.0)
    with pytest.raises(UsageError, match=r"\(\.\.\., 4\)"):
        as_module(network())(0.0, torch.ones(3))


def test_a_module_with_a_tensor_of_another_precision_is_told_what_to_do():
    matrix = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float32)

    class Linear(nn.Module):
        def forward(self, t, y):
            return y @ matrix

    with pytest.raises(UsageError, match=r"runs in float64.*register_buffer"):
        odeint(Linear(), torch.ones(2, dtype=torch.float32), [0.0, 1.0])


def test_a_solution_that_ends_says_where():
    module = as_module(Equations({"r": "r**2"}, {}))
    with pytest.raises((DivergenceError, ctrnn.errors.SolverError)) as caught:
        odeint(module, torch.ones(1), [0.0, 2.0])
    assert caught.value.t == pytest.approx(1.0, abs=1e-3)
