"""The trials of the sweeps that dfloc ships, as they are planned without data; few test images."""

from collections.abc import Callable
from pathlib import Path

from dfloc.record import PlannedTrial, SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep.known import Known
from dfloc.sweep.prepare import Options, data_of, prepare

Keep = Callable[[PlannedTrial], bool]


def planned(
    folder: Path, name: str, preset: str = "paper", keep: Keep = lambda _: True, num_test: int = 6
) -> SweepRecord:
    """Return the record of a sweep.

    Args:
        folder: of a workspace, which is not made.
        name: of the sweep.
        preset: of its file.
        keep: which trials are kept.
        num_test: images of each test list, in place of those that were planned.
    """
    options = Options(name, str(folder / "workspace"), preset=preset)
    workspace = Workspace(options.workspace, create=False)
    record = prepare(options, workspace, data_of(options, workspace), Known(workspace, load=False)).resolved.record
    trials = tuple(_smaller(trial, num_test) for trial in record.trials if keep(trial))
    return record.model_copy(update={"trials": trials})


def _smaller(trial: PlannedTrial, num_test: int) -> PlannedTrial:
    found = [
        each.model_copy(update={"test": each.test.model_copy(update={"counts": {each.domain: num_test}})})
        for each in trial.evaluations
        if (each.split, each.checkpoint) == ("test", "best")
    ]
    return trial.model_copy(update={"evaluations": tuple(found)})
