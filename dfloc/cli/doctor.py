"""`dfloc doctor`: what is damaged in a workspace, what makes it again, and whether this machine is fit."""

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from dfloc.cli.options import debug_option, plugin_option, tracking_option, workspace_option

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dfloc.doctor.finding import Diagnosis, Finding
    from dfloc.doctor.machine import Fact
    from dfloc.storage import Workspace

SHOWN = 20  # findings of a kind


@click.command()
@workspace_option
@click.option("--data", multiple=True, metavar="DIR", help="Shards outside of the workspace to look at (repeatable).")
@click.option("--mend", is_flag=True, help="Take away what is damaged or left over, so that it is made again.")
@tracking_option
@plugin_option
@debug_option
@click.pass_context
def doctor(
    context: click.Context, workspace: str, data: tuple[str, ...], mend: bool, tracking: str | None, debug: bool
) -> int:
    """Read a workspace whole, say what is damaged, what makes it again and at what cost; and look at this machine.

    Every file is read that a number rests on, whatever was verified before: shards, lists, features, weights, epochs,
    rows, records, locks and MLflow's database. Reports and MLflow's copies of rows are built from these. Nothing is
    changed, unless --mend takes away what is damaged, and what writers that are gone have left. It never takes what is
    merely unneeded, and is refused while a driver runs. Data that only you can bring back are renamed to NAME.damaged.

    The exit code is 0 where nothing is damaged, or what is was taken away and is made again by the next start; 1 where
    something is damaged, only you can bring it back, or this machine is not fit; 2 where --mend meets a driver, or a
    folder in which nothing can be read as dfloc's.

    \b
    dfloc doctor
    dfloc doctor --workspace runs --data shards
    dfloc doctor --mend
    """
    from dfloc.doctor import machine
    from dfloc.errors import WorkspaceError
    from dfloc.storage import Workspace

    place = Workspace(workspace, create=False)
    there = place.root.exists()
    if not there and (mend or data or context.get_parameter_source("workspace") != ParameterSource.DEFAULT):
        raise WorkspaceError(f"there is no workspace {place.root}; name one by --workspace")
    fit = _tell_machine(machine.look(place if there else None, tracking))
    if not there:
        click.echo(f"there is no workspace {place.root} yet; this machine alone was looked at")
        return 0 if fit else 1
    whole = _tell_workspace(place, data, mend)
    return 0 if fit and whole else 1


def _tell_machine(facts: "Iterable[Fact]") -> bool:
    """Show what is known of the machine; return whether it is fit."""
    fit = True
    click.echo("this machine")
    for fact in facts:
        fit = fit and fact.state != "bad"
        click.echo(f"  {'' if fact.state == 'ok' else f'{fact.state}: '}{fact.name}: {fact.text}")
    return fit


def _tell_workspace(workspace: "Workspace", data: tuple[str, ...], mend: bool) -> bool:
    """Examine and show; return whether nothing is damaged, or what was is made again."""
    from rich.console import Console
    from upath import UPath

    from dfloc.data.manifest import FILE_NAME
    from dfloc.doctor import workspace as whole
    from dfloc.doctor.leftovers import is_workspace
    from dfloc.errors import DataError
    from dfloc.sweep.progress import Display

    for folder in data:
        if not (UPath(folder) / FILE_NAME).exists():
            raise DataError(f"--data {folder} should be a folder of shards, but it has no {FILE_NAME}")
    if not data and not mend and not is_workspace(workspace):
        click.echo(f"{workspace.root} is not a workspace: nothing in it can be read as dfloc's")
        return not any(workspace.root.iterdir())
    click.echo(f"workspace {workspace.root}")
    with Display(Console(stderr=True), "files looked at", 0) as display:
        how = whole.mend if mend else whole.examine
        found = how(workspace, [UPath(folder) for folder in data], display.advance)
    _tell_counts(found)
    damaged, left = [*found.of("damaged")], [*found.of("left over")]
    _tell_findings([*damaged, *left, *found.of("awaited")])
    if not damaged and not left:
        click.echo("nothing is damaged")
    elif mend:
        _tell_taken(found)
    else:
        click.echo(f"{len(damaged)} damaged and {len(left)} left over; dfloc doctor --mend takes them away")
    return not damaged or (mend and not found.stuck and not any(finding.lost for finding in damaged))


def _tell_taken(found: "Diagnosis") -> None:
    """Say how much was taken away, and what was not."""
    rest: dict[str, str] = {}
    taken = Counter[str]()
    for finding in (*found.of("damaged"), *found.of("left over")):
        stuck = {str(path): why for path, why in found.stuck.items() if path in (*finding.remove, *finding.aside)}
        if not finding.remove and not finding.aside:
            stuck = {str(finding.path): "only you can help"}
        rest |= stuck
        taken[finding.state] += not stuck
    if taken.total():
        click.echo(f"{taken['damaged']} damaged and {taken['left over']} left over: taken away")
    if rest:
        named = ", ".join(f"{path} ({why})" for path, why in [*rest.items()][:SHOWN])
        click.echo(f"{len(rest)} cannot be taken away: {named}{', ...' if len(rest) > SHOWN else ''}")


def _tell_counts(found: "Diagnosis") -> None:
    unverifiable = Counter[str](finding.kind for finding in found.of("unverifiable"))
    for kind, count in sorted(found.looked.items()):
        old = f", of which {unverifiable[kind]:,} are of before receipts: unverifiable" if unverifiable[kind] else ""
        click.echo(f"  {kind}: {count:,} looked at{old}")


def _tell_findings(findings: "Sequence[Finding]") -> None:
    in_order = sorted(findings, key=lambda one: (one.state, one.kind))
    for (state, kind), group in groupby(in_order, key=lambda one: (one.state, one.kind)):
        members = list(group)
        for finding in members[:SHOWN]:
            after = f"; {finding.after}" if finding.after else ""
            click.echo(f"{state}: {kind} {finding.path} {finding.wrong}{after}")
        if len(members) > SHOWN:
            click.echo(f"{state}: {kind}, {len(members) - SHOWN} more")
