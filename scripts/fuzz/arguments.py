"""Calls that describe, solve and differentiate, with arguments that nobody expects (fuzz.calls)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from fuzz.calls import Calls, cases

import ctrnn

TEXT = {"r": "-k*r + tanh(u) + i", "u": "r - u"}


@cache
def field() -> Any:
    """Two equations with an input."""
    return ctrnn.Equations(TEXT, {"k": 1.0}, ["i"])


@cache
def problem() -> Any:
    """They, over one unit of time, against a target."""
    objective = ctrnn.Objective(target=[[0.5, 0.5], [0.4, 0.4]], at=[0.5, 1.0])
    return ctrnn.Problem(field(), [1.0, 0.5], (0.0, 1.0), 0.1, objective)


@cache
def rate_network() -> Any:
    """Three units."""
    return ctrnn.RateNetwork(3, inputs=1, seed=0)


@cache
def oscillator() -> Any:
    """A field with a Hopf point."""
    text = {"u": "a*u - v - u*(u**2 + v**2)", "v": "u + a*v - v*(u**2 + v**2)"}
    return ctrnn.Equations(text, {"a": -0.5})


@cache
def fitted() -> Any:
    """A fit of two iterations, whether it has converged or not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ctrnn.fit(problem(), max_iterations=20)


def _prepared(w: Any, r0: Any, x: Any) -> Any:
    return ctrnn.value_and_gradient(problem(), solver="rk4", dt=0.1)(w, r0=r0, x=x)


def _stream(until: Any, x: Any, target: Any, at: Any) -> Any:
    stream = ctrnn.RTRLStream(field(), [1.0, 0.5], solver="rk4", dt=0.1)
    return stream.advance(until=until, x=x, target=target, at=at)


def _learner(x: Any, y: Any, **options: Any) -> Any:
    return ctrnn.learning.OnlineLearner(rate_network(), **options).step(x, y)


def _layer(x: Any, r0: Any, **options: Any) -> Any:
    return ctrnn.nn.CTRNN(1, 2, **options)(x, r0)


def _torch(shape: tuple[int, ...]) -> Any:
    import torch

    return torch.zeros(shape)


def _method(kind: str) -> Callable[..., Any]:
    """The gradient by a method with options."""
    return lambda **options: ctrnn.gradient(problem(), getattr(ctrnn, kind)(**options), solver="rk4", dt=0.1)


#: name -> the call, and arguments with which it is right
CALLS: Calls = {
    "Equations": (
        lambda *a, **k: ctrnn.Equations(*a, **k)(0.0, [1.0, 0.5], [0.1]),
        lambda: {
            "equations": dict(TEXT),
            "parameters": {"k": 1.0},
            "inputs": ["i"],
            "states": None,
            "definitions": {},
            "constants": {},
            "masks": {},
        },
    ),
    "array Equations": (
        lambda *a, **k: ctrnn.Equations(*a, **k)(0.0, np.ones(3), [0.1]),
        lambda: {
            "equations": {"r": "-r + W @ tanh(r) + u*x"},
            "parameters": {"W": np.eye(3).tolist(), "u": [1.0, 0.0, 1.0]},
            "inputs": {"x": ()},
            "states": {"r": 3},
            "definitions": {},
            "constants": {},
            "masks": {"W": np.ones((3, 3)).tolist()},
        },
    ),
    "field": (lambda **k: field()(**k), lambda: {"t": 0.0, "r": [1.0, 0.5], "x": [0.1]}),
    "field.jacobian": (lambda **k: field().jacobian(**k), lambda: {"t": 0.0, "r": [1.0, 0.5], "x": [0.1]}),
    "field.vjp": (lambda **k: field().vjp(**k), lambda: {"t": 0.0, "r": [1.0, 0.5], "K": [1.0, 0.0], "x": [0.1]}),
    "field.with_parameters": (lambda **k: field().with_parameters(**k), lambda: {"k": 1.0}),
    "field.with_vector": (lambda **k: field().with_vector(**k), lambda: {"vector": [1.0]}),
    "RateNetwork": (
        ctrnn.RateNetwork,
        lambda: {"n": 3, "inputs": 1, "mask": np.ones((3, 3)).tolist(), "dale": [1, 1, -1], "seed": 0},
    ),
    "RateNetwork of rank": (ctrnn.RateNetwork, lambda: {"n": 3, "inputs": 1, "rank": 1, "seed": 0}),
    "GRUNetwork": (ctrnn.GRUNetwork, lambda: {"n": 2, "inputs": 1, "seed": 0}),
    "LSTMNetwork": (ctrnn.LSTMNetwork, lambda: {"n": 2, "inputs": 1, "seed": 0}),
    "LiquidNetwork": (ctrnn.LiquidNetwork, lambda: {"n": 2, "inputs": 1, "seed": 0}),
    "LinearNetwork": (ctrnn.LinearNetwork, lambda: {"n": 2, "inputs": 1, "seed": 0}),
    "MLPField": (ctrnn.MLPField, lambda: {"n": 2, "hidden": [3], "inputs": 1, "seed": 0}),
    "Problem": (
        ctrnn.Problem,
        lambda: {
            "field": field(),
            "r0": [1.0, 0.5],
            "t_span": [0.0, 1.0],
            "x": 0.1,
            "objective": ctrnn.Objective(target=1.0, at=[1.0]),
            "events": [],
        },
    ),
    "Problem by name": (
        ctrnn.Problem,
        lambda: {"field": field(), "r0": {"r": 1.0, "u": 0.5}, "t_span": [0.0, 1.0], "x": [0.1]},
    ),
    "Trials": (ctrnn.Trials, lambda: {"field": field(), "r0": [[1.0, 0.5]], "t_span": [0.0, 1.0], "x": 0.1}),
    "Objective": (
        lambda **k: problem().replace(objective=ctrnn.Objective(**k)),
        lambda: {"target": [[1.0, 1.0], [0.5, 0.5]], "at": [0.5, 1.0], "weight": [1.0, 2.0], "missing": "skip"},
    ),
    "Objective, integral": (
        lambda **k: problem().replace(objective=ctrnn.Objective(**k)),
        lambda: {"target": [1.0, 0.5], "weight": 1.0},
    ),
    "Readout": (ctrnn.Readout, lambda: {"V": [[1.0, 0.0]], "c": [0.0]}),
    "Event": (
        lambda **k: problem().replace(objective=None, events=[ctrnn.Event(**k)]),
        lambda: {"condition": "r - 0.5", "reset": {"r": "r + 1"}},
    ),
    "simulate": (ctrnn.simulate, lambda: {"problem": problem(), "save_at": [0.0, 0.5, 1.0], "max_steps": 1000}),
    "simulate, fixed": (ctrnn.simulate, lambda: {"problem": problem(), "solver": "rk4", "dt": 0.1, "max_steps": 1000}),
    "ensemble": (
        ctrnn.ensemble,
        lambda: {"problem": problem(), "parameters": {"k": [1.0, 2.0]}, "r0": [[1.0, 0.5], [0.5, 1.0]]},
    ),
    "gradient": (ctrnn.gradient, lambda: {"problem": problem(), "max_steps": 1000}),
    "value_and_gradient": (_prepared, lambda: {"w": [1.0], "r0": [1.0, 0.5], "x": 0.1}),
    "Adjoint": (_method("Adjoint"), lambda: {"mode": "checkpoint", "checkpoints": 3}),
    "RTRL": (_method("RTRL"), lambda: {"block": 5}),
    "TruncatedBPTT": (_method("TruncatedBPTT"), lambda: {"window": 3}),
    "sensitivities": (ctrnn.sensitivities, lambda: {"problem": problem(), "save_at": [0.5, 1.0], "max_steps": 1000}),
    "input_gradient": (
        ctrnn.input_gradient,
        lambda: {"problem": problem().replace(x=ctrnn.inputs.Pulse(0.2, 0.3, name="cue")), "max_steps": 1000},
    ),
    "plan": (ctrnn.plan, lambda: {"problem": problem(), "memory": 10_000_000}),
    "hessian": (ctrnn.hessian, lambda: {"problem": problem(), "max_steps": 1000}),
    "hessian_vector_product": (ctrnn.hessian_vector_product, lambda: {"problem": problem(), "v": [1.0]}),
    "gauss_newton": (ctrnn.gauss_newton, lambda: {"problem": problem(), "max_steps": 1000}),
    "RTRLStream": (_stream, lambda: {"until": 0.5, "x": 0.1, "target": [[1.0, 1.0]], "at": [0.5]}),
    "find_equilibrium": (ctrnn.find_equilibrium, lambda: {"field": field(), "r0": [0.1, 0.1], "x": [0.1]}),
    "equilibrium_gradient": (
        ctrnn.equilibrium_gradient,
        lambda: {"field": rate_network(), "eq": ctrnn.find_equilibrium(rate_network(), 0.0), "dl_dr": [1.0, 0.0, 0.0]},
    ),
    "fit": (ctrnn.fit, lambda: {"problem": problem(), "max_iterations": 3, "bounds": {"k": [0.0, 2.0]}}),
    "laplace": (ctrnn.laplace, lambda: {"problem": fitted()}),
    "Sampled": (ctrnn.inputs.Sampled, lambda: {"times": [0.0, 1.0], "values": [[1.0], [2.0]]}),
    "Noise": (ctrnn.inputs.Noise, lambda: {"t_span": [0.0, 1.0], "dt": 0.1, "sd": 1.0, "seed": 0}),
    "Pulse": (ctrnn.inputs.Pulse, lambda: {"onset": 0.0, "width": 1.0, "amplitude": [1.0]}),
    "Step": (ctrnn.inputs.Step, lambda: {"onset": 0.0, "amplitude": [1.0]}),
    "Sine": (ctrnn.inputs.Sine, lambda: {"frequency": 1.0, "amplitude": [1.0]}),
    "fixed_points": (
        ctrnn.analysis.fixed_points,
        lambda: {"field": field(), "starts": [[0.0, 0.0], [1.0, 1.0]], "x": [0.1]},
    ),
    "continue_equilibria": (
        ctrnn.analysis.continue_equilibria,
        lambda: {"field": oscillator(), "r0": [0.0, 0.0], "parameter": "a", "span": [-1.0, 0.5]},
    ),
    "lyapunov_spectrum": (ctrnn.analysis.lyapunov_spectrum, lambda: {"problem": problem(), "max_steps": 1000}),
    "right_divide": (ctrnn.inverse.right_divide, lambda: {"a": [1.0, 2.0], "A": [[-2.0, 0.5], [0.0, -1.0]]}),
    "OnlineLearner": (_learner, lambda: {"x": [0.1], "y": [0.5, 0.5, 0.5], "dt": 0.1, "lr": 0.1, "seed": 0}),
    "CTRNN": (_layer, lambda: {"x": _torch((2, 3, 1)), "r0": None, "dt": 0.1, "tau": 1.0, "seed": 0}),
}


warm_up, case, walk = cases(CALLS)
