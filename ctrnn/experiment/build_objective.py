"""The objective from its table in an experiment file: what is observed, when, and against what."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import ctrnn
from ctrnn.errors import nearest
from ctrnn.experiment.build_signals import signal
from ctrnn.experiment.locate import KeyPath
from ctrnn.experiment.schema import Grid, ObjectiveSpec
from ctrnn.experiment.schema_train import ReadoutSpec
from ctrnn.experiment.values import Section
from ctrnn.memory import claim

if TYPE_CHECKING:
    from ctrnn.experiment.build import Experiment


def objective(e: Experiment) -> Any:
    """The :class:`ctrnn.Objective` or :class:`ctrnn.EventObjective` of [objective], or None."""
    spec = e.spec.objective
    if spec is None:
        return None
    if spec.event is not None:
        return _at_events(e, spec)
    if spec.occurrences is not None:
        raise e.fault(("objective", "occurrences"), allowed="none without the key event")
    if spec.target is not None and spec.loss not in ctrnn.Objective.NAMED:
        meant = nearest(spec.loss, ctrnn.Objective.NAMED)
        if meant:
            allowed = f"{', '.join(ctrnn.Objective.NAMED)}, or, without target, an expression in the states"
            raise e.fault(("objective", "loss"), allowed=allowed, hint=meant)
        allowed = f"no target: the loss {spec.loss!r} is an expression"
        raise e.fault(
            ("objective", "target"),
            allowed=allowed,
            hint=f"remove target, or loss = {' or '.join(ctrnn.Objective.NAMED)}",
        )
    at = _times(e, spec)
    weight: Any = spec.weight
    if isinstance(weight, Section):
        weight = signal(e, weight, ("objective", "weight"))
    target, readout = _target(e, spec, at), _readout(e, spec)
    with e.at("objective"):
        return ctrnn.Objective(spec.loss, target, at, weight, readout, spec.missing)


def _at_events(e: Experiment, spec: ObjectiveSpec) -> Any:
    """The objective at an event: its ``loss`` is an expression, its target and weight are numbers."""
    for key in ("at", "readout", "missing"):
        if getattr(spec, key) not in (None, "refuse"):
            raise e.fault(("objective", key), allowed="none beside the key event: the loss is taken at the event")
    if spec.loss in ctrnn.Objective.NAMED:
        allowed = "an expression, of which a target takes the squared distance"
        raise e.fault(("objective", "loss"), allowed=allowed, hint='loss = "t" for the time of the event')
    for key in ("target", "weight"):
        value = getattr(spec, key)
        rows = value if isinstance(value, list) else [value]
        if isinstance(value, str) or any(isinstance(v, (Section, list)) for v in rows):
            raise e.fault(("objective", key), allowed="a number, or one for each occurrence")
    with e.at("objective"):
        return ctrnn.EventObjective(spec.loss, spec.target, spec.weight, spec.event, spec.occurrences)


MOST_TIMES = 10_000_000  # a solver steps onto each of them


def _times(e: Experiment, spec: ObjectiveSpec) -> NDArray[np.float64] | None:
    """The observation times (K,), or None for an integral."""
    if spec.at is None:
        return None
    if spec.at == "data":
        return e.table(("objective", "at")).t
    if isinstance(spec.at, Grid):
        return numbers_of(e, spec.at, ("objective", "at"))
    return np.array(spec.at)


def numbers_of(e: Experiment, grid: Grid, path: KeyPath) -> NDArray[np.float64]:
    """The numbers of a grid that stands at ``path``."""
    start, stop, step = grid.start, grid.stop, grid.step
    if stop < start:
        raise e.fault((*path, "stop"), allowed=f"a number from start = {start:g} on")
    if not (stop - start) / step < MOST_TIMES:
        raise e.fault((*path, "step"), allowed=f"a step that gives at most {MOST_TIMES:,} numbers")
    count = int(np.floor((stop - start) / step + 1e-9)) + 1
    claim(str(path[-1]), 32.0 * count)
    return np.minimum(start + step * np.arange(count, dtype=float), stop)


def _target(e: Experiment, spec: ObjectiveSpec, at: NDArray[np.float64] | None) -> Any:
    """What the output should be: a signal, an array (K, p), or None."""
    target = spec.target
    if isinstance(target, Section) or (isinstance(target, list) and isinstance(target[0], Section)):
        return signal(e, target, ("objective", "target"))
    if isinstance(target, list):
        return np.array(e.rectangular(target, ("objective", "target")))
    if target != "data":
        return target
    table = e.table(("objective", "target"))
    states = _states(spec)
    if states is not None:
        for state in states:
            if state not in table.names:
                allowed = "states that [data] has a column for: " + ", ".join(table.names)
                raise e.fault(("objective", "readout"), given=state, allowed=allowed)
        table = replace(table, y=table.y[:, [table.names.index(state) for state in states]])
    if at is None:
        if np.isnan(table.y).any():
            raise e.fault(("objective", "missing"), allowed='"refuse", for an integral', hint='at = "data"')
        return ctrnn.inputs.Sampled(table.t, table.y, kind="linear")
    rows = np.minimum(np.searchsorted(table.t, at), len(table.t) - 1)
    if np.any(table.t[rows] != at):
        raise e.fault(("objective", "at"), allowed='"data", or times that are in the data')
    return table.y[rows]


def _readout(e: Experiment, spec: ObjectiveSpec) -> Any:
    """How the output o is read from r."""
    readout = spec.readout
    if readout is None and spec.target == "data" and e.data_are_states:
        # the data may have columns for some of the states only
        observed = e.table(("objective", "target")).names
        return None if observed == tuple(e.field.state_names) else list(observed)
    return readout_of(e, readout, ("objective", "readout"))


def readout_of(e: Experiment, readout: Any, path: KeyPath) -> Any:
    """A read-out that is a table, given or drawn; names of states as they are."""
    if not isinstance(readout, ReadoutSpec):
        return readout
    if (readout.V is None) == (readout.size is None):
        raise e.fault(path, allowed="either V, or size with a seed")
    if readout.V is not None:
        V = np.array(e.rectangular(readout.V, (*path, "V")))
    else:
        generator = np.random.default_rng(readout.seed)
        V = generator.normal(0.0, e.field.n**-0.5, (readout.size or 0, e.field.n))
    with e.at(*path):
        return ctrnn.Readout(V, np.zeros(len(V)) if readout.c is None else readout.c, activation=readout.activation)


def _states(spec: ObjectiveSpec) -> list[str] | None:
    """The states that the file names as read-out."""
    if isinstance(spec.readout, str):
        return [spec.readout]
    return spec.readout if isinstance(spec.readout, list) else None
