"""Formulas: such that are right, such that are nearly right, and such that would do harm if they were run.

A text is refused, by an error of ctrnn.errors, or it is what NumPy makes of it, at points where both are finite.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from random import Random

import numpy as np
from scipy import special

import ctrnn
from ctrnn.errors import CtrnnError

NAMES = {"r": 0.7, "u": -0.4, "k": 1.3, "t": 0.25}
FUNCTIONS = {
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "abs": np.abs,
    "sign": np.sign, "erf": special.erf, "relu": lambda z: np.maximum(z, 0.0), "atan": np.arctan, "sinh": np.sinh,
}  # fmt: skip
NUMBERS = ["0", "1", "2", "0.5", "3", "1e-3", "1e200", "1e-200", "1e308", "7", "0.1", "1/3"]
HARM = [
    "__import__('os').system('true')", "r.__class__", "(lambda: 1)()", "[x for x in (1,)]", "open('/etc/passwd')",
    "exec('1')", "f'{r}'", "r; u", "r\nimport os", "print(r)", "{r: 1}", "r := 1", "getattr(r, 'a')", "r if u else k",
    "...", "None", "True", "'r'", "b'r'", "r and u", "not r", "r << 2", "r // u", "r % u", "~r", "*r", "r[0]", "r(1)",
    "_", "r\x00", "r\u200b", "\ufeffr", "ｒ", "٣", "1_000", "0x10", "1j", "9" * 5000, "(" * 3000 + "r" + ")" * 3000,
    "-" * 3000 + "r", "r" + "**r" * 200, "1e999", "r**1e400", "zoo", "oo", "nan", "inf", "I", "lambda", "E",
    "pi**pi**pi",
    "r" * 10_000, "+".join(["r"] * 3000), "", " ", "#", "r #", "\\", "r\\\n+u", "0**-1", "1/0", "log(0)", "0/0",
]  # fmt: skip


def warm_up() -> None:
    """The compiler, once."""
    _value("tanh(r) + k*u")


def _formula(random: Random, depth: int) -> str:
    """A formula of the grammar."""
    kind = random.random()
    if depth == 0 or kind < 0.2:
        return random.choice([*NAMES, *NUMBERS])
    if kind < 0.45:
        return f"{random.choice(list(FUNCTIONS))}({_formula(random, depth - 1)})"
    if kind < 0.5:
        return f"{random.choice(['max', 'min'])}({_formula(random, depth - 1)}, {_formula(random, depth - 1)})"
    if kind < 0.6:
        exponent = random.choice(["2", "3", "0.5", "-1", "1/3", "k", "0", "-2", "1e3"])
        return f"({_formula(random, depth - 1)})**({exponent})"
    if kind < 0.7:
        return f"-({_formula(random, depth - 1)})"
    return f"({_formula(random, depth - 1)} {random.choice('+-*/')} {_formula(random, depth - 1)})"


def _damaged(random: Random, text: str) -> str:
    """The text with a letter more, less, or another."""
    at = random.randrange(len(text) + 1)
    letters = "()+-*/,.=[]{}'\"\\@#;:!?%^&|~<> \n\t\x00é²½∞_aezr019"
    cut = random.randrange(2)
    return text[:at] + random.choice([*letters, ""]) + text[at + cut :]


def _value(text: str) -> float:
    """F by ctrnn."""
    field = ctrnn.Equations({"r": text, "u": "-u"}, {"k": NAMES["k"]})
    F = field(NAMES["t"], [NAMES["r"], NAMES["u"]])
    with np.errstate(all="ignore"):
        field.jacobian(NAMES["t"], [NAMES["r"], NAMES["u"]])
    return float(F[0])


def _reference(text: str) -> float:
    """F by NumPy; NaN where it has none. The text is one of the grammar, and of no stranger's making."""
    known = (
        FUNCTIONS | {name: np.float64(value) for name, value in NAMES.items()} | {"max": np.maximum, "min": np.minimum}
    )
    with np.errstate(all="ignore"):
        try:
            return float(eval(text, {"__builtins__": {}}, known))  # noqa: S307
        except (ZeroDivisionError, OverflowError, TypeError):
            return float("nan")


def case(random: Random) -> tuple[str, Callable[[], str]]:
    """A formula, and what comes of it."""
    kind = random.random()
    text = random.choice(HARM) if kind < 0.25 else _formula(random, random.choice((1, 2, 2, 3)))
    is_right = kind >= 0.6
    for _ in range(0 if is_right else random.choice((0, 1, 3))):
        text = _damaged(random, text)

    def run() -> str:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = _value(text)
        except CtrnnError as error:
            str(error)
            return "refused"
        # what is added to such a number, and its sine, is a matter of rounding
        if is_right and "1e200" not in text and "1e308" not in text:
            expected = _reference(text)
            if np.isfinite(expected) and np.isfinite(found) and abs(found - expected) > 1e-6 * max(1.0, abs(expected)):
                raise AssertionError(f"{found!r}, and by NumPy {expected!r}")
        return "taken"

    return repr(text), run
