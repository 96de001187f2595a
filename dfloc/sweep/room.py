"""What a plan still writes, and whether there is room for it."""

from pathlib import Path

from dfloc import disk, registry, storage
from dfloc.config import TrialSpec
from dfloc.errors import DiskFullError
from dfloc.features.store import bytes_of
from dfloc.models import decoders
from dfloc.storage import Workspace
from dfloc.sweep.plan import Plan

ROW_BYTES = 250
"""Of one image in the rows of an evaluation, about."""


def of_features(plan: Plan) -> int:
    """Return the bytes of the features that are lacking: at least, for a row group is stored whole."""
    return sum(job.rows * bytes_of(recipe) for job in plan.jobs for recipe in job.recipes)


def of_all(plan: Plan) -> int:
    """Return about what a plan still writes: features, the best and the last weights of each trial, rows."""
    rows = sum(evaluation.test.size for item in plan.items for evaluation in item.evaluations)
    weights = sum(2 * _weights(item.trial.spec) for item in plan.items if item.train)
    return of_features(plan) + weights + rows * ROW_BYTES


def need(plan: Plan) -> str:
    """Return what a plan needs, a clause."""
    return f"the plan needs about {disk.gigabytes(of_all(plan))} more"


def look(plan: Plan, workspace: Workspace) -> str | None:
    """Return a sentence where a plan may not fit; what it is certain of is refused before anything starts.

    Raises:
        DiskFullError: the features alone do not fit.
    """
    if not storage.is_local(workspace.root):
        return None
    place = Path(workspace.features.path)
    has = disk.free(place)
    free = f"{disk.gigabytes(has)} free in {place}"
    if (features := of_features(plan)) > has:
        raise DiskFullError(
            f"the disk is too small: {free}", f"the features of the plan alone need {disk.gigabytes(features)} more"
        )
    return f"room may be short: {free}, {need(plan)}" if of_all(plan) > has else None


def _weights(spec: TrialSpec) -> int:
    return decoders.weight_bytes(spec.decoder, tuple(registry.map_spec(recipe.map) for recipe in spec.maps))
