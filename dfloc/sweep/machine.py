"""What `sweep` and `evaluate` run on: a workspace's lock and disk, a Ray that is proved, features, rounds of work."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from upath import UPath

from dfloc import disk, registry, storage
from dfloc.config import TrialSpec
from dfloc.data import sample_lists
from dfloc.data.manifest import SampleRef
from dfloc.errors import DiskFullError, WorkspaceError
from dfloc.features import extract
from dfloc.features.extract import Job
from dfloc.features.store import FeatureStore, bytes_of
from dfloc.features.weights import WeightsIndex
from dfloc.lock import DriverLock
from dfloc.models import decoders
from dfloc.storage import Workspace
from dfloc.sweep import cluster
from dfloc.sweep.plan import Plan
from dfloc.sweep.progress import Display

ROUNDS = 3
ROW_BYTES = 250
"""Of one image in the rows of an evaluation, about."""


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


def of_features(plan: Plan) -> int:
    """Return the bytes of the features that are lacking: at least, for a row group is stored whole."""
    return sum(job.rows * bytes_of(recipe) for job in plan.jobs for recipe in job.recipes)


def of_all(plan: Plan) -> int:
    """Return about what a plan still writes: features, the best and the last weights of each trial, rows."""
    rows = sum(evaluation.test.size for item in plan.items for evaluation in item.evaluations)
    weights = sum(2 * _weights(item.trial.spec) for item in plan.items if item.train)
    return of_features(plan) + weights + rows * ROW_BYTES


class DiskSpace:
    """What is told of the disk of a workspace before a plan is begun, and where it is full meanwhile."""

    def __init__(self, workspace: Workspace, say: Callable[[str], None]):
        self._workspace, self._say = workspace, say
        self._need = ""

    def look(self, plan: Plan) -> None:
        """Say where a plan may not fit; what is certain not to fit is refused before it costs.

        Raises:
            DiskFullError: the features alone do not fit.
        """
        self._need = f"the plan needs about {disk.gigabytes(of_all(plan))} more"
        if not storage.is_local(self._workspace.root):
            return
        place = Path(self._workspace.features.path)
        disk.refuse(place, of_features(plan), "the features of the plan")
        if of_all(plan) > (free := disk.free(place)):
            self._say(f"room may be short: {disk.gigabytes(free)} free in {self._workspace.root}, {self._need}")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say of a full disk what the plan needs, too."""
        try:
            yield
        except DiskFullError as full:
            raise DiskFullError(full.what, full.need or self._need) from full


def _weights(spec: TrialSpec) -> int:
    shapes = tuple(registry.map_spec(recipe.map) for recipe in spec.maps)
    return decoders.weight_bytes(spec.decoder, shapes, spec.num_classes)
