"""The workspace: where everything is kept, and how a file is put there whole."""

import json
import os
import uuid
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from upath import UPath

from dfloc.errors import WorkspaceError

M = TypeVar("M", bound=BaseModel)


def put(path: UPath, data: bytes) -> None:
    """Write a file whole or not at all: rename on a file system, one put on an object store."""
    if not _is_local(path):
        path.write_bytes(data)
        return
    scratch = _scratch(path, data)
    scratch.replace(path.path)


def put_new(path: UPath, data: bytes) -> bool:
    """Create a file, whole; return False and leave it alone where it exists already."""
    if not _is_local(path):
        if path.exists():
            return False
        path.write_bytes(data)
        return True
    scratch = _scratch(path, data)
    try:
        os.link(scratch, path.path)
    except FileExistsError:
        return False
    finally:
        scratch.unlink()
    return True


def put_json(path: UPath, value: object) -> None:
    """Write a JSON file whole."""
    put(path, json_bytes(value))


def json_bytes(value: object) -> bytes:
    """Return a value as indented JSON with sorted keys."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def get_json(path: UPath) -> Any:
    """Read a JSON file.

    Raises:
        WorkspaceError: it is no JSON (names the file).
    """
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"{path} is no JSON ({error}); delete it, it is made again") from error


def get_model(model: type[M], path: UPath) -> M:
    """Read a JSON file as a model.

    Raises:
        WorkspaceError: it is damaged (names the file).
    """
    try:
        return model.model_validate(get_json(path))
    except ValidationError as error:
        raise WorkspaceError(f"{path} is damaged: {error.errors()[0]['msg']}; delete it, it is made again") from error


def local(path: UPath) -> Path:
    """Return a path of this machine through which a file can be memory-mapped.

    Raises:
        WorkspaceError: it lies in an object store (a cache for those is not built yet).
    """
    if not _is_local(path):
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
            path.fs  # noqa: B018 (the library of a URL is looked for here)
        except (ImportError, ValueError) as error:
            raise WorkspaceError(f"workspace {root} cannot be used: {error}; name a folder by --workspace") from error
        self.root = UPath(Path(path.path).absolute()) if _is_local(path) else path
        if self.root.exists() and not self.root.is_dir():
            raise WorkspaceError(f"workspace {self.root} is a file, not a folder; name another by --workspace")
        if not create:
            return
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(f"cannot make workspace {self.root}: {error}; name another by --workspace") from error

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
        """The default MLflow store."""
        return f"sqlite:///{self.root}/mlflow.db"

    @property
    def artifacts(self) -> UPath:
        """MLflow's files."""
        return self.root / "mlartifacts"


def _is_local(path: UPath) -> bool:
    return path.protocol in ("", "file", "local")


def _scratch(path: UPath, data: bytes) -> Path:
    target = Path(path.path)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return scratch
