"""The workspace: where everything is kept, and how a file is put there whole."""

import errno
import hashlib
import json
import os
import stat
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from fsspec import AbstractFileSystem
from pydantic import BaseModel, ValidationError
from upath import UPath

from dfloc import database_uri, disk
from dfloc.errors import WorkspaceError

M = TypeVar("M", bound=BaseModel)

SEAL = "sealed"
ASIDE = ".damaged"
"""What is put behind the name of what stands in a file's way, or cannot be made again: it is renamed, not deleted."""

MAX_BYTES = 1 << 30
"""Of a record, a list, epochs or rows: more is no file that dfloc has written."""

RACERS = 8
NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def put(path: UPath, data: bytes) -> None:
    """Write a file whole or not at all: rename on a file system, one put on an object store; then it is on the disk.

    Raises:
        DiskFullError: there is no room.
    """
    if not is_local(path):
        path.fs.pipe_file(path.path, data)
        return
    place = Path(path.path)
    with disk.room(place):
        part = disk.scratch(place, data)
        try:
            if path.is_dir() and not path.is_symlink():
                aside(path)
            part.replace(place)
        except BaseException:
            disk.drop(part)
            raise
        disk.sync(place.parent)


def put_new(path: UPath, data: bytes) -> bool:
    """Create a file, whole; return False and leave it alone where it exists already. Of many at once one wins.

    Raises:
        DiskFullError: there is no room.
        WorkspaceError: the file system has no hard links, without which a whole file cannot be created exclusively.
    """
    if not is_local(path):
        try:
            path.fs.pipe_file(path.path, data, mode="create")
        except FileExistsError:
            return False
        return True
    place = Path(path.path)
    with disk.room(place):
        part = disk.scratch(place, data)
        try:
            os.link(part, place)
        except FileExistsError:
            if part.stat().st_nlink == 1:  # over NFS a link may have been made although its answer was lost
                return False
        except OSError as error:
            if error.errno in NO_LINKS:
                raise WorkspaceError(
                    f"{path} cannot be created: its file system has no hard links ({error.strerror}), so that two "
                    "drivers could own one workspace; name another one by --workspace"
                ) from error
            raise
        finally:
            disk.drop(part)
        disk.sync(place.parent)
    return True


def prove_exclusive(folder: UPath) -> None:
    """Prove of an object store that of those who create one file at once exactly one wins; a file system links.

    Raises:
        WorkspaceError: none does, or several: two drivers could own the workspace.
    """
    if is_local(folder):
        return
    path = folder / f".create-{uuid.uuid4().hex}"
    start = threading.Barrier(RACERS)

    def race(number: int) -> bool:
        start.wait()
        return put_new(path, str(number).encode())

    try:
        with ThreadPoolExecutor(RACERS) as pool:
            won = sum(pool.map(race, range(RACERS)))
        again = put_new(path, b"again")
        path.unlink()
    except Exception as error:
        raise WorkspaceError(f"{folder} cannot be written ({type(error).__name__}: {error})") from error
    looks_first = getattr(path.fs.pipe_file, "__func__", None) is AbstractFileSystem.pipe_file
    if looks_first or won != 1 or again:
        raise WorkspaceError(
            f"{folder} cannot be a workspace: its storage does not create a file exclusively, so that two drivers "
            "could own it; use a shared file system, or a store that does, as S3"
        )


def read(path: UPath, cure: str = "delete it, it is made again", limit: int = MAX_BYTES) -> bytes:
    """Return the bytes of a file.

    Args:
        path: the file.
        cure: what to do where it cannot be read: the end of a sentence.
        limit: more bytes than it may have.

    Raises:
        WorkspaceError: it is no file, too large, or cannot be read.
        FileNotFoundError: there is none.
    """
    try:
        found = path.stat()
        if is_local(path) and not stat.S_ISREG(found.st_mode):
            raise WorkspaceError(f"{path} cannot be read (it is no file); {cure}")
        if (found.st_size or 0) > limit:
            raise WorkspaceError(f"{path} cannot be read ({found.st_size:,} bytes, of {limit:,} at most); {cure}")
        data: bytes = path.read_bytes()
    except FileNotFoundError:
        raise
    except (OSError, MemoryError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error or 'too large'}); {cure}") from error
    return data


def dangles(path: UPath) -> bool:
    """Return whether a path is a link to nothing."""
    return path.is_symlink() and not path.exists()


def aside(path: UPath) -> UPath:
    """Rename a file or folder to `NAME.damaged`, with a number behind it where that is taken; return the new place."""
    names = (path.with_name(f"{path.name}{ASIDE}{f'.{number}' if number else ''}") for number in count())
    place = next(name for name in names if not name.exists())
    path.fs.mv(path.path, place.path, recursive=True)
    return place


def remove(path: UPath) -> None:
    """Delete a file, a link, or an empty folder in a file's place; a folder that holds something is renamed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    elif any(path.iterdir()):
        aside(path)
    else:
        path.rmdir()


def put_json(path: UPath, value: object) -> None:
    """Write a JSON file whole."""
    put(path, json_bytes(value))


def sealed(model: BaseModel, path: UPath | None = None) -> bytes:
    """Return a record as JSON that carries its own digest, so that `get_model` knows whether it is what was written.

    Args:
        model: the record.
        path: where it is put, if it holds there alone: the digest is over the names of folder and file too.
    """
    fields = model.model_dump(mode="json")
    return json_bytes(fields | {SEAL: _digest(fields, path)})


def json_bytes(value: object) -> bytes:
    """Return a value as indented JSON with sorted keys."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def get_json(path: UPath, cure: str = "delete it, it is made again") -> Any:
    """Read a JSON file.

    Raises:
        WorkspaceError: it is no JSON, or cannot be read (names the file).
        FileNotFoundError: there is none.
    """
    data = read(path, cure)
    try:
        return json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError, MemoryError) as error:
        raise WorkspaceError(f"{path} is no JSON ({error}); {cure}") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def is_sealed(path: UPath) -> bool:
    """Return whether a record carries its digest; one of before does not.

    Raises:
        WorkspaceError, FileNotFoundError: as for `get_json`.
    """
    fields = get_json(path)
    return isinstance(fields, dict) and fields.get(SEAL) is not None


def get_model(
    model: type[M],
    path: UPath,
    cure: str = "delete it, it is made again",
    wants_seal: Callable[[M], bool] | None = None,
) -> M:
    """Read a JSON file as a model; one that was sealed is compared with its digest.

    Args:
        model: what it holds.
        path: the file.
        cure: what to do where it is damaged: the end of a sentence.
        wants_seal: whether a record is too new to lack its digest.

    Raises:
        WorkspaceError: it is damaged, or another one's (names the file).
    """
    fields = get_json(path, cure)
    try:
        seal = fields.pop(SEAL, None) if isinstance(fields, dict) else None
        if seal is not None and seal != _digest(fields, path) and seal != _digest(fields):
            raise WorkspaceError(f"{path} is damaged: not what was written; {cure}")
        found = model.model_validate(fields)
        if seal is None and wants_seal and wants_seal(found):
            raise WorkspaceError(f"{path} is damaged: its digest is gone; {cure}")
        return found
    except ValidationError as error:
        raise WorkspaceError(f"{path} is damaged: {error.errors()[0]['msg']}; {cure}") from error


def local(path: UPath) -> Path:
    """Return a path of this machine through which a file can be memory-mapped.

    Raises:
        WorkspaceError: it lies in an object store (a cache for those is not built yet).
    """
    if not is_local(path):
        raise WorkspaceError(f"{path} cannot be memory-mapped; use a workspace on a shared file system")
    return Path(path.path)


class Workspace:
    """One path or URL that every node reaches, and its layout.

    Args:
        root: folder or URL.
        create: make it if it is missing.

    Raises:
        WorkspaceError: the path is a file, or cannot be written.
    """

    def __init__(self, root: str | Path | UPath, create: bool = True):
        if not str(root).strip():
            raise WorkspaceError("the workspace's name is empty; name a folder by --workspace")
        try:
            path = UPath(root)
            # a listing that is kept hides what others write
            remote = not is_local(path) and UPath(path, use_listings_cache=False)
            self.root = remote or UPath(Path(path.path).absolute())
            blocked = self.root.exists() and not self.root.is_dir()
        except Exception as error:  # whatever the library of a URL raises
            why = f"{str(error) or type(error).__name__}; name a folder by --workspace"
            raise WorkspaceError(f"workspace {root} cannot be used: {why}") from error
        if blocked:
            raise WorkspaceError(f"workspace {self.root} is a file, not a folder; name another by --workspace")
        if not create:
            return
        try:
            if is_local(self.root):
                with disk.room(Path(self.root.path)):
                    disk.make(Path(self.root.path))
            else:
                self.root.mkdir(parents=True, exist_ok=True)
        except (OSError, NotImplementedError) as error:
            raise WorkspaceError(f"cannot make workspace {self.root}: {error}; name another by --workspace") from error
        prove_exclusive(self.root)

    @property
    def shards(self) -> UPath:
        """Imported data, a folder per data name."""
        return self.root / "shards"

    @property
    def features(self) -> UPath:
        """The feature store."""
        return self.root / "features"

    @property
    def trials(self) -> UPath:
        """The ledger."""
        return self.root / "trials"

    @property
    def weights(self) -> UPath:
        """What is known of the backbones' weights."""
        return self.root / "weights"

    @property
    def lists(self) -> UPath:
        """The ids of every list of samples that was trained or tested on, by digest."""
        return self.root / "lists"

    def sweep(self, sweep: str) -> UPath:
        """What was planned under one sweep."""
        return self.root / "sweeps" / sweep

    def report(self, sweep: str) -> UPath:
        """One sweep's report."""
        return self.root / "reports" / sweep

    @property
    def tracking_uri(self) -> str:
        """The default MLflow store.

        Raises:
            WorkspaceError: an object store holds no database.
        """
        return database_uri.of_database(local(self.root) / "mlflow.db")


def is_local(path: UPath) -> bool:
    """Return whether a path lies in a file system of this machine, mounted ones among them."""
    return path.protocol in ("", "file", "local")


def _digest(fields: object, path: UPath | None = None) -> str:
    place = f"{path.parent.name}/{path.name}" if path else ""
    return hashlib.sha256(place.encode() + json_bytes(fields)).hexdigest()
