"""Options that several commands share."""

import click

workspace_option = click.option(
    "--workspace",
    envvar="DFLOC_WORKSPACE",
    default="./workspace",
    show_default=True,
    show_envvar=True,
    help="Folder that holds everything; every node must see it.",
)
debug_option = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
