"""A finished study whose files are as they were: the same command says the same again, and looks no further."""

import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

from upath import UPath

import dfloc
from dfloc import registry, storage
from dfloc.config import Frozen, fingerprint
from dfloc.digests import FRESH_SECONDS
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace

STORE = "MLFLOW_TRACKING_URI"
ASKING = ("own", "tracking", "new_identity")
"""Options for which more than the files of a workspace would have to be asked."""

IDLE = frozenset({"max_concurrent", "gpus_per_trial", "wait", "address", "retry_failed"})
"""Options that say how trials run: where none is left, they change nothing."""


class Settled(Frozen):
    """How a command ended that left nothing to do.

    Attributes:
        lines: what it said.
        rests: the files and folders that it rests on: those of the workspace by their place in it.
        makes: those that it made of them: report and MLflow's store.
        identity: digest of both, of every file below them: its name, inode, size, and times of change.
    """

    lines: tuple[str, ...]
    rests: tuple[str, ...]
    makes: tuple[str, ...]
    identity: str


def lines(asked: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what a command said when it left nothing to do; None where anything may be different now.

    Args:
        asked: the command's options by their names.
    """
    path = _place(asked)
    try:
        settled = storage.get_model(Settled, path) if path and path.exists() else None
    except (WorkspaceError, FileNotFoundError):
        return None  # who only saves time does not stop anybody: everything is looked at
    if settled is None:
        return None
    return settled.lines if _identity(asked, (*settled.rests, *settled.makes))[0] == settled.identity else None


def keep(asked: Mapping[str, Any], said: Sequence[str], rests: Sequence[str], makes: Sequence[str]) -> None:
    """Note that a command has left nothing to do; not where something changed a moment ago, for a clock may stand.

    Args:
        asked: the command's options by their names.
        said: its lines.
        rests: files and folders, absolute, or relative to the workspace.
        makes: those that were made last.
    """
    path = _place(asked)
    if path is None or _identity(asked, rests)[1] > time.time() - FRESH_SECONDS:
        return
    identity, _ = _identity(asked, (*rests, *makes))
    settled = Settled(lines=tuple(said), rests=tuple(rests), makes=tuple(makes), identity=identity)
    storage.put(path, storage.sealed(settled, path))


def _place(asked: Mapping[str, Any]) -> UPath | None:
    """Return the file that notes how a command ended; None where more than files would have to be asked."""
    root = Workspace(asked["workspace"], create=False).root
    if not storage.is_local(root) or any(asked.get(name) for name in ASKING) or os.environ.get(STORE):
        return None
    words = {name: value for name, value in asked.items() if value and name not in IDLE}
    program = [dfloc.__version__, _seen([str(Path(dfloc.__file__).parent)])[0]]
    plugins = [plugin.digest for plugin in registry.plugins()]
    return root / "settled" / f"{fingerprint([words, str(root), str(Path.cwd()), program, plugins])[:32]}.json"


def _identity(asked: Mapping[str, Any], paths: Sequence[str]) -> tuple[str, float]:
    """Return the digest of what there is at some paths, and when the last of it changed, in seconds since 1970."""
    root = Path(Workspace(asked["workspace"], create=False).root.path)
    return _seen([str(root / path) for path in paths])


def _seen(paths: Sequence[str]) -> tuple[str, float]:
    digest, newest = sha256(), 0
    for name, found in (pair for path in paths for pair in _walk(path)):
        told = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns) if found else ()
        digest.update(repr((name, told)).encode(errors="surrogateescape"))
        newest = max(newest, found.st_ctime_ns if found else 0)
    return digest.hexdigest(), newest / 1e9


def _walk(path: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield a file or folder and all that is below it; None: there is nothing, or nobody may look."""
    try:
        found = Path(path).stat()
        with os.scandir(path) if stat.S_ISDIR(found.st_mode) else nullcontext(()) as entries:
            inside = sorted(entry.path for entry in entries if entry.name != "__pycache__")
    except OSError:
        yield path, None
        return
    yield path, found
    for below in inside:
        yield from _walk(below)
