"""Where to leave snapshots when a run has to be seen backwards and there is room for few of them.

With s snapshots, one of them at the start, and no part of the run repeated more than r times, the longest run that can
be reversed has

    β(s, r) = (s + r)! / (s! r!)

parts. A run of l parts, β(s, r−1) < l ≤ β(s, r), is reversed at the least cost by going m parts ahead, leaving a
snapshot there, reversing the l − m parts behind it with s − 1 snapshots, and then the first m with all s again, for
every m with

    β(s, r−2) ≤ m ≤ β(s, r−1)    and    β(s−1, r−1) ≤ l − m ≤ β(s−1, r)

That takes r l − β(s+1, r−1) parts, and l more as each is run once to be seen.
(A. Griewank & A. Walther, Algorithm 799: Revolve, ACM Trans. Math. Softw. 26, 2000.) Where l is not known before the
run has ended, snapshots are left at an even distance, and as often as there is no room every other one is dropped and
the distance doubled.
"""

from __future__ import annotations

from bisect import bisect_left
from math import comb


def split(l: int, s: int) -> int:
    """m, the parts to go before the next snapshot, for l ≥ 2 parts and s ≥ 1 snapshots (that at the start among them).

    >>> split(6, 3), split(10, 3), split(4, 9)
    (3, 4, 1)
    """
    r = _repetitions(l, s)
    return min(_longest(s, r - 1), l - _longest(s - 1, r - 1))


def places(l: int, s: int) -> set[int]:
    """The parts at whose start a first pass over l parts leaves its snapshots, at most s; the last part needs none.

    >>> sorted(places(10, 3)), sorted(places(4, 9))
    ([0, 4, 7], [0, 1, 2])
    """
    at, found = 0, {0}
    while l - at > 2 and s > 1:
        at += split(l - at, s)
        found.add(at)
        s -= 1
    return found


def reruns(segments: int, snapshots: int, known: bool) -> int:
    """Parts that are run to reverse ``segments`` of them with ``snapshots`` snapshots, those taken again among them.

    known : whether the number of segments is known before the run

    >>> reruns(4, 9, True), reruns(10, 3, True)
    (7, 25)
    """
    if known:
        r = _repetitions(segments, snapshots)
        return (r + 1) * segments - _longest(snapshots + 1, r - 1)
    distance = 1
    while -(-segments // distance) > snapshots:
        distance *= 2
    held = list(range(0, segments, distance))
    ran, end = segments, segments
    while end > 1:
        end -= 1
        held = [k for k in held if k < end]
        at = held[-1]
        while end - at > 1:
            free = snapshots - len(held)
            ahead = split(end - at, free + 1) if free > 0 else end - at - 1
            ran, at = ran + ahead, at + ahead
            if free > 0 and end - at > 1:
                held.append(at)
        ran += 1
    return ran


def _repetitions(l: int, s: int) -> int:
    """r, with β(s, r−1) < l ≤ β(s, r)."""
    return bisect_left(range(l), l, key=lambda r: _longest(s, r))


def _longest(s: int, r: int) -> int:
    """β(s, r)."""
    return comb(s + r, s) if r >= 0 else 0
