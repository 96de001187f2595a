from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from timm.models.vision_transformer_sam import checkpoint_filter_fn
from torch import Tensor
from torchvision import transforms

from dfloc import registry
from dfloc.config import DecoderSpec
from dfloc.engine.batches import look
from dfloc.errors import ConfigError, DflocError
from dfloc.features.store import recipe_for
from dfloc.models import hub, sam
from dfloc.models.decoders import build
from dfloc.registry import MapSpec
from tests.contracts.backbone import BackboneContract, photographs

TINY, BASE = "sam-tiny-224", "timm/samvit_base_patch16.sa1b"
NAMES = ["sam-vit-b", "sam-vit-l", "sam-vit-h"]


class TestSam(BackboneContract):
    name = TINY
    weights = "random:2"
    rtol = 1e-4


@pytest.fixture
def drawn() -> dict[str, Tensor]:
    """Return values for every tensor of the small model, also for those that begin as zeros or ones."""
    generator = torch.Generator().manual_seed(5)
    state = sam.build(TINY).state_dict()
    return {name: 0.1 * torch.randn(value.shape, generator=generator) for name, value in state.items()}


def metas(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a whole SAM of Meta's by its names, as segment_anything's state_dict has them."""
    encoder = {f"image_encoder.{name.replace('mlp.fc', 'mlp.lin')}": value for name, value in state.items()}
    return {
        **encoder,
        "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": torch.ones(2, 128),
        "mask_decoder.transformer.layers.0.mlp.lin1.weight": torch.ones(4, 4),
    }


def expected(backbone: sam.Sam, images: list[np.ndarray]) -> Tensor:
    """Return timm's own forward_features of images as torchvision normalises them."""
    side = backbone.input_size
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    chain = transforms.Compose([transforms.ToTensor(), normalize])
    resized = [Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR) for image in images]
    with torch.no_grad():
        return torch.stack([backbone.model.forward_features(chain(image)[None])[0] for image in resized])


def test_maps_are_timms_forward_features_and_their_mean(drawn: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(drawn, tmp_path / "sam.pth")
    backbone = sam.make(TINY, str(tmp_path / "sam.pth"), "cpu")
    images = photographs(3, (90, 60))
    maps = backbone(torch.stack([backbone.preprocess(image) for image in images]), list(backbone.maps))
    embed_BCHW = expected(backbone, images)
    torch.testing.assert_close(maps["image_embed"], embed_BCHW, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(maps["pooled"], embed_BCHW.mean((2, 3)), rtol=1e-5, atol=1e-5)


def test_files_by_metas_names_and_by_timms_have_one_digest(drawn: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(drawn, tmp_path / "timm.pth")
    torch.save(metas(drawn), tmp_path / "sam_vit_b_01ec64.pth")
    safetensors.torch.save_file(drawn, tmp_path / "model.safetensors")
    files = ["timm.pth", "sam_vit_b_01ec64.pth", "model.safetensors"]
    made = [sam.make(TINY, str(tmp_path / file), "cpu") for file in files]
    assert len({backbone.digest for backbone in made}) == 1
    other = {name: value + 1 for name, value in drawn.items()}
    torch.save(other, tmp_path / "other.pth")
    assert sam.make(TINY, str(tmp_path / "other.pth"), "cpu").digest != made[0].digest


def test_metas_names_become_what_timms_own_filter_makes_of_them(drawn: dict[str, Tensor]) -> None:
    whole = metas(drawn)
    own = checkpoint_filter_fn(whole, None)
    found = sam.encoder_of(whole)
    assert found.keys() == own.keys() == drawn.keys()
    assert all(torch.equal(found[name], drawn[name]) for name in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_the_table_has_what_timm_builds(name: str) -> None:
    row, model = registry.backbone(name), sam.MODELS[name]["model"]
    config = timm.get_pretrained_cfg(model)
    assert row.weights == config.hf_hub_id
    assert (tuple(config.mean), tuple(config.std)) == (sam.MEAN, sam.STD)
    assert config.input_size == (3, row.input_size, row.input_size)
    with torch.device("meta"):
        encoder = timm.create_model(model, num_classes=0)
        embed_BCHW = encoder.forward_features(torch.empty(1, 3, 1024, 1024))
    assert row.maps == {"image_embed": MapSpec(*embed_BCHW.shape[1:]), "pooled": MapSpec(256, 1, 1, "vector")}
    if name == "sam-vit-b":
        assert sum(parameter.numel() for parameter in encoder.parameters()) == 89_670_912


def test_a_head_on_stored_vectors_says_what_it_says_behind_the_live_backbone() -> None:
    """To the precision of float16, in which vectors are stored."""
    backbone = sam.make(TINY, "random:1", "cpu")
    images, recipe = photographs(4, (60, 60)), recipe_for(f"{TINY}/pooled", "random:1")
    head = build(DecoderSpec(name="linear"), [backbone.maps["pooled"]], torch.Generator().manual_seed(0), 2)
    stored_BC11 = look(images, {TINY: backbone}, [recipe])
    live_BC = expected(backbone, images).mean((2, 3))
    weight, bias = head.layers.head.weight.flatten(1), head.layers.head.bias
    torch.testing.assert_close(head(stored_BC11), live_BC @ weight.T + bias, rtol=2e-3, atol=2e-3)


def test_what_only_tests_need_is_not_named() -> None:
    assert TINY not in registry.names("backbone")
    assert {*NAMES} <= {*registry.names("backbone")}
    with pytest.raises(ConfigError, match=r'unknown backbone "sam-tiny-22"; (?!.*sam-tiny-224).*known: .*sam-vit-b'):
        registry.backbone("sam-tiny-22")


@pytest.fixture
def files(drawn: dict[str, Tensor], tmp_path: Path) -> Path:
    torch.save({name: value for name, value in drawn.items() if "blocks.1" not in name}, tmp_path / "short.pth")
    torch.save(drawn | {"blocks.2.norm1.weight": torch.ones(32)}, tmp_path / "long.pth")
    torch.save(drawn | {"pos_embed": torch.ones(1, 64, 64, 32)}, tmp_path / "large.pth")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save(drawn, tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    return tmp_path


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("short.pth", "do not fit sam-tiny-224: .*blocks.1"),
        ("long.pth", "do not fit sam-tiny-224: .*blocks.2.norm1.weight"),
        ("large.pth", "do not fit sam-tiny-224: .*pos_embed"),
        ("empty.pth", "empty.pth"),
        ("cut.pth", "cut.pth"),
        ("missing.pth", "missing.pth"),
    ],
)
def test_files_that_are_none_of_this_model(files: Path, file: str, words: str) -> None:
    with pytest.raises(DflocError, match=words):
        sam.make(TINY, str(files / file), "cpu")


def test_other_words_for_weights() -> None:
    with pytest.raises(ConfigError, match="are another model's; those of sam-vit-l are timm/samvit_large"):
        sam.make("sam-vit-l", BASE, "cpu")
    with pytest.raises(ConfigError, match="expected random or random:<seed>"):
        sam.make("sam-vit-l", "random:x", "cpu")


def test_weights_that_cannot_be_reached_say_which_file_goes_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str) -> None:
        raise OSError("no way out")

    monkeypatch.setattr(hub, "_reach", refused)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(ConfigError, match=f'weights "{BASE}" of sam-vit-b are not in .*no way out.*/model.safetensors'):
        sam.make("sam-vit-b", BASE, "cpu")


def test_torchs_generator_is_left_as_it_was() -> None:
    before = torch.random.get_rng_state()
    first, second = sam.build(TINY, 3).state_dict(), sam.build(TINY, 3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["patch_embed.proj.weight"], sam.build(TINY, 4).state_dict()["patch_embed.proj.weight"])
