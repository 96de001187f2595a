"""That every worker can work: it sees the workspace and the data, and runs what the driver runs."""

import time
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace
from dfloc.workers import first_cause

ANSWER_SECONDS = 120.0
CURE = (
    "Share workspace and data with every node, install the same on all, "
    "and give the command again where dfloc's files changed while it ran"
)

Seen = tuple[list[str], dict[str, str], str]
"""Paths that are not seen, what runs, and the folder of dfloc."""


class WorkerCheck(NamedTuple):
    """What a node must find and run; each worker checks it before its first work.

    Attributes:
        runs: what the driver runs, by name.
        place: the folder of the driver's dfloc.
        marker: a file of the workspace with a random name; empty: on this machine alone, which sees it.
        data: paths outside of the workspace that the work reads.
    """

    runs: dict[str, str]
    place: str
    marker: str = ""
    data: Sequence[str] = ()

    @classmethod
    def begin(cls, workspace: Workspace | None = None, data: Sequence[str] = ()) -> "WorkerCheck":
        """Put a marker, and remove those of drivers that were killed: there is one driver at a time.

        Args:
            workspace: that every node must see; None: it is enough that workers run what the driver runs.
            data: paths that they must see too.
        """
        _, runs, place = _here()
        if workspace is None:
            return cls(runs, place)
        for old in workspace.root.glob(".seen-*"):
            old.unlink(missing_ok=True)
        marker = workspace.root / f".seen-{uuid.uuid4().hex}"
        storage.put(marker, marker.name.encode())
        return cls(runs, place, str(marker), tuple(data))

    def end(self) -> None:
        """Remove the marker."""
        if self.marker:
            UPath(self.marker).unlink(missing_ok=True)

    def check(self) -> None:
        """Check this worker: one that starts later, on a node that joins later, is proved before its first work.

        What it runs is looked at once: it goes on with what it has loaded.

        Raises:
            WorkspaceError: it cannot work; says why.
        """
        import platform

        _, runs, place = _here()
        fault = self.fault([path for path in self._paths if not UPath(path).exists()], runs, place)
        if fault:
            raise WorkspaceError(f"node {platform.node()} {fault}. {CURE}{self._more(fault)}")

    def check_nodes(self, seconds: float = ANSWER_SECONDS) -> None:
        """Check every live node of the Ray that this process is connected to.

        Args:
            seconds: in which all must answer.

        Raises:
            WorkspaceError: some cannot work; names each of them, with why.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        look = ray.remote(_looker())
        asked: dict[str, Any] = {}
        for node in sorted((node for node in ray.nodes() if node["Alive"]), key=lambda one: one["NodeManagerHostname"]):
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            where = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            asked[where] = look.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(self._paths)
        until = time.monotonic() + seconds
        faults = {where: self._answer(answer, until - time.monotonic()) for where, answer in asked.items()}
        bad = [f"{where} {fault}" for where, fault in faults.items() if fault]
        if bad:
            more = max(map(self._more, bad))
            raise WorkspaceError(f"{len(bad)} of {len(asked)} nodes cannot work: {'; '.join(bad)}. {CURE}{more}")

    def fault(self, unseen: Sequence[str], runs: dict[str, str], place: str) -> str:
        """Return what is wrong with a node that does not see some paths and runs this; empty = nothing."""
        names = {self.marker: f"the workspace {UPath(self.marker).parent}"}
        blind = [f"does not see {names.get(path, f'the data {path}')}" for path in unseen]
        other = [name for name in self.runs if runs.get(name) != self.runs[name]]
        theirs = ", ".join(_version_words(name, runs.get(name, "missing"), place) for name in other)
        mine = ", ".join(_version_words(name, self.runs[name], self.place) for name in other)
        return " and ".join([*blind, *([f"runs {theirs} (the driver: {mine})"] if other else [])])

    def _more(self, fault: str) -> str:
        """Return the cure where a node runs dfloc from another folder: the two may be installed alike."""
        if not fault.endswith(f" from {self.place})") or f" from {self.place} (the driver:" in fault:
            return ""
        folder = UPath(self.place).parent
        return f"; where both lie on one machine start it outside of {folder}, or set PYTHONPATH to it"

    @property
    def _paths(self) -> list[str]:
        return [*([self.marker] if self.marker else []), *self.data]

    def _answer(self, answer: Any, seconds: float) -> str:
        """Return what is wrong with the node that gives an answer."""
        import ray

        try:
            return self.fault(*ray.get(answer, timeout=max(seconds, 0)))
        except ray.exceptions.GetTimeoutError:
            ray.cancel(answer, force=True)
            return "does not answer"
        except ray.exceptions.RayError as error:
            return f"cannot look: {first_cause(error)}"


def _version_words(name: str, what: str, place: str) -> str:
    return f"{name} {what}" + (f" from {place}" if name == "dfloc" and place else "")


@cache
def _here() -> Seen:
    """Look around in this process, once: files that change afterwards are not what it runs."""
    return _looker()([])


def _looker() -> Callable[[Sequence[str]], Seen]:
    """Return what looks around on a node.

    Ray sends a function that is made in a function as code, so that it also works where dfloc is missing or another.
    """

    def look(paths: Sequence[str]) -> Seen:
        """Look around; torch is not imported for it: that takes seconds."""
        import hashlib
        import platform
        from importlib import metadata, resources, util

        from upath import UPath

        def sources(folder: Any, above: str) -> list[tuple[str, bytes]]:
            """Return name and content of every file of code below a folder, or within an archive."""
            found = []
            for one in folder.iterdir():
                if one.name.startswith((".", "__pycache__")):
                    continue
                if one.is_dir():
                    found += sources(one, f"{above}{one.name}/")
                elif one.name.endswith((".py", ".pyc")) and one.is_file():
                    found.append((f"{above}{one.name}", one.read_bytes()))
            return found

        runs, place = {"python": platform.python_version()}, ""
        for name in ("torch", "ray"):
            if util.find_spec(name):
                runs[name] = metadata.version(name)
        if util.find_spec("dfloc"):
            import dfloc

            root, digest = resources.files("dfloc"), hashlib.sha256()
            for name, content in sorted(sources(root, "")):
                digest.update(f"{name} {len(content)}\n".encode() + content)
            version = getattr(dfloc, "__version__", "of no version")
            runs["dfloc"], place = f"{version} (source {digest.hexdigest()[:12]})", str(root)
        return [path for path in paths if not UPath(path).exists()], runs, place

    return look
