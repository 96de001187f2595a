"""What the nodes of a Ray have room for: those that are there, and those that its autoscaler can add."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

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


def look(grows: bool) -> Capacity:
    """Return the capacity of the Ray that this process is connected to.

    Args:
        grows: it may have an autoscaler.
    """
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
