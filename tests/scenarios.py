"""Reference problems that the tests share: one place for their fields, inputs and objectives.

A scenario is a name and a recipe, so that a test that needs a fresh or a changed problem makes one.
``dt`` is a fixed step at which every explicit method is stable; no jump and no observation needs to
be a multiple of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, Readout, inputs

#: Lynx and hares, 1900 to 1920, thousands of pelts (Hudson's Bay Company).
HARE_LYNX = Path(ctrnn.__file__).parent / "examples" / "hare_lynx.csv"

LOTKA_VOLTERRA = {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"}
LOTKA_VOLTERRA_AT = {"a": 0.55, "b": 0.028, "c": 0.80, "d": 0.024}

# Every term that a field may have: t itself, products, powers, a saturation, two inputs.
DRIVEN = {
    "u": "v + p*sin(w*t) - q*u",
    "v": "-u - k*v*(u**2 - 1) + s*x0",
    "z": "-z/(1 + z**2) + tanh(p*u*z + x1) + 0.1*t*exp(-q*t)",
}
DRIVEN_AT = {"p": 0.7, "w": 1.9, "q": 0.6, "k": 0.8, "s": 1.3}


@dataclass(frozen=True)
class Scenario:
    """A problem with an objective.

    name : for the test's id; make : builds the problem; dt : a fixed step, in the unit of its t
    complex : whether its field is analytic, so that the complex step applies
    """

    name: str
    make: Callable[[], Problem]
    dt: float
    complex: bool = True


def lotka_volterra(objective: Objective | None, t_span: tuple[float, float] = (0.0, 4.0)) -> Problem:
    field = Equations(LOTKA_VOLTERRA, LOTKA_VOLTERRA_AT)
    return Problem(field, r0=[3.0, 2.5], t_span=t_span, objective=objective)


def smooth_inputs() -> inputs.Input:
    return inputs.stack(inputs.Sine(0.31, amplitude=0.8, offset=0.2), inputs.Sine(0.17, phase=0.4))


def jumping_inputs() -> inputs.Input:
    """Pulses whose edges lie at no multiple of any step that the tests take."""
    pulses = inputs.Pulse(0.3717, 0.5161, 1.5) + inputs.Pulse(1.2345, 0.3039, -0.8)
    return inputs.stack(inputs.Sine(0.31, amplitude=0.8) * pulses + 0.2, inputs.Step(0.7531, 0.9))


def driven(objective: Objective | None, x: inputs.Input, t_span: tuple[float, float] = (0.0, 2.0)) -> Problem:
    field = Equations(DRIVEN, DRIVEN_AT, inputs=("x0", "x1"))
    return Problem(field, r0=[0.9, -0.4, 0.3], t_span=t_span, x=x, objective=objective)


def state_network(objective: Objective | None = None, **changes: object) -> Problem:
    """5 units, −r + W φ(r) + U x + b, with a mask and one trained time constant a unit."""
    n, rng = 5, np.random.default_rng(11)
    options: dict = {"tau": np.linspace(0.6, 1.5, n), "train_tau": True, "gain": 1.5, "seed": 3}
    options |= {"mask": rng.random((n, n)) < 0.7}
    field = RateNetwork(n, inputs=2, **(options | changes))
    field = field.with_parameters(b=rng.normal(0.0, 0.3, n))
    return Problem(field, r0=rng.normal(size=n), t_span=(0.0, 2.0), x=jumping_inputs(), objective=objective)


def rate_network(objective: Objective | None = None, **changes: object) -> Problem:
    """4 units, −r + φ(W r + U x + b), dense, one trained time constant for all."""
    n, rng = 4, np.random.default_rng(12)
    options: dict = {"tau": 0.7, "train_tau": True, "gain": 2.0, "seed": 4, "form": "rate"}
    field = RateNetwork(n, inputs=2, **(options | changes))
    field = field.with_parameters(b=rng.normal(0.0, 0.3, n))
    return Problem(field, r0=rng.normal(size=n), t_span=(0.0, 2.0), x=jumping_inputs(), objective=objective)


def linear_readout(n: int) -> Readout:
    rng = np.random.default_rng(21)
    return Readout(rng.normal(size=(2, n)), rng.normal(size=2))


def softmax_readout(n: int) -> Readout:
    rng = np.random.default_rng(22)
    return Readout(rng.normal(size=(3, n)), rng.normal(size=3), activation="softmax")


TIMES = [0.0, 0.45, 0.7531, 1.3, 2.0]  # t0, a jump of x, and the end among them
WEIGHTS = [0.5, 1.0, 2.0, 0.25, 1.5]


def observed_squares(size: int, **changes: object) -> Objective:
    target = np.random.default_rng(31).normal(size=(len(TIMES), size))
    return Objective(**({"target": target, "at": TIMES, "weight": WEIGHTS} | changes))


def observed_classes() -> Objective:
    """Cross-entropy against labels, as rows of the identity."""
    labels = np.eye(3)[[0, 2, 1, 1, 0]]
    return Objective("cross_entropy", labels, at=TIMES, weight=WEIGHTS, readout=softmax_readout(4))


def integral_squares(size: int, **changes: object) -> Objective:
    """∫ a(t) ½‖o − y‖² dt with a moving target and a weight that jumps."""
    target = inputs.stack(*[inputs.Sine(0.2 + 0.1 * k, phase=k) for k in range(size)])
    weight = inputs.Sine(0.4, amplitude=0.5, offset=1.0) + inputs.Step(0.6113, 0.5)
    return Objective(**({"target": target, "weight": weight} | changes))


def hare_lynx() -> Problem:
    """21 years of data from the rough start of the fit."""
    year, hare, lynx = np.genfromtxt(HARE_LYNX, delimiter=",", skip_header=1).T
    counts = np.stack([hare, lynx], axis=1)
    field = Equations(
        {"hare": "a*hare - b*hare*lynx", "lynx": "-c*lynx + d*hare*lynx"},
        {"a": 0.55, "b": 0.028, "c": 0.80, "d": 0.024},
    )
    objective = Objective(target=counts, at=year - year[0])
    return Problem(field, r0=counts[0], t_span=(0.0, float(year[-1] - year[0])), objective=objective)


def _torch_loss(o, y):
    return ((o[:2] - y) ** 4).sum() + o[0] * o[1] * y[0]


SCENARIOS = (
    Scenario("equations-observed", lambda: lotka_volterra(observed_squares(2)), dt=0.11),
    Scenario("equations-integral", lambda: lotka_volterra(integral_squares(2)), dt=0.11),
    Scenario(
        "driven-partly-observed",
        lambda: driven(observed_squares(2, readout=["z", "u"]), jumping_inputs()),
        dt=0.06,
    ),
    Scenario(
        "driven-expression",
        lambda: driven(Objective("u**2*v + exp(-z)", weight=inputs.Sine(0.2)), jumping_inputs()),
        dt=0.06,
    ),
    Scenario(
        "state-network-observed",
        lambda: state_network(observed_squares(2, readout=linear_readout(5))),
        dt=0.06,
    ),
    Scenario(
        "state-network-integral",
        lambda: state_network(integral_squares(2, readout=linear_readout(5))),
        dt=0.06,
    ),
    Scenario("rate-network-classes", lambda: rate_network(observed_classes()), dt=0.06),
    Scenario(
        "rate-network-callable",
        lambda: rate_network(integral_squares(2, loss=_torch_loss, readout=softmax_readout(4))),
        dt=0.15,
    ),
    Scenario(
        "relu-network-observed",
        lambda: rate_network(observed_squares(4), activation="relu"),
        dt=0.06,
        complex=False,
    ),
)
SCENARIO = {scenario.name: scenario for scenario in SCENARIOS}
