"""What a plan still writes, and whether there is room for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class DiskSpace:
    """What is told of the disk of a workspace before a plan is begun, and where it is full meanwhile.

    Args:
        workspace: where everything goes.
        say: shows a line.
    """

    def __init__(self, workspace: Workspace, say: Callable[[str], None]):
        self._workspace, self._say = workspace, say
        self._need = ""

    def look(self, plan: Plan) -> None:
        """Say where a plan may not fit; what is certain not to fit is refused before it costs.

        Raises:
            DiskFullError: the features alone do not fit.
        """
        self._need = f"the plan needs about {disk.gigabytes(of_all(plan))} more"
        if not storage.is_local(self._workspace.root):
            return
        place = Path(self._workspace.features.path)
        disk.refuse(place, of_features(plan), "the features of the plan")
        if of_all(plan) > (free := disk.free(place)):
            self._say(f"room may be short: {disk.gigabytes(free)} free in {self._workspace.root}, {self._need}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say of a full disk what the plan needs, too."""
        try:
            yield
        except DiskFullError as full:
            raise DiskFullError(full.what, full.need or self._need) from full


def _weights(spec: TrialSpec) -> int:
    return decoders.weight_bytes(spec.decoder, tuple(registry.map_spec(recipe.map) for recipe in spec.maps))
