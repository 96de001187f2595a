import json
import struct
from pathlib import Path

import pytest
import torch
from torch import nn
from upath import UPath

from dfloc.config import TrialSpec
from dfloc.engine import checkpoint
from dfloc.errors import WorkspaceError
from tests.engine.fakes import make_member, make_spec


@pytest.fixture
def path(tmp_path: Path) -> UPath:
    return UPath(tmp_path / "w.safetensors")


def decoder(seed: int = 0, **changes) -> nn.Module:
    return make_member(make_spec(seed=seed, decoder=changes)).decoder


def saved(path: UPath, one: nn.Module, spec: TrialSpec) -> None:
    path.write_bytes(checkpoint.to_bytes(checkpoint.weights_of(one), spec))


def test_weights_come_back_to_the_last_bit(path: UPath) -> None:
    one, other = decoder(seed=1), decoder(seed=2)
    assert not torch.equal(one.layers.head.weight, other.layers.head.weight)
    saved(path, one, make_spec())
    checkpoint.load(path, other)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_file_says_what_it_is(path: UPath) -> None:
    """Read as the format's own description has it: eight bytes of length, then a JSON header."""
    saved(path, decoder(), make_spec(seed=5))
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    assert TrialSpec.model_validate_json(header["__metadata__"]["spec"]) == make_spec(seed=5)


def test_a_missing_tensor_is_named(path: UPath) -> None:
    saved(path, decoder(standardize=False), make_spec())
    with pytest.raises(WorkspaceError, match=r"missing: layers\.standardize\.mean, layers\.standardize\.deviation;"):
        checkpoint.load(path, decoder())


def test_an_unexpected_tensor_is_named(path: UPath) -> None:
    saved(path, decoder(), make_spec())
    names = r"layers\.standardize\.deviation, layers\.standardize\.mean"
    with pytest.raises(WorkspaceError, match=f"unexpected: {names};"):
        checkpoint.load(path, decoder(standardize=False))


def test_a_shape_is_named_with_what_was_expected(path: UPath) -> None:
    saved(path, decoder(channels=(4, 8)), make_spec())
    before = decoder(seed=3)
    weight = before.layers.head.weight.clone()
    with pytest.raises(WorkspaceError, match=r"layers\.conv2_1\.weight \[8, 4, 5, 5\] instead of \[4, 4, 5, 5\]"):
        checkpoint.load(path, before)
    assert torch.equal(before.layers.head.weight, weight)


def test_a_long_list_is_cut(path: UPath) -> None:
    saved(path, nn.Linear(1, 1), make_spec())
    with pytest.raises(WorkspaceError, match=r"and \d+ more"):
        checkpoint.load(path, decoder())


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_refused(path: UPath, kept: int) -> None:
    saved(path, decoder(), make_spec())
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(WorkspaceError, match=r"w\.safetensors are damaged"):
        checkpoint.load(path, decoder())


@pytest.mark.parametrize("content", [b"no weights at all", b"\xff" * 64, b"PK\x03\x04" + bytes(100)])
def test_another_kind_of_file_is_refused(path: UPath, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(WorkspaceError, match="are damaged"):
        checkpoint.load(path, decoder())


def test_a_missing_file_is_named(path: UPath) -> None:
    with pytest.raises(WorkspaceError, match=r"no weights at .*w\.safetensors"):
        checkpoint.load(path, decoder())
