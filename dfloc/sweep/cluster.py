"""The Ray that a sweep runs on: started here or found, quiet, and proved fit for the sweep."""

import os
from collections.abc import Sequence

from rich.console import Console
from upath import UPath

from dfloc.errors import ConfigError
from dfloc.storage import Workspace
from dfloc.sweep import capacity
from dfloc.sweep.capacity import Capacity
from dfloc.worker_check import WorkerCheck
from dfloc.workers import Workers

MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"


class Cluster:
    """A Ray of this process, or the one at an address.

    Args:
        address: of a running Ray; None = $RAY_ADDRESS, else one is started here and ended with the sweep.
        console: where an inherited address is named.
        logs: folder of Ray's own lines.

    Attributes:
        notes: what was said of the address.

    Raises:
        ConfigError: a `ray://` address.
    """

    def __init__(self, address: str | None, console: Console, logs: UPath):
        self._address = address or os.environ.get("RAY_ADDRESS") or None
        if self._address and self._address.startswith("ray://"):
            raise ConfigError(
                f"{self._address}: the driver runs on a node of the cluster, not through ray://; "
                "log in there (ray attach, ssh) or use ray job submit"
            )
        self.notes = [f"Ray: the one at RAY_ADDRESS={self._address}"] if self._address and not address else []
        for line in self.notes:
            console.print(line, highlight=False)
        self.log = logs / "ray.log"
        self.proof: WorkerCheck | None = None
        self._console = console
        self._workers = Workers(self._address, self.log)

    def stop(self) -> None:
        """End what was started."""
        if self.proof:
            self.proof.end()
            self.proof = None
        self._workers.stop()

    def begin(self, workspace: Workspace, device: str, gpus_per_trial: float, data: Sequence[str]) -> None:
        """Start Ray, or connect to it, and refuse one that cannot do the work.

        Raises:
            ConfigError: nothing answers, or no node has, or would have, the GPUs.
            WorkspaceError: a node cannot work; names each of them.
        """
        self._workers.start()
        self.prove(workspace, data)
        self.check_gpus(device, gpus_per_trial)

    def prove(self, workspace: Workspace, data: Sequence[str] = ()) -> None:
        """Make every node show that it can work; this machine alone, that its workers run what the driver runs.

        Args:
            workspace: which every node must see.
            data: paths that every node must see too.

        Raises:
            WorkspaceError: some cannot; names each of them.
        """
        if not self.proof:
            self.proof = WorkerCheck.begin(workspace, data) if self._address else WorkerCheck.begin()
            self.proof.check_nodes()

    def check_gpus(self, device: str, gpus_per_trial: float) -> None:
        """Refuse trials that could never be placed, now or once the cluster has grown.

        Raises:
            ConfigError: no node has, or would have, the GPUs that a trial wants.
        """
        if device != "cuda":
            return
        if gpus_per_trial > 1 and gpus_per_trial % 1:
            raise ConfigError(
                f"--gpus-per-trial should be a share of one GPU or a whole number, not {gpus_per_trial:g}"
            )
        has = self._capacity()
        most = has.most("GPU")
        if most >= gpus_per_trial:
            return
        if has.offered is None:
            line = f"no node has {gpus_per_trial:g} GPUs now, and what the autoscaler can add is unknown: trials wait"
            self._console.print(line, highlight=False)
            return
        where = f"the cluster at {self._address}" if self._address else "this machine"
        can = " and no node type of its autoscaler" if has.offered else ""
        if not most:
            raise ConfigError(
                f"the study asks for CUDA devices, but no node of {where}{can} has one; add one, or --device cpu"
            )
        raise ConfigError(
            f"a trial asks for {gpus_per_trial:g} GPUs, but no node of {where}{can} has more than {most:g}; "
            "lower --gpus-per-trial"
        )

    def max_concurrent(self, asked: int | None, held: dict[str, float]) -> int:
        """Return how many trials run at once, and tell Tune, which must not be imported before.

        Args:
            asked: by the user; None = as many as there is room for, on nodes that the autoscaler can add too.
            held: what one trial holds, as `resources` names it.
        """
        need = {name.upper(): amount for name, amount in held.items()}
        number = asked or max(1, self._capacity().rooms(need))
        os.environ[MAX_PENDING] = str(number)
        return number

    def _capacity(self) -> Capacity:
        return capacity.look(grows=self._address is not None)


def check_device(device: str, address: str | None) -> None:
    """Refuse a device that is not there, before anything starts.

    Raises:
        ConfigError: cuda is asked for, and this machine has none (of a cluster, Ray places trials where GPUs are).
    """
    import torch

    if device == "cuda" and not (address or os.environ.get("RAY_ADDRESS")) and not torch.cuda.is_available():
        raise ConfigError(
            "the study asks for a CUDA device, but this machine has none; run on one, or add --device cpu"
        )


def resources(device: str, gpus_per_trial: float) -> dict[str, float]:
    """Return what one trial holds of a node."""
    return {"cpu": 1.0, "gpu": gpus_per_trial} if device == "cuda" else {"cpu": 1.0}
