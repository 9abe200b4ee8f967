"""Networks of n units with dense (or masked) weights: u = W h(z) + U x + b into an elementwise cell.

    RateNetwork, form "state":   τ dr/dt = −r + W φ(r) + U x + b
    RateNetwork, form "rate":    τ dr/dt = −r + φ(W r + U x + b)

(Wilson & Cowan 1972; Hopfield 1984; Sompolinsky, Crisanti & Sommers 1988.) The mathematics of the cells is in
ctrnn.fields.cells, their compiled functions in ctrnn.kernels.network; here the named parameters are packed for those.
Many rows at once go by the same equation as an array equation.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from ctrnn.errors import UsageError, one_of
from ctrnn.fields.base import Array, Field, Kernel, LanesKernel, RowSlots, SecondKernel, checked_array
from ctrnn.fields.cells import ACTIVATIONS, Cell, NetworkForm, Weights, rate_cell, rate_equation
from ctrnn.fields.equations import Equations
from ctrnn.fields.networks.low_rank import LowRankNetwork
from ctrnn.kernels import abi, network, network_second
from ctrnn.kernels.lanes import network as network_lanes
from ctrnn.memory import claim
from ctrnn.numbers import flag, generator, real_array, whole

#: a mask under which no unit has more than this share of all units as sources is stored as lists of the weights that
#: exist
LISTED_BELOW = 0.1


class RateNetwork(Field):
    """A network of rate units.

    Parameters
    ----------
    n : int
        Number of units.
    inputs : int, default 0
        Number of input channels. Leaving the input out means x = 0.
    tau : float or array_like (n,), default 1
        Time constant, in the unit of t; a number, or one a unit.
    activation : str, default "tanh"
        φ: tanh, relu, softplus, sigmoid, linear, erf (scaled to slope 1 at 0), or a formula in z such as
        "z**2/(1 + z**2)".
    gain : float, default 1
        W has independent entries of standard deviation gain/√n (for a mask: gain/√(mean number of inputs a unit)).
    seed : int, optional
        Of the random W and U; U has standard deviation 1/√inputs; b = 0.
    form : {"state", "rate"}, default "state"
        τ dr/dt = −r + W φ(r) + U x + b, or −r + φ(W r + U x + b).
    mask : array_like (n, n) of bool, optional
        Weights outside are 0, stay 0, and have gradient 0.
    dale : array_like (n,) of +1 and −1, optional
        Column j of W, what unit j sends, has that sign (Dale's principle).
    train_tau : bool, default False
        Makes tau a parameter, with a gradient.
    rank : int, optional
        W = M Nᵀ / n of this rank, with parameters ``M`` and ``N`` (n, rank) in the place of ``W``; without mask and
        dale.

    Raises
    ------
    UsageError
        For sizes, values or shapes that are not allowed.
    UnknownNameError
        For an unknown activation or form.

    Notes
    -----
    The parameters are ``W`` (n, n), ``U`` (n, inputs), ``b`` (n,) and, when trained, ``tau``.

    Examples
    --------
    >>> field = RateNetwork(64, inputs=3, gain=1.2, seed=0)
    >>> {name: value.shape for name, value in field.parameters.items()}
    {'W': (64, 64), 'U': (64, 3), 'b': (64,)}
    >>> field(0.0, np.zeros(64), x=[0.0, 0.0, 0.0]).any()
    np.False_
    """

    input_is_optional = True

    def __new__(cls, *arguments: Any, rank: int | None = None, **options: Any) -> Any:
        """The network itself; of a given rank, one that is made of M and N."""
        return object.__new__(cls) if rank is None else _of_rank(rank, *arguments, **options)

    def __init__(
        self,
        n: int,
        inputs: int = 0,
        tau: Any = 1.0,
        activation: str = "tanh",
        gain: float = 1.0,
        seed: int | None = None,
        form: str = "state",
        mask: Any = None,
        dale: Any = None,
        train_tau: bool = False,
        rank: int | None = None,
    ) -> None:
        n = whole("n", n, 1, "a whole number of units, at least 1")
        inputs = whole("inputs", inputs, 0, "a whole number of channels, at least 0")
        _check_activation(activation)
        one_of("form", form, ("state", "rate"))
        gain = float(checked_array("gain", gain, ()))
        if gain < 0:
            raise UsageError("gain", given=gain, allowed="a number, at least 0")
        claim("n", 16 * n * n + 80 * n, "rank=k, for W = M @ N.T / n with 2 n k numbers")
        claim("inputs", 16 * n * inputs + 80 * inputs)
        self.activation, self.form, self.train_tau = activation, form, flag("train_tau", train_tau)
        self.cell: Cell = rate_cell(activation, form)
        #: what copies that differ in their numbers alone make once
        self._shared: dict[str, Any] = {}
        self.state_names = tuple(f"r{i}" for i in range(n))
        self.input_names = tuple(f"x{i}" for i in range(inputs))
        self._tau = self._checked_tau(tau, n)
        self.mask = None if mask is None else self._checked_mask(mask, n)
        self.dale = None if dale is None else self._checked_dale(dale, n)
        for fixed in (self._tau, self.mask, self.dale):
            if fixed is not None:
                fixed.setflags(write=False)
        rng = generator(seed)
        fan_in = n if self.mask is None else max(self.mask.sum() / n, 1.0)
        W = rng.normal(0.0, gain / np.sqrt(fan_in), (n, n))
        if self.dale is not None:
            W = np.abs(W) * self.dale
        if self.mask is not None:
            W = W * self.mask
        U = rng.normal(0.0, 1.0 / np.sqrt(max(inputs, 1)), (n, inputs))
        self.parameters = {"W": W, "U": U, "b": np.zeros(n)} | ({"tau": self._tau} if self.train_tau else {})

    @property
    def tau(self) -> Array:
        """The time constant, () or (n,)."""
        return self.parameters.get("tau", self._tau)

    @property
    def time_constants(self) -> Array:
        """tau of each unit (n,)."""
        return np.array(np.broadcast_to(self.tau, (self.n,)))

    def sparsity(self) -> tuple[Array, Array]:
        """Row i of W and U, b_i and a tau of its own act on unit i alone; the units couple where W has weights."""
        n = self.n
        own = np.eye(n, dtype=bool)
        coupled = np.ones((n, n), dtype=bool) if self.mask is None else self.mask.astype(bool)
        parts = {
            "W": (own[:, :, None] & coupled).reshape(n, -1),
            "U": np.repeat(own, self.input_size, axis=1),
            "b": own,
        }
        if self.train_tau:
            parts["tau"] = own if self.tau.ndim else np.ones((n, 1), dtype=bool)
        return own | coupled, np.concatenate([parts[name] for name in self.parameter_names], axis=1)

    def with_time_constant(self, tau: Any) -> RateNetwork:
        """A copy with another fixed time constant; raises UsageError where tau is trained."""
        if self.train_tau:
            raise UsageError("tau", given=tau, allowed="with_parameters(tau=...), as it is trained")
        twin = copy.copy(self)
        twin._tau = self._checked_tau(tau, self.n)
        if twin._tau.shape != self._tau.shape:
            twin._shared = {}  # which knows tau's shape, and gets its numbers from ``rows_entries``
        twin._tau.setflags(write=False)
        twin.__dict__.pop("_noisy_twins", None)
        return twin

    def as_text(self) -> Equations:
        """The same network as array equations, with the same parameters, for what texts alone can do; without dale.

        Returns
        -------
        ctrnn.Equations
            States "r", or ``r0``, ``r1``, … as here.
        """
        rate, definitions = rate_equation(self.activation, self.form, "W @ s", self.input_size)
        text = Equations(
            {"r": rate}, self.parameters, {"x": self.input_size} if self.input_size else {}, {"r": self.n}, definitions,
            {} if self.train_tau else {"tau": self._tau}, {} if self.mask is None else {"W": self.mask},
        )  # fmt: skip
        text.state_names, text.input_names = self.state_names, self.input_names
        return text

    def _with_noise(self, scale: Any) -> Equations:
        twin = self.as_text()._with_noise(scale)
        twin.state_names, own = self.state_names, self.input_size
        twin.input_names = (*self.input_names, *twin.input_names[own:])
        return twin

    def __repr__(self) -> str:
        equation = "−r + W φ(r) + U x + b" if self.form == "state" else "−r + φ(W r + U x + b)"
        sizes = f"n={self.n}, inputs={self.input_size}"
        return f"RateNetwork({sizes}): τ dr/dt = {equation}, φ = {self.activation}, m = {self.m}"

    @staticmethod
    def _checked_tau(tau: Any, n: int) -> Array:
        tau = checked_array("tau", tau)
        if tau.shape not in ((), (n,)) or not (tau > 0).all():
            raise UsageError("tau", given=tau, allowed=f"a positive number, or {n} of them")
        return tau

    @staticmethod
    def _checked_mask(mask: Any, n: int) -> Array:
        mask = real_array("mask", mask)
        if mask.shape != (n, n) or not np.isin(mask, (0, 1)).all():
            raise UsageError("mask", given=mask, allowed=f"an array ({n}, {n}) of 0 and 1")
        return mask.astype(bool)

    @staticmethod
    def _checked_dale(dale: Any, n: int) -> Array:
        dale = real_array("dale", dale)
        if dale.shape != (n,) or not np.isin(dale, (-1, 1)).all():
            raise UsageError("dale", given=dale, allowed=f"{n} signs, +1 or -1, one a unit")
        return dale.astype(float)

    def _checked(self, name: str, value: Any, shape: tuple[int, ...]) -> Array:
        if name == "tau":
            # a scalar tau stays one, so that the flat vector keeps its length
            tau = self._checked_tau(value, self.n)
            return super()._checked(name, tau, shape)
        array = super()._checked(name, value, shape)
        if name == "W" and self.mask is not None and array[~self.mask].any():
            raise UsageError("W", given=array, allowed="0 outside the mask", hint="multiply W by field.mask")
        if name == "W" and self.dale is not None and (array * self.dale < 0).any():
            unit = int(np.argwhere((array * self.dale < 0).any(axis=0))[0, 0])
            sign = "not negative" if self.dale[unit] > 0 else "not positive"
            raise UsageError("W", given=array, allowed=f"column {unit} {sign} (dale)", hint="field.project(W)")
        return array

    def project(self, W: Any) -> Array:
        """The nearest W that obeys the mask and the signs of ``dale``."""
        W = checked_array("W", W, (self.n, self.n))
        if self.dale is not None:
            W = np.where(W * self.dale > 0, W, 0.0)
        return W if self.mask is None else W * self.mask

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Bounds of the flat vector: the signs of W's columns, 0 outside the mask, tau positive."""
        low = {k: np.full(v.shape, -np.inf) for k, v in self.parameters.items()}
        high = {k: np.full(v.shape, np.inf) for k, v in self.parameters.items()}
        if self.dale is not None:
            low["W"][:, self.dale > 0] = 0.0
            high["W"][:, self.dale < 0] = 0.0
        if self.mask is not None:
            low["W"][~self.mask] = high["W"][~self.mask] = 0.0
        if self.train_tau:
            low["tau"] = np.full_like(self.parameters["tau"], np.finfo(float).tiny)
        return np.concatenate([v.ravel() for v in low.values()]), np.concatenate([v.ravel() for v in high.values()])

    @cached_property
    def _kernel(self) -> Kernel:
        cell, n, nx = self.cell, self.n, self.input_size
        A, B, C = len(cell.states), len(cell.preactivations), len(cell.thetas)
        made = cell.module
        functions = (made.source, made.rate, made.partials, made.drive)
        addresses = tuple(f.address for f in functions)
        by_theta = made.by_theta.address if self.train_tau else 0
        vector = [np.arange(n * n).reshape(n, n), n * n + np.arange(n * nx).reshape(n, nx)]
        vector.append(n * n + n * nx + np.arange(n)[:, None])
        index = np.concatenate(vector, axis=1)
        if self.mask is not None:
            index[:, :n][~self.mask] = -1
        tau = np.full(n, -1)
        if self.train_tau:
            tau = np.broadcast_to(n * n + n * nx + n + np.arange(self.parameters["tau"].size), (n,))
        listed, width = 0, n + nx + 1
        if self._lists is not None:
            width = self._lists.shape[1]
            listed = self._lists.ctypes.data
            index = np.where(self._exists, np.take_along_axis(index, self._lists, axis=1), -1)
        shared = network.table(listed != 0)
        return Kernel(
            shared.table,
            groups=n,
            columns=width + C,
            index=np.append(index, tau[:, None], axis=1).ravel(),
            extra=(
                n,
                A,
                B,
                C,
                nx,
                width,
                listed,
                *addresses,
                by_theta,
                int(made.NEEDS_U),
                int(made.DRIVE_NEEDS_U),
                shared.table.ctypes.data,
            ),
            scratch=network.scratch_size(n, A, B, nx),
            blas=True,
            keep=(made, shared, self._lists),
            divisible=True,
            moving=True,
            parts=self._parts(),
        )

    def parameter_vjp(self, t: float, r: Any, K: Any, x: Any = None) -> Array:
        """K F_w as in Field; of one row (n,) it is an outer product, in no more memory than the answer."""
        K = checked_array("K", K)
        return self._outer(t, r, K, x) if K.shape == (self.n,) else super().parameter_vjp(t, r, K, x)

    def _outer(self, t: float, r: Any, V: Array, x: Any) -> Array:
        n, made, p = self.n, self.cell.module, self.parameters
        _, _, r, u_in = self._at_point(t, r, x)
        tau = self.time_constants
        s, u, c = np.empty(n), np.empty(n), np.empty(n)
        made.source.ctypes(n, r.ctypes.data, s.ctypes.data, 0, 0)
        if made.DRIVE_NEEDS_U or self.train_tau:
            u[:] = p["W"] @ s + p["U"] @ u_in + p["b"]
        made.drive.ctypes(n, r.ctypes.data, u.ctypes.data, tau.ctypes.data, c.ctypes.data)
        out = np.empty(self.m)
        named = self.unflatten(out)
        K = V * c
        np.outer(K, s, out=named["W"])
        if self.mask is not None:
            named["W"] *= self.mask
        np.outer(K, u_in, out=named["U"])
        named["b"][:] = K
        if self.train_tau:
            made.by_theta.ctypes(n, r.ctypes.data, u.ctypes.data, tau.ctypes.data, c.ctypes.data)
            named["tau"][...] = (V * c).sum() if p["tau"].ndim == 0 else V * c
        return out

    def describe(self) -> tuple[dict[str, Any], dict[str, Array]] | None:
        """What writes the network down; None of a subclass, which may do anything."""
        if type(self) is not RateNetwork:
            return None
        text = {"kind": "RateNetwork", "n": self.n, "inputs": self.input_size, "activation": self.activation}
        kept = {"tau": self.tau, "mask": self.mask, "dale": self.dale}
        text |= {"form": self.form, "train_tau": self.train_tau}
        return text, {name: value for name, value in kept.items() if value is not None}

    def _raisers(self) -> tuple[Callable[[], None], ...]:
        return (self._kernel.keep[1].pending.raise_pending,)

    def _parts(self) -> tuple[Array, Array] | None:
        """The part of each unit, where the mask leaves several sets of units without a connection between them."""
        if self.mask is None:
            return None
        from scipy.sparse import csr_array
        from scipy.sparse.csgraph import connected_components

        count, part = connected_components(csr_array(self.mask), directed=False)
        return (part.astype(np.int64), part.astype(np.int64)) if count > 1 else None

    @cached_property
    def _lists(self) -> Array | None:
        """Which sources each row of [W U b] lists, (n, width), filled up with 0.

        None where it is stored whole (ctrnn.kernels.products).
        """
        if self.mask is None:
            return None
        n, extra = self.n, self.input_size + 1
        longest = int(self.mask.sum(axis=1).max(initial=0))
        if LISTED_BELOW * n < longest:
            return None
        lists = np.zeros((n, longest + extra), dtype=np.int64)
        for i, row in enumerate(self.mask):
            places = np.flatnonzero(row)
            lists[i, : places.size] = places
        lists[:, longest:] = n + np.arange(extra)
        return lists

    @cached_property
    def is_dense(self) -> bool:
        """Whether the kernels store W whole, and its units are connected."""
        return self.mask is None or (self._lists is None and self._parts() is None)

    @cached_property
    def _exists(self) -> Array:
        """Which entries of the lists are weights, not filling, (n, width)."""
        assert self.mask is not None and self._lists is not None
        count, width = self.mask.sum(axis=1), self._lists.shape[1]
        place = np.arange(width)
        return (place < count[:, None]) | (place >= width - self.input_size - 1)

    def _packed(self, W: Array, U: Array, b: Array, tau: Array) -> Array:
        """[W U b], whole or as lists, and tau behind it, flat."""
        extended = np.concatenate([W, U, b[:, None]], axis=1)
        if self._lists is not None:
            extended = np.where(self._exists, np.take_along_axis(extended, self._lists, axis=1), 0.0)
        return np.concatenate([extended.ravel(), np.broadcast_to(tau, (self.n,))])

    def _kernel_vector(self) -> Array:
        p = self.parameters
        return self._packed(p["W"], p["U"], p["b"], self.tau)

    @cached_property
    def _network_form(self) -> NetworkForm:
        return NetworkForm(self.cell, self.train_tau)

    @property
    def _arrays(self) -> Any:
        """The graph of the network as array equations."""
        if "arrays" not in self._shared:
            self._shared["arrays"] = self.as_text()._arrays
        return self._shared["arrays"]

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds."""
        return {**super().__getstate__(), "_shared": {}}

    @property
    def row_slots(self) -> RowSlots | None:
        """Functions of many rows at once; none where most weights do not exist, as rows store all of them."""
        slots: RowSlots | None = self._arrays.row_slots if self.is_dense else None
        return slots

    @property
    def rows_entries(self) -> Array:
        """The numbers that ``row_slots`` makes its own ones from: parameters, a fixed tau, and 0."""
        return np.concatenate([self.vector, [] if self.train_tau else self.tau.ravel(), [0.0]])

    def _network_weights(self) -> Weights:
        p = self.parameters
        drive = np.concatenate([p["U"], p["b"][:, None]], axis=1)
        return Weights(p["W"], drive, np.broadcast_to(self.tau, (self.n,)))

    def _network_gradient(self, W: Array, drive: Array, theta: Array) -> Array:
        parts = {"W": W if self.mask is None else W * self.mask, "U": drive[:, :-1], "b": drive[:, -1]}
        if self.train_tau:
            parts["tau"] = theta if self.tau.ndim else theta.sum()
        return np.concatenate([np.ravel(parts[name]) for name in self.parameter_names])

    @cached_property
    def _second_kernel(self) -> SecondKernel:
        cell, n, nx = self.cell, self.n, self.input_size
        A, B, C = len(cell.states), len(cell.preactivations), len(cell.thetas)
        made = cell.second_module
        addresses = (made.source_tangent.address, made.rate_tangent.address, made.curvature.address)
        jvp, second = network_second.addresses()
        return SecondKernel(
            jvp, second, addresses, network_second.scratch_size(n, A, B, C, nx), keep=(made, network_second)
        )

    @cached_property
    def _lanes_kernel(self) -> LanesKernel:
        scratch = network_lanes.scratch_size(self.n, len(self.cell.preactivations), self.input_size)
        return LanesKernel(abi.address_of(network_lanes.field), scratch, keep=(network_lanes,))

    def _kernel_direction(self, vector: Array) -> Array:
        d = self.unflatten(vector)
        W = d["W"] if self.mask is None else d["W"] * self.mask
        return self._packed(W, d["U"], d["b"], d.get("tau", np.zeros(())))

    def torch_function(self) -> Callable[..., Any]:
        """F(t, r, w, x) on tensors: r (..., n), w a dict of tensors, x (..., input_size) or None."""
        # copies: torch warns of arrays that are read-only
        made, tau, mask = self.cell.module, self.tau.copy(), None if self.mask is None else self.mask.copy()

        def field(t: Any, r: Any, w: dict[str, Any], x: Any = None) -> Any:
            """τ dr/dt on tensors, r (..., n); the weights may be given or trained."""
            import torch

            W = w["W"] if mask is None else w["W"] * torch.as_tensor(mask, device=r.device)
            u = made.torch_source([r]) @ W.mT + w["b"]
            if x is not None and w["U"].shape[-1]:
                u = u + x @ w["U"].mT
            theta = w["tau"] if "tau" in w else torch.as_tensor(tau, dtype=r.dtype, device=r.device)
            return made.torch_rate([r], [u], [theta])[0]

        return field

    # -- torch's own network

    @classmethod
    def from_torch(cls, module: Any, tau: Any = 1.0, layer: int = 0, reverse: bool = False) -> RateNetwork:
        """The network of form "rate" whose Euler step of dt = tau is a layer of a torch.nn.RNN.

        Parameters
        ----------
        module : torch.nn.RNN
            The module.
        tau : float or array_like (n,)
            The time constant.
        layer : int
            Which of its layers.
        reverse : bool
            The direction that runs backwards in time, of a bidirectional one.

        Returns
        -------
        RateNetwork
            With the module's numbers.
        """
        import torch

        if not isinstance(module, torch.nn.RNN):
            raise UsageError("module", given=type(module).__name__, allowed="a torch.nn.RNN")
        end = f"_l{layer}" + ("_reverse" if reverse else "")
        if not hasattr(module, f"weight_ih{end}"):
            raise UsageError("layer", given=(layer, reverse), allowed=f"a layer and direction of {module}")
        W, U, *biases = (
            getattr(module, name + end).detach().cpu().double().numpy()
            for name in ("weight_hh", "weight_ih", "bias_ih", "bias_hh")
            if hasattr(module, name + end)
        )
        network = cls(len(W), U.shape[1], tau, module.nonlinearity, form="rate", seed=0)
        return network.with_parameters(W=W, U=U, b=sum(biases, np.zeros(len(W))))

    def to_torch(self) -> Any:
        """The torch.nn.RNN (one layer, batch_first, float64) that one Euler step of dt = tau is."""
        import torch

        if self.form != "rate" or self.activation not in ("tanh", "relu"):
            given = f"form={self.form!r}, activation={self.activation!r}"
            raise UsageError("network", given=given, allowed="form='rate' with tanh or relu, which torch.nn.RNN has")
        kinds: Any = {"nonlinearity": self.activation, "batch_first": True, "dtype": torch.float64}
        module = torch.nn.RNN(self.input_size, self.n, **kinds)
        p = self.parameters
        with torch.no_grad():
            for name, value in (
                ("weight_hh", p["W"]),
                ("weight_ih", p["U"]),
                ("bias_ih", p["b"]),
                ("bias_hh", 0 * p["b"]),
            ):
                getattr(module, f"{name}_l0").copy_(torch.tensor(value))
        return module


def without_self(function: Callable[..., Any]) -> inspect.Signature:
    """The signature of a class, from that of its ``__init__``."""
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[1:], return_annotation=signature.empty)


def _check_activation(activation: Any) -> None:
    """Raise UnknownNameError for what is no name and no formula in z."""
    if not (isinstance(activation, str) and re.search(r"\bz\b", activation)):
        one_of("activation", activation, ACTIVATIONS)


def _of_rank(
    rank: int,
    n: int,
    inputs: int = 0,
    tau: Any = 1.0,
    activation: str = "tanh",
    gain: float = 1.0,
    seed: int | None = None,
    form: str = "state",
    mask: Any = None,
    dale: Any = None,
    train_tau: bool = False,
) -> LowRankNetwork:
    for name, given in (("mask", mask), ("dale", dale)):
        if given is not None:
            allowed = "None, of a network of a given rank: the entries of M Nᵀ are no parameters"
            raise UsageError(name, given=given, allowed=allowed)
    _check_activation(activation)
    one_of("form", form, ("state", "rate"))
    return LowRankNetwork(n, inputs, tau, activation, gain, seed, form, rank, train_tau)


# what help and editors show: the arguments of __init__, which __new__ only looks at
RateNetwork.__signature__ = without_self(RateNetwork.__init__)  # type: ignore[attr-defined]
