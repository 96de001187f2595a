"""That every node can work: it sees the workspace, and runs what the driver runs."""

import time
import uuid
from collections.abc import Callable
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
    """

    marker: str
    runs: dict[str, str]

    @classmethod
    def begin(cls, workspace: Workspace) -> "Proof":
        """Put the marker."""
        marker = workspace.root / f".seen-{uuid.uuid4().hex}"
        storage.put(marker, marker.name.encode())
        return cls(str(marker), _looker()(str(marker))[1])

    def end(self) -> None:
        """Remove the marker."""
        UPath(self.marker).unlink(missing_ok=True)

    def check(self) -> None:
        """Check this node: one that joins later is proved before its first work.

        Raises:
            WorkspaceError: it cannot work; says why.
        """
        import platform

        fault = self.fault(*_looker()(self.marker))
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
            asked[where] = look.options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(self.marker)
        until = time.monotonic() + seconds
        faults = {where: self._answer(answer, until - time.monotonic()) for where, answer in asked.items()}
        bad = [f"{where} {fault}" for where, fault in faults.items() if fault]
        if bad:
            raise WorkspaceError(
                f"{len(bad)} of {len(asked)} nodes cannot work: {'; '.join(bad)}. "
                "Share the workspace with every node, and install the same on all"
            )

    def fault(self, sees: bool, runs: dict[str, str]) -> str:
        """Return what is wrong with a node of which this is known; empty = nothing."""
        blind = [] if sees else [f"does not see the workspace {UPath(self.marker).parent}"]
        other = [name for name in self.runs if runs.get(name) != self.runs[name]]
        theirs = ", ".join(f"{name} {runs.get(name, 'missing')}" for name in other)
        mine = ", ".join(f"{name} {self.runs[name]}" for name in other)
        return " and ".join([*blind, *([f"runs {theirs} (the driver: {mine})"] if other else [])])

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
            return f"cannot look: {type(cause).__name__}: {str(cause).strip().splitlines()[0]}"


def _looker() -> Callable[[str], tuple[bool, dict[str, str]]]:
    """Return what looks around on a node.

    Ray sends a function that is made in a function as code, so that it also works where dfloc is missing or another.
    """

    def look(marker: str) -> tuple[bool, dict[str, str]]:
        """Return whether the marker is seen, and what runs here; torch is not imported for it, which takes seconds."""
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
        return UPath(marker).exists(), runs

    return look
