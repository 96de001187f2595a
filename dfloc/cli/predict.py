"""`dfloc predict`: what a finished trial says of images."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfloc.cli.options import debug_option, plugin_option, tracking_option, workspace_option

if TYPE_CHECKING:
    from dfloc.config import Checkpoint


@click.command(context_settings={"show_default": True})
@click.argument("run")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--out", default="predictions", metavar="DIR", type=click.Path(path_type=Path), help="Where files go.")
@click.option("--checkpoint", type=click.Choice(["best", "last"]), default="best", help="Whose weights.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Of area and outline.  [default: the protocol's, 0.5]")
@click.option("--protocol", default="declip-2025", help="Whose resize to the image's size, and threshold.")
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
    protocol: str,
    device: str,
    workspace: str,
    tracking: str | None,
    debug: bool,
) -> int:
    """Say which pixels of each IMAGE (files or folders) the finished trial RUN takes for generated.

    RUN is the fingerprint of a trial or its first digits, the id of its MLflow run, or words of its name, in any order,
    as progress, MLflow and report have it. Of each image come, at its own size, NAME.prob.png (white = generated),
    NAME.overlay.png and NAME.json. Images that cannot be read are named, the others are done, and the exit code is 1.

    \b
    dfloc predict 3fa9c1 photo.jpg
    dfloc predict "finetune n=250 ldm" photos --out maps --device cuda
    """
    from rich.console import Console

    from dfloc.engine import predict_files
    from dfloc.engine.predict import Predictor, facts
    from dfloc.storage import Workspace
    from dfloc.sweep import lookup
    from dfloc.sweep.progress import Display

    found, others = predict_files.find(images)
    place = Workspace(workspace, create=False)
    spec = lookup.find(place, run, tracking)
    predictor = Predictor.load(place, spec, checkpoint, device, protocol)
    with Display(Console(soft_wrap=True, markup=False), "images", len(found)) as display:
        for path in others:
            display.say(f"{path}: skipped, no image by its name")
        failed = 0
        for photo, wrong in predict_files.predict(predictor, found, out, facts(spec, checkpoint, threshold, protocol)):
            failed += bool(wrong)
            display.finished(photo.shown, wrong)
    click.echo(f"{len(found) - failed} of {len(found)} images in {out.absolute()}")
    return 1 if failed else 0
