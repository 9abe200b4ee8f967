"""Calls that learn, odeint, noise and rest, with arguments that nobody expects (fuzz.calls)."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from fuzz.analyses import linear
from fuzz.calls import Calls, cases

import ctrnn
from ctrnn import learning, nn
from ctrnn.learning import tasks

TASK = {"trials": 2, "seed": 0}


@cache
def network() -> Any:
    """Three units."""
    return ctrnn.RateNetwork(3, inputs=2, seed=0)


@cache
def observed() -> Any:
    """A problem with data."""
    objective = ctrnn.Objective(target=[[0.5, 0.3], [0.4, 0.2], [0.3, 0.1]], at=[0.5, 1.0, 1.5])
    return ctrnn.Problem(linear(), [1.0, 0.5], (0.0, 2.0), x=0.1, objective=objective)


@cache
def fit() -> Any:
    """A fit to them."""
    return ctrnn.fit(observed(), max_iterations=30)


@cache
def rest() -> Any:
    """A point of rest."""
    return ctrnn.find_equilibrium(linear(), [0.1, 0.1], x=[0.1])


def _tensor(*shape: int) -> Any:
    import torch

    return torch.ones(shape, dtype=torch.float64)


def _half(t: Any, y: Any) -> Any:
    return -0.5 * y


def _run(x: Any, y: Any, record_every: Any, **options: Any) -> Any:
    learner = learning.OnlineLearner(network(), **options)
    learner.run(x, y, record_every=record_every)
    return learner


def _reset(r0: Any, lanes: Any) -> Any:
    learner = learning.OnlineLearner(network(), batch=2)
    learner.reset(r0, lanes)
    return learner.step([0.1, 0.1], [0.0, 0.0, 0.0])


def _train(trials: Any, **options: Any) -> Any:
    field, readout = ctrnn.RateNetwork(3, inputs=3, seed=0), ctrnn.Readout(np.full((3, 3), 0.1), np.zeros(3))
    return learning.train(field, trials, readout=readout, **options).history["loss"]


def _by(kind: str) -> Any:
    return lambda **options: learning.OnlineLearner(network(), getattr(ctrnn, kind)(**options)).step([0.1, 0.1], None)


CALLS: Calls = {
    "odeint": (
        ctrnn.odeint,
        lambda: {
            "f": _half,
            "y0": _tensor(2),
            "t": _tensor(2).cumsum(0),
            "rtol": 1e-5,
            "method": "rk4",
            "options": {"step_size": 0.1, "max_num_steps": 1000},
        },
    ),
    "odeint_adjoint": (
        ctrnn.odeint_adjoint,
        lambda: {"f": _half, "y0": _tensor(2), "t": _tensor(2).cumsum(0), "adjoint_params": (), "adjoint_rtol": 1e-5},
    ),
    "odeint_event": (
        ctrnn.odeint_event,
        lambda: {
            "f": _half,
            "y0": _tensor(2),
            "t0": _tensor(1)[0],
            "event_fn": lambda t, y: y[0] - 0.5,
            "reverse_time": False,
            "odeint_interface": None,
        },
    ),
    "OnlineLearner.run": (
        _run,
        lambda: {
            "x": [[0.1, 0.0]] * 6,
            "y": [[0.5, 0.5, 0.5]] * 6,
            "record_every": 2,
            "dt": 0.1,
            "lr": 0.1,
            "optimizer": "sgd",
            "batch": None,
            "update_every": 2,
            "r0": 0.0,
            "clip": 1.0,
            "weight_decay": 0.1,
            "method": "rflo",
            "loss": "squared_error",
            "scheduler": None,
            "feedback": None,
            "drift_window": 3,
            "solver": "euler",
        },
    ),
    "OnlineLearner.reset": (_reset, lambda: {"r0": 0.1, "lanes": [0]}),
    "SnAp": (_by("SnAp"), lambda: {"k": 1}),
    "UORO": (_by("UORO"), lambda: {"seed": 1}),
    "Sketch": (_by("Sketch"), lambda: {"rank": 2}),
    "KFRTRL": (_by("KFRTRL"), lambda: {"seed": 1}),
    "compare_learners": (
        learning.compare_learners,
        lambda: {
            "field": network(),
            "x": [[0.1, 0.0]] * 6,
            "y": [[0.5, 0.5, 0.5]] * 6,
            "methods": ["rflo", "snap-1"],
            "weights": "frozen",
            "window": 3,
            "dt": 0.1,
            "weight": 1.0,
            "reset_every": None,
            "update_every": 1,
            "seed": 0,
        },
    ),
    "train": (
        _train,
        lambda: {
            "trials": tasks.lorenz_generation(trials=4, steps=5),
            "epochs": 1,
            "batch_size": 2,
            "lr": 0.1,
            "clip": 1.0,
            "dt": 0.5,
            "validation": 0.5,
            "patience": 2,
            "curriculum": {"start": 3, "increment": 1},
            "dropout": {"W": 0.1},
            "optimizer": "adam",
            "weight_decay": 0.1,
            "parameters": ["W"],
            "feedback": None,
            "warmup": 1,
            "seed": 0,
            "r0": 0.0,
            "steps_per_input": 1,
            "scheduler": None,
            "loss": "squared_error",
            "teacher_forcing": 1.0,
        },
    ),
    "Dataset": (
        learning.Dataset,
        lambda: {
            "x": np.zeros((2, 3, 1)).tolist(),
            "y": np.zeros((2, 3, 1)).tolist(),
            "weight": [[1.0] * 3] * 2,
            "input_names": ["a"],
        },
    ),
    "Dataset.split": (
        lambda **k: learning.Dataset(np.zeros((4, 5, 1)), np.zeros((4, 5, 1))).split(**k),
        lambda: {"fraction": 0.5, "by": "trial", "seed": 0},
    ),
    "tasks.flip_flop": (tasks.flip_flop, lambda: {"bits": 2, "steps": 20, "rate": 0.1, "width": 2, "dt": 0.5} | TASK),
    "tasks.copy": (tasks.copy, lambda: {"symbols": 3, "length": 2, "delay": 3, "dt": 0.5} | TASK),
    "tasks.delayed_match": (
        tasks.delayed_match,
        lambda: {"stimuli": 2, "width": 2, "delay": (3, 5), "answer": 2, "dt": 0.5} | TASK,
    ),
    "tasks.context_decision": (
        tasks.context_decision,
        lambda: {"evidence": 4, "answer": 2, "coherences": [0.1], "noise": 0.1, "dt": 0.5} | TASK,
    ),
    "tasks.t_maze": (tasks.t_maze, lambda: {"corridor": 4, "cues": 1, "width": 2, "answer": 2, "dt": 0.5} | TASK),
    "tasks.sine": (tasks.sine, lambda: {"steps": 10, "frequencies": (0.02, 0.1), "dt": 0.5} | TASK),
    "tasks.lorenz": (
        tasks.lorenz,
        lambda: {"steps": 10, "horizon": 1, "observed": ["x"], "predicted": ["x"], "dt": 0.05} | TASK,
    ),
    "tasks.mackey_glass": (
        tasks.mackey_glass,
        lambda: {"steps": 10, "horizon": 1, "beta": 0.2, "gamma": 0.1, "n": 10.0, "tau": 17.0, "dt": 1.0} | TASK,
    ),
    "tasks.make": (tasks.make, lambda: {"name": "adding", "trials": 2, "steps": 5}),
    "fit, with everything": (
        ctrnn.fit,
        lambda: {
            "problem": observed(),
            "r0": False,
            "transform": {"k": "log"},
            "bounds": {"k": [0.1, 5.0]},
            "fixed": [],
            "prior": None,
            "regularisation": 0.1,
            "noise": "normal",
            "sigma": 0.1,
            "robust": "linear",
            "robust_scale": 1.0,
            "optimizer": "auto",
            "multistart": 2,
            "spread": 0.1,
            "seed": 0,
            "max_iterations": 3,
            "callback": None,
        },
    ),
    "fit, shooting": (ctrnn.fit, lambda: {"problem": observed(), "shooting": [1.0], "max_iterations": 3}),
    "fit.profile": (lambda **k: fit().profile(**k), lambda: {"name": "k", "level": 0.95}),
    "WhiteNoise": (
        lambda **k: ctrnn.simulate(observed(), noise=ctrnn.WhiteNoise(**k), dt=0.1, solver="euler"),
        lambda: {"scale": [0.1, 0.1], "seed": 0, "dt": None, "calculus": None, "path": 0},
    ),
    "ensemble of paths": (
        ctrnn.ensemble,
        lambda: {"problem": observed(), "noise": 0.1, "paths": 3, "dt": 0.1, "solver": "euler", "seed": 0},
    ),
    "compare_gradients": (
        ctrnn.compare_gradients,
        lambda: {
            "problem": observed(),
            "methods": ["adjoint", "rtrl"],
            "solver": "rk4",
            "dt": 0.1,
            "reference": None,
            "certify": False,
        },
    ),
    "EventObjective": (
        ctrnn.EventObjective,
        lambda: {"output": "t", "target": [1.0], "weight": 1.0, "event": 0, "occurrences": [0]},
    ),
    "dense output": (
        lambda t: ctrnn.simulate(observed())(t),
        lambda: {"t": [0.1, 0.5]},
    ),
    "equilibrium_hessian": (
        ctrnn.equilibrium_hessian,
        lambda: {"field": linear(), "eq": rest(), "dl_dr": [1.0, 0.0], "d2l_dr2": [[1.0, 0.0], [0.0, 1.0]], "x": [0.1]},
    ),
    "equilibrium_propagation": (
        ctrnn.equilibrium_propagation,
        lambda: {
            "field": linear(),
            "r0": [0.1, 0.1],
            "dl_dr": lambda r: r,
            "beta": 0.01,
            "x": [0.1],
            "symmetric": False,
        },
    ),
    "one_phase": (
        ctrnn.one_phase,
        lambda: {
            "field": linear(),
            "r0": [0.1, 0.1],
            "dl_dr": lambda r: r,
            "duration": 3.0,
            "x": [0.1],
            "points": 5,
            "rest": None,
        },
    ),
    "RestLayer": (
        lambda x, **k: ctrnn.RestLayer(linear(), **k)(x),
        lambda: {"x": _tensor(2, 1), "inverse": "flow", "solver": "anderson", "tol": 1e-8, "max_iterations": 50},
    ),
    "TorchField": (
        lambda **k: ctrnn.TorchField(lambda t, r, w, x: -w["k"] * r, **k)(0.0, [1.0, 1.0]),
        lambda: {"n": 2, "parameters": {"k": 1.0}, "inputs": 0, "state_names": ["a", "b"]},
    ),
    "Function": (ctrnn.inputs.Function, lambda: {"function": lambda t: [t], "size": 1, "breaks": [0.5]}),
    "stack": (lambda a, b: ctrnn.inputs.stack(a, b), lambda: {"a": 0.1, "b": [0.1, 0.2]}),
    "nn.CTGRU": (
        lambda x, **k: nn.CTGRU(**k)(x.float() if hasattr(x, "float") else x),
        lambda: {
            "x": _tensor(2, 3, 1),
            "input_size": 1,
            "hidden_size": 2,
            "dt": 0.1,
            "tau": 1.0,
            "steps_per_input": 1,
            "num_layers": 1,
            "dropout": 0.1,
            "seed": 0,
            "noise": None,
            "bidirectional": False,
            "solver": "rk4",
            "interpolation": "hold",
        },
    ),
    "nn.LTC": (
        lambda x, **k: nn.LTC(1, 2, **k)(x.float() if hasattr(x, "float") else x),
        lambda: {
            "x": _tensor(2, 3, 1),
            "dt": 0.1,
            "seed": 0,
            "gain": 1.0,
            "masks": None,
            "dale": None,
            "activation": "tanh",
        },
    ),
    "nn.Recurrent": (
        lambda x, **k: nn.Recurrent(network(), **k)(x.float() if hasattr(x, "float") else x),
        lambda: {"x": _tensor(2, 3, 2), "dt": 0.1, "solver": "rk4", "steps_per_input": 1, "noise": None},
    ),
}

warm_up, case, walk = cases(CALLS)
