"""Everything in README.md runs: its Python blocks, one after the other in one namespace, and its experiment
commands.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_python_blocks_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) >= 6
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    assert "adjoint" in capsys.readouterr().out


def test_commands_of_the_tour_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ctrnn.cli.main import group

    monkeypatch.chdir(tmp_path)
    (tour,) = re.findall(r"```bash\n(ctrnn examples.*?)```", README, flags=re.DOTALL)
    for line in tour.splitlines():
        words = line.split("#")[0].split()
        if words[1] in ("run", "fit"):
            words.append("--no-figures")
        done = CliRunner().invoke(group, words[1:])
        assert done.exit_code == 0, (line, done.output)


def test_images_exist() -> None:
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", README):
        assert (Path(__file__).parent.parent / picture).is_file(), picture
