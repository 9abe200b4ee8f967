"""Regenerates the figures in figures/ from the shipped experiments, by the public names alone.

    python scripts/figures.py                 all of them
    python scripts/figures.py hare_lynx       those of one experiment

Each experiment's figures show what its file says; the numbers are computed anew.
"""

from __future__ import annotations

import sys
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


EXPERIMENTS = {"hare_lynx": hare_lynx, "limit_cycle": limit_cycle, "scalar": scalar}


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
