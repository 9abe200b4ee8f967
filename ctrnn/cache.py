"""Code that is kept from one process to the next: whole, ours alone, or made again.

What lies in the cache is executed. So a file is believed only where it and its folder belong to this user, or to root,
and nobody else may write to either; and only if the digest in its first line is that of the rest, so that what a full
disk or a crash has cut short is missing, and no error. Files are written beside their place and renamed.

The folder is ``CTRNN_CACHE_DIR``, or the user's cache folder. Where that cannot be had, or not be written, it is one of
the temporary directory, and where that fails too, code lives in memory for as long as the process: each time one line
on standard error says so. The cache takes at most ``CTRNN_CACHE_MEGABYTES`` (200); what was not used for the longest
time goes first.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from ctrnn import progress
from ctrnn.files import atomic_path

#: the size of the folder, in megabytes, where CTRNN_CACHE_MEGABYTES does not say it
MEGABYTES = 200
#: seconds for which a file in use is not marked as used again
FRESH = 600.0
#: what files of the cache are called; all that begin alike up to the first dot go together
PATTERNS = ("ctrnn_generated_*", "kernel_*", "__pycache__/ctrnn_generated_*")

_said: set[str] = set()
_failed: set[Path] = set()
_unmeasured: dict[Path, float] = {}  # bytes written since a folder's size was last looked at


# --- where


def folder() -> Path | None:
    """The folder that is written to now; None where code lives in memory only."""
    return next(iter(_folders()), None)


def _folders(make: bool = True) -> Iterator[Path]:
    """The folders that may be believed, the usual one first."""
    for place, wanted in ((_usual(), True), (_temporary(), False)):
        # False for a name that is too long, too
        if place is None or not (make or os.path.exists(place)):  # noqa: PTH110
            continue
        why = _refused(place, wanted)
        if not why:
            yield place
        elif wanted:
            _say("refused", f"the cache folder {place} is not used: {why}")


def _usual() -> Path | None:
    import platformdirs

    chosen = os.environ.get("CTRNN_CACHE_DIR")
    try:
        place = Path(chosen).absolute() if chosen else Path(platformdirs.user_cache_dir("ctrnn"))
    except (OSError, RuntimeError):  # no working directory, no home
        return None
    # a user who is in no list of users has a home called "~"
    return place if place.is_absolute() else None


def _temporary() -> Path | None:
    try:
        return Path(tempfile.gettempdir()) / f"ctrnn-{_user()}"
    except OSError:  # no temporary directory that can be written
        return None


def _user() -> int | str:
    return os.getuid() if hasattr(os, "getuid") else "user"


def _refused(place: Path, links: bool) -> str:
    """Why a folder is not used, or nothing; made if it is missing, for this user alone."""
    try:
        if not place.is_dir():
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = place.stat() if links else place.lstat()
    except FileExistsError:
        return "it is no folder"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)
    if not stat.S_ISDIR(status.st_mode):
        return "it is no folder"
    if why := _foreign(status):
        return f"{why}, and what lies in it is executed (chmod 700, or choose another by CTRNN_CACHE_DIR)"
    return ""


def _foreign(status: os.stat_result) -> str:
    """Why a file or folder is not this user's alone, or nothing; on Windows a user's folders are."""
    if not hasattr(os, "getuid"):
        return ""
    if status.st_uid not in (_user(), 0):
        return "it belongs to somebody else"
    return "others may write to it" if status.st_mode & 0o022 else ""


# --- what


def seal(data: bytes) -> bytes:
    """``data`` behind a line with its digest."""
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def unseal(sealed: bytes | None) -> bytes | None:
    """The data behind its digest; None if that is another's, or there is none."""
    digest, _, data = (sealed or b"").partition(b"\n")
    return data if digest == hashlib.sha256(data).hexdigest().encode() else None


def read(name: str) -> bytes | None:
    """The bytes of a file that may be believed; None where there is none."""
    for place in _folders(make=False):
        if (data := _read(place / name)) is not None:
            return data
    return None


def _read(path: Path) -> bytes | None:
    # neither a link, whose target is another's, nor a pipe, which would be waited for
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        opened = os.open(path, flags)
    except OSError:
        return None
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            return None
        if why := _foreign(status):
            _say("foreign", f"{path} is not believed and made again: {why}")
            return None
        with os.fdopen(opened, "rb", closefd=False) as file:
            data = file.read()
    except OSError:
        return None
    finally:
        os.close(opened)
    if time.time() - status.st_atime > FRESH:
        with contextlib.suppress(OSError):
            os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))  # used now, and that alone
    return data


def write(name: str, data: bytes) -> Path | None:
    """Keep the bytes under that name; where they lie, or None if they could not be written anywhere."""
    lost = ""
    for place in _folders():
        if place in _failed:
            continue
        path = place / name
        try:
            with atomic_path(path) as temporary:
                temporary.touch(mode=0o600)
                temporary.write_bytes(data)
        except OSError as error:
            # a folder that is full stays so; what stands in the place of one file is no matter of the others
            lost = lost or f"{path} cannot be written ({error.strerror or error})"
            if not path.is_dir():
                _failed.add(place)
            continue
        if lost:
            _say("elsewhere", f"{lost}; compiled code is kept in {place}")
        _bound(place, path, len(data))
        return path
    _say("memory", f"{lost or 'no folder can be written'}; compiled code is kept in memory, for this process only")
    return None


def _say(kind: str, text: str) -> None:
    """A line on standard error, once of each kind."""
    if kind not in _said:
        _said.add(kind)
        progress.say(text)


# --- how much


def _bound(place: Path, kept: Path, written: int) -> None:
    """Remove what was not used for the longest time, until the folder is no larger than it may be.

    Another process may do the same, or be about to read what goes: it then makes it again.
    """
    try:
        limit = float(os.environ.get("CTRNN_CACHE_MEGABYTES", MEGABYTES)) * 1e6
    except ValueError:
        limit = MEGABYTES * 1e6
    _unmeasured[place] = _unmeasured.get(place, limit) + written
    if _unmeasured[place] < 0.02 * limit:
        return
    _unmeasured[place] = 0.0
    files: dict[str, list[Path]] = {}
    sizes: dict[str, int] = {}
    used: dict[str, float] = {}
    for file in (file for pattern in PATTERNS for file in place.glob(pattern)):
        name = file.name.partition(".")[0]
        with contextlib.suppress(OSError):
            status = file.lstat()
            files.setdefault(name, []).append(file)
            sizes[name] = sizes.get(name, 0) + status.st_size
            used[name] = max(used.get(name, 0.0), status.st_atime)
    total = sum(sizes.values())
    if total <= limit:
        return
    for name in sorted(files, key=lambda name: used[name]):
        if total <= 0.8 * limit:
            break
        if name != kept.name.partition(".")[0]:
            for file in files[name]:
                with contextlib.suppress(OSError):
                    file.unlink()
            total -= sizes[name]
