"""`dfloc report`: a study's page from what is finished, its tables as LaTeX, its figures as SVG, PDF or PNG."""

from typing import Literal

import click

from dfloc.cli.options import debug_option, plugin_option, workspace_option

FORMATS = ("html", "latex", "svg", "pdf", "png")
DRAWN = FORMATS[2:]


@click.command()
@click.argument("name", required=False)
@workspace_option
@click.option("--preset", help="Of the sweep, where several ran.  [default: the latest]")
@click.option("--data", metavar="NAME", help="Name of its data.  [default: the latest]")
@click.option("--limit", type=click.IntRange(1), help="Its --limit.  [default: the latest]")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="html",
    show_default=True,
    help="html: the page, Markdown and CSVs. latex: its tables. svg, pdf, png: its figures.",
)
@click.option("--table", metavar="ID", help="With --format latex: this table alone.")
@click.option(
    "--columns",
    metavar="KEY,...",
    help="With --format latex and --table: these columns of it, in this order.  [default: those that fit]",
)
@click.option("--figure", metavar="ID", help="With --format svg, pdf or png: this figure alone.")
@click.option("--panel/--no-panel", default=True, show_default=True, help="Show a few test images on the page.")
@click.option("--all", "every", is_flag=True, help="Every sweep of the workspace, and one page over them.")
@plugin_option
@debug_option
def report(
    name: str | None,
    workspace: str,
    preset: str | None,
    data: str | None,
    limit: int | None,
    kind: Literal["html", "latex", "svg", "pdf", "png"],
    table: str | None,
    columns: str | None,
    figure: str | None,
    panel: bool,
    every: bool,
    debug: bool,
) -> None:
    """Build the page of a sweep from what is finished, and print its path.

    NAME is a sweep's name, such as exposure; its latest start is meant, or the one of --preset, --data and --limit.
    Tables as LaTeX are for one column of a two-column paper (3.25 in, 7 pt): what does not fit leaves, first of all
    counts, settings and costs. A comment in the file says what left, and lists the key of each column: its head in
    small letters with hyphens, valid-iou. The page, Markdown and CSVs have all columns. The files need the packages
    booktabs, graphicx and array; latex/all.tex shows them. The page's images are made once, from weights and stored
    maps, and kept; where those are gone, it says so.

    \b
    dfloc report exposure --preset mini
    dfloc report single-domain --format latex --table models --columns model,valid-iou,id,ood
    dfloc report exposure --format pdf --figure fig-mean
    dfloc report --all
    """
    from upath import UPath

    from dfloc.errors import ConfigError
    from dfloc.report import files, latex
    from dfloc.report.build import build, read
    from dfloc.report.find import find
    from dfloc.storage import Workspace
    from dfloc.sweep.sweep_file import shipped

    _refuse_of_other_formats(kind, table, columns, figure)
    if every != (name is None):
        raise ConfigError("`dfloc report` wants the name of one sweep, or --all; `dfloc list sweeps` has the names")
    if name is None:
        _refuse_beside_all({"--preset": preset, "--data": data, "--limit": limit, "--format": kind})
        _every(workspace, panel)
        return
    record = find(UPath(workspace), name, shipped(), preset=preset, data=data, limit=limit)
    place = Workspace(workspace)
    folder = place.report(record.sweep)
    if kind == "html":
        click.echo(build(place, record, with_panel=panel) / "index.html")
    elif kind == "latex":
        keys = [key.strip() for key in columns.split(",")] if columns is not None else None
        click.echo("\n".join(map(str, latex.write(read(place, record), folder / "latex", table, keys))))
    else:
        click.echo("\n".join(map(str, files.write(read(place, record), folder / "figures", kind, figure))))


def _every(workspace: str, panel: bool) -> None:
    """Build the pages of all sweeps; exit 1 where one failed."""
    from dfloc.report import index
    from dfloc.storage import Workspace

    page, failed = index.build_all(Workspace(workspace), with_panel=panel)
    click.echo(page)
    for sweep, why in failed.items():
        click.echo(f"Error: the report of {sweep} failed: {why}", err=True)
    click.get_current_context().exit(1 if failed else 0)


def _refuse_of_other_formats(kind: str, table: str | None, columns: str | None, figure: str | None) -> None:
    from dfloc.errors import ConfigError

    latex = ("latex",)
    for option, value, wanted in (
        ("--table", table, latex),
        ("--columns", columns, latex),
        ("--figure", figure, DRAWN),
    ):
        if value is not None and kind not in wanted:
            raise ConfigError(f"{option} {value} needs --format {' or '.join(wanted)}; came --format {kind}")
    if columns is not None and table is None:
        raise ConfigError(f"--columns {columns} are of one table: --table says which")


def _refuse_beside_all(given: dict[str, str | int | None]) -> None:
    from dfloc.errors import ConfigError

    words = [f"{option} {value}" for option, value in given.items() if value not in (None, "html")]
    if words:
        raise ConfigError(f"--all is the pages of every sweep; {' '.join(words)} needs the name of one instead")
