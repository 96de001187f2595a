"""Grad-CAM: equal to what it is by definition and by hand, whatever the batch, and nothing is left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from dfloc import registry
from dfloc.config import DecoderSpec, LossSpec, TrialSpec
from dfloc.engine.batches import fuse
from dfloc.errors import ConfigError
from dfloc.features.store import recipe_for
from dfloc.models import classifiers, decoders, explain
from tests import small_clip
from tests.engine.fakes import make_spec

FAKE = torch.tensor([1, 1, 1])


def spec_of(*maps: str, task: str = "detect", **decoder: Any) -> TrialSpec:
    made = make_spec(loss=LossSpec(name="ce"), select="ap", task=task)
    changed = {"decoder": DecoderSpec(**decoder), "maps": tuple(recipe_for(name, "random:0") for name in maps)}
    return made.model_copy(update=changed)


def timm_of(model: str) -> TrialSpec:
    return spec_of("pixels", name="timm", model=model)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make()


def images(num: int = 3, side: int = 64) -> Tensor:
    return torch.rand(num, 3, side, side, generator=torch.Generator().manual_seed(5)) * 2 - 1


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return seeded(lambda: timm.create_model("resnet18", num_classes=2)).eval()


def scaled(cam_B1hw: Tensor, size: int) -> Tensor:
    """What a weighed sum comes to, image by image."""
    made = []
    for cam_hw in cam_B1hw[:, 0]:
        cam_HW = functional.interpolate(cam_hw.clamp(min=0)[None, None], (size, size), mode="bilinear")
        cam_HW = cam_HW - cam_HW.min()
        made.append(cam_HW / (1e-7 + cam_HW.max()))
    return torch.cat(made)


@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_of_a_linear_head_on_a_mean_pooled_map_it_is_cam(scale: float) -> None:
    """Zhou et al. 2016: the map weighed by the head's own weights of the class."""
    head: Any = decoders.build(
        DecoderSpec(name="linear", pool="mean"), (registry.MapSpec(7, 6, 6),), torch.Generator().manual_seed(1), 3
    )
    model = nn.Sequential(nn.Identity(), head)
    x_BCHW = scale * torch.randn(3, 7, 6, 6, generator=torch.Generator().manual_seed(2))
    target_B = torch.tensor([1, 2, 1])
    found = explain.grad_cam(model, model[0], x_BCHW, target_B, 24)
    weight_KC = head.layers.head.weight.detach().flatten(1)
    cam_B1hw = torch.einsum("bc,bchw->bhw", weight_KC[target_B], x_BCHW)[:, None] / 36
    torch.testing.assert_close(found, scaled(cam_B1hw, 24), rtol=0, atol=1e-6)
    assert found.flatten(1).amax(1).min() > 0.9


def test_it_is_what_hooks_by_hand_give(resnet: nn.Module) -> None:
    x_BCHW, kept = images(), dict[str, Tensor]()

    def keep(_: nn.Module, __: object, said: Tensor) -> Tensor:
        kept["map"] = said
        said.register_hook(lambda grad: kept.update(grad=grad))
        return said

    hook = resnet.layer3.register_forward_hook(keep)  # type: ignore[union-attr, operator]
    resnet(x_BCHW)[:, 1].sum().backward()
    hook.remove()
    resnet.zero_grad()
    weight_BC11 = kept["grad"].mean((2, 3), keepdim=True)
    by_hand = scaled((weight_BC11 * kept["map"]).sum(1, keepdim=True).detach(), 64)
    found = explain.grad_cam(resnet, resnet.layer3, x_BCHW, FAKE, 64)  # type: ignore[arg-type]
    torch.testing.assert_close(found, by_hand, rtol=0, atol=1e-5)


def test_the_layer_and_the_class_matter(resnet: nn.Module) -> None:
    found = {
        (name, target): explain.grad_cam(resnet, resnet.get_submodule(name), images(), torch.full((3,), target), 64)
        for name in ("layer2", "layer4")
        for target in (0, 1)
    }
    maps = list(found.values())
    assert all((one - other).abs().max() > 0.1 for k, one in enumerate(maps) for other in maps[:k])


def test_an_image_does_not_depend_on_those_beside_it(resnet: nn.Module) -> None:
    layer: Any = resnet.layer4
    together = explain.grad_cam(resnet, layer, images(), FAKE, 64)
    alone = [explain.grad_cam(resnet, layer, image[None], FAKE[:1], 64) for image in images()]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-5)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_model_is_as_it_was(frozen: bool) -> None:
    net: Any = seeded(lambda: timm.create_model("resnet18", num_classes=2))
    net.train().requires_grad_(not frozen)
    net.layer1.eval()  # in part, as one whose BatchNorm is frozen
    net.fc.weight.grad = torch.full_like(net.fc.weight, 7)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    found = explain.grad_cam(net, net.layer4, images(), FAKE, 64)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert {parameter.requires_grad for parameter in net.parameters()} == {not frozen}
    assert [name for name, parameter in net.named_parameters() if parameter.grad is not None] == ["fc.weight"]
    assert torch.equal(net.fc.weight.grad, torch.full_like(net.fc.weight, 7))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert not found.requires_grad
    net.eval().requires_grad_(True)
    torch.testing.assert_close(explain.grad_cam(net, net.layer4, images(), FAKE, 64), found, rtol=0, atol=1e-6)


def test_the_model_is_as_it_was_where_the_layer_does_not_reach_the_class() -> None:
    net: Any = seeded(lambda: timm.create_model("resnet18", num_classes=2)).train()
    net.aside = nn.Conv2d(1, 1, 1)
    with pytest.raises(Exception, match=r".+"):
        explain.grad_cam(net, net.aside, images(), FAKE, 64)
    assert net.training
    assert net.conv1.weight.requires_grad
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("value", [0.0, -1.0, 4e-8])
def test_a_map_of_nothing_stays_nothing(value: float) -> None:
    """Neither NaN, nor stretched to 1 as by a last division by the maximum."""
    head: Any = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2, bias=False))
    nn.init.ones_(head[3].weight)
    x_BCHW = torch.zeros(2, 1, 4, 4)
    x_BCHW[:, :, 1, 1] = value * 16
    found = explain.grad_cam(head, head[0], x_BCHW, FAKE[:2], 16)
    assert found.isfinite().all()
    assert found.max() == 0 if value <= 0 else 0.1 < found.max() < 0.5


def test_what_is_explained_is_the_likeliest_of_the_classes_that_are_not_real() -> None:
    logit_BK = torch.tensor([[5.0, 1.0, 2.0], [0.0, 3.0, 2.0]])
    assert explain.targets(logit_BK).tolist() == [2, 1]
    assert explain.targets(logit_BK[:, :2]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("spec", "asked", "layer"),
    [
        (timm_of("xception41"), None, "blocks.10"),
        (timm_of("legacy_xception"), None, "block11"),
        (timm_of("resnet18"), None, "layer4"),
        (timm_of("resnet18"), "layer2.1.conv1", "layer2.1.conv1"),
        (spec_of("clip-vit-l14/projected", name="linear"), None, "layer22"),
        (spec_of("clip-vit-l14/projected", name="linear"), "clip-vit-l14/layer3", "layer3"),
        (spec_of("clip-rn50/projected", name="linear"), None, "layer4"),
        (spec_of("sam-vit-b/pooled", name="linear"), None, "image_embed"),
        (spec_of("sam2.1-small/pooled", name="linear"), None, "image_embed"),
        (spec_of("srm/stats", "srm/variance", name="linear", pool="mean+max"), None, "maps"),
        (spec_of("clip-vit-l14/layer20", name="linear", pool="mean"), "maps", "maps"),
        (spec_of("srm/absolute", name="small"), None, "features"),
        (spec_of("srm/absolute", name="small"), "features", "features"),
    ],
    ids=lambda value: value.maps[0].map if isinstance(value, TrialSpec) else str(value),
)
def test_layers(spec: TrialSpec, asked: str | None, layer: str) -> None:
    assert explain.layer_of(spec, asked) == layer


@pytest.mark.parametrize(("model", "layer"), [("xception41", "blocks.10"), ("legacy_xception", "block11")])
def test_the_two_xceptions_are_explained_at_stride_16(model: str, layer: str) -> None:
    spec = DecoderSpec(name="timm", model=model)
    assert (classifiers.default_layer(spec), classifiers.layers(spec)[layer]) == (layer, (1, 728, 19, 19))


@pytest.mark.parametrize(
    ("spec", "asked", "message"),
    [
        (timm_of("resnet18"), "layr3", r'unknown layer of resnet18 "layr3"; did you mean "layer3"\? known: .*layer4'),
        (timm_of("legacy_xception"), "block111", r'did you mean "block11"\?'),
        (timm_of("resnet18"), "fc", r'"fc" of resnet18 gives 2, expected a map, .*use one of conv1, .*layer4'),
        (timm_of("vit_base_patch16_siglip_256"), None, r'"blocks.11" of vit_base_patch16_siglip_256 gives 256x768'),
        (timm_of("resnet18"), "", r'unknown layer of resnet18 ""'),
        (spec_of("srm/stats", name="linear", pool="mean"), "layer4", r'unknown layer of a head on srm/stats "layer4"'),
        (spec_of("srm/stats", name="linear", pool="mean"), "m" * 9_000, r"unknown layer of a head on srm/stats"),
        (spec_of("clip-vit-l14/projected", name="linear"), "layer23", r'no gradient of clip-vit-l14/projected reaches '
         r'"layer23" \(its patches have none, the CLS token alone is read\); use one of layer22, layer21'),
        (spec_of("clip-vit-l14/projected", name="linear"), "layer24", r'unknown layer of clip-vit-l14 "layer24"'),
        (spec_of("sam2.1-small/pooled", name="linear"), "high_res_feats.0", r"no gradient .* use one of image_embed"),
        (spec_of("clip-vit-l14/layer20", name="linear", pool="cls"), None, r"reads the CLS token .* use pool: mean"),
        (spec_of("clip-rn50/projected", "sam-vit-b/pooled", name="linear"), None, r"a layer is of one backbone"),
        (spec_of("srm/stats", name="prior"), None, r"decoder prior looks at no image, .*explain: none"),
        (spec_of("srm/stats", name="small"), "feature", r'layer of small "feature"; did you mean "features"\? known:'),
        (spec_of("srm/stats", name="small-attention"), None, r"decoder small-attention gives a map itself, .*none"),
        (spec_of("srm/stats", name="linear", task="localize"), None, r"task localize gives a map itself"),
    ],
    ids=lambda value: value.maps[0].map if isinstance(value, TrialSpec) else str(value)[:30],
)  # fmt: skip
def test_what_cannot_explain_is_refused_with_what_can(spec: TrialSpec, asked: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        explain.layer_of(spec, asked)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    small_clip.register(folder)
    return folder


@pytest.mark.parametrize("name", ["clip:small-vit", "clip:small-resnet", "sam-tiny-224"])
def test_a_backbone_goes_on_from_its_map_and_a_gradient_reaches_it(name: str, small: Path) -> None:
    backbone: Any = registry.find("backbone", name)(name, "random:1", "cpu")
    [(vector, layers)] = registry.backbone(name).reached.items()
    size = backbone.input_size
    pixels_BCHW = torch.randint(256, (2, 3, size, size), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    for layer in layers:
        found = backbone(pixels_BCHW, [layer, vector])
        block = found[layer].clone().requires_grad_()
        again_BC = backbone.after(layer, block, [vector])[vector]
        torch.testing.assert_close(again_BC, found[vector], rtol=1e-4, atol=1e-5)
        (grad,) = torch.autograd.grad(again_BC[:, 0].sum(), block)
        assert fuse([grad], [backbone.maps[layer]]).abs().amax() > 0  # of the cells, not of the CLS token alone


def test_the_patches_of_the_last_block_have_no_gradient(small: Path) -> None:
    """Why it is refused: a head on the CLS token leaves a map of zeros."""
    name = "clip:small-vit"
    backbone: Any = registry.find("backbone", name)(name, "random:1", "cpu")
    row = registry.backbone(name)
    assert (row.reached["projected"][0], row.reached.keys()) == ("layer3", {"projected"})
    block = backbone(torch.zeros(1, 3, 32, 32), ["layer4"])["layer4"].clone().requires_grad_()
    (grad,) = torch.autograd.grad(backbone.after("layer4", block, ["projected"])["projected"].sum(), block)
    assert grad[:, 0].abs().max() > 0
    assert grad[:, 1:].abs().max() == 0
    assert registry.backbone("clip:small-timm-vit").reached.get("projected", ()) == ()
    with pytest.raises(ConfigError, match="backbone clip:small-timm-vit says no map from which it can compute"):
        explain.layer_of(spec_of("clip:small-timm-vit/projected", name="linear"), None)
