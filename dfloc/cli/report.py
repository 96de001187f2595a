"""`dfloc report`: a study's page from what is finished."""

import click

from dfloc.cli.options import debug_option, workspace_option


@click.command()
@click.argument("name")
@workspace_option
@click.option("--preset", help="Of the sweep, where several ran.  [default: the latest]")
@click.option("--data", metavar="NAME", help="Name of its data.  [default: the latest]")
@click.option("--limit", type=click.IntRange(1), help="Its --limit.  [default: the latest]")
@debug_option
def report(name: str, workspace: str, preset: str | None, data: str | None, limit: int | None, debug: bool) -> None:
    """Build the page of a sweep from what is finished, and print its path.

    \b
    dfloc report exposure --preset mini
    """
    from upath import UPath

    from dfloc.report.build import build
    from dfloc.report.find import find
    from dfloc.storage import Workspace
    from dfloc.sweep.file import shipped

    record = find(UPath(workspace), name, shipped(), preset=preset, data=data, limit=limit)
    click.echo(build(Workspace(workspace), record) / "index.html")
