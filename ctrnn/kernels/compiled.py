"""Numba's decorators, with machine code that is kept in our cache (ctrnn.cache) and known by what it was made from.

Numba keeps the code of a function beside its source file, until that file changes, and does not see a change in another
whose functions or constants were compiled into it. Here the name of a file holds a digest of everything: the sources of
the function's module and of all the modules of ours that this imports, the function and its argument types, the
processor, and the versions of Python, Numba and LLVM. So two copies of the same sources share one code, an old code is
never met, and code that is cut short or not understood is compiled again.
"""

from __future__ import annotations

import hashlib
import pickle
import re
import sys
from collections.abc import Callable
from functools import cache as cached
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core import config
from numba.core.ccallback import CFunc
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

from ctrnn import cache, clock
from ctrnn.kernels import notice

FOLDER = Path(__file__).parent
PACKAGE = __name__.rpartition(".")[0]
#: modules that leave no trace in machine code
ASIDE = (f"{PACKAGE}.notice",)
#: settings of Numba that machine code depends on
_KNOBS = ("OPT", "BOUNDSCHECK", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT")
_IMPORT = re.compile(r"^from (ctrnn\.kernels[\w.]*) import (\([^)]*\)|.*)", re.MULTILINE)


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``numba.njit``; with ``cache=True`` the machine code is kept in our cache."""
    kept = options.pop("cache", False)

    def decorate(function: Callable[..., Any]) -> Any:
        made: Any = numba.njit(**options)(function)
        if kept and isinstance(made, Dispatcher):  # and not the function itself, as NUMBA_DISABLE_JIT has it
            made._cache = KernelCache(function)  # type: ignore[attr-defined]
        return made

    return decorate


def c_function(function: Callable[..., None], signature: Any, options: dict[str, Any]) -> Any:
    """``numba.cfunc``, likewise."""
    options = dict(options)
    kept = options.pop("cache", False)
    made: Any = CFunc(function, normalize_signature(signature), locals={}, options=options)
    if kept:
        made._cache = KernelCache(function)
    made.compile()
    return made


class KernelCache:
    """What a dispatcher of Numba asks for code before it compiles, and gives what it compiled."""

    cache_path = None

    def __init__(self, function: Any) -> None:
        assert function.__closure__ is None, "a kernel has all its values from its module"
        self.function = function

    def name(self, signature: Any, codegen: Any) -> str:
        """The name of the file for a signature."""
        module, function = self.function.__module__, self.function.__qualname__
        parts = [sources(module), module, function, str(signature), repr(codegen.magic_tuple()), _versions()]
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
        return f"kernel_{module.rpartition('.')[2]}_{function}_{digest}.nbc"

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """The compiled function of a signature; None if there is none."""
        target_context.refresh()
        data = cache.unseal(cache.read(self.name(signature, target_context.codegen())))
        if data is None:
            return None
        try:
            with clock.aside():
                found = CompileResult._rebuild(target_context, *pickle.loads(data))
        except Exception:  # whatever is wrong with it, it can be made again
            return None
        notice.found_on_disk += 1
        return found

    def save_overload(self, signature: Any, compiled: Any) -> None:
        """Keep a compiled function, unless addresses of this process were compiled into it."""
        if not compiled.lifted and not compiled.library.has_dynamic_globals:
            name = self.name(signature, compiled.codegen)
            cache.write(name, cache.seal(dumps(compiled._reduce())))

    def enable(self) -> None:
        """It is."""

    def disable(self) -> None:
        """It cannot be."""

    def flush(self) -> None:
        """Nothing is old here."""


@cached
def _versions() -> str:
    knobs = [getattr(config, knob, None) for knob in _KNOBS]
    return repr((sys.version, sys.implementation.cache_tag, numba.__version__, llvmlite.__version__, knobs))


@cached
def sources(module: str) -> str:
    """A digest of the text of a module of this package and of all that it imports from it."""
    found: dict[str, str] = {}
    waiting = [module, __name__]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name], imported = _source(name)
            waiting += [one for one in imported if one not in ASIDE]
    return hashlib.sha256("\n".join(f"{name} {found[name]}" for name in sorted(found)).encode()).hexdigest()


@cached
def _source(module: str) -> tuple[str, list[str]]:
    """The digest of one module's text, and the modules it imports from this package."""
    text = _path(module).read_text(encoding="utf-8")
    imported = []
    for package, names in _IMPORT.findall(text):
        for name in re.findall(r"(\w+)(?: as \w+)?", re.sub("#.*", "", names)):
            inner = f"{package}.{name}"
            imported.append(inner if _path(inner).is_file() else package)
    return hashlib.sha256(text.encode()).hexdigest(), imported


def _path(module: str) -> Path:
    path = FOLDER.joinpath(*module.removeprefix(PACKAGE).strip(".").split("."))
    return path / "__init__.py" if path.is_dir() else path.with_name(f"{path.name}.py")
