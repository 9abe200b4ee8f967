"""``ctrnn cycle``: the limit cycle that the run comes near."""

from __future__ import annotations

import numpy as np

import ctrnn
from ctrnn.cli.job import Job, experiment_command, save_npz


def cycle(job: Job) -> None:
    """A limit cycle: its period, Floquet multipliers, stability and phase response."""
    experiment = job.experiment
    spec, problem = experiment.spec.cycle, job.problem
    with experiment.at("cycle", problem=("problem",), x=("inputs",)):
        found = ctrnn.analysis.limit_cycle(problem.replace(objective=None), period=spec.period if spec else None)
    job.results["cycle"] = found
    arrays = {"t": found.t, "r": found.r, "phase_response": found.phase_response, "multipliers": found.multipliers}
    save_npz(job.path("cycle.npz"), **arrays)
    job.summary["cycle"] = {
        "period": found.period,
        "error": found.error,
        "stable": found.stable,
        "multipliers": found.multipliers,
        "exponents": found.exponents,
        "amplitude": dict(zip(problem.field.state_names, found.amplitude, strict=True)),
    }
    rows = [
        (k + 1, f"{m.real:.8g}" if not m.imag else f"{m.real:.8g} {m.imag:+.8g}i", float(np.abs(m)))
        for k, m in enumerate(found.multipliers[:8])
    ]
    kind = "stable" if found.stable else "unstable"
    job.table(f"{kind} limit cycle, period {found.period:.12g}", ("", "multiplier", "modulus"), rows)


command = experiment_command("cycle")(cycle)
