"""Problems that tell whether a gradient is that of the differential equation, and its own gradient to twelve digits.

Networks and systems at rest until something happens, driven, oscillating, contracting, growing, stiff, chaotic within
their horizon, with kinks in the input and in the loss: what the step control of the state alone gets wrong, and what
it gets right, which no other control may spoil.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, inputs


@dataclass(frozen=True)
class Accuracy:
    """A problem, and the fixed steps of dop853 in which its gradient is found to twelve digits or more.

    kind : "rest", "driven", "oscillating", "contracting", "stiff", "chaotic", "network" or "kink"
    """

    name: str
    kind: str
    make: Callable[[], Problem]
    steps: int = 400


def exact(problem: Problem, steps: int) -> np.ndarray:
    """[dl/dw, dl/dr0] by the discrete adjoint through many equal steps of order 8: no step control takes part."""
    t0, t1 = problem.t_span
    g = ctrnn.gradient(problem, method="adjoint", solver="dop853", dt=(t1 - t0) / steps)
    return np.concatenate([g.vector, g.r0])


def relative_error(g: ctrnn.Gradient, reference: np.ndarray) -> float:
    """‖g − g*‖/‖g*‖ of [dl/dw, dl/dr0]."""
    return float(np.linalg.norm(np.concatenate([g.vector, g.r0]) - reference) / np.linalg.norm(reference))


def _system(equations: dict[str, str], parameters: dict[str, float], channels: tuple[str, ...] = ()) -> Equations:
    return Equations(equations, parameters, channels)


LEAK = {"r": "-k*r + I"}
SADDLE = {"x": "a*x - y + c", "y": "b*x - y"}
ROTATION = {"x": "w*y - d*x", "y": "-w*x - d*y + c"}
PREY = {"prey": "a*prey - b*prey*pred", "pred": "-c*pred + d*prey*pred"}
PREY_AT = {"a": 0.55, "b": 0.028, "c": 0.80, "d": 0.024}
POL = {"x": "y", "y": "mu*(1 - x*x)*y - x"}
LORENZ = {"x": "s*(y - x)", "y": "x*(rho - z) - y", "z": "x*y - b*z"}
NAGUMO = {"v": "v - v**3/3 - w + I", "w": "eps*(v + a - b*w)"}
FORCED = {"r": "-k*r + g*x"}
PENDULUM = {"q": "p", "p": "-w**2*sin(q) - c*p"}
ROESSLER = {"x": "-y - z", "y": "x + a*y", "z": "b + z*(x - c)"}
STIFF = {"x": "-a*(x - cos(t))"}
TWO_SCALES = {"x": "-a*x + y", "y": "x - y + c"}
ROBERTSON = {"y1": "-k1*y1 + k3*y2*y3", "y2": "k1*y1 - k2*y2**2 - k3*y2*y3", "y3": "k2*y2**2"}


def _at_end(name: str, end: float) -> Objective:
    return Objective(name, at=[end])


def _network(
    n: int, r0: str, end: float, x: inputs.Input | None = None, integral: bool = False, **options: float
) -> Problem:
    rng = np.random.default_rng(n)
    field = RateNetwork(n, inputs=0 if x is None else 1, seed=n, **options)
    start = np.zeros(n) if r0 == "rest" else rng.normal(size=n)
    target = 0.3 * rng.normal(size=n)
    objective = Objective(target=target) if integral else Objective(target=target[None], at=[end])
    return Problem(field, start, (0.0, end), x=x, objective=objective)


def _problems() -> list[Accuracy]:
    made: list[Accuracy] = []

    def add(kind: str, name: str, make: Callable[[], Problem], steps: int = 400) -> None:
        made.append(Accuracy(name, kind, make, steps))

    for end in (3.0, 10.0, 30.0):
        add(
            "rest",
            f"leak to {end:g}",
            lambda end=end: Problem(
                _system(LEAK, {"k": 1.0, "I": 1.0}), [1.0], (0.0, end), objective=_at_end("r", end)
            ),
        )
    for k in (10.0, 100.0):
        add(
            "rest",
            f"fast leak {k:g}",
            lambda k=k: Problem(_system(LEAK, {"k": k, "I": k}), [1.0], (0.0, 10.0), objective=_at_end("r", 10.0)),
            4000,
        )
    add(
        "rest",
        "growth from rest",
        lambda: Problem(
            _system({"r": "k*(r - c)"}, {"k": 0.5, "c": 1.0}), [1.0], (0.0, 10.0), objective=_at_end("r", 10.0)
        ),
    )
    add(
        "rest",
        "saddle",
        lambda: Problem(
            _system(SADDLE, {"a": 0.5, "b": 0.1, "c": 0.0}), [0.0, 0.0], (0.0, 10.0), objective=_at_end("x", 10.0)
        ),
    )
    for w, d, end in ((3.0, 0.0, 10.0), (20.0, 1.0, 5.0), (6.0, 0.1, 10.0)):
        add(
            "rest",
            f"centre w={w:g} d={d:g}",
            lambda w=w, d=d, end=end: Problem(
                _system(ROTATION, {"w": w, "d": d, "c": 0.0}), [0.0, 0.0], (0.0, end), objective=_at_end("x", end)
            ),
            1000,
        )
    add(
        "rest",
        "prey at rest",
        lambda: Problem(
            _system(PREY, PREY_AT), [0.8 / 0.024, 0.55 / 0.028], (0.0, 20.0), objective=_at_end("prey", 20.0)
        ),
    )
    add(
        "rest",
        "van der Pol at rest",
        lambda: Problem(_system(POL, {"mu": 2.0}), [0.0, 0.0], (0.0, 10.0), objective=_at_end("x", 10.0)),
    )
    add(
        "rest",
        "Lorenz at rest",
        lambda: Problem(
            _system(LORENZ, {"s": 10.0, "rho": 0.5, "b": 8 / 3}), [0.0] * 3, (0.0, 5.0), objective=_at_end("x", 5.0)
        ),
        1000,
    )
    add(
        "rest",
        "FitzHugh–Nagumo at rest",
        lambda: Problem(
            _system(NAGUMO, {"I": 0.0, "eps": 0.08, "a": 0.7, "b": 0.8}),
            [-1.1994080352440346, -0.6242600440550433],
            (0.0, 40.0),
            objective=_at_end("v", 40.0),
        ),
        1000,
    )
    add(
        "rest",
        "two time scales at rest",
        lambda: Problem(
            _system(TWO_SCALES, {"a": 10.0, "c": 0.0}), [0.0, 0.0], (0.0, 5.0), objective=_at_end("y", 5.0)
        ),
        1000,
    )

    add(
        "driven",
        "sine",
        lambda: Problem(
            _system(FORCED, {"k": 1.0, "g": 1.0}, ("x",)),
            [0.0],
            (0.0, 10.0),
            x=inputs.Sine(0.5),
            objective=_at_end("r", 10.0),
        ),
    )
    for onset in (5.0, 20.0, 60.0):
        add(
            "driven",
            f"pulse at {onset:g}",
            lambda onset=onset: Problem(
                _system(FORCED, {"k": 1.0, "g": 1.0}, ("x",)),
                [0.0],
                (0.0, onset + 5.0),
                x=inputs.Pulse(onset, 1.0),
                objective=_at_end("r", onset + 5.0),
            ),
            1000,
        )
    add(
        "driven",
        "step at 10",
        lambda: Problem(
            _system(FORCED, {"k": 2.0, "g": 1.0}, ("x",)),
            [0.0],
            (0.0, 20.0),
            x=inputs.Step(10.0, 1.0),
            objective=Objective(target=[[0.1], [0.3]], at=[9.0, 20.0]),
        ),
        1000,
    )
    add(
        "driven",
        "pendulum kicked",
        lambda: Problem(
            _system({"q": "p", "p": "-w**2*sin(q) - c*p + x"}, {"w": 2.0, "c": 0.1}, ("x",)),
            [0.0, 0.0],
            (0.0, 12.0),
            x=inputs.Pulse(6.0, 0.5),
            objective=_at_end("q", 12.0),
        ),
        1000,
    )

    add(
        "oscillating",
        "prey, observed",
        lambda: Problem(
            _system(PREY, PREY_AT),
            [30.0, 4.0],
            (0.0, 20.0),
            objective=Objective(target=np.random.default_rng(0).normal(20, 10, (20, 2)), at=np.linspace(1, 20, 20)),
        ),
        1000,
    )
    add(
        "oscillating",
        "prey, integral",
        lambda: Problem(_system(PREY, PREY_AT), [30.0, 4.0], (0.0, 20.0), objective=Objective(target=[20.0, 10.0])),
        2000,
    )
    for mu, end, steps in ((2.0, 10.0, 2000), (0.5, 20.0, 1000), (10.0, 15.0, 8000)):
        add(
            "oscillating",
            f"van der Pol {mu:g}",
            lambda mu=mu, end=end: Problem(
                _system(POL, {"mu": mu}), [2.0, 0.0], (0.0, end), objective=_at_end("x", end)
            ),
            steps,
        )
    add(
        "oscillating",
        "FitzHugh–Nagumo",
        lambda: Problem(
            _system(NAGUMO, {"I": 0.5, "eps": 0.08, "a": 0.7, "b": 0.8}),
            [-1.0, 1.0],
            (0.0, 40.0),
            objective=Objective(target=np.zeros((40, 2)), at=np.arange(1.0, 41.0)),
        ),
        2000,
    )
    add(
        "oscillating",
        "pendulum",
        lambda: Problem(
            _system(PENDULUM, {"w": 2.0, "c": 0.05}), [1.0, 0.0], (0.0, 15.0), objective=_at_end("q", 15.0)
        ),
        1000,
    )
    add(
        "oscillating",
        "harmonic",
        lambda: Problem(
            _system(ROTATION, {"w": 3.0, "d": 0.0, "c": 0.1}), [1.0, 0.0], (0.0, 20.0), objective=_at_end("y", 20.0)
        ),
        2000,
    )

    add(
        "contracting",
        "decay",
        lambda: Problem(_system({"r": "-k*r"}, {"k": 1.0}), [1.0], (0.0, 8.0), objective=_at_end("r", 8.0)),
    )
    add(
        "contracting",
        "logistic",
        lambda: Problem(
            _system({"r": "k*r*(1 - r/c)"}, {"k": 1.0, "c": 2.0}), [0.01], (0.0, 20.0), objective=_at_end("r", 20.0)
        ),
        1000,
    )
    add(
        "contracting",
        "spiral",
        lambda: Problem(
            _system(ROTATION, {"w": 5.0, "d": 0.5, "c": 1.0}), [1.0, 0.0], (0.0, 10.0), objective=_at_end("x", 10.0)
        ),
        1000,
    )
    add(
        "contracting",
        "cubic",
        lambda: Problem(
            _system({"r": "-a*r**3 + b"}, {"a": 1.0, "b": 0.5}), [2.0], (0.0, 10.0), objective=_at_end("r", 10.0)
        ),
        1000,
    )

    add(
        "stiff",
        "Prothero–Robinson",
        lambda: Problem(_system(STIFF, {"a": 1000.0}), [1.0], (0.0, 2.0), objective=_at_end("x", 2.0)),
        8000,
    )
    add(
        "stiff",
        "van der Pol 30",
        lambda: Problem(_system(POL, {"mu": 30.0}), [2.0, 0.0], (0.0, 20.0), objective=_at_end("x", 20.0)),
        40000,
    )
    add(
        "stiff",
        "two time scales",
        lambda: Problem(
            _system(TWO_SCALES, {"a": 300.0, "c": 1.0}), [1.0, 0.0], (0.0, 5.0), objective=_at_end("y", 5.0)
        ),
        8000,
    )
    add(
        "stiff",
        "Robertson to 10",
        lambda: Problem(
            _system(ROBERTSON, {"k1": 0.04, "k2": 3e3, "k3": 10.0}),
            [1.0, 0.0, 0.0],
            (0.0, 10.0),
            objective=_at_end("y1", 10.0),
        ),
        4000,
    )

    for end in (1.0, 3.0, 6.0):
        add(
            "chaotic",
            f"Lorenz to {end:g}",
            lambda end=end: Problem(
                _system(LORENZ, {"s": 10.0, "rho": 28.0, "b": 8 / 3}),
                [1.0] * 3,
                (0.0, end),
                objective=_at_end("x", end),
            ),
            4000,
        )
    add(
        "chaotic",
        "Rössler",
        lambda: Problem(
            _system(ROESSLER, {"a": 0.2, "b": 0.2, "c": 5.7}),
            [1.0, 1.0, 0.0],
            (0.0, 20.0),
            objective=_at_end("x", 20.0),
        ),
        4000,
    )
    add(
        "chaotic",
        "Lorenz, integral",
        lambda: Problem(
            _system(LORENZ, {"s": 10.0, "rho": 28.0, "b": 8 / 3}), [1.0] * 3, (0.0, 2.0), objective=Objective("z")
        ),
        4000,
    )

    for n in (1, 4, 16, 64):
        for onset in (5.0, 20.0):
            add(
                "network",
                f"{n} units at rest to {onset:g}",
                lambda n=n, onset=onset: _network(n, "rest", onset + 5.0, inputs.Pulse(onset, 1.0), gain=1.2),
                1000,
            )
        add("network", f"{n} units", lambda n=n: _network(n, "random", 10.0, gain=1.5), 1000)
        add("network", f"{n} units, integral", lambda n=n: _network(n, "random", 5.0, integral=True), 1000)
        add("network", f"{n} fast units", lambda n=n: _network(n, "random", 5.0, gain=0.8, tau=0.1), 2000)

    add(
        "kink",
        "linear input",
        lambda: Problem(
            _system(FORCED, {"k": 1.0, "g": 1.0}, ("x",)),
            [0.0],
            (0.0, 10.0),
            x=inputs.Sampled([0.0, 2.5, 5.1, 10.0], [[0.0], [1.0], [-1.0], [0.5]], "linear"),
            objective=_at_end("r", 10.0),
        ),
        1000,
    )
    add(
        "kink",
        "held input",
        lambda: Problem(
            _system(FORCED, {"k": 1.0, "g": 1.0}, ("x",)),
            [0.0],
            (0.0, 10.0),
            x=inputs.Sampled([0.0, 2.5, 5.1, 10.0], [[0.0], [1.0], [-1.0], [0.5]], "hold"),
            objective=_at_end("r", 10.0),
        ),
        1000,
    )
    add(
        "kink",
        "relu of an observation",
        lambda: Problem(
            _system(PREY, PREY_AT),
            [30.0, 4.0],
            (0.0, 20.0),
            objective=Objective("relu(prey - 20)**2", at=np.linspace(1, 20, 20)),
        ),
        1000,
    )
    return made


PROBLEMS = _problems()


@cache
def reference(name: str) -> np.ndarray:
    """The gradient of a problem by name, found once."""
    its = next(problem for problem in PROBLEMS if problem.name == name)
    return exact(its.make(), its.steps)
