import io
import logging
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console
from upath import UPath

from dfloc.errors import ConfigError, WorkspaceError
from dfloc.ray_log import RayLog
from dfloc.storage import Workspace
from dfloc.sweep import cluster
from dfloc.sweep.cluster import Capacity, Cluster, NodeKind, check_device, resources
from dfloc.worker_check import WorkerCheck


def made(tmp_path: Path, address: str | None = None) -> tuple[Cluster, io.StringIO]:
    screen = io.StringIO()
    return Cluster(address, Console(file=screen, width=200), UPath(tmp_path / "logs")), screen


@pytest.fixture(autouse=True)
def _no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize("inherited", [True, False])
def test_ray_client_is_refused_with_a_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inherited: bool) -> None:
    if inherited:
        monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ConfigError, match=r"ray://head:10001: .*on a node of the cluster.*ray job submit"):
        made(tmp_path, None if inherited else "ray://head:10001")


def test_an_inherited_address_is_named_and_an_asked_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert made(tmp_path)[1].getvalue() == "Ray: the one at RAY_ADDRESS=10.0.0.1:6379\n"
    assert made(tmp_path, "10.0.0.2:6379")[1].getvalue() == ""


@pytest.mark.ray
def test_a_ray_that_is_there_is_used_and_not_ended(tmp_path: Path, ray_local: None) -> None:
    import ray

    before = ray.get_runtime_context().gcs_address
    mine, _ = made(tmp_path)
    mine.begin(Workspace(tmp_path / "workspace"), "cpu", 1, [])
    mine.stop()
    assert ray.is_initialized()
    assert ray.get_runtime_context().gcs_address == before
    assert not (tmp_path / "logs").exists()


HEAD = NodeKind("head", 1, {"CPU": 4})
GPUS = NodeKind("gpu", 3, {"CPU": 4, "GPU": 1})


def of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *live: NodeKind, offered: tuple[NodeKind, ...] | None = ()
) -> Cluster:
    monkeypatch.setattr(cluster, "capacity", lambda grows: Capacity(live, offered if grows else ()))
    monkeypatch.setenv(cluster.MAX_PENDING, "")
    return made(tmp_path, "10.0.0.1:6379")[0]


def test_trials_at_once_are_those_asked_or_one_for_each_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = of(tmp_path, monkeypatch, NodeKind("head", 1, {"CPU": 2}))
    held = resources("cpu", 1)
    assert (mine.max_concurrent(None, held), os.environ[cluster.MAX_PENDING]) == (2, "2")
    assert (mine.max_concurrent(7, held), os.environ[cluster.MAX_PENDING]) == (7, "7")


@pytest.mark.parametrize(
    ("gpus", "offered", "message"),
    [
        (1, (), r"no node of the cluster at 10\.0\.0\.1:6379 has one; add one, or --device cpu"),
        (0.5, (NodeKind("cpu", 9, {"CPU": 8}),), r"no node of .* and no node type of its autoscaler has one"),
        (2, (GPUS,), r"asks for 2 GPUs, but no node .* has more than 1; lower --gpus-per-trial"),
        (1.5, (GPUS,), r"a share of one GPU or a whole number, not 1\.5"),
    ],
)
def test_gpus_that_no_node_has_or_would_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: float, offered: tuple[NodeKind, ...], message: str
) -> None:
    mine = of(tmp_path, monkeypatch, HEAD, offered=offered)
    mine.check_gpus("cpu", gpus)
    with pytest.raises(ConfigError, match=message):
        mine.check_gpus("cuda", gpus)


def test_an_autoscaler_without_a_node_yet_has_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = of(tmp_path, monkeypatch, HEAD, offered=(GPUS,))
    mine.check_gpus("cuda", 1)
    assert mine.max_concurrent(None, resources("cuda", 1)) == 3
    assert mine.max_concurrent(None, resources("cuda", 0.5)) == 6
    assert mine.max_concurrent(None, resources("cuda", 0.1)) == 12, "a node's 4 CPUs hold 4 trials"


def test_an_unknown_autoscaler_is_told_and_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "capacity", lambda grows: Capacity((HEAD,), None))
    mine, screen = made(tmp_path, "10.0.0.1:6379")
    mine.check_gpus("cuda", 1)
    assert screen.getvalue() == "no node has 1 GPUs now, and what the autoscaler can add is unknown: trials wait\n"


@pytest.mark.ray
def test_this_machine_has_no_autoscaler_and_need_not_show_itself_the_workspace(tmp_path: Path, ray_local: None) -> None:
    mine, _ = made(tmp_path)
    with pytest.raises(ConfigError, match="no node of this machine has one"):
        mine.check_gpus("cuda", 1)
    workspace = Workspace(tmp_path / "workspace")
    mine.prove(workspace)
    assert mine.proof == WorkerCheck.begin()
    assert list(workspace.root.iterdir()) == []


@pytest.mark.ray
def test_the_proof_stands_until_the_end(tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, _ = made(tmp_path, "10.0.0.1:6379")
    workspace = Workspace(tmp_path / "workspace")
    mine.prove(workspace)
    assert [str(path) for path in workspace.root.iterdir()] == [mine.proof and mine.proof.marker]
    mine.stop()
    assert list(workspace.root.iterdir()) == []
    other = WorkerCheck.begin
    monkeypatch.setattr(WorkerCheck, "begin", lambda space, data: other(space, data)._replace(runs={"torch": "1.0"}))
    with pytest.raises(WorkspaceError, match=r"1 of 1 nodes cannot work: node \S+ \(\S+\) runs torch"):
        mine.prove(workspace)
    mine.stop()
    assert list(workspace.root.iterdir()) == []


def test_cuda_without_a_gpu_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"asks for a CUDA device, but this machine has none.*--device cpu"):
        check_device("cuda", None)
    check_device("cpu", None)
    check_device("cuda", "10.0.0.1:6379")


def test_a_trial_holds_its_share_of_a_gpu() -> None:
    assert resources("cuda", 0.25) == {"cpu": 1.0, "gpu": 0.25}
    assert resources("cpu", 0.25) == {"cpu": 1.0}


def test_chatter_goes_to_the_file_and_our_own_words_to_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("ray", "ray.data", "ray.tune", "ray.train", "ray._private")
    before = {name: (logging.getLogger(name).handlers, logging.getLogger(name).propagate) for name in names}
    ray_log = RayLog(UPath(tmp_path / "logs" / "ray.log"))
    ray_log.begin()
    try:
        logging.getLogger("ray").handlers.clear()
        ray_log.begun()
        os.write(2, b"native words\n")
        for name in ("ray.anything", "ray._private.worker", "ray.tune.execution"):
            logging.getLogger(name).error("words of %s", name)
        print("our own words", file=sys.stderr)  # noqa: T201
    finally:
        ray_log.end()
        for name, (handlers, propagate) in before.items():
            logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate
    os.write(2, b"native words afterwards\n")
    assert capfd.readouterr().err == "our own words\nnative words afterwards\n"
    text = (tmp_path / "logs" / "ray.log").read_text()
    assert text.startswith("native words\n")
    for name in ("ray.anything", "ray._private.worker", "ray.tune.execution"):
        assert f"ERROR {name}: words of {name}" in text
