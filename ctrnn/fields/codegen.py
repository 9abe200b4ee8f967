"""From source text to compiled functions that stay on disk.

The generated module is a plain Python file in the cache folder (ctrnn.cache), named after a hash of what it was made
from. Its machine code (ctrnn.fields.native) lies beside it, so a second process
neither derives nor compiles anything; and the file can be read, which is the quickest way to see what is really
computed.

In memory the modules that were used last are kept, so that fields of the same text share one; others live as long as
somebody uses them.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ctrnn import cache
from ctrnn.fields import native

_lock = threading.RLock()
_SEAL = "# sha256 of the above: "
#: modules that stay in memory though nobody uses them
MODULES = 64
_recent: OrderedDict[str, None] = OrderedDict()


@lru_cache(maxsize=1)
def _generator() -> str:
    """The text of what writes generated modules and of what is compiled into them: part of every hash."""
    fields = Path(__file__).parent
    names = ("algebra", "arithmetic", "arrays/loops", "codegen", "derivatives", "expressions", "printing", "scalars")
    files = [fields / f"{name}.py" for name in names]
    files.append(fields.parent / "gradients" / "continuous" / "integral.py")
    files += [fields.parent / "kernels" / f"{name}.py" for name in ("abi", "elementwise", "functions")]
    return _hash("".join(file.read_text(encoding="utf-8") for file in files))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _intact(data: bytes | None) -> str:
    """The text of a generated file, if it is whole and as it was written."""
    try:
        body, _, seal = (data or b"").decode().rpartition(_SEAL)
    except UnicodeDecodeError:
        return ""
    return body if seal.strip() == _hash(body) else ""


def module(recipe: str, build: Callable[[], str]) -> ModuleType:
    """The generated module for a recipe; ``build`` writes its source if it is not on disk yet."""
    digest = _hash(f"{_generator()}\n{sys.version_info[:2]}\n{recipe}")[:20]
    name = f"ctrnn_generated_{digest}"
    with _lock:  # one thread imports it, the others find it whole
        _recent[name] = None
        _recent.move_to_end(name)
        while len(_recent) > MODULES:
            sys.modules.pop(_recent.popitem(last=False)[0], None)
        if name in sys.modules:
            return sys.modules[name]
        source = _intact(cache.read(f"{name}.py"))
        if source:
            return _load(name, source)
        source = build() + "\n"
        made = _load(name, source)
        if place := cache.write(f"{name}.py", f"{source}{_SEAL}{_hash(source)}\n".encode()):
            made.__file__ = str(place)
        return made


def _load(name: str, source: str) -> ModuleType:
    """The module of a text, never of Python's own compiled files: nothing says whether those are whole."""
    place = cache.folder()
    loaded = ModuleType(name)
    loaded.__file__ = str(place / f"{name}.py") if place else f"<{name}>"
    sys.modules[name] = loaded
    try:
        exec(compile(source, loaded.__file__, "exec"), vars(loaded))
        functions = [f for f in vars(loaded).values() if getattr(f, "__native__", False)]
        if functions:
            _load_machine_code(name, source, functions)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded


def _load_machine_code(name: str, source: str, functions: Sequence[Any]) -> None:
    """The machine code of a module's functions, from disk or made now."""
    file = f"{name}.{native.processor()}.o"
    code = cache.unseal(cache.read(file))
    found = code is not None
    if code is None:
        code = native.compiled(source, functions)
        cache.write(file, cache.seal(code))
    library = native.Library(code)
    for function in functions:
        function.load(library, found)


_HEADER = '''"""Generated from

{recipe}
"""

import math

from numba import types

from ctrnn.fields import torch_functions as T
from ctrnn.fields.native import doubles, integers, native, scratch, table
from ctrnn.kernels.abi import SIGNATURES
from ctrnn.kernels.{functions} import {names}
'''


def header(recipe: Sequence[str], functions: str = "functions") -> str:
    """The head of a generated module.

    Its elementary functions are those of kernels/functions or kernels/elementwise.
    """
    names = "power_log, sigmoid, sign, softplus" + (", exp, log, tanh" if functions == "elementwise" else "")
    return _HEADER.format(recipe="\n".join(indented(recipe)), functions=functions, names=names)


def compiled(signature: str, contract: bool = False) -> str:
    """The decorator of a compiled function; ``contract``: a·b + c may be one operation."""
    return f"@native({signature}{', contract=True' if contract else ''})"


def function(head: str, lines: Sequence[str], decorator: str = "", indent: int = 4) -> str:
    """The text of a function."""
    body = "\n".join(" " * indent + line for line in lines) or " " * indent + "pass"
    return f"\n\n{decorator + chr(10) if decorator else ''}{head}:\n{body}\n"


def indented(lines: Sequence[str], by: int = 4) -> list[str]:
    """The lines, further to the right."""
    return [" " * by + line for line in lines]
