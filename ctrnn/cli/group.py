"""The group ``ctrnn``: a command's module is loaded when it is called, so that help is quick."""

from __future__ import annotations

from importlib import import_module

import click

from ctrnn import __version__
from ctrnn.errors import nearest

COMMANDS = {  # name -> short help; the module is ctrnn.cli.<name>, its command is called `command`
    "run": "Everything that an experiment file asks for.",
    "simulate": "The solution r(t), as CSV and NPZ.",
    "gradient": "The gradient of the objective.",
    "plan": "What each gradient method would cost, before any is run.",
    "compare": "Gradient methods side by side: agreement, time, memory.",
    "fit": "Parameters that make the objective least.",
    "equilibrium": "A rest point, its eigenvalues and stability.",
    "fixed-points": "All points of rest that many starts lead to.",
    "portrait": "The phase plane: nullclines, points of rest, basins.",
    "continue": "Equilibria against a parameter, with their bifurcations.",
    "cycle": "A limit cycle: period, multipliers, phase response.",
    "lyapunov": "Lyapunov exponents along the run.",
    "train": "Offline training on trials.",
    "learn": "Learning while the data come.",
    "warm": "Compile everything ahead, for images and clusters.",
    "examples": "List, print or copy the shipped experiments.",
    "new": "Write a commented template of an experiment file.",
}
#: of commands whose names no module can have
MODULES = {"continue": "continuation", "fixed-points": "fixed_points"}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of that name, whose module is imported now."""
        return import_module(f"ctrnn.cli.{MODULES.get(name, name)}").command if name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from `COMMANDS`, without an import."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments call; a name that is none is an error with a hint."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = nearest(args[0], COMMANDS).capitalize()
            ctx.fail(f"no command {args[0]!r}; allowed: {', '.join(COMMANDS)}. {hint}".strip())
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"ctrnn {__version__}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    callback=_version,
    expose_value=False,
    is_eager=True,
    help="Show the version.",
)
def group() -> None:
    """Solve, differentiate and fit dr/dt = F(t, r, w, x), one experiment file at a time.

    Start with `ctrnn run hare-lynx`. Exit codes: 0 done, 1 the numbers went wrong, 2 the call or
    the file is wrong. CTRNN_DEBUG=1 shows the traceback of an error.
    """
