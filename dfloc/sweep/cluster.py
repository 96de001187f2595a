"""The Ray that a sweep runs on: started here or found, quiet, proved fit; and what its nodes have room for."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from upath import UPath

from dfloc.errors import ConfigError
from dfloc.storage import Workspace
from dfloc.worker_check import WorkerCheck
from dfloc.workers import Workers

MAX_PENDING = "TUNE_MAX_PENDING_TRIALS_PG"
HEAD = "node:__internal_head__"
ANSWER_SECONDS = 60.0

Resources = Mapping[str, float]


class NodeKind(NamedTuple):
    """Nodes of one kind.

    Attributes:
        nodes: how many there are, or can be.
        resources: of one of them, as Ray names them.
    """

    name: str
    nodes: int
    resources: Resources

    def rooms(self, need: Resources) -> int:
        """Return how often a need fits into all of them together; a need within one node only."""
        fits = (_fits(name, self.resources.get(name, 0), amount) for name, amount in need.items() if amount)
        return self.nodes * min(fits, default=0)


class Capacity(NamedTuple):
    """Room for work.

    Attributes:
        live: nodes that are there.
        offered: nodes that the autoscaler can add; None = that is unknown.
    """

    live: tuple[NodeKind, ...]
    offered: tuple[NodeKind, ...] | None

    def rooms(self, need: Resources) -> int:
        """Return how often a need fits; nodes that are there may be among those that are offered."""
        return max(_rooms(self.live, need), _rooms(self.offered or (), need))

    def most(self, name: str) -> float:
        """Return the most of a resource that one node has, or would have."""
        return max((kind.resources.get(name, 0) for kind in (*self.live, *(self.offered or ()))), default=0)


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
        """Make every node show that it sees workspace and data, and, as this machine alone, that it runs our code.

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

        As many as a user asks for; else as there is room for what one holds, on nodes that the autoscaler can add too.
        """
        need = {name.upper(): amount for name, amount in held.items()}
        number = asked or max(1, self._capacity().rooms(need))
        os.environ[MAX_PENDING] = str(number)
        return number

    def _capacity(self) -> Capacity:
        return capacity(grows=self._address is not None)


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


def capacity(grows: bool) -> Capacity:
    """Return the capacity of the Ray that this process is connected to; `grows`: it may have an autoscaler."""
    import ray

    live = [node for node in ray.nodes() if node["Alive"]]
    kinds = tuple(NodeKind(node["NodeManagerHostname"], 1, node["Resources"]) for node in live)
    return Capacity(kinds, _ask_head(live) if grows else ())


def _fits(name: str, has: float, amount: float) -> int:
    """Return how often an amount fits into what a node has; a share of a GPU lies in one of them."""
    if name == "GPU" and amount < 1:
        return int(has) * int(1 / amount + 1e-9)
    return int(has / amount + 1e-9)


def _rooms(kinds: Iterable[NodeKind], need: Resources) -> int:
    return sum(kind.rooms(need) for kind in kinds)


def _ask_head(live: list[dict[str, Any]]) -> tuple[NodeKind, ...] | None:
    """Read on the head what its autoscaler was started with: Ray itself tells nobody its node types."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    heads = [node for node in live if HEAD in node["Resources"]]
    if not heads:
        return None
    strategy = NodeAffinitySchedulingStrategy(heads[0]["NodeID"], soft=False)
    ask = ray.remote(_reader()).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy)
    try:
        text = ray.get(ask.remote(ray.get_runtime_context().gcs_address), timeout=ANSWER_SECONDS)
    except ray.exceptions.RayError:
        return None
    return None if text is None else offered(json.loads(text), len(live))


def _reader() -> Callable[[str], str | None]:
    def read(gcs_address: str) -> str | None:
        """Return the autoscaler's configuration as JSON: {} = there is no autoscaler, None = unknown."""
        import json
        from pathlib import Path

        import psutil
        import yaml

        for process in psutil.process_iter():
            try:
                command = process.cmdline()
            except psutil.Error:
                continue
            if not any("autoscaler" in part and part.endswith("monitor.py") for part in command):
                continue
            given = dict(part.split("=", 1) for part in command if part.startswith("--") and "=" in part)
            if given.get("--gcs-address") == gcs_address:
                path = given.get("--autoscaling-config")
                return json.dumps(yaml.safe_load(Path(path).expanduser().read_text()) if path else {})
        return None

    return read


def offered(config: Mapping[str, Any], num_live: int) -> tuple[NodeKind, ...] | None:
    """Return the workers that an autoscaler's configuration offers; None = it does not say what they have.

    Args:
        config: as `ray up` leaves it on the head; {} = there is no autoscaler.
        num_live: nodes that are there; of machines with fixed addresses there may be no more.
    """
    if config.get("provider", {}).get("type") == "local" and num_live > config["max_workers"]:
        return ()
    most = config.get("max_workers", 0)
    found = []
    for name, kind in config.get("available_node_types", {}).items():
        nodes = min(kind.get("max_workers", most), most)
        if not nodes:
            continue
        if not kind.get("resources"):
            return None
        found.append(NodeKind(name, nodes, kind["resources"]))
    return tuple(found)
