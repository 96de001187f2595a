"""The trials of the sweeps that dfloc ships, as they are planned without data; few test images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from tempfile import TemporaryDirectory
from unittest import mock

from dfloc.config import Checkpoint
from dfloc.data import dolos
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of

Keep = Callable[[PlannedTrial], bool]


class _Any(dolos.PublishedCount):
    """A published count for which any number of images stands."""

    def matches(self, found: int) -> bool:
        return True


@contextmanager
def any_number_of_images() -> Iterator[None]:
    """Let lists of a few images stand for those that Dolos has."""
    counts = {
        domain: {split: _Any(*count) for split, count in splits.items()} for domain, splits in dolos.COUNTS.items()
    }
    with mock.patch.object(dolos, "COUNTS", counts):
        yield


def planned(
    name: str,
    preset: str = "paper",
    keep: Keep = lambda _: True,
    num_test: int = 6,
    seeds: int = 1,
    checkpoints: Sequence[Checkpoint] = ("best",),
) -> SweepRecord:
    """Return the record of a sweep.

    Args:
        name: of the sweep.
        preset: of its file.
        keep: which trials are kept.
        num_test: images of each test list, in place of those that were planned.
        seeds: of each trial.
        checkpoints: which are tested.
    """
    record = _record(name, preset, seeds)
    trials = tuple(_smaller(trial, num_test, checkpoints) for trial in record.trials if keep(trial))
    return record.model_copy(update={"trials": trials})


@cache
def _record(name: str, preset: str, seeds: int) -> SweepRecord:
    with TemporaryDirectory() as folder:
        options = SweepRequest(name, folder, preset=preset, seeds=seeds, settings=("evaluate.reals=[]",))
        workspace = Workspace(folder, create=False)
        data = data_of(options, workspace)
        return prepare(options, workspace, data, Inventory(workspace, load=False)).plan.record


def _smaller(trial: PlannedTrial, num_test: int, checkpoints: Sequence[Checkpoint]) -> PlannedTrial:
    found = [
        each.model_copy(update={"test": each.test.model_copy(update={"counts": {each.domain: num_test}})})
        for each in trial.evaluations
        if each.split == "test" and each.checkpoint in checkpoints
    ]
    return trial.model_copy(update={"evaluations": tuple(found)})
