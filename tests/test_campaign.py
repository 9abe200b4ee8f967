"""A short, seeded part of scripts/campaign.py: twenty seconds of each of its parts, two minutes in all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / "scripts" / "campaign.py"


@pytest.fixture(scope="module")
def campaign():
    spec = importlib.util.spec_from_file_location("campaign", FILE)
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


#: cases of a part: at least so many in its time, and no more than have been seen to pass
CASES = {
    "arguments": (50, 8000),
    "analyses": (20, 2000),
    "learning": (10, 1500),
    "expressions": (5, 900),
    "experiments": (3, 400),
    "faults": (1, 20),
}


@pytest.mark.parametrize("part", CASES)
def test_hostile_inputs_are_refused_or_answered(campaign, part):
    assert set(CASES) == set(campaign.PARTS)
    findings, (least, most) = campaign.Findings(), CASES[part]
    campaign.campaign(part, 120.0 / len(CASES), 0, findings, most)
    assert sum(findings.counts[part].values()) >= least
    assert not findings.faults, "\n\n".join(f"{f['what']}\n{f['reproduce']}\n{f['trace']}" for f in findings.faults)


def test_the_campaign_finds_what_it_looks_for_and_goes_on(campaign):
    findings = campaign.Findings()
    campaign.campaign("itself", 60.0, 0, findings, most=4)
    counts = findings.counts["itself"]
    assert sum(counts.values()) == 4 and counts["fault"] >= 2 and counts["refused"] + counts["taken"] >= 1
    traces = " ".join(fault["trace"] for fault in findings.faults)
    assert "an error that is none of ours" in traces and "the process ended with 7" in traces
    assert all("--case itself:0:" in fault["reproduce"] for fault in findings.faults)
    # a case is drawn from its number alone
    assert [campaign.draw("itself", 0, k)[0] for k in range(12)] == [
        campaign.draw("itself", 0, k)[0] for k in range(12)
    ]
