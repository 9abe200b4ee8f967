"""From source text to compiled functions that stay on disk.

The generated module is a plain Python file in the user's cache folder (``CTRNN_CACHE_DIR`` to choose another one),
named after a hash of what it was made from. Its machine code (ctrnn.fields.native) lies beside it, so a second process
neither derives nor compiles anything; and the file can be read, which is the quickest way to see what is really
computed.

In memory the modules that were used last are kept, so that fields of the same text share one; others live as long as
somebody uses them. On disk they take at most ``CTRNN_CACHE_MEGABYTES`` (200); those that were not used for the longest
time go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import stat
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from ctrnn.fields import native
from ctrnn.files import atomic_path

_lock = threading.RLock()
_SEAL = "# sha256 of the above: "
#: modules that stay in memory though nobody uses them
MODULES = 64
#: the size of the folder, in megabytes, where CTRNN_CACHE_MEGABYTES does not say it
MEGABYTES = 200
#: seconds for which a module in use is not marked as used again
FRESH = 600.0
_recent: OrderedDict[str, None] = OrderedDict()


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
    names = ("algebra", "arrays/loops", "cells", "codegen", "derivatives", "expressions", "printing", "scalars")
    files = [fields / f"{name}.py" for name in names]
    files.append(fields.parent / "gradients" / "continuous" / "integral.py")
    files += [fields.parent / "kernels" / f"{name}.py" for name in ("abi", "elementwise", "functions")]
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
        _recent[name] = None
        _recent.move_to_end(name)
        while len(_recent) > MODULES:
            sys.modules.pop(_recent.popitem(last=False)[0], None)
        if name in sys.modules:
            return sys.modules[name]
        path = cache_folder() / f"{name}.py"
        try:
            return _found_or_made(name, path, build)
        except FileNotFoundError:  # another process has made room
            return _found_or_made(name, path, build)


def _found_or_made(name: str, path: Path, build: Callable[[], str]) -> ModuleType:
    found = _intact(path)
    if not found:
        source = build() + "\n"
        with atomic_path(path) as temporary:
            temporary.write_text(f"{source}{_SEAL}{_hash(source)}\n", encoding="utf-8")
    try:
        loaded = _load(name, path)
    except Exception:
        # if it was Numba's cache that is damaged: machine code can be made again
        for file in (path.parent / "__pycache__").glob(f"{name}.*.nb?"):
            file.unlink(missing_ok=True)
        loaded = _load(name, path)
    if found:
        _mark(path)
    else:
        _make_room(path)
    return loaded


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    try:
        spec.loader.exec_module(loaded)
        functions = [f for f in vars(loaded).values() if getattr(f, "__native__", False)]
        if functions:
            _load_machine_code(path, functions)
    except BaseException:
        del sys.modules[name]
        raise
    return loaded


def _load_machine_code(path: Path, functions: Sequence[Any]) -> None:
    """The machine code of a module's functions, from disk or made now."""
    file = path.parent / "__pycache__" / f"{path.stem}.{native.processor()}.o"
    code = b""
    with contextlib.suppress(OSError):
        seal, _, code = file.read_bytes().partition(b"\n")
        if seal != hashlib.sha256(code).hexdigest().encode():
            code = b""
    found = bool(code)
    if not found:
        code = native.compiled(path.read_text(encoding="utf-8"), functions)
        with contextlib.suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            with atomic_path(file) as temporary:
                temporary.write_bytes(hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
    library = native.Library(code)
    for function in functions:
        function.load(library, found)


# --- the size of the folder


def _mark(path: Path) -> None:
    """Note that a module was used now: its file's time of access, and only that."""
    with contextlib.suppress(OSError):
        status = path.stat()
        if time.time() - status.st_atime > FRESH:
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))


def _make_room(kept: Path) -> None:
    """Remove the modules that were not used for the longest time, until the folder is no larger than it may be.

    Another process may do the same, or be about to read what goes: it then makes it again.
    """
    try:
        limit = float(os.environ.get("CTRNN_CACHE_MEGABYTES", MEGABYTES)) * 1e6
    except ValueError:
        limit = MEGABYTES * 1e6
    files: dict[str, list[Path]] = {}
    sizes: dict[str, int] = {}
    used: dict[str, float] = {}
    for file in [*kept.parent.glob("ctrnn_generated_*"), *(kept.parent / "__pycache__").glob("ctrnn_generated_*")]:
        name = file.name.partition(".")[0]
        with contextlib.suppress(OSError):
            status = file.stat()
            files.setdefault(name, []).append(file)
            sizes[name] = sizes.get(name, 0) + status.st_size
            used[name] = max(used.get(name, 0.0), status.st_atime if file.suffix == ".py" else 0.0)
    total = sum(sizes.values())
    if total <= limit:
        return
    for name in sorted(files, key=lambda name: used[name]):
        if total <= 0.8 * limit:
            break
        if name != kept.stem:
            for file in files[name]:
                with contextlib.suppress(OSError):
                    file.unlink()
            total -= sizes[name]


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
