"""What writers that are gone have left, the lock of the driver, and the store of the runs."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial

from upath import UPath

from dfloc import storage
from dfloc.data.importer import OWNER, SCRATCH
from dfloc.doctor.finding import Check, Finding, reason
from dfloc.errors import WorkspaceError
from dfloc.lock import Owner
from dfloc.storage import Workspace

GRACE_SECONDS = 10.0
"""A scratch file that stood still for so long has no writer any more: it is renamed as soon as it is written."""


def checks(workspace: Workspace, driven: bool) -> Iterator[Check]:
    """Yield the checks of locks and scratch files, and of MLflow's database.

    Args:
        workspace: whose.
        driven: a driver runs, whose own scratch files these may be.
    """
    root = workspace.root
    for path in sorted(root.glob("lock.*"), key=str):
        yield Check("lock", path, partial(_lock, path))
    for folder in sorted(workspace.shards.glob(f"*/{SCRATCH}"), key=str):
        yield Check("scratch", folder, partial(_import, folder))
    database = root / "mlflow.db"
    if storage.is_local(database) and database.exists():
        yield Check("tracking", database, partial(_database, database))
    if driven:
        return
    for path in sorted((*root.glob(".seen-*"), *root.glob(".create-*"), *root.glob("sweeps/*/tune")), key=str):
        yield Check("scratch", path, partial(iter, [_left(path)]))
    for path in sorted(root.glob("**/.*.part"), key=str):
        if SCRATCH not in path.parts:
            yield Check("scratch", path, partial(_part, path))


def damaged_lock(root: UPath) -> UPath | None:
    """Return the newest lock file if it is damaged."""
    numbered = [path for path in root.glob("lock.*") if path.suffix[1:].isdecimal()]
    newest = max(numbered, key=lambda path: int(path.suffix[1:]), default=None)
    return newest if newest is not None and any(_lock(newest)) else None


def _lock(path: UPath) -> Iterator[Finding]:
    try:
        storage.get_model(Owner, path)
    except FileNotFoundError:  # another driver has taken over
        return
    except WorkspaceError as error:
        after = "a driver that runs puts it anew within seconds"
        yield Finding("lock", path, reason(error, path), after, (path,))


def _import(folder: UPath) -> Iterator[Finding]:
    """Look at what an import has begun: whether it is still at work."""
    try:
        lives = storage.get_model(Owner, folder / OWNER).lives()
    except (FileNotFoundError, WorkspaceError):
        lives = False
    if lives is False:
        yield _left(folder)


def _part(path: UPath) -> Iterator[Finding]:
    try:
        time.sleep(max(0.0, GRACE_SECONDS - max(0.0, time.time() - path.stat().st_mtime)))
        if time.time() - path.stat().st_mtime >= GRACE_SECONDS:
            yield _left(path)
    except FileNotFoundError:  # its writer was at work
        return


def _left(path: UPath) -> Finding:
    return Finding("scratch", path, "was left by a process that is gone", "", (path,), state="left over")


def _database(path: UPath) -> Iterator[Finding]:
    try:
        with closing(sqlite3.connect(f"file:{path.path}?mode=ro", uri=True, timeout=10)) as database:
            [wrong] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return
        wrong = str(error)
    except sqlite3.DatabaseError as error:
        wrong = str(error)
    if wrong != "ok":
        after = "the next start of each sweep fills it again from the ledger"
        yield Finding("tracking", path, f"is damaged ({wrong})", after, (path,))
