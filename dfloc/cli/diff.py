"""`dfloc diff`: how two trials differ."""

import sys
from typing import TYPE_CHECKING

import click

from dfloc.cli.options import debug_option, tracking_option, workspace_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from dfloc.config import Checkpoint
    from dfloc.report.differs import Field
    from dfloc.sweep.diff import Difference

SHOWN = 40  # characters of a value


@click.command(context_settings={"show_default": True})
@click.argument("a")
@click.argument("b")
@click.option("--metric", help="One of the protocol's keys.  [default: iou]")
@click.option("--protocol", help="Whose rows.  [default: the one that both have rows of]")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Whose rows.")
@workspace_option
@tracking_option
@debug_option
def diff(
    a: str,
    b: str,
    metric: str | None,
    protocol: str | None,
    checkpoint: "Checkpoint",
    workspace: str,
    tracking: str | None,
    debug: bool,
) -> None:
    """Say which fields of the trials A and B differ, and how far their scores are apart on the images that both have.

    A and B are fingerprints of trials or their first digits, ids of MLflow runs, or words of their names, in any order,
    as progress, MLflow and report have them. Differences are A less B, with a 95 % interval of a bootstrap that draws
    the same photographs for both; an interval without 0 is marked by a star.

    \b
    dfloc diff 3fa9c1 77d0e2
    dfloc diff 3fa9c1 "base ldm seed=0" --metric ap
    """
    from rich.console import Console

    from dfloc.ledger import Ledger
    from dfloc.report import differs
    from dfloc.storage import Workspace
    from dfloc.sweep import diff as compared
    from dfloc.sweep import lookup, rows

    place = Workspace(workspace, create=False)
    ledger = Ledger(place)
    names = [lookup.fingerprint(place, run, tracking) for run in (a, b)]
    console = Console(soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else 160)
    for letter, name in zip("AB", names, strict=True):
        console.print(f"{letter}: trial {lookup.called(place, name)}", highlight=False, markup=False)
    _show_fields(console, differs.fields(ledger.spec(names[0]), ledger.spec(names[1])))
    of_a, of_b = (rows.table(ledger, name) for name in names)
    chosen = compared.choose(of_a, of_b, protocol)
    found = compared.differences(of_a, of_b, chosen, metric, checkpoint)
    what = f"{metric or 'iou'}, {checkpoint} checkpoint, protocol {chosen}, fractions"
    console.print(f"{what}; intervals over photographs", highlight=False)
    _show_differences(console, found)


def _show_fields(console: "Console", fields: "Sequence[Field]") -> None:
    from rich.markup import escape
    from rich.table import Table

    if not fields:
        console.print("no field differs: the same trial", highlight=False)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("field", "A", "B"):
        table.add_column(heading, no_wrap=True)
    for field in fields:
        table.add_row(field.path, *(escape(_short(value)) for value in (field.a, field.b)))
    console.print(table)


def _short(value: str) -> str:
    return value if len(value) <= SHOWN else f"{value[: SHOWN - 3]}..."


def _show_differences(console: "Console", found: "Sequence[Difference]") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("domain", no_wrap=True)
    for heading in ("split", "images", "photographs", "A", "B", "A - B", "95 %", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        low, high, photographs = one.difference.low, one.difference.high, one.difference.num_photographs
        split = one.split if one.condition == "clean" else f"{one.split}, {one.condition}"
        numbers = [f"{one.a:.3f}", f"{one.b:.3f}", f"{one.difference.estimate:+.3f}", f"{low:+.3f} to {high:+.3f}"]
        apart = "*" if photographs > 1 and (low > 0 or high < 0) else ""
        table.add_row(one.domain, split, f"{one.images:,}", f"{photographs:,}", *numbers, apart)
    console.print(table)
