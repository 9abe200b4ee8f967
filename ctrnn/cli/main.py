"""The entry of the command line: errors and Ctrl-C become a message and an exit code.

Nothing is imported before :func:`run` is on guard, so that a Ctrl-C while modules load is caught too.
"""

from __future__ import annotations

import sys
from typing import Any


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code."""
    from ctrnn.cli.streams import lasting

    streams = lasting()
    code = run(arguments)
    sys.stdout.flush()
    for stream in streams:
        if stream.is_lost and not code:
            print(f"error: what was to be printed is lost: {stream.failure}", file=sys.stderr)
            code = 1
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; its exit code. An error becomes a message on standard error."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(arguments: list[str] | None) -> int:
    import os

    import click

    from ctrnn.cli.group import group
    from ctrnn.errors import CtrnnError

    try:
        status = group.main(args=arguments, prog_name="ctrnn", standalone_mode=False)
        return status if isinstance(status, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:  # what click makes of Ctrl-C
        raise KeyboardInterrupt from None
    except (CtrnnError, OSError) as error:
        if os.environ.get("CTRNN_DEBUG"):
            raise
        from ctrnn.experiment.relocate import in_file_words

        click.echo(f"error: {in_file_words(str(error))}", err=True)
        return getattr(error, "exit_code", 1)
    except MemoryError:
        click.echo("error: the memory is used up", err=True)
        return 1


def __getattr__(name: str) -> Any:
    """``group`` and ``COMMANDS``, loaded when they are asked for."""
    if name not in ("group", "COMMANDS"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ctrnn.cli import group

    return getattr(group, name)
