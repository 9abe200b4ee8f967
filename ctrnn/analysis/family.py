r"""A family of fields F(r, μ): all numbers of a field held but a few, μ = (μ_1, …, μ_k).

Each μ_j is a parameter, an entry of one ("W[0,1]"), or an input that is held constant ("x[0]", or its name). What
continuation needs of it:

    F(r, μ)      J = ∂F/∂r      F_μ = ∂F/∂μ                             first order
    p·δJ and p·δF_μ along (δr, δμ)                                      second order, for a row p
    p·C(a, b, c) = d³/(dα dβ dγ) p·F(r + αa + βb + γc)                  third order

By parameters all derivatives are the field's own, exact. By an input they are differences of order six of exact
functions, good to 12 digits; they only steer Newton's method, whose end does not depend on them. The third order is
the derivative of the exact second one along a direction, by differences with Richardson's extrapolation, good to 10
digits or so; of many states the vector B(a, b) is the same of the exact first one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.fields.base import Array, Field
from ctrnn.fields.bound import Bound, SecondKernel
from ctrnn.fields.checks import checked_field
from ctrnn.kernels import point
from ctrnn.numbers import checked_array, real_array

#: μ of a family without parameters
NONE = np.empty(0)
#: weights of f(x + j h), j = 1, 2, 3, in a central difference of order six; those at −j are the same with the other
#: sign
STENCIL = (3.0 / 4.0, -3.0 / 20.0, 1.0 / 60.0)
#: its step, over max(1, |x|)
STEP = 1e-2
#: from so many states on B(a, b) is a derivative of J b, by differences
LARGE = 64


def central_difference(f: Callable[[float], Array], h: float) -> Array:
    """df/ds at s = 0 of a smooth f(s), from six values up to 3h away; the error is h⁶ f⁽⁷⁾/140."""
    total = 0.0
    for j, weight in enumerate(STENCIL, start=1):
        total = total + weight * (f(j * h) - f(-j * h))
    return np.asarray(total / h)


def parameter_place(field: Field, name: str, argument: str = "parameter") -> tuple[str, int]:
    """Where a name points to: ("w", number in the flat vector) or ("x", number of the input).

    Raises UnknownNameError for a name that is none, UsageError for an array of which one entry has to be named.
    """
    if not isinstance(name, str):
        raise UsageError(argument, given=name, allowed="the name of a parameter, of an entry as 'W[0,1]', or an input")
    name = name.strip()
    found = re.fullmatch(r"([^\[\]]+)\[([^\[\]]*)\]", name)
    base, inside = (found[1].strip(), found[2]) if found else (name, None)
    if base in field.parameters:
        start = field.parameters.slices[base].start
        return "w", start + _entry(name, field.parameters[base].shape, inside, argument)
    if name in field.input_names:
        return "x", field.input_names.index(name)
    if base == "x" and inside is not None and field.input_size:
        return "x", _entry(name, (field.input_size,), inside, argument)
    known_names = [*field.parameter_names, *field.input_names, *(f"x[{i}]" for i in range(min(field.input_size, 4)))]
    raise UnknownNameError(argument, name, known_names)


def _entry(name: str, shape: tuple[int, ...], inside: str | None, argument: str) -> int:
    """The number of an entry of an array, row by row."""
    size = int(np.prod(shape, dtype=int))
    if inside is None:
        if size == 1:
            return 0
        allowed = f"an entry of that array of shape {shape}, as {name}[{','.join('0' * len(shape))}]"
        raise UsageError(argument, given=name, allowed=allowed)
    try:
        place = tuple(int(part) for part in inside.split(","))
    except ValueError:
        place = ()
    if len(place) != len(shape) or any(not 0 <= i < n for i, n in zip(place, shape, strict=False)):
        raise UsageError(argument, given=name, allowed=f"an entry of an array of shape {shape}, counted from 0")
    return int(np.ravel_multi_index(place, shape)) if shape else 0


def depends_on_time(field: Field, r: Array, x: Array | None, span: tuple[float, float]) -> bool:
    """Whether F names t: it has another value at another time of the span."""
    t0, t1 = span
    values = [field(t, r, x) for t in (t0, 0.5 * (t0 + t1), t0 + (t1 - t0) / np.e)]
    return any((value != values[0]).any() for value in values[1:])


class Family:
    """F(r, μ) and its derivatives at fixed t and at the input x, for the parameters ``names``."""

    def __init__(
        self, field: Field, names: Sequence[str], x: Any = None, t: float = 0.0, argument: str = "parameter"
    ) -> None:
        self.base, self.names, self.t = checked_field(field), tuple(names), float(checked_array("t", t, ()))
        self.places = [parameter_place(field, name, argument) for name in self.names]
        if len(set(self.places)) < len(self.places):
            raise UsageError(argument, given=self.names, allowed="different parameters")
        if x is None and field.input_size and not field.input_is_optional:
            raise UsageError("x", given=None, allowed=f"values of the inputs {', '.join(field.input_names)}")
        x = x(self.t) if callable(x) and not isinstance(x, type) else x
        x = np.zeros(field.input_size) if x is None else np.atleast_1d(real_array("x", x))
        self._x = checked_array("x", x, (field.input_size,))
        self._vector = field.vector
        self._own = [j for j, (kind, _) in enumerate(self.places) if kind == "w"]
        self.n = field.n
        self._bound: Bound = field._bind()
        self._mu: Array | None = None
        self._last: tuple[tuple[float, ...], Field] | None = None
        self._made: tuple[SecondKernel, Array, Array] | None = None

    @property
    def start(self) -> Array:
        """μ of the field and the input as they were given, (k,)."""
        return np.array([self._vector[i] if kind == "w" else self._x[i] for kind, i in self.places])

    def field(self, mu: Array) -> Field:
        """The field at μ; that of the last μ is kept, as a network has many other numbers."""
        key = tuple(np.asarray(mu, dtype=float).tolist())
        if self._last is None or self._last[0] != key:
            self._last = key, self._moved(mu)
        return self._last[1]

    def _moved(self, mu: Array) -> Field:
        vector = self._vector.copy()
        for (kind, i), value in zip(self.places, mu, strict=True):
            if kind == "w":
                vector[i] = value
        return self.base if (vector == self._vector).all() else self.base.with_vector(vector)

    def x(self, mu: Array) -> Array | None:
        """The input at μ; None for a field without inputs."""
        x = self._x.copy()
        for (kind, i), value in zip(self.places, mu, strict=True):
            if kind == "x":
                x[i] = value
        return x if x.size else None

    def _at(self, mu: Array) -> Array:
        """Set the compiled functions to μ; the input there."""
        own = np.asarray(mu, dtype=float)[self._own]
        if self._mu is None or (self._mu != own).any():
            self._bound.system.w[:] = self.field(mu)._kernel_vector()
            self._mu = own
        x = self.x(mu)
        return np.zeros(0) if x is None else x

    # -- first order -----------------------------------------------------------------------------------------------

    def F(self, r: Array, mu: Array) -> Array:
        """F (n,) at r (n,), or (K, n) at points r (K, n)."""
        x, rows = self._at(mu), np.ascontiguousarray(np.atleast_2d(r))
        out = np.empty(rows.shape)
        point.fields(self._bound.system, self.t, rows, x, out)
        self._bound.raise_pending()
        return out.reshape(r.shape)

    def J(self, r: Array, mu: Array) -> Array:
        """J (n, n) at r (n,), or (K, n, n) at points r (K, n)."""
        x, rows = self._at(mu), np.ascontiguousarray(np.atleast_2d(r))
        out = np.empty((len(rows), self.n, self.n))
        point.jacobians(self._bound.system, self.t, rows, x, out)
        self._bound.raise_pending()
        return out.reshape(r.shape + (self.n,))

    def F_mu(self, r: Array, mu: Array) -> Array:
        """F_μ (n, k) at r (n,), or (K, n, k) at points r (K, n)."""
        x, rows = self._at(mu), np.ascontiguousarray(np.atleast_2d(r))
        out = np.empty((*rows.shape, len(self.places)))
        for j, (kind, _) in enumerate(self.places):
            if kind == "w":
                second, ctx, _ = self._second()
                column, zero = np.empty(rows.shape), np.zeros(rows.shape)
                dw = self._direction(mu, np.eye(1, len(self.places), j)[0])
                point.jvps(self._bound.system, second.jvp, ctx, self.t, rows, x, zero, dw, column)
                self._bound.raise_pending()
                out[:, :, j] = column
            else:
                out[:, :, j] = self._along_input(lambda moved: self.F(rows, moved), mu, j)
        return out.reshape(r.shape + (len(self.places),))

    def _along_input(self, f: Callable[[Array], Array], mu: Array, j: int) -> Array:
        h = STEP * max(1.0, abs(float(mu[j])))
        direction = np.eye(1, len(mu), j)[0]
        return central_difference(lambda s: f(mu + s * direction), h)

    # -- second and third order ------------------------------------------------------------------------------------

    def _second(self) -> tuple[SecondKernel, Array, Array]:
        """The compiled functions of second order with the ctx that they want, and what it points to."""
        if self._made is None:
            its = self.base._second_kernel
            self._made = its, *its.ctx(self._bound.system.ctx)
        return self._made

    def _direction(self, mu: Array, dmu: Array) -> Array:
        """δw of the compiled functions along δμ."""
        dw = np.zeros(self.base.m)
        for (kind, i), d in zip(self.places, dmu, strict=True):
            if kind == "w":
                dw[i] = d
        return self.field(mu)._kernel_direction(dw)

    def rows(self, r: Array, mu: Array, dr: Array, dmu: Array, K: Array) -> Array:
        """K δ[J F_μ] along (δr, δμ) for rows K (q, n): (q, n + k).

        K = p gives the derivative of p·(J δr + F_μ δμ) by (r, μ).
        """
        K = np.ascontiguousarray(np.atleast_2d(K), dtype=float)
        dmu = np.asarray(dmu, dtype=float)
        found = self._by_parameters(r, mu, np.ascontiguousarray(dr, dtype=float), dmu, K)
        is_moved = bool(dmu.any())

        def along(moved: Array) -> Array:
            """K (J δr + F_μ δμ)."""
            rate = self.J(r, moved) @ dr
            return K @ (rate + self.F_mu(r, moved) @ dmu if is_moved else rate)

        for j in (j for j, (kind, _) in enumerate(self.places) if kind == "x"):
            found[:, self.n + j] = self._along_input(along, mu, j)
            if dmu[j]:  # K ∂[J F_μ]/∂x δx
                turned = self._along_input(
                    lambda moved: K @ np.concatenate([self.J(r, moved), self.F_mu(r, moved)], axis=1), mu, j
                )
                found[:, : self.n] += dmu[j] * turned[:, : self.n]
                for i in self._own:
                    found[:, self.n + i] += dmu[j] * turned[:, self.n + i]
        return found

    def _by_parameters(self, r: Array, mu: Array, dr: Array, dmu: Array, K: Array) -> Array:
        x = self._at(mu)
        its, ctx, _ = self._second()
        kernel = self._bound.kernel
        R, G = np.zeros(K.shape), np.zeros((len(K), kernel.groups * kernel.columns))
        dw = self._direction(mu, dmu)
        point.second(self._bound.system, its.second, ctx, self.t, np.ascontiguousarray(r), x, dr, dw, K, R, G)
        self._bound.raise_pending()
        found = np.zeros((len(K), self.n + len(self.places)))
        found[:, : self.n] = R
        wanted = [(j, i) for j, (kind, i) in enumerate(self.places) if kind == "w"]
        if wanted:
            flat = self._bound.flat(G)
            for j, i in wanted:
                found[:, self.n + j] = flat[:, i]
        return found

    def B(self, r: Array, mu: Array, a: Array, b: Array) -> Array:
        """The vector B(a, b) = Σ ∂²F/∂r_j∂r_k a_j b_k, (n,), for real or complex a, b."""
        eye, none = np.eye(self.n), np.zeros(len(mu))
        if self.n > LARGE:
            return self._B_of_many(r, mu, a, b)

        def along(d: Array) -> Array:
            return self._by_parameters(r, mu, d, none, eye)[:, : self.n] @ b

        return _complex(along, a)

    def _B_of_many(self, r: Array, mu: Array, a: Array, b: Array) -> Array:
        """B(a, b) as the derivative of the exact J b along a, by differences with Richardson's extrapolation.

        n exact rows would be n products of second order.
        """
        size = max(1.0, float(np.abs(r).max(initial=0.0)))

        def along(d: Array) -> Array:
            length = float(np.abs(d).max(initial=0.0))
            if length == 0.0:
                return np.zeros(self.n, dtype=b.dtype)
            h = STEP * size / length

            def ahead(s: float) -> Array:
                return np.asarray(self.J(r + s * d, mu) @ b)

            return (64.0 * central_difference(ahead, h / 2) - central_difference(ahead, h)) / 63.0

        return np.asarray(_complex(along, a))

    def p_C(self, r: Array, mu: Array, p: Array, a: Array, b: Array, c: Array) -> complex:
        """p·C(a, b, c), the third derivative along three directions, real or complex, read by a row p."""
        p = np.ascontiguousarray(p)
        none, size = np.zeros(len(mu)), max(1.0, float(np.abs(r).max(initial=0.0)))

        def third(p: Array, a: Array, c: Array) -> Any:
            length = float(np.abs(c).max(initial=0.0))
            if length == 0.0:
                return 0.0
            h = STEP * size / length

            def ahead(s: float) -> Array:
                return self._by_parameters(r + s * c, mu, a, none, p[None])[0, : self.n] @ b

            wide, narrow = central_difference(ahead, h), central_difference(ahead, h / 2)
            return (64.0 * narrow - wide) / 63.0

        return complex(_complex(lambda p: _complex(lambda a: _complex(lambda c: third(p, a, c), c), a), np.asarray(p)))


def _complex(f: Callable[[Array], Any], a: Array) -> Any:
    """A real-linear f at a complex argument."""
    if not np.iscomplexobj(a):
        return f(a)
    return f(a.real.copy()) + 1j * f(a.imag.copy())
