"""The Ray that a sweep runs on: started here or found, quiet, and proved to see the workspace."""

import logging
import os
import platform
import socket
import uuid
from importlib.metadata import version

from rich.console import Console
from upath import UPath

import dfloc
from dfloc import storage
from dfloc.errors import ConfigError, WorkspaceError
from dfloc.storage import Workspace
from dfloc.sweep.chatter import Chatter

QUIET = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
PROBE_SECONDS = 5
MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"


class Cluster:
    """A Ray of this process, or the one at an address.

    Args:
        address: of a running Ray; None = $RAY_ADDRESS, else one is started here and ended with the sweep.
        console: where an inherited address is named.
        logs: folder of Ray's own chatter.

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
        if self._address and not address:
            console.print(f"Ray: the one at RAY_ADDRESS={self._address}", highlight=False)
        self.log = logs / "ray.log"
        self._chatter: Chatter | None = None

    def start(self) -> None:
        """Connect or start, once; a Ray that this process has already is used, and not ended.

        Raises:
            ConfigError: nothing answers at the address.
        """
        os.environ.update({key: value for key, value in QUIET.items() if key not in os.environ})
        import ray

        if ray.is_initialized():
            return
        _probe(self._address)
        self._chatter = Chatter(self.log)
        self._chatter.begin()
        try:
            ray.init(
                address=self._address or "local",
                log_to_driver=False,
                include_dashboard=None if self._address else False,
                logging_level=logging.WARNING,
                configure_logging=False,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"answers at {self._address}" if self._address else "could be started"
            raise ConfigError(f"no Ray {where}: {str(error).splitlines()[0]}; see {self.log}") from error
        self._chatter.begun()

    def stop(self) -> None:
        """End what was started."""
        if self._chatter:
            import ray

            ray.shutdown()
            self._chatter.end()
            self._chatter = None

    def max_concurrent(self, asked: int | None) -> int:
        """Return how many trials run at once, and tell Tune, which must not be imported before."""
        import ray

        number = asked or max(1, int(ray.cluster_resources().get("CPU", 1)))
        os.environ[MAX_PENDING] = str(number)
        return number

    def check_gpus(self, device: str, gpus_per_trial: float) -> None:
        """Refuse trials that the Ray started here could never place; a cluster may still grow.

        Raises:
            ConfigError: a trial wants more GPUs than there are.
        """
        import ray

        found = ray.cluster_resources().get("GPU", 0)
        if device == "cuda" and not self._address and found < gpus_per_trial:
            raise ConfigError(f"a trial asks for {gpus_per_trial:g} GPUs, but this machine has {found:g}")

    def prove(self, workspace: Workspace) -> None:
        """Make every node show that it sees the workspace and runs the same versions.

        Raises:
            WorkspaceError: one does not; names the node.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        marker = workspace.root / f".seen-{uuid.uuid4().hex}"
        storage.put(marker, marker.name.encode())
        mine = _versions()
        try:
            for node in (node for node in ray.nodes() if node["Alive"]):
                strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                look = ray.remote(_look).options(num_cpus=0, scheduling_strategy=strategy)
                seen, theirs = ray.get(look.remote(str(marker)))
                where = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
                if not seen:
                    raise WorkspaceError(
                        f"{where} does not see the workspace {workspace.root}; share it with every node"
                    )
                if theirs != mine:
                    raise WorkspaceError(f"{where} runs {theirs}, the driver {mine}; install the same on every node")
        finally:
            marker.unlink(missing_ok=True)


def _probe(address: str | None) -> None:
    """Refuse an address at which nothing listens; Ray itself would try for minutes.

    Raises:
        ConfigError: it is no HOST:PORT, or nothing answers there.
    """
    if address in (None, "local", "auto"):
        return
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f'--address should be HOST:PORT or "auto", but it is {address}')
    try:
        socket.create_connection((host, int(port)), timeout=PROBE_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray answers at {address}: {error}; start one there by `ray start --head`") from error


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


def _look(marker: str) -> tuple[bool, dict[str, str]]:
    return UPath(marker).exists(), _versions()


def _versions() -> dict[str, str]:
    """Return what must be the same everywhere; torch is not imported for it, which takes a node seconds."""
    return {"dfloc": dfloc.__version__, "torch": version("torch"), "python": platform.python_version()}
