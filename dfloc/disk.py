"""Folders and scratch files of a file system, down to the disk."""

import errno
import os
import uuid
from pathlib import Path

NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


def scratch(path: Path, data: bytes) -> Path:
    """Write the bytes beside their place, down to the disk, and return where; nothing stays of what could not be."""
    make(path.parent)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    return part


def make(folder: Path) -> None:
    """Make a folder; each new one's name is on the disk before anything is put into it."""
    if folder.is_dir():
        return
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in reversed(new):
        sync(place.parent)


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
