"""Files that are whole or not there: write under a temporary name beside the target, then rename.

A rename inside one folder is atomic (POSIX rename(2); ``Path.replace`` on Windows too), so that
neither a reader nor a run that is stopped half-way ever leaves or meets half a file.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ctrnn.errors import CtrnnError, UsageError

__all__ = ["as_path", "atomic_path", "loading", "reading", "writing"]

#: where the files are listed that a process has open: those of <(command), and its standard input
OPEN = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")


def as_path(argument: str, path: Any) -> Path:
    """The path; raises :class:`~ctrnn.errors.UsageError` for what is the name of no file."""
    try:
        return Path(path)
    except TypeError as error:
        raise UsageError(argument, given=path, allowed="the name of a file") from error


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the folder of ``path``; on leaving the block it becomes ``path``.

    The temporary name keeps the suffix, since writers such as ``savefig`` choose the format by it.
    If the block raises, the temporary file is removed and whatever stood at ``path`` stays.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_path(folder / "a.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> [(file.name, file.read_text()) for file in folder.iterdir()]
    [('a.txt', 'whole')]

    Raises :class:`~ctrnn.errors.UsageError` if the folder of ``path`` does not exist, and OSError with the name of
    ``path`` where nothing can be written.
    """
    path = as_path("path", path)
    if "\0" in str(path):
        raise UsageError("path", given=str(path), allowed="a file name without the letter NUL")
    if not path.parent.is_dir():
        raise UsageError(
            "path",
            given=str(path),
            allowed="a file in a folder that exists",
            hint="make the folder",
        )
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):  # a name that means nothing to anybody
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def reading(argument: str, path: str | os.PathLike[str], what: str = "a file that can be read") -> Iterator[None]:
    """What keeps the block from reading this file, said of the argument that named it.

    Raises :class:`~ctrnn.errors.UsageError` in place of OSError, UnicodeDecodeError and what a name that is none gives,
    and before the block for a named pipe, whose writer may never come, and for a device, which may have no end.
    """
    if _is_device(as_path(argument, path)):
        raise UsageError(argument, given=str(path), allowed=f"{what}; this is a pipe or a device, and no file")
    try:
        yield
    except FileNotFoundError as error:
        raise UsageError(argument, given=str(path), allowed=f"{what}; there is no such file") from error
    except IsADirectoryError as error:
        raise UsageError(argument, given=str(path), allowed=f"{what}; this is a folder") from error
    except OSError as error:
        raise UsageError(argument, given=str(path), allowed=f"{what} ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(argument, given=str(path), allowed=f"{what}: text in UTF-8 (line {line} is none)") from error
    except ValueError as error:
        if "\0" not in str(path):
            raise
        raise UsageError(argument, given=str(path), allowed=f"{what}; no name holds the letter NUL") from error


def _is_device(path: Path) -> bool:
    """Whether this is something, but neither a file nor a folder nor what a process has open."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # whoever opens it is told
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or str(path).startswith(OPEN))


@contextmanager
def loading(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """What the block finds wrong in a file of ours, by whatever exception of zip, npy or JSON, said of the file.

    Raises :class:`~ctrnn.errors.UsageError`; errors of ours pass as they are.
    """
    try:
        with reading("path", path, what):
            yield
    except (CtrnnError, MemoryError):
        raise
    except Exception as error:
        hint = f"it is none, or was changed: {error}"
        raise UsageError("path", given=str(path), allowed=what, hint=hint) from error


@contextmanager
def writing(argument: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """What the system refuses in the block, said of the argument that named this file or folder.

    Raises :class:`~ctrnn.errors.UsageError` in place of OSError.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, UsageError) or (isinstance(error, ValueError) and "\0" not in str(path)):
            raise
        allowed = f"a place that can be written to ({getattr(error, 'strerror', None) or error})"
        raise UsageError(argument, given=str(path), allowed=allowed) from error
