"""Linear state space: dr/dt = A r + B x + b, with its exact steps for an input that is held.

    r(t + h) = Φ r(t) + Γ x + γ,        [Φ Γ γ; 0 1] = exp(h [A B b; 0 0])

(C. F. Van Loan, Computing integrals involving the matrix exponential, IEEE Trans. Automat. Contr. 23, 1978.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.linalg import expm

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.fields.networks.text import TextNetwork, checked_gain, checked_sizes, drive
from ctrnn.numbers import checked_array, generator


class LinearNetwork(TextNetwork):
    """A linear state space, dr/dt = A r + B x + b.

    Parameters
    ----------
    n : int
        States.
    inputs : int, default 0
        Input channels.
    tau : float or array_like (n,), default 1
        Of the random A = (−1 + gain G)/tau, G with entries of standard deviation 1/√n: stable for gain < 1, mostly.
    gain : float, default 0.5
        See tau.
    seed : int, optional
        Of the random A and B.
    masks : dict, optional
        Parameter name -> booleans; entries outside are 0, stay 0, and have gradient 0. A diagonal A is
        ``masks={"A": np.eye(n)}``.
    dale : array_like (n,) of +1 and −1, optional
        Column j of A, what state j sends to the others, has that sign; the diagonal is free.

    Raises
    ------
    UsageError
        For sizes and values that are not allowed.

    Notes
    -----
    States "r"; parameters ``A`` (n, n), ``B`` (n, inputs), ``b`` (n,).

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.LinearNetwork(2, inputs=1).with_parameters(A=[[0.0, 1.0], [-1.0, 0.0]], B=[[0.0], [1.0]])
    >>> Phi, Gamma, gamma = field.zero_order_hold(np.pi / 2)
    >>> Phi.round(12) + 0.0
    array([[ 0.,  1.],
           [-1.,  0.]])
    """

    sends = "A"

    def __init__(
        self,
        n: int,
        inputs: int = 0,
        tau: Any = 1.0,
        *,
        gain: float = 0.5,
        seed: int | None = None,
        masks: Mapping[str, Any] | None = None,
        dale: Any = None,
    ) -> None:
        n, inputs = checked_sizes(n, inputs)
        rate = checked_array("tau", tau)
        if rate.shape not in ((), (n,)) or not (rate > 0.0).all():
            raise UsageError("tau", given=tau, allowed=f"a positive number, or {n} of them")
        rng = generator(seed)
        A = (checked_gain(gain) * rng.normal(0.0, 1.0 / np.sqrt(n), (n, n)) - np.eye(n)) / np.reshape(rate, (-1, 1))
        weights = {"A": A}
        if inputs:
            weights["B"] = rng.normal(0.0, 1.0 / np.sqrt(inputs), (n, inputs))
        weights["b"] = np.zeros(n)
        rates = {"r": drive(hidden="A @ r", inputs=inputs, U="B")}
        super().__init__(rates, weights, {"r": n}, inputs, masks=masks, dale=dale)

    def _signs(self, dale: Array) -> Array:
        return super()._signs(dale) * (1.0 - np.eye(dale.size))

    def zero_order_hold(self, dt: float) -> tuple[Array, Array, Array]:
        """Φ (n, n), Γ (n, inputs), γ (n,) of the exact step r⁺ = Φ r + Γ x + γ of length dt, with x held.

        Parameters
        ----------
        dt : float
            The step, in the unit of t.

        Returns
        -------
        Phi, Gamma, gamma : ndarray
            Exact to the rounding of scipy.linalg.expm, for any dt.
        """
        step = float(checked_array("dt", dt, ()))
        if not step > 0.0:
            raise UsageError("dt", given=dt, allowed="a positive number in the unit of t")
        n, nx, p = self.n, self.input_size, self.parameters
        whole = np.zeros((n + nx + 1, n + nx + 1))
        whole[:n] = np.concatenate([p["A"], p.get("B", np.zeros((n, 0))), p["b"][:, None]], axis=1)
        powers = expm(step * whole)
        return powers[:n, :n], powers[:n, n : n + nx], powers[:n, -1]
