"""Every error that the toolkit raises on purpose.

Two families, by who has to act. A :class:`UsageError` says that the call or the experiment file asks for something
impossible: the message names the argument, what was given, what is allowed and what to try. A :class:`CtrnnError` of
any other kind says that the numbers went wrong on a well-posed call: it carries what a person needs to go on, such as
the last good time and state. The command line turns the first into exit code 2 and the second into exit code 1.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np


class CtrnnError(Exception):
    """Base of all errors of the toolkit."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # an error has to come back from another process, whatever its arguments are called
        return _as_it_was, (type(self), self.args, self.__dict__)


class UsageError(CtrnnError, ValueError):
    """An argument, a name or a file that cannot be used.

    >>> raise UsageError("dt", given=-0.1, allowed="a positive number of time units")
    Traceback (most recent call last):
    ctrnn.errors.UsageError: dt: got -0.1; allowed: a positive number of time units
    """

    exit_code = 2

    def __init__(self, argument: str, *, given: Any = None, allowed: str = "", hint: str = "") -> None:
        self.argument, self.given, self.allowed, self.hint = argument, given, allowed, hint
        text = f"{argument}: got {short(given)}"
        if allowed:
            text += f"; allowed: {allowed}"
        if hint:
            text += f". Try: {hint}"
        super().__init__(text)


class MemoryLimitError(UsageError, MemoryError):
    """An argument that asks for more memory than there is, found out before it is taken.

    Attributes: ``needed`` and ``available``, in bytes.

    >>> raise MemoryLimitError("n", needed=2.0**40, available=2**34)
    Traceback (most recent call last):
    ctrnn.errors.MemoryLimitError: n: needs 1,024 GiB of memory; there are 16 GiB
    """

    def __init__(self, argument: str, *, needed: float, available: float, hint: str = "") -> None:
        super().__init__(argument)
        self.needed, self.available, self.hint = needed, available, hint
        text = f"{argument}: needs {in_gib(needed)} of memory; there are {in_gib(available)}"
        self.args = (f"{text}. Try: {hint}" if hint else text,)


def in_gib(nbytes: float) -> str:
    """A number of bytes as people say it.

    >>> in_gib(1.3e9), in_gib(932 * 2.0**30), in_gib(1e30)
    ('1.21 GiB', '932 GiB', '9.31e+20 GiB')
    """
    gib = float(min(nbytes, 10**300)) / 2**30
    return f"{gib:.3g} GiB" if gib < 999.5 or gib >= 1e7 else f"{gib:,.0f} GiB"


class UnknownNameError(UsageError):
    """A name (of a solver, method, state, parameter, column, ...) that does not exist."""

    def __init__(self, argument: str, given: Any, known: Any, hint: str = "") -> None:
        known = [str(k) for k in known]
        hint = hint or nearest(given, known)
        super().__init__(argument, given=given, allowed=", ".join(known) or "none", hint=hint)
        self.known = known


def one_of(argument: str, given: Any, known: Any, hint: str = "") -> None:
    """UnknownNameError unless ``given`` is one of the known names (or None, where that is one of them)."""
    if not (given is None or isinstance(given, str)) or given not in known:
        raise UnknownNameError(argument, given, known, hint)


class ExpressionError(UsageError):
    """An equation or a loss written as text that is not a formula in the known symbols."""


class ExperimentError(UsageError):
    """An experiment file with a wrong line, key or value."""


class MissingDependencyError(CtrnnError, ImportError):
    """An optional package is needed for this call."""

    exit_code = 2

    def __init__(self, package: str, what: str, extra: str) -> None:
        super().__init__(f"{what} needs {package}; install it with: pip install 'ctrnn-toolkit[{extra}]'")


def optional_module(name: str, what: str, package: str, extra: str) -> Any:
    """A module of a package that the user may not have, which ``what`` needs; ``extra`` of ours brings it.

    Raises MissingDependencyError, which says how to get it.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(package, what, extra) from error


class SolverError(CtrnnError, RuntimeError):
    """A solution that could not be carried to the end of its time span.

    Attributes: ``t`` last good time, ``r`` state there (n,), ``h`` step size tried, ``reason``, ``hint``.
    """

    def __init__(self, reason: str, *, t: float, r: Any, h: float, hint: str) -> None:
        self.reason, self.t, self.r, self.h, self.hint = reason, t, np.asarray(r), h, hint
        super().__init__(f"{reason}; last good t = {t:.10g}, step h = {h:.3g}, state r = {short(self.r)}. Try: {hint}")


class StepUnderflowError(SolverError):
    """The step size fell below the smallest one that moves t (or below ``min_step``)."""


class DivergenceError(SolverError):
    """The field or the solution became infinite or NaN."""


class TooManyStepsError(SolverError):
    """``max_steps`` was reached before the end of the time span."""


class ConvergenceOfStageError(SolverError):
    """Newton's method failed in an implicit stage."""


class NotFiniteError(CtrnnError, ArithmeticError):
    """A loss or a gradient that is infinite or NaN, on a solution that is finite."""


class ConvergenceError(CtrnnError, RuntimeError):
    """An iteration that did not reach its tolerance."""


class ReconstructionError(CtrnnError, ArithmeticError):
    """A state run backwards that does not come back to where it was. Attributes: ``t``, ``relative`` error there."""

    def __init__(self, t: float, relative: float, hint: str) -> None:
        self.t, self.relative = t, relative
        super().__init__(f"run backwards, the state at t = {t:.6g} is off by {relative:.2g} (relative). Try: {hint}")


class ReconstructionWarning(UserWarning):
    """A state run backwards has lost digits that the tolerance promised."""


class ZeroGradientWarning(UserWarning):
    """A gradient is exactly zero and the loss is not: the objective may not depend on the solution at all."""


class GradientAccuracyWarning(UserWarning):
    """The steps could not be made so short that the gradient is as accurate as the tolerance says."""


class NotHurwitzError(CtrnnError, ArithmeticError):
    """A flow that would grow: some eigenvalue has a real part that is not negative.

    Attribute: ``abscissa``, the largest real part (the spectral abscissa).
    """

    def __init__(self, abscissa: float, what: str, hint: str) -> None:
        self.abscissa = abscissa
        super().__init__(f"{what} is not Hurwitz: its spectral abscissa is {abscissa:.6g}, not negative. Try: {hint}")


class SingularJacobianError(CtrnnError, ArithmeticError):
    """A Jacobian that cannot be inverted to working precision. Attribute: ``condition``."""

    def __init__(self, condition: float, what: str, hint: str) -> None:
        self.condition = condition
        super().__init__(f"{what} is singular to working precision (condition {condition:.3g}). Try: {hint}")


class NotAtRestError(CtrnnError, ArithmeticError):
    """A point given as an equilibrium at which the field does not vanish. Attribute: ``residual``."""

    def __init__(self, residual: float, what: str, hint: str) -> None:
        self.residual = residual
        super().__init__(f"{what} is not at rest: the largest |F| there is {residual:.3g}. Try: {hint}")


def _as_it_was(kind: type[CtrnnError], args: tuple[Any, ...], attributes: dict[str, Any]) -> CtrnnError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


def nearest(given: Any, known: Any) -> str:
    """The question whether the nearest of the known names was meant; empty where none is near.

    >>> nearest("tsit6", ["rk4", "tsit5"]), nearest("N", ["n"])
    ("did you mean 'tsit5'?", "did you mean 'n'?")
    >>> nearest("i", ["pi"]), nearest("scipy:foo", ["scipy:BDF"])
    ('', '')
    """
    from difflib import get_close_matches

    text, names = given if isinstance(given, str) else "", [str(k) for k in known]
    close = [name for name in names if name.lower() == text.lower()]
    if not close and len(text) > 2:  # of two letters, half are always alike
        close = get_close_matches(text, names, n=1, cutoff=0.75)
    return f"did you mean {close[0]!r}?" if close else ""


def short(value: Any) -> str:
    """A value in at most a line.

    >>> short(np.zeros((50, 2)))
    'array of shape (50, 2)'
    """
    if isinstance(value, np.ndarray):
        if value.size > 6:
            return f"array of shape {value.shape}"
        return " ".join(np.array2string(value, precision=6).splitlines())
    if isinstance(value, int) and value.bit_length() > 350:  # Python refuses to write out more than 4,300 digits
        return f"a whole number of some {int(value.bit_length() * 0.30103) + 1} digits"
    if isinstance(value, str | bytes | list | tuple) and len(value) > 120:  # not a million to show three
        value = value[:120]
    try:
        text = " ".join(repr(value).splitlines())
    except Exception:  # somebody else's repr, in a message about something else
        text = f"an object of type {type(value).__name__}"
    return text if len(text) <= 120 else text[:117] + "..."
