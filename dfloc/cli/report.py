"""`dfloc report`: a study's page from what is finished, its tables as LaTeX, its figures as SVG, PDF or PNG."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from dfloc.cli.options import debug_option, plugin_option, workspace_option

if TYPE_CHECKING:
    from upath import UPath

    from dfloc.record import SweepRecord
    from dfloc.storage import Workspace

FORMATS = ("html", "latex", "svg", "pdf", "png")
DRAWN = FORMATS[2:]
SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables of which one is set where a browser can be opened; a text browser would take the terminal."""


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
@click.option(
    "--all",
    "every",
    is_flag=True,
    help="Every sweep of the workspace, a page over them, and one of every claim of the documents.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--out",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Put a copy there, pages, tables and CSVs, which needs no other file: to be sent or published.",
)
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
    opens: bool,
    out: Path | None,
    debug: bool,
) -> None:
    """Build the page of a sweep from what is finished; print its path, and on a terminal what it answers.

    NAME is a sweep's name, such as exposure; its latest start is meant, or the one of --preset, --data and --limit.
    Tables as LaTeX are for one column of a two-column paper (3.25 in, 7 pt): what does not fit leaves, first of all
    counts, settings and costs. A comment in the file says what left, and lists the key of each column: its head in
    small letters with hyphens, valid-iou; a head as the page shows it does too. The page, Markdown and CSVs have all
    columns. The files need the packages booktabs, graphicx and array; latex/all.tex shows them. The page's images are
    made once, from weights and stored maps, and kept; where those are gone, it says so.

    \b
    dfloc report exposure --preset mini
    dfloc report single-domain --format latex --table models --columns model,valid-iou,id,ood
    dfloc report exposure --format pdf --figure fig-mean
    dfloc report exposure --out ~/exposure --open
    dfloc report --all
    """
    from dfloc.errors import ConfigError
    from dfloc.storage import Workspace

    _refuse_of_other_formats(kind, table, columns, figure, opens, out)
    if every != (name is None):
        raise ConfigError("`dfloc report` wants the name of one sweep, or --all; `dfloc list sweeps` has the names")
    if name is None:
        _refuse_beside_all({"--preset": preset, "--data": data, "--limit": limit, "--format": kind})
        _every(workspace, panel, opens, out)
        return
    record = _found(workspace, name, preset, data, limit)
    place = Workspace(workspace)
    if kind == "html":
        _page(place, record, panel, opens, out)
    else:
        _files(place, record, kind, table, columns, figure)


def _found(workspace: str, name: str, preset: str | None, data: str | None, limit: int | None) -> "SweepRecord":
    from upath import UPath

    from dfloc.report.find import find
    from dfloc.sweep.sweep_file import shipped

    return find(UPath(workspace), name, shipped(), preset=preset, data=data, limit=limit)


def _page(workspace: "Workspace", record: "SweepRecord", panel: bool, opens: bool, out: Path | None) -> None:
    from dfloc.report import export
    from dfloc.report.build import build

    copied = export.claim(out, record.sweep, workspace.root) if out else None
    _show(build(workspace, record, with_panel=panel), copied, opens)


def _files(
    workspace: "Workspace",
    record: "SweepRecord",
    kind: str,
    table: str | None,
    columns: str | None,
    figure: str | None,
) -> None:
    from dfloc.report import files, latex
    from dfloc.report.build import read

    report, folder = read(workspace, record), workspace.report(record.sweep)
    if kind == "latex":
        keys = [key.strip() for key in columns.split(",")] if columns is not None else None
        paths = latex.write(report, folder / "latex", table, keys)
    else:
        paths = files.write(report, folder / "figures", kind, figure)
    click.echo("\n".join(map(str, paths)))


def _every(workspace: str, panel: bool, opens: bool, out: Path | None) -> None:
    """Build the pages of all sweeps; exit 1 where one failed."""
    from dfloc.report import export, index
    from dfloc.storage import Workspace

    place = Workspace(workspace)
    copied = export.claim(out, export.EVERY, place.root) if out else None
    page, failed = index.build_all(place, with_panel=panel)
    _show(page.parent, copied, opens)
    for sweep, why in failed.items():
        click.echo(f"Error: the report of {sweep} failed: {why}", err=True)
    click.get_current_context().exit(1 if failed else 0)


def _show(folder: "UPath", copied: Path | None, opens: bool) -> None:
    """Print what a report answers and the path of its page, or of the page's copy; open it where that was asked."""
    from dfloc import parent_run, screen
    from dfloc.report import export

    for sentence in parent_run.sentences(folder) if _is_terminal() else ():  # a script gets the path alone
        click.echo(screen.wrapped(f"{screen.ITEM}{sentence}"))
    page = export.copy(folder, copied) if copied else folder / "index.html"
    click.echo(page)
    if opens and not _opened(page):
        click.echo(f"no browser can be opened here; open this page by hand: {page}", err=True)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


def _opened(page: "UPath") -> bool:
    """Open a page in the browser; return whether there is one."""
    import webbrowser

    from dfloc.storage import is_local

    if not is_local(page) or not (sys.platform in ("darwin", "win32") or any(map(os.environ.get, SCREENS))):
        return False
    try:
        return webbrowser.open(Path(page.path).absolute().as_uri())
    except (OSError, webbrowser.Error):
        return False


def _refuse_of_other_formats(
    kind: str, table: str | None, columns: str | None, figure: str | None, opens: bool, out: Path | None
) -> None:
    from dfloc.errors import ConfigError

    latex = ("latex",)
    for option, value, wanted in (
        ("--table", table, latex),
        ("--columns", columns, latex),
        ("--figure", figure, DRAWN),
        ("--open", "" if opens else None, ("html",)),
        ("--out", out, ("html",)),
    ):
        if value is not None and kind not in wanted:
            given = f"{option} {value}".rstrip()
            raise ConfigError(f"{given} needs --format {' or '.join(wanted)}; came --format {kind}")
    if columns is not None and table is None:
        raise ConfigError(f"--columns {columns} are of one table: --table says which")


def _refuse_beside_all(given: dict[str, str | int | None]) -> None:
    from dfloc.errors import ConfigError

    words = [f"{option} {value}" for option, value in given.items() if value not in (None, "html")]
    if words:
        raise ConfigError(f"--all is the pages of every sweep; {' '.join(words)} needs the name of one instead")
