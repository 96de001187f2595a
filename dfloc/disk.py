"""Folders and scratch files of a file system, down to the disk; and what is said where there is no room."""

import contextlib
import errno
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from dfloc.errors import DiskFullError

logger = logging.getLogger(__name__)

NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
FULL = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk quota used up",
    errno.EFBIG: "a file is larger than the disk or a limit of this process (ulimit -f) takes",
}
FULL_DATABASE = "database or disk is full"
"""How sqlite says it."""

SCRATCH = re.compile(r"\..+\.[0-9a-f]{8}\.part|\.(seen|create|doctor)-[0-9a-f]{32}")
"""Names of files that are there for a moment: those of a killed writer stay."""


def scratch(path: Path, data: bytes) -> Path:
    """Write the bytes beside their place, down to the disk, and return where; nothing stays of what could not be.

    Nor of what was killed, where the file system has files without a name: this one gets its own once it is whole.
    """
    make(path.parent)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        if not _nameless(part, data):
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
            try:
                _fill(handle, data)
            finally:
                os.close(handle)
    except BaseException:
        drop(part)
        raise
    return part


def _nameless(part: Path, data: bytes) -> bool:
    """Write a file and name it; False where that is not possible here (NFS, macOS, no /proc)."""
    try:
        handle = os.open(part.parent, os.O_WRONLY | os.O_TMPFILE, 0o666)
    except (OSError, AttributeError):
        return False
    try:
        _fill(handle, data)
        os.link(f"/proc/self/fd/{handle}", part, src_dir_fd=handle)  # a folder is given, or the link is not followed
    except OSError as error:
        if error.errno in FULL:
            raise
        return False
    finally:
        os.close(handle)
    return True


def _fill(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left) :]
    os.fsync(handle)


def drop(part: Path) -> None:
    """Delete a scratch file; one that cannot be deleted hides no other error."""
    try:
        part.unlink(missing_ok=True)
    except OSError as error:
        logger.info("%s stays: %s", part, error)


def clear(root: Path, before: float, deep: bool = True) -> None:
    """Delete the scratch files in a folder, and below it, that are older than a time of its own file system."""
    for folder, below, names in os.walk(root):
        if not deep:
            below.clear()
        for path in (Path(folder, name) for name in names if SCRATCH.fullmatch(name)):
            with contextlib.suppress(FileNotFoundError):  # its writer was at work
                if path.lstat().st_mtime < before:
                    drop(path)


@contextlib.contextmanager
def room(path: Path) -> Iterator[None]:
    """Say of a write, or of what writes, that there is no room for it, whatever a library makes of that.

    Raises:
        DiskFullError: there is none.
    """
    try:
        yield
    except Exception as error:
        full = full_disk(error, path)
        if full is None or full is error:
            raise
        raise full from error


def full_disk(error: BaseException | None, path: Path) -> DiskFullError | None:
    """Return the error to show where one, or its cause, says that there is no room; None where it says anything else.

    Args:
        error: of the system, of sqlite, or one that a library made of it.
        path: what was written, or a folder on the same disk.
    """
    while error is not None:
        if isinstance(error, DiskFullError):
            return error
        code = error.errno if isinstance(error, OSError) and error.errno in FULL else None
        if code or FULL_DATABASE in str(error):
            named = getattr(error, "filename", None)  # it may lie on another disk
            place = Path(named) if isinstance(named, str) else path
            return DiskFullError(f"{FULL[code or errno.ENOSPC]}: {_free(place)}")
        named = getattr(error, "cause", None)  # by Ray
        error = named if isinstance(named, BaseException) else error.__cause__ or error.__context__
    return None


def free(path: Path) -> int:
    """Return the bytes that are free where a file or folder is, or would be."""
    there = next(place for place in (path, *path.parents) if place.exists())
    return shutil.disk_usage(there).free


def refuse(path: Path, size: int, what: str) -> None:
    """Refuse what does not fit, before it is begun.

    Args:
        path: on the disk.
        size: how many bytes it takes, at least.
        what: it is, in the plural.

    Raises:
        DiskFullError: less is free.
    """
    if size > free(path):
        raise DiskFullError(f"the disk is too small: {_free(path)}", f"{what} alone need {gigabytes(size)} more")


def _free(path: Path) -> str:
    places = (path.absolute(), *path.absolute().parents)
    return f"{gigabytes(free(path))} free on {next(place for place in places if place.is_mount())}"


def gigabytes(size: float) -> str:
    """Return a size as people read it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 or not size else f"{size / 1e6:,.1f} MB"


def make(folder: Path) -> None:
    """Make a folder; each new one's name is on the disk before anything is put into it.

    So one that holds something has its name there; an empty one may be of a writer that died before.
    """
    new = [place for place in (folder, *folder.parents) if not place.is_dir()]
    there = new[-1].parent if new else folder
    if _is_empty(there):
        sync(there.parent)
    for place in reversed(new):
        place.mkdir(exist_ok=True)
        sync(place.parent)


def _is_empty(folder: Path) -> bool:
    try:
        return not any(folder.iterdir())
    except PermissionError:  # one that may be entered and not be listed
        return False


def sync(folder: Path) -> None:
    """Bring a folder's names down to the disk, where its file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:  # one that may be entered and not be listed
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(handle)
