import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dfloc.sweep import cluster
from dfloc.sweep.cluster import Capacity, NodeKind, offered

CONFIG = {
    "max_workers": 4,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 8}, "max_workers": 0},
        "gpu": {"resources": {"CPU": 4, "GPU": 1}, "min_workers": 0, "max_workers": 9},
    },
}


@pytest.mark.parametrize(
    ("need", "rooms"),
    [({"CPU": 1}, 6), ({"CPU": 1, "GPU": 1}, 2), ({"CPU": 1, "GPU": 0.1}, 6), ({"GPU": 0.1}, 20), ({"GPU": 2}, 0)],
)
def test_a_need_fits_into_one_node(need: dict[str, float], rooms: int) -> None:
    assert NodeKind("gpu", 2, {"CPU": 3, "GPU": 1}).rooms(need) == rooms


def test_a_share_of_a_gpu_lies_in_one_of_them() -> None:
    node = NodeKind("gpu", 1, {"CPU": 32, "GPU": 4})
    assert [node.rooms({"CPU": 1, "GPU": share}) for share in (0.1, 0.25, 0.3, 0.6, 1, 2)] == [32, 16, 12, 4, 4, 2]


def test_nodes_that_are_there_are_not_counted_again_among_those_offered() -> None:
    gpu = {"CPU": 4, "GPU": 1}
    assert (
        Capacity((NodeKind("one", 1, gpu), NodeKind("two", 1, gpu)), (NodeKind("gpu", 4, gpu),)).rooms({"GPU": 1}) == 4
    )
    assert Capacity((NodeKind("one", 5, gpu),), None).rooms({"GPU": 1}) == 5
    assert Capacity((NodeKind("head", 1, {"CPU": 4}),), (NodeKind("gpu", 4, gpu),)).most("GPU") == 1


def test_what_an_autoscaler_offers() -> None:
    assert offered(CONFIG, 5) == (NodeKind("gpu", 4, {"CPU": 4, "GPU": 1}),)
    assert offered({}, 1) == ()
    machines = {"local.cluster.node": {"resources": {}, "max_workers": 2}}
    local = {"max_workers": 2, "provider": {"type": "local"}, "available_node_types": machines}
    assert offered(local, 2) is None
    assert offered(local, 3) == ()


@contextmanager
def autoscaler(folder: Path, *args: str) -> Iterator[None]:
    """A process that looks as Ray's autoscaler does."""
    script = folder / "autoscaler" / "v2" / "monitor.py"
    script.parent.mkdir(parents=True)
    script.write_text("import time; time.sleep(60)")
    process = subprocess.Popen([sys.executable, str(script), *args])
    try:
        time.sleep(0.3)
        yield
    finally:
        process.kill()
        process.wait()


def test_the_configuration_of_the_autoscaler_of_this_ray_is_read(tmp_path: Path) -> None:
    read, config = cluster._reader(), tmp_path / "config.yaml"
    config.write_text(json.dumps(CONFIG))
    with autoscaler(tmp_path, "--gcs-address=10.0.0.9:1", f"--autoscaling-config={config}"):
        text = read("10.0.0.9:1")
        assert text is not None
        assert json.loads(text) == CONFIG
        assert read("10.0.0.9:2") is None
    assert read("10.0.0.9:1") is None


@pytest.mark.ray
def test_a_ray_of_this_machine_offers_nothing_more(ray_local: None) -> None:
    now = cluster.capacity(grows=True)
    assert (now.offered, now.rooms({"CPU": 1}), now.most("GPU")) == ((), 1, 0)
