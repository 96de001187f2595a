"""What the Dockerfiles, .dockerignore and compose files say: checked without building anything."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement

from tests.docker.dockerfile import DOCKER, ROOT, Stage, context, environment, last, parse

NAMES = sorted(path.name for path in DOCKER.glob("Dockerfile.*"))
SECRET = re.compile(r"passw|secret|token|api_?key|credential", re.I)


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name.lower().replace("_", "-"): str(requirement.specifier) for requirement in found}


@pytest.fixture(params=NAMES)
def stages(request: pytest.FixtureRequest) -> list[Stage]:
    return parse((DOCKER / request.param).read_text())


def test_a_dockerfile_is_understood() -> None:
    text = "# c\nFROM a AS b\nENV X=1 PATH=/o:$PATH\nRUN one \\\n # between\n && two\nFROM c\nUSER me\n"
    first, second = parse(text)
    assert (first.base, first.name, second.base, second.name) == ("a", "b", "c", "")
    assert first.steps[1] == ("RUN", "one && two")
    assert environment(first.steps) == {"PATH": "/o:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "X": "1"}
    assert last(second.steps, "USER", "root") == "me"
    with pytest.raises(AssertionError, match="not understood: ADD"):
        parse("FROM a\nADD http://x /x\n")


def test_there_is_an_image_for_cpus_for_gpus_and_for_the_server() -> None:
    assert NAMES == ["Dockerfile.cpu", "Dockerfile.gpu", "Dockerfile.mlflow"]


def test_an_image_is_small_and_not_root(stages: list[Stage]) -> None:
    build, final = stages
    assert {build.base, final.base} == {"python:3.11-slim-bookworm"}
    assert last(final.steps, "USER", "root") not in ("root", "0")
    assert json.loads(last(final.steps, "ENTRYPOINT", ""))
    assert not any("pip" in step.rest for step in final.steps if step.word == "RUN")
    for step in build.steps:
        if "pip install" in step.rest:
            assert "--no-cache-dir" in step.rest
            assert "--constraint constraints.txt" in step.rest or "--no-deps" in step.rest
    assert [step.rest.split()[0] for step in final.steps if step.word == "COPY"] == ["--from=build"]


def test_sam2_is_built_alike_everywhere_after_torch_and_without_a_cuda_compiler() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extra,) = project["optional-dependencies"]["sam2"]
    assert Requirement(extra).specifier.contains(pins()["sam2"].removeprefix("=="))
    texts = [(DOCKER / f"Dockerfile.{name}").read_text() for name in ("cpu", "gpu")]
    texts += [(ROOT / name).read_text() for name in ("cluster.yaml", "cluster.onprem.yaml", "Makefile")]
    for text in texts:
        (line,) = (line for line in text.splitlines() if line.rstrip(" \\").endswith(" sam2"))
        command = line.partition("SAM2_BUILD_CUDA=0")[2]
        assert {"install", "--no-build-isolation"} <= set(command.split())
        first, second = (found.start() for found in re.finditer(r"(-c|--constraint) \S*constraints\.txt", text))
        assert first < text.index("SAM2_BUILD_CUDA=0") < second, "torch comes first"
    cpu = texts[0]
    assert cpu.index("SAM2_BUILD_CUDA") < cpu.index("uninstall"), "pip would bring back what is taken out"


def test_no_secret_enters_a_layer(stages: list[Stage]) -> None:
    for stage in stages:
        assert not SECRET.search(" ".join(step.rest for step in stage.steps))


def test_only_what_is_built_from_enters_the_context(tmp_path: Path) -> None:
    kept = {"constraints.txt", "LICENSE", "pyproject.toml", "README.md"}
    shutil.copy(ROOT / ".dockerignore", tmp_path)
    wanted = {*kept, "dfloc/a.py", "dfloc/data/b.py", "sweeps/x.yaml"}
    unwanted = {
        ".env",
        ".git/config",
        "docker/.env",
        "workspace/mlflow.db",
        "dfloc/__pycache__/a.pyc",
        "key.pem",
        "data/1.png",
    }
    for name in wanted | unwanted:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert {path.as_posix() for path in context(tmp_path)} == wanted
    assert kept <= {path.as_posix() for path in context(ROOT)}


def test_what_is_taken_out_for_cpus_is_what_constraints_pin() -> None:
    (run,) = (step.rest for step in parse((DOCKER / "Dockerfile.cpu").read_text())[0].steps if "uninstall" in step.rest)
    names = run.partition("uninstall --yes ")[2].partition(" &&")[0].split()
    assert names
    assert set(names) <= set(pins())
    other = (DOCKER / "Dockerfile.gpu").read_text()
    assert "uninstall" not in other
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in other


def test_the_server_is_the_client_s_version_and_its_driver_is_pinned() -> None:
    assert pins()["mlflow"].startswith("==")
    assert pins()["psycopg2-binary"].startswith("==")


@pytest.fixture
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((DOCKER / "compose.yaml").read_text()))


def test_passwords_come_from_the_environment_alone(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, key in (("postgres", "POSTGRES_PASSWORD"), ("mlflow", "PGPASSWORD")):
        assert services[name]["environment"][key].startswith("${POSTGRES_PASSWORD:?")
    (uri,) = (word for word in services["mlflow"]["command"] if "://" in word)
    assert uri == "--backend-store-uri=postgresql+psycopg2://mlflow@postgres:5432/mlflow"


def test_the_server_is_on_loopback_and_the_database_nowhere(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    assert all("ports" not in services[name] for name in ("postgres", "dfloc"))
    assert services["postgres"]["networks"] == ["store"]
    assert compose["networks"]["store"] == {"internal": True}
    assert "store" not in services["dfloc"].get("networks", [])


def test_services_wait_for_each_other_and_keep_what_they_write(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert all("test" in services[name]["healthcheck"] for name in ("postgres", "mlflow"))
    assert services["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["dfloc"]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    mounted = {volume.split(":")[0] for service in services.values() for volume in service["volumes"]}
    assert mounted == set(compose["volumes"])
    for name in ("mlflow", "dfloc"):
        final = parse((DOCKER / Path(services[name]["build"]["dockerfile"]).name).read_text())[-1]
        target = services[name]["volumes"][0].split(":")[1]
        (made,) = (step.rest for step in final.steps if step.word == "RUN")
        assert made.endswith(f"install --directory --owner {last(final.steps, 'USER', 'root')} {target}")


def test_a_study_of_ones_own_data_runs_without_a_gpu_and_fetches_weights_once(compose: dict[str, Any]) -> None:
    from dfloc.cli import cli

    header = (DOCKER / "compose.yaml").read_text().partition("\nname:")[0]
    (line,) = (line for line in header.splitlines() if "--data" in line)
    words = line.split(" dfloc ", 1)[1].split()
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None
    options = command.make_parser(click.Context(command)).parse_args(words[1:])[0]
    assert (options["data"], options["device"]) == ("/dolos", "cpu"), "preset paper asks for cuda"
    (volume,) = compose["services"]["dfloc"]["volumes"]
    assert compose["services"]["dfloc"]["environment"]["HF_HOME"].startswith(f"{volume.split(':')[1]}/")


def test_the_gpu_file_changes_the_image_and_asks_for_devices(compose: dict[str, Any]) -> None:
    over = yaml.safe_load((DOCKER / "compose.gpu.yaml").read_text())["services"]
    assert set(over) == {"dfloc"}
    assert over["dfloc"]["build"]["dockerfile"] == "docker/Dockerfile.gpu"
    (device,) = over["dfloc"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def test_base_images_name_a_version(compose: dict[str, Any]) -> None:
    assert re.fullmatch(r"postgres:\d+-alpine", compose["services"]["postgres"]["image"])


@pytest.mark.parametrize("name", ["Dockerfile.cpu", "Dockerfile.gpu"])
def test_the_step_that_lists_requirements_lists_those_of_pyproject(name: str, tmp_path: Path) -> None:
    steps = [step.rest for step in parse((DOCKER / name).read_text())[0].steps if step.word == "RUN"]
    (step,) = (step for step in steps if step.endswith("> requirements.txt"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    subprocess.run(["sh", "-c", step.replace("python", sys.executable, 1)], cwd=tmp_path, check=True)
    lines = (tmp_path / "requirements.txt").read_text().splitlines()
    assert {Requirement(line).name for line in lines} >= {"torch", "open_clip_torch", "ray", "mlflow", "click"}
