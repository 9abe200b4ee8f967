"""G_h = φ₁(hD) F of array equations, as array equations in one more input h: the field of exponential Euler.

    φ₁(z) = (e^z − 1)/z,        D = ∂F/∂r entry by entry, all products, sums and parts held

(ctrnn.fields.exponential has the method.) D follows elementwise formulas alone: it is what an entry does to itself
directly. φ₁ is written as Σ z^k/(k + 1)! for |z| < 1, where its quotient would lose all digits.
"""

from __future__ import annotations

from ctrnn.fields.algebra import ZERO, Node, add, compare, function, mul, number, power, where
from ctrnn.fields.arrays.values import Builder, Formula, Value
from ctrnn.fields.derivatives import gradient

#: terms of the series: the next one is below 1e-18 at |z| = 1
TERMS = 18


def with_step_size(builder: Builder, outputs: dict[Value, Value], start: int) -> dict[Value, Value]:
    """state -> value of G_h, of those of F; h is the input at ``start``."""
    h = builder.symbol(builder.leaf(Value("#h", (), "input", start)))
    changed = {}
    for state, value in outputs.items():
        rate = _own_rate(builder, value, state, {})
        if rate != ZERO:
            value = builder.formula(mul(_phi(mul(h, rate)), builder.symbol(value)), state.shape)
        changed[state] = value
    return changed


def own_rates(builder: Builder, outputs: dict[Value, Value]) -> dict[Value, Value]:
    """state -> value of D."""
    return {
        state: builder.formula(_own_rate(builder, value, state, {}), state.shape) for state, value in outputs.items()
    }


def _own_rate(builder: Builder, value: Value, state: Value, known: dict[Value, Node]) -> Node:
    """∂ value/∂ state, entry by entry, through formulas."""
    if value is state:
        return number(1)
    if not isinstance(value.step, Formula) or value.size != state.size:
        return ZERO
    if value not in known:
        slopes = gradient(value.step.expression, [v.name for v in value.step.inputs])
        terms = [
            mul(slopes[v.name], inner)
            for v in value.step.inputs
            if v.name in slopes and (inner := _own_rate(builder, v, state, known)) != ZERO
        ]
        known[value] = add(*terms) if terms else ZERO
    return known[value]


def _phi(z: Node) -> Node:
    near = compare("<", function("abs", z), number(1))
    small, large = where(near, z, ZERO), where(near, number(1), z)  # neither is ever 0/0, nor are its derivatives
    series = number(1)
    for k in range(TERMS, 0, -1):
        series = add(number(1), mul(series, small, number(1.0 / (k + 1))))
    quotient = mul(add(function("exp", large), number(-1)), power(large, number(-1)))
    return where(near, series, quotient)
