import math

import pytest
import torch
from torch import nn

from dfloc import registry
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.models import encoders, smp
from dfloc.models.decoders import build, needs_two
from dfloc.registry import MapSpec, map_spec
from tests.contracts.decoder import DecoderContract

PIXELS = (map_spec("pixels"),)
SPEC = DecoderSpec(name="smp", architecture="fpn", encoder="mobilenet_v2")


def made(seed: int = 0, **fields: object) -> smp.Segmenter:
    return build(SPEC.model_copy(update=fields), PIXELS, torch.Generator().manual_seed(seed))


def images(num: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (num, 3, 256, 256), generator=torch.Generator().manual_seed(3)).float()


class TestFpn(DecoderContract):
    spec, maps, num = SPEC, PIXELS, 2


class TestUnetWithFrozenBatchNorm(DecoderContract):
    spec = DecoderSpec(name="smp", architecture="unet", encoder="resnet18", batch_norm="frozen", prior=0.2)
    maps, num = PIXELS, 2


@pytest.mark.parametrize(
    ("architecture", "encoder"),
    [("unetplusplus", "resnet50"), ("fpn", "inceptionv4"), ("unet", "mit_b0"), ("upernet", "tu-convnext_atto")],
)
def test_the_architectures_and_encoders_of_the_library_are_built(architecture, encoder):
    smp.check(DecoderSpec(name="smp", architecture=architecture, encoder=encoder))


def test_an_architecture_changes_what_stands_on_the_encoder_and_an_encoder_what_it_stands_on():
    fpn, unet, other = made(), made(architecture="unet"), made(encoder="resnet18")
    assert type(fpn.net).__name__ == "FPN"
    assert type(unet.net).__name__ == "Unet"
    assert fpn.net.encoder.state_dict().keys() == unet.net.encoder.state_dict().keys()
    assert fpn.net.encoder.state_dict().keys() != other.net.encoder.state_dict().keys()


def test_weights_are_the_librarys_drawn_from_the_generator_alone():
    first, other = made(seed=1), made(seed=2)
    before = torch.random.get_rng_state()
    torch.rand(7)
    disturbed = torch.random.get_rng_state()
    again = made(seed=1)
    assert torch.equal(torch.random.get_rng_state(), disturbed)
    torch.random.set_rng_state(before)
    name = "encoder.features.0.0.weight"
    assert torch.equal(first.net.state_dict()[name], again.net.state_dict()[name])
    assert not torch.equal(first.net.state_dict()[name], other.net.state_dict()[name])
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "mean", "std"),
    [("mobilenet_v2", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), ("xception", (0.5,) * 3, (0.5,) * 3)],
)
def test_pixels_are_normalised_as_the_encoder_wants_them(encoder, mean, std):
    segmenter = made(encoder=encoder).eval()
    x_BCHW = images(1)
    moved = (x_BCHW / 255 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        torch.testing.assert_close(segmenter(x_BCHW), segmenter.net(moved))


def test_begins_from_an_encoders_weights_and_their_normalisation():
    segmenter, given = made(), encoders.weights("mobilenet_v2", "random:9")
    head = segmenter.net.segmentation_head[0].weight.clone()
    given["mean"] = torch.tensor([0.1, 0.2, 0.3])
    segmenter.begin_from(given)
    state = segmenter.net.encoder.state_dict()
    assert all(torch.equal(state[name], value) for name, value in given.items() if name not in ("mean", "std"))
    assert torch.equal(segmenter.net.segmentation_head[0].weight, head)
    assert segmenter.state_dict()["mean"].tolist() == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize("architecture", ["fpn", "unetplusplus", "deeplabv3plus"])
def test_prior_sets_the_share_of_fake_pixels_at_which_it_starts(architecture):
    segmenter = made(architecture=architecture, prior=0.18).eval()
    head = [layer for layer in segmenter.net.segmentation_head.modules() if isinstance(layer, nn.Conv2d)][-1]
    assert head.bias.item() == pytest.approx(math.log(0.18 / 0.82))
    nn.init.zeros_(head.weight)
    with torch.no_grad():
        prob_B1HW = segmenter(images(1)).sigmoid()
    torch.testing.assert_close(prob_B1HW, torch.full_like(prob_B1HW, 0.18))


@pytest.mark.parametrize("mode", ["train", "frozen"])
def test_frozen_batch_norm_stays_as_it_is(mode):
    segmenter = made(batch_norm=mode).train()
    norms = [layer for layer in segmenter.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [layer.running_mean.clone() for layer in norms]
    segmenter(images()).mean().backward()
    same = [torch.equal(layer.running_mean, old) for layer, old in zip(norms, before, strict=True)]
    assert all(same) if mode == "frozen" else not any(same)
    assert all((layer.weight.grad is None) == (mode == "frozen") for layer in norms)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architecture": "unet++"}, 'unknown architecture "unet[+][+]"; did you mean "unet"[?] known: deeplabv3'),
        ({"encoder": "resnet5"}, 'unknown encoder "resnet5"; did you mean "resnet50"'),
        ({"encoder": None}, "needs an architecture and an encoder: {name: smp, architecture: unetplusplus"),
        ({"architecture": None}, "needs an architecture and an encoder"),
        ({"architecture": "unetplusplus", "encoder": "mit_b0"}, "unetplusplus cannot be built on the encoder mit_b0"),
        ({"architecture": "pan", "encoder": "inceptionv4"}, "does not support dilated mode .*choose another encoder"),
        ({"architecture": "unet", "encoder": "tu-vit_tiny_patch16_224"}, "Unsupported model downsampling pattern"),
    ],
)
def test_one_clear_error_for_what_cannot_be_built(fields, words):
    with pytest.raises(ConfigError, match=words):
        smp.check(SPEC.model_copy(update=fields))
    with pytest.raises(ConfigError, match=words):
        made(**fields)


@pytest.mark.parametrize("maps", [(MapSpec(66, 32, 32),), (*PIXELS, *PIXELS), (MapSpec(3, 128, 128),)])
def test_reads_pixels_alone(maps):
    with pytest.raises(ConfigError, match=r'decoder "smp" is trained end to end on maps: \[pixels\]; it cannot read'):
        build(SPEC, maps, torch.Generator())


LONE = {"deeplabv3", "deeplabv3plus", "pan", "upernet"}
ON = {"dpt": "tu-vit_tiny_patch16_224"}


def steps(spec: DecoderSpec, maps: tuple[MapSpec, ...], num: int) -> bool:
    """Return whether a decoder takes a real training step on so many images."""
    net = build(spec, maps, torch.Generator().manual_seed(0)).train()
    grid = (1, maps[0].height * maps[0].width + 1) if spec.name == "attention" else maps[0][1:3]
    try:
        net(torch.rand(num, sum(one.channels for one in maps), *grid)).mean().backward()
    except ValueError as error:
        return "more than 1 value per channel" not in str(error)
    return True


@pytest.mark.parametrize("architecture", list(encoders.library().MODEL_ARCHITECTURES_MAPPING))
def test_which_architectures_cannot_be_trained_on_one_image_is_found_by_trying(architecture):
    spec = DecoderSpec(name="smp", architecture=architecture, encoder=ON.get(architecture, "mobilenet_v2"))
    assert needs_two(spec, PIXELS) is (architecture in LONE)
    assert steps(spec, PIXELS, 1) is (architecture not in LONE)


@pytest.mark.parametrize(
    ("spec", "maps", "lone"),
    [
        (DecoderSpec(name="smp", architecture="fpn", encoder="timm-skresnet18"), PIXELS, True),
        (DecoderSpec(name="smp", architecture="pan", encoder="resnet18", batch_norm="frozen"), PIXELS, False),
        (DecoderSpec(name="xception", block=2), PIXELS, False),
        (DecoderSpec(name="linear", standardize=True), (MapSpec(4, 6, 9, "tokens"),), False),
        (DecoderSpec(name="attention"), (MapSpec(64, 2, 2, "tokens"),), False),
        (DecoderSpec(name="conv", depth=4, channels=(4,)), (MapSpec(5, 16, 16),), False),
        (DecoderSpec(name="conv", depth=4, channels=(4,), grid=1), (MapSpec(5, 16, 16),), True),
        (DecoderSpec(name="conv", depth=4, channels=(4,)), (MapSpec(5, 1, 1),), True),
        (DecoderSpec(name="small-attention", widths=(4, 4)), (MapSpec(5, 16, 16),), False),
        (DecoderSpec(name="small-attention", widths=(4, 4)), (MapSpec(5, 1, 1),), True),
        (DecoderSpec(name="xception-fcn", block=11), PIXELS, False),
        (DecoderSpec(name="xception-attention", block=7), PIXELS, False),
    ],
)
def test_what_else_can_be_trained_is_tried_on_one_image(spec, maps, lone):
    assert needs_two(spec, maps) is lone
    assert steps(spec, maps, 1) is not lone
    assert steps(spec, maps, 2)


@pytest.mark.parametrize(("side", "lone"), [(16, False), (1, True)])
def test_a_small_model_of_images_is_tried_too(side, lone):
    assert needs_two(DecoderSpec(name="small", widths=(4, 4)), (MapSpec(5, side, side),), 2) is lone


def test_every_decoder_that_is_trained_is_among_those_that_are_tried():
    tried = {"smp", "xception", "linear", "attention", "conv", "timm"}  # timm: tests.models.test_classifiers
    tried |= {"small", "small-attention", "xception-fcn", "xception-attention"}
    assert set(registry.FACTORIES["decoder"]) - registry.SOLVED == tried


def test_trying_draws_nothing():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    needs_two.cache_clear()
    needs_two(DecoderSpec(name="smp", architecture="unet", encoder="mobilenet_v2"), PIXELS)
    assert torch.equal(before, torch.get_rng_state())
