"""A real cluster: three hosts of their own, Ray by ssh, a shared workspace."""

import base64
import shutil
import subprocess
import time

import psutil
import pytest

from dfloc import plugin
from tests.cluster.conftest import TOKEN, Cluster
from tests.cluster.hosts import ROOT, Host
from tests.command import Study, wait
from tests.test_plugin import CELL, EXAMPLES

pytestmark = [pytest.mark.hosts, pytest.mark.ray]

TRIAL = "ray::ImplicitFunc"


def sweep_args(cluster: Cluster, study: Study) -> list[str]:
    return ["sweep", "exposure", *study.args, "--address", cluster.address]


def started(cluster: Cluster, study: Study, *args: str) -> "subprocess.Popen[str]":
    command = cluster.hosts.ssh_command(cluster.head, cluster.command(*sweep_args(cluster, study), *args))
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def trials_on(host: Host) -> bool:
    return any(title.startswith(TRIAL) for title in host.titles())


@pytest.fixture(scope="module")
def swept(cluster: Cluster, finished: Study) -> tuple[Study, set[str], str]:
    """The smoke study from an empty folder over both workers: workspace, hosts that ran trials, what was said."""
    study = Study(cluster.shared / "workspace")
    process = started(cluster, study)
    ran: set[str] = set()
    while process.poll() is None:
        ran |= {host.name for host in cluster.hosts.all if trials_on(host)}
        time.sleep(0.05)
    assert process.stdout is not None
    said = process.stdout.read()
    assert process.returncode == 0, said
    return study, ran, said


def test_two_workers_give_the_numbers_of_one_machine(swept: tuple[Study, set[str], str], finished: Study) -> None:
    study, ran, said = swept
    assert said.endswith("done, 0 to run\n")
    assert ran == {"one", "two"}
    assert len(study.numbers()) == 15
    assert study.numbers() == finished.numbers()
    assert [path.name for path in study.root.glob(".seen*")] == []


def test_bad_nodes_are_named_in_one_error(cluster: Cluster) -> None:
    one, two = cluster.workers
    study = Study(cluster.shared / "hidden")
    other = cluster.shared / "init.py"
    other.write_text('__version__ = "9.9.9"\n')
    one.mount("-t", "tmpfs", "tmpfs", str(study.root))
    two.mount("--bind", str(other), str(ROOT / "dfloc" / "__init__.py"))
    try:
        result = cluster.dfloc(*sweep_args(cluster, study))
    finally:
        one.unmount(study.root)
        two.unmount(ROOT / "dfloc" / "__init__.py")
    assert result.code == 2
    assert "Traceback" not in result.err
    assert len(result.err.splitlines()) == 1
    assert f"2 of 3 nodes cannot work: node one ({one.address}) does not see the workspace {study.root}; " in result.err
    assert f"node two ({two.address}) runs dfloc 9.9.9" in result.err
    assert sorted(path.name for path in study.root.iterdir()) == ["lock.1", "logs"], "nothing else was begun"


@pytest.mark.parametrize("token", [None, "f" * 64])
def test_a_token_that_is_missing_or_wrong_is_refused(cluster: Cluster, token: str | None) -> None:
    study = Study(cluster.shared / f"token-{token}")
    path = cluster.head.home / ".ray" / "auth_token"
    path.unlink()
    try:
        if token:
            path.write_text(token)
        result = cluster.dfloc(*sweep_args(cluster, study))
    finally:
        path.write_text(TOKEN)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert f"the Ray at {cluster.address} refuses this machine's token: put the cluster's token into" in result.err
    assert sorted(path.name for path in study.root.iterdir()) == ["lock.1", "logs"]


def test_a_cluster_without_a_gpu_is_told_before_anything_starts(cluster: Cluster) -> None:
    study = Study(cluster.shared / "cuda")
    result = cluster.dfloc(*sweep_args(cluster, study), "--device", "cuda")
    assert result.code == 2
    assert f"no node of the cluster at {cluster.address} has one; add one, or --device cpu" in result.err
    assert sorted(path.name for path in study.root.iterdir()) == ["lock.1", "logs"]


def test_plug_ins_reach_workers_that_do_not_have_them(cluster: Cluster) -> None:
    study, folder = Study(cluster.shared / "plugged"), cluster.shared / "plug-ins"
    folder.mkdir()
    cluster.head.mount("-t", "tmpfs", "tmpfs", str(folder))
    try:
        for name, text in EXAMPLES.items():
            code = base64.b64encode(text.encode()).decode()
            assert cluster.hosts.ssh(cluster.head, f"echo {code} | base64 -d > {folder / name}").code == 0
        given = [word for name in EXAMPLES for word in ("--plugin", str(folder / name))]
        settings = [word for setting in CELL for word in ("--set", setting)]
        result = cluster.dfloc(*sweep_args(cluster, study), "--only", "base", *given, *settings)
    finally:
        cluster.head.unmount(folder)
    assert list(folder.iterdir()) == [], "only the head sees them"
    assert result.code == 0, result
    trials = study.record().trials
    assert len(trials) == 2
    for trial in trials:
        assert trial.spec.maps[0].plugin == plugin.Plugin("edges.py", EXAMPLES["edges.py"]).digest
        assert study.ledger.state(trial.fingerprint) == "done"


def test_a_worker_that_is_lost_costs_nothing_but_time(
    cluster: Cluster, swept: tuple[Study, set[str], str], finished: Study
) -> None:
    study = swept[0].copy(cluster.shared / "lost", tracked=False)
    for name in ("trials", "sweeps"):
        shutil.rmtree(study.root / name)
    process = started(cluster, study)
    lost = cluster.workers[1]
    wait(lambda: process.poll() is not None or (trials_on(lost) and len(study.finished()) >= 2))
    assert process.poll() is None
    for each in lost.processes():
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.endswith("done, 0 to run\n")
    assert study.numbers() == finished.numbers()
