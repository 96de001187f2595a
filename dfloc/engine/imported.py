"""A checkpoint that was trained elsewhere -> a finished trial of the workspace."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch

from dfloc import registry, repro
from dfloc.config import (
    Imported,
    Lineage,
    LossSpec,
    OptimizerSpec,
    SampleList,
    ScheduleSpec,
    TrialSpec,
)
from dfloc.errors import ConfigError
from dfloc.features.store import recipe_for
from dfloc.features.weights import WeightsIndex
from dfloc.ids import MapName
from dfloc.ledger import Ledger
from dfloc.models import declip
from dfloc.models.declip import DeclipCheckpoint
from dfloc.storage import Workspace

UNKNOWN = SampleList(digest="unknown", counts={})


def import_checkpoint(
    workspace: Workspace, path: Path, arch: str, trained_on: Sequence[str] = (), weights: str | None = None
) -> TrialSpec:
    """Put a checkpoint of DeCLIP into the ledger; the same one again changes nothing but what it is said to have seen.

    Args:
        workspace: keeps the decoder, and the image tower that is inside the file.
        path: the file.
        arch: its backbone, or two with a comma between.
        trained_on: the domains that it was trained on, in full; none: what an earlier import said, else unknown.
        weights: of the backbones of a fused checkpoint, whose CLIPs are not in the file; None: each one's default.

    Raises:
        ConfigError: the file cannot be used (`declip.read`), or the weights.
    """
    published = declip.read(path, arch)
    digests = _digests(WeightsIndex(workspace), published, path, weights)
    data = safetensors.torch.save(published.weights)
    domains = tuple(sorted(trained_on))
    spec = TrialSpec(
        train=UNKNOWN,
        valid=UNKNOWN,
        maps=tuple(recipe_for(name, digests[MapName.of(name).backbone]) for name in published.maps),
        decoder=published.decoder,
        loss=LossSpec(name="bce"),
        optimizer=OptimizerSpec(name="adamw"),
        schedule=ScheduleSpec(name="plateau"),
        epochs=1,
        batch=64,
        init=Imported(imported=hashlib.sha256(data).hexdigest()),
        lineage=Lineage(seen=domains, base=domains),
    )
    ledger = Ledger(workspace)
    if not domains and ledger.done(spec.fingerprint):
        spec = spec.model_copy(update={"lineage": ledger.spec(spec.fingerprint).lineage})
    if not ledger.has_weights(spec.fingerprint) or ledger.spec(spec.fingerprint) != spec:
        ledger.put_imported(spec, data, repro.environment() | {"imported": path.name})
    return spec


def _digests(index: WeightsIndex, published: DeclipCheckpoint, path: Path, weights: str | None) -> dict[str, str]:
    """Return the digest of each backbone's weights, and keep the tower that came inside the file."""
    names = [MapName.of(name).backbone for name in published.maps]
    if not published.tower:
        return {name: index.digest(name, weights or registry.backbone(name).weights) for name in names}
    if weights is not None:
        raise ConfigError(f"--weights is for a fused checkpoint; the CLIP of {path} is in the file")
    from dfloc.models import clip

    digest = clip.from_tensors(names[0], published.tower, "cpu", source=str(path)).digest
    index.keep(names[0], digest, published.tower)
    return {names[0]: digest}
