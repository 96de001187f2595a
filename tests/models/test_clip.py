import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transformer import QuickGELU, TextTransformer
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision import transforms

from dfloc import registry
from dfloc.config import DecoderSpec
from dfloc.engine.batches import fuse, look
from dfloc.features.store import recipe_for
from dfloc.models import clip, towers
from dfloc.models.decoders import build
from dfloc.registry import MapSpec
from tests.contracts.backbone import BackboneContract, photographs
from tests.small_clip import whole

# reference: DeCLIP's input normalisation, for every backbone
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SMALL = ["clip:small-vit", "clip:small-resnet", "clip:small-timm-vit", "clip:small-timm-convnext"]


class _Small(BackboneContract):
    weights = "random:3"
    rtol = 1e-4


class TestVit(_Small):
    name = "clip:small-vit"


class TestResNet(_Small):
    name = "clip:small-resnet"


class TestTimmVit(_Small):
    name = "clip:small-timm-vit"


class TestTimmConvNeXt(_Small):
    name = "clip:small-timm-convnext"


class EndError(Exception):
    """Ends a reference pass when all that is compared has been seen."""


def blocks(tower: nn.Module, name: str) -> list[nn.Module]:
    """Return the modules whose outputs are a model's maps, found by hand."""
    if "timm" in name:
        return list(tower.trunk.blocks if "vit" in name else tower.trunk.stages)
    if "resnet" in name or "rn50" in name:
        return [tower.layer1, tower.layer2, tower.layer3, tower.layer4]
    return list(tower.transformer.resblocks)


def hooked(tower: nn.Module, name: str, x_BCHW: Tensor, num: int | None = None) -> list[Tensor]:
    """Return what the first blocks (all, where no number is given) say in the tower's own forward pass."""
    seen: list[Tensor] = []
    parts = blocks(tower, name)

    def see(module: nn.Module, inputs: object, output: Tensor) -> None:
        seen.append(output.clone())
        if len(seen) == num:
            raise EndError

    handles = [part.register_forward_hook(see) for part in parts]
    try:
        with torch.no_grad():
            tower(x_BCHW)
    except EndError:
        assert num is not None
    finally:
        for handle in handles:
            handle.remove()
    return seen


def normalized(images: list[np.ndarray], size: int) -> Tensor:
    """Return the input as torchvision makes it of images that PIL resized."""
    chain = [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    resized = [Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR) for image in images]
    return torch.stack([transforms.Compose(chain)(image) for image in resized])


@contextmanager
def counted(modules: list[nn.Module]) -> Iterator[list[int]]:
    """Yield the places of the modules that run, as they run."""
    ran: list[int] = []
    handles = [m.register_forward_hook(lambda *_, place=place: ran.append(place)) for place, m in enumerate(modules)]
    yield ran
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("name", SMALL)
def test_maps_are_what_hooks_see_in_the_whole_models_own_pass(name: str) -> None:
    model = whole(name.removeprefix("clip:"))
    backbone = clip.from_tensors(name, model.state_dict(), "cpu", source="a test")
    images = photographs(2, (80, 70))
    maps = backbone(torch.stack([backbone.preprocess(image) for image in images]), list(backbone.maps)[:-1])
    seen = hooked(model.visual, name, normalized(images, backbone.input_size))
    if name == "clip:small-timm-vit":
        size = registry.backbone(name).maps["blocks.0"].height
        seen = [tokens[:, 1:].transpose(1, 2).unflatten(2, (size, size)) for tokens in seen]
    assert len(seen) == len(maps) > 1
    for expected, given in zip(seen, maps.values(), strict=True):
        assert torch.equal(given, expected)


@pytest.mark.parametrize(("name", "num"), [("clip-vit-l14", 3), ("clip-rn50", 4)])
def test_real_sizes_say_what_hooks_see(name: str, num: int) -> None:
    backbone = clip.make(name, "random", "cpu")
    wanted = list(backbone.maps)[:num]
    images = photographs(1, (300, 256))
    maps = backbone(torch.stack([backbone.preprocess(image) for image in images]), wanted)
    seen = hooked(backbone.tower, name, normalized(images, 224), num)
    for each, expected in zip(wanted, seen, strict=True):
        assert torch.equal(maps[each], expected)
        row = registry.backbone(name).maps[each]
        rows = (row.height * row.width + 1, row.channels) if row.layout == "tokens" else row[:3]
        assert maps[each].shape == (1, *rows)


def test_tokens_are_a_residual_block_by_hand() -> None:
    """Pre-norm attention and MLP with QuickGELU, each added to what came in; no norm after the last."""
    name, heads = "clip:small-vit-quickgelu", 4
    state = {key: value.double() for key, value in whole("small-vit-quickgelu").visual.state_dict().items()}
    images = photographs(2, (32, 32))

    def norm(x_BNC: Tensor, part: str) -> Tensor:
        centred = x_BNC - x_BNC.mean(2, keepdim=True)
        scaled = centred / (x_BNC.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
        return scaled * state[f"{part}.weight"] + state[f"{part}.bias"]

    patches_BNC = normalized(images, 32).double().unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(3)
    embedded = patches_BNC.flatten(1, 2) @ state["conv1.weight"].flatten(1).T
    x_BNC = torch.cat([state["class_embedding"].expand(2, 1, -1), embedded], 1) + state["positional_embedding"]
    x_BNC = norm(x_BNC, "ln_pre")
    for index in range(2):
        part = f"transformer.resblocks.{index}"
        joined = (
            norm(x_BNC, f"{part}.ln_1") @ state[f"{part}.attn.in_proj_weight"].T + state[f"{part}.attn.in_proj_bias"]
        )
        q, k, v = (each.unflatten(2, (heads, -1)) for each in joined.chunk(3, dim=2))
        share = (torch.einsum("bihc,bjhc->bhij", q, k) / (32 / heads) ** 0.5).softmax(3)
        mixed = torch.einsum("bhij,bjhc->bihc", share, v).flatten(2)
        x_BNC = x_BNC + mixed @ state[f"{part}.attn.out_proj.weight"].T + state[f"{part}.attn.out_proj.bias"]
        wide = norm(x_BNC, f"{part}.ln_2") @ state[f"{part}.mlp.c_fc.weight"].T + state[f"{part}.mlp.c_fc.bias"]
        narrow = (wide * torch.sigmoid(1.702 * wide)) @ state[f"{part}.mlp.c_proj.weight"].T
        x_BNC = x_BNC + narrow + state[f"{part}.mlp.c_proj.bias"]
    backbone = clip.from_tensors(name, state, "cpu", source="a test")
    given = backbone(torch.stack([backbone.preprocess(image) for image in images]), ["layer1"])["layer1"]
    torch.testing.assert_close(given.double(), x_BNC, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["clip-vit-l14", "clip-rn50"])
def test_the_table_has_the_shapes_of_a_pass(name: str) -> None:
    made, table = towers.row(name), registry.backbone(name)
    assert dict(made.maps) == dict(table.maps)
    assert list(made.maps) == list(table.maps)
    assert (made.input_size, made.resize, made.factory) == (table.input_size, table.resize, table.factory)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("places", [[0], [1], [2, 0], [3]])
def test_one_pass_runs_the_blocks_up_to_the_highest_wanted_one(name: str, places: list[int]) -> None:
    backbone = clip.make(name, "random", "cpu")
    wanted = [list(backbone.maps)[place] for place in places]
    images = torch.zeros(1, 3, backbone.input_size, backbone.input_size, dtype=torch.uint8)
    with counted(blocks(backbone.tower, name)) as ran:
        assert list(backbone(images, wanted)) == wanted
    assert ran == list(range(max(places) + 1))


@pytest.mark.parametrize("name", SMALL)
def test_projected_is_what_open_clip_encodes_before_it_normalises(name: str) -> None:
    model = whole(name.removeprefix("clip:"))
    backbone = clip.from_tensors(name, model.state_dict(), "cpu", source="a test")
    images = photographs(3, (80, 70))
    with torch.no_grad():
        expected_BC = model.encode_image(normalized(images, backbone.input_size), normalize=False)
    assert backbone.maps["projected"] == MapSpec(expected_BC.shape[1], 1, 1, "vector")
    inputs = torch.stack([backbone.preprocess(image) for image in images])
    first = next(iter(backbone.maps))
    for wanted in (["projected"], [first, "projected"], list(backbone.maps)):
        given = backbone(inputs, wanted)
        assert list(given) == wanted
        torch.testing.assert_close(given["projected"], expected_BC, rtol=1e-5, atol=1e-5)


def test_projected_is_the_last_cls_token_by_hand() -> None:
    model = whole("small-vit")
    backbone = clip.from_tensors("clip:small-vit", model.state_dict(), "cpu", source="a test")
    maps = backbone(
        torch.stack([backbone.preprocess(image) for image in photographs(2, (32, 32))]), list(backbone.maps)
    )
    cls_BC = maps["layer4"][:, 0].double()
    scaled_BC = (cls_BC - cls_BC.mean(1, keepdim=True)) / (cls_BC.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    tower = model.visual
    expected_BC = (scaled_BC * tower.ln_post.weight + tower.ln_post.bias).double() @ tower.proj.double()
    torch.testing.assert_close(maps["projected"].double(), expected_BC.detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["clip:small-vit", "clip:small-timm-vit"])
def test_a_head_on_stored_vectors_says_what_it_says_behind_the_live_backbone(name: str) -> None:
    """To the precision of float16, in which vectors are stored."""
    backbone = clip.make(name, "random:1", "cpu")
    images, recipe = photographs(4, (60, 60)), recipe_for(f"{name}/projected", "random:1")
    spec = backbone.maps["projected"]
    head = build(DecoderSpec(name="linear", init="declip"), [spec], torch.Generator().manual_seed(0), 2)
    stored_BC11 = look(images, {name: backbone}, [recipe])
    assert stored_BC11.shape == (4, spec.channels, 1, 1)
    live_BC = backbone(torch.stack([backbone.preprocess(image) for image in images]), ["projected"])["projected"]
    weight, bias = head.layers.head.weight.flatten(1), head.layers.head.bias
    torch.testing.assert_close(head(stored_BC11), live_BC @ weight.T + bias, rtol=2e-3, atol=2e-3)
    assert not torch.equal(stored_BC11.flatten(1), live_BC)


def test_a_map_named_twice_and_none_at_all() -> None:
    backbone = clip.make("clip:small-vit", "random", "cpu")
    images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert list(backbone(images, ["layer2", "layer2"])) == ["layer2"]
    assert backbone(images, []) == {}


def test_the_text_tower_is_never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    state = whole("small-vit").state_dict()

    def built(*_: object, **__: object) -> None:
        raise AssertionError("a text tower")

    monkeypatch.setattr(TextTransformer, "__init__", built)
    with pytest.raises(AssertionError, match="a text tower"):
        open_clip.create_model("small-vit")
    backbone = clip.from_tensors("clip:small-vit", state, "cpu", source="a test")
    names = {name for name, _ in backbone.tower.named_parameters()}
    assert names == {name.removeprefix("visual.") for name in state if name.startswith("visual.")}


@pytest.mark.parametrize(
    ("model", "quick"),
    [("ViT-L-14-quickgelu", True), ("RN50-quickgelu", False), ("ViT-L-14", False), ("ViT-B-32-quickgelu", True)],
)
def test_activation_of_the_models(model: str, quick: bool) -> None:
    tower = towers.build(model, towers.quick_gelu(model), device="meta")
    assert any(isinstance(part, QuickGELU) for part in tower.modules()) == quick
    assert any(isinstance(part, nn.GELU) for part in tower.modules()) == (model == "ViT-L-14")


def test_vit_l14_and_rn50_compute_as_openais() -> None:
    assert towers.NAMED == {"clip-vit-l14": "ViT-L-14-quickgelu", "clip-rn50": "RN50-quickgelu"}
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(QuickGELU()(x), x / (1 + torch.exp(-1.702 * x)))


def test_fused_maps_are_the_grids_side_by_side() -> None:
    vit, resnet = (clip.make(name, "random", "cpu") for name in ("clip:small-vit", "clip:small-resnet"))
    images = photographs(3, (90, 120))
    tokens_BNC = vit(torch.stack([vit.preprocess(image) for image in images]), ["layer3"])["layer3"]
    grid_BCHW = resnet(torch.stack([resnet.preprocess(image) for image in images]), ["layer2"])["layer2"]
    fused = fuse([tokens_BNC, grid_BCHW], [vit.maps["layer3"], resnet.maps["layer2"]])
    size = 4
    by_hand = torch.empty(3, 32 + grid_BCHW.shape[1], size, size)
    for row in range(size):
        for column in range(size):
            by_hand[:, :32, row, column] = tokens_BNC[:, 1 + size * row + column]
    by_hand[:, 32:] = functional.interpolate(grid_BCHW, (size, size), mode="bilinear", align_corners=False)
    assert torch.equal(fused, by_hand)


def test_a_grid_of_14_is_resized_to_16_as_by_hand() -> None:
    vit_BNC, resnet_BCHW = torch.randn(2, 257, 1024), torch.randn(2, 1024, 14, 14)
    fused = fuse(
        [vit_BNC, resnet_BCHW], [registry.map_spec(f"clip-{name}") for name in ("vit-l14/layer20", "rn50/layer3")]
    )
    assert fused.shape == (2, 2048, 16, 16)
    assert torch.equal(fused[:, :1024].flatten(2), vit_BNC[:, 1:].transpose(1, 2))
    place = ((np.arange(16) + 0.5) * 14 / 16 - 0.5).clip(0, 13)
    low = np.floor(place).astype(int)
    share = place - low
    weights = np.zeros((16, 14))
    weights[np.arange(16), low] += 1 - share
    weights[np.arange(16), (low + 1).clip(max=13)] += share
    by_hand = np.einsum("ih,jw,bchw->bcij", weights, weights, resnet_BCHW.numpy().astype(np.float64))
    np.testing.assert_allclose(fused[:, 1024:].numpy(), by_hand, atol=1e-5)


# sha256 of the bytes of scene(size), resized to 224
GOLDEN = {
    (37, 301): "baf32cd15b555813252eda3429030f21c68f24f0151ac00a2c334c77e14d9ed8",
    (600, 451): "c941ce35b1aa5438db9a45159370384808ad3e729f0327492c98cce69ed3b7f1",
    (1, 1): "c1cedf1d0ee4edd4b9628084ef8d3ecc70cd9bc235cdf9d7b6c83a71b4db052b",
    (224, 224): "b33964c94ff1bd74f06c510a63e8d191e89eb73ac611bdd002b4db5ea4872499",
}


def scene(size: tuple[int, int]) -> np.ndarray:
    """Return an image from whole numbers alone: the same bytes on every machine."""
    rows, columns, channels = np.indices((*size, 3))
    return ((rows * 7 + columns * 13 + channels * 50 + rows * columns // 11) % 256).astype(np.uint8)


@pytest.fixture(scope="module")
def rn50() -> clip.Clip:
    return clip.make("clip-rn50", "random", "cpu")


@pytest.mark.parametrize("size", GOLDEN)
def test_preprocessing_is_pils_to_the_byte(rn50: clip.Clip, size: tuple[int, int]) -> None:
    image_HWC = scene(size)
    given = rn50.preprocess(image_HWC)
    assert given.dtype == torch.uint8
    expected = np.asarray(Image.fromarray(image_HWC).resize((224, 224), Image.Resampling.BILINEAR))
    assert np.array_equal(given.permute(1, 2, 0).numpy(), expected)
    assert hashlib.sha256(given.numpy().tobytes()).hexdigest() == GOLDEN[size]


def test_preprocessing_neither_crops_nor_resizes_as_tensors_are(rn50: clip.Clip) -> None:
    [image_HWC] = photographs(1, (600, 451))
    given = rn50.preprocess(image_HWC)
    tensor = torch.from_numpy(image_HWC).permute(2, 0, 1)
    for antialias in (True, False):
        assert not torch.equal(given, transforms.functional.resize(tensor, [224, 224], antialias=antialias))
    edge_HWC = np.zeros((600, 451, 3), np.uint8)
    edge_HWC[:3] = edge_HWC[-3:] = edge_HWC[:, :3] = edge_HWC[:, -3:] = 255
    framed = rn50.preprocess(edge_HWC)
    assert min(int(side.min()) for side in (framed[:, 0], framed[:, -1], framed[:, :, 0], framed[:, :, -1])) > 100


@pytest.mark.parametrize("name", SMALL)
def test_values_enter_as_the_reference_normalizes_them(name: str) -> None:
    backbone = clip.make(name, "random", "cpu")
    entered: list[Tensor] = []
    first = next(part for part in backbone.tower.modules() if isinstance(part, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    levels = np.arange(256, dtype=np.uint8)
    image = np.resize(levels, (backbone.input_size, backbone.input_size))
    backbone(backbone.preprocess(np.stack([image] * 3, axis=2))[None], list(backbone.maps)[:1])
    for channel in range(3):
        expected = (image / 255 - MEAN[channel]) / STD[channel]
        np.testing.assert_allclose(entered[0][0, channel].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("model", "tag", "mean"),
    [
        ("ViT-L-14-quickgelu", None, MEAN),
        ("RN50-quickgelu", "openai", MEAN),
        ("ViT-B-16-SigLIP", None, (0.5, 0.5, 0.5)),
        ("ViT-L-14", "laion2b_s32b_b82k", (0.5, 0.5, 0.5)),
        ("ViT-L-14", "openai", MEAN),
        ("ViT-L-14", None, MEAN),
        ("small-vit", None, MEAN),
    ],
)
def test_normalization_is_the_tags_or_what_all_tags_agree_on(model: str, tag: str | None, mean: object) -> None:
    config = open_clip.get_pretrained_cfg(model, tag) if tag else {}
    assert towers.normalization(model, config).mean == mean


@pytest.mark.parametrize("name", SMALL)
def test_it_computes_in_float32_also_under_autocast(name: str) -> None:
    backbone = clip.make(name, "random", "cpu")
    images = torch.randint(0, 256, (1, 3, backbone.input_size, backbone.input_size), dtype=torch.uint8)
    plain = backbone(images, list(backbone.maps))
    with torch.autocast("cpu", torch.bfloat16):
        low = backbone(images, list(backbone.maps))
    for each, values in plain.items():
        assert values.dtype == low[each].dtype == torch.float32
        assert torch.equal(values, low[each])


@pytest.mark.parametrize("name", SMALL)
def test_random_weights_come_from_their_seed_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    first = clip.make(name, "random:5", "cpu")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    again, other, none = (clip.make(name, weights, "cpu") for weights in ("random:5", "random:6", "random"))
    assert (first.digest, other.digest, none.digest) == ("random:5", "random:6", "random:0")
    for key, value in first.tower.state_dict().items():
        assert torch.equal(value, again.tower.state_dict()[key])
    assert any(not torch.equal(value, other.tower.state_dict()[key]) for key, value in first.tower.state_dict().items())


@pytest.mark.parametrize("name", ["clip:small-vit", "clip:small-resnet"])
def test_a_decoder_trains_on_top_and_the_backbone_stays_as_it_was(name: str) -> None:
    backbone = clip.from_tensors(name, whole(name.removeprefix("clip:")).state_dict(), "cpu", source="a test")
    wanted = list(backbone.maps)[1]
    before = {key: value.clone() for key, value in backbone.tower.state_dict().items()}
    digest = backbone.digest
    decoder = build(DecoderSpec(name="linear"), [backbone.maps[wanted]], torch.Generator().manual_seed(0))
    model = nn.ModuleDict({"backbone": backbone.tower, "decoder": decoder})
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    images = torch.stack([backbone.preprocess(image) for image in photographs(4, (64, 64))])
    head = decoder.layers.head.weight.detach().clone()
    for _ in range(3):
        model.train()
        x_BCHW = fuse([backbone(images, [wanted])[wanted]], [backbone.maps[wanted]])
        loss = functional.binary_cross_entropy_with_logits(decoder(x_BCHW), torch.ones(4, 1, 256, 256))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert not torch.equal(decoder.layers.head.weight, head)
    assert all(torch.equal(value, before[key]) for key, value in backbone.tower.state_dict().items())
    assert any(key.endswith("running_mean") for key in before) == ("resnet" in name)
    assert clip.Clip(name, backbone.tower, towers.Normalization(MEAN, STD), None, "cpu").digest == digest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["clip-vit-l14", "clip-rn50"])
def test_cuda_gives_nearly_the_same_numbers(name: str) -> None:
    here, there = (clip.make(name, "random", device) for device in ("cpu", "cuda"))
    images = torch.stack([here.preprocess(image) for image in photographs(2, (256, 256))])
    for each in list(here.maps)[-2:]:
        torch.testing.assert_close(there(images, [each])[each].cpu(), here(images, [each])[each], atol=1e-3, rtol=1e-3)
