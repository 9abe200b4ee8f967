"""How much memory this machine has at hand."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path

#: bytes taken for granted where the system does not tell
UNKNOWN_MEMORY = 4 * 2**30


def available_memory() -> int:
    """Bytes that a process may still take: of the system, and of the control group it runs in. Looked up once a second.

    >>> available_memory() > 0
    True
    """
    return _available(int(time.monotonic()))


@lru_cache(maxsize=1)
def _available(_second: int) -> int:
    found = [_system_memory()]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(max(0, int(Path(limit).read_text()) - int(Path(used).read_text())))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(found)


def _system_memory() -> int:
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (ValueError, OSError, AttributeError):
        return UNKNOWN_MEMORY
