"""``ctrnn run``: every step that the experiment file asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ctrnn.cli.compare import compare
from ctrnn.cli.continuation import continuation
from ctrnn.cli.cycle import cycle
from ctrnn.cli.equilibrium import equilibrium
from ctrnn.cli.fit import fit
from ctrnn.cli.fixed_points import fixed_points
from ctrnn.cli.gradient import gradient
from ctrnn.cli.job import Job, experiment_command
from ctrnn.cli.learn import learn
from ctrnn.cli.lyapunov import lyapunov
from ctrnn.cli.portrait import portrait
from ctrnn.cli.simulate import simulate
from ctrnn.cli.train import train

STEPS: dict[str, Callable[[Job], None]] = {
    step.__name__: step
    for step in (simulate, gradient, compare, fit, equilibrium, fixed_points, portrait, cycle, lyapunov, train, learn)
}
STEPS["continue"] = continuation


def run(job: Job) -> None:
    """Simulate, then what the file has a table for: from gradient to learn."""
    spec = job.experiment.spec
    if spec.title:
        job.console.print(spec.title, markup=False)
        job.console.print()
    for name in job.steps:
        STEPS[name](job)
    job.table(f"summary of {job.experiment.name}", ("step", "result"), list(_summary(job)))


def _summary(job: Job) -> Iterator[tuple[str, str]]:
    """One line a step."""
    results = job.results
    if "run" in results:
        yield "simulate", str(results["run"].stats)
    if "gradient" in results:
        yield "gradient", f"loss {results['gradient'].loss:.8g} by {results['gradient'].method}"
    if "comparison" in results:
        rows = [row for row in results["comparison"] if not row.is_reference]
        text = "digits: " + "; ".join(f"{row.method} {row.digits:.1f}" for row in rows if row.gradient is not None)
        failed = [row.method for row in rows if row.gradient is None]
        yield "compare", f"{text}. Failed: {'; '.join(failed)}" if failed else text
    for name, one in results.get("fits", {}).items():
        squares = job.summary["fit"][name].get("sum_of_squared_errors")
        text = f"loss {one.initial_loss:.8g} → {one.loss:.8g}"
        text += "" if squares is None else f"; SSE {squares:.6f}"
        yield f"fit by {name}", text if one.converged else f"{text}; not converged"
    if "equilibrium" in results:
        eq = results["equilibrium"]
        yield "equilibrium", eq.kind if "stable" in eq.kind else f"{eq.kind}, {'stable' if eq.stable else 'not stable'}"
    if "fixed_points" in results:
        table = results["fixed_points"]
        kinds = {kind: int((table.kind == kind).sum()) for kind in sorted(set(table.kind))}
        yield "fixed points", ", ".join(f"{count} × {kind}" for kind, count in kinds.items()) or "none"
    if "portrait" in results and results["portrait"].basins is not None:
        shares = results["portrait"].basins.shares
        yield "basins", ", ".join(f"{share:.1%}" for share in shares) or "none"
    if "branches" in results:
        points = [point for branch in results["branches"] for point in branch.special]
        yield "continue", ", ".join(f"{p.kind} at {p.parameter:.6g}" for p in points) or "no special points"
    if "cycle" in results:
        yield "cycle", f"period {results['cycle'].period:.9g}, {'stable' if results['cycle'].stable else 'unstable'}"
    if "lyapunov" in results:
        found = results["lyapunov"].exponents
        shown = found[:, 0] if found.ndim == 2 else found  # the largest of each run, or all of one
        yield "lyapunov", ", ".join(f"{value:+.4g}" for value in shown[:6]) + (", …" if len(shown) > 6 else "")
    if "training" in results:
        done = results["training"]
        yield "train", f"loss {done.history['loss'][0]:.6g} → {done.best.loss:.6g}; {done.reason}"
    if "learning" in results:
        yield "learn", f"loss {results['learning'].loss[0]:.6g} → {results['learning'].loss[-1]:.6g}"


command = experiment_command("run")(run)
