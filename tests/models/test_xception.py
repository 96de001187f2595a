import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from timm.models.xception import Xception as Legacy
from torch import nn
from torch.nn import functional

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.losses import bce
from dfloc.models.decoders import build
from dfloc.models.xception import BLOCKS, INPUT_SIZE, Xception, enlarged
from dfloc.registry import MapSpec, map_spec
from tests.contracts.decoder import DecoderContract

PIXELS = (map_spec("pixels"),)
SPEC = DecoderSpec(name="xception", block=2)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(**fields: object) -> Xception:
    return build(SPEC.model_copy(update=fields), PIXELS, generator())


def photograph() -> torch.Tensor:
    return torch.from_numpy(data.astronaut()[:256, :256].transpose(2, 0, 1).copy())[None].float()


def images(num: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (num, 3, 256, 256), generator=generator(3)).float()


class TestBlock2(DecoderContract):
    spec, maps, size, num = SPEC, PIXELS, 37, 2


# Side of the grid after each block, for images of 299 pixels.
SIDES = {1: 74, 2: 37, **dict.fromkeys(range(3, 12), 19), 12: 10}
WIDTHS = {1: 128, 2: 256, **dict.fromkeys(range(3, 12), 728), 12: 1024}


@pytest.mark.parametrize("block", SIDES)
def test_grid_and_channels_after_each_block(block):
    with torch.device("meta"):
        trunk = Xception(block).eval()
        assert trunk.features(torch.empty(1, 3, 299, 299)).shape == (1, WIDTHS[block], SIDES[block], SIDES[block])
        assert trunk(torch.empty(1, 3, 256, 256)).shape == (1, 1, SIDES[block], SIDES[block])


def test_as_many_parameters_as_published():
    assert sum(parameter.numel() for parameter in made().parameters()) == 191_330


@pytest.fixture(scope="module")
def legacy() -> Legacy:
    """The network of timm that is trained with weights from the same paper, with statistics that are not trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Legacy().eval()
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.normal_(layer.running_mean, 0, 0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return network


def _until(network: Legacy, block: int) -> list[nn.Module]:
    stem = [network.conv1, network.bn1, nn.ReLU(), network.conv2, network.bn2, nn.ReLU()]
    return [*stem, *(getattr(network, f"block{number}") for number in range(1, block + 1))]


@pytest.mark.parametrize("block", [1, 2, 3, 4, 11, 12])
def test_computes_what_timms_xception_does_with_the_same_weights(legacy, block):
    trunk = Xception(block).eval()
    parts = _until(legacy, block)
    theirs = [tensor for part in parts for tensor in part.state_dict().values()]
    ours = {name: tensor for name, tensor in trunk.state_dict().items() if not name.startswith("head")}
    assert [tensor.shape for tensor in ours.values()] == [tensor.shape for tensor in theirs]
    trunk.load_state_dict(trunk.state_dict() | dict(zip(ours, theirs, strict=True)))
    image = torch.randn(1, 3, 75, 75, generator=generator())
    with torch.no_grad():
        torch.testing.assert_close(trunk.features(image), nn.Sequential(*parts)(image), rtol=1e-4, atol=1e-4)


def test_a_cell_sees_43_pixels_in_steps_of_8():
    trunk = made().eval()
    x = torch.randn(1, 3, 299, 299, generator=generator())
    row, column = 12, 20
    top, left = 8 * row - 18, 8 * column - 18  # by adding up kernels, strides and paddings of the two blocks
    other = torch.randn(1, 3, 299, 299, generator=generator(1)) * 5
    outside, edge = other.clone(), x.clone()
    outside[:, :, top : top + 43, left : left + 43] = x[:, :, top : top + 43, left : left + 43]
    edge[:, :, top, left : left + 43] = 50.0
    with torch.no_grad():
        cell, far, near = (trunk.features(image)[0, :, row, column] for image in (x, outside, edge))
        torch.testing.assert_close(cell, far)
        assert not torch.allclose(cell, near)


def test_reads_pixels_resized_to_299_with_values_from_minus_one_to_one():
    model, x_BCHW = made().eval(), torch.cat([images(1), photograph()])
    files = [Image.fromarray(image.numpy().astype("uint8")) for image in x_BCHW.permute(0, 2, 3, 1)]
    resized = [file.resize((INPUT_SIZE, INPUT_SIZE), Image.Resampling.BILINEAR) for file in files]
    large = torch.stack([torch.from_numpy(np.array(file)).permute(2, 0, 1).float() for file in resized])
    assert torch.equal(enlarged(x_BCHW), large)
    with torch.no_grad():
        logit_B2HW = model.head(model.features(large / 127.5 - 1))
        torch.testing.assert_close(model(x_BCHW), logit_B2HW[:, 1:] - logit_B2HW[:, :1], rtol=1e-4, atol=1e-5)


def test_its_binary_cross_entropy_is_the_cross_entropy_of_its_two_logits():
    logit_B2HW = torch.randn(3, 2, 37, 37, generator=generator(), requires_grad=True)
    target_BHW = (torch.rand(3, 37, 37, generator=generator(1)) > 0.7).to(torch.uint8)
    ours = bce(logit_B2HW[:, 1:] - logit_B2HW[:, :1], target_BHW)
    theirs = functional.cross_entropy(logit_B2HW, target_BHW.long())
    torch.testing.assert_close(ours, theirs)
    gradients = [torch.autograd.grad(loss, logit_B2HW)[0] for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients)
    prob_BHW = (logit_B2HW[:, 1:] - logit_B2HW[:, :1]).sigmoid().squeeze(1)
    torch.testing.assert_close(prob_BHW, logit_B2HW.softmax(1)[:, 1])


def test_weights_are_drawn_as_pytorch_does():
    model = made()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            bound = (layer.in_channels // layer.groups * layer.kernel_size[0] ** 2) ** -0.5
            assert layer.weight.abs().max() <= bound
            assert layer.weight.abs().max() > 0.8 * bound
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.running_var == 1).all()
    other = build(SPEC, PIXELS, generator(1))
    assert not torch.equal(model.head.weight, other.head.weight)


def test_an_image_of_299_is_read_as_it_is():
    large = build(SPEC, (map_spec("pixels299"),), generator()).eval()
    with torch.no_grad():
        assert torch.equal(large(enlarged(images(1))), made().eval()(images(1)))


def test_patches_weights_are_glorots_times_0_02():
    """Glorot and Bengio, 2010: the deviation of a weight is the root of 2 / (fan in + fan out)."""
    model, plain = made(init="patches"), made()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert abs(layer.weight.std() - 0.02) < 0.006
            assert abs(layer.weight.mean() - 1) < 0.01
            assert (layer.bias == 0).all()
        if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 2_000:
            cells = layer.kernel_size[0] ** 2
            wanted = 0.02 * (2 / (cells * (layer.in_channels // layer.groups + layer.out_channels))) ** 0.5
            assert layer.weight.std().item() == pytest.approx(wanted, rel=0.1)
            assert layer.weight.abs().max() > 2.5 * wanted, "normal, not uniform"
    assert (model.head.bias == 0).all()
    assert plain.head.bias.abs().max() > 0
    with pytest.raises(ConfigError, match="init: default or declip; patches is of convolutions"):
        build(DecoderSpec(name="attention", init="patches"), (MapSpec(64, 4, 4, "tokens"),), generator())


def test_prior_sets_the_share_of_fake_cells_at_which_it_starts():
    model = made(prior=0.18).eval()
    nn.init.zeros_(model.head.weight)
    prob_B1HW = model(images(1)).sigmoid()
    torch.testing.assert_close(prob_B1HW, torch.full_like(prob_B1HW, 0.18))


@pytest.mark.parametrize("mode", ["train", "frozen"])
def test_frozen_batch_norm_stays_as_it_is(mode):
    model = made(batch_norm=mode).train()
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    model(images()).mean().backward()
    same = [not layer.running_mean.any() for layer in norms]
    assert all(same) if mode == "frozen" else not any(same)
    assert all((layer.weight.grad is None) == (mode == "frozen") for layer in norms)


def test_a_block_that_is_not_named_or_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"the block after which it ends, 1 to 12: \{name: xception, block: 2\}"):
        made(block=None)
    with pytest.raises(ValueError, match="less than or equal to 12"):
        DecoderSpec(name="xception", block=13)
    assert len(BLOCKS) == 12
    with pytest.raises(ConfigError, match=r"on maps: \[pixels\] or \[pixels299\]; it cannot read 66x32x32"):
        build(SPEC, (MapSpec(66, 32, 32),), generator())
