"""Everything in README.md and scripts/tour.md runs: Python blocks, calls of the table, experiment commands; pictures
exist.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import ctrnn

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = (ROOT / "scripts" / "tour.md").read_text(encoding="utf-8")
PAGES = ("README.md", "scripts/tour.md", "scripts/benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md")


def blocks_run(text: str, name: str) -> dict[str, Any]:
    """The Python blocks of a page, one after the other in one namespace, which is returned."""
    namespace: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, name, "exec"), namespace)
    return namespace


def calls() -> list[str]:
    """The calls in the second column of the table "I want to … | call"."""
    table = README.split("| I want to … | call |")[1].split("\n\n")[0]
    rows = [row.split(" | ", 1)[1] for row in table.splitlines() if " | " in row]
    assert len(rows) >= 20
    return [call for row in rows for call in re.findall(r"`([^`]+)`", row)]


def test_python_blocks_of_the_tour_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(re.findall(r"```python\n", TOUR)) >= 15
    blocks_run(TOUR, "scripts/tour.md")
    assert "adjoint" in capsys.readouterr().out


def test_python_blocks_and_every_call_of_the_table_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the table: each call gives something, in the namespace of the blocks and a few names that a reader would
    have."""
    names = blocks_run(README, "README.md")
    assert "adjoint" in capsys.readouterr().out
    names |= {"A": np.eye(2), "a": np.linspace(0.5, 0.6, 5), "t": torch.linspace(0.0, 5.0, 6), "v": np.eye(4)[0]}
    names |= {"y0": torch.tensor([30.0, 4.0], dtype=torch.float64), "run": ctrnn.simulate(names["problem"])}
    cue = ctrnn.inputs.Pulse(onset=2.0, width=1.5, name="cue")
    at_end = ctrnn.Objective(target=0.5, at=[5.0])
    driven = ctrnn.RateNetwork(8, inputs=1, seed=0)
    names["driven"] = ctrnn.Problem(driven, r0=0.0, t_span=(0.0, 5.0), x=cue, objective=at_end)
    times = np.linspace(0.5, 5.0, 10)
    data = ctrnn.simulate(names["problem"], save_at=times).r + 0.1 * np.random.default_rng(0).normal(size=(10, 2))
    names["units"] = ctrnn.RateNetwork(16, inputs=2, seed=0)
    names |= {"outputs": ctrnn.Readout(np.full((2, 16), 0.1)), "x2": np.ones((40, 2)), "y2": np.ones((40, 2))}
    names["fit"] = ctrnn.fit(
        names["problem"].replace(objective=ctrnn.Objective(target=data, at=times)), transform="log"
    )
    names["unit"] = ctrnn.Equations({"r": "-r + tanh(w*r)"}, {"w": 0.5})
    van_der_pol = ctrnn.Equations({"u": "v", "v": "mu*(1 - u**2)*v - u"}, {"mu": 1.0})
    names["oscillation"] = ctrnn.Problem(van_der_pol, r0=[2.0, 0.0], t_span=(0.0, 60.0))
    names |= {"W": np.random.default_rng(0).normal(size=(8, 8))}
    names |= {"np": np, "network": ctrnn.RateNetwork(64, seed=0)}
    for call in calls():
        assert eval(call, names) is not None, call


def test_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctrnn.cli.main import group

    monkeypatch.chdir(tmp_path)
    (commands,) = re.findall(r"```bash\n(ctrnn examples.*?)```", README, flags=re.DOTALL)
    for line in commands.splitlines():
        words = line.split("#")[0].split()
        if words[1] in ("run", "fit"):
            words.append("--no-figures")
        done = CliRunner().invoke(group, words[1:])
        assert done.exit_code == 0, (line, done.output)


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).is_file(), target


def test_the_readme_stays_short() -> None:
    assert len(README.splitlines()) <= 200
