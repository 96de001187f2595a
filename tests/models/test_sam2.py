import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor
from torch import nn

from dfloc import registry
from dfloc.arithmetic import exact
from dfloc.config import DecoderSpec
from dfloc.engine.batches import look
from dfloc.errors import ConfigError, DataError
from dfloc.features.store import recipe_for
from dfloc.models import hub, sam2
from dfloc.models.base import entered
from dfloc.models.decoders import build
from dfloc.sweep.component_specs import decoder as resolved
from dfloc.sweep.sweep_keys import TrialAsk
from tests.contracts.backbone import BackboneContract, photographs
from tests.small_sam2 import NAME, REPOSITORY, drawn, held, registered

SIZES = ("tiny", "small", "base-plus", "large")
NAMES = [f"{family}-{size}" for family in ("sam2.1", "sam2") for size in SIZES]
MAPS = ["image_embed", "high_res_feats.0", "high_res_feats.1"]


@pytest.fixture(scope="module", autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with registered(tmp_path_factory.mktemp("sam2")):
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file like a published one, in which no tensor is zero."""
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    torch.save({"model": drawn(sam2.build(NAME).state_dict())}, path)
    return path


@pytest.fixture(scope="module")
def loaded(checkpoint: Path) -> sam2.Sam2:
    return sam2.make(NAME, str(checkpoint), "cpu")


def shrunk(image_HWC: np.ndarray, side: int) -> np.ndarray:
    return np.array(Image.fromarray(image_HWC).resize((side, side), Image.Resampling.BILINEAR))


class TestSam2(BackboneContract):
    name = NAME
    weights = "random:1"


@pytest.fixture(scope="module")
def tiny() -> sam2.Sam2:
    return sam2.make("sam2.1-tiny", "random:0", "cpu")


def test_maps_of_tiny_at_1024_are_to_the_bit_what_the_predictor_holds(tiny: sam2.Sam2) -> None:
    [image_HWC] = photographs(1, (256, 256))
    maps = tiny(entered(tiny, image_HWC, via=224)[None], [*MAPS, "pooled"])
    predicted = held(tiny, shrunk(image_HWC, 224))
    for name, spec in registry.backbone("sam2.1-tiny").maps.items():
        shape = (spec.channels,) if name == "pooled" else (spec.channels, spec.height, spec.width)
        assert maps[name].shape == (1, *shape)
        assert torch.equal(maps[name], predicted[name])


@pytest.mark.parametrize("via", [None, 40])
@pytest.mark.parametrize("wanted", [MAPS, MAPS[1:], MAPS[:1], MAPS[1:2], MAPS[2:], ["pooled"], ["pooled", *MAPS[:2]]])
def test_any_maps_by_either_way_in_are_the_predictors(loaded: sam2.Sam2, via: int | None, wanted: list[str]) -> None:
    images = photographs(2, (96, 130))
    maps = loaded(torch.stack([entered(loaded, image, via) for image in images]), wanted)
    for index, image in enumerate(images):
        predicted = held(loaded, image if via is None else shrunk(image, via))
        for name in wanted:
            assert torch.equal(maps[name][index], predicted[name][0])


def test_maps_are_not_the_raw_encoders(loaded: sam2.Sam2) -> None:
    inputs = torch.stack([loaded.preprocess(image) for image in photographs(1, (64, 64))])
    maps = loaded(inputs, MAPS)
    with torch.no_grad():
        raw = loaded.model.image_encoder(inputs)["backbone_fpn"]
    added = maps["image_embed"] - raw[2]
    torch.testing.assert_close(
        added, loaded.model.no_mem_embed.reshape(1, -1, 1, 1).expand_as(added), atol=1e-5, rtol=0
    )
    assert raw[0].shape[1] == raw[1].shape[1] == 256
    first, second = (getattr(loaded.model.sam_mask_decoder, f"conv_s{level}")(raw[level]) for level in (0, 1))
    torch.testing.assert_close(maps["high_res_feats.0"], first)
    torch.testing.assert_close(maps["high_res_feats.1"], second)


def test_the_predictor_is_told_apart_by_its_image(loaded: sam2.Sam2) -> None:
    one, other = photographs(2, (64, 64))
    assert not torch.equal(held(loaded, one)["image_embed"], held(loaded, other)["image_embed"])


@pytest.mark.parametrize("size", [(256, 256), (224, 224), (37, 301), (1500, 1200), (1024, 1024), (1, 1)])
def test_preprocessing_is_the_predictors(tiny: sam2.Sam2, size: tuple[int, int]) -> None:
    [image_HWC] = photographs(1, size)
    expected = SAM2ImagePredictor(tiny.model)._transforms(image_HWC)
    assert expected.shape == (3, 1024, 1024)
    assert torch.equal(tiny.preprocess(image_HWC), expected)


def test_by_way_of_224_an_image_keeps_less_detail(tiny: sam2.Sam2) -> None:
    rng = np.random.default_rng(0)
    image_HWC = rng.integers(0, 256, (256, 256, 3), np.uint8)
    at_once, by_way = tiny.preprocess(image_HWC), entered(tiny, image_HWC, 224)
    detail = [float((x[:, 1:] - x[:, :-1]).square().mean()) for x in (at_once, by_way)]
    assert 0.1 < detail[1] / detail[0] < 0.8


def test_blocks_that_no_wanted_map_needs_do_not_run(loaded: sam2.Sam2) -> None:
    trunk = loaded.model.image_encoder.trunk
    ran: list[int] = []
    hooks = [
        block.register_forward_hook(lambda *_, place=place: ran.append(place))
        for place, block in enumerate(trunk.blocks)
    ]
    inputs = loaded.preprocess(photographs(1, (64, 64))[0])[None]
    for wanted, last in (([], -1), (MAPS[1:2], 0), (MAPS[2:], 2), (MAPS, 6)):
        ran.clear()
        assert set(loaded(inputs, wanted)) == set(wanted)
        assert ran == list(range(last + 1))
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", NAMES)
def test_every_published_model_has_the_maps_of_its_row(name: str) -> None:
    config, file = sam2.library()[registry.backbone(name).weights]
    assert file.removesuffix(".pt").replace("_", "-") == name.replace("2.1-", "2.1-hiera-").replace(
        "sam2-", "sam2-hiera-"
    )
    model = OmegaConf.load(str(files("sam2") / config)).model
    encoder = model.image_encoder
    assert model.image_size == registry.backbone(name).input_size
    assert model.use_high_res_features_in_sam
    assert model.directly_add_no_mem_embed
    assert (encoder.scalp, list(encoder.neck.fpn_top_down_levels)) == (1, [2, 3])
    decoder_channels = encoder.neck.d_model // 8, encoder.neck.d_model // 4
    strides = {"image_embed": 16, "high_res_feats.0": 4, "high_res_feats.1": 8}
    channels = dict(zip(MAPS, (encoder.neck.d_model, *decoder_channels), strict=True))
    maps = dict(registry.backbone(name).maps)
    assert maps.pop("pooled") == (encoder.neck.d_model, 1, 1, "vector")
    for each, spec in maps.items():
        assert spec == (channels[each], 1024 // strides[each], 1024 // strides[each], "grid")


PARAMETERS = {
    "image_embed": {4: 1_026_177, 12: 2_051_329, 20: 3_076_481},
    "high_res_feats.0": {20: 463_361},
    "high_res_feats.1": {20: 514_561},
}


@pytest.mark.parametrize(("name", "depth"), [(name, depth) for name, by in PARAMETERS.items() for depth in by])
def test_decoders_have_the_parameters_of_the_poster(name: str, depth: int) -> None:
    full = f"sam2.1-small/{name}"
    ask = TrialAsk(
        maps=[full],
        decoder={"name": "conv", "depth": depth, "channels": "auto"},
        loss="bce",
        optimizer={"name": "adam", "lr": 1e-3},
        schedule="constant",
        epochs=20,
        batch=32,
    )
    spec = resolved(ask, [recipe_for(full, "random:0", 224)])
    made = build(spec, [registry.map_spec(full)], torch.Generator().manual_seed(0))
    assert sum(parameter.numel() for parameter in made.parameters()) == PARAMETERS[name][depth]


def test_the_decoder_ladder_follows_the_poster() -> None:
    kinds = {}
    for name in MAPS:
        channels = registry.backbone("sam2.1-small").channels[name]
        spec = DecoderSpec(name="conv", depth=4, channels=channels)
        layers = build(spec, [registry.map_spec(f"sam2.1-small/{name}")], torch.Generator()).layers
        kinds[name] = [type(layer).__name__ for layer in layers]
    stage = ["Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds["image_embed"] == [*stage, "Upsample", *stage, "Upsample", "Conv2d"]
    assert kinds["high_res_feats.0"] == [*stage, "Conv2d"]
    assert kinds["high_res_feats.1"] == [*stage, "Upsample", "Conv2d"]


def test_random_weights_come_from_their_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first = sam2.build(NAME, 5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    again, other = sam2.build(NAME, 5).state_dict(), sam2.build(NAME, 6).state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_a_file_in_either_form_gives_the_same_and_its_digest_covers_the_full_model(
    loaded: sam2.Sam2, checkpoint: Path, tmp_path: Path
) -> None:
    state = torch.load(checkpoint, weights_only=True)["model"]
    safetensors.torch.save_file(state, tmp_path / "small.safetensors")
    again = sam2.make(NAME, str(tmp_path / "small.safetensors"), "cpu")
    assert again.digest == loaded.digest
    assert all(torch.equal(value, loaded.model.state_dict()[key]) for key, value in state.items())
    last = list(state)[-1]
    safetensors.torch.save_file(state | {last: state[last] + 1}, tmp_path / "other.safetensors")
    assert sam2.make(NAME, str(tmp_path / "other.safetensors"), "cpu").digest != loaded.digest


def test_weights_come_from_the_hub_by_default(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(hub, "fetched", lambda *args, **_: asked.append(args) or str(checkpoint))
    word = registry.backbone(NAME).weights
    assert sam2.make(NAME, word, "cpu").digest == sam2.make(NAME, str(checkpoint), "cpu").digest
    assert asked == [(REPOSITORY, ["small.pt"], None)]


def test_without_a_network_one_error_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(url: str) -> None:
        raise OSError("no route")

    monkeypatch.setattr(hub, "_reach", unreachable)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(ConfigError) as told:
        sam2.make("sam2.1-small", "facebook/sam2.1-hiera-small", "cpu")
    assert "https://huggingface.co/facebook/sam2.1-hiera-small/resolve/main/sam2.1_hiera_small.pt" in str(told.value)
    assert """--set 'trial.weights={"sam2.1-small": PATH}'""" in str(told.value)
    assert "\n" not in str(told.value)


def test_weights_of_another_model_are_named(tmp_path: Path, checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["model"]
    trunk = {key: value for key, value in state.items() if key.startswith("image_encoder")}
    wider = {"no_mem_embed": torch.zeros(1, 1, 8)}
    for given, says in (
        (trunk, "it lacks .* in all; give those of this model"),
        (state | wider, "no_mem_embed is 1x1x8, expected 1x1x256"),
        (state | {"visual.proj": torch.zeros(1)}, "the model has no visual.proj"),
    ):
        torch.save({"model": given}, tmp_path / "other.pt")
        with pytest.raises(ConfigError, match=f"do not fit {NAME}: .*{says}"):
            sam2.make(NAME, str(tmp_path / "other.pt"), "cpu")
    with pytest.raises(ConfigError, match=r"sam2-hiera-tiny are another model's; .* facebook/sam2.1-hiera-tiny"):
        sam2.make("sam2.1-tiny", "facebook/sam2-hiera-tiny", "cpu")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "the file is empty"), (b"\x80\x02}q", "damaged|cut off"), (b"<html>not found</html>", "damaged|cut off")],
)
def test_a_bad_file_is_one_error(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "bad.pt").write_bytes(content)
    with pytest.raises(DataError, match=says):
        sam2.make(NAME, str(tmp_path / "bad.pt"), "cpu")
    with pytest.raises(ConfigError, match="missing"):
        sam2.make(NAME, str(tmp_path / "none.pt"), "cpu")
    with pytest.raises(ConfigError, match="random:<seed>, a whole number"):
        sam2.make(NAME, "random:x", "cpu")


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "sam2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "dfloc.models.sam2")
    for name in ("sam2", "hydra"):
        monkeypatch.setitem(sys.modules, name, None)
    make = registry.find("backbone", "sam2.1-tiny")
    with pytest.raises(ConfigError, match=r"pip install --no-build-isolation -c constraints\.txt sam2") as told:
        make("sam2.1-tiny", "random", "cpu")
    assert "\n" not in str(told.value)
    assert registry.map_spec("sam2.1-tiny/image_embed") == (256, 64, 64, "grid"), "a plan needs no library"


def test_hydras_global_state_is_left_as_it_is() -> None:
    before = GlobalHydra.instance().hydra
    sam2.build(NAME)
    assert GlobalHydra.instance().hydra is before
    GlobalHydra.instance().clear()
    try:
        sam2.build(NAME)
        assert not GlobalHydra.instance().is_initialized()
    finally:
        GlobalHydra.instance().hydra = before


def test_a_map_that_does_not_exist_is_named_with_the_choices(loaded: sam2.Sam2) -> None:
    with pytest.raises(ConfigError, match=r'"image_embedding".*did you mean "image_embed"'):
        registry.map_spec("sam2.1-small/image_embedding")
    with pytest.raises(ConfigError, match=r"high_res_feats.2.*high_res_feats.0"):
        loaded(torch.zeros(1, 3, 128, 128), ["high_res_feats.2"])


def test_a_decoder_trains_on_top_and_the_full_model_stays_as_it_was(checkpoint: Path) -> None:
    backbone = sam2.make(NAME, str(checkpoint), "cpu")
    before = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    made = build(DecoderSpec(name="linear"), [backbone.maps["image_embed"]], torch.Generator().manual_seed(0))
    model = nn.ModuleDict({"backbone": backbone.model, "decoder": made}).train()
    assert {name.partition(".")[0] for name, each in model.named_parameters() if each.requires_grad} == {"decoder"}
    optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
    recipe = recipe_for(f"{NAME}/image_embed", backbone.digest)
    for _ in range(2):
        made(look(photographs(2, (64, 64)), {NAME: backbone}, [recipe]).clone()).mean().backward()
        optimizer.step()
    assert not any(part.training for part in backbone.model.modules())
    assert all(torch.equal(value, before[key]) for key, value in backbone.model.state_dict().items())


def test_it_computes_in_float32_also_under_autocast(loaded: sam2.Sam2) -> None:
    inputs = loaded.preprocess(photographs(1, (64, 64))[0])[None]
    plain = loaded(inputs, MAPS)
    with torch.autocast("cpu", torch.bfloat16):
        low = loaded(inputs, MAPS)
    for name, values in plain.items():
        assert values.dtype == torch.float32
        assert torch.equal(values, low[name])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_nearly_the_same_numbers() -> None:
    here, there = (sam2.make("sam2.1-tiny", "random", device) for device in ("cpu", "cuda"))
    inputs = here.preprocess(photographs(1, (256, 256))[0])[None]
    with exact(4):
        mine, other = here(inputs, MAPS), there(inputs, MAPS)
    for name, values in mine.items():
        torch.testing.assert_close(other[name].cpu(), values, atol=1e-3, rtol=1e-3)
