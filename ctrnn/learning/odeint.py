"""torchdiffeq's call with our solvers and gradients: y = odeint(f, y0, t), and torch's autograd goes through it.

    dy/dt = f(t, y),  y(t_0) = y0       ->  y(t_0), …, y(t_T−1)
    backward:  Λ jumps by the cotangent of y(t_k) at each t_k, and is pulled back through the recorded steps
               (ctrnn.kernels.pullback);  dl/dy0 = Λ at t_0,  dl/dw = its parameter part

The gradient is that of the steps taken, to round-off: what torch would give through them, without a graph of them.
Adaptive steps answer for it too: where they are too long for it, as at rest, the way back is that of finer ones.
Where the gradient itself is to be differentiated (``create_graph``), the recorded steps are taken again in torch.

Three kinds of f. A field, or a module from ``as_module``, runs compiled; each row of a batch y0 (..., n) is a trial
with steps of its own. Any other module or callable of torch is one state of y0's shape, as in torchdiffeq, so that it
may couple the rows; F is then a call of torch. A callable that closes over tensors with gradients is replayed in torch,
so these get theirs too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.module_call import ModuleCall
from ctrnn.fields.torch_field import TorchField
from ctrnn.inputs import Sampled
from ctrnn.learning.recorded_trial import Trial, record_trial, states
from ctrnn.learning.torch_module import FieldModule, as_module
from ctrnn.learning.torch_transforms import refuse_transforms
from ctrnn.learning.torchdiffeq_call import SAME, calls_back_on_the_way_back, is_theirs, through_torchdiffeq
from ctrnn.numbers import number, real_array
from ctrnn.problem import Settings
from ctrnn.solvers import tableaus


def odeint(
    f: Any,
    y0: Any,
    t: Any,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Any = None,
    event_fn: Any = None,
) -> Any:
    """Solve dy/dt = f(t, y) from y(t[0]) = y0, with gradients to y0, to f's parameters and to t.

    Parameters
    ----------
    f : Field, module or callable
        A field; a module from `ctrnn.as_module`, which may carry an input; or a callable or ``nn.Module`` f(t, y) of
        torch.
    y0 : tensor or tuple of tensors
        (n,) or (..., n) for fields; for others of any shape, or several of them. Float64 is what the computation runs
        in.
    t : array_like (T,)
        Times, increasing or decreasing; the solver steps onto each of them.
    rtol, atol : float or tensor
        Tolerances of adaptive methods; with a tuple as state also one for each part.
    method : str, optional
        A solver of `ctrnn.simulate`; "tsit5" by default. "dopri5", "euler", "midpoint", "heun2" and, adaptive, "bosh3"
        are torchdiffeq's. Any other name of torchdiffeq's goes through it.
    options : mapping, optional
        "step_size" (without it, methods of fixed step take one step from each t to the next, as in torchdiffeq),
        "min_step", "max_step", "first_step", "max_num_steps", "jump_t" (times at which f jumps), "step_t" (times to
        step onto). "norm", "perturb", "grid_constructor", "interp" and the rest of torchdiffeq's go through it.
    event_fn : callable, optional
        c(t, y), at whose first zero the run ends; through torchdiffeq, by its methods ("dopri5" by default).

    Returns
    -------
    tensor (T, ...), or a tuple of them; with event_fn (t, states)
        The states, in the dtype of y0. Differentiable twice and more, by t once.

    Raises
    ------
    UsageError, UnknownNameError
        For what is not allowed; and the errors of `ctrnn.simulate`.

    Notes
    -----
    The call is that of torchdiffeq (R. T. Q. Chen, 2018), and what our solvers have not is left to it: its own methods
    and options, callbacks, events, complex states, other devices. Not the same: the default is "tsit5"; "rk4" is the
    classical method (there Kutta's 3/8 rule) and "dopri8" is "dop853", another pair of order 8; times between steps
    are stepped onto, not interpolated; a step that would have to be shorter than "min_step" is an error, where
    torchdiffeq takes it as wrong as it is; an option that nobody knows is an error and not a warning. The gradient is
    that of the steps taken, to round-off, and that to t is the differential equation's, l̄_k f(t_k, y_k). Adaptive
    steps that the state allows and the gradient does not, as those of a run that begins at rest, are divided for the
    gradient; torchdiffeq's is wrong there. With "jump_t", f is called strictly inside each piece.

    Examples
    --------
    >>> import ctrnn
    >>> module = ctrnn.as_module(ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0}))
    >>> y = odeint(module, torch.ones(1, dtype=torch.float64), torch.tensor([0.0, 0.5, 1.0]), rtol=1e-9)
    >>> y[-1, 0].backward()
    >>> bool(abs(module.k.grad + np.exp(-2.0)) < 1e-8)  # d e^(-k)/dk
    True
    """
    if options is not None and not isinstance(options, Mapping):
        raise UsageError("options", given=options, allowed="a table name -> value")
    if is_theirs(f, y0, method, options, event_fn):
        return through_torchdiffeq(f, y0, t, rtol, atol, method, options, event_fn)
    refuse_transforms("odeint", y0, *(f.parameters() if isinstance(f, nn.Module) else ()))
    if isinstance(f, Field):
        f = as_module(f)
    if isinstance(y0, tuple):
        return _of_tuple(f, y0, t, rtol, atol, method, options)
    y0 = _start(y0)
    times = _times(t)
    settings, extra = _settings(method, rtol, atol, options, times)
    if not isinstance(f, FieldModule) and (isinstance(f, type) or not callable(f)):
        raise UsageError("f", given=f, allowed="a field, an nn.Module or a callable f(t, y)")
    solve = _of_field if isinstance(f, FieldModule) else _of_torch
    follows_t = isinstance(t, torch.Tensor) and t.requires_grad and torch.is_grad_enabled()
    start = _moved(f, t[0], y0.detach(), y0, -1.0) if follows_t else y0
    y = y0[None].clone() if times.size == 1 else solve(f, start, times, settings, extra)
    if follows_t:
        rows = [_moved(f, t[k], y[k].detach(), y[k], 1.0) for k in range(1, times.size)]
        y = torch.stack([y0, *rows])
    return y


def odeint_adjoint(
    f: Any,
    y0: Any,
    t: Any,
    *,
    rtol: Any = 1e-7,
    atol: Any = 1e-9,
    method: str | None = None,
    options: Any = None,
    event_fn: Any = None,
    **adjoint: Any,
) -> Any:
    """As `ctrnn.odeint`, which needs no adjoint equation; with adjoint_* arguments, torchdiffeq's call of this name.

    Parameters
    ----------
    f, y0, t, rtol, atol, method, options, event_fn
        As in `ctrnn.odeint`.
    **adjoint
        adjoint_rtol, adjoint_atol, adjoint_method, adjoint_options, adjoint_params: how torchdiffeq solves the adjoint
        equation, and which tensors get a gradient.

    Returns
    -------
    tensor (T, ...), or a tuple of them
        As `ctrnn.odeint`.

    Raises
    ------
    UnknownNameError
        For another argument; and what `ctrnn.odeint` raises.

    Examples
    --------
    >>> y0 = torch.ones(1, requires_grad=True)
    >>> y = odeint_adjoint(lambda t, y: -y, y0, torch.tensor([0.0, 1.0]), adjoint_params=())
    >>> y[-1, 0].backward()
    >>> bool(abs(y0.grad[0] - np.exp(-1.0)) < 1e-5)
    True
    """
    known = tuple(f"adjoint_{name}" for name in ("rtol", "atol", "method", "options", "params"))
    for name in adjoint:
        if name not in known:
            raise UnknownNameError("odeint_adjoint", name, known)
    if adjoint or calls_back_on_the_way_back(f) or is_theirs(f, y0, method, options, event_fn):
        return through_torchdiffeq(f, y0, t, rtol, atol, method, options, event_fn, adjoint)
    return odeint(f, y0, t, rtol=rtol, atol=atol, method=method, options=options, event_fn=event_fn)


def _moved(f: Any, t: torch.Tensor, y: torch.Tensor, moved: torch.Tensor, sign: float) -> torch.Tensor:
    """``moved``, and its derivative ± f(t, y) by t; the number stays."""
    rate = f(t.detach(), y).to(moved.dtype)
    return moved + sign * rate * (t - t.detach()).to(moved.dtype)


class _Joined(nn.Module):
    """f of a tuple of states as one of a vector."""

    def __init__(self, f: Any, parts: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.f, self.shapes, self.sizes = f, [v.shape for v in parts], [v.numel() for v in parts]

    def split(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(..., n) -> the parts (..., *shape)."""
        parts = y.split(self.sizes, dim=-1)
        return tuple(part.reshape((*y.shape[:-1], *shape)) for part, shape in zip(parts, self.shapes, strict=True))

    def forward(self, t: Any, y: torch.Tensor) -> torch.Tensor:
        """f at the parts of y, as one vector."""
        rates = self.f(t, self.split(y))
        if not isinstance(rates, (tuple, list)) or [getattr(v, "shape", None) for v in rates] != self.shapes:
            raise UsageError("f", given=rates, allowed=f"a tuple of tensors of the shapes {[*map(tuple, self.shapes)]}")
        return torch.cat([v.reshape(-1) for v in rates])


def _of_tuple(
    f: Any, y0: tuple[Any, ...], t: Any, rtol: Any, atol: Any, method: Any, options: Any
) -> tuple[torch.Tensor, ...]:
    parts = [_start(v) for v in y0]
    if not parts or len({v.dtype for v in parts}) != 1 or isinstance(f, FieldModule) or not callable(f):
        allowed = "tensors of one dtype, for an f(t, (y, …)) of torch that returns a tuple"
        raise UsageError("y0", given=y0, allowed=allowed)
    joined = _Joined(f, parts)
    # a plain callable may close over tensors that have gradients: it stays one
    call = joined if isinstance(f, nn.Module) and not isinstance(f, torch.jit.ScriptModule) else joined.forward
    both = (_spread(name, v, joined.sizes) for name, v in (("rtol", rtol), ("atol", atol)))
    rtol, atol = both
    y = odeint(call, torch.cat([v.reshape(-1) for v in parts]), t, rtol=rtol, atol=atol, method=method, options=options)
    return joined.split(y)


def _spread(name: str, value: Any, sizes: list[int]) -> Any:
    if not isinstance(value, (tuple, list)):
        return value
    if len(value) != len(sizes):
        raise UsageError(name, given=value, allowed=f"a number, or one for each of {len(sizes)} states")
    return np.repeat([float(v) for v in value], sizes)


# --- what is asked


def _start(y0: Any) -> torch.Tensor:
    if not isinstance(y0, torch.Tensor) or not y0.is_floating_point() or y0.numel() == 0:
        given = f"a tensor of {y0.dtype}, shape {tuple(y0.shape)}" if isinstance(y0, torch.Tensor) else y0
        raise UsageError("y0", given=given, allowed="a tensor of real numbers, or a tuple of tensors")
    if not bool(torch.isfinite(y0).all()):
        raise UsageError("y0", given=y0.detach(), allowed="finite numbers")
    return y0


def _times(t: Any) -> Array:
    times = t.detach().cpu().double().numpy() if isinstance(t, torch.Tensor) else real_array("t", t)
    if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all():
        raise UsageError("t", given=times, allowed="finite times (T,)")
    steps = np.diff(times)
    if not ((steps > 0).all() or (steps < 0).all()):
        raise UsageError("t", given=times, allowed="times that increase, or that decrease, from each to the next")
    return times


def _settings(method: Any, rtol: Any, atol: Any, options: Any, times: Array) -> tuple[Settings, dict[str, Array]]:
    """The solver's settings, and the times "jump_t" and "step_t"."""
    options = {} if options is None else options
    name = "tsit5" if method is None else SAME.get(method, method) if isinstance(method, str) else method
    if not isinstance(name, str) or ":" in name:
        raise UsageError("method", given=method, allowed=f"one of {', '.join(tableaus.names())}")
    tableau = tableaus.get(name)
    dt = options.get("step_size")
    if dt is None and not tableau.adaptive:
        dt = 2.0 * float(abs(times[-1] - times[0])) or 1.0  # longer than any interval: one step for each
    rtol, atol = (v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v for v in (rtol, atol))
    limits = {
        "max_steps": options.get("max_num_steps", 1_000_000),
        "min_step": number("options min_step", options.get("min_step", 0.0)),
    }
    if dt is None:
        first = options.get("first_step")
        limits |= {
            "max_step": float(real_array("options max_step", options.get("max_step", np.inf))),
            "first_step": None if first is None else number("options first_step", first),
        }
    settings = Settings(name, rtol, atol, None if dt is None else number("options step_size", dt), **limits)
    extra = {key: _inside(key, options.get(key), times) for key in ("jump_t", "step_t")}
    return settings, extra


def _inside(name: str, value: Any, times: Array) -> Array:
    """Times strictly between the first and the last, from a tensor or a list; others do not matter."""
    if value is None:
        return np.empty(0)
    value = (
        value.detach().cpu().double().numpy()
        if isinstance(value, torch.Tensor)
        else real_array(f"options[{name!r}]", value)
    )
    if value.ndim != 1 or not np.isfinite(value).all():
        raise UsageError(f"options[{name!r}]", given=value, allowed="finite times (K,)")
    low, high = min(times[0], times[-1]), max(times[0], times[-1])
    return np.unique(value[(value > low) & (value < high)])


# --- torch's side


class _Solve(torch.autograd.Function):
    """(solver, y0 (B, n), w...) -> (B, T, n), all in float64."""

    @staticmethod
    def forward(ctx: Any, solver: _Solver, y0: torch.Tensor, *w: torch.Tensor) -> torch.Tensor:
        ctx.trials, ctx.solver = solver.trials(y0.detach().numpy(), [v.detach().numpy() for v in w]), solver
        ctx.save_for_backward(y0, *w)
        return torch.from_numpy(np.stack([trial.y for trial in ctx.trials]))

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (cotangent,) = cotangents
        y0, *w = ctx.saved_tensors
        if torch.is_grad_enabled():
            return (None, *ctx.solver.gradient_with_graph(ctx.trials, y0, w, cotangent, ctx.needs_input_grad[1:]))
        got = [ctx.solver.pull(trial, rows) for trial, rows in zip(ctx.trials, cotangent.numpy(), strict=True)]
        vector = np.sum([g for _, g in got], axis=0)
        named = ctx.solver.field.unflatten(vector)
        return (None, torch.from_numpy(np.stack([g for g, _ in got])), *(torch.from_numpy(v) for v in named.values()))


class _Solver(NamedTuple):
    """Everything but the tensors. ``function`` is F(t, r, w, x) in torch, for second derivatives."""

    field: Field
    x: Any
    function: Callable[..., Any]
    times: Array
    settings: Settings
    extra: dict[str, Array]

    def trials(self, y0: Array, w: list[Array]) -> list[Trial]:
        field = self.field.with_parameters(**dict(zip(self.field.parameter_names, w, strict=True)))
        return [record_trial(field, self.x, row, self.times, self.settings, self.extra) for row in y0]

    def solve(self, y0: torch.Tensor, w: list[torch.Tensor]) -> torch.Tensor:
        """States (B, T, n) from starts (B, n)."""
        if torch.is_grad_enabled() and any(v.requires_grad for v in (y0, *w)):
            return _Solve.apply(self, y0, *w)
        field = self.field.with_parameters(
            **{k: v.detach().numpy() for k, v in zip(self.field.parameter_names, w, strict=True)}
        )
        rows = [states(field, self.x, row, self.times, self.settings, self.extra) for row in y0.detach().numpy()]
        return torch.from_numpy(np.stack(rows))

    def pull(self, trial: Trial, cotangent: Array) -> tuple[Array, Array]:
        return trial.pull(cotangent, self.by_torch)

    @property
    def by_torch(self) -> Callable[..., Any] | None:
        """F in torch where the compiled code would call it anyway."""
        return self.function if self.field._calls_python else None

    def gradient_with_graph(
        self, trials: list[Trial], y0: torch.Tensor, w: list[torch.Tensor], cotangent: Any, needed: Any
    ) -> list[Any]:
        named = dict(zip(self.field.parameter_names, w, strict=True))
        trials = [t.settled(rows, self.by_torch)[0] for t, rows in zip(trials, cotangent.detach().numpy(), strict=True)]
        y = torch.stack([trial.replayed(self.function, named, row) for trial, row in zip(trials, y0, strict=True)])
        leaves = [v for v, wanted in zip((y0, *w), needed, strict=True) if wanted]
        got = iter(torch.autograd.grad(y, leaves, cotangent, create_graph=True, allow_unused=True))
        return [next(got) if wanted else None for wanted in needed]


def _of_field(
    module: FieldModule, y0: torch.Tensor, times: Array, settings: Settings, extra: dict[str, Array]
) -> torch.Tensor:
    weights = module.weights()
    field, x = module.field(), module.x
    n = field.n
    if y0.shape[-1] != n:
        raise UsageError("y0", given=f"shape {tuple(y0.shape)}", allowed=f"({n},) or (..., {n})")
    inner, nx = field.torch_function(), field.input_size

    def function(t: Any, r: Any, w: Any, x: Any) -> Any:
        return inner(t, r, w, x[..., :nx])

    solver = _Solver(field, x, function, times, settings, extra)
    y = solver.solve(y0.reshape(-1, n).double(), [p.double() for p in weights.values()])
    return y.movedim(1, 0).reshape(times.size, *y0.shape).to(y0.dtype)


def _of_torch(f: Any, y0: torch.Tensor, times: Array, settings: Settings, extra: dict[str, Array]) -> torch.Tensor:
    """y0 of any shape as one state; F in torch."""
    shape, dtype = y0.shape, y0.dtype
    pieces = _Pieces(extra["jump_t"], times)
    # a scripted module keeps its own tensors: it is a callable that closes over them
    if isinstance(f, nn.Module) and not isinstance(f, torch.jit.ScriptModule):
        named = dict(f.named_parameters())
        called = ModuleCall(f)
        buffers = {k: b.double() if b.is_floating_point() else b for k, b in f.named_buffers()}

        def call(t: Any, y: Any, w: dict[str, Any], x: Any = None) -> Any:
            return called({**w, **buffers}, pieces.inside(t, x), y)
    else:
        named = {}

        def call(t: Any, y: Any, w: dict[str, Any], x: Any = None) -> Any:
            rate = f(pieces.inside(t.to(dtype), x), y.to(dtype))
            return rate.double() if isinstance(rate, torch.Tensor) else rate

    def function(t: Any, r: Any, w: dict[str, Any], x: Any = None) -> Any:
        return call(torch.as_tensor(t, dtype=torch.float64), r.reshape(shape), w, x).reshape(-1)

    with torch.enable_grad():
        fixed = {k: p.detach().double() for k, p in named.items()}
        try:
            seen = call(torch.tensor(times[0], dtype=torch.float64), y0.detach().double(), fixed)
        except RuntimeError as error:
            if "dtype" not in str(error):
                raise
            hint = "register_buffer for tensors that it uses beside its parameters, or tensor.to(y)"
            allowed = "a module that runs in float64, to which its parameters and buffers are brought"
            raise UsageError("f", given=f"RuntimeError: {error}", allowed=allowed, hint=hint) from error
    if not isinstance(seen, torch.Tensor) or seen.shape != shape:
        given = f"a value of shape {tuple(seen.shape)}" if isinstance(seen, torch.Tensor) else seen
        raise UsageError("f", given=given, allowed=f"a tensor of the shape of y0, {tuple(shape)}")
    field = TorchField(function, y0.numel(), {k: v.numpy() for k, v in fixed.items()}, inputs=int(pieces.count > 1))
    solver = _Solver(field, pieces.numbers, function, times, settings, extra)
    if seen.requires_grad and torch.is_grad_enabled():
        # what it closes over is known to torch alone
        w = {k: p.double() for k, p in named.items()}
        with torch.no_grad():
            (trial,) = solver.trials(y0.detach().double().reshape(1, -1).numpy(), [v.numpy() for v in fixed.values()])
        y = trial.fine_enough(function).replayed(function, w, y0.double().reshape(-1))
    else:
        y = solver.solve(y0.double().reshape(1, -1), [p.double() for p in named.values()])[0]
    return y.reshape(times.size, *shape).to(dtype)


class _Pieces:
    """The pieces between jumps: their numbers as an input signal, by which F knows the side on which it is asked.

    At a jump a step ends and another begins, both at the same t. The stepper looks inputs up strictly inside each step;
    so the number tells the piece, and t is moved into it by rounding alone.
    """

    def __init__(self, jumps: Array, times: Array) -> None:
        self.jumps, self.count = jumps, jumps.size + 1
        low, high = float(times.min()), float(times.max())
        self.numbers = Sampled(np.append(low, jumps), np.arange(float(self.count))) if jumps.size else None
        self._ends = torch.from_numpy(np.concatenate([[low - (high - low) - 1.0], jumps, [high + (high - low) + 1.0]]))

    def inside(self, t: torch.Tensor, x: Any) -> torch.Tensor:
        """t, strictly inside the piece whose number is in x."""
        if self.count == 1 or x is None:
            return t
        k, ends = x[0].long(), self._ends.to(t.dtype)
        up, down = (torch.full_like(ends, side) for side in (torch.inf, -torch.inf))
        return torch.clamp(t, torch.nextafter(ends, up)[k], torch.nextafter(ends, down)[k + 1])
