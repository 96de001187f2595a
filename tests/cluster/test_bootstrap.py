"""What Ray's own bootstrap makes of cluster.yaml, in an account of the test's own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dfloc.sweep.cluster import NodeKind, offered
from tests.cluster.account import FILLED_IN, GROUP, Account, connect

ROOT = Path(__file__).parent.parent.parent

pytest.importorskip("ray")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Account:
    monkeypatch.setenv("HOME", str(tmp_path))
    mine = Account()
    connect(mine, monkeypatch)
    return mine


def filled_in(**left: str) -> dict[str, Any]:
    text = (ROOT / "cluster.yaml").read_text()
    for name, value in (FILLED_IN | left).items():
        text = text.replace(name, value)
    config: dict[str, Any] = yaml.safe_load(text)
    return config


def bootstrap(config: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.commands import _bootstrap_config

    made: dict[str, Any] = _bootstrap_config(config, no_config_cache=True)
    return made


def launched(account: Account, config: dict[str, Any], kind: str) -> dict[str, Any]:
    """Return what Ray asks of EC2 to launch a node of a kind."""
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    node = config["available_node_types"][kind]["node_config"] | (config["head_node"] if kind == "head" else {})
    provider.create_node(node, {"ray-node-type": kind, "ray-user-node-type": kind, "ray-launch-config": "x"}, 1)
    name, asked = account.made[-1]
    assert name == "instance"
    return asked


def test_no_group_is_made_and_nothing_is_opened(account: Account) -> None:
    config = bootstrap(filled_in())
    groups = {name: kind["node_config"]["SecurityGroupIds"] for name, kind in config["available_node_types"].items()}
    assert groups == {"head": [GROUP], "gpu": [GROUP]}
    assert [name for name, _ in account.made] == ["key pair"]


@pytest.mark.parametrize("kind", ["head", "gpu"])
def test_without_our_group_ray_would_open_ssh_to_everybody(account: Account, kind: str) -> None:
    config = filled_in()
    del config["available_node_types"][kind]["node_config"]["SecurityGroupIds"]
    bootstrap(config)
    made = dict(account.made)
    assert "security group" in made
    assert "0.0.0.0/0" in str(made["opened"])


def test_the_head_is_no_spot_machine_and_the_workers_are(account: Account) -> None:
    config = bootstrap(filled_in())
    head, gpu = (launched(account, config, kind) for kind in ("head", "gpu"))
    assert (head["InstanceType"], gpu["InstanceType"]) == ("m6i.xlarge", "g5.xlarge")
    assert "InstanceMarketOptions" not in head
    assert gpu["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "IamInstanceProfile" in head
    assert "IamInstanceProfile" not in gpu, "a worker needs no rights in AWS"
    for asked in (head, gpu):
        assert asked["SecurityGroupIds"] == [GROUP]
        assert asked["MetadataOptions"] == {"HttpTokens": "required"}
        assert asked["BlockDeviceMappings"][0]["Ebs"]["Encrypted"]


def test_workers_come_with_work_and_only_they_have_gpus(account: Account) -> None:
    config = bootstrap(filled_in())
    head, gpu = (config["available_node_types"][kind] for kind in ("head", "gpu"))
    assert (head["max_workers"], gpu["min_workers"], gpu["max_workers"], config["max_workers"]) == (0, 0, 4, 4)
    assert (head["resources"]["GPU"], gpu["resources"]["GPU"]) == (0, 1)
    kinds = offered(config, 1)
    assert kinds is not None
    assert [(kind.name, kind.nodes, kind.resources["GPU"]) for kind in kinds] == [("gpu", 4, 1)]
    assert NodeKind.rooms(kinds[0], {"CPU": 1, "GPU": 0.25}) == 16
    assert not config["provider"]["cache_stopped_nodes"]
    assert config["head_setup_commands"] == config["setup_commands"], "Ray's default would be an unpinned boto3"


def test_a_group_that_is_not_filled_in_ends_before_a_machine_is_launched(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AssertionError):
        bootstrap(filled_in(FILL_IN_SECURITY_GROUP="FILL_IN_SECURITY_GROUP"))
    assert "Failed to detect a security group with id equal to any of the configured" in capsys.readouterr().err
    assert [name for name, _ in account.made] == ["key pair"]


def test_the_key_pair_is_kept_for_its_owner_alone(account: Account, tmp_path: Path) -> None:
    bootstrap(filled_in())
    (key,) = (tmp_path / ".ssh").iterdir()
    assert key.stat().st_mode & 0o777 == 0o600


def test_ec2_takes_what_ray_asks_of_it(account: Account) -> None:
    session = pytest.importorskip("botocore.session")
    from botocore.validate import ParamValidator

    shape = session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    config = bootstrap(filled_in())
    for kind in ("head", "gpu"):
        report = ParamValidator().validate(launched(account, config, kind), shape)
        assert not report.has_errors(), report.generate_report()


def test_a_file_that_is_not_filled_in_is_refused_at_once(tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    ray = Path(sys.executable).with_name("ray")
    environment = os.environ | {"HOME": str(tmp_path)}
    args = [str(ray), "up", "--yes", "--no-config-cache", "cluster.yaml"]
    done = subprocess.run(args, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "Provided region_name 'FILL_IN_REGION' doesn't match a supported format" in done.stdout + done.stderr
