import copy
import pickle

import pytest
import torch
from torch import nn

from dfloc.errors import ConfigError
from dfloc.models.base import device_of, freeze


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)))


def drift(module: nn.Module) -> float:
    """How far the BatchNorm statistics move when images pass."""
    norm = module.get_submodule("1.0")
    before = norm.running_mean.clone()
    module(torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0)))
    return float((norm.running_mean - before).abs().sum())


def test_open_network_drifts():
    assert drift(network().train()) > 0


def test_survives_train_on_itself_its_parts_and_its_parent():
    frozen = freeze(network())
    parent = nn.Sequential(frozen, nn.Linear(1, 1))
    for module in (frozen, *frozen.modules(), parent):
        assert module.train() is module
        assert not any(part.training for part in frozen.modules())
    assert parent.training
    assert parent[1].training
    assert drift(frozen) == 0
    assert frozen[1][0].num_batches_tracked == 0


def test_parameters_do_not_train_but_the_input_has_a_gradient():
    frozen = freeze(network())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    x = torch.randn(1, 2, 8, 8, requires_grad=True)
    frozen(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_copies_are_frozen_too():
    frozen = freeze(network())
    for other in (copy.deepcopy(frozen), pickle.loads(pickle.dumps(frozen))):
        assert other.train() is other
        assert drift(other) == 0
    assert frozen.state_dict().keys() == network().state_dict().keys()


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [device_of(name).index for name in ("cuda", "cuda:0", "cuda:1")] == [None, 0, 1]
    with pytest.raises(ConfigError, match='"cuda:2" was asked for, but torch sees 2 CUDA devices here'):
        device_of("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(ConfigError, match='"cuda" was asked for, but torch sees 0 CUDA devices here; use --device cpu'):
        device_of("cuda")
    with pytest.raises(ConfigError, match='unknown device "gpu"; use cpu or cuda'):
        device_of("gpu")
