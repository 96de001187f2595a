"""cluster.yaml and cluster.onprem.yaml: Ray's schema, what is open, what is secret, what their commands do."""

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfloc.cli.ui import ui

ROOT = Path(__file__).parent.parent.parent
FILES = ("cluster.yaml", "cluster.onprem.yaml")
DOC = ROOT / "docs" / "CLUSTER.md"


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return config


def commands(config: dict[str, Any]) -> list[str]:
    return [command for key, value in config.items() if key.endswith("_commands") for command in value]


@pytest.fixture(params=FILES)
def config(request: pytest.FixtureRequest) -> dict[str, Any]:
    return read(request.param)


def test_ray_takes_the_file(config: dict[str, Any]) -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    prepared = util.prepare_config(config)
    util.validate_config(prepared)
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        util.validate_config(prepared | {"start_commands": []})


def test_every_worker_of_a_fixed_list_is_started() -> None:
    util = pytest.importorskip("ray.autoscaler._private.util")
    config = read("cluster.onprem.yaml")
    node = util.prepare_config(config)["available_node_types"]["local.cluster.node"]
    assert node["min_workers"] == node["max_workers"] == len(config["provider"]["worker_ips"]) == 2


@pytest.mark.parametrize("name", [*FILES, "docs/CLUSTER.md"])
def test_nothing_is_open_and_nothing_secret(name: str) -> None:
    text = (ROOT / name).read_text()
    secrets = r"AKIA|ASIA|aws_(access|secret|session)|aws_credentials|BEGIN [A-Z ]*KEY|password|[0-9a-f]{32}"
    assert re.findall(secrets, text, re.IGNORECASE) == []
    assert re.findall(r"0\.0\.0\.0|::/0", text) == []
    hosts = re.findall(r"--(?:dashboard-)?host[= ](\S+)", text)
    assert set(hosts) <= {"127.0.0.1"}


def test_the_token_is_handed_out_and_asked_of_everyone(config: dict[str, Any]) -> None:
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    starts = [command for command in commands(config) if re.search(r"\bray start\b", command)]
    assert len(starts) == 2
    assert [command for command in starts if "RAY_AUTH_MODE=token ~/venv/bin/ray start" not in command] == []


def test_dashboard_and_mlflow_listen_on_loopback(config: dict[str, Any]) -> None:
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]
    assert next(option for option in ui.params if option.name == "host").default == "127.0.0.1"
    assert [command for command in commands(config) if "mlflow" in command] == []


def test_what_dfloc_is_built_from_travels(config: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    needed = {*wheel, project["project"]["readme"], *project["project"]["license-files"]}
    mounts = config["file_mounts"]
    sent = {source for place, source in mounts.items() if place == f"~/dfloc/{source}" and (ROOT / source).exists()}
    assert needed | {"pyproject.toml", "constraints.txt"} == sent
    (install,) = (command for command in config["setup_commands"] if "pip install" in command)
    assert "-c ~/dfloc/constraints.txt" in install
    extra = re.search(r"~/dfloc'\[(\w+)\]'", install)
    assert extra is not None
    assert extra.group(1) in project["project"]["optional-dependencies"]


def test_every_gap_is_explained(config: dict[str, Any]) -> None:
    text = DOC.read_text()
    gaps = set(re.findall(r"FILL_IN_\w+", yaml.safe_dump(config)))
    assert len(gaps) >= 4
    assert {gap for gap in gaps if f"`{gap}`" not in text} == set()


def test_every_command_is_one_that_a_shell_reads(config: dict[str, Any]) -> None:
    for command in commands(config):
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def shell(command: str, home: Path, **fakes: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a file in a home of its own, with scripts in place of some tools."""
    tools = home / "tools"
    tools.mkdir(exist_ok=True)
    for name, script in fakes.items():
        (tools / name).write_text(f"#!/bin/bash\n{script}\n")
        (tools / name).chmod(0o755)
    environment = {"HOME": str(home), "USER": "me", "PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True)


def test_a_shell_on_a_node_has_dfloc_token_and_workspace_once(config: dict[str, Any], tmp_path: Path) -> None:
    (command,) = (command for command in config["setup_commands"] if ".bashrc" in command)
    for _ in range(2):
        assert shell(command, tmp_path).returncode == 0
    assert len((tmp_path / ".bashrc").read_text().splitlines()) == 1
    said = shell('source ~/.bashrc; echo "$RAY_AUTH_MODE $DFLOC_WORKSPACE $PATH"', tmp_path).stdout.split()
    assert said[0] == "token"
    assert said[1].endswith("/workspace")
    assert said[2].startswith(f"{tmp_path}/venv/bin:")


def test_a_shared_folder_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    command = read("cluster.onprem.yaml")["setup_commands"][0]
    done = shell(command, tmp_path)
    assert (done.returncode, done.stderr) == (1, "FILL_IN_SHARED is not there, or cannot be written\n")
    assert shell(command.replace("FILL_IN_SHARED", str(tmp_path)), tmp_path).returncode == 0


@pytest.mark.parametrize(("mounted", "mounts"), [("true", 0), ("false", 1)])
def test_the_shared_file_system_is_mounted_once(tmp_path: Path, mounted: str, mounts: int) -> None:
    (command,) = (command for command in read("cluster.yaml")["setup_commands"] if "nfs4" in command)
    sudo = f'echo "$@" >> {tmp_path}/log'
    assert shell(command, tmp_path, sudo=sudo, mountpoint=mounted).returncode == 0
    calls = (tmp_path / "log").read_text().splitlines()
    asked = [call.split() for call in calls if call.startswith("mount ")]
    assert len(asked) == mounts
    assert all(call[-2:] == ["FILL_IN_NFS:/", "/mnt/dfloc"] for call in asked)
    assert calls[-1] == "chown me /mnt/dfloc"


def test_a_mount_that_fails_ends_the_start(tmp_path: Path) -> None:
    (command,) = (command for command in read("cluster.yaml")["setup_commands"] if "nfs4" in command)
    assert shell(command, tmp_path, sudo='test "$1" != mount', mountpoint="false").returncode != 0


def doc_commands(program: str) -> list[list[str]]:
    """Return the words of every command of a program that stands on a line of its own in docs/CLUSTER.md."""
    blocks = re.findall(r"```\n(.*?)```", DOC.read_text(), re.S)
    lines = [re.sub(r"^(\w+=\S+ )+", "", line) for block in blocks for line in block.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"{program} ")]


def test_the_documents_commands_have_the_options_that_they_use() -> None:
    import click
    from ray.scripts.scripts import cli as ray

    from dfloc.cli import cli as dfloc

    of_ray, of_dfloc = doc_commands("ray"), doc_commands("dfloc")
    of_dfloc += [shlex.split(words[-1])[1:] for words in of_ray if words[0] == "exec"]
    assert (len(of_ray), len(of_dfloc)) == (16, 4)
    for group, words in [*((ray, words) for words in of_ray), *((dfloc, words) for words in of_dfloc)]:
        context = click.Context(group)
        command = group.get_command(context, words[0])
        assert command is not None
        command.make_parser(click.Context(command, parent=context)).parse_args(words[1:])
