"""Signals to predict and to generate: sines, and the chaotic series of Lorenz and of Mackey and Glass.

A series s_0, s_1, … becomes a task of prediction by x_k = s_k, y_k = s_{k + horizon}; with horizon 1 and all that is
predicted among what is seen, a network that has learned it generates the series from its own outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.equations import Equations
from ctrnn.learning.tasks.delay import mackey_glass_series
from ctrnn.learning.tasks.task import Array, Task, counts, generator, room
from ctrnn.numbers import flag, items, number, positive, real_array
from ctrnn.problem import Problem
from ctrnn.solvers.ensemble import ensemble


def sine(
    trials: int = 64,
    steps: int = 200,
    frequencies: tuple[float, float] = (0.02, 0.1),
    dt: float = 0.25,
    seed: int | np.random.Generator = 0,
) -> Task:
    """Sine generation: oscillate with the frequency that a constant input names.

    Parameters
    ----------
    trials, steps : int
        Trials, and steps of each.
    frequencies : tuple of float
        Lowest and highest frequency, in cycles per tau, drawn uniformly for each trial.
    dt : float
        Length of a step, in tau.
    seed : int or numpy.random.Generator
        Of the frequencies.

    Returns
    -------
    Task
        Input: 1/4 for the lowest frequency, 5/4 for the highest. Target: sin 2π f t.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers, and frequencies that are not positive, in order and below 1/(2 dt).

    Notes
    -----
    D. Sussillo and O. Barak, Neural Computation 25 (2013), section 3.4.

    Examples
    --------
    >>> task = sine(trials=2, steps=40, frequencies=(0.1, 0.1))
    >>> bool(np.allclose(task.y[:, 39], 0.0, atol=1e-12))  # a whole period
    True
    """
    counts(trials=trials, steps=steps)
    dt = positive("dt", dt)
    low, high = _pair("frequencies", frequencies)
    positive("frequencies", low)
    if not low <= high < 0.5 / dt:
        raise UsageError("frequencies", given=frequencies, allowed=f"lowest and highest, below 1/(2 dt) = {0.5 / dt:g}")
    room(trials, steps, 4)
    part = generator(seed).random(trials)
    t, f = dt * np.arange(1, steps + 1), low + part * (high - low)
    x = np.broadcast_to((part + 0.25)[:, None, None], (trials, steps, 1))
    y = np.sin(2 * np.pi * f[:, None] * t)[:, :, None]
    weight = np.ones((trials, steps))
    description = "A sine whose frequency a constant input names."
    return Task("sine", description, x, y, weight, dt, ("frequency",), ("sine",), reference="Sussillo and Barak 2013")


def lorenz(
    trials: int = 8,
    steps: int = 2000,
    horizon: int = 1,
    observed: Sequence[str] = ("x",),
    predicted: Sequence[str] = ("x",),
    dt: float = 0.05,
    seed: int | np.random.Generator = 0,
) -> Task:
    """Lorenz prediction: what comes ``horizon`` steps later, from some of the coordinates.

    Parameters
    ----------
    trials, steps : int
        Trials, each from a start of its own, and steps of each.
    horizon : int
        Steps that are looked ahead.
    observed, predicted : sequence of {"x", "y", "z"}
        Coordinates that are seen, and that are to be predicted.
    dt : float
        Time between two values, in the time of the equations.
    seed : int or numpy.random.Generator
        Of the starts.

    Returns
    -------
    Task
        Inputs and targets less the attractor's mean, divided by its standard deviation.

    Raises
    ------
    UsageError, UnknownNameError
        For sizes that are no whole numbers, and coordinates that there are not.

    Notes
    -----
    dx/dt = 10 (y − x), dy/dt = x (28 − z) − y, dz/dt = x y − (8/3) z (E. Lorenz, Journal of the Atmospheric Sciences
    20, 1963), solved by Dormand and Prince's 8(5,3) to 1e-10 a step, after 20 units of time that are left out. The
    attractor is chaotic, with the exponent 0.906: errors grow tenfold in 2.5 units, so that a series is that of its
    start for some 25 units and a series of the attractor from there on.

    Examples
    --------
    >>> task = lorenz(trials=2, steps=100, seed=1)
    >>> bool((task.x[:, 1:] == task.y[:, :-1]).all()), task.feeds_back
    (True, True)
    """
    dt = _check_series(trials, steps, horizon, dt)
    seen, wanted = (_coordinates(name, of) for name, of in (("observed", observed), ("predicted", predicted)))
    start = generator(seed).uniform(-10.0, 10.0, (trials, 3)) + [0.0, 0.0, 25.0]
    t = TRANSIENT + dt * np.arange(steps + horizon)
    problem = Problem(Equations(LORENZ, {"s": 10.0, "r": 28.0, "b": 8.0 / 3.0}), start[0], (0.0, t[-1]))
    found = ensemble(problem, r0=start, save_at=t, solver="dop853", rtol=1e-10, atol=1e-10).r
    mean, deviation = np.array([0.0, 0.0, LORENZ_MEAN_Z]), np.array(LORENZ_DEVIATION)
    series = (found - mean) / deviation
    return _prediction(
        f"lorenz{'' if horizon == 1 else f' {horizon} ahead'}",
        f"The {', '.join(predicted)} of the Lorenz attractor {horizon * dt:g} later, from its {', '.join(observed)}.",
        series[:, :, seen],
        series[:, :, wanted],
        horizon,
        dt=dt,
        inputs=tuple(observed),
        outputs=tuple(predicted),
        time_unit="time units",
        offset=mean[wanted],
        scale=deviation[wanted],
        feeds_back=horizon == 1 and seen == wanted,
        reference="Lorenz 1963",
    )


def lorenz_generation(
    trials: int = 8, steps: int = 2000, dt: float = 0.02, seed: int | np.random.Generator = 0
) -> Task:
    """Lorenz generation: all coordinates in, their next values out, to run free with the outputs as inputs.

    Parameters
    ----------
    trials, steps : int
        Trials, each from a start of its own, and steps of each.
    dt : float
        Time between two values, in the time of the equations.
    seed : int or numpy.random.Generator
        Of the starts.

    Returns
    -------
    Task
        `lorenz` with everything observed and predicted, one step ahead.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers.

    Examples
    --------
    >>> lorenz_generation(trials=1, steps=50).feeds_back
    True
    """
    every = ("x", "y", "z")
    return replace(lorenz(trials, steps, 1, every, every, dt, seed), name="lorenz-generation")


def mackey_glass(
    trials: int = 8,
    steps: int = 2000,
    horizon: int = 1,
    beta: float = 0.2,
    gamma: float = 0.1,
    n: float = 10.0,
    tau: float = 17.0,
    dt: float = 1.0,
    standardise: bool = True,
    seed: int | np.random.Generator = 0,
) -> Task:
    """Mackey–Glass prediction and generation: what comes ``horizon`` steps later.

    Parameters
    ----------
    trials, steps : int
        Trials, each from a history of its own, and steps of each.
    horizon : int
        Steps that are looked ahead. With 1, the default, the task is that of generation: the outputs are the next
        inputs.
    beta, gamma, n, tau : float
        Production, decay, exponent and delay, of ds/dt = β s(t − τ)/(1 + s(t − τ)ⁿ) − γ s.
    dt : float
        Time between two values, in the time of the equation.
    standardise : bool
        Whether the mean is taken off and the rest divided by the standard deviation, both over all trials and times of
        the series; ``offset`` and ``scale`` have them.
    seed : int or numpy.random.Generator
        Of the histories.

    Returns
    -------
    Task
        Input and target.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers, and numbers that are not positive.

    Notes
    -----
    M. Mackey and L. Glass, Science 197 (1977). `ctrnn.learning.tasks.delay` says how the equation is solved. Histories
    are constant, uniform between 0.5 and 1.5, and the first 1,000 units of time are left out.

    Examples
    --------
    >>> task = mackey_glass(trials=2, steps=100, standardise=False)
    >>> bool((task.y > 0.2).all() and (task.y < 1.5).all())
    True
    """
    dt = _check_series(trials, steps, horizon, dt)
    flag("standardise", standardise)
    history, tau = generator(seed).uniform(0.5, 1.5, trials), positive("tau", tau)
    t = MACKEY_GLASS_TRANSIENT + dt * np.arange(steps + horizon, dtype=float)
    series = mackey_glass_series(history, t, beta, gamma, n, tau)
    offset, scale = (float(series.mean()), float(series.std())) if standardise else (0.0, 1.0)
    if not scale > 1e-12:  # at rest: nothing to divide by
        scale = 1.0
    series = ((series - offset) / scale)[:, :, None]
    return _prediction(
        f"mackey-glass{'' if horizon == 1 else f' {horizon} ahead'}",
        f"The Mackey–Glass series with the delay {tau:g}, {horizon * dt:g} later.",
        series,
        series,
        horizon,
        dt=dt,
        inputs=("s",),
        outputs=("s",),
        time_unit="time units",
        offset=offset,
        scale=scale,
        feeds_back=horizon == 1,
        reference="Mackey and Glass 1977",
    )


LORENZ = {"x": "s*(y - x)", "y": "x*(r - z) - y", "z": "x*y - b*z"}
#: mean of z, and standard deviations of x, y and z on the attractor, over 1.6·10⁵ units of time
LORENZ_MEAN_Z, LORENZ_DEVIATION = 23.55, (7.925, 9.011, 8.621)
#: units of time in which a series finds its attractor
TRANSIENT, MACKEY_GLASS_TRANSIENT = 20.0, 1000.0


def _prediction(name: str, description: str, seen: Array, wanted: Array, horizon: int, **rest: Any) -> Task:
    """The task of a series (trials, T + horizon, …): x_k = s_k, y_k = s_{k + horizon}."""
    x, y = seen[:, : seen.shape[1] - horizon], wanted[:, horizon:]
    return Task(name, description, x, y, np.ones(x.shape[:2]), **rest)


def _check_series(trials: int, steps: int, horizon: int, dt: Any) -> float:
    counts(trials=trials, steps=steps, horizon=horizon)
    room(trials, steps + horizon, 4)
    return positive("dt", dt)


def _coordinates(argument: str, names: Sequence[str]) -> list[int]:
    known = list(LORENZ)
    chosen = items(argument, names, "names of coordinates, a sequence")
    if not chosen:
        raise UsageError(argument, given=names, allowed="names of coordinates, a sequence", hint="('x',)")
    for name in chosen:
        if not isinstance(name, str) or name not in known:
            raise UnknownNameError(argument, name, known)
    return [known.index(name) for name in chosen]


def _pair(argument: str, value: Any) -> tuple[float, float]:
    pair = real_array(argument, value, "two numbers")
    if pair.shape != (2,):
        raise UsageError(argument, given=value, allowed="two numbers")
    return number(argument, pair[0]), number(argument, pair[1])
