"""`dfloc predict`: what a finished trial says of images."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dfloc.cli.options import debug_option, plugin_option, tracking_option, workspace_option
from dfloc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dfloc.config import Checkpoint
    from dfloc.engine.predict_files import PhotoOutcome


THRESHOLD_HELP = (
    "Of area and outline, or of a detector's score.  [default: the protocol's, 0.5; of a detector the one that its "
    "validation images chose, where they are scored]"
)
PROTOCOL_HELP = (
    "Whose resize to the image's size, and threshold.  [default: declip-2025; of a trial that calls images, image-1]"
)


@click.command(context_settings={"show_default": True})
@click.argument("run")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--out", default="predictions", metavar="DIR", type=click.Path(path_type=Path), help="Where files go.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Whose weights.")
@click.option("--threshold", type=click.FloatRange(0, 1), help=THRESHOLD_HELP)
@click.option("--protocol", help=PROTOCOL_HELP)
@click.option("--rows", metavar="FILE.csv", type=click.Path(dir_okay=False), help="One row per image as well.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where it is computed.")
@workspace_option
@tracking_option
@plugin_option
@debug_option
def predict(
    run: str,
    images: tuple[Path, ...],
    out: Path,
    checkpoint: "Checkpoint",
    threshold: float | None,
    protocol: str | None,
    rows: str | None,
    device: str,
    workspace: str,
    tracking: str | None,
    debug: bool,
) -> int:
    """Say what the finished trial RUN takes for generated: pixels of each IMAGE (files or folders), or whole images.

    RUN is the fingerprint of a trial or its first digits, the id of its MLflow run, or words of its name, in any order,
    as progress, MLflow and report have it. Of each image come, at its own size, NAME.prob.png (white = generated),
    NAME.overlay.png and NAME.json. Of a trial that detects or attributes come a line on the screen and NAME.json alone:
    score (how probably fake), what it is called, the probability of each class, the threshold and where it came from.
    A composite's router says in NAME.json and on the screen what it calls an image; of a real one the map is empty.
    Images that cannot be read are named, the others are done, and the exit code is 1.

    \b
    dfloc predict 3fa9c1 photo.jpg
    dfloc predict "finetune n=250 ldm" photos --out maps --device cuda
    dfloc predict "single srm-linear ldm" photos --rows scores.csv      (task: detect)
    """
    from upath import UPath

    from dfloc import storage
    from dfloc.engine import predict_files
    from dfloc.engine.predict import facts, protocol_of
    from dfloc.engine.predict_composite import predictor
    from dfloc.ledger import Ledger
    from dfloc.storage import Workspace
    from dfloc.sweep import lookup

    if rows and not rows.endswith(".csv"):
        raise ConfigError(f"--rows {rows} should end in .csv")
    found, others = predict_files.find(images)
    place = Workspace(workspace, create=False)
    spec = lookup.find(place, run, tracking)
    about = facts(spec, checkpoint, threshold, protocol, Ledger(place))
    of = predictor(place, spec, checkpoint, device, protocol_of(spec, protocol))
    outcomes = predict_files.predict(of, found, out, about)
    said = _said(outcomes, len(found), [f"{path}: skipped, no image by its name" for path in others])
    if rows:
        storage.put(UPath(rows), _csv(said).encode())
    click.echo(f"{len(said)} of {len(found)} images in {out.absolute()}")
    return 0 if len(said) == len(found) else 1


def _said(outcomes: "Iterable[PhotoOutcome]", total: int, skipped: "Sequence[str]") -> "list[Mapping[str, Any]]":
    """Show images as they are done, and return what is said of those that could be read."""
    from rich.console import Console

    from dfloc.sweep.progress import Display

    said = []
    with Display(Console(soft_wrap=True, markup=False), "images", total) as display:
        for line in skipped:
            display.say(line)
        for outcome in outcomes:
            said += [outcome.facts] if not outcome.wrong else []
            display.finished(outcome.photo.shown, outcome.wrong or _line(outcome.facts))
    return said


def _line(facts: "Mapping[str, Any]") -> str:
    """Return what a model says of an image as a whole; empty where it says nothing."""
    if "routed" in facts:
        return f"routed as {facts['routed']}, probability {facts['routing'][facts['routed']]:.3f}"
    if "called" not in facts:
        return ""
    if facts["threshold"] is None:
        prob = facts["probabilities"][facts["called"]]
        return f"{facts['called']}, probability {prob:.3f} (fake {facts['score']:.3f})"
    return f"{facts['called']}, score {facts['score']:.3f} (threshold {facts['threshold']:.3f})"


def _csv(said: "Sequence[Mapping[str, Any]]") -> str:
    import csv
    import io

    text = io.StringIO()
    rows = [
        {key: value for key, value in each.items() if key not in ("maps", "parts", "probabilities", "routing")}
        | {f"prob_{name}": value for name, value in each.get("probabilities", {}).items()}
        for each in said
    ]
    writer = csv.DictWriter(text, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
