"""From SymPy expressions to source text, and from source text to compiled functions that stay on disk.

The generated module is a plain Python file in the user's cache folder (``CTRNN_CACHE_DIR`` to choose another one), named
after a hash of what it was made from. Numba keeps its machine code beside it, so a second process neither derives nor
compiles anything; and the file can be read, which is the quickest way to see what is really computed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

# Part of every hash: raise it when the generator or the ABI of the generated functions changes.
GENERATION = 1


def cache_folder() -> Path:
    """Where generated modules live; a folder of the temporary directory if the usual one cannot be written."""
    import tempfile

    import platformdirs

    chosen = os.environ.get("CTRNN_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(platformdirs.user_cache_dir("ctrnn"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    # One folder a user, readable by nobody else: what lies in it is executed.
    folder = Path(tempfile.gettempdir()) / f"ctrnn-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def module(recipe: str, build: Callable[[], str]) -> ModuleType:
    """The generated module for a recipe; ``build`` writes its source if it is not on disk yet."""
    digest = hashlib.sha256(f"{GENERATION}\n{sys.version_info[:2]}\n{recipe}".encode()).hexdigest()[:20]
    name = f"ctrnn_generated_{digest}"
    if name in sys.modules:
        return sys.modules[name]
    path = cache_folder() / f"{name}.py"
    if not path.exists():
        source = build()
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(source, encoding="utf-8")
        temporary.replace(path)
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


HEADER = '''"""Generated from

{recipe}
"""

import math

from numba import cfunc, types

from ctrnn.fields import torch_functions as T
from ctrnn.kernels.abi import SIGNATURES, doubles
from ctrnn.kernels.functions import sigmoid, sign, softplus
'''


def printer(target: str) -> Any:
    """A SymPy printer for ``"numba"`` (math.*) or ``"torch"`` (T.*, ctrnn.fields.torch_functions)."""
    from sympy.printing.pycode import PythonCodePrinter

    own = {"sigmoid": "sigmoid", "softplus": "softplus", "sign": "sign", "Abs": "abs"}
    if target == "numba":
        return PythonCodePrinter({"fully_qualified_modules": True, "user_functions": own})

    class TorchPrinter(PythonCodePrinter):
        """Every function goes through T, whose functions take numbers as well as tensors."""

        def _print_Function(self, e: Any) -> str:
            return f"T.{type(e).__name__.lower()}({', '.join(self._print(a) for a in e.args)})"

        _print_Abs = _print_sign = _print_Function

        def _print_Pow(self, e: Any, **_: Any) -> str:
            return f"T.pow({self._print(e.base)}, {self._print(e.exp)})"

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


def function(head: str, lines: Sequence[str], decorator: str = "", indent: int = 4) -> str:
    """The text of a function."""
    body = "\n".join(" " * indent + line for line in lines) or " " * indent + "pass"
    return f"\n\n{decorator + chr(10) if decorator else ''}{head}:\n{body}\n"


def indented(lines: Sequence[str], by: int = 4) -> list[str]:
    return [" " * by + line for line in lines]
