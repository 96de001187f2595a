"""Which workspace it is, wherever it lies: an id of its own, and where it was seen last."""

import socket
import uuid
from pathlib import Path

from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.frozen import Frozen
from dfloc.storage import Workspace

FILE = "workspace.json"
CURE = (
    "put it back from a backup; or delete it: the workspace gets a new id, its own MLflow store goes on, and its runs "
    "on a server stay there as another workspace's"
)


class Identity(Frozen):
    """What tells a workspace from every other one, and what `workspace.json` holds.

    Attributes:
        id: random; it stays wherever the workspace is moved.
        host: of the machine on which a driver saw it last.
        path: where that was.
        given: the place where it got its id; "" = not known, of before this was written down.
    """

    id: str
    host: str
    path: str
    given: str = ""

    @property
    def place(self) -> str:
        """Where it was seen last, in words."""
        return f"{self.host}:{self.path}"


def identify(workspace: Workspace, new: bool = False) -> tuple[Identity, Path | None]:
    """Return which workspace this is, and the one that it is a copy of, where that still has the same id.

    One without an id gets one. One that was moved, or is mounted elsewhere, keeps it, and its new place is written
    down; a copy's is not, so that it is told each time until it has an id of its own. The driver's to call.

    Args:
        workspace: whose id is asked.
        new: give it another id unless it got the one that it has at this place.

    Raises:
        WorkspaceError: `workspace.json` is damaged.
    """
    file = workspace.root / FILE
    mine = Identity(id=uuid.uuid4().hex, host=socket.gethostname(), path=_words(workspace))
    mine = mine.model_copy(update={"given": mine.place})
    if not file.exists() and storage.put_new(file, storage.sealed(mine)):
        return mine, None
    found = storage.get_model(Identity, file, CURE, wants_seal=lambda _: True)
    if found.place == mine.place and (not new or found.given == mine.place):
        return found, None
    original = None if new else _still_at(found, workspace)
    if original is None:
        found = mine if new else mine.model_copy(update={"id": found.id, "given": found.given})
        storage.put(file, storage.sealed(found))
    return found, original


def _words(workspace: Workspace) -> str:
    """Return the path as text that any file can hold."""
    return str(workspace.root).encode(errors="backslashreplace").decode()


def _still_at(found: Identity, workspace: Workspace) -> Path | None:
    """Return the recorded folder if it is another one than the workspace's and has its id, too."""
    there = Path(found.path)
    if not storage.is_local(workspace.root) or not there.is_absolute():
        return None
    try:
        if there.samefile(storage.local(workspace.root)):
            return None
        other = storage.get_model(Identity, UPath(there) / FILE)
    except (OSError, WorkspaceError):
        return None
    return there if other.id == found.id else None
