"""``ctrnn warm``: compile everything ahead, for images and for clusters whose nodes share a home.

What a run compiles depends on the kind of its field and of its solver, and not on its size: so small problems of every
kind, by every gradient method, reach all that is compiled once on a machine. The functions of an equation of one's own
are compiled with it, in well under a second.
"""

from __future__ import annotations

import importlib
import pkgutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from ctrnn import cache, kernels, progress
from ctrnn.analysis.equilibria import find_equilibrium
from ctrnn.analysis.fixed_points import fixed_points
from ctrnn.analysis.lyapunov import lyapunov_spectrum
from ctrnn.errors import CtrnnError
from ctrnn.events import Event
from ctrnn.fields.base import Array, Field
from ctrnn.fields.equations import Equations
from ctrnn.fields.networks.gated import GRUNetwork
from ctrnn.fields.networks.rate import RateNetwork
from ctrnn.gradients.api import gradient
from ctrnn.gradients.method import Passes
from ctrnn.gradients.methods import METHODS
from ctrnn.gradients.rest.equilibrium import equilibrium_gradient
from ctrnn.gradients.second.hessian import gauss_newton, hessian
from ctrnn.gradients.sensitivity.sensitivities import sensitivities
from ctrnn.inputs import Sine, evaluate_program
from ctrnn.kernels import online
from ctrnn.kernels.lazy import Lazy
from ctrnn.learning.online.learner import OnlineLearner
from ctrnn.objective import Objective
from ctrnn.problem import Problem, Trials
from ctrnn.solvers.ensemble import ensemble
from ctrnn.solvers.simulate import simulate

#: a solver of each kind
SOLVERS: tuple[dict[str, Any], ...] = (
    {},
    {"error_control": "state"},
    {"solver": "rk4", "dt": 0.25},
    {"solver": "kencarp4"},
    {"solver": "exponential-euler", "dt": 0.25},
)
LEARNERS = ("rtrl", "snap-1", "snap-2", "rflo", "uoro", "kf-rtrl", "tbptt")

Job = Callable[[], object]


@click.command("warm")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing.")
def command(quiet: bool) -> None:
    """Compile everything ahead: once on a machine, or into an image, in a minute or two.

    The machine code goes to CTRNN_CACHE_DIR, or to the user's cache folder.
    """
    progress.enable(not quiet)
    progress.silence(quiet or progress.terminal())  # a bar says it there
    place = cache.folder()
    if place is None:
        raise CtrnnError("no cache folder can be written; choose one by CTRNN_CACHE_DIR")
    began, work = time.perf_counter(), list(jobs())
    with progress.track(len(work), "compiling") as update:
        for done, job in enumerate(work, start=1):
            # what does not go together, such as a method and a solver, is refused: nothing is compiled for it
            with warnings.catch_warnings(), suppress(CtrnnError):
                warnings.simplefilter("ignore")
                job()
            update(done)
    if not quiet:
        click.echo(_told(place, time.perf_counter() - began))


def _told(place: Path, seconds: float) -> str:
    files = list(place.glob("kernel_*"))
    size = sum(file.stat().st_size for file in files) / 1e6
    return f"{len(files)} compiled kernels, {size:.1f} MB, in {place} ({seconds:.0f} s)"


def jobs() -> Iterator[Job]:
    """What is to be done, in pieces."""
    for kernel in lazy_kernels():
        yield partial(getattr, kernel, "address")
    one = np.zeros((1, 1))
    yield partial(online.through, one, np.zeros(1, dtype=np.int64), one[None], one, 0, 1, one[0])  # of large networks
    yield lambda: evaluate_program(Sine(frequency=1.0).program(), [0.5])
    for field in fields():
        yield from _of_field(field)


def lazy_kernels() -> Iterator[Lazy]:
    """The C functions of the package."""
    for found in pkgutil.walk_packages(kernels.__path__, f"{kernels.__name__}."):
        module = importlib.import_module(found.name)
        yield from (one for one in vars(module).values() if isinstance(one, Lazy))


def fields() -> Iterator[Field]:
    """A field of each kind: equations, dense and sparse networks, array equations."""
    yield Equations({"u": "a*u - u**3 - v + x", "v": "b*(u - v)"}, {"a": 0.5, "b": 0.7}, ["x"])
    yield RateNetwork(3, inputs=1, seed=0)
    yield RateNetwork(20, inputs=1, seed=0, mask=np.eye(20, k=1))  # one source a unit: kept as lists
    yield GRUNetwork(3, 1, seed=0)


def _of_field(field: Field) -> Iterator[Job]:
    n = field.n
    r0, span = np.full(n, 0.1), (0.0, 1.0)
    observed = Objective(target=np.zeros((2, n)), at=[0.5, 1.0])
    integral = Objective("squared_error", target=np.zeros(n))
    at, over = (Problem(field, r0, span, x=0.3, objective=objective) for objective in (observed, integral))
    batch = Trials(field, np.stack([r0, 2 * r0, 3 * r0]), span, x=0.3, objective=observed)
    ends = Problem(field, r0, span, x=0.3, objective=observed, events=Event(f"{field.state_names[0]} - 0.05"))
    for options in SOLVERS:
        ours = {key: value for key, value in options.items() if key != "error_control"}
        yield partial(simulate, at, **ours)
        yield lambda ours=ours: simulate(at, **ours)(0.3)  # type: ignore[misc]
        yield partial(simulate, at, save_at=[0.25, 1.0], **ours)
        yield partial(simulate, ends, **ours)
        yield partial(ensemble, at, r0=np.stack([r0] * 40), save_at=[0.25, 1.0], **ours)
        for name in ("adjoint", "rtrl"):
            yield partial(gradient, ends, name, **options)
        for problem in (at, over, batch):
            for name, method in METHODS.items():
                # torch's graph and whole solutions compile nothing else
                if name != "autograd" and method.facts.passes != Passes.SOLUTIONS:
                    yield partial(gradient, problem, name, **options)
        if n < 10:
            yield partial(sensitivities, at, [0.5, 1.0], **options)
            for problem in (at, over):
                yield partial(hessian, problem, **options)
                yield partial(gauss_newton, problem, **options)
    yield partial(fixed_points, field, [r0], x=[0.3])
    yield lambda: field.vjp(0.0, r0, np.ones(n), [0.3])
    yield lambda: field.jvp(0.0, r0, np.ones(n), None, [0.3])
    yield lambda: field.second_order(0.0, r0, np.ones(n), np.ones(n), None, [0.3])  # of cycles and bifurcations
    for how in ("auto", "relaxation", "newton", "pseudo-transient", "anderson"):
        yield partial(find_equilibrium, field, r0, x=[0.3], method=how)
    for free in (False, True):
        yield partial(_at_rest, field, r0, free)
    yield partial(lyapunov_spectrum, at, k=2, dt=0.25, solver="rk4")
    yield partial(lyapunov_spectrum, at, k=2)
    for learner in LEARNERS:
        yield partial(_learn, field, learner)


def _at_rest(field: Field, r0: Array, matrix_free: bool) -> None:
    rest = find_equilibrium(field, r0, x=[0.3])
    equilibrium_gradient(field, rest, np.ones(field.n), matrix_free=matrix_free)


def _learn(field: Field, method: str) -> None:
    for batch in (None, 3):
        learner = OnlineLearner(field, method=method, dt=0.5, batch=batch)
        for _ in range(3):
            learner.step(np.full((batch, 1) if batch else 1, 0.3), np.zeros((batch, field.n) if batch else field.n))
