"""`dfloc evaluate`: a finished trial on any data."""

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from dfloc.cli.options import debug_option, plugin_option, tracking_option, workspace_option

if TYPE_CHECKING:
    from rich.console import Console

    from dfloc.config import TrialSpec
    from dfloc.sweep.evaluate import Request
    from dfloc.sweep.scores import Line


@click.command(context_settings={"show_default": True})
@click.argument("run")
@click.option("--data", required=True, metavar="DIR", help="Folder of shards, or a tree, which is imported once.")
@click.option("--protocol", default="declip-2025", help="Whose metrics.")
@click.option("--domain", "domains", multiple=True, help="Only this one (repeatable).  [default: every local one]")
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", help="Of each domain.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Whose weights.")
@click.option("--out", metavar="FILE.csv", type=click.Path(dir_okay=False), help="Where the table goes as well.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where it is computed.")
@click.option("--address", help="Of a running Ray.  [default: $RAY_ADDRESS, else one is started here]")
@click.option("--wait", is_flag=True, help="Wait for another driver of this workspace to end.")
@workspace_option
@tracking_option
@plugin_option
@debug_option
def evaluate(out: str | None, debug: bool, **given: Any) -> None:
    """Score the finished trial RUN on the images of --data, and print a line for each domain.

    RUN is the fingerprint of a trial or its first digits, the id of its MLflow run, or its name as progress and report
    have it. Rows go into the ledger beside the trial's others: a second time nothing is computed.

    \b
    dfloc evaluate 3fa9c1 --data shards/mine
    dfloc evaluate "base held_out=celebahq/ldm seed=0" --data dolos --domain ldm --split valid --out ldm.csv
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from rich.console import Console
    from upath import UPath

    from dfloc import storage
    from dfloc.sweep.evaluate import Request, evaluate

    console = Console(soft_wrap=True)
    request = Request(**given)
    spec, lines = evaluate(request, console)
    _show(console, request, spec, lines)
    if out:
        storage.put(UPath(out), _csv(request, spec, lines).encode())


def _show(console: "Console", request: "Request", spec: "TrialSpec", lines: "list[Line]") -> None:
    from rich.console import Console
    from rich.table import Table

    keys = list(dict.fromkeys(key for line in lines for key in line.values))
    table = Table(box=None, pad_edge=False)
    table.add_column("domain", no_wrap=True)
    for heading in ("trained on it", "images", "photographs", *keys, f"{keys[0]}, 95 %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        low, high = line.interval
        values = [f"{line.values[key]:.3f}" if key in line.values else "-" for key in keys]
        words = {"in": "yes", "out": "no", "unknown": "unknown"}[line.relation]
        table.add_row(line.domain, words, f"{line.images:,}", f"{line.photographs:,}", *values, f"{low:.3f}-{high:.3f}")
    what = f"trial {spec.fingerprint[:12]}, {request.checkpoint} checkpoint, {request.split} images"
    console.print(f"{what}; protocol {request.protocol}, fractions; intervals over photographs", highlight=False)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for line in lines:
        if line.trained_on:
            console.print(f"{line.domain}: {line.trained_on} of its photographs are among those that it trained on")
        for key, count in line.undefined.items():
            console.print(f"{line.domain}: {key} is undefined for {count} images, which its mean leaves out")


def _csv(request: "Request", spec: "TrialSpec", lines: "list[Line]") -> str:
    import csv
    import io

    text = io.StringIO()
    rows = [
        {
            "trial": spec.fingerprint,
            "checkpoint": request.checkpoint,
            "protocol": request.protocol,
            "domain": line.domain,
            "split": request.split,
            "domain_trained_on": line.relation,
            "images": line.images,
            "photographs": line.photographs,
            "photographs_trained_on": line.trained_on,
            **line.values,
            "low": line.interval[0],
            "high": line.interval[1],
        }
        for line in lines
    ]
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
