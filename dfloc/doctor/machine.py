"""Whether this machine is fit to drive and to work: Python, torch, CUDA, Ray, tracking, rights, space."""

import importlib.util
import os
import shutil
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import dfloc
from dfloc import database_uri, storage, tracking_uri
from dfloc.errors import ConfigError, DflocError, WorkspaceError
from dfloc.features.weights import Origin
from dfloc.storage import Workspace

OLDEST = (3, 11)
LOW_BYTES = 5e9
TOKEN = "~/.ray/auth_token"


class Fact(NamedTuple):
    """One thing about a machine.

    Attributes:
        name: what is looked at.
        text: how it is, and what to do where it is not well.
        state: ok; warn: it may be meant so; bad: a sweep would fail.
    """

    name: str
    text: str
    state: Literal["ok", "warn", "bad"] = "ok"


def look(workspace: Workspace | None, tracking: str | None = None) -> Iterator[Fact]:
    """Yield what is to be known of this machine.

    Args:
        workspace: where it is to work; none: only the machine itself is looked at.
        tracking: MLflow's address; None = the store in the workspace.
    """
    yield Fact("dfloc", f"{dfloc.__version__} in {Path(dfloc.__file__).parent}")
    fit = sys.version_info >= OLDEST
    needs = "" if fit else f"; dfloc needs {'.'.join(map(str, OLDEST))}"
    yield Fact("Python", f"{sys.version.split()[0]}{needs}", "ok" if fit else "bad")
    yield from _torch()
    yield from _packages()
    yield _token()
    yield _space("temp", Path(tempfile.gettempdir()))
    if workspace is None:
        return
    if storage.is_local(workspace.root):
        yield _space("workspace", Path(workspace.root.path))
    yield _rights(workspace)
    yield _tracking(workspace, tracking)
    yield from _weights(workspace)


def _torch() -> Iterator[Fact]:
    try:
        import torch
        import torchvision
    except (ImportError, RuntimeError, OSError) as error:
        first = str(error).partition("\n")[0]
        yield Fact("torch", f"cannot be imported ({first}); install both as constraints.txt says", "bad")
        return
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    yield Fact("torch", f"{torch.__version__}, {build}; torchvision {torchvision.__version__}")
    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    named = ", ".join(f"{each.name} ({each.total_memory / 1e9:.0f} GB)" for each in devices)
    yield Fact("devices", f"{os.cpu_count()} CPUs; {named or 'no CUDA device'}")


def _packages() -> Iterator[Fact]:
    for name in ("ray", "mlflow", "pyarrow"):
        try:
            yield Fact(name, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Fact(name, "is missing; install dfloc's packages as its README says", "bad")
    if importlib.util.find_spec("sam2") is None:
        yield Fact("sam2", "is missing: maps of SAM 2 cannot be computed here", "warn")


def _token() -> Fact:
    path, mode = Path(TOKEN).expanduser(), os.environ.get("RAY_AUTH_MODE")
    if not path.exists():
        wanted = mode == "token" and not os.environ.get("RAY_AUTH_TOKEN")
        text = f"no token ({TOKEN})" + ("; RAY_AUTH_MODE=token asks for one" if wanted else ", none is asked for")
        return Fact("Ray's token", text, "bad" if wanted else "ok")
    used = "used" if mode == "token" else "not used: RAY_AUTH_MODE is not token"
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        text = f"others can read {TOKEN}, {used}; chmod 600 {TOKEN}"
        return Fact("Ray's token", text, "warn")  # Ray itself makes it so
    return Fact("Ray's token", f"{TOKEN}, readable by you alone, {used}")


def _space(name: str, path: Path) -> Fact:
    try:
        free = shutil.disk_usage(path).free
    except OSError as error:
        return Fact(f"space, {name}", f"{path} cannot be looked at ({error})", "bad")
    low = free < LOW_BYTES
    return Fact(
        f"space, {name}", f"{free / 1e9:.1f} GB free in {path}" + ("; that is little" if low else ""),
        "warn" if low else "ok",
    )  # fmt: skip


def _rights(workspace: Workspace) -> Fact:
    path = workspace.root / f".doctor-{uuid.uuid4().hex}"
    try:
        storage.prove_exclusive(workspace.root)
        if not storage.put_new(path, b"") or storage.put_new(path, b""):
            return Fact("rights", f"{workspace.root} does not create a file once alone", "bad")
        path.unlink()
    except (OSError, WorkspaceError) as error:
        return Fact("rights", f"{workspace.root} cannot be written ({error})", "bad")
    return Fact("rights", f"{workspace.root} can be written")


def _tracking(workspace: Workspace, tracking: str | None) -> Fact:
    try:
        uri = tracking_uri.check(workspace, tracking)
        if (database := database_uri.database(uri)) and not database.exists():
            return Fact("tracking", f"{uri} is made by the first sweep")
        tracking_uri.probe(uri, tracking_uri.REQUEST_SECONDS)
    except ConfigError as error:
        return Fact("tracking", str(error), "bad")
    except OSError as error:
        return Fact(
            "tracking", f"{uri} does not answer ({error}); a sweep runs all the same, and fills it later", "warn"
        )
    return Fact("tracking", f"{uri} answers")


def _weights(workspace: Workspace) -> Iterator[Fact]:
    for path in sorted(workspace.weights.glob("*.json"), key=str):
        try:
            origin = storage.get_model(Origin, path)
        except DflocError:  # the workspace's own check names it
            continue
        gone = origin.stamp is not None and not Path(origin.word).exists()
        kept = path.with_name(f"{origin.digest}.safetensors").exists()
        where = (
            "kept in the workspace" if kept else "gone: put it back where a new image must pass" if gone else "known"
        )
        yield Fact(f"weights, {origin.backbone}", f"{origin.word}: {where}", "warn" if gone and not kept else "ok")
