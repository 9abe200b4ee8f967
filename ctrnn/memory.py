"""How much memory is at hand, and an error before it is asked for in vain.

A process that takes more than there is finds no MemoryError: the system grants it, and kills the process when it writes
there. So whoever is about to take much says so first (``claim``): what goes beyond what the machine, the control group
and the limit of the address space leave is refused with a message. Less than CLAIMED is not looked at.
"""

from __future__ import annotations

import os
import time
from functools import cache, lru_cache
from pathlib import Path

from ctrnn.errors import MemoryLimitError

#: bytes taken for granted where the system does not tell
UNKNOWN_MEMORY = 4 * 2**30
#: bytes up to which nobody asks
CLAIMED = 2**26
#: bytes that are left to others, where a record grows from block to block
RESERVE = 2**26


def claim(what: str, nbytes: float, hint: str = "") -> None:
    """Before an allocation: raises MemoryLimitError where there is not so much memory.

    Parameters
    ----------
    what : str
        The argument that asks for it, as in the errors of arguments.
    nbytes : float
        What it takes, or a bound from below.
    hint : str
        What would do with less.

    Raises
    ------
    MemoryLimitError
        With the bytes that are needed and those that are there.

    Examples
    --------
    >>> claim("n", 1000.0)
    """
    if nbytes > CLAIMED and nbytes > (available := available_memory()):
        raise MemoryLimitError(what, needed=nbytes, available=available, hint=hint)


def claim_more(what: str, nbytes: float, hint: str = "") -> None:
    """Before a block of a record that grows: the same, however small the block is, if memory is all but gone."""
    _taken[0] += nbytes
    if _taken[0] > RESERVE / 2:  # a look once a second is too seldom for who writes gigabytes a second
        _taken[0] = 0.0
        _available.cache_clear()
    if nbytes + RESERVE > (available := available_memory()):
        raise MemoryLimitError(what, needed=nbytes + RESERVE, available=available, hint=hint)


#: bytes that records have taken since memory was looked up
_taken = [0.0]


def available_memory() -> int:
    """Bytes that a process may still take: of the system, and of its limits. Looked up once a second.

    >>> available_memory() > 0
    True
    """
    return _available(int(time.monotonic()))


@lru_cache(maxsize=1)
def _available(_second: int) -> int:
    found = [_system_memory(), *_address_space()]
    for limit, used, files in _control_groups():
        try:
            cached = _numbers(files).get("inactive_file", 0)  # what the system drops when memory is asked for
            found.append(max(0, int(limit.read_text()) - int(used.read_text()) + cached))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(found)


@cache
def _control_groups() -> list[tuple[Path, Path, Path]]:
    """Limit, use and statistics of this process's control groups, version 2 and 1, and of those around them."""
    v2, v1 = Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/memory")
    places = [(v2, v2, ("memory.max", "memory.current")), (v1, v1, ("memory.limit_in_bytes", "memory.usage_in_bytes"))]
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        number, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        for root, _, names in places[:2]:
            if (root == v2) == (number == "0") and (number == "0" or "memory" in controllers.split(",")):
                inner = root / path.lstrip("/")
                while inner != root and root in inner.parents:
                    places.append((root, inner, names))
                    inner = inner.parent
    return [(place / limit, place / used, place / "memory.stat") for _, place, (limit, used) in places]


def _address_space() -> list[int]:
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return []
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        return [max(0, limit - pages * os.sysconf("SC_PAGE_SIZE"))]
    except (ImportError, OSError, ValueError, IndexError, AttributeError):  # not of this system
        return []


def _system_memory() -> int:
    found = _numbers(Path("/proc/meminfo"), 1024)
    if "MemAvailable:" in found:
        return found["MemAvailable:"] + found.get("SwapFree:", 0)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return UNKNOWN_MEMORY


def _numbers(path: Path, unit: int = 1) -> dict[str, int]:
    """name -> number, of a file of lines "name number"; nothing where it cannot be read."""
    try:
        rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
        return {row[0]: unit * int(row[1]) for row in rows if len(row) > 1}
    except (OSError, ValueError):
        return {}
