"""Bytes that are what their digest says: read once whole, or verified once on each machine and mapped into memory."""

import hashlib
import logging
import os
import platform
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError

logger = logging.getLogger(__name__)

MAX_NOTES = 64 << 10  # bytes of one of the 256 files of notes: some 500,000 verified files in all
FRESH_SECONDS = 2.0
MAX_BYTES = 64 << 30
"""Of a file of weights or features: more is no file that dfloc has written."""


def digest(data: bytes) -> str:
    """Return the sha256 of some bytes, 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read(path: UPath, sha256: str, cure: str = "delete it, it is made again", limit: int = storage.MAX_BYTES) -> bytes:
    """Return the bytes of a file that have this digest.

    Args:
        path: the file.
        sha256: its digest, or the first digits of it.
        cure: what to do where they do not: the end of a sentence.
        limit: more bytes than it may have.

    Raises:
        WorkspaceError: they have another one, or cannot be read.
        FileNotFoundError: there is no such file.
    """
    data = storage.read(path, cure, limit)
    if not digest(data).startswith(sha256):
        raise WorkspaceError(f"{path} is damaged: not what was written; {cure}")
    return data


def verified(path: UPath, sha256: str, afresh: bool = False) -> bool:
    """Return whether a file is there with this digest; it is read whole once on each machine, as long as it stays.

    It is the same file while device, inode, size, and times of change to the nanosecond are. What was verified is noted
    in a folder of this machine (`notes`); one that changed a moment ago is not noted, for a clock may stand that long.

    Args:
        path: the file.
        sha256: its digest.
        afresh: read it whatever is noted: a disk may lose what no time of change tells.

    Raises:
        WorkspaceError: it is there and cannot be read.
    """
    if not storage.is_local(path):
        return path.exists() and digest(path.read_bytes()) == sha256
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with Path(path.path).open("rb") as file:
            found = os.fstat(file.fileno())
            before = identity(found)
            note = digest(f"{platform.node()} {before} {sha256}".encode())[:32].encode()
            if not afresh and _noted(note):
                return True
            if found.st_size > MAX_BYTES or hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                return False
            after = os.fstat(file.fileno())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); look at its rights, or delete it") from error
    if identity(after) == before and time.time() - after.st_ctime > FRESH_SECONDS:
        _keep(note)
    return True


def notes() -> Path | None:
    """Return the folder of this machine that says what was verified; None where none can be made and be one's own.

    `$XDG_CACHE_HOME` or `~/.cache` holds it, else the system's temporary folder; who deletes it loses time alone.
    """
    for place in _places():
        try:
            folder = place / "verified"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = folder.stat()
        except OSError as error:
            logger.debug("nothing is noted in %s: %s", place, error)
            continue
        if found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return folder
    return None


def _places() -> Iterator[Path]:
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        yield (cache if cache.is_absolute() else Path("~/.cache").expanduser()) / "dfloc"
    except RuntimeError as error:
        logger.debug("nothing is noted at home: %s", error)
    yield Path(tempfile.gettempdir()) / f"dfloc-{os.getuid()}"


def identity(found: os.stat_result) -> tuple[int, ...]:
    """Return by what a file is told to be the same as before, without a look into it."""
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _file(note: bytes) -> Path | None:
    folder = notes()
    return folder / note[:2].decode() if folder else None


def _noted(note: bytes) -> bool:
    try:
        path = _file(note)
        return path is not None and path.stat().st_size <= 2 * MAX_NOTES and note in path.read_bytes().split()
    except OSError:
        return False


def _keep(note: bytes) -> None:
    """Add a note on a line of its own, in one write; the older half goes when there are too many."""
    try:
        path = _file(note)
        if path is None:
            return
        size = path.stat().st_size if path.exists() else 0
        if size > 2 * MAX_NOTES:
            path.unlink()
        elif size > MAX_NOTES:
            kept = path.read_bytes().split()
            storage.put(UPath(path), b"\n".join([b"", *kept[len(kept) // 2 :]]))
        with path.open("ab", buffering=0) as file:
            file.write(b"\n" + note)
    except OSError as error:
        logger.debug("not noted as verified: %s", error)
