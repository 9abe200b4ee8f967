"""The reciprocal 1/a without a division.

    literal           dv/dt = va − 1            stable for a < 0                    v ← v + h(va − 1)
    flow              the same for a < 0, 1 − va for a > 0: the sign decides         v ← v ± h(va − 1)
    gradient-flow     dv/dt = −(va − 1)a        stable for every a ≠ 0              v ← v − η(va − 1)a
    newton-schulz     v ← v(2 − va)             1 − va is squared

The steps are powers of two from the exponent of a = ±m 2ᵉ, ½ ≤ m < 1: h = 2⁻ᵉ, η = 2⁻²ᵉ, v₀ = ±2⁻ᵉ: shifts, no
divisions. The error 1 − va is multiplied by 1 − m ≤ ½, by 1 − m² ≤ ¾, or squared from 1 − m.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np

from ctrnn.errors import NotHurwitzError, UsageError, one_of
from ctrnn.inverse import iterations
from ctrnn.inverse.result import EPS, Condition, Inverse, predicted
from ctrnn.numbers import real_array

SCALAR_METHODS = ("flow", "literal", "gradient-flow", "newton-schulz")
_TOL = 1e-15


def reciprocal(a: float, method: str = "flow") -> Inverse:
    """The reciprocal 1/a without a division.

    Parameters
    ----------
    a : float
        A finite number, neither zero nor subnormal.
    method : {"flow", "literal", "gradient-flow", "newton-schulz"}, default "flow"
        "flow" is dv/dt = va − 1 for a < 0 and 1 − va for a > 0; "literal" dv/dt = va − 1 whatever the sign;
        "gradient-flow" dv/dt = −(va − 1)a, which need not know the sign; "newton-schulz" v ← v(2 − va), which doubles
        the digits each time.

    Returns
    -------
    Inverse
        The value is a float.

    Raises
    ------
    UsageError
        For zero, NaN and infinity, and where 1/a may overflow (|a| < 2.3e-308).
    UnknownNameError
        For another method.
    NotHurwitzError
        For the literal flow of a positive a.

    Notes
    -----
    Source: note 001 of this project, corrected; the formulas are at the top of `ctrnn.inverse.scalar`.

    Examples
    --------
    >>> reciprocal(-8.0).value, reciprocal(3.0).value
    (-0.125, 0.3333333333333333)
    >>> reciprocal(3.0, "newton-schulz").iterations
    5
    """
    one_of("method", method, SCALAR_METHODS)
    found = real_array("a", a, "a real number")
    if found.ndim:
        raise UsageError("a", given=a, allowed="a real number", hint="right_divide")
    a = float(found)
    if not math.isfinite(a) or abs(a) < float(np.finfo(np.float64).tiny):
        raise UsageError("a", given=a, allowed="a finite number, neither zero nor subnormal")
    if method == "literal" and a > 0:
        raise NotHurwitzError(a, "dv/dt = va − 1", 'the method "flow", which turns the sign')
    sign = math.copysign(1.0, a)
    m, exponent = math.frexp(abs(a))
    h, order = math.ldexp(1.0, -exponent), 1
    if method == "gradient-flow":
        # |a| = m 2ᵉ: the flow of the mantissa, in v 2ᵉ, so that η = 2⁻²ᵉ cannot over- or underflow
        iterates: Iterator[float] = (
            math.ldexp(v, -exponent) for v in iterations.scalar_gradient_flow(sign * m, 1.0, 1.0)
        )
        gap, step, bound = m * m, 1.0, 2.0 / (m * m)
    elif method == "newton-schulz":
        iterates = iterations.scalar_newton(a, 2.0, sign * h)
        gap, order, step, bound = m, 2, h, 2.0 / abs(a)
    else:
        iterates = iterations.scalar_flow(a, 1.0, -sign * h)
        gap, step, bound = m, h, 2.0 / abs(a)
    value = 0.0
    history: list[float] = []
    for v in islice(iterates, 400):
        error = abs(v * a - 1.0)
        if history and error >= history[-1]:
            break  # the last bit
        value = v
        history.append(error)
        if error == 0.0:
            break
    residual = np.array(history)
    return Inverse(
        value=value,
        residual=residual,
        residual_at=np.arange(residual.size),
        iterations=residual.size - 1,
        converged=bool(residual[-1] <= _TOL),
        # |v − 1/a| = |va − 1|/|a|, 1/|a| ≤ |v|/(1 − |va − 1|) < 2|v|; EPS: the rounding of va − 1
        error_bound=2.0 * abs(value) * (float(residual[-1]) + EPS),
        condition=Condition(1.0, -abs(a), step, bound, 1.0 - gap, predicted(gap, _TOL, order), order),
        method=method,
    )
