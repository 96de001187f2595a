"""`dfloc diff`: how two trials differ."""

import sys
from typing import TYPE_CHECKING

import click

from dfloc.cli.options import debug_option, plugin_option, tracking_option, workspace_option
from dfloc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from rich.console import Console

    from dfloc.config import Checkpoint
    from dfloc.report.differs import Field
    from dfloc.sweep.diff import CalledDifference, Difference, TrialPair

SHOWN = 40  # characters of a value


@click.command(context_settings={"show_default": True})
@click.argument("a")
@click.argument("b")
@click.option("--metric", help="One of the protocol's keys.  [default: its first]")
@click.option("--protocol", help="Whose rows.  [default: the one that both have rows of]")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Whose rows.")
@click.option(
    "--rows",
    metavar="FILE.csv",
    type=click.Path(dir_okay=False),
    help="A row per image and pair of trainings.",
)
@click.option("--alone", is_flag=True, help="Compare these two trials alone, without other seeds and sampling seeds.")
@workspace_option
@tracking_option
@plugin_option
@debug_option
def diff(
    a: str,
    b: str,
    alone: bool,
    metric: str | None,
    protocol: str | None,
    checkpoint: "Checkpoint",
    rows: str | None,
    workspace: str,
    tracking: str | None,
    debug: bool,
) -> None:
    """Say which fields of the trials A and B differ, and how far their scores are apart on the images that both have.

    A and B are fingerprints of trials or their first digits, ids of MLflow runs, or words of their names, in any order,
    as progress, MLflow and report have them. Each stands for all seeds and sampling seeds of its recipe; those of both
    are compared in pairs. Differences are A less B, with a 95 % interval over source images and trainings; a star
    marks what luck does not explain, by Holm's procedure over the lines. Of one training a side no number tells that.

    \b
    dfloc diff 3fa9c1 77d0e2
    dfloc diff 3fa9c1 "base ldm seed=0" --metric ap
    dfloc diff "finetune ldm n=16" "scratch ldm n=16"
    dfloc diff "clip-linear ldm" "srm-linear ldm" --rows changed.csv      (task: detect)

    Of trials that detect or attribute a second table says how many images are called alike, and how many one of them
    alone calls rightly. A trial that localizes and one that calls images are not compared.
    """
    from rich.console import Console
    from upath import UPath

    from dfloc import storage
    from dfloc.ledger import Ledger
    from dfloc.metrics import protocols
    from dfloc.report import differs
    from dfloc.storage import Workspace
    from dfloc.sweep import diff as compared
    from dfloc.sweep import lookup

    if rows and not rows.endswith(".csv"):
        raise ConfigError(f"--rows {rows} should end in .csv")
    ledger = Ledger(place := Workspace(workspace, create=False))
    names = [lookup.fingerprint(place, run, tracking, any_repetition=not alone) for run in (a, b)]
    console = Console(soft_wrap=True, markup=False, width=None if sys.stdout.isatty() else 160)
    for letter, name in zip("AB", names, strict=True):
        console.print(f"{letter}: trial {lookup.called(place, name)}", highlight=False, markup=False)
    paired = compared.paired(place, *names, alone=alone)
    specs = [ledger.spec(name) for name in paired[0][1:]]
    _show_fields(console, differs.fields(*specs))
    compared.refuse_tasks(*specs)
    pairs = [compared.TrialPair(*at, lookup.rows(ledger, one), lookup.rows(ledger, other)) for at, one, other in paired]
    chosen = compared.choose(pairs[0].a, pairs[0].b, protocol)
    key = metric or protocols.find(chosen).first.key
    _show_scores(console, pairs, chosen, key, checkpoint)
    if rows:
        storage.put(UPath(rows), _csv(compared.by_image(pairs, chosen, key, checkpoint)))


def _show_scores(
    console: "Console", pairs: "Sequence[TrialPair]", protocol: str, metric: str, checkpoint: "Checkpoint"
) -> None:
    from dfloc.sweep import diff as compared

    found = compared.differences(pairs, protocol, metric, checkpoint)
    what = f"{metric}, {checkpoint} checkpoint, protocol {protocol}, fractions"
    over = ", on these two trainings" if len(pairs) == 1 else f" and {len(pairs)} pairs of trainings"
    console.print(f"{what}; intervals over source images{over}", highlight=False)
    _show_differences(console, found)
    _show_called(console, compared.called(pairs, protocol, checkpoint))


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
    for heading in ("split", "images", "source images", "trainings", "A", "B", "A - B", "95 %", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        ends, photographs, trainings = one.difference.ends, one.difference.num_photographs, one.difference.num_trainings
        split = one.split if one.condition == "clean" else f"{one.split}, {one.condition}"
        numbers = [f"{one.a:.3f}", f"{one.b:.3f}", f"{one.difference.estimate:+.3f}"]
        span = f"{ends[0]:+.3f} to {ends[1]:+.3f}" if ends else "none: under 3 source images"
        counts = [f"{count:,}" for count in (one.images, photographs, trainings)]
        table.add_row(one.domain, split, *counts, *numbers, span, "*" if one.apart else "")
    console.print(table)


def _show_called(console: "Console", found: "Sequence[CalledDifference]") -> None:
    from rich.table import Table

    if not found:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("domain", no_wrap=True)
    for heading in ("split", "images", "called alike", "right by A alone", "right by B alone", "score A", "score B"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        split = one.split if one.condition == "clean" else f"{one.split}, {one.condition}"
        counts = [f"{count:,}" for count in (one.images, one.alike, one.only_a, one.only_b)]
        table.add_row(one.domain, split, *counts, f"{one.score_a:.3f}", f"{one.score_b:.3f}")
    console.print()
    console.print(table)


def _csv(table: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.csv as pc

    sink = pa.BufferOutputStream()
    pc.write_csv(table, sink)
    found: bytes = sink.getvalue().to_pybytes()
    return found
