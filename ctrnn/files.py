"""Files that are whole or not there: write under a temporary name beside the target, then rename.

A rename inside one folder is atomic (POSIX rename(2); ``Path.replace`` on Windows too), so that
neither a reader nor a run that is stopped half-way ever leaves or meets half a file.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ctrnn.errors import UsageError

__all__ = ["atomic_path", "writing"]


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
    path = Path(path)
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
def writing(argument: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """What the system refuses in the block, said of the argument that named this file or folder.

    Raises :class:`~ctrnn.errors.UsageError` in place of OSError.
    """
    try:
        yield
    except OSError as error:
        allowed = f"a place that can be written to ({error.strerror or error})"
        raise UsageError(argument, given=str(path), allowed=allowed) from error
