"""An AWS account of the test's own: what Ray's bootstrap finds there, and what it asks it to make."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

VPC, GROUP, NFS = "vpc-1", "sg-0123456789abcdef0", "fs-0123456789abcdef0.efs.eu-west-1.amazonaws.com"
FILLED_IN = {
    "FILL_IN_REGION": "eu-west-1",
    "FILL_IN_IMAGE": "ami-0123456789abcdef0",
    "FILL_IN_SECURITY_GROUP": GROUP,
    "FILL_IN_NFS": NFS,
}
MACHINES = {"m6i.xlarge": (4, 16, 0), "g5.xlarge": (4, 16, 1)}


class Account:
    """A double of boto3's ec2 and iam, with one security group and one public subnet.

    Attributes:
        made: name of a call that makes or opens something -> its arguments, in order.
    """

    def __init__(self) -> None:
        self.made: list[tuple[str, dict[str, Any]]] = []
        self.groups = [SimpleNamespace(id=GROUP, vpc_id=VPC, group_name="mine", ip_permissions=[{}])]
        self._subnet = SimpleNamespace(
            subnet_id="subnet-1", vpc_id=VPC, state="available", map_public_ip_on_launch=True, availability_zone="a"
        )

    def resource(self, name: str, *args: object, **kwargs: object) -> Any:
        return self if name == "ec2" else SimpleNamespace(InstanceProfile=self._profile)

    def client(self, *args: object, **kwargs: object) -> Any:
        kinds = [
            {
                "InstanceType": name,
                "VCpuInfo": {"DefaultVCpus": cpus},
                "MemoryInfo": {"SizeInMiB": gigabytes * 1024},
                **({"GpuInfo": {"Gpus": [{"Name": "A10G", "Count": gpus}]}} if gpus else {}),
            }
            for name, (cpus, gigabytes, gpus) in MACHINES.items()
        ]
        return SimpleNamespace(describe_instance_types=lambda: {"InstanceTypes": kinds})

    @property
    def meta(self) -> Any:
        return SimpleNamespace(client=SimpleNamespace(create_security_group=self._create_group))

    @property
    def subnets(self) -> Any:
        return SimpleNamespace(all=lambda: [self._subnet], filter=lambda Filters: [self._subnet])

    @property
    def security_groups(self) -> Any:
        return SimpleNamespace(filter=self._groups)

    @property
    def key_pairs(self) -> Any:
        return SimpleNamespace(filter=lambda Filters: [])

    @property
    def instances(self) -> Any:
        return SimpleNamespace(filter=lambda Filters: [])

    def create_key_pair(self, **asked: Any) -> Any:
        self.made.append(("key pair", asked))
        return SimpleNamespace(name=asked["KeyName"], key_material="private half")

    def create_instances(self, **asked: Any) -> list[Any]:
        self.made.append(("instance", asked))
        return [SimpleNamespace(id="i-1", instance_id="i-1", state_reason=None, state={"Name": "pending"})]

    def _groups(self, Filters: list[dict[str, Any]]) -> list[Any]:
        wanted = {each["Name"]: each["Values"] for each in Filters}
        return [
            group
            for group in self.groups
            if group.id in wanted.get("group-id", [group.id]) and group.vpc_id in wanted.get("vpc-id", [VPC])
        ]

    def _create_group(self, **asked: Any) -> None:
        self.made.append(("security group", asked))
        opened = SimpleNamespace(
            id="sg-new", vpc_id=VPC, group_name=asked["GroupName"], ip_permissions=[], authorize_ingress=self._open
        )
        self.groups.append(opened)

    def _open(self, **asked: Any) -> None:
        self.made.append(("opened", asked))

    def _profile(self, name: str) -> Any:
        return SimpleNamespace(load=lambda: None, roles=["role"], arn=f"arn:aws:iam::1:instance-profile/{name}")


def connect(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Ray's AWS code speak to the account; boto3 itself need not be installed."""
    for name in [name for name in sys.modules if name.startswith("ray.autoscaler._private.aws")]:
        monkeypatch.delitem(sys.modules, name)
    try:
        import boto3  # noqa: F401
    except ImportError:
        for name, module in _boto().items():
            monkeypatch.setitem(sys.modules, name, module)
    from ray.autoscaler._private.aws import config, node_provider, utils

    for part in (config, node_provider, utils):
        monkeypatch.setattr(part, "resource_cache", account.resource)
    monkeypatch.setattr(node_provider, "client_cache", account.client)


def _boto() -> dict[str, ModuleType]:
    """Return modules with the names that Ray imports of boto3."""
    names = {
        "boto3": {"__version__": "1.44.5"},
        "boto3.exceptions": {"ResourceNotExistsError": Exception},
        "boto3.resources": {},
        "boto3.resources.base": {"ServiceResource": object},
        "botocore": {},
        "botocore.client": {"BaseClient": object},
        "botocore.config": {"Config": object},
        "botocore.exceptions": {"ClientError": type("ClientError", (Exception,), {})},
    }
    made = {name: ModuleType(name) for name in names}
    for name, values in names.items():
        vars(made[name]).update(values)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(made[parent], child, made[name])
    return made
