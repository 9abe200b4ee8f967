"""From SymPy expressions to source text, and from source text to compiled functions that stay on disk.

The generated module is a plain Python file in the user's cache folder (``CTRNN_CACHE_DIR`` to choose another one), named
after a hash of what it was made from. Numba keeps its machine code beside it, so a second process neither derives nor
compiles anything; and the file can be read, which is the quickest way to see what is really computed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ctrnn.files import atomic_path

_lock = threading.RLock()
_SEAL = "# sha256 of the above: "


def cache_folder() -> Path:
    """Where generated modules live; a folder of the temporary directory if the usual one cannot be written."""
    import platformdirs

    chosen = os.environ.get("CTRNN_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(platformdirs.user_cache_dir("ctrnn"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    except OSError:
        pass
    # One folder a user, writable by nobody else: what lies in it is executed. In a shared directory somebody else may
    # have made it first; then this process takes one of its own.
    folder = Path(tempfile.gettempdir()) / f"ctrnn-{_user()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if _is_private(folder):
            return folder
    except OSError:
        pass
    return Path(_own_folder().name)


def _user() -> int | str:
    return os.getuid() if hasattr(os, "getuid") else "user"


def _is_private(folder: Path) -> bool:
    """A real folder of this user's that nobody else can write to (on Windows every temporary directory is)."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return False
    return not hasattr(os, "getuid") or (status.st_uid == _user() and not status.st_mode & 0o022)


@lru_cache(maxsize=1)
def _own_folder() -> Any:
    """A fresh folder, removed at the end of the process."""
    return tempfile.TemporaryDirectory(prefix="ctrnn-")


@lru_cache(maxsize=1)
def _generator() -> str:
    """The text of what writes generated modules and of what is compiled into them: part of every hash."""
    fields = Path(__file__).parent
    names = ("arrays/loops", "cells", "codegen", "derivatives", "equations", "expressions")
    files = [fields / f"{name}.py" for name in names]
    files += [fields.parent / "kernels" / f"{name}.py" for name in ("abi", "elementwise", "functions", "streams")]
    return _hash("".join(file.read_text(encoding="utf-8") for file in files))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _intact(path: Path) -> bool:
    """Whether the file is there, whole and as it was written."""
    try:
        body, _, seal = path.read_text(encoding="utf-8").rpartition(_SEAL)
    except (OSError, UnicodeDecodeError):
        return False
    return seal.strip() == _hash(body)


def module(recipe: str, build: Callable[[], str]) -> ModuleType:
    """The generated module for a recipe; ``build`` writes its source if it is not on disk yet."""
    digest = _hash(f"{_generator()}\n{sys.version_info[:2]}\n{recipe}")[:20]
    name = f"ctrnn_generated_{digest}"
    with _lock:  # one thread imports it, the others find it whole
        if name in sys.modules:
            return sys.modules[name]
        path = cache_folder() / f"{name}.py"
        if not _intact(path):
            source = build() + "\n"
            with atomic_path(path) as temporary:
                temporary.write_text(f"{source}{_SEAL}{_hash(source)}\n", encoding="utf-8")
        try:
            return _load(name, path)
        except Exception:
            # if it was Numba's cache that is damaged: machine code can be made again
            for file in (path.parent / "__pycache__").glob(f"{name}.*.nb?"):
                file.unlink(missing_ok=True)
            return _load(name, path)


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    try:
        spec.loader.exec_module(loaded)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded


_HEADER = '''"""Generated from

{recipe}
"""

import math

from numba import cfunc, types

from ctrnn.fields import torch_functions as T
from ctrnn.kernels.abi import SIGNATURES, doubles
from ctrnn.kernels.{functions} import {names}
'''


def header(recipe: Sequence[str], functions: str = "functions") -> str:
    """The head of a generated module; its elementary functions are those of kernels/functions or kernels/elementwise."""
    names = "power_log, sigmoid, sign, softplus" + (", exp, log, tanh" if functions == "elementwise" else "")
    return _HEADER.format(recipe="\n".join(indented(recipe)), functions=functions, names=names)


def printer(target: str) -> Any:
    """A SymPy printer for ``"numba"`` (math.*), ``"loop"`` (the same, for loops over units: ctrnn.kernels.elementwise) or
    ``"torch"`` (T.*, ctrnn.fields.torch_functions)."""
    from sympy.printing.precedence import precedence
    from sympy.printing.pycode import PythonCodePrinter

    class Printer(PythonCodePrinter):
        """Numbers as float64 with all their digits: whole ones could overflow int64. Only whole exponents stay whole."""

        def _print_Float(self, e: Any) -> str:
            return repr(float(e))

        def _print_Rational(self, e: Any) -> str:
            return repr(int(e.p) / int(e.q))

        _print_Integer = _print_Zero = _print_One = _print_NegativeOne = _print_Half = _print_Rational

        def _print_Pow(self, e: Any, **options: Any) -> str:
            if e.exp.is_Integer and e.exp != -1:
                return f"{self.parenthesize(e.base, precedence(e))}**{self._exponent(e.exp)}"
            return super()._print_Pow(e, **options)

        def _exponent(self, e: Any) -> str:
            return f"({int(e)})" if e.is_Integer else self._print(e)

        def _print_Piecewise(self, e: Any) -> str:
            # the last case is what remains, also where SymPy has kept its condition
            cases = [f"({self._print(value)}) if {self._print(condition)} else " for value, condition in e.args[:-1]]
            return f"({''.join(cases)}({self._print(e.args[-1].expr)}))"

    own = {"sigmoid": "sigmoid", "softplus": "softplus", "sign": "sign", "Abs": "abs", "power_log": "power_log"}
    if target == "loop":
        own |= {"exp": "exp", "log": "log", "tanh": "tanh"}
    if target in ("numba", "loop"):
        return Printer({"fully_qualified_modules": True, "user_functions": own})

    class TorchPrinter(Printer):
        """Every function goes through T, whose functions take numbers as well as tensors."""

        def _print_Function(self, e: Any) -> str:
            return f"T.{type(e).__name__.lower()}({', '.join(self._print(a) for a in e.args)})"

        _print_Abs = _print_sign = _print_Function

        def _print_Pow(self, e: Any, **_: Any) -> str:
            return f"T.pow({self._print(e.base)}, {self._exponent(e.exp)})"

        def _print_Piecewise(self, e: Any) -> str:
            text = self._print(e.args[-1].expr)
            for value, condition in reversed(e.args[:-1]):
                text = f"T.where({self._print(condition)}, {self._print(value)}, {text})"
            return text

        def _print_And(self, e: Any) -> str:
            return "(" + " & ".join(f"({self._print(a)})" for a in e.args) + ")"

        def _print_Or(self, e: Any) -> str:
            return "(" + " | ".join(f"({self._print(a)})" for a in e.args) + ")"

        def _print_Not(self, e: Any) -> str:
            return f"T.logical_not({self._print(e.args[0])})"

    torch_printer = TorchPrinter({"fully_qualified_modules": True})
    for known in [
        "exp",
        "log",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "sqrt",
        "erf",
        "sigmoid",
        "softplus",
    ]:
        setattr(TorchPrinter, f"_print_{known}", TorchPrinter._print_Function)
    return torch_printer


def assignments(
    targets: Sequence[str], expressions: Sequence[Any], target: str, names: Mapping[Any, str], temporary: str = "c"
) -> list[str]:
    """Lines ``target = expression`` with common subexpressions pulled out; ``names`` says how symbols are written."""
    import sympy

    known = {symbol: sympy.Symbol(name, real=True) for symbol, name in names.items()}
    written = [sympy.sympify(e).xreplace(known) for e in expressions]
    taken = {str(s) for e in written for s in e.free_symbols}
    symbols = (s for s in sympy.numbered_symbols(f"{temporary}_") if str(s) not in taken)
    common, reduced = sympy.cse(written, symbols=symbols)
    write = printer(target).doprint
    lines = [f"{symbol} = {write(e)}" for symbol, e in common]
    return lines + [f"{t} = {write(e)}" for t, e in zip(targets, reduced, strict=True)]


def compiled(signature: str, more: str = "") -> str:
    """The decorator of a compiled function; none of them makes an array (ctrnn.kernels.abi.LEAN)."""
    return f'@cfunc({signature}, cache=True, error_model="numpy", _nrt=False{more})'


def function(head: str, lines: Sequence[str], decorator: str = "", indent: int = 4) -> str:
    """The text of a function."""
    body = "\n".join(" " * indent + line for line in lines) or " " * indent + "pass"
    return f"\n\n{decorator + chr(10) if decorator else ''}{head}:\n{body}\n"


def indented(lines: Sequence[str], by: int = 4) -> list[str]:
    return [" " * by + line for line in lines]
