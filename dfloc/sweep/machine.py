"""What `sweep` and `evaluate` run on: the workspace's lock, a Ray that is proved, features, lists, rounds of work."""

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from upath import UPath

from dfloc.data import sample_lists
from dfloc.data.manifest import SampleRef
from dfloc.errors import WorkspaceError
from dfloc.features import extract
from dfloc.features.extract import Job
from dfloc.features.store import FeatureStore
from dfloc.features.weights import WeightsIndex
from dfloc.lock import DriverLock
from dfloc.storage import Workspace
from dfloc.sweep import cluster
from dfloc.sweep.progress import Display

ROUNDS = 3


def locked(workspace: Workspace, console: Console, wait: bool) -> DriverLock:
    """Return the lock of a workspace, which says whom it waits for."""
    return DriverLock(
        workspace.root, wait=wait, on_wait=lambda owner: console.print(f"waiting for the driver on {owner.name}")
    )


class Machine:
    """The Ray of a driver and what it is told; a context manager, which ends what was started.

    Args:
        workspace: that is driven.
        lock: of it, held; looked at before anything is written.
        console: for the progress of features, and notes.
        address: of a running Ray; None = one of this process.
        gpus: that an item of work holds, where it runs on a GPU.

    Attributes:
        device: that everything runs on, once it has begun.
    """

    def __init__(
        self, workspace: Workspace, lock: DriverLock, console: Console, address: str | None, gpus: float = 1.0
    ):
        self.workspace, self.lock, self.console = workspace, lock, console
        self.ray = cluster.Cluster(address, console, workspace.root / "logs")
        self.device = "cpu"
        self._gpus = gpus
        self._kept: set[str] = set()

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.ray.stop()

    def begin(self, device: str, data: Sequence[str]) -> None:
        """Start Ray, or connect to it, once; data: paths outside of the workspace that every node must see.

        Raises:
            ConfigError: nothing answers, or no node has, or would have, the GPUs.
            WorkspaceError: a node cannot work; names each of them.
        """
        self.device = device
        self.ray.begin(self.workspace, device, self._gpus, data)

    @property
    def held(self) -> dict[str, float]:
        """What an item of work holds of a node."""
        return cluster.resources(self.device, self._gpus)

    def worker_settings(self, data: UPath) -> dict[str, Any]:
        """Return what every worker is told beside its items (`work.config_of`)."""
        folders = {"workspace": str(self.workspace.root), "data": str(data)}
        return {**folders, "device": self.device, "proof": self.ray.proof}

    def keep(self, samples: Mapping[str, Sequence[SampleRef]]) -> None:
        """Write lists of samples, by their digests, where workers find them.

        Raises:
            WorkspaceError: the lock is lost, or placeholders stand for the samples.
        """
        self.lock.check()
        for digest, refs in samples.items():
            if digest not in self._kept:
                if not all(ref.image_sha256 for ref in refs):
                    raise WorkspaceError(f"the samples of list {digest[:12]} are not there; import them first")
                sample_lists.keep(self.workspace, digest, refs)
                self._kept.add(digest)

    def run(
        self, data: UPath, jobs: Sequence[Job], work: Callable[[], object], again: Callable[[], Sequence[Job]]
    ) -> None:
        """Compute features, then run the work; both again, where a worker has found some damaged and taken them out.

        Args:
            data: folder of the shards.
            jobs: row groups whose features are lacking.
            work: runs the items; returns what went wrong, if anything.
            again: returns the row groups that are lacking after that.
        """
        for left in reversed(range(ROUNDS)):
            self._extract(data, jobs)
            if not (work() and left and (jobs := again())):
                break
            self.say(f"{len(jobs)} groups of stored features were damaged, they are made again")

    def say(self, text: str) -> None:
        """Show a line."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _extract(self, data: UPath, jobs: Sequence[Job]) -> None:
        if not jobs:
            return

        def on_progress(done: int, total: int) -> None:
            self.lock.check()
            display.advance(done, total)

        assert self.ray.proof is not None
        with Display(self.console, "features of images", sum(job.rows for job in jobs)) as display:
            extract.extract(
                FeatureStore(self.workspace.features),
                data,
                jobs,
                weights=WeightsIndex(self.workspace),
                device=self.device,
                on_progress=on_progress,
                proof=self.ray.proof,
            )
