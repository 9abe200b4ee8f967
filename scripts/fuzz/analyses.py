"""Calls that analyse, invert and draw, with arguments that nobody expects (fuzz.calls)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz.calls import Calls, cases

import ctrnn
from ctrnn import analysis, inverse, plotting

BOX = [[-1.0, 1.0], [-1.0, 1.0]]


@cache
def oscillator() -> Any:
    """A field with a Hopf point at a = 0, and a cycle of radius √a beyond it."""
    text = {"u": "a*u - v - u*(u**2 + v**2)", "v": "u + b*v - v*(u**2 + v**2)"}
    return ctrnn.Equations(text, {"a": 0.5, "b": 0.5})


@cache
def problem() -> Any:
    """A run of it."""
    return ctrnn.Problem(oscillator(), [0.7, 0.1], (0.0, 30.0))


@cache
def linear() -> Any:
    """Two states that decay."""
    return ctrnn.Equations({"u": "-k*u + v + x", "v": "-2*v"}, {"k": 1.0}, ["x"])


@cache
def fall() -> Any:
    """A run of them."""
    return ctrnn.Problem(linear(), [1.0, 0.5], (0.0, 2.0), x=0.1)


@cache
def run() -> Any:
    """Its solution."""
    return ctrnn.simulate(fall(), save_at=np.linspace(0.0, 2.0, 11))


@cache
def cycle() -> Any:
    """The cycle."""
    return analysis.limit_cycle(problem())


@cache
def branch() -> Any:
    """The equilibria on both sides of the Hopf point."""
    field = oscillator().with_parameters(a=-0.5)
    return analysis.continue_equilibria(field, [0.0, 0.0], "a", (-1.0, 1.0))


@cache
def equilibrium() -> Any:
    """The point of rest of the linear field."""
    return ctrnn.find_equilibrium(linear(), [0.1, 0.1], x=[0.1])


def _saved(path: Any, **_: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return plotting.save(plotting.trajectory(run()), Path(folder, path) if isinstance(path, str) else path)


def _figure(draw: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        import matplotlib.pyplot as plt

        try:
            return draw(*arguments, **options)
        finally:
            plt.close("all")

    return call


CALLS: Calls = {
    "limit_cycle": (analysis.limit_cycle, lambda: {"problem": problem(), "period": None, "amplitude": 0.1}),
    "continue_cycles": (
        analysis.continue_cycles,
        lambda: {"field": oscillator(), "cycle": cycle(), "parameter": "a", "span": [0.4, 0.6], "max_points": 3},
    ),
    "continue_special": (
        analysis.continue_special,
        lambda: {
            "field": oscillator(),
            "special": branch().special[0],
            "parameters": ["a", "b"],
            "span": [[-1.0, 1.0], [-1.0, 1.0]],
            "max_points": 5,
        },
    ),
    "equilibrium_branches": (
        analysis.equilibrium_branches,
        lambda: {"field": linear(), "starts": [[0.1, 0.1]], "parameter": "k", "span": [0.5, 2.0], "x": [0.1]},
    ),
    "cycle's gradients": (
        lambda state, k: (cycle().amplitude_gradient(state), cycle().multiplier_gradient(k), cycle().floquet_mode(k)),
        lambda: {"state": 0, "k": 1},
    ),
    "basins": (
        analysis.basins,
        lambda: {"field": linear(), "box": BOX, "states": ["u", "v"], "x": [0.1], "points": 3, "t_end": 20.0},
    ),
    "nullclines": (
        analysis.nullclines,
        lambda: {"field": linear(), "box": BOX, "states": [0, 1], "at": None, "x": [0.1], "t": 0.0, "points": 5},
    ),
    "saddle_manifolds": (
        analysis.saddle_manifolds,
        lambda: {"equilibrium": equilibrium(), "box": BOX, "t_end": 5.0, "distance": 1e-6},
    ),
    "lyapunov_spectrum, covariant": (
        analysis.lyapunov_spectrum,
        lambda: {"problem": problem(), "k": 2, "transient": 1.0, "seed": 0, "covariant": True, "max_steps": 10_000},
    ),
    "largest_exponent": (analysis.largest_exponent, lambda: {"problem": fall(), "solver": "rk4", "dt": 0.1, "seed": 0}),
    "lyapunov_spectra": (
        analysis.lyapunov_spectra,
        lambda: {"problem": fall(), "parameters": {"k": [1.0, 2.0]}, "r0": None, "k": 2},
    ),
    "jacobian_products": (
        analysis.jacobian_products,
        lambda: {"problem": fall(), "dt": 0.5, "solver": "euler", "times": None, "looks": 3},
    ),
    "EulerMap": (
        lambda r0, steps, starts, period, **k: (
            analysis.EulerMap(linear(), **k).orbit(r0, steps),
            analysis.EulerMap(linear(), **k).cycles(starts, period),
        ),
        lambda: {
            "r0": [1.0, 1.0],
            "steps": 3,
            "starts": [[0.1, 0.1]],
            "period": 1,
            "dt": 0.5,
            "x": [0.1],
            "t": 0.0,
        },
    ),
    "transient_growth": (analysis.transient_growth, lambda: {"J": [[-1.0, 5.0], [0.0, -2.0]], "t": [0.0, 1.0]}),
    "pseudospectral_abscissa": (
        analysis.pseudospectral_abscissa,
        lambda: {"J": [[-1.0, 5.0], [0.0, -2.0]], "epsilon": 0.1},
    ),
    "linear_subspaces": (analysis.linear_subspaces, lambda: {"J": [[-1.0, 5.0], [0.0, 2.0]]}),
    "henrici_number": (analysis.henrici_number, lambda: {"J": [[-1.0, 5.0], [0.0, 2.0]], "relative": True}),
    "principal_components": (analysis.principal_components, lambda: {"states": [[0.0, 1.0], [1.0, 3.0]], "k": 1}),
    "participation_ratio": (analysis.participation_ratio, lambda: {"states": [[0.0, 1.0], [1.0, 3.0]]}),
    "fixed_points, slow": (
        analysis.fixed_points,
        lambda: {"field": linear(), "starts": [[0.1, 0.1]], "x": [0.1], "slow": True, "tol": 1e-10, "distance": 1e-6},
    ),
    "reciprocal": (inverse.reciprocal, lambda: {"a": -2.0, "method": "flow"}),
    "zhang": (
        inverse.zhang,
        lambda: {
            "A": lambda t: np.diag([-1.0, -2.0 - t]),
            "t_span": [0.0, 1.0],
            "a": [1.0, 1.0],
            "dt": 0.1,
            "gain": 5.0,
        },
    ),
    "word_length": (
        inverse.word_length,
        lambda: {"a": [1.0, 4.0], "A": [[-1.0, 0.0], [0.0, -2.0]], "fractions": [8, 10], "integer": 4, "seed": 0},
    ),
    "device_noise": (
        inverse.device_noise,
        lambda: {"a": [1.0, 4.0], "A": [[-1.0, 0.0], [0.0, -2.0]], "levels": [0.01], "trials": 2, "seed": 0},
    ),
    "QFormat": (inverse.QFormat, lambda: {"integer": 3, "fraction": 8, "rounding": "nearest", "seed": 0}),
    "best_step": (inverse.best_step, lambda: {"eigenvalues": [-1.0, -2.0]}),
    "plotting.trajectory": (
        _figure(plotting.trajectory),
        lambda: {
            "run": run(),
            "states": ["u"],
            "data": [[0.5, 1.0], [[0.1], [0.2]]],
            "labels": {"u": "U"},
            "log": False,
        },
    ),
    "plotting.portrait": (
        _figure(plotting.portrait),
        lambda: {
            "field": linear(),
            "box": BOX,
            "states": [0, 1],
            "at": None,
            "x": [0.1],
            "points": [],
            "runs": [run()],
        },
    ),
    "plotting.phase_portrait": (
        _figure(plotting.phase_portrait),
        lambda: {"run": run(), "field": linear(), "x": [0.1], "states": [0, 1], "data": [[0.1, 0.1]]},
    ),
    "plotting.projection": (
        _figure(plotting.projection),
        lambda: {"runs": [run()], "points": [], "components": [0, 1]},
    ),
    "plotting.bifurcation_diagram": (
        _figure(plotting.bifurcation_diagram),
        lambda: {"branches": [branch()], "state": "u", "cycles": [], "labels": {"a": "α"}},
    ),
    "plotting.cycle": (_figure(plotting.cycle), lambda: {"cycle": cycle(), "states": [0, 1], "labels": {"u": "U"}}),
    "plotting.sensitivities": (
        _figure(plotting.sensitivities),
        lambda: {"t": [0.0, 1.0], "p": np.zeros((2, 1, 2)), "labels": ["w", "b"], "names": ["r"]},
    ),
    "plotting.spectrum": (_figure(plotting.spectrum), lambda: {"eigenvalues": [-1.0, -2.0], "step_bound": 1.0}),
    "plotting.fit_history": (_figure(plotting.fit_history), lambda: {"history": [3.0, 2.0, 1.0], "label": "loss"}),
    "plotting.save": (_figure(_saved), lambda: {"path": "x.png"}),
}

warm_up, case, walk = cases(CALLS)
