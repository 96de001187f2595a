"""All commands: one file per group of them, imported when it is used."""

import sys
from importlib import import_module
from typing import Any

import click

import dfloc
from dfloc.errors import DflocError, unknown

COMMANDS = {
    "data": "dfloc.cli.data:data",
    "sweep": "dfloc.cli.sweep:sweep",
    "report": "dfloc.cli.report:report",
    "predict": "dfloc.cli.predict:predict",
    "evaluate": "dfloc.cli.evaluate:evaluate",
    "diff": "dfloc.cli.diff:diff",
    "import-checkpoint": "dfloc.cli.import_checkpoint:import_checkpoint",
    "list": "dfloc.cli.list:list_names",
    "doctor": "dfloc.cli.doctor:doctor",
    "ui": "dfloc.cli.ui:ui",
}
SHORT_HELP = {
    "data": "Make, import and check data.",
    "sweep": "Run a study: features, trials, tracking, report.",
    "report": "Build a study's page from what is finished.",
    "predict": "Say what a finished trial takes for generated: pixels, or images.",
    "evaluate": "Score a finished trial, or any tool's maps, on any data.",
    "diff": "Say how two trials differ.",
    "import-checkpoint": "Import a published checkpoint of DeCLIP as a finished trial.",
    "list": "List what has a name: sweeps, backbones, decoders, losses, ...",
    "doctor": "Look whether a workspace is whole and this machine fit.",
    "ui": "Open the MLflow UI on the workspace.",
}


class _AskedError(BaseException):
    """A command was interrupted, or asked to end by a signal: its cause says which."""


class LateGroup(click.Group):
    """A group whose commands are imported when they are asked for, so that `dfloc --help` is quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(SHORT_HELP.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; one that is asked to end says so itself, where click would write an empty line first."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _AskedError from error

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; an unknown one is told what is near."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise unknown("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=LateGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(dfloc.__version__, prog_name="dfloc")
def cli() -> None:
    """Run studies of deepfake localization, detection and attribution: distributed, resumable, recorded.

    \b
    dfloc sweep exposure                     the exposure study on built-in data
    dfloc sweep exposure --data DIR          the same on Dolos
    dfloc report exposure                    its page again
    dfloc ui                                 its trials in MLflow
    """


def run() -> int:
    """Run the command that the command line names; return its exit code."""
    try:
        code: Any = cli(standalone_mode=False)
    except (_AskedError, click.Abort) as error:
        raise error.__cause__ or KeyboardInterrupt from error
    return code if isinstance(code, int) else 0


def show_error(error: Exception, debug: bool) -> int:
    """Tell an error of a user in one or two lines; return the exit code. Any other is raised, and all to debug."""
    if isinstance(error, click.ClickException):
        error.show()
        return error.exit_code
    if debug or not isinstance(error, (DflocError, OSError)):
        raise error
    if isinstance(error, DflocError):
        from dfloc.cli import advice

        click.echo(f"Error: {advice.completed(str(error), sys.argv[1:], COMMANDS)}", err=True)
        return error.exit_code
    if error.errno is None:
        raise error
    click.echo(f"Error: {error} (--debug shows where)", err=True)  # a disk that is full, a folder without leave
    return 2
