"""A cluster of a head and two workers on hosts of their own, brought up once by `ray up cluster.onprem.yaml`."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.cluster.hosts import BIN, ROOT, Host, Hosts, lacking
from tests.command import Result, wait

TOKEN = "0123456789abcdef" * 4
MEMORY = "--object-store-memory=150000000"
NODES = "import ray; ray.init('auto', logging_level='ERROR'); print(sum(node['Alive'] for node in ray.nodes()))"


class Cluster(NamedTuple):
    """Attributes: shared: the folder that every host sees."""

    hosts: Hosts
    head: Host
    workers: list[Host]
    shared: Path

    @property
    def address(self) -> str:
        return f"{self.head.address}:6379"

    def command(self, *args: str, mode: str = "token") -> str:
        """Return the command line of `dfloc` on the head."""
        return f"RAY_AUTH_MODE={mode} OMP_NUM_THREADS=1 {shlex.join([str(BIN / 'dfloc'), *args])}"

    def dfloc(self, *args: str, mode: str = "token") -> Result:
        """Run `dfloc` on the head."""
        return self.hosts.ssh(self.head, self.command(*args, mode=mode))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if "hosts" not in request.config.option.markexpr:
        pytest.skip("`make test-cluster` runs it")
    why = lacking()
    if why:
        pytest.skip(why)
    folder, shared = tmp_path_factory.mktemp("hosts"), tmp_path_factory.mktemp("shared")
    hosts = Hosts(["head", "one", "two"], folder, shared)
    try:
        head, *workers = hosts.all
        (hosts.laptop.home / ".ray").mkdir()
        (hosts.laptop.home / ".ray" / "auth_token").write_text(TOKEN)
        for host in hosts.all:
            (host.home / "venv").mkdir()
            (host.home / "venv" / "bin").symlink_to(BIN)
        (folder / "cluster.yaml").write_text(_filled_in(hosts, shared))
        up = f"RAY_UP_enable_autoscaler_v2=0 {BIN}/ray up --yes --no-config-cache {folder}/cluster.yaml"
        done = hosts.on_laptop(up)
        assert done.code == 0, done
        count = f"RAY_AUTH_MODE=token {BIN}/python -c {shlex.quote(NODES)}"
        wait(lambda: hosts.ssh(head, count).out.endswith("3\n"), 120)
        yield Cluster(hosts, head, workers, shared)
    finally:
        hosts.close()


def _filled_in(hosts: Hosts, shared: Path) -> str:
    """Return cluster.onprem.yaml filled in, without its installation: the hosts see this checkout's."""
    head, one, two = hosts.all
    text = (ROOT / "cluster.onprem.yaml").read_text()
    given = {"HEAD": head.address, "WORKER_1": one.address, "WORKER_2": two.address, "USER": "root", "SHARED": shared}
    for name, value in given.items():
        text = text.replace(f"FILL_IN_{name}", str(value))
    config = yaml.safe_load(text)
    config["auth"]["ssh_private_key"] = str(hosts.key)
    config["setup_commands"] = [command for command in config["setup_commands"] if "pip install" not in command]
    config["head_start_ray_commands"][-1] += f" --num-cpus=0 --include-dashboard=false {MEMORY}"
    config["worker_start_ray_commands"][-1] += f" --num-cpus=1 {MEMORY}"
    return yaml.safe_dump(config)
