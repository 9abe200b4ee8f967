"""Derivatives of formulas, by a walk over their graph (ctrnn.fields.algebra).

    backward    z̄ += f̄ ∂f/∂z, from the formula to its names        all ∂f/∂q of one formula in one walk
    forward     δf = Σ ∂f/∂z δz, from the names to the formula        along one direction

(A. Griewank & A. Walther, Evaluating Derivatives, 2nd ed., SIAM 2008, ch. 3.) Both make graphs of a few times the size
of the formula. They are in a form that can be evaluated wherever the derivative exists:

- A case takes the derivative of the case that holds, whatever the other one is: δ(a if c else b) = δa if c else δb.
  Backward, the derivatives of the two cases are chosen between name by name, as 0·∞ is no 0.
- b^p with an exponent that is no number has the derivatives p b^(p−1) and b^p log b. At b = 0, where a Hill function
  x^n/(K^n + x^n) starts, p b^p/b would be 0·∞; b^p log b has the limit 0 for p > 0, which ``power_log`` knows.
- At a corner they are those of one side, as torch has them: |z|′ = 0 at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from ctrnn.fields.algebra import (
    HALF,
    ONE,
    PI,
    RELATIONS,
    ZERO,
    Node,
    add,
    function,
    inside,
    mul,
    power,
    power_log,
    where,
)

_SLOPES: Mapping[str, Callable[[Node, Node], Node]] = {
    "exp": lambda z, f: f,
    "log": lambda z, f: 1 / z,
    "sin": lambda z, f: function("cos", z),
    "cos": lambda z, f: -function("sin", z),
    "tan": lambda z, f: 1 + f**2,
    "asin": lambda z, f: 1 / power(1 - z**2, HALF),
    "acos": lambda z, f: -1 / power(1 - z**2, HALF),
    "atan": lambda z, f: 1 / (1 + z**2),
    "sinh": lambda z, f: function("cosh", z),
    "cosh": lambda z, f: function("sinh", z),
    "tanh": lambda z, f: 1 - f**2,
    "erf": lambda z, f: 2 / power(PI, HALF) * function("exp", -(z**2)),
    "sigmoid": lambda z, f: f * (1 - f),
    "softplus": lambda z, f: function("sigmoid", z),
    "abs": lambda z, f: function("sign", z),
    "sign": lambda z, f: ZERO,
}
"""The derivative of each function at z, given its value f there."""


def partials(node: Node) -> list[Node]:
    """The derivatives of an operation by each of its arguments (but not of a case)."""
    if node.op == "add":
        return [ONE] * len(node.args)
    if node.op == "mul":
        return _others(node.args)
    if node.op == "pow":
        b, p = node.args
        if p.value is not None:
            return [p * power(b, p - 1), ZERO]
        if b.value is not None and b.value > 0.0:
            return [ZERO, node * function("log", b)]
        return [p * power(b, p - 1), power_log(b, p, 1)]
    if node.op == "power_log":
        b, p, k = node.args
        count = int(k.exact)
        before = power(b, p - 1) if count == 1 else power_log(b, p - 1, count - 1)
        return [p * power_log(b, p - 1, count) + k * before, power_log(b, p, count + 1), ZERO]
    if node.op in _SLOPES:
        return [_SLOPES[node.op](node.args[0], node)]
    return [ZERO] * len(node.args)  # a condition is flat


def _others(factors: Sequence[Node]) -> list[Node]:
    """For each factor the product of all others: by products from the left and from the right, never by a division."""
    left, right = [ONE], [ONE]
    for a, b in zip(factors[:-1], reversed(factors[1:]), strict=True):
        left.append(mul(left[-1], a))
        right.append(mul(right[-1], b))
    return [mul(a, b) for a, b in zip(left, reversed(right), strict=True)]


def gradient(f: Node, names: Collection[str]) -> dict[str, Node]:
    """∂f/∂q for the names q, as far as it is not 0 everywhere."""
    wanted = set(names)
    cases: dict[Node, dict[str, Node]] = {}
    for node in inside([f]):  # inner cases before outer ones
        if node.op == "where":
            _, yes, no = node.args
            by_yes, by_no = _backward(yes, wanted, cases), _backward(no, wanted, cases)
            cases[node] = {q: where(node.args[0], by_yes.get(q, ZERO), by_no.get(q, ZERO)) for q in (by_yes | by_no)}
    return _backward(f, wanted, cases)


def _backward(f: Node, wanted: set[str], cases: Mapping[Node, Mapping[str, Node]]) -> dict[str, Node]:
    """One walk backward, with the derivatives of the cases inside f known."""
    order: dict[Node, None] = {}
    stack = [(f, False)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.setdefault(node)
        elif node not in order and node.value is None:
            stack.append((node, True))
            if node.op not in ("name", "where", *RELATIONS):
                stack += [(a, False) for a in node.args]
    terms: dict[Node, list[Node]] = {f: [ONE]}
    found: dict[str, list[Node]] = {}
    for node in reversed(order):
        arrived = terms.pop(node, None)
        if arrived is None:
            continue
        bar = add(*arrived)
        if bar is ZERO:
            continue
        if node.op == "name":
            if node.args[0] in wanted:
                found.setdefault(node.args[0], []).append(bar)
        elif node.op == "where":
            for q, slope in cases[node].items():
                found.setdefault(q, []).append(mul(bar, slope))
        else:
            for argument, slope in zip(node.args, partials(node), strict=True):
                if argument.value is None and slope is not ZERO:
                    terms.setdefault(argument, []).append(mul(bar, slope))
    sums = {q: add(*parts) for q, parts in found.items()}
    return {q: total for q, total in sums.items() if total is not ZERO}


def tangent(formulas: Sequence[Node], direction: Mapping[str, Node]) -> list[Node]:
    """δf of each formula, where the names change by ``direction``, and no others."""
    changes: dict[Node, Node] = {}
    for node in inside(formulas):
        if node.op == "name":
            changes[node] = direction.get(node.args[0], ZERO)
        elif node.value is not None or node.op in RELATIONS:
            changes[node] = ZERO
        elif node.op == "where":
            condition, yes, no = node.args
            changes[node] = where(condition, changes[yes], changes[no])
        else:
            moving = [changes[a] for a in node.args]
            slopes = partials(node) if any(d is not ZERO for d in moving) else []
            changes[node] = add(*(mul(s, d) for s, d in zip(slopes, moving, strict=bool(slopes)) if d is not ZERO))
    return [changes[f] for f in formulas]


def derivative(f: Node, name: str) -> Node:
    """∂f/∂name.

    >>> from ctrnn.fields.algebra import symbol
    >>> from ctrnn.fields.printing import text
    >>> x, n = symbol("x"), symbol("n")
    >>> text(derivative(x**n, "x")), text(derivative(x**n, "n")), text(derivative(x**3, "x"))
    ('n*x**(n - 1)', 'power_log(x, n, 1)', '3*x**2')
    """
    return gradient(f, (name,)).get(name, ZERO)
