"""The losses that are known by name: each a formula, written once, from which all else is derived.

    ℓ(o, y) = Σ_i φ(o_i, y_i)                    ∂ℓ/∂o_i = φ′(o_i, y_i)
    through a softmax o = e^u / Σ e^u            ∂ℓ/∂u = o ∘ (∂ℓ/∂o − ∂ℓ/∂o · o)
    in log o = u − log Σ e^u, ℓ = Σ_i φ(log o_i, y_i)      ∂ℓ/∂u = φ′ − o Σ_i φ′_i

φ is a text in ``o`` and ``y``, or in ``log_o`` and ``y`` for what goes with a softmax read-out, whose logarithm loses
no digits. φ′ and φ″ follow from it (ctrnn.fields.derivatives), as functions of whole arrays (below) and as compiled
code (ctrnn.gradients.continuous.integral). A new loss is one line of ``LOSSES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.fields.algebra import Node, inside
from ctrnn.fields.derivatives import derivative
from ctrnn.fields.evaluate import numpy_function
from ctrnn.fields.expressions import read

Array = NDArray[np.float64]

#: operations of a formula that never warn, of numbers that are finite
_QUIET = frozenset({"number", "name", "add", "mul"})


@dataclass(frozen=True)
class NamedLoss:
    """A loss ℓ = Σ_i φ(o_i, y_i).

    Parameters
    ----------
    formula : str
        φ in ``o`` and ``y``, or in ``log_o`` and ``y``; the latter needs a softmax read-out.
    use : str
        What it is for, in a few words.
    target : tuple of float
        Between what the targets lie.
    likelihood : {"", "scaled", "exact"}
        "exact": minus a log-likelihood of the data; "scaled": up to a factor that the residuals tell; "": neither.
    """

    formula: str
    use: str
    target: tuple[float, float] = (-inf, inf)
    likelihood: str = ""

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the formula, not what was made of it."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @cached_property
    def of_log(self) -> bool:
        """Whether it is a function of log o, of a softmax read-out."""
        return "log_o" in self.formula

    @property
    def argument(self) -> str:
        """What φ is differentiated by: ``o`` or ``log_o``."""
        return "log_o" if self.of_log else "o"

    @cached_property
    def derivatives(self) -> tuple[Node, Node, Node]:
        """φ, φ′ and φ″."""
        phi = read(self.formula, [self.argument, "y"], where="loss")
        first = derivative(phi, self.argument)
        return phi, first, derivative(first, self.argument)

    @cached_property
    def _first(self) -> tuple[Callable[..., Any], bool]:
        return self._array_function(*self.derivatives[:2])

    @cached_property
    def _second(self) -> tuple[Callable[..., Any], bool]:
        return self._array_function(self.derivatives[2])

    def _array_function(self, *formulas: Node) -> tuple[Callable[..., Any], bool]:
        """A function of arrays, and whether it may warn."""
        whole = all(node.args[1].exact is not None for node in inside(formulas) if node.op == "pow")
        loud = not whole or any(node.op not in (*_QUIET, "pow") for node in inside(formulas))
        return numpy_function((self.argument, "y"), formulas), loud

    def by_output(self, v: Array, y: Array) -> tuple[Array, Array]:
        """φ and φ′ of each output, for o, or log o, (T, p) and y (T, p)."""
        function, loud = self._first
        if loud:
            with np.errstate(all="ignore"):  # of cases that are not taken
                parts, slope = function(v, y)
        else:
            parts, slope = function(v, y)
        if slope is y or slope is v or getattr(slope, "shape", ()) != v.shape:
            slope = np.array(np.broadcast_to(slope, v.shape), dtype=float)
        return parts, slope

    def __call__(self, o: Array, y: Array) -> tuple[Array, Array]:
        """ℓ (T,) and ∂ℓ/∂o (T, p), or ∂ℓ/∂log o."""
        parts, slope = self.by_output(o, y)
        return np.add.reduce(parts, axis=1), slope

    def curvature(self, v: Array, y: Array) -> Array:
        """φ″ of each output (T, p)."""
        with np.errstate(all="ignore"):
            (second,) = self._second[0](v, y)
        return np.broadcast_to(second, v.shape)


LOSSES: dict[str, NamedLoss] = {
    "squared_error": NamedLoss("(o - y)**2/2", "numbers with normal noise", likelihood="scaled"),
    "cross_entropy": NamedLoss("-y*log_o", "classes, by a softmax read-out", (0.0, inf), "exact"),
    "absolute_error": NamedLoss("abs(o - y)", "numbers with outliers: the median"),
    "huber": NamedLoss("(o - y)**2/2 if abs(o - y) <= 1 else abs(o - y) - 1/2", "numbers with outliers"),
    "poisson": NamedLoss("exp(o) - y*o", "counts with the rate e^o, as of spikes", (0.0, inf), "exact"),
    "binary_cross_entropy": NamedLoss("softplus(o) - y*o", "yes or no with the odds e^o", (0.0, 1.0), "exact"),
}
"""name -> loss. Errors, the experiment schema and the posterior of fits read it."""
