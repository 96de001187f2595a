import io
import logging
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console
from upath import UPath

from dfloc.errors import ConfigError, WorkspaceError
from dfloc.storage import Workspace
from dfloc.sweep import cluster
from dfloc.sweep.chatter import Chatter
from dfloc.sweep.cluster import Cluster, check_device, resources


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
    mine.start()
    mine.stop()
    assert ray.is_initialized()
    assert ray.get_runtime_context().gcs_address == before
    assert not (tmp_path / "logs").exists()


@pytest.mark.ray
def test_trials_at_once_are_those_asked_or_one_for_each_cpu(
    tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cluster.MAX_PENDING, "")
    mine, _ = made(tmp_path)
    assert (mine.max_concurrent(None), os.environ[cluster.MAX_PENDING]) == (2, "2")
    assert (mine.max_concurrent(7), os.environ[cluster.MAX_PENDING]) == (7, "7")


@pytest.mark.ray
def test_every_node_proves_that_it_sees_the_workspace(
    tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, _ = made(tmp_path)
    workspace = Workspace(tmp_path / "workspace")
    mine.prove(workspace)
    assert list(workspace.root.iterdir()) == []
    versions = cluster._versions()
    monkeypatch.setattr(cluster, "_versions", lambda: versions | {"torch": "1.0"})
    with pytest.raises(WorkspaceError, match=r"node \S+ \(\S+\) runs .*, the driver .*'torch': '1.0'"):
        mine.prove(workspace)
    monkeypatch.undo()
    monkeypatch.setattr(cluster, "_look", _blind)
    with pytest.raises(WorkspaceError, match=r"node .* does not see the workspace .*; share it with every node"):
        mine.prove(workspace)
    assert list(workspace.root.iterdir()) == []


def _blind(marker: str) -> tuple[bool, dict[str, str]]:
    return False, {}


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
    chatter = Chatter(UPath(tmp_path / "logs" / "ray.log"))
    chatter.begin()
    try:
        logging.getLogger("ray").handlers.clear()
        chatter.begun()
        os.write(2, b"native words\n")
        for name in ("ray.anything", "ray._private.worker", "ray.tune.execution"):
            logging.getLogger(name).error("words of %s", name)
        print("our own words", file=sys.stderr)  # noqa: T201
    finally:
        chatter.end()
        for name, (handlers, propagate) in before.items():
            logging.getLogger(name).handlers, logging.getLogger(name).propagate = handlers, propagate
    os.write(2, b"native words afterwards\n")
    assert capfd.readouterr().err == "our own words\nnative words afterwards\n"
    text = (tmp_path / "logs" / "ray.log").read_text()
    assert text.startswith("native words\n")
    for name in ("ray.anything", "ray._private.worker", "ray.tune.execution"):
        assert f"ERROR {name}: words of {name}" in text


@pytest.mark.parametrize(
    ("address", "message"),
    [("nonsense", 'should be HOST:PORT or "auto"'), ("127.0.0.1:9", r"no Ray answers at 127\.0\.0\.1:9")],
)
def test_an_address_at_which_nothing_listens_is_told_at_once(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cluster._probe(address)
    cluster._probe(None)
