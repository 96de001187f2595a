"""`dfloc sweep`: run a study, or what is left of it."""

import os
import shlex
import sys
from typing import Any

import click

from dfloc.cli.options import debug_option, experiment_option, plugin_option, workspace_option
from dfloc.shutdown import CODES

MAX_SEEDS = 10_000  # as in a sweep file


def _print_schema(context: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked:
        from dfloc.sweep import json_schema

        click.echo(json_schema.text())
        context.exit()


@click.command(context_settings={"show_default": True}, epilog=CODES)
@click.argument("name")
@click.option("--data", metavar="DIR", help="Folder of shards, or a tree of Dolos' layout, which is imported once.")
@click.option(
    "--own",
    multiple=True,
    metavar="SOURCE/GENERATOR=DIR,fake=black|white|VALUE[,split=80/10/10]",
    help="Folder pair DIR/images, DIR/masks, or a table= of samples: one domain more, imported beside the data; also "
    "mask=, photograph=, real=, family=. Without masks: SOURCE/GENERATOR=DIR,generated and SOURCE/real=DIR,real "
    "(repeatable).",
)
@click.option("--preset", help="mini | paper | smoke.  [default: paper with --data, else mini]")
@click.option("--dry-run", is_flag=True, help="Print the plan; start nothing.")
@click.option("--print", "printed", is_flag=True, help="Print the sweep file with preset and --set merged in.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON schema of a sweep file, for an editor; docs/SWEEPFILE.md has every key.",
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key of the sweep (repeatable).")
@click.option("--seeds", type=click.IntRange(1, MAX_SEEDS), help="Number of trial seeds.")
@click.option("--draws", type=click.IntRange(1, MAX_SEEDS), help="Number of sampling seeds: each draws other samples.")
@click.option("--limit", type=click.IntRange(1), help="Scale every count down, the largest to N.")
@click.option(
    "--only",
    multiple=True,
    metavar="STAGE[/CASE]",
    help="Only this stage or case, and what it starts from (repeatable).",
)
@workspace_option
@click.option(
    "--tracking",
    metavar="URI",
    help="MLflow's store.  [default: $MLFLOW_TRACKING_URI, else a sqlite file in the workspace]",
)
@experiment_option
@click.option("--new-identity", is_flag=True, help="Take this workspace, a copy, for another one than its original.")
@click.option("--address", help="Of a running Ray.  [default: $RAY_ADDRESS, else one is started here]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where trials run.  [default: the preset's]")
@click.option("--max-concurrent", type=click.IntRange(1), help="Trials at once.  [default: as many as fit]")
@click.option("--gpus-per-trial", type=click.FloatRange(0, min_open=True), default=1.0, help="Share of a GPU.")
@plugin_option
@click.option("--retry-failed", is_flag=True, help="Run again what failed.")
@click.option("--wait", is_flag=True, help="Wait for another driver of this workspace to end.")
@debug_option
def sweep(dry_run: bool, printed: bool, debug: bool, **given: Any) -> int:
    """Run the study NAME (or a sweep FILE.yaml): features, trials, tracking, report.

    The same command goes on after any interruption, and extends a finished study; nothing is computed twice.

    \b
    dfloc sweep exposure                                           built-in data, minutes on a laptop
    dfloc sweep exposure --dry-run --preset paper                  what the thesis' study would run
    dfloc sweep exposure --set stages.finetune.grid.n=[4,8,16]     other exposure counts; only new trials run
    dfloc sweep exposure --print > mine.yaml                       its sweep file, merged, to be changed and run
    dfloc sweep exposure --seeds 3                                 three seeds, with intervals over them
    dfloc sweep first-day --data DOLOS                             what to run first: published cells, PASS or FAIL
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from dfloc import screen
    from dfloc.sweep import settled

    if not (dry_run or printed) and (lines := settled.lines(given)):
        click.echo("\n".join(map(screen.wrapped, lines)))
        return 0
    from rich.console import Console

    from dfloc.sweep import messages, prepare, run
    from dfloc.sweep.sweep_data import SweepRequest

    console = Console(soft_wrap=True, markup=False)
    options = SweepRequest(**given)
    if printed:
        click.echo(prepare.merged(options), nl=False)
        return 0
    if dry_run:
        messages.dry_run(options, console)
        return 0
    outcome = run.sweep(options, console)
    return messages.show_end(outcome, console, again=shlex.join(["dfloc", *sys.argv[1:]]))
