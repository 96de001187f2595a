"""Look at every file of a workspace that a number rests on; take away what is damaged."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from upath import UPath

from dfloc import lock
from dfloc.doctor import features, leftovers, samples, trials
from dfloc.doctor.finding import Check, Diagnosis, Finding
from dfloc.doctor.samples import ASIDE
from dfloc.errors import DflocError, WorkspaceError
from dfloc.storage import Workspace

Progress = Callable[[int, int], None]


def examine(workspace: Workspace, data: Sequence[UPath] = (), on_progress: Progress | None = None) -> Diagnosis:
    """Read a workspace whole, whatever was verified before; nothing is written.

    Args:
        workspace: whose files.
        data: folders of shards outside of it.
        on_progress: called with the files looked at, and all.
    """
    return _examine(workspace, data, _is_driven(workspace), on_progress)


def mend(workspace: Workspace, data: Sequence[UPath] = (), on_progress: Progress | None = None) -> Diagnosis:
    """Examine a workspace as its driver, and take away what is damaged or left over.

    What is merely unneeded stays. What dfloc cannot make again is renamed, not deleted.

    Raises:
        WorkspaceError: a driver runs.
    """
    freed = _free(workspace)
    with lock.DriverLock(workspace.root):
        found = _examine(workspace, data, False, on_progress)
        for finding in found.findings:
            _take_away(finding)
    return Diagnosis(found.looked, [*freed, *found.findings])


def _is_driven(workspace: Workspace) -> bool:
    try:
        return lock.driver(workspace.root) is not None
    except WorkspaceError:
        return False


def _examine(workspace: Workspace, data: Sequence[UPath], driven: bool, on_progress: Progress | None) -> Diagnosis:
    told, findings = trials.planned(workspace)
    checks = [
        *features.checks(workspace, told.maps),
        *trials.checks(workspace, told),
        *samples.checks(workspace, data, told.data),
        *leftovers.checks(workspace, driven),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, found in enumerate(pool.map(_look, checks), start=1):
            findings += found
            if on_progress:
                on_progress(number, len(checks))
    looked = Counter[str](check.kind for check in checks)
    looked["record"] += told.records
    return Diagnosis(looked, findings)


def _look(check: Check) -> list[Finding]:
    try:
        return list(check.look())
    except (DflocError, OSError) as error:
        return [Finding(check.kind, check.path, f"cannot be read ({error})", "look at its rights", lost=True)]


def _free(workspace: Workspace) -> list[Finding]:
    """Remove a damaged lock, which would refuse every driver; one that is alive puts it again meanwhile."""
    damaged = leftovers.damaged_lock(workspace.root)
    if damaged is None:
        return []
    time.sleep(2 * lock.HEARTBEAT_SECONDS)
    if leftovers.damaged_lock(workspace.root) != damaged:
        return []
    found = Finding("lock", damaged, "is damaged", "no driver has put it anew", (damaged,))
    _take_away(found)
    return [found]


def _take_away(finding: Finding) -> None:
    for path in finding.remove:
        if finding.aside:
            path.fs.mv(path.path, f"{path.path}{ASIDE}")
        elif path.is_dir():
            path.fs.rm(path.path, recursive=True)
        else:
            path.unlink(missing_ok=True)
