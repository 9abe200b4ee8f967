"""Regenerates the figures in figures/ from the shipped experiments, by the public names alone.

    python scripts/figures.py                 all of them
    python scripts/figures.py hare_lynx       those of one experiment

Each experiment's figures show what its file says; the numbers are computed anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np

import ctrnn
from ctrnn import plotting
from ctrnn.experiment.build import Experiment
from ctrnn.experiment.methods import gradient_methods

FOLDER = Path(__file__).resolve().parent.parent / "figures"


def hare_lynx() -> dict:
    """The fit to 21 years of pelts: data, curves, phase plane, agreement of all gradients."""
    experiment = Experiment("hare-lynx")
    start, data, spec = experiment.problem, experiment.data, experiment.spec.fit
    options = experiment.solver
    fitted = ctrnn.learning.fit(
        start, r0=spec.r0, transform=spec.transform, max_iterations=spec.max_iterations, **options
    )
    print(fitted)
    t = np.linspace(*start.t_span, 501)
    before = ctrnn.simulate(start, save_at=t, **options)
    after = ctrnn.simulate(fitted.problem, save_at=t, **options)
    rest = ctrnn.find_equilibrium(fitted.problem.field, experiment.guess)
    comparison = ctrnn.compare_gradients(start, methods=gradient_methods(experiment.spec, "compare"), **options)
    print(comparison)
    axes = experiment.spec.figures
    words = {"time_label": axes.time, "labels": axes.labels}
    figures = {
        "fit": plotting.fit(data.t, data.y, before, after, data.names, **words),
        "fit-history": plotting.fit_history(fitted, label=axes.loss),
        "phase-portrait": plotting.phase_portrait(
            after,
            field=fitted.problem.field,
            equilibrium=rest,
            data=data.y,
            label="solution, fitted",
            labels=axes.labels,
        ),
        "gradient-agreement": plotting.gradient_agreement(comparison),
    }
    s = ctrnn.sensitivities(fitted.problem, save_at=t, **options)
    field = fitted.problem.field
    figures["sensitivities"] = plotting.sensitivities(
        s.t, s.p, field.labels, names=field.state_names, time_label=axes.time
    )
    return figures


def limit_cycle() -> dict:
    """A network of 32 units that draws a circle, trained by RTRL and by BPTT."""
    experiment = Experiment("limit-cycle")
    problem, spec, options = experiment.problem, experiment.spec.fit, experiment.solver
    t = np.linspace(*problem.t_span, 401)

    def drawn(problem: ctrnn.Problem, readout: dict) -> tuple[np.ndarray, np.ndarray]:
        r = ctrnn.simulate(problem, save_at=t, **options).r
        return t, r @ readout["V"].T + readout["c"]

    fits = {}
    for method in gradient_methods(experiment.spec, "fit"):
        fits[str(method)] = ctrnn.learning.fit(
            problem,
            optimizer=spec.optimizer,
            method=method,
            max_iterations=spec.max_iterations,
            learning_rate=spec.learning_rate,
            **options,
        )
    vectors = [one.problem.field.vector for one in fits.values()]
    apart = np.max(np.abs(vectors[0] - vectors[1])) / np.max(np.abs(vectors[0]))
    print("\n".join(map(str, fits.values())), f"\nweights apart by {apart:.1e}, relative")
    w = 2 * np.pi / 10
    target = t, np.stack([np.cos(w * t), np.sin(w * t)], axis=1)
    runs = {name: drawn(one.problem, one.readout) for name, one in fits.items()}
    first = next(iter(fits.values()))
    units = ctrnn.simulate(first.problem, save_at=t, **options)
    rest = ctrnn.find_equilibrium(first.problem.field, units.r[-1])
    axes = experiment.spec.figures
    outputs = tuple(axes.labels[name] for name in experiment.output_names)
    return {
        "target": plotting.limit_cycle(target, runs, names=outputs, time_label=axes.time),
        "units": units.plot(time_label=axes.time, title="all 32 units, fitted"),
        "fit-history": plotting.fit_history(first, label=axes.loss),
        "spectrum": plotting.spectrum(rest.eigenvalues, time_unit="tau"),
    }


def scalar() -> dict:
    """dr/dt = -r + w r + b + x: the exact sensitivities beside those of the leak alone."""
    experiment = Experiment("scalar")
    problem, options = experiment.problem, experiment.solver
    w, b = (float(np.ravel(experiment.field.parameters[name])[0]) for name in ("W", "b"))
    t = np.linspace(*problem.t_span, 401)
    r0 = float(problem.r0[0])

    def sensitivities(recurrent: str) -> np.ndarray:
        """p_w and p_b (T, 2), integrated beside r; ``recurrent`` stands for w in the term w p."""
        field = ctrnn.Equations(
            {
                "r": "-r + w*r + b + x",
                "p_w": f"-p_w + {recurrent}*p_w + r",
                "p_b": f"-p_b + {recurrent}*p_b + 1",
            },
            parameters={"w": w, "b": b},
            inputs=("x",),
        )
        beside = ctrnn.Problem(field, r0=[r0, 0.0, 0.0], t_span=problem.t_span, x=experiment.x)
        return ctrnn.simulate(beside, save_at=t, **options).r[:, 1:]

    p_exact, p_leak = sensitivities("w"), sensitivities("0")
    comparison = ctrnn.compare_gradients(problem, methods=gradient_methods(experiment.spec, "compare"), **options)
    print(comparison)
    return {
        "exact-versus-leak-only": plotting.exact_versus_leak_only(
            t, p_exact, p_leak, time_label=experiment.spec.figures.time
        ),
        "gradient-agreement": plotting.gradient_agreement(comparison),
    }


def inverse() -> dict:
    """The division-free inverse: every method on a symmetric A of condition 30; Euler's step, bits and noise on J at
    the rest of 64 units."""
    from ctrnn import inverse as division

    network = ctrnn.RateNetwork(64, gain=0.8, seed=3).with_parameters(b=np.linspace(-0.5, 0.5, 64))
    rest = ctrnn.find_equilibrium(network, np.zeros(64))
    J, a = rest.jacobian, np.random.default_rng(0).normal(size=64)
    methods = {
        "flow (Euler)": "flow",
        "flow (rk4)": division.Flow("rk4"),
        "chebyshev": "chebyshev",
        "gradient-flow": "gradient-flow",
        "newton-schulz": "newton-schulz",
        "hyperpower (5)": division.Hyperpower(5),
        "neumann (20)": division.Neumann(20),
        "gmres": "gmres",
        "lu": "lu",
    }
    Q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 64)))
    ill = -(Q * np.logspace(0.0, np.log10(30.0), 64)) @ Q.T  # symmetric, of condition 30
    results = {name: division.right_divide(a, ill, method) for name, method in methods.items()}
    print("\n".join(map(str, results.values())))
    bound = division.right_divide(a, J).condition.step_bound
    observed = []
    for part in (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95):
        run = division.right_divide(a, J, step=part * bound)
        late = (run.residual < 1e-6) & (run.residual > 1e-12)
        slope = np.polyfit(run.residual_at[late], np.log(run.residual[late]), 1)[0]
        observed.append((part * bound, float(np.exp(slope))))
    bits = [division.word_length(a, J, method) for method in ("flow", "gradient-flow", "newton-schulz")]
    levels = np.logspace(-5, -1.5, 8)
    noise = [
        division.device_noise(a, J, method, levels=levels) for method in ("flow", "gradient-flow", "newton-schulz")
    ]
    noise.append(division.device_noise(a, J, "flow", levels=levels, kind="mismatch"))
    print("\n\n".join(map(str, [*bits, *noise])))
    return {
        "convergence": plotting.inverse_convergence(results),
        "step-bound": plotting.euler_step(rest.eigenvalues, observed, time_unit="tau"),
        "bits": plotting.hardware_error(bits, noise),
    }


def rest() -> dict:
    """At rest: one-phase relaxation; digits classified by where 200 units settle, learnt by the flow and by LU; stored
    images recalled."""
    import torch
    from torch import nn

    from ctrnn.learning import rest_tasks as tasks

    torch.set_num_threads(1)
    rng = np.random.default_rng(3)
    network = ctrnn.RateNetwork(10).with_parameters(W=rng.normal(size=(10, 10)) * 0.6 / 10**0.5, b=rng.normal(size=10))
    point = ctrnn.find_equilibrium(network, np.zeros(10))
    y = rng.normal(size=10)
    exact = ctrnn.equilibrium_gradient(network, point, point.r - y, "lu").vector
    runs = {}
    for name, start in (("r and V from 0", np.zeros(10)), ("r at rest, V from 0", point.r)):
        run = ctrnn.one_phase(
            network, start, lambda r: r - y, 25.0 / -point.abscissa, points=201, rtol=1e-12, atol=1e-15
        )
        runs[name] = (run, run.errors(exact))
        print(f"{name}: error decays at {run.decay_rate(exact):.5g}, max Re λ(J) = {point.abscissa:.5g}")

    images = tasks.digits()
    curves = []
    for method in ("flow", "lu"):
        torch.manual_seed(0)
        layer = ctrnn.RestLayer(ctrnn.RateNetwork(200, inputs=64, gain=0.5, seed=0), inverse=method)
        readout = nn.Linear(200, 10, dtype=torch.float64)

        def accuracy(model: Callable) -> float:
            return float((model(images.x_test).argmax(1) == images.y_test).double().mean())

        data = (images.x, images.y)
        curves.append(tasks.train_at_rest(layer, readout, data, nn.functional.cross_entropy, accuracy, epochs=6))
        print(curves[-1])
    apart = np.abs(curves[0].loss - curves[1].loss) / curves[1].loss
    print(
        f"the losses of flow and LU are apart by {apart.max():.1e}, relative; scores by "
        f"{np.abs(curves[0].score - curves[1].score).max():.1e}"
    )

    memory = ctrnn.RestLayer(ctrnn.RateNetwork(100, inputs=64, gain=0.5, seed=0))
    shown, stored = tasks.memories(images, copies=1, seed=2)

    class Visible(nn.Module):
        """The first 64 units are the image."""

        def forward(self, r: torch.Tensor) -> torch.Tensor:
            return r[:, :64]

    def error(model: Callable) -> float:
        return float((model(shown) - stored).square().mean() / stored.square().mean())

    training = tasks.memories(images, copies=40, seed=1)
    # without the penalty the memory loses its stability after some thirty epochs
    options = {"epochs": 25, "batch": 64, "penalty": 1.0}
    print(tasks.train_at_rest(memory, Visible(), training, nn.functional.mse_loss, error, **options))
    with torch.no_grad():
        settled = memory(shown)[:, :64]
    pictures = [(part[:20:2] + images.mean).numpy() for part in (shown, settled, stored)]
    return {
        "one-phase": plotting.one_phase(runs, point.abscissa, time_label="t (tau)"),
        "learning": plotting.learning_at_rest(curves),
        "recall": plotting.recalled(*pictures),
    }


EXPERIMENTS = {"hare_lynx": hare_lynx, "limit_cycle": limit_cycle, "scalar": scalar, "inverse": inverse, "rest": rest}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in EXPERIMENTS]
    if unknown:
        print(f"no such experiment: {unknown[0]}; there are {', '.join(EXPERIMENTS)}")
        return 2
    for name in names or EXPERIMENTS:
        begin = perf_counter()
        for kind, figure in EXPERIMENTS[name]().items():
            path = FOLDER / f"{name.replace('_', '-')}-{kind}.png"
            plotting.save(figure, path)
            print(path.relative_to(FOLDER.parent))
        print(f"{name}: {perf_counter() - begin:.1f} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
