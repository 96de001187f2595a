"""`dfloc evaluate`: a finished trial, or maps that another tool made, on any data."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfloc.cli.options import debug_option, plugin_option, tracking_option, workspace_option
from dfloc.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa
    from rich.console import Console

    from dfloc.sweep.evaluate import ScoredMaps, ScoredTrial
    from dfloc.sweep.scores import DomainScore

OWN_HELP = (
    "Instead of --data, a folder pair: mine/sd=FOLDER,fake=white; or a folder without masks, of images that are wholly "
    "generated or real: mine/fakes=FOLDER,generated, mine/real=FOLDER,real (repeatable)."
)
PROTOCOL_HELP = (
    "Whose metrics: of maps declip-2025, dolos-2024 or dfloc-1, of whole images image-1 or thesis-2025.  "
    "[default: declip-2025; of a trial that calls images, image-1]"
)
DOMAIN_HELP = "Only this one (repeatable).  [default: every local one; of a protocol of images every one]"
TRIAL_ONLY = {
    **{"checkpoint": "best", "device": "cpu", "address": None, "tracking": None},
    **dict.fromkeys(("explain", "layer")),
}


@click.command(context_settings={"show_default": True})
@click.argument("run", required=False)
@click.option("--data", metavar="DIR", help="Folder of shards, or a tree, which is imported once.")
@click.option(
    "--own", multiple=True, metavar="DOMAIN=FOLDER,fake=black|white|VALUE[,...]|,generated|,real", help=OWN_HELP
)
@click.option("--maps", metavar="DIR", type=click.Path(path_type=Path), help="Score these maps, without a trial.")
@click.option("--protocol", help=PROTOCOL_HELP)
@click.option("--domain", "domains", multiple=True, help=DOMAIN_HELP)
@click.option("--split", type=click.Choice(["train", "valid", "test"]), default="test", help="Of each domain.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Whose weights.")
@click.option("--explain", type=click.Choice(["grad-cam"]), help="Score maps read off a trial that calls whole images.")
@click.option("--layer", help="Whose Grad-CAM.  [default: the model's, such as layer4]")
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False), help="The numbers as well: CSV, or .json.")
@click.option("--rows", metavar="FILE", type=click.Path(dir_okay=False), help="One row per image: .csv or .parquet.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where it is computed.")
@click.option("--address", help="Of a running Ray.  [default: $RAY_ADDRESS, else one is started here]")
@click.option("--wait", is_flag=True, help="Wait for another driver of this workspace to end.")
@workspace_option
@tracking_option
@plugin_option
@debug_option
def evaluate(run: str | None, maps: Path | None, out: str | None, rows: str | None, debug: bool, **given: Any) -> None:
    """Score the finished trial RUN, or --maps, on images, and print a line for each domain.

    RUN is the fingerprint of a trial or its first digits, the id of its MLflow run, or words of its name, in any order,
    as progress, MLflow and report have it. Rows go into the ledger beside the trial's others: a second time nothing is
    computed. Maps are NAME.png (8 or 16 bits of grey, white = fake), NAME.npy (floats in [0, 1]) or NAME.npz (its array
    `map`), one for each image, of any size.

    \b
    dfloc evaluate 3fa9c1 --data shards/mine
    dfloc evaluate "base ldm seed=0" --data dolos --domain ldm --split valid --out ldm.csv
    dfloc evaluate 3fa9c1 --own mine/sd=FOLDER,fake=white,images=photos,masks=truth
    dfloc evaluate --maps trufor --data shards/mine --protocol dfloc-1

    A trial that detects or attributes is scored by image-1: each domain of fakes beside the reals of its source.

    \b
    dfloc evaluate "single clip-linear ldm" --own mine/fakes=FAKES,generated --own mine/real=PHOTOS,real --out mine.json
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from rich.console import Console
    from upath import UPath

    from dfloc import storage
    from dfloc.cli import pair_table

    if (run is None) == (maps is None):
        raise ConfigError("expected the RUN of a trial or --maps DIR, one of the two; see dfloc evaluate --help")
    if rows and not rows.endswith((".csv", ".parquet")):
        raise ConfigError(f"--rows {rows} should end in .csv or .parquet")
    console = Console(soft_wrap=True, markup=False)
    who, found = _of_trial(run, given, console) if run else _of_maps(maps, given, console)
    asked = {**given, **who, "protocol": found.protocol}
    _show(console, asked, found.lines)
    pair_table.show(console, found.pairs, found.called, found.protocol)
    for sentence in _explained(found.rows):
        console.print(sentence, highlight=False)
    if out:
        storage.put(UPath(out), (_json if out.endswith(".json") else _csv)(asked, found).encode())
    if rows:
        storage.put(UPath(rows), _rows(found.rows, rows))


Found = tuple[dict[str, str], "ScoredTrial | ScoredMaps"]


def _of_trial(run: str, given: dict[str, Any], console: "Console") -> Found:
    from dfloc.storage import Workspace
    from dfloc.sweep import lookup
    from dfloc.sweep.evaluate import EvaluationRequest, evaluate

    found = evaluate(EvaluationRequest(run=run, **given), console)
    called = lookup.called(Workspace(given["workspace"], create=False), found.spec.fingerprint)
    said = f"trial {called}, {given['checkpoint']} checkpoint"
    about = {"said": said, "trial": found.spec.fingerprint, "task": found.spec.task, "checkpoint": given["checkpoint"]}
    return about, found


def _of_maps(folder: Path | None, given: dict[str, Any], console: "Console") -> Found:
    from dfloc.sweep.evaluate import MapsRequest, score_maps

    assert folder is not None
    idle = [f"--{name}" for name, default in TRIAL_ONLY.items() if given[name] != default]
    if idle:
        raise ConfigError(f"{', '.join(idle)} say nothing of --maps, which are there already; leave them out")
    asked = {key: value for key, value in given.items() if key not in TRIAL_ONLY}
    found = score_maps(MapsRequest(maps=folder, **asked), console)
    about = {"said": f"maps in {folder}", "trial": found.rows["trial"][0].as_py(), "checkpoint": "none"}
    return {"task": "localize", **about}, found


def _show(console: "Console", asked: dict[str, Any], lines: "list[DomainScore]") -> None:
    from rich.console import Console
    from rich.table import Table

    keys = list(dict.fromkeys(key for line in lines for key in line.values))
    table = Table(box=None, pad_edge=False)
    table.add_column("domain", no_wrap=True)
    firsts = {line.first.key for line in lines}
    alike = len(firsts) == 1  # of images as a whole fakes and reals have numbers of their own
    for heading in (
        "trained on it",
        "images",
        "source images",
        *keys,
        f"{lines[0].first.key}, 95 %" if alike else "95 %",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in lines:
        values = [f"{line.values[key]:.3f}" if key in line.values else "-" for key in keys]
        table.add_row(
            line.domain,
            _trained_on(line),
            f"{line.images:,}",
            f"{line.photographs:,}",
            *values,
            f"{'' if alike else f'{line.first.key} '}{_between(line.interval)}",
        )
    what = f"{asked['said']}, {asked['split']} images"
    console.print(f"{what}; protocol {asked['protocol']}, fractions; intervals over source images", highlight=False)
    for line in lines if asked["checkpoint"] != "none" else []:
        console.print(f"{line.domain}: {_by_pixels(line)}", highlight=False)
    for line in lines:
        for sentence in _degenerate(line):
            console.print(f"{line.domain}: {sentence}", highlight=False)
    Console(markup=False, width=None if sys.stdout.isatty() else 160).print(table)
    for line in lines:
        for sentence in (*_seen(line), *_of_set(line)):
            console.print(f"{line.domain}: {sentence}", highlight=False)


def _between(interval: tuple[float, float] | None) -> str:
    """Return an interval; words where there are too few source images for one."""
    return "under 3 source images" if interval is None else f"{interval[0]:.3f}-{interval[1]:.3f}"


def _seen(line: "DomainScore") -> Iterator[str]:
    """Yield what a trial has seen of the images before, and which of them have no value."""
    if line.trained_on is None:
        yield "which source images the trial or an ancestor trained on is not known"
    elif line.trained_on:
        yield f"{line.trained_on} of its source images are among those that it trained on"
    for key, count in line.undefined.items():
        yield f"{key} is undefined for {count} images, which its mean leaves out"


def _degenerate(line: "DomainScore") -> Iterator[str]:
    """Yield what the maps of a domain are where they say nothing."""
    if line.collapsed:
        yield f"COLLAPSED ({line.collapsed}): so are over 90 % of its maps"
    if line.is_not_above:
        key = line.first.key
        own, other = line.values[key], line.all_fake[key]
        yield f"{key} {own:.3f} is not above all fake: calling every pixel fake has {other:.3f}"


def _trained_on(line: "DomainScore") -> str:
    """Return whether the domain was trained on: "no" only where its images were compared, and none was among them."""
    if line.relation == "in":
        return "yes"
    if line.images_trained_on:
        return f"{line.images_trained_on:,} images"
    return "unknown" if line.relation == "unknown" else "no" if line.compared else "not compared"


def _by_pixels(line: "DomainScore") -> str:
    """Return how many images of a domain were trained on, under whatever name."""
    number = line.images_trained_on
    if number is None or not (number or line.compared):
        return "its images are not compared, by their pixels, with all that the trial and its ancestors trained on"
    least = "" if line.compared else "at least "
    return (
        f"{least}{number:,} of its {line.images:,} images are, by their pixels, among those that the trial or an "
        "ancestor trained on"
    )


def _of_set(line: "DomainScore") -> Iterator[str]:
    """Yield what is said of the set as a whole, where the protocol says more of it than `pooled_iou`."""
    numbers = line.of_set
    if numbers.keys() <= {"pooled_iou"}:
        return
    whole = [key for key in ("pooled_f1", "false_alarm_area") if key in numbers]
    pooled = f"pooled_iou {numbers['pooled_iou']:.3f} (95 %: {_between(line.pooled)})"
    yield ", ".join([pooled, *(f"{key} {numbers[key]:.3f}" for key in whole)])
    if "f1_valid" in numbers:
        threshold = f"threshold {numbers['threshold']:g}, chosen on {line.num_valid:,} validation images"
        yield f"F1 {numbers['f1_valid']:.3f} at the {threshold}"
    bins = {key.removeprefix("iou/area/"): value for key, value in numbers.items() if key.startswith("iou/area/")}
    if bins:
        yield "iou by fake area: " + ", ".join(f"{name} {value:.3f}" for name, value in bins.items())


def _explained(rows: "pa.Table") -> Iterator[str]:
    """Yield what the explanations of fakes say, where the rows have some, domain by domain."""
    import pyarrow.compute as pc

    from dfloc.metrics import pointing

    for domain in dict.fromkeys(rows["domain"].to_pylist()):
        found = pointing.looks(rows.filter(pc.equal(rows["domain"], domain)))
        yield from (f"{domain}: {sentence}" for sentence in pointing.words(found)) if found else ()


def _facts(asked: dict[str, Any], line: "DomainScore") -> dict[str, Any]:
    """Return what is said of a domain, by the column of a CSV."""
    return {
        "trial": asked["trial"],
        "checkpoint": asked["checkpoint"],
        "protocol": asked["protocol"],
        "domain": line.domain,
        "split": asked["split"],
        "domain_trained_on": line.relation,
        "images": line.images,
        "photographs": line.photographs,
        "photographs_trained_on": line.trained_on,
        "images_trained_on": "" if line.images_trained_on is None else line.images_trained_on,
        **line.values,
        **dict(zip(("low", "high"), line.interval or ("", ""), strict=True)),
        **line.of_set,
        **dict(zip(("pooled_iou_low", "pooled_iou_high"), line.pooled or ("", ""), strict=True)),
        f"{line.first.key}_all_fake": line.all_fake.get(line.first.key, ""),
        "collapsed": line.collapsed,
    }


def _csv(asked: dict[str, Any], found: "ScoredTrial | ScoredMaps") -> str:
    import csv
    import io

    from dfloc.cli import pair_table

    text = io.StringIO()
    rows = [_facts(asked, line) | pair_table.columns(found.pairs, line.domain) for line in found.lines]
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json(asked: dict[str, Any], found: "ScoredTrial | ScoredMaps") -> str:
    import json

    from dfloc.cli import pair_table

    called = found.called and {
        "classes": list(found.called.called),
        "images": dict(zip(found.called.true, found.called.counts.tolist(), strict=True)),
    }
    whole = {
        **{key: asked[key] for key in ("trial", "task", "checkpoint", "protocol", "split")},
        "domains": [
            {key: None if value == "" else value for key, value in _facts(asked, line).items()} for line in found.lines
        ],
        "pairs": [pair_table.as_json(pair) for pair in found.pairs],
        "called": called,
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _rows(table: "pa.Table", name: str) -> bytes:
    """Return rows as a file; a CSV has no lists, so that counts on a grid of thresholds are in a Parquet file alone."""
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    if name.endswith(".parquet"):
        pq.write_table(table, sink)
    else:
        pc.write_csv(table.select([field.name for field in table.schema if not pa.types.is_list(field.type)]), sink)
    found: bytes = sink.getvalue().to_pybytes()
    return found
