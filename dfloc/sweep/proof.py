"""That every node can work: it sees the workspace and the data, and runs what the driver runs."""

import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from upath import UPath

from dfloc import storage
from dfloc.errors import WorkspaceError
from dfloc.storage import Workspace

ANSWER_SECONDS = 120.0


class Proof(NamedTuple):
    """What a node must find and run.

    Attributes:
        marker: a file of the workspace with a random name.
        runs: what the driver runs, by name.
        data: paths outside of the workspace that the work reads.
    """

    marker: str
    runs: dict[str, str]
    data: Sequence[str] = ()

    @classmethod
    def begin(cls, workspace: Workspace, data: Sequence[str] = ()) -> "Proof":
        """Put the marker, and remove those of drivers that were killed: there is one driver at a time."""
        for old in workspace.root.glob(".seen-*"):
            old.unlink(missing_ok=True)
        marker = workspace.root / f".seen-{uuid.uuid4().hex}"
        runs = _looker()([])[1]
        storage.put(marker, marker.name.encode())
        return cls(str(marker), runs, tuple(data))

    def end(self) -> None:
        """Remove the marker."""
        UPath(self.marker).unlink(missing_ok=True)

    def check(self) -> None:
        """Check this node: one that joins later is proved before its first work.

        Raises:
            WorkspaceError: it cannot work; says why.
        """
        import platform

        fault = self.fault(*_looker()(self._paths))
        if fault:
            raise WorkspaceError(f"node {platform.node()} {fault}")

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
            raise WorkspaceError(
                f"{len(bad)} of {len(asked)} nodes cannot work: {'; '.join(bad)}. "
                "Share workspace and data with every node, and install the same on all"
            )

    def fault(self, unseen: Sequence[str], runs: dict[str, str]) -> str:
        """Return what is wrong with a node that does not see some paths and runs this; empty = nothing."""
        names = {self.marker: f"the workspace {UPath(self.marker).parent}"}
        blind = [f"does not see {names.get(path, f'the data {path}')}" for path in unseen]
        other = [name for name in self.runs if runs.get(name) != self.runs[name]]
        theirs = ", ".join(f"{name} {runs.get(name, 'missing')}" for name in other)
        mine = ", ".join(f"{name} {self.runs[name]}" for name in other)
        return " and ".join([*blind, *([f"runs {theirs} (the driver: {mine})"] if other else [])])

    @property
    def _paths(self) -> list[str]:
        return [self.marker, *self.data]

    def _answer(self, answer: Any, seconds: float) -> str:
        """Return what is wrong with the node that gives an answer."""
        import ray

        try:
            return self.fault(*ray.get(answer, timeout=max(seconds, 0)))
        except ray.exceptions.GetTimeoutError:
            ray.cancel(answer, force=True)
            return "does not answer"
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            return f"cannot look: {type(cause).__name__}: {str(cause).strip()}".splitlines()[0]


def _looker() -> Callable[[Sequence[str]], tuple[list[str], dict[str, str]]]:
    """Return what looks around on a node.

    Ray sends a function that is made in a function as code, so that it also works where dfloc is missing or another.
    """

    def look(paths: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Return the paths that are not seen, and what runs here; torch is not imported for it: that takes seconds."""
        import hashlib
        import platform
        from importlib import metadata, util
        from pathlib import Path

        from upath import UPath

        runs = {"python": platform.python_version()}
        for name in ("torch", "ray"):
            if util.find_spec(name):
                runs[name] = metadata.version(name)
        if util.find_spec("dfloc"):
            import dfloc

            root = Path(dfloc.__file__).parent
            text = b"".join(path.read_bytes() for path in sorted(root.rglob("*.py")))
            runs["dfloc"] = f"{dfloc.__version__} (source {hashlib.sha256(text).hexdigest()[:8]})"
        return [path for path in paths if not UPath(path).exists()], runs

    return look
