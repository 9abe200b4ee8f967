"""Array equations through everything that takes a field: the same numbers as the network with kernels of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import ctrnn
from ctrnn import Event, Objective, Problem, Trials
from ctrnn.gradients.methods import METHODS
from ctrnn.solvers import tableaus

N = 4
X = np.array([0.3, -0.2])


@cache
def weights() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "W": 0.4 * rng.normal(size=(N, N)),
        "U": rng.normal(size=(N, 2)),
        "b": 0.2 * rng.normal(size=N),
        "tau": np.array(0.8),
    }


def start() -> Any:
    return 0.3 * np.random.default_rng(1).normal(size=N)


@cache
def problems() -> tuple[Problem, Problem]:
    text = "(-r + W @ s + U @ x + b)/tau"
    field = ctrnn.Equations({"r": text}, weights(), {"x": 2}, {"r": N}, {"s": "tanh(r)"})
    network = ctrnn.RateNetwork(N, inputs=2, tau=0.8, train_tau=True).with_parameters(**weights())
    objective = Objective(target=0.1, at=[0.5, 1.0])
    made = (Problem(f, start(), (0.0, 1.0), x=X, objective=objective) for f in (field, network))
    return tuple(made)  # type: ignore[return-value]


def state(problem: Problem, i: int) -> str:
    return problem.field.state_names[i]


def crossing(problem: Problem, **more: Any) -> Problem:
    return problem.replace(events=[Event(f"{state(problem, 0)} - 0.05", reset={state(problem, 1): "0.5"})], **more)


def trials(problem: Problem) -> Trials:
    r0 = np.stack([start(), 2 * start(), -start()])
    return Trials(problem.field, r0, (0.0, 1.0), x=X, objective=Objective(target=0.1, at=[0.5, 1.0]))


def pulses() -> Any:
    cue = ctrnn.inputs.Pulse(onset=0.2, width=0.3, amplitude=1.5, name="cue")
    return ctrnn.inputs.stack(cue, ctrnn.inputs.Sine(0.5))


def module_rate(problem: Problem) -> Any:
    """F of the module, and its gradient by the parameters."""
    module = ctrnn.as_module(problem.field, x=X)
    rate = module(torch.tensor(0.0), torch.tensor(start()))
    (rate**2).sum().backward()
    slopes = {name: p.grad for name, p in module.named_parameters()}
    return np.concatenate([rate.detach().numpy(), *(slopes[k].numpy().ravel() for k in sorted(slopes))])


FIXED: dict[str, Any] = {"solver": "rk4", "dt": 0.1}
CONSUMERS: dict[str, Callable[[Problem], Any]] = {
    "hessian": lambda p: ctrnn.hessian(p, **FIXED),
    "gauss-newton": lambda p: ctrnn.gauss_newton(p, **FIXED),
    "gradient of trials": lambda p: ctrnn.gradient(trials(p), "adjoint", **FIXED).vector,
    "gradient of trials, adaptive": lambda p: ctrnn.gradient(trials(p), "adjoint").vector,
    "ensemble": lambda p: ctrnn.ensemble(p, r0=np.stack([start(), -start()])).r,
    "ensemble of parameters": lambda p: ctrnn.ensemble(p, {"b": np.arange(3.0)[:, None] * 0.1 * np.ones(N)}).r,
    "events": lambda p: ctrnn.simulate(crossing(p)).r[-1],
    "gradient across an event": lambda p: ctrnn.gradient(crossing(p), "adjoint").vector,
    "loss as text": lambda p: (
        ctrnn.gradient(
            p.replace(objective=Objective(f"{state(p, 0)}**2 + {state(p, 1)}", at=[0.5, 1.0])), "adjoint", **FIXED
        ).vector
    ),
    "integral of a text": lambda p: (
        ctrnn.gradient(p.replace(objective=Objective(f"{state(p, 0)}**2 + {state(p, 1)}")), "adjoint", **FIXED).vector
    ),
    "on a torch device": lambda p: ctrnn.gradient(p, ctrnn.Adjoint(device="cpu"), **FIXED).vector,
    "rtrl on a torch device": lambda p: ctrnn.gradient(p, ctrnn.RTRL(device="cpu"), **FIXED).vector,
    "exponents": lambda p: ctrnn.analysis.lyapunov_spectrum(p, k=2).exponents,
    "rest point": lambda p: ctrnn.find_equilibrium(p.field, start(), x=X).r,
    "fixed points": lambda p: ctrnn.analysis.fixed_points(p.field, start()[None], x=X).r,
    "branch": lambda p: ctrnn.analysis.continue_equilibria(p.field, start(), parameter="b[0]", span=(-0.5, 0.5), x=X).r[
        -1
    ],
    "gradient at rest": lambda p: (
        ctrnn.equilibrium_gradient(
            p.field, ctrnn.find_equilibrium(p.field, start(), x=X), dl_dr=np.arange(1.0, N + 1.0), x=X
        ).vector
    ),
    "gradient by the times of an input": lambda p: list(ctrnn.input_gradient(p.replace(x=pulses())).inputs.values()),
    "module of torch": lambda p: module_rate(p),
    "sensitivities": lambda p: ctrnn.sensitivities(p, save_at=[0.5, 1.0]).p,
    "sensitivities of single entries": lambda p: ctrnn.sensitivities(p, save_at=[1.0], wrt=["W[0,1]", "tau"]).p,
    "certificate": lambda p: [ctrnn.gradient(p, "adjoint", certify=True).certificate is not None],
    "plan": lambda p: [len(str(ctrnn.plan(p))) > 0],
}


def agree(of: Callable[[Problem], Any], digits: float = 1e-9) -> None:
    mine, other = (np.asarray(of(p)) for p in problems())
    np.testing.assert_allclose(mine, other, rtol=digits, atol=digits)


@pytest.mark.parametrize("name", CONSUMERS)
def test_consumers(name):
    agree(CONSUMERS[name])


@pytest.mark.parametrize("solver", [*tableaus.names(), "scipy:BDF", "torchdiffeq:dopri5"])
def test_solvers(solver):
    own = {} if ":" in solver else {"dt": 0.05}
    agree(lambda p: ctrnn.simulate(p, solver=solver, **own).r[-1])


@pytest.mark.parametrize("method", sorted(name for name, method in METHODS.items() if not method.facts.unbiased))
def test_gradient_methods(method):
    """But for those that draw numbers, which depend on how the parameters lie."""
    continuous = method in ("rtrl-continuous", "adjoint-backsolve", "adjoint-interpolate")
    options = {} if continuous else {"solver": "rk4", "dt": 0.1}
    agree(lambda p: ctrnn.gradient(p, method, **options).vector, 1e-6 if continuous else 1e-9)


def test_single_precision_on_a_torch_device():
    agree(lambda p: ctrnn.gradient(p, ctrnn.Adjoint(device="cpu", dtype="float32"), **FIXED).vector, 1e-5)


def test_read_outs_by_the_name_of_an_array():
    mine = problems()[0]
    chosen = mine.replace(objective=Objective(target=0.1, at=[0.5, 1.0], readout="r"))
    expected = ctrnn.gradient(mine, "adjoint", **FIXED).vector
    np.testing.assert_array_equal(ctrnn.gradient(chosen, "adjoint", **FIXED).vector, expected)
