"""Names of numbers in arrays: "r[0]", "r[1]" are the vector r, "W[0,0]" … "W[1,2]" the matrix W, "v" is a number.

A rate network's units are r0, r1, …: they are the vector r too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_ENTRY = re.compile(r"(\w+)\[(\d+(?:,\d+)*)\]|([^\W\d]\w*?)(0|[1-9]\d*)", re.ASCII)


@lru_cache(maxsize=256)
def arrays(names: tuple[str, ...]) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Array -> where its numbers lie among the names, and its shape.

    >>> arrays(("v", "r[0]", "r[1]", "W[0,0]", "W[0,1]"))
    {'r': (slice(1, 3, None), (2,)), 'W': (slice(3, 5, None), (1, 2))}
    """
    found: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
    for i, name in enumerate(names):
        entry = _ENTRY.fullmatch(name)
        if entry is not None:
            found.setdefault(entry[1] or entry[3], []).append((i, tuple(map(int, (entry[2] or entry[4]).split(",")))))
    made = {}
    for array, entries in found.items():
        start, (_, last) = entries[0][0], entries[-1]
        shape = tuple(k + 1 for k in last)
        size = 1
        for k in shape:
            size *= k
        # whole arrays only: a trajectory may hold a choice of their numbers
        whole = len(entries) == size and [i for i, _ in entries] == list(range(start, start + size))
        if whole and array not in names:
            made[array] = (slice(start, start + size), shape)
    return made


def known(names: Sequence[str]) -> list[str]:
    """What may be asked for: arrays by their name, then each number."""
    return [*arrays(tuple(names)), *names]
