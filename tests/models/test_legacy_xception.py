"""Whole Xceptions with the heads of Dolos: sizes, what they compute, and the files that they begin from."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.features.weights import ATTENTION, WeightsIndex
from dfloc.models import classifiers, decoders, legacy_xception, tensors
from dfloc.models.base import outputs
from dfloc.models.xception import enlarged
from dfloc.registry import map_spec
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory

PIXELS, LARGE = (map_spec("pixels"),), (map_spec("pixels299"),)
FCN = DecoderSpec(name="xception-fcn", block=11)
ATTENTIVE = DecoderSpec(name="xception-attention", block=7)


def made(spec: DecoderSpec, num_classes: int | None = None, seed: int = 0, maps: Any = PIXELS, **fields: Any) -> Any:
    changed = spec.model_copy(update=fields)
    return decoders.build(changed, maps, torch.Generator().manual_seed(seed), num_classes).eval()


def on_meta(spec: DecoderSpec, num_classes: int | None = None) -> nn.Module:
    with torch.device("meta"):
        return decoders.build(spec, PIXELS, torch.Generator("cpu"), num_classes)


@cache
def attentive() -> Any:
    return made(ATTENTIVE, 2)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def image() -> Tensor:
    return torch.randint(256, (1, 3, 256, 256), generator=torch.Generator().manual_seed(3)).float()


def ffd_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model by the names that FFD's authors give them."""
    named = {legacy_xception._bare(name): value.clone() for name, value in model.state_dict().items()}
    found = {}
    for name, value in named.items():
        name = name.replace("map.conv1", "map.c.c").replace("map.pointwise", "map.c.pointwise")
        name = name.replace(".conv1.", ".c.").replace("skipbn", "skip_bn")
        found["last_linear" + name[2:] if name.startswith("fc.") else name] = value
    return found


def test_their_sizes() -> None:
    """timm's own network has 20,811,050 with two classes; the map is 9 x 728 + 728, and stands after block 7."""
    assert count(on_meta(ATTENTIVE, 2)) == 20_811_050 + 9 * 728 + 728 == 20_818_330
    trunk = timm.create_model("legacy_xception")
    parts = [part for name, part in trunk.named_children() if not name.endswith(("12", "3", "4", "fc"))]
    until_11 = sum(count(part) for part in parts) + sum(count(trunk.get_submodule(f"block{k}")) for k in (3, 4))
    assert count(on_meta(FCN)) == until_11 + count(FCNHead(728, 2))
    until_7 = until_11 - sum(count(trunk.get_submodule(f"block{k}")) for k in (8, 9, 10, 11))
    assert count(on_meta(ATTENTIVE)) == until_7 + 10 * 728


def test_maps_are_19_by_19() -> None:
    x_BCHW = torch.zeros(2, 3, 256, 256, device="meta")
    assert on_meta(FCN).eval()(x_BCHW).shape == (2, 1, 19, 19)
    said = outputs(on_meta(ATTENTIVE, 3).eval()(x_BCHW))
    assert [part.shape for part in said if part is not None] == [(2, 1, 19, 19), (2, 3)]
    alone = outputs(on_meta(ATTENTIVE).eval()(x_BCHW))
    assert (alone.image_BK, alone.map_B1HW.shape) == (None, (2, 1, 19, 19))  # type: ignore[union-attr]


def test_an_open_map_leaves_timms_network() -> None:
    """Where the sigmoid is 1 everywhere the logits are those of timm's own model with the same weights."""
    model = attentive()
    network = timm.create_model("legacy_xception", num_classes=2).eval()
    own = {legacy_xception._bare(name): value for name, value in model.state_dict().items()}
    network.load_state_dict({name: value for name, value in own.items() if not name.startswith("map.")})
    large_BCHW = enlarged(image()) / 127.5 - 1
    with torch.no_grad():
        seen_BCHW = model.before(large_BCHW)
        torch.testing.assert_close(model.after(seen_BCHW), network(large_BCHW), rtol=1e-3, atol=1e-4)
        said = model(image())
        torch.testing.assert_close(said.map_B1HW, model.map(seen_BCHW), rtol=1e-3, atol=1e-4)
        half_BCHW = seen_BCHW / (1 + (-model.map(seen_BCHW)).exp())
        torch.testing.assert_close(said.image_BK, model.after(half_BCHW), rtol=1e-3, atol=1e-4)
        assert torch.equal(made(ATTENTIVE, 2, maps=LARGE)(enlarged(image())).map_B1HW, said.map_B1HW)


def test_the_head_is_torchvisions() -> None:
    model = made(FCN)
    head = FCNHead(728, 2).eval()
    head.load_state_dict(dict(zip(head.state_dict(), model.head.state_dict().values(), strict=True)))
    features_BCHW = torch.randn(2, 728, 19, 19, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model.head(features_BCHW), head(features_BCHW))
        logit_B2HW = model.head(model.trunk(enlarged(image()) / 127.5 - 1))
        torch.testing.assert_close(model(image()), logit_B2HW[:, 1:] - logit_B2HW[:, :1], rtol=1e-3, atol=1e-4)
    assert [layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)] == [0.1]


def test_options_and_seed() -> None:
    first, again, other = made(FCN), made(FCN), made(FCN, seed=1)
    assert tensors.digest(first.state_dict()) == tensors.digest(again.state_dict())
    assert not torch.equal(first.trunk.conv1.weight, other.trunk.conv1.weight)
    with_prior = made(FCN, prior=0.2)
    nn.init.zeros_(with_prior.head[-1].weight)
    torch.testing.assert_close(with_prior(image()).sigmoid(), torch.full((1, 1, 19, 19), 0.2))
    for spec in (FCN, ATTENTIVE):
        frozen = made(spec, batch_norm="frozen").train()
        assert not any(layer.training for layer in frozen.modules() if isinstance(layer, nn.BatchNorm2d))
        with pytest.raises(ConfigError, match=rf'"{spec.name}" needs a block, 1 to 12: {{name: {spec.name}, block: '):
            made(spec, block=None)
        with pytest.raises(ConfigError, match=r"on maps: \[pixels\] or \[pixels299\]; it cannot read 66x32x32"):
            made(spec, maps=(map_spec("srm/stats"),))
    assert on_meta(FCN.model_copy(update={"block": 4})).eval()(image().to("meta")).shape == (1, 1, 19, 19)
    shallow = on_meta(ATTENTIVE.model_copy(update={"block": 2}))
    assert outputs(shallow.eval()(image().to("meta"))).map_B1HW.shape == (1, 1, 37, 37)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="have their map after block 7; use block: 7, or random"):
        made(ATTENTIVE, block=6, weights="ffd")


@pytest.mark.parametrize("nested", [True, False])
def test_ffds_file_is_read_by_its_own_names(tmp_path: Path, nested: bool) -> None:
    given = ffd_of(attentive())
    assert {"block1.rep.0.c.weight", "block1.skip_bn.bias", "last_linear.weight", "map.c.c.weight"} < given.keys()
    path = tmp_path / "xcp_reg.tar"
    torch.save({"net": given, "epoch": 3} if nested else {f"module.{name}": each for name, each in given.items()}, path)
    found = legacy_xception.weights(legacy_xception.MODEL, str(path))
    model = made(ATTENTIVE, 2, seed=5)
    assert not torch.equal(model.map.pointwise.weight, attentive().map.pointwise.weight)
    model.begin_from(found)
    for name, value in attentive().state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    three, own = made(ATTENTIVE, 3, seed=5), made(ATTENTIVE, 3, seed=5).after.fc.weight
    three.begin_from(found)
    assert torch.equal(three.after.fc.weight, own), "another number of classes keeps the last layer as it was drawn"
    assert torch.equal(three.before.conv1.weight, attentive().before.conv1.weight)
    alone = made(ATTENTIVE, seed=5)
    alone.begin_from(found)
    assert torch.equal(alone.map.conv1.weight, attentive().map.conv1.weight)


def test_a_tensor_that_is_missing_or_left_over_is_refused_with_its_name(tmp_path: Path) -> None:
    given, path = ffd_of(attentive()), tmp_path / "odd.pth"
    for change, words in (
        ({"map.c.c.weight": None}, r"do not fit xception-attention: it lacks map\.conv1\.weight; give FFD's xcp_reg"),
        ({"extra.weight": torch.ones(3)}, r"the model has no extra\.weight"),
        ({"last_linear.bias": torch.ones(5)}, r"fc\.bias is 5, expected 2"),
    ):
        torch.save({name: value for name, value in (given | change).items() if value is not None}, path)
        with pytest.raises(ConfigError, match=words):
            legacy_xception.weights(legacy_xception.MODEL, str(path))


def test_what_is_no_file_says_which_one_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        ConfigError, match=r'weights "ffd" cannot be fetched: .* xcp_reg.tar .*; put it at .*/checkpoints'
    ):
        legacy_xception.weights(legacy_xception.MODEL, "ffd")
    with pytest.raises(ConfigError, match='unknown weights of xception-attention "imagenet"; known: ffd'):
        legacy_xception.weights(legacy_xception.MODEL, "imagenet")
    (tmp_path / "checkpoints").mkdir()
    torch.save({"net": ffd_of(attentive())}, tmp_path / "checkpoints" / "xcp_reg.tar")
    found = legacy_xception.weights(legacy_xception.MODEL, "ffd")
    assert torch.equal(found["map.pointwise.weight"], attentive().map.pointwise.weight)


def test_the_index_knows_ffds_by_digest_and_the_trunk_by_timms(tmp_path: Path) -> None:
    workspace, path = Workspace(tmp_path / "workspace"), tmp_path / "xcp_reg.tar"
    torch.save({"net": ffd_of(attentive())}, path)
    known = Inventory(workspace)
    digest = known.encoder(ATTENTIVE.model_copy(update={"weights": str(path)}))
    assert digest is not None
    found = WeightsIndex(workspace).encoder(legacy_xception.MODEL, digest, ATTENTION)
    assert tensors.digest(found) == digest
    assert known.encoder(ATTENTIVE) is known.encoder(FCN.model_copy(update={"weights": "random"})) is None
    timms = DecoderSpec(name="timm", model="legacy_xception", weights="random:3")
    assert known.encoder(timms) == known.encoder(FCN.model_copy(update={"weights": "random:3"})) == "random:3"
    model = made(FCN)
    model.begin_from(classifiers.weights("legacy_xception", "random:3"))
    wanted = classifiers.weights("legacy_xception", "random:3")
    assert torch.equal(model.trunk.block11.rep[1].pointwise.weight, wanted["block11.rep.1.pointwise.weight"])
    lacking = {name: value for name, value in wanted.items() if name != "bn1.bias"}
    with pytest.raises(ConfigError, match=r"weights do not fit the model: it lacks bn1\.bias"):
        model.begin_from(lacking)
