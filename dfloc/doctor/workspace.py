"""Look at every file of a workspace that a number rests on; take away what is damaged."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from upath import UPath

from dfloc import lock, storage
from dfloc.doctor import features, leftovers, samples, trials
from dfloc.doctor.finding import Check, Diagnosis, Finding
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
        WorkspaceError: a driver runs, or nothing proves that it is a workspace.
    """
    if not leftovers.is_workspace(workspace):
        raise WorkspaceError(
            f"{workspace.root} is not a workspace: nothing in it can be read as dfloc's; nothing is taken away"
        )
    freed = _free(workspace)
    stuck: dict[UPath, str] = {}
    with lock.DriverLock(workspace.root):
        found = _examine(workspace, data, False, on_progress)
        for finding in found.findings:
            stuck |= _take_away(finding)
    return Diagnosis(found.looked, [*freed, *found.findings], stuck)


def _is_driven(workspace: Workspace) -> bool:
    try:
        return lock.driver(workspace.root) is not None
    except OSError:  # it cannot be read: what lies about may be a driver's
        return True


def _examine(workspace: Workspace, data: Sequence[UPath], driven: bool, on_progress: Progress | None) -> Diagnosis:
    recorded, findings = trials.planned(workspace)
    checks = [
        *features.checks(workspace, recorded.maps, driven),
        *trials.checks(workspace, recorded),
        *samples.checks(workspace, data, recorded.data),
        *leftovers.checks(workspace, driven),
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for number, found in enumerate(pool.map(_look, checks), start=1):
            findings += found
            if on_progress:
                on_progress(number, len(checks))
    looked = Counter[str](check.kind for check in checks)
    looked["record"] += recorded.records
    return Diagnosis(looked, findings)


def _look(check: Check) -> list[Finding]:
    found: list[Finding] = []
    try:
        for finding in check.look():
            found.append(_with_rights(finding))
    except (DflocError, OSError, MemoryError) as error:
        why = f"cannot be read ({error or type(error).__name__})"
        found.append(Finding(check.kind, check.path, why, "look at its rights", lost=True))
    return found


def _with_rights(finding: Finding) -> Finding:
    """Return a finding; of a file that one may not read nothing is known, and it is not taken away."""
    for path in finding.remove:
        if storage.is_local(path) and path.exists() and not os.access(path.path, os.R_OK):
            return finding._replace(remove=(), aside=(), after="look at its rights", lost=True)
    return finding


def _free(workspace: Workspace) -> list[Finding]:
    """Remove a damaged lock, which would refuse every driver; one that is alive puts it again meanwhile."""
    damaged = leftovers.damaged_lock(workspace.root)
    if damaged is None:
        return []
    time.sleep(2 * lock.HEARTBEAT_SECONDS)
    if leftovers.damaged_lock(workspace.root) != damaged:
        return []
    found = Finding("lock", damaged, "is damaged", "no driver has put it anew", (damaged,))
    return [] if _take_away(found) else [found]


def _take_away(finding: Finding) -> dict[UPath, str]:
    """Delete and rename what a finding says; return what could not be, and why."""
    stuck = {}
    for path in (*finding.remove, *finding.aside):
        try:
            if path in finding.aside:
                if path.exists() or path.is_symlink():
                    storage.aside(path)
            elif finding.state == "left over" and path.is_dir() and not path.is_symlink():
                path.fs.rm(path.path, recursive=True)
            else:
                storage.remove(path)
        except OSError as error:
            stuck[path] = str(error.strerror or error)
    return stuck
