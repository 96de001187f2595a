"""Options that several commands share."""

import click

from dfloc import plugin


def _use(context: click.Context, parameter: click.Parameter, paths: tuple[str, ...]) -> None:
    """Load plug-ins before the command runs."""
    if not context.resilient_parsing:
        plugin.use(plugin.read(paths))


workspace_option = click.option(
    "--workspace",
    envvar="DFLOC_WORKSPACE",
    default="./workspace",
    show_default=True,
    show_envvar=True,
    help="Folder that holds everything; every node must see it.",
)
plugin_option = click.option(
    "--plugin",
    multiple=True,
    metavar="FILE.py|FOLDER|PACKAGE",
    expose_value=False,
    callback=_use,
    help="Own backbones, decoders, losses, optimisers, schedules, protocols or mini generators (repeatable).",
)
debug_option = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
tracking_option = click.option("--tracking", metavar="URI", help="MLflow's store, where RUN is one of its runs.")
experiment_option = click.option(
    "--experiment", metavar="NAME", default="dfloc", show_default=True, help="MLflow's experiment that holds the runs."
)
