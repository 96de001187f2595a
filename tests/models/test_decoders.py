import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError
from dfloc.losses import bce
from dfloc.models.decoders import ConvDecoder, Standardize, build, check
from dfloc.registry import MapSpec, map_spec
from tests.contracts.decoder import DecoderContract, Examples, examples

SMALL = {"depth": 4, "channels": (6, 4), "out_size": 32}
GRID = MapSpec(5, 16, 16)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**fields: object) -> nn.Module:
    return build(DecoderSpec(name="conv", **SMALL | fields), [GRID], generator())


class TestConv(DecoderContract):
    spec = DecoderSpec(name="conv", **SMALL)
    maps = (GRID, MapSpec(3, 8, 8))


class TestStandardizedConv(DecoderContract):
    spec = DecoderSpec(name="conv", **SMALL, standardize=True, init="declip", prior=0.2)
    maps = (GRID,)


class TestFrozenConv(DecoderContract):
    spec = DecoderSpec(name="conv", **SMALL, batch_norm="frozen")
    maps = (GRID,)


class TestLinear(DecoderContract):
    spec = DecoderSpec(name="linear", standardize=True)
    maps = (MapSpec(4, 6, 9, "tokens"),)


class TestConvOnAnotherGrid(DecoderContract):
    spec = DecoderSpec(name="conv", **SMALL, grid=6, standardize=True)
    maps = (MapSpec(5, 6, 9), MapSpec(3, 8, 8))


class TestLinearOnAnotherGrid(DecoderContract):
    spec = DecoderSpec(name="linear", grid=12)
    maps = (MapSpec(4, 6, 9, "tokens"),)


# Parameters of DeCLIP's own decoders: convolutions of a stage by input channels, BatchNorm affine and biases included.
PUBLISHED = {
    (256, 4): 7_582_081,
    (256, 12): 24_995_841,
    (256, 20): 42_409_601,
    (512, 4): 10_858_881,
    (512, 12): 28_272_641,
    (512, 20): 45_686_401,
    (1024, 4): 17_412_481,
    (1024, 12): 34_826_241,
    (1024, 20): 52_240_001,
    (2048, 4): 30_519_681,
    (2048, 12): 47_933_441,
    (2048, 20): 65_347_201,
}


@pytest.mark.parametrize(("in_channels", "depth"), PUBLISHED)
def test_as_many_parameters_as_declip(in_channels, depth):
    with torch.device("meta"):
        decoder = ConvDecoder(in_channels, 16, depth)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == PUBLISHED[in_channels, depth]
    assert sum(isinstance(layer, nn.Conv2d) for layer in decoder.layers) == depth + 1


# The channels that DeCLIP's decoders read: of a layer of ViT-L/14, of RN50's layers, of both together.
READ = {
    ("clip-vit-l14/layer20",): 1024,
    ("clip-rn50/layer1",): 256,
    ("clip-rn50/layer2",): 512,
    ("clip-rn50/layer3",): 1024,
    ("clip-rn50/layer4",): 2048,
    ("clip-vit-l14/layer20", "clip-rn50/layer3"): 2048,
}


@pytest.mark.parametrize("depth", [4, 12, 20])
@pytest.mark.parametrize("maps", READ)
def test_maps_of_clip_make_decoders_of_declips_sizes(maps, depth):
    specs = [map_spec(name) for name in maps]
    with torch.device("meta"):
        decoder = build(DecoderSpec(name="conv", depth=depth), specs, generator())
        x_BCHW = torch.empty(1, READ[maps], specs[0].height, specs[0].width)
        assert conv_sizes(decoder.eval(), x_BCHW)[-1] == 256
    assert sum(parameter.numel() for parameter in decoder.parameters()) == PUBLISHED[READ[maps], depth]


# The grid of each convolution of a conv-4: CLIP RN50's layers 1 to 4, ViT-L/14 (and ViT with RN50).
LADDERS = {
    (256, 56): [56, 56, 56, 112, 256],
    (512, 28): [28, 28, 56, 112, 256],
    (1024, 14): [14, 28, 56, 112, 256],
    (2048, 7): [7, 14, 28, 56, 256],
    (1024, 16): [16, 32, 64, 128, 256],
    (2048, 16): [16, 32, 64, 128, 256],
}


def conv_sizes(decoder: nn.Module, x_BCHW: torch.Tensor) -> list[int]:
    sizes = []
    for layer in decoder.layers:
        if isinstance(layer, nn.Conv2d):
            sizes.append(x_BCHW.shape[-1])
        x_BCHW = layer(x_BCHW)
    assert x_BCHW.shape[1:] == (1, 256, 256)
    return sizes


@pytest.mark.parametrize(("in_channels", "in_size"), LADDERS)
def test_doubles_where_declip_does(in_channels, in_size):
    with torch.device("meta"):
        decoder = ConvDecoder(in_channels, in_size, 4)
        assert conv_sizes(decoder, torch.empty(1, in_channels, in_size, in_size)) == LADDERS[in_channels, in_size]


@pytest.mark.parametrize(
    ("in_size", "channels", "out_size", "sizes"),
    [
        (32, (24, 16, 8), 64, [32, 32, 32, 64]),
        (32, (8, 8, 8), 256, [32, 64, 128, 256]),
        (256, (8, 8), 256, [256, 256, 256]),
        (300, (8,), 64, [300, 64]),
        (10, (8, 8, 8, 8, 8, 8), 100, [10, 10, 10, 10, 20, 40, 100]),
        (1, (8,), 256, [1, 256]),
    ],
)
def test_any_grid_and_channel_plan(in_size, channels, out_size, sizes):
    with torch.device("meta"):
        decoder = ConvDecoder(2, in_size, 4, channels, out_size)
        assert conv_sizes(decoder.eval(), torch.empty(1, 2, in_size, in_size)) == sizes


def test_a_stage_is_conv_norm_relu_in_the_order_of_running():
    names = [type(layer).__name__ for layer in ConvDecoder(3, 128, 11, (4,)).layers]
    assert names == ["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["Upsample", "Conv2d"]
    stage = [nn.Conv2d(3, 4, 5, padding=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear")]
    reference = nn.Sequential(*stage, nn.Conv2d(4, 1, 5, padding=2))
    decoder = ConvDecoder(3, 128, 4, (4,))
    reference.load_state_dict(dict(zip(reference.state_dict(), decoder.state_dict().values(), strict=True)))
    x = torch.randn(2, 3, 128, 128, generator=generator())
    torch.testing.assert_close(decoder(x), reference(x))


def test_default_init_is_pytorchs():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, head = nn.Conv2d(3, 4, 5), nn.Conv2d(4, 1, 5)
    decoder = ConvDecoder(3, 128, 4, (4,), generator=generator(5))
    torch.testing.assert_close(decoder.layers[0].weight, first.weight)
    torch.testing.assert_close(decoder.layers[0].bias, first.bias)
    torch.testing.assert_close(decoder.layers[-1].weight, head.weight)
    norm = decoder.layers[1]
    assert (norm.weight == 1).all()
    assert (norm.bias == 0).all()
    assert (norm.running_mean == 0).all()
    assert (norm.running_var == 1).all()
    assert norm.num_batches_tracked == 0


def test_declip_init_draws_every_weight_from_a_narrow_normal():
    decoder = ConvDecoder(32, 64, 4, (200, 200), init="declip", generator=generator())
    for layer in decoder.layers:
        if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.2)
            assert abs(layer.weight.mean().item()) < 0.006
    assert 0.3 < (decoder.layers[1].weight < 0).float().mean() < 0.7
    bound = 1 / math.sqrt(32 * 25)
    assert 0.9 * bound < decoder.layers[0].bias.abs().max() <= bound
    assert (decoder.layers[1].bias == 0).all()


def test_linear_declip_init():
    decoder = build(DecoderSpec(name="linear", init="declip"), [MapSpec(4096, 4, 4)], generator())
    assert decoder.layers.head.weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_another_generator_gives_other_weights():
    a, b = (ConvDecoder(3, 8, 4, (4,), generator=generator(seed)).layers[0].weight for seed in (0, 1))
    assert not torch.equal(a, b)


@pytest.mark.parametrize("name", ["conv", "linear"])
def test_prior_is_where_the_output_starts(name):
    decoder = build(DecoderSpec(name=name, **SMALL, prior=0.18), [GRID], generator())
    nn.init.zeros_(decoder.layers.head.weight)
    prob = decoder(examples([GRID]).x).sigmoid()
    torch.testing.assert_close(prob, torch.full_like(prob, 0.18))


def test_standardize_uses_the_training_samples():
    data = examples([GRID], num=70)
    data.x[:, 1] = 4.0
    layer = Standardize(5)
    layer.solve(data)
    torch.testing.assert_close(layer.mean.flatten(), data.x.mean((0, 2, 3)))
    z_BCHW = layer(data.x)
    torch.testing.assert_close(z_BCHW.mean((0, 2, 3)), torch.zeros(5), atol=1e-5, rtol=0)
    expected = torch.tensor([1.0, 0, 1, 1, 1])
    torch.testing.assert_close(z_BCHW.std((0, 2, 3), correction=0), expected, atol=1e-5, rtol=0)


def test_standardized_decoder_does_not_see_scale_and_shift():
    data = examples([GRID])
    moved = Examples(data.x * 1000 - 7, data.target_BHW)
    out = []
    for each in (data, moved):
        decoder = small(standardize=True).eval()
        decoder.solve(each)
        out.append(decoder(each.x))
    torch.testing.assert_close(*out, atol=1e-3, rtol=1e-3)
    plain = small().eval()
    assert not torch.allclose(plain(data.x), plain(moved.x), atol=1e-1)


@pytest.mark.parametrize("mode", ["train", "frozen"])
def test_frozen_batch_norm_stays_bit_equal(mode):
    decoder = small(batch_norm=mode).train()
    norms = [layer for layer in decoder.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = [{name: value.clone() for name, value in norm.state_dict().items()} for norm in norms]
    head = decoder.layers.head.weight.detach().clone()
    data = examples([GRID])
    optimizer = torch.optim.AdamW([p for p in decoder.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        decoder.train()
        optimizer.zero_grad()
        bce(decoder(data.x), data.target_BHW).backward()
        optimizer.step()
    same = [
        torch.equal(was[name], norm.state_dict()[name]) for norm, was in zip(norms, before, strict=True) for name in was
    ]
    assert all(same) if mode == "frozen" else not any(same)
    assert not torch.equal(decoder.layers.head.weight, head)


def test_linear_is_one_dot_product_per_cell_then_bicubic():
    maps = [MapSpec(7, 4, 5, "tokens"), MapSpec(2, 9, 9)]
    decoder = build(DecoderSpec(name="linear"), maps, generator())
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 10
    x = torch.randn(2, 9, 4, 5, generator=generator())
    head = decoder.layers.head
    cells_BHW = torch.einsum("bchw,c->bhw", x, head.weight.flatten()) + head.bias
    expected = functional.interpolate(cells_BHW[:, None], (256, 256), mode="bicubic", align_corners=False)
    torch.testing.assert_close(decoder(x), expected)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConvDecoder(3, 8, 3), "at least 4"),
        (lambda: ConvDecoder(3, 8, 4, ()), "one width"),
        (lambda: ConvDecoder(3, 8, 4, (4, 0)), "one width"),
        (lambda: ConvDecoder(0, 8, 4), "in_channels 0"),
        (lambda: ConvDecoder(3, 8, 4, out_size=0), "out_size 0"),
        (lambda: build(DecoderSpec(name="conv"), [MapSpec(3, 4, 8)], generator()), "square grid, not 4x8"),
        (lambda: build(DecoderSpec(name="conv"), [GRID, MapSpec(9, 1, 1, "vector")], generator()), "vector of 9"),
        (lambda: build(DecoderSpec(name="linear"), [MapSpec(9, 1, 1, "vector")], generator()), "vector of 9"),
        (lambda: build(DecoderSpec(name="linear"), [], generator()), "at least one map"),
        (lambda: build(DecoderSpec(name="threshold"), [GRID], generator()), "one channel .*not 5"),
        (lambda: build(DecoderSpec(name="liner"), [GRID], generator()), 'did you mean "linear"'),
    ],
)
def test_one_clear_error_each(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize(("name", "side", "grid"), [("conv", 16, 32), ("conv", 32, 16), ("linear", 16, 40)])
def test_maps_are_brought_to_the_grid_before_the_first_layer(name: str, side: int, grid: int) -> None:
    fields = {**SMALL, "out_size": 64} if name == "conv" else {}
    spec = DecoderSpec(name=name, **fields)
    x_BCHW = torch.randn(2, 5, side, side, generator=generator())
    resized_BCHW = functional.interpolate(x_BCHW, (grid, grid), mode="bilinear", align_corners=False)
    on_grid = build(spec.model_copy(update={"grid": grid}), [MapSpec(5, side, side)], generator()).eval()
    there = build(spec, [MapSpec(5, grid, grid)], generator()).eval()
    assert on_grid.state_dict().keys() == there.state_dict().keys()
    torch.testing.assert_close(on_grid(x_BCHW), there(resized_BCHW))
    assert not torch.equal(on_grid(x_BCHW), build(spec, [MapSpec(5, side, side)], generator()).eval()(x_BCHW))


def test_standardizing_comes_before_the_grid() -> None:
    decoder = small(grid=24, standardize=True)
    assert [name for name, _ in decoder.layers.named_children()][:3] == ["standardize", "grid", "conv1_1"]
    shown = examples([GRID])
    decoder.solve(shown)
    torch.testing.assert_close(decoder.layers.standardize.mean[:, 0, 0], shown.x.mean((0, 2, 3)))


def test_the_grid_of_the_map_itself_changes_nothing() -> None:
    x_BCHW = examples([GRID]).x
    assert torch.equal(small(grid=16).eval()(x_BCHW), small().eval()(x_BCHW))


EQUAL = {
    "clip-vit-l14/layer20": 1024,
    "clip-rn50/layer3": 1024,
    "sam2.1-small/image_embed": 256,
    "sam2.1-small/high_res_feats.0": 32,
    "sam2.1-small/high_res_feats.1": 64,
}


@pytest.mark.parametrize("full_name", EQUAL)
def test_from_one_grid_every_backbone_has_the_same_ladder(full_name: str) -> None:
    spec = DecoderSpec(name="conv", depth=12, channels=(128, 64), grid=64)
    decoder = build(spec, [map_spec(full_name)], generator())
    kinds = [type(layer).__name__ for layer in decoder.layers]
    stage = ["Conv2d", "BatchNorm2d", "ReLU"] * 3
    assert kinds[kinds.index("Conv2d") :] == [*stage, "Upsample", *stage, "Upsample", "Conv2d"]
    widths = [(EQUAL[full_name], 128), (128, 128), (128, 128), (128, 64), (64, 64), (64, 64)]
    convolutions = sum(25 * low * high + high + 2 * high for low, high in widths) + 25 * 64 + 1
    assert sum(parameter.numel() for parameter in decoder.parameters()) == convolutions


@pytest.mark.parametrize(
    ("spec", "maps", "words"),
    [
        (DecoderSpec(name="threshold"), (GRID,), "one channel .*not 5"),
        (DecoderSpec(name="attention"), (map_spec("clip-rn50/layer3"),), "not grid 1024x14x14"),
        (DecoderSpec(name="smp", architecture="fpn", encoder="resnet18"), (GRID,), r"on maps: \[pixels\]"),
        (DecoderSpec(name="xception", block=2), (GRID,), r"on maps: \[pixels\]"),
        (DecoderSpec(name="xception"), (map_spec("pixels"),), "needs the block"),
    ],
)
def test_what_does_not_suit_is_known_before_anything_is_built(spec, maps, words):
    with pytest.raises(ConfigError, match=words):
        check(spec, maps)


def test_what_suits_is_checked_without_a_draw():
    before = torch.random.get_rng_state()
    for name, maps in (
        ("conv", GRID),
        ("linear", GRID),
        ("mean-mask", GRID),
        ("attention", map_spec("clip-vit-l14/layer0")),
    ):
        check(DecoderSpec(name=name), (maps,))
    assert torch.equal(torch.random.get_rng_state(), before)
