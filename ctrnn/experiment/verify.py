"""All that some steps will use, built and tried before the first of them begins.

Names, shapes and formulas are checked where the parts are built. What a solver, a gradient or a fit refuses, they
refuse on a thousandth of the time span too: so they are tried there, against a target of zeros.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection
from typing import Any

import numpy as np

import ctrnn
from ctrnn.analysis.family import Family
from ctrnn.errors import CtrnnError, UsageError, nearest
from ctrnn.experiment.build import Experiment
from ctrnn.experiment.build_learning import prepared_learning
from ctrnn.experiment.build_objective import numbers_of
from ctrnn.experiment.build_training import prepared_training
from ctrnn.experiment.drawable import WITHOUT_PROBLEM, lacking, steps_of
from ctrnn.experiment.locate import KeyPath, LocatedError
from ctrnn.experiment.methods import gradient_method, gradient_methods
from ctrnn.experiment.relocate import blamed
from ctrnn.experiment.schema import FixedPointsSpec, Grid, LyapunovSpec, PortraitSpec

#: a fit that is only tried: one start, in one piece, with the observations as they are
_PLAIN = {"multistart": None, "shooting": False, "noise": "normal", "sigma": None, "max_iterations": 1}
TRIED = 1e-3  # of the time span


def verify(e: Experiment, steps: Collection[str]) -> None:
    """Check the experiment for these steps: those of ``steps_of``.

    Raises LocatedError at the key that is wrong, or at the ``--set`` without which the file is right.
    """
    try:
        _verify(e, steps)
    except LocatedError as error:
        raise blamed(error, e.overrides, lambda some: _verify(Experiment(e.path, some), steps)) from None


def _verify(e: Experiment, steps: Collection[str]) -> None:
    for step in ("gradient", "compare", "fit"):
        if step in steps:
            e.require("objective", "for the gradient" if step == "gradient" else f"for the step {step}")
    for step in ("compare", "fit"):
        if step in steps:
            e.require(step)
    if "train" in steps:
        with e.at("train"):
            prepared_training(e)
    if "learn" in steps:
        prepared_learning(e)
    if set(steps) <= WITHOUT_PROBLEM:
        return
    _ = e.problem
    _solver(e)
    if "gradient" in steps:
        (method,) = gradient_methods(e.spec, "gradient")
        _gradient(e, method, ("gradient", "method"))
    if "compare" in steps and e.spec.compare and e.spec.compare.reference:
        _gradient(e, gradient_method(e.spec.compare.reference), ("compare", "reference"))
    if "fit" in steps:
        _fit(e)
    if "equilibrium" in steps:
        _ = e.guess, e.held
    if "fixed_points" in steps:
        _fixed_points(e)
    if "portrait" in steps:
        _portrait(e)
    if "continue" in steps:
        _continue(e)
    if "lyapunov" in steps and e.spec.lyapunov and (e.spec.lyapunov.k or 1) > e.field.n:
        raise e.fault(("lyapunov", "k"), allowed=f"a number of exponents, at most {e.field.n}")
    if "lyapunov" in steps and e.spec.lyapunov:
        _against(e, e.spec.lyapunov)
    _figures(e)


def _against(e: Experiment, spec: LyapunovSpec) -> None:
    """The parameter that varies, and its values."""
    if (spec.parameter is None) != (spec.values is None):
        lacks = "values" if spec.values is None else "parameter"
        raise e.fault(("lyapunov", lacks), allowed="parameter and values together, or neither")
    if spec.parameter is not None:
        with e.at("lyapunov"):
            Family(e.field, (spec.parameter,), e.held["x"])
    if isinstance(spec.values, Grid):
        numbers_of(e, spec.values, ("lyapunov", "values"))


def _solver(e: Experiment) -> None:
    short = _short(e)
    with e.solving():
        _try(ctrnn.simulate, short, save_at=list(short.t_span), **e.limited_solver)


def _gradient(e: Experiment, method: Any, key: KeyPath) -> None:
    if method != "central-difference":  # it takes any solver and field, and its time
        with e.solving(method=key, memory=(*key, "memory")):
            _try(ctrnn.gradient, _short(e), method=method, **e.limited_solver)


def _fit(e: Experiment) -> None:
    options: dict[str, Any] = e.fit_options
    options["prior"] = {name: prior for name, prior in options["prior"].items() if name != "sigma"}
    short = _short(e) if e.spec.objective else None
    for method in gradient_methods(e.spec, "fit"):
        with e.solving(
            "fit", method=("fit", "methods") if e.spec.fit and e.spec.fit.methods else ("gradient", "method")
        ):
            _try(ctrnn.learning.fit, short, method=method, **options | _PLAIN)


def _fixed_points(e: Experiment) -> None:
    """The box, with a pair for each state, and the inputs."""
    spec = e.spec.fixed_points or FixedPointsSpec()
    _ = e.held
    _box(e, ("fixed_points", "box"), spec.box, (1, e.field.n))
    size = e.field.input_size
    for k, one in enumerate(spec.x or []):
        if len(one) != size:
            allowed = f"one number for each input ({size})" if size else "no key x: the field has no inputs"
            raise e.fault(("fixed_points", "x", k), allowed=allowed)


def _portrait(e: Experiment) -> None:
    """The two states, and their box."""
    spec = e.spec.portrait or PortraitSpec()
    _ = e.held
    if e.field.n < 2:
        raise e.fault(("portrait",), allowed="a field of two states or more", given="a field of one state")
    names = e.field.state_names
    for k, name in enumerate(spec.states or []):
        if name not in names:
            path: KeyPath = ("portrait", "states", k)
            raise e.fault(path, given=name, allowed=", ".join(names[:12]), hint=nearest(name, names))
    if spec.states and spec.states[0] == spec.states[1]:
        raise e.fault(("portrait", "states"), allowed="two different states")
    _box(e, ("portrait", "box"), spec.box, (2,))
    if spec.basins and not (spec.states or e.field.n == 2):
        raise e.fault(("portrait", "basins"), allowed="basins with portrait.states, which name the plane")


def _box(e: Experiment, path: KeyPath, box: Any, lengths: tuple[int, ...]) -> None:
    if box is None:
        return
    if len(box) not in lengths:
        raise e.fault(path, allowed=f"[low, high] for {' or '.join(str(n) for n in lengths)} of the states")
    for k, (low, high) in enumerate(box):
        if not low < high:
            raise e.fault((*path, k), allowed="[low, high] with low < high")


def _continue(e: Experiment) -> None:
    """The parameters' names, spans that hold their values, and the state that is drawn."""
    spec = e.require("continue")
    if (spec.second is None) != (spec.second_span is None):
        there, lacks = ("second", "second_span") if spec.second_span is None else ("second_span", "second")
        raise e.fault(("continue", there), allowed=f"together with {lacks}")
    with e.at("continue"):
        (start,) = Family(e.field, (spec.parameter,), e.held["x"]).start
    _holds(e, "span", spec.span, spec.parameter, start)
    if spec.second is not None:
        with e.at("continue", second=("continue", "second")):
            (other,) = Family(e.field, (spec.second,), e.held["x"], argument="second").start
            Family(e.field, (spec.parameter, spec.second), e.held["x"], argument="second")
        _holds(e, "second_span", spec.second_span or [], spec.second, other)
    if spec.state is not None and spec.state not in e.field.state_names:
        raise e.fault(("continue", "state"), allowed=", ".join(e.field.state_names[:12]))


def _holds(e: Experiment, key: str, span: list[float], parameter: str, value: float) -> None:
    low, high = span
    if not (low < high and low <= value <= high):
        allowed = f"[low, high] that holds {value:g}, the value of {parameter} here"
        raise e.fault(("continue", key), allowed=allowed)


def _figures(e: Experiment) -> None:
    """Pictures that the file lists and cannot have, and labels of nothing."""
    for k, kind in enumerate(e.spec.figures.show or []):
        lacks = lacking(e, kind, steps_of(e.spec))
        if lacks:
            raise e.fault(("figures", "show", k)).saying(f"{kind} cannot be drawn: it takes {lacks}")
    known = [*e.field.state_names, *e.field.input_names, *e.output_names, *e.field.parameter_names]
    for name in e.spec.figures.labels:
        if name not in known:
            allowed = ", ".join(dict.fromkeys(known[:12]))
            raise e.fault(("figures", "labels", name), given=name, allowed=allowed, hint=nearest(name, known))


def _short(e: Experiment) -> Any:
    """The problem over the first thousandth of its time, with the same outputs at the end of it."""
    t0, t1 = e.t_span
    end = t0 + TRIED * (t1 - t0)
    bound, objective = e.problem.objective, None
    if bound is not None:
        # the outputs at the start, nearly those at its end: a fit to others leads far away, where solving takes long
        first = np.broadcast_to(bound.output(np.atleast_2d(e.problem.r0)), (1, bound.output_size))
        target = np.where(np.isfinite(first), first, 0.0)
        objective = ctrnn.Objective(target=target, at=[end], readout=bound.objective.readout)
    return e.problem.replace(t_span=(t0, end), objective=objective)


def _try(call: Any, *arguments: Any, **options: Any) -> None:
    """Call; numbers that go wrong are for the real run to tell."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call(*arguments, **options)
        except UsageError:
            raise
        except CtrnnError:
            pass
