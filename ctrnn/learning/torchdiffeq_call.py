"""What of torchdiffeq's call our solvers do not have, passed on to torchdiffeq itself; and its other two calls.

    odeint          methods, options, norms, callbacks, events and states that are torchdiffeq's own
    odeint_adjoint  with adjoint_* arguments; without them ours is exact for the steps taken
    odeint_event    the time of an event with its gradient, −(∂c/∂t + ∂c/∂y f)⁻¹ dc

(torchdiffeq: R. T. Q. Chen, 2018, github.com/rtqichen/torchdiffeq.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
import torchdiffeq

from ctrnn.errors import ConvergenceError, UsageError, one_of
from ctrnn.fields.base import Field
from ctrnn.fields.checks import as_mapping
from ctrnn.learning.torch_module import FieldModule, as_module
from ctrnn.numbers import flag, items, number, real_array
from ctrnn.solvers import tableaus

#: options of our solvers, and those that torchdiffeq alone has
OPTIONS = ("step_size", "min_step", "max_step", "first_step", "max_num_steps", "jump_t", "step_t")
THEIR_OPTIONS = ("norm", "perturb", "grid_constructor", "interp", "safety", "ifactor", "dfactor", "dtype", "solver",
                 "eps", "max_order", "max_iters", "implicit")  # fmt: skip
#: torchdiffeq's names of methods that we have under another one
SAME = {"heun2": "heun"}
#: all of its methods, its default, what it calls back, and the methods that know no jumps
THEIRS = (
    "dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun", "euler", "midpoint", "heun2", "heun3", "rk4",
    "explicit_adams", "implicit_adams", "fixed_adams", "scipy_solver", "implicit_euler", "implicit_midpoint",
    "trapezoid", "radauIIA3", "gl4", "radauIIA5", "gl6", "sdirk2", "trbdf2",
)  # fmt: skip
THEIR_DEFAULT = "dopri5"
CALLBACKS = ("callback_step", "callback_accept_step", "callback_reject_step")
NO_STEPS = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams", "fixed_adams",
            "scipy_solver")  # fmt: skip


def is_theirs(f: Any, y0: Any, method: Any, options: Any, event_fn: Any) -> bool:
    """Whether only torchdiffeq can do what is asked; raises UnknownNameError for an option that nobody has."""
    options = _known(options or {})
    states = y0 if isinstance(y0, tuple) else (y0,)
    tensors = [v for v in states if isinstance(v, torch.Tensor)]
    return (
        event_fn is not None
        or (isinstance(method, str) and method in THEIRS and not _is_ours(method))
        or any(name in THEIR_OPTIONS for name in options)
        or any(hasattr(f, name) for name in CALLBACKS)
        or any(v.is_complex() or v.device.type != "cpu" for v in tensors)
    )


def _known(options: Any) -> Any:
    for name in options if isinstance(options, Mapping) else ():
        one_of("options", name, OPTIONS + THEIR_OPTIONS)
    return options


def calls_back_on_the_way_back(f: Any) -> bool:
    """Whether f wants to be told of the steps of torchdiffeq's adjoint, which ours does not take."""
    return any(hasattr(f, f"{name}_adjoint") for name in CALLBACKS)


def _check(method: Any, why: str = "") -> None:
    """Raise UsageError for a method that the torchdiffeq that is installed does not have."""
    there = getattr(import_module("torchdiffeq._impl.odeint"), "SOLVERS", THEIRS)  # another release may hide it
    if not isinstance(method, str) or method not in there:
        is_newer = isinstance(method, str) and method in THEIRS
        hint = f"a newer torchdiffeq than {torchdiffeq.__version__}" if is_newer else ""
        raise UsageError("method", given=method, allowed=f"one of torchdiffeq's: {', '.join(there)}{why}", hint=hint)


def _checked(f: Any, y0: Any, rtol: Any, atol: Any, event_fn: Any) -> tuple[Any, Any]:
    """y0 and event_fn; raises UsageError for what torchdiffeq would answer with an assertion, or worse."""
    for name, function in (("f", f), ("event_fn", event_fn)):
        if not (callable(function) or isinstance(function, Field) or (name == "event_fn" and function is None)):
            raise UsageError(name, given=function, allowed="a function of (t, y)")
    states = y0 if isinstance(y0, tuple) else (y0,)
    if not states or not all(isinstance(v, torch.Tensor) for v in states):
        raise UsageError("y0", given=y0, allowed="a tensor, or a tuple of tensors")
    _checked_tolerances({"rtol": rtol, "atol": atol}, (len(y0),) if isinstance(y0, tuple) else tuple(y0.shape))
    return y0, event_fn


def _checked_tolerances(given: Mapping[str, Any], shape: tuple[int, ...] | None = None) -> None:
    """Numbers, or as many as fit ``shape``: the state's, or one for each of several states."""
    for name, value in given.items():
        array = real_array(name, value.detach() if isinstance(value, torch.Tensor) else value)
        if not array.size or not np.isfinite(array).all() or (array < 0.0).any():
            raise UsageError(name, given=value, allowed="a tolerance, at least 0")
        if shape is not None:
            try:
                np.broadcast_to(array, shape)
            except ValueError as error:
                raise UsageError(name, given=f"shape {array.shape}", allowed=f"a number, or shape {shape}") from error


@contextmanager
def _told(f: Any, y0: Any, t: Any, event_fn: Any) -> Iterator[None]:
    """Errors of torchdiffeq in words: steps that have become too small, and functions that give no tensor."""
    try:
        yield
    except AssertionError as error:
        raise ConvergenceError(f"torchdiffeq gave up: {error}. Try: a looser tolerance, or a method of ours") from error
    except (TypeError, AttributeError) as error:
        for name, function in (("f", f), ("event_fn", event_fn)):
            given = None if function is None else function(t.reshape(-1)[0], y0)
            if function is not None and not isinstance(given, torch.Tensor | tuple):
                raise UsageError(name, given=f"a function that gives {given!r}", allowed="one of a tensor") from error
        raise


def _is_ours(method: str) -> bool:
    name = SAME.get(method, method)
    return name in tableaus.names() or name in ("bosh3", "dopri8")


def through_torchdiffeq(
    f: Any,
    y0: Any,
    t: Any,
    rtol: Any,
    atol: Any,
    method: Any,
    options: Any,
    event_fn: Any,
    adjoint: Mapping[str, Any] | None = None,
) -> Any:
    """torchdiffeq's odeint, or its odeint_adjoint where there are ``adjoint`` arguments, of fields too."""
    method = THEIR_DEFAULT if method is None else method
    _check(method, ", for what is asked beside it (event_fn, norm, callbacks …)")
    y0, event_fn = _checked(f, y0, rtol, atol, event_fn)
    options, dtype = dict(_known(as_mapping("options", {} if options is None else options))), None
    if isinstance(f, Field):
        f = as_module(f)
    if isinstance(f, FieldModule):
        if f.x is not None and f.x.breaks.size and method not in NO_STEPS:
            breaks = torch.from_numpy(f.x.breaks)
            options.setdefault("jump_t", breaks)
        if isinstance(y0, torch.Tensor) and y0.dtype != torch.float64:
            y0, dtype = y0.double(), y0.dtype
    if not isinstance(t, torch.Tensor):
        t = torch.from_numpy(real_array("t", t))
    if not t.numel():
        raise UsageError("t", given="no times", allowed="the time of the start, and others")
    call = torchdiffeq.odeint if adjoint is None else torchdiffeq.odeint_adjoint
    with_params = adjoint is None or isinstance(f, torch.nn.Module)
    adjoint = dict(adjoint or {})
    if adjoint.get("adjoint_params") is None and not with_params:
        raise UsageError("adjoint_params", given=None, allowed="tensors, for an f that is no torch.nn.Module")
    if adjoint.get("adjoint_params") is not None:
        adjoint["adjoint_params"] = tuple(items("adjoint_params", adjoint["adjoint_params"], "tensors"))
        if not all(isinstance(v, torch.Tensor) for v in adjoint["adjoint_params"]):
            raise UsageError("adjoint_params", given=adjoint["adjoint_params"], allowed="tensors")
    _checked_tolerances({k: v for k, v in adjoint.items() if k in ("adjoint_rtol", "adjoint_atol") and v is not None})
    with _told(f, y0, t, event_fn):
        found = call(
            f, y0, t, rtol=rtol, atol=atol, method=method, options=options or None, event_fn=event_fn, **adjoint
        )
    return found if dtype is None else tuple(v.to(dtype) for v in found) if event_fn else found.to(dtype)


def odeint_event(
    f: Any,
    y0: Any,
    t0: Any,
    *,
    event_fn: Callable[..., Any],
    reverse_time: bool = False,
    odeint_interface: Callable[..., Any] | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """Solve dy/dt = f(t, y) until event_fn(t, y) = 0, with gradients to and through the time at which it is.

    Parameters
    ----------
    f, y0
        As in `ctrnn.odeint`.
    t0 : tensor
        The start, a number.
    event_fn : callable
        c(t, y), a tensor; the run ends at its first zero.
    reverse_time : bool
        Whether the run goes backwards from t0.
    odeint_interface : callable, optional
        What solves; torchdiffeq's odeint by default.
    **options
        rtol, atol, method (torchdiffeq's) and options, as in `ctrnn.odeint`.

    Returns
    -------
    tuple (t, y)
        The time of the event, and the states (2, ...) at t0 and there.

    Raises
    ------
    UsageError
        For a method that torchdiffeq has not.

    Notes
    -----
    torchdiffeq's call of this name (R. T. Q. Chen et al., Learning neural event functions, 2021). Events with resets,
    compiled: `ctrnn.Event`.

    Examples
    --------
    >>> import ctrnn
    >>> k = torch.tensor(2.0, requires_grad=True)
    >>> t, y = odeint_event(lambda t, y: -k * y, torch.ones(1), torch.tensor(0.0), event_fn=lambda t, y: y[0] - 0.5)
    >>> t.backward()  # t = log(2)/k
    >>> bool(abs(t - 0.5 * torch.log(torch.tensor(2.0))) < 1e-5), bool(abs(k.grad + t / k) < 1e-5)
    (True, True)
    """
    if isinstance(f, Field):
        f = as_module(f)
    solve = torchdiffeq.odeint if odeint_interface is None else odeint_interface
    method = options.pop("method", None) or THEIR_DEFAULT
    _check(method)
    if not callable(solve):
        raise UsageError("odeint_interface", given=odeint_interface, allowed="a function, as odeint")
    y0, event_fn = _checked(f, y0, options.get("rtol", 1e-7), options.get("atol", 1e-9), event_fn)
    if event_fn is None:
        raise UsageError("event_fn", given=None, allowed="a function c(t, y)")
    if not isinstance(t0, torch.Tensor):
        t0 = torch.tensor(number("t0", t0), dtype=torch.float64)
    reverse_time = flag("reverse_time", reverse_time)
    with _told(f, y0, t0, event_fn):
        try:
            return torchdiffeq.odeint_event(  # type: ignore[no-any-return]
                f,
                y0,
                t0,
                event_fn=event_fn,
                reverse_time=reverse_time,
                odeint_interface=solve,
                method=method,
                **options,
            )
        except TypeError as error:
            if odeint_interface is None:
                raise
            given = f"a function that breaks off: {error}"
            raise UsageError("odeint_interface", given=given, allowed="one that takes what odeint does") from error
