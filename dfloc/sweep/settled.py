"""A finished study whose files are as they were: the same command says the same again, and looks no further."""

import logging
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
from dfloc import digests, lock, registry, storage
from dfloc.errors import DflocError
from dfloc.frozen import Frozen, fingerprint
from dfloc.storage import Workspace
from dfloc.tracking_uri import VARIABLE

logger = logging.getLogger(__name__)

ASKING = ("own", "tracking", "new_identity")
"""Options for which more than the files of a workspace would have to be asked."""

IDLE = frozenset({"max_concurrent", "gpus_per_trial", "wait", "retry_failed"})
"""Options that say how trials run: where none is left, they change nothing."""

TICK_SECONDS = 0.05
"""What changes twice within it may show one time of change: a clock of files stands for some milliseconds."""

MAX_NOTES = 100
FOLDER = "settled"


class Settled(Frozen):
    """How a command ended that left nothing to do.

    Attributes:
        lines: what it said.
        rests: the files and folders that it rests on, absolute or relative to the workspace.
        makes: those that it made of them: report and MLflow's store.
        asked: digest of the options, and of where, and by which code, they were understood.
        seen: digest of what there is at both, down to the last file.
    """

    lines: tuple[str, ...]
    rests: tuple[str, ...]
    makes: tuple[str, ...]
    asked: str
    seen: str


def lines(asked: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what a command of some options said when it left nothing to do; None: anything may be different now."""
    try:
        path = _place(asked)
        if path is None or not path.exists():
            return None
        settled = storage.get_model(Settled, path, wants_seal=lambda _: True)
        if settled.asked != _understood(asked) or lock.driver(path.parent.parent):
            return None
        return settled.lines if seen(asked, (*settled.rests, *settled.makes)) == settled.seen else None
    except (DflocError, OSError) as error:
        logger.debug("nothing is known of an earlier end: %s", error)  # everything is looked at, and tells it
        return None


def keep(
    asked: Mapping[str, Any], said: Sequence[str], rests: Sequence[str], makes: Sequence[str], before: str
) -> None:
    """Note that a command has left nothing to do; the driver's to call.

    Args:
        asked: the command's options by their names.
        said: its lines.
        rests: what they rest on, absolute, or relative to the workspace.
        makes: what was made of that.
        before: how it was `seen` before it was read; where that is not so any more, nothing is noted.
    """
    try:
        path = _place(asked)
        if path is None:
            return
        if seen(asked, rests) != before:
            logger.info("not noted as settled: what it rests on has changed meanwhile")
            return
        found = seen(asked, (*rests, *makes))
        settled = Settled(
            lines=tuple(said), rests=tuple(rests), makes=tuple(makes), asked=_understood(asked), seen=found
        )
        storage.put(path, storage.sealed(settled, path))
        notes = sorted(Path(path.parent.path).glob("*.json"), key=lambda note: note.stat().st_mtime, reverse=True)
        for note in notes[MAX_NOTES:]:
            note.unlink()
    except (DflocError, OSError) as error:
        logger.info("not noted as settled: %s", error)  # who only saves time ends no command


def seen(asked: Mapping[str, Any], paths: Sequence[str], settle: bool = False) -> str:
    """Return the digest of what there is at some paths, of every file below: name, inode, size, times of change.

    With `settle` it is looked again until nothing has changed within a tick, so that every later change shows.
    """
    root = Path(_root(asked).path)
    digest, newest = _seen([str(root / path) for path in paths])
    for _ in range(3 if settle else 0):
        if newest < time.time() - TICK_SECONDS:
            break
        time.sleep(TICK_SECONDS)
        digest, newest = _seen([str(root / path) for path in paths])
    return digest


def _root(asked: Mapping[str, Any]) -> UPath:
    return Workspace(asked["workspace"], create=False).root


def _place(asked: Mapping[str, Any]) -> UPath | None:
    """Return the file that notes how a command ended; None where more than files would have to be asked."""
    root = _root(asked)
    if not storage.is_local(root) or any(_is_said(asked.get(name)) for name in ASKING) or os.environ.get(VARIABLE):
        return None
    return root / FOLDER / f"{fingerprint(_words(asked))[:32]}.json"


def _words(asked: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: repr(value) for name, value in asked.items() if name not in IDLE and _is_said(value)}
    return told | {"workspace": ""}  # wherever it lies: it may have moved


def _is_said(value: object) -> bool:
    return value is not None and value is not False and value != ()


def _understood(asked: Mapping[str, Any]) -> str:
    """Return a digest of a command's options, of all that names of files are understood by, and of all code."""
    data = asked.get("data")
    given = None if data is None else (Path(data).resolve(), Path(data).is_dir())
    places = (_root(asked).path, Path.cwd(), os.environ.get("HOME"), os.environ.get("RAY_ADDRESS"), given)
    program = [dfloc.__version__, _seen([str(Path(dfloc.__file__).parent)])[0]]
    plugins = [plugin.digest for plugin in registry.plugins()]
    return fingerprint([_words(asked), repr(places), program, plugins])


def _seen(paths: Sequence[str]) -> tuple[str, float]:
    """Return the digest of what there is, and when the last of it changed, in seconds since 1970."""
    digest, newest, known = sha256(), 0, set[tuple[int, int]]()
    for name, found in (pair for path in paths for pair in _walk(path, known)):
        digest.update(repr((name, digests.identity(found) if found else ())).encode(errors="surrogateescape"))
        newest = max(newest, found.st_ctime_ns if found else 0)
    return digest.hexdigest(), newest / 1e9


def _walk(path: str, known: set[tuple[int, int]]) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield a file or folder and all that is below it; None: there is nothing, or nobody may look.

    Folders that are `known` by device and inode are not looked into: a link may lead back into one.
    """
    try:
        found = Path(path).stat()
        folder = stat.S_ISDIR(found.st_mode) and (found.st_dev, found.st_ino) not in known
        with os.scandir(path) if folder else nullcontext(()) as entries:
            inside = sorted(entry.path for entry in entries if entry.name != "__pycache__")
    except OSError:
        yield path, None
        return
    known.add((found.st_dev, found.st_ino))
    yield path, found
    for below in inside:
        yield from _walk(below, known)
