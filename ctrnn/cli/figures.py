"""The pictures of an experiment: each kind is drawn when the results it shows are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ctrnn.cli.job import Job

Drawn = Iterator[tuple[str, "Figure"]]  # file name without suffix, picture


def draw(job: Job) -> None:
    """Draw what [figures] lists, or all that the results give rise to, as PNG files."""
    from ctrnn import plotting

    listed = job.experiment.spec.figures.show
    for kind, figures in KINDS.items():
        if listed is None or kind in listed:
            for name, figure in figures(job):
                plotting.save(figure, job.path(f"{name}.png"))


def _trajectory(job: Job) -> Drawn:
    from ctrnn import plotting

    run = job.results.get("run")
    if run is not None:
        data = _observed(job)
        states = None if len(run.names) <= 6 else list(run.names[:6])
        every = data is not None and data[1].shape[1] == len(run.names)
        shown = data if every else None
        figure = plotting.trajectory(run, states=states, data=shown, time_label=_time(job))
        yield "trajectory", figure


def _phase_portrait(job: Job) -> Drawn:
    from ctrnn import plotting

    problem = _best(job)
    if problem.field.n != 2 or not ({"run", "fits", "equilibrium"} & set(job.results)):
        return
    data = _observed(job)
    whole = data is not None and data[1].shape[1] == 2
    yield (
        "phase-portrait",
        plotting.phase_portrait(
            _solve(job, problem),
            field=problem.field,
            equilibrium=job.results.get("equilibrium"),
            data=data[1] if data is not None and whole else None,
            x=problem.x(problem.t_span[0]) if problem.field.input_size else None,
        ),
    )


def _gradient_agreement(job: Job) -> Drawn:
    from ctrnn import plotting

    if "comparison" in job.results:
        yield "gradient-agreement", plotting.gradient_agreement(job.results["comparison"])


def _leak_only(job: Job) -> Drawn:
    """Sensitivities of a single unit, exact and without the path through its recurrent weight."""
    import ctrnn
    from ctrnn import plotting

    problem = job.experiment.problem
    methods = job.experiment.spec.compare.methods if job.experiment.spec.compare else []
    one_unit = "W" in problem.field.parameters and problem.field.n == 1
    if "comparison" not in job.results or not one_unit or "rflo" not in methods:
        return
    options = {"save_at": job.experiment.grid, **job.experiment.solver}
    exact = ctrnn.sensitivities(problem, **options)
    leak = ctrnn.sensitivities(problem, leak_only=True, **options)
    # the recurrent weight w and the bias b, the pair of the scalar example
    w_and_b = [exact.labels.index("W[0,0]"), exact.labels.index("b[0]")]
    p = exact.p[:, 0, w_and_b], leak.p[:, 0, w_and_b]
    yield "leak-only", plotting.exact_versus_leak_only(exact.t, *p)


def _read_out(job: Job) -> Drawn:
    """The outputs o = V r + c of the trained networks against their target."""
    from ctrnn import inputs, plotting

    fits = job.results.get("fits", {})
    outputs = {name: _output(job, one.problem) for name, one in fits.items()}
    problem = job.experiment.problem
    target = problem.objective.objective.target if fits else None
    if not fits or None in outputs.values() or not isinstance(target, inputs.Input):
        return
    if target.size == 2:
        t = job.experiment.grid
        yield "read-out", plotting.limit_cycle((t, target(t)), outputs)


def _output(job: Job, problem: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Times and outputs of a problem with a read-out."""
    readout = problem.objective.objective.readout
    if not hasattr(readout, "V"):
        return None
    run = _solve(job, problem)
    return run.t, readout(run.r)


def _fit(job: Job) -> Drawn:
    from ctrnn import plotting

    data = _observed(job)
    if "fits" in job.results and data is not None and job.experiment.data is not None:
        before, after = _solve(job, job.experiment.problem), _solve(job, _best(job))
        names = job.experiment.data.names
        yield "fit", plotting.fit(*data, before, after, names, time_label=_time(job))


def _fit_history(job: Job) -> Drawn:
    from ctrnn import plotting

    for k, one in enumerate(job.results.get("fits", {}).values()):
        yield "fit-history" if k == 0 else f"fit-history-{k + 1}", plotting.fit_history(one)


def _spectrum(job: Job) -> Drawn:
    from ctrnn import plotting

    if "equilibrium" in job.results:
        yield "spectrum", plotting.spectrum(job.results["equilibrium"].eigenvalues)


def _observed(job: Job) -> tuple[np.ndarray, np.ndarray] | None:
    """Times (K,) and values (K, p) of data whose columns are states."""
    table = job.experiment.data if job.experiment.data_are_states else None
    return None if table is None else (table.t, table.y)


def _time(job: Job) -> str:
    return job.experiment.spec.data.time if job.experiment.spec.data else "t"


def _best(job: Job) -> Any:
    """The fitted problem, or else the one of the file."""
    fits = job.results.get("fits")
    return next(iter(fits.values())).problem if fits else job.experiment.problem


def _solve(job: Job, problem: Any) -> Any:
    """The solution on a fine grid; that of the file is at hand after ``simulate``."""
    import ctrnn

    if problem is job.experiment.problem and "run" in job.results:
        return job.results["run"]
    return ctrnn.simulate(problem, save_at=job.experiment.grid, **job.experiment.solver)


KINDS: dict[str, Callable[[Job], Drawn]] = {
    "trajectory": _trajectory,
    "phase-portrait": _phase_portrait,
    "gradient-agreement": _gradient_agreement,
    "leak-only": _leak_only,
    "read-out": _read_out,
    "fit": _fit,
    "fit-history": _fit_history,
    "spectrum": _spectrum,
}
