"""Hostile inputs and faults, by the thousand: expressions, experiment files, arguments, and what befalls a process.

    python scripts/campaign.py --seconds 120 --seed 0
    python scripts/campaign.py --case arguments:0:17        # one case again, with its traceback

A case is drawn from its part, the seed and its number, and from nothing else. It is a fault of ours when it ends in
anything but an answer or an error of ctrnn.errors, takes more than 10 seconds of computing, brings the process down,
or leaves half a file. Cases run in a process of their own; the next ones go on in a new one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

PARTS = ("expressions", "experiments", "arguments", "analyses", "learning", "faults")
#: seconds of computing, and by the clock, after which a case hangs
LIMIT, PATIENCE = 10.0, 60.0
START = 300.0  # in which what the cases need is compiled
sys.path.insert(0, str(Path(__file__).parent))


class Findings:
    """What came out: how many of each kind, and the faults."""

    def __init__(self) -> None:
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.faults: list[dict[str, Any]] = []

    def add(self, told: dict[str, Any], part: str, seed: int) -> None:
        """One case that has come to its end."""
        self.counts[part][told["outcome"]] += 1
        if told["outcome"] == "fault":
            reproduce = f"python scripts/campaign.py --case {part}:{seed}:{told['number']}"
            self.faults.append(told | {"part": part, "reproduce": reproduce})

    def table(self) -> str:
        """A line a part."""
        lines = []
        for part, counts in self.counts.items():
            if counts:
                each = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
                lines.append(f"{part:12} {sum(counts.values()):6d} cases: {each}")
        return "\n".join(lines)


def draw(part: str, seed: int, number: int) -> Any:
    """The case of that number; every other one of calls is the next of all arguments with all values, in turn."""
    cases = importlib.import_module(f"fuzz.{part}")
    found = cases.walk(seed, number // 2) if hasattr(cases, "walk") and number % 2 == 0 else None
    return found or cases.case(Random(f"{part}:{seed}:{number}"))


def work(part: str, seed: int, first: int) -> None:
    """Run cases from the first on, and say on a line of JSON when each begins and how it ended."""
    told = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what a case prints is no line of ours

    def tell(**what: Any) -> None:
        told.write(json.dumps(what) + "\n")
        told.flush()

    importlib.import_module(f"fuzz.{part}").warm_up()
    tell(ready=True)
    number = first
    while True:
        what, run = draw(part, seed, number)
        tell(number=number, what=what[:300])
        try:
            outcome, trace = run(), ""
        except Exception:  # every one of them is what we look for
            outcome, trace = "fault", traceback.format_exc()
        tell(number=number, what=what[:300], outcome=outcome, trace=trace[-3000:])
        number += 1


def campaign(part: str, seconds: float, seed: int, findings: Findings, most: int = 1_000_000_000) -> None:
    """Cases of one part for so many seconds, and no more than ``most``; what is compiled before them takes its time."""
    number, left = 0, seconds
    while left > 0.0 and number < most:
        at = time.monotonic()
        for told in _lines(part, seed, number, left, most):
            if "ready" in told:
                at = time.monotonic()
                continue
            number = told["number"] + 1
            findings.add(told, part, seed)
        left -= time.monotonic() - at


def _lines(part: str, seed: int, first: int, left: float, most: int) -> Iterator[dict[str, Any]]:
    """What a process tells of its cases, until the time is over, or a case has brought the process down, or hangs."""
    command = [sys.executable, __file__, "--work", f"{part}:{seed}:{first}"]
    errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, text=True)
    assert worker.stdout is not None
    lines: list[str] = []
    reader = Thread(target=lambda stream: lines.extend(iter(stream.readline, "")), args=(worker.stdout,), daemon=True)
    reader.start()
    begun: dict[str, Any] = {"number": first, "what": "the start"}
    end, at, used, seen, is_under_way = time.monotonic() + START, time.monotonic(), 0.0, 0, False
    try:
        while time.monotonic() < end or is_under_way:
            while seen < len(lines):
                told = json.loads(lines[seen])
                seen += 1
                at, used = time.monotonic(), _cpu(worker.pid)
                if "ready" in told:
                    end = at + left
                    yield told
                    continue
                begun, is_under_way = told, "outcome" not in told
                if "outcome" in told:
                    yield told
                    if told["number"] + 1 >= most:
                        return
            if worker.poll() is not None and not reader.is_alive() and seen == len(lines):
                errors.seek(0)
                reason = f"the process ended with {worker.returncode}\n{errors.read()[-2000:]}"
                yield begun | {"outcome": "fault", "trace": reason}
                return
            late = time.monotonic() - at
            if is_under_way and (_cpu(worker.pid) - used > LIMIT or late > PATIENCE):
                yield begun | {"outcome": "fault", "trace": f"not done after {late:.0f} s"}
                return
            time.sleep(0.02)
        if not seen:
            yield begun | {"outcome": "fault", "trace": f"not ready after {START:.0f} s"}
    finally:
        worker.kill()
        worker.wait()
        errors.close()


def _cpu(pid: int) -> float:
    """Seconds of computing of a process and of those that it has waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main() -> int:
    """Run the campaign, or a part of it; 1 where there are faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="for all parts together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--case", metavar="PART:SEED:NUMBER", help="run one case, and show its traceback")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work or given.case:
        part, seed, number = (given.work or given.case).split(":")
        if given.work:
            work(part, int(seed), int(number))
        what, run = draw(part, int(seed), int(number))
        print(what)
        print(run())
        return 0
    findings, parts = Findings(), given.parts.split(",")
    for part in parts:
        campaign(part, given.seconds / len(parts), given.seed, findings)
    print(findings.table())
    for fault in findings.faults:
        print(f"\n{fault['what']}\n  {fault['reproduce']}")
        print("  " + fault["trace"].strip().replace("\n", "\n  "))
    print(f"\n{len(findings.faults)} faults")
    return 1 if findings.faults else 0


if __name__ == "__main__":
    sys.exit(main())
