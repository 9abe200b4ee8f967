"""The pictures of an experiment: each kind is drawn when the results it shows are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

import ctrnn
from ctrnn.errors import CtrnnError
from ctrnn.experiment.boxes import around
from ctrnn.experiment.drawable import PANELS, lacking, repeats
from ctrnn.plotting.curve import curve
from ctrnn.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ctrnn.cli.job import Job

#: so many samples of a long run are drawn, the last of them
SAMPLES = 3000
Drawn = Iterator[tuple[str, "Figure"]]  # file name without suffix, picture


def draw(job: Job) -> None:
    """Draw what [figures] lists, or all that the results give rise to, but nothing twice."""
    spec = job.experiment.spec.figures
    listed = spec.show
    for kind, figures in KINDS.items():
        if kind not in listed if listed is not None else repeats(job.experiment, kind, job.steps):
            continue
        lacks = lacking(job.experiment, kind, job.steps)
        if not lacks:
            for name, figure in figures(job):
                ctrnn.plotting.save(figure, job.path(f"{name}.{spec.format}"))
        elif listed is not None:
            job.console.print(f"figure {kind} not drawn here: it takes {lacks}", markup=False)


def _trajectory(job: Job) -> Drawn:
    run, problem = job.results["run"], job.experiment.problem
    many = len(run.names) > PANELS
    # points only where each drawn state has a column
    points = None if many else _points(job)
    whole = points is not None and points[2] == tuple(run.names)
    said = [f"{PANELS} of {len(run.names)} {'units' if 'W' in problem.field.parameters else 'states'}"] if many else []
    said += ["before the fit"] if "fits" in job.results else []
    yield (
        "trajectory",
        ctrnn.plotting.trajectory(
            run,
            states=list(run.names[:PANELS]) if many else None,
            data=points[:2] if points is not None and whole else None,
            x=problem.x,
            input_names=problem.field.input_names,
            labels=_labels(job),
            time_label=_time(job),
            data_label=_word(job),
            title=", ".join(said),
        ),
    )


def _paths(job: Job) -> Drawn:
    yield "paths", ctrnn.plotting.paths(job.results["paths"], labels=_labels(job), time_label=_time(job))


def _phase_portrait(job: Job) -> Drawn:
    problem, fits = job.problem, job.results.get("fits")
    points = _points(job)
    whole = points is not None and points[2] == tuple(problem.field.state_names)
    yield (
        "phase-portrait",
        ctrnn.plotting.phase_portrait(
            _solve(job, problem),
            field=problem.field,
            equilibrium=job.results.get("equilibrium"),
            data=points[1] if points is not None and whole else None,
            x=job.experiment.held["x"],
            label="solution, fitted" if fits else "solution",
            labels=_labels(job),
        ),
    )


def _gradient_agreement(job: Job) -> Drawn:
    yield "gradient-agreement", ctrnn.plotting.gradient_agreement(job.results["comparison"])


def _leak_only(job: Job) -> Drawn:
    """Sensitivities of a single unit, exact and without the path through its recurrent weight."""
    problem = job.experiment.problem
    options = {"save_at": job.experiment.grid, **job.experiment.solver}
    exact = ctrnn.sensitivities(problem, **options)
    leak = ctrnn.sensitivities(problem, leak_only=True, **options)
    # the recurrent weight w and the bias b, the pair of the scalar example
    w_and_b = [exact.labels.index("W[0,0]"), exact.labels.index("b[0]")]
    p = exact.p[:, 0, w_and_b], leak.p[:, 0, w_and_b]
    yield "leak-only", ctrnn.plotting.exact_versus_leak_only(exact.t, *p, time_label=_time(job))


def _read_out(job: Job) -> Drawn:
    """The two outputs o = V r + c of each trained network against their target, in the plane and in time."""
    e = job.experiment
    outputs = {}
    for name, one in job.results["fits"].items():
        run = curve(job.results["fitted"][name])
        outputs[name] = run.t, one.problem.objective.output(run.r)
    target = e.problem.objective.objective.target
    points = _points(job)
    if isinstance(target, ctrnn.inputs.Input):
        t = e.grid
        aim = t, target(t)
    elif points is not None:
        aim = points[:2]
    else:  # one number, or a pair, for all times
        aim = e.grid, np.broadcast_to(target, (len(e.grid), 2))
    names = [_labels(job).get(name, name) for name in e.output_names]
    figure = ctrnn.plotting.limit_cycle(aim, outputs, names=(names[0], names[1]), time_label=_time(job))
    yield "read-out", figure


def _fit(job: Job) -> Drawn:
    """The outputs before and after the fit, and what they were fitted to."""
    times = job.experiment.problem.objective.event_times
    if times is not None:
        yield "fit", _event_fit(job, times)
        return
    points = _points(job)
    if points is None:
        return
    t, y, names = points

    def outputs(problem: Any) -> Any:
        run = curve(_solve(job, problem))
        return Trajectory(run.t, problem.objective.output(run.r), names)

    before, after = outputs(job.experiment.problem), outputs(job.problem)
    words: dict[str, Any] = {"time_label": _time(job), "labels": _labels(job), "data_label": _word(job)}
    yield "fit", ctrnn.plotting.fit(t, y, before, after, names, bands=_bands(job, job.experiment.grid), **words)


def _event_fit(job: Job, times: np.ndarray) -> Figure:
    """The times of events before and after the fit, and the fitted states."""
    before = job.experiment.problem
    event = before.objective.number([event.event.label for event in before.events])
    runs = _solve(job, before), _solve(job, job.problem)
    return ctrnn.plotting.event_fit(times, *runs, event, time_label=_time(job), labels=_labels(job))


def _bands(job: Job, t: Any) -> Any:
    """The uncertainty of the fitted curve, where the fit has standard errors."""
    one = next(iter(job.results["fits"].values()))
    if one.errors_or_why[0] is None:
        return None
    try:
        return one.bands(t)
    except CtrnnError:
        return None


def _fit_history(job: Job) -> Drawn:
    label = job.experiment.spec.figures.loss
    yield "fit-history", ctrnn.plotting.fit_history(job.results["fits"], label=label)


def _spectrum(job: Job) -> Drawn:
    unit = job.experiment.spec.figures.time_unit or ""
    yield "spectrum", ctrnn.plotting.spectrum(job.results["equilibrium"].eigenvalues, time_unit=unit)


def _fixed_points(job: Job) -> Drawn:
    """The points where they lie: on the line, in the plane, or on the principal components of the run."""
    table, field = job.results["fixed_points"], job.problem.field
    run = _solve(job, job.problem)
    if field.n == 1:
        some = table if len(table) == 0 else table.at(table.x[0])
        x = some.x[0] if len(some) else job.experiment.held["x"]
        yield "fixed-points", ctrnn.plotting.phase_line(field, points=some, run=run, x=x, labels=_labels(job))
    elif field.n == 2:
        some = table if len(table) == 0 else table.at(table.x[0])
        x = some.x[0] if len(some) else job.experiment.held["x"]
        box = around(np.concatenate([run.r, *[row.r[None] for row in some]]))
        figure = ctrnn.plotting.portrait(field, box, points=some, runs=run, x=x, labels=_labels(job))
        yield "fixed-points", figure
    elif len(run.t) > 2:
        yield "fixed-points", ctrnn.plotting.projection(run.r[-SAMPLES:], table)


def _portrait(job: Job) -> Drawn:
    found, field = job.results["portrait"], job.problem.field
    if found.box is None:
        yield "portrait", ctrnn.plotting.projection(found.runs, found.points)
        return
    figure = ctrnn.plotting.portrait(
        field, found.box, states=found.states, at=found.at, x=found.x, points=found.points, runs=found.runs,
        cycles=found.cycles, basins=found.basins, labels=_labels(job),
    )  # fmt: skip
    yield "portrait", figure


def _lyapunov(job: Job) -> Drawn:
    unit, found = job.experiment.spec.figures.time_unit or "", job.results["lyapunov"]
    if isinstance(found, ctrnn.analysis.LyapunovSpectra):
        yield "lyapunov", ctrnn.plotting.exponents_against(found, labels=_labels(job), time_unit=unit)
    else:
        yield "lyapunov", ctrnn.plotting.lyapunov(found, time_label=_time(job), time_unit=unit)


def _bifurcation(job: Job) -> Drawn:
    results, spec = job.results, job.experiment.require("continue")
    labels = _labels(job)
    figure = ctrnn.plotting.bifurcation_diagram(
        results["branches"], spec.state or 0, cycles=results["branches_of_cycles"], labels=labels
    )
    yield "bifurcation", figure


def _two_parameters(job: Job) -> Drawn:
    curves = job.results["curves"]
    if curves:
        yield "two-parameters", ctrnn.plotting.two_parameter_diagram(curves, labels=_labels(job))


def _cycle(job: Job) -> Drawn:
    yield "cycle", ctrnn.plotting.cycle(job.results["cycle"], labels=_labels(job), time_label=_time(job))


def _training(job: Job) -> Drawn:
    """Losses over the epochs, and the first trial that was not trained on, or else the first one."""
    done, shown, spec = job.results["training"], job.results["shown trial"], job.experiment.spec.figures
    labels = [_labels(job).get(name, name) for name in shown.names]
    words: dict[str, Any] = {"names": labels, "time_label": spec.time or shown.time_label, "label": spec.loss}
    yield "training", ctrnn.plotting.training(done, shown.t, shown.target, shown.output, **words)


def _learning(job: Job) -> Drawn:
    """The loss of a learner over its steps."""
    yield "learning", ctrnn.plotting.learning(job.results["learning"], label=job.experiment.spec.figures.loss)


def _points(job: Job) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None:
    """What the outputs are compared with: times (K,), values (K, p) and the names of the outputs.

    All rows of the data where they are the target, else the target at its times. Without an objective, data of states.
    """
    e = job.experiment
    bound, table = e.problem.objective, e.data
    if bound is None:
        return None if table is None or not e.data_are_states else (table.t, table.y, table.names)
    from_data = e.spec.objective is not None and e.spec.objective.target == "data"
    if from_data and table is not None and set(e.output_names) <= set(table.names):
        return table.t, table.y[:, [table.names.index(name) for name in e.output_names]], e.output_names
    if not bound.is_named or bound.times is None:
        return None
    return bound.times, np.asarray(bound.targets), e.output_names


def _word(job: Job) -> str:
    """What the points are: measured, or a target that the file makes up."""
    objective = job.experiment.spec.objective
    return "data" if objective is None or objective.target == "data" else "target"


def _labels(job: Job) -> dict[str, str]:
    return job.experiment.spec.figures.labels


def _time(job: Job) -> str:
    """The label of the time axis."""
    figures, data = job.experiment.spec.figures, job.experiment.spec.data
    if figures.time is None and figures.time_unit is not None:
        return f"t ({figures.time_unit})"
    return figures.time or (data.time if data else "t")


def _solve(job: Job, problem: Any) -> Any:
    """The solution on a fine grid."""
    found = job.at_hand(problem)
    return found or ctrnn.simulate(problem, save_at=job.experiment.grid, **job.experiment.limited_solver)


KINDS: dict[str, Callable[[Job], Drawn]] = {
    "trajectory": _trajectory,
    "paths": _paths,
    "phase-portrait": _phase_portrait,
    "gradient-agreement": _gradient_agreement,
    "leak-only": _leak_only,
    "read-out": _read_out,
    "fit": _fit,
    "fit-history": _fit_history,
    "spectrum": _spectrum,
    "fixed-points": _fixed_points,
    "portrait": _portrait,
    "bifurcation": _bifurcation,
    "two-parameters": _two_parameters,
    "cycle": _cycle,
    "lyapunov": _lyapunov,
    "training": _training,
    "learning": _learning,
}
