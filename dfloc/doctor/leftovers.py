"""What writers that are gone have left, the lock, the identity, what is settled, and the store of the runs."""

import re
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial

from pydantic import BaseModel
from upath import UPath

from dfloc import database_uri, disk, identity, lock, record, storage
from dfloc.config import TrialSpec
from dfloc.data.importer import OWNER, SCRATCH
from dfloc.data.manifest import FILE_NAME, Manifest
from dfloc.doctor.finding import GRACE_SECONDS, Check, Finding, reason
from dfloc.errors import WorkspaceError
from dfloc.identity import Identity
from dfloc.ledger import Done
from dfloc.owner import Owner
from dfloc.record import SweepRecord
from dfloc.storage import Workspace
from dfloc.sweep.settled import FOLDER, Settled

_ROOT = re.compile(r"\.(lock\.\d+|workspace\.json|mlflow\.db)\.[0-9a-f]{8}\.part|\.(seen|create|doctor)-[0-9a-f]{32}")


def checks(workspace: Workspace, driven: bool) -> Iterator[Check]:
    """Yield the checks of locks and scratch files, of the identity, of what is settled, and of MLflow's database.

    Args:
        workspace: whose.
        driven: a driver runs, whose own scratch files these may be.
    """
    root = workspace.root
    for path in sorted(_locks(root), key=str):
        yield Check("lock", path, partial(_lock, path))
    for folder in sorted(workspace.shards.glob(f"*/{SCRATCH}"), key=str):
        yield Check("scratch", folder, partial(_import, folder))
    if (root / identity.FILE).exists():
        yield Check("record", root / identity.FILE, partial(_identity, root / identity.FILE))
    for path in sorted(root.glob(f"{FOLDER}/*.json"), key=str):
        yield Check("record", path, partial(_settled, path))
    database = root / "mlflow.db"
    if storage.is_local(database) and (database.exists() or database.is_symlink()):
        yield Check("tracking", database, partial(_database, database))
    if driven:
        return
    for path in sorted(root.glob("sweeps/*/tune"), key=str):
        if record.files(path.parent):
            yield Check("scratch", path, partial(iter, [_left(path)]))
    parts = (path for name in lock.FOLDERS for path in (root / name).glob("**/.*.part"))
    inside = (path for path in parts if disk.SCRATCH.fullmatch(path.name))
    for path in sorted((*inside, *(path for path in root.iterdir() if _ROOT.fullmatch(path.name))), key=str):
        if SCRATCH not in path.parts:
            yield Check(
                "scratch", path, partial(_part, path) if path.suffix == ".part" else partial(iter, [_left(path)])
            )


def damaged_lock(root: UPath) -> UPath | None:
    """Return the newest lock file if it is damaged."""
    newest = next(iter(_locks(root)), None)
    return newest if newest is not None and any(_lock(newest)) else None


def _locks(root: UPath) -> list[UPath]:
    return [root / f"lock.{number}" for number in lock.generations(root)]


def is_workspace(workspace: Workspace) -> bool:
    """Return whether something proves that dfloc has worked in a folder: one lock, record or manifest that it wrote."""
    root = workspace.root
    shapes: tuple[tuple[type[BaseModel], Iterable[UPath]], ...] = (
        (Owner, _locks(root)),
        (Owner, root.glob(f"shards/*/{SCRATCH}/{OWNER}")),
        (SweepRecord, (path for folder in root.glob("sweeps/*") for path in record.files(folder).values())),
        (Manifest, root.glob(f"shards/*/{FILE_NAME}")),
        (Done, root.glob("trials/*/done.json")),
        (TrialSpec, root.glob("trials/*/attempts/*/spec.json")),
    )
    return any(_is(model, path) for model, paths in shapes for path in paths)


def _is(model: type[BaseModel], path: UPath) -> bool:
    try:
        storage.get_model(model, path)
    except (FileNotFoundError, WorkspaceError):
        return False
    return True


def _lock(path: UPath) -> Iterator[Finding]:
    try:
        storage.get_model(Owner, path)
    except FileNotFoundError:  # another driver has taken over
        return
    except WorkspaceError as error:
        after = "a driver that runs puts it anew within seconds"
        yield Finding("lock", path, reason(error, path), after, (path,))


def _identity(path: UPath) -> Iterator[Finding]:
    if wrong := _wrong(Identity, path):
        after = "the workspace gets a new id: its own MLflow store goes on, its runs on a server are another one's then"
        yield Finding("record", path, wrong, after, aside=(path,))


def _settled(path: UPath) -> Iterator[Finding]:
    if wrong := _wrong(Settled, path):
        yield Finding("record", path, wrong, "the same command looks at everything once", (path,))


def _wrong(model: type[BaseModel], path: UPath) -> str:
    try:
        storage.get_model(model, path, wants_seal=lambda _: True)
    except FileNotFoundError:  # it is gone meanwhile
        return ""
    except WorkspaceError as error:
        return reason(error, path)
    return ""


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
        with closing(sqlite3.connect(database_uri.read_only(storage.local(path)), uri=True, timeout=10)) as database:
            [wrong] = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return
        wrong = str(error)
    except sqlite3.DatabaseError as error:
        wrong = str(error)
    if wrong != "ok":
        after = "the next start of each sweep fills it again from the ledger"
        yield Finding("tracking", path, f"is damaged ({wrong})", after, aside=(path,))
