"""`dfloc import-checkpoint`: a model that was trained elsewhere becomes a finished trial."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dfloc.cli.options import debug_option, plugin_option, workspace_option

if TYPE_CHECKING:
    from dfloc.config import TrialSpec


@click.command("import-checkpoint")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--arch", required=True, metavar="BACKBONE[,BACKBONE]", help="clip-vit-l14, clip-rn50, or both.")
@click.option(
    "--trained-on", default="", metavar="DOMAIN,...", help="Domains that it saw.  [default: as before, or unknown]"
)
@click.option("--weights", metavar="WORD", help="Of fused backbones: openai, or a file.  [default: openai]")
@workspace_option
@plugin_option
@debug_option
def import_checkpoint(file: Path, arch: str, trained_on: str, weights: str | None, workspace: str, debug: bool) -> None:
    """Import FILE, a published checkpoint of DeCLIP, as a finished trial, and print its fingerprint.

    Every tensor of the file must be the decoder's or CLIP's. An image tower inside is kept, for its numbers may not be
    OpenAI's any more. A fused checkpoint has none inside: then --arch names two backbones.

    \b
    dfloc import-checkpoint ldm.pth --arch clip-vit-l14 --trained-on ldm
    dfloc import-checkpoint fused.pth --arch clip-vit-l14,clip-rn50 --trained-on ldm --weights openai
    """
    from dfloc.data import dolos
    from dfloc.engine.imported import import_checkpoint
    from dfloc.storage import Workspace

    names = [name.strip() for name in trained_on.split(",") if name.strip()]
    domains = [name if "/" in name else dolos.resolve(name, dolos.COUNTS) for name in names]
    spec = import_checkpoint(Workspace(workspace, create=False), file, arch, domains, weights)
    source = click.get_current_context().get_parameter_source("workspace")
    given = source is click.core.ParameterSource.COMMANDLINE
    for line in _next_steps(spec, f" --workspace {shlex.quote(workspace)}" if given else ""):
        click.echo(line)


def _next_steps(spec: "TrialSpec", where: str) -> list[str]:
    """Return what was imported, and what can be done with it; `where`: the option that finds it again."""
    name = spec.fingerprint[:12]
    return [
        f"trial {spec.fingerprint}",
        f"reads {', '.join(recipe.map for recipe in spec.maps)}; "
        f"trained on {', '.join(spec.lineage.seen) or 'unknown domains'}",
        f"next: dfloc evaluate {name} --data DIR{where}",
        f"      dfloc predict {name} IMAGE...{where}",
        f"      dfloc sweep exposure --data DIR --only finetune --set 'stages.finetune.from={{trial: {name}}}' "
        f"--set 'domains=[DOMAIN]' --set 'stages.finetune.grid.held_out=[DOMAIN]'{where}",
    ]
