"""Any torch callable as a field: F(t, r, w, x), with derivatives by torch.func.

General and slow: each evaluation crosses from the compiled stepper into Python and torch (some tens of microseconds).
The compiled code cannot tell the difference, so every solver and every gradient works.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from typing import Any

import numpy as np

from ctrnn.callbacks import Pending
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.bound import Kernel, SecondKernel
from ctrnn.fields.checks import as_mapping, checked_names
from ctrnn.fields.module_call import ModuleCall
from ctrnn.fields.noisy import torch_with_noise
from ctrnn.kernels import abi
from ctrnn.kernels.abi import view
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, whole


class TorchField(Field):
    """A field written in torch; slower than equations, since each evaluation crosses into Python.

    Parameters
    ----------
    function : callable or torch.nn.Module
        (t, r, w, x) ↦ dr/dt of shape (n,), with w a dict of tensors and x (inputs,); or a module called as module(t,
        r), or module(t, r, x) when there are inputs, whose parameters are w.
    n : int
        Number of states.
    parameters : mapping of str to array_like, optional
        For a callable; a module brings its own.
    inputs : int, default 0
        Number of input channels.
    state_names : iterable of str, optional
        n names.

    Raises
    ------
    UsageError
        For a function that does not return a float64 tensor of shape (n,).

    Examples
    --------
    >>> import torch
    >>> field = TorchField(
    ...     lambda t, r, w, x: -r + torch.tanh(w["A"] @ r), n=2, parameters={"A": [[0.0, 1.0], [-1.0, 0.0]]}
    ... )
    >>> field.jacobian(0.0, [0.0, 0.0])
    array([[-1.,  1.],
           [-1., -1.]])
    """

    _calls_python = True

    def __init__(
        self,
        function: Callable[..., Any],
        n: int,
        parameters: Mapping[str, Any] | None = None,
        inputs: int = 0,
        state_names: Iterable[str] | None = None,
    ) -> None:
        import torch

        if not callable(function):
            raise UsageError("function", given=function, allowed="a callable (t, r, w, x) or an nn.Module")
        n = whole("n", n, 1, "a whole number of states, at least 1")
        inputs = whole("inputs", inputs, 0, "a whole number of channels, at least 0")
        claim("n", 160.0 * n)  # each has a name
        claim("inputs", 160.0 * inputs)
        names = [f"r{i}" for i in range(n)] if state_names is None else state_names
        self.state_names = checked_names("state_names", names)
        if len(self.state_names) != n:
            raise UsageError("state_names", given=self.state_names, allowed=f"{n} names")
        self.input_names = tuple(f"x{i}" for i in range(inputs))
        if isinstance(function, torch.nn.Module):
            if parameters is not None:
                raise UsageError("parameters", given=parameters, allowed="none: the module has its own")
            parameters = {k: p.detach().double().numpy() for k, p in function.named_parameters()}
            function = _module_call(function, bool(inputs))
        self._function = function
        given = as_mapping("parameters", {} if parameters is None else parameters)
        self.parameters = {str(k): checked_array(f"parameter {k!r}", v) for k, v in given.items()}
        self._pending = Pending()
        self._probe()

    def __repr__(self) -> str:
        return f"TorchField(n={self.n}, inputs={self.input_size}, m={self.m})"

    def _probe(self) -> None:
        """One call, so that a wrong shape is reported where the field is made."""
        import torch

        r = torch.zeros(self.n, dtype=torch.float64)
        x = torch.zeros(self.input_size, dtype=torch.float64)
        try:
            out = self._function(torch.tensor(0.0, dtype=torch.float64), r, self._tensors(self.vector), x)
        except (TypeError, RuntimeError, IndexError, KeyError) as error:
            raise UsageError(
                "function",
                given=f"{type(error).__name__}: {error}",
                allowed=f"a callable (t, r, w, x), or a module (t, r{', x' if self.input_size else ''}), with r of "
                f"shape ({self.n},)",
            ) from error
        if not isinstance(out, torch.Tensor) or out.shape != (self.n,):
            shape = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
            raise UsageError("function", given=f"a value of shape {shape}", allowed=f"a tensor of shape ({self.n},)")
        if out.dtype != torch.float64:
            raise UsageError("function", given=f"a tensor of {out.dtype}", allowed="torch.float64, as r, w and x are")

    def _tensors(self, vector: Array) -> dict[str, Any]:
        import torch

        named = self.unflatten(vector).items()
        # of a single number NumPy's contiguous array would have the shape (1,)
        return {k: torch.from_numpy(np.ascontiguousarray(v).reshape(v.shape)) for k, v in named}

    def torch_function(self) -> Callable[..., Any]:
        """F(t, r, w, x) on tensors: r (..., n), w a dict of tensors, x (..., input_size) or None."""
        import torch

        function, n, nx = self._function, self.n, self.input_size

        def field(t: Any, r: Any, w: dict[str, Any], x: Any = None) -> Any:
            t = torch.as_tensor(t, dtype=r.dtype, device=r.device)
            if x is None and nx:
                raise UsageError("x", given=None, allowed=f"a tensor of shape (..., {nx})")
            x = r.new_zeros(0) if x is None else x
            if r.ndim == 1:
                return function(t, r, w, x)
            x = x.expand(r.shape[:-1] + x.shape[-1:])
            r_rows = r.reshape(-1, n)
            x_rows = x.reshape(len(r_rows), x.shape[-1])
            rows = torch.func.vmap(lambda a, b: function(t, a, w, b))(r_rows, x_rows)
            return rows.reshape(r.shape)

        return field

    def _with_noise(self, scale: Any) -> TorchField:
        if isinstance(scale, (str, dict)):
            allowed = f"a number, {self.n} of them, or a function (t, r, w, x) ↦ ({self.n},), for a TorchField"
            raise UsageError("noise", given=scale, allowed=allowed)
        if isinstance(scale, np.ndarray) and scale.shape != (self.n,):
            raise UsageError("noise", given=f"shape {scale.shape}", allowed=f"a number, or {self.n} of them")
        function = torch_with_noise(self._function, scale, self.input_size)
        twin = TorchField(function, self.n, self.parameters, self.input_size + self.n, self.state_names)
        twin.noise_is_additive = not callable(scale)
        return twin

    def _kernel_vector(self) -> Array:
        return self.vector

    def _raisers(self) -> tuple[Callable[[], None], ...]:
        return (self._pending.raise_pending,)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_pending": Pending()}

    def _rate(self) -> Callable[..., Any]:
        """F(t, r, w, x) with w a flat tensor (m,)."""
        import torch

        f, shapes = self._function, [(k, v.shape, v.size) for k, v in self.parameters.items()]

        def rate(t: float, r: Any, w: Any, x: Any) -> Any:
            parts = torch.split(w, [size for _, _, size in shapes]) if shapes else ()
            named = {k: part.reshape(shape) for (k, shape, _), part in zip(shapes, parts, strict=True)}
            return f(torch.tensor(t, dtype=torch.float64), r, named, x)

        return rate

    @cached_property
    def _kernel(self) -> Kernel:
        import torch

        n, m, nx = self.n, self.m, self.input_size
        rate, tensor = self._rate(), _tensor_at

        def field(ctx: int, t: float, r: int, w: int, x: int, out: int) -> None:
            with torch.no_grad():
                view(out, n)[:] = rate(t, tensor(r, n), tensor(w, m), tensor(x, nx)).numpy()

        def at_weights(t: float, r: Any, x: Any, w: Any) -> Any:
            return rate(t, r, w, x)

        def vjp(ctx: int, t: float, r: int, w: int, x: int, q: int, K: int, R: int) -> None:
            w_, x_ = tensor(w, m), tensor(x, nx)
            pull: Any = torch.func.vjp(lambda r: rate(t, r, w_, x_), tensor(r, n))
            (rows,) = torch.func.vmap(pull[1])(tensor(K, n, q).T)
            view(R, n, q)[:] = rows.detach().numpy().T

        def accumulate(ctx: int, S: int, q: int, t: int, r: int, w: int, x: int, K: int, G: int) -> None:
            if m == 0:
                return
            ts, rs, Ks, w_ = view(t, S), tensor(r, S, n), tensor(K, S, n, q), tensor(w, m)
            stride = int(abi.view_ctx(ctx)[abi.X_STRIDE])
            for s in range(S):
                x_ = tensor(x + 8 * s * stride, nx)
                pull: Any = torch.func.vjp(partial(at_weights, float(ts[s]), rs[s], x_), w_)
                (rows,) = torch.func.vmap(pull[1])(Ks[s].T)
                view(G, 1, q, m)[0] += rows.detach().numpy()

        def jacobian(ctx: int, t: float, r: int, w: int, x: int, J: int) -> None:
            w_, x_ = tensor(w, m), tensor(x, nx)
            view(J, n, n)[:] = torch.func.jacrev(lambda r: rate(t, r, w_, x_))(tensor(r, n)).detach().numpy()

        bodies: list[tuple[int, Any, Any]] = [
            (abi.F, field, lambda *a: view(a[-1], n)),
            (abi.VJP, vjp, lambda *a: view(a[-1], n, a[-3])),
            (abi.ACCUMULATE, accumulate, lambda *a: view(a[-1], a[2], m)),
            (abi.JACOBIAN, jacobian, lambda *a: view(a[-1], n, n)),
        ]
        functions = [abi.callback(slot, self._pending.guard(body, out)) for slot, body, out in bodies]
        table = np.array([abi.address_of(c) for c in functions] + [0], dtype=np.int64)
        return Kernel(table, groups=1, columns=m, index=np.arange(m), keep=tuple(functions))

    @cached_property
    def _second_kernel(self) -> SecondKernel:
        import torch

        n, m, nx = self.n, self.m, self.input_size
        rate, tensor = self._rate(), _tensor_at

        def point(t: float, r: int, w: int, x: int, dr: int, dw: int) -> tuple[Any, Any, Any]:
            x_ = tensor(x, nx)
            return lambda r, w: rate(t, r, w, x_), (tensor(r, n), tensor(w, m)), (tensor(dr, n), tensor(dw, m))

        def jvp(ctx: int, t: float, r: int, w: int, x: int, dr: int, dw: int, out: int) -> None:
            with torch.no_grad():
                view(out, n)[:] = torch.func.jvp(*point(t, r, w, x, dr, dw))[1].numpy()

        def second(ctx: int, t: float, r: int, w: int, x: int, dr: int, dw: int, K: int, R: int, G: int) -> None:
            function, at, along = point(t, r, w, x, dr, dw)
            K_ = tensor(K, n)

            def pulled(*at: Any) -> Any:
                pull: Any = torch.func.vjp(function, *at)
                return pull[1](K_)

            rows, columns = torch.func.jvp(pulled, at, along)[1]
            view(R, n)[:] = rows.detach().numpy()
            view(G, m)[:] += columns.detach().numpy()

        bodies: list[tuple[int, Any, Any]] = [
            (abi.JVP, jvp, lambda *a: view(a[-1], n)),
            (abi.SECOND, second, lambda *a: view(a[-2], n)),
        ]
        functions = [abi.callback(slot, self._pending.guard(body, out)) for slot, body, out in bodies]
        return SecondKernel(abi.address_of(functions[0]), abi.address_of(functions[1]), keep=tuple(functions))


def _tensor_at(address: int, *shape: int) -> Any:
    """A copy of the array at an address: what torch keeps must not change under it."""
    import torch

    return torch.from_numpy(view(address, *shape).copy())


def _module_call(module: Any, with_input: bool) -> Callable[..., Any]:
    """The module as a function of its parameters."""
    import copy

    called = ModuleCall(copy.deepcopy(module).double())

    def call(t: Any, r: Any, w: dict[str, Any], x: Any) -> Any:
        return called(w, t, r, x) if with_input else called(w, t, r)

    return call
