"""``ctrnn examples``: the shipped experiments."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.experiment.examples import example_names, examples_folder
from ctrnn.files import atomic_path, writing


@click.command("examples")
@click.argument("name", required=False)
@click.option("--copy", type=click.Path(path_type=Path), help="Copy it and its data to this folder.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
def command(name: str | None, copy: Path | None, force: bool) -> None:
    """List the shipped experiments; print the one called NAME, or copy it with its data."""
    if name is None:
        if copy is not None:
            raise UsageError("--copy", given=str(copy), allowed="with the name of an example")
        _list()
        return
    if name not in example_names():
        raise UnknownNameError("NAME", name, example_names())
    source = examples_folder() / f"{name}.toml"
    if copy is None:
        click.echo(source.read_text(encoding="utf-8"), nl=False)
        return
    files = [source]
    files += [examples_folder() / file for file in dict.fromkeys(_files(tomllib.loads(source.read_text("utf-8"))))]
    targets = [copy / file.name for file in files]
    for target in targets:
        if target.exists() and not force:
            raise UsageError("--copy", given=str(target), allowed="a new file", hint="--force to write over it")
    with writing("--copy", copy):
        copy.mkdir(parents=True, exist_ok=True)
    for file, target in zip(files, targets, strict=True):
        with writing("--copy", target), atomic_path(target) as temporary:
            temporary.write_bytes(file.read_bytes())
        click.echo(str(target))


def _files(node: Any) -> Iterator[str]:
    """The files that a table, or one inside it, names."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "file" and isinstance(value, str):
                yield value
            else:
                yield from _files(value)
    elif isinstance(node, list):
        for one in node:
            yield from _files(one)


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "title", "shows", box=None, padding=(0, 2, 0, 0))
    for name in example_names():
        top = tomllib.loads((examples_folder() / f"{name}.toml").read_text(encoding="utf-8"))
        table.add_row(name, top["title"], top["shows"])
    Console().print(table)
