"""Every step of the Dockerfiles is run, and what compose starts is started: `make test-docker`."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.command import wait
from tests.docker.dockerfile import DOCKER
from tests.docker.image import Image, build, lacking

pytestmark = [pytest.mark.skipif(lacking() is not None, reason=str(lacking())), pytest.mark.timeout(1800)]

PASSWORD = "correct horse/battery%staple"
SYSTEM = re.compile(r"(lib(c|m|dl|rt|resolv|pthread|util|gcc_s|stdc\+\+|z)\.so\.\d+|ld-linux-x86-64\.so\.2)")
TRAIN = """
import optuna, segmentation_models_pytorch, torch, torchvision
from dfloc.models import sam2
net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 1, 1))
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
losses = []
for _ in range(3):
    loss = net(torch.ones(2, 3, 16, 16)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step(); losses.append(loss.item())
assert losses[2] < losses[0], losses
assert torchvision.ops.nms(torch.tensor([[0., 0, 1, 1]] * 2), torch.tensor([1., .5]), 0.5).tolist() == [0]
assert sam2.make("sam2.1-tiny", "random", "cpu").maps
print(torch.__version__)
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that is deleted in the end: images are large."""
    with tempfile.TemporaryDirectory(prefix="dfloc-images-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def cpu(folder: Path) -> Image:
    return built("cpu", folder)


@pytest.fixture(scope="module")
def server(folder: Path) -> Image:
    return built("mlflow", folder)


def built(name: str, folder: Path) -> Image:
    image = build(f"Dockerfile.{name}", folder / name)
    shutil.rmtree(folder / name / "stage0")
    print(f"\n{name}: {image.megabytes():,} MB over its base, built in {image.seconds:.0f} s")  # noqa: T201
    return image


def foreign_libraries(image: Image) -> set[str]:
    """Return the libraries that are needed, and that neither the image nor any Debian has.

    Of NVIDIA's own libraries those count that another one needs: many are plug-ins for networks and disks.
    """
    files = [str(path) for path in image.files.rglob("*.so*") if path.is_file()]
    told = subprocess.run(["readelf", "--dynamic", *files], capture_output=True, text=True).stdout
    needs: dict[str, set[str]] = {}
    left: list[str] = []
    for file, text in re.findall(r"File: (.*)\n((?:(?!File: ).*\n)*)", told):
        found = needs.setdefault(Path(file).name, set())
        found |= set(re.findall(r"\(NEEDED\).*\[(.+)\]", text))
        left += [] if "/nvidia/" in file else found
    reached: set[str] = set()
    while left:
        name = left.pop()
        if name not in reached:
            reached.add(name)
            left += needs.get(name, ())
    return {name for name in reached - set(needs) if not SYSTEM.fullmatch(name)}


def test_the_cpu_image_trains_and_is_smaller(cpu: Image) -> None:
    assert cpu.megabytes() < 5200
    done = cpu.run("python", "-c", TRAIN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2.")


def test_the_gpu_image_has_all_that_torch_asks_for(folder: Path) -> None:
    image = built("gpu", folder)
    assert "No broken requirements" in image.run("pip", "check").stdout
    done = image.run("python", "-c", TRAIN)
    assert done.returncode == 0, done.stderr
    assert foreign_libraries(image) <= {"libcuda.so.1"}
    shutil.rmtree(image.folder)


def test_the_base_has_every_library_that_is_needed(cpu: Image, server: Image) -> None:
    assert foreign_libraries(cpu) <= {"libcuda.so.1", "libcusolver.so.12"}
    assert foreign_libraries(server) == set()


def test_an_image_is_run_by_a_user_who_owns_the_workspace(cpu: Image) -> None:
    assert cpu.run("sh", "-c", "id -un && pwd && touch x && ls && rm x").stdout.split() == ["dfloc", "/workspace", "x"]
    assert cpu.run("touch", "/opt/dfloc/x").returncode != 0
    assert "sweep" in cpu.run(*cpu.entrypoint, "--help").stdout


def test_no_cache_and_no_sources_are_left_in_an_image(cpu: Image, server: Image) -> None:
    for image in (cpu, server):
        assert not (image.files / "src").exists()
        assert not list(image.files.glob("root/.cache"))


@pytest.fixture(scope="module")
def net() -> Iterator[int]:
    """A process that holds a network of its own, in which the services have their own ports."""
    hold = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]
    with subprocess.Popen(hold, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        yield holder.pid


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    text = (DOCKER / "compose.yaml").read_text()
    return dict(yaml.safe_load(re.sub(r"\$\{POSTGRES_PASSWORD:[^}]*\}", PASSWORD, text))["services"])


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield process
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()


@pytest.fixture(scope="module")
def database(net: int, services: dict[str, Any]) -> Iterator[list[str]]:
    """PostgreSQL as its image starts it; yields the words that begin a command in its network."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or shutil.which("setpriv") is None:
        pytest.skip("needs PostgreSQL (apt-get install postgresql)")
    tools, settings = found[-1].parent, services["postgres"]["environment"]
    user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    inside = ["nsenter", f"--net=/proc/{net}/ns/net", *user]
    env = os.environ | {"PGUSER": settings["POSTGRES_USER"], "PGPASSWORD": settings["POSTGRES_PASSWORD"]}
    with tempfile.TemporaryDirectory(prefix="dfloc-postgres-", ignore_cleanup_errors=True) as name:
        home = Path(name)
        shutil.chown(home, "postgres")
        (home / "password").write_text(settings["POSTGRES_PASSWORD"])
        (home / "password").chmod(0o644)
        make = [tools / "initdb", f"--pgdata={home}/data", "--auth=scram-sha-256", f"--pwfile={home}/password"]
        subprocess.run([*inside, *make, f"--username={env['PGUSER']}"], check=True, capture_output=True)
        start = [str(tools / "postgres"), "-D", f"{home}/data", "-k", name, "-h", "127.0.0.1"]
        with running([*inside, *start], home / "log"):
            word, *options = services["postgres"]["healthcheck"]["test"][1:]
            wait(lambda: subprocess.run([*inside, tools / word, *options]).returncode == 0, 60)
            psql = [*inside, "psql", "--host=127.0.0.1", "--no-align", "--tuples-only"]
            subprocess.run(
                [*psql, "postgres", f"--command=CREATE DATABASE {settings['POSTGRES_DB']}"], env=env, check=True
            )
            yield [*psql, settings["POSTGRES_DB"]]


def test_a_study_is_recorded_in_postgresql(
    cpu: Image, server: Image, net: int, services: dict[str, Any], database: list[str], tmp_path: Path
) -> None:
    mlflow, dfloc = services["mlflow"], services["dfloc"]
    start = server.command(*server.entrypoint, *mlflow["command"], net=net, env=mlflow["environment"])
    began = time.monotonic()
    with running(start, tmp_path / "mlflow.log") as process:
        check = mlflow["healthcheck"]["test"][1:]
        wait(lambda: server.run(*check, net=net).returncode == 0 or process.poll() is not None, 180)
        assert process.poll() is None, (tmp_path / "mlflow.log").read_text()
        ready = time.monotonic() - began
        done = cpu.run(*cpu.entrypoint, *dfloc["command"], "--preset", "smoke", net=net)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "done, 0 to run" in done.stdout
        assert PASSWORD not in (tmp_path / "mlflow.log").read_text()
    env = os.environ | {"PGUSER": "mlflow", "PGPASSWORD": PASSWORD}
    query = "SELECT status, count(*) FROM runs GROUP BY status"
    told = subprocess.run([*database, f"--command={query}"], env=env, capture_output=True, text=True, check=True).stdout
    trials = len(list((cpu.files / "workspace/trials").glob("*/done.json")))
    assert trials > 5
    assert told.split() == [f"FINISHED|{trials + 1}"]
    assert list((server.files / "mlartifacts").rglob("index.html")), "the report is an artifact of the parent run"
    print(f"\nMLflow on PostgreSQL: ready after {ready:.0f} s")  # noqa: T201
