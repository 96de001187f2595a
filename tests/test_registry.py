from importlib import import_module

import pytest

from dfloc import registry
from dfloc.errors import ConfigError
from dfloc.registry import MapSpec


def test_maps_of_clip_are_those_of_its_blocks_at_224() -> None:
    vit = dict(registry.backbone("clip-vit-l14").maps)
    assert vit.pop("projected") == MapSpec(768, 1, 1, "vector")
    assert list(vit) == [f"layer{k}" for k in range(24)]
    assert set(vit.values()) == {MapSpec(1024, 224 // 14, 224 // 14, "tokens")}
    rn50 = dict(registry.backbone("clip-rn50").maps)
    assert rn50.pop("projected") == MapSpec(1024, 1, 1, "vector")
    assert {name: spec.channels * spec.height for name, spec in rn50.items()} == dict.fromkeys(rn50, 256 * 56)


@pytest.mark.parametrize("kind", ["backbone", "decoder", "loss", "protocol"])
def test_every_name_that_is_built_is_found(kind: registry.ComponentKind) -> None:
    for name in registry.names(kind):
        assert callable(registry.find(kind, name))


def test_every_decoder_loss_and_protocol_has_a_semantics_number() -> None:
    named = {f"{kind}/{name}" for kind in ("decoder", "loss", "protocol") for name in registry.names(kind)}  # type: ignore[arg-type]
    assert named < set(registry.SEMANTICS)
    assert set(registry.names("decoder")) > registry.SOLVED


def test_unknown_names_say_what_is_near() -> None:
    with pytest.raises(
        ConfigError, match='unknown decoder "cnov"; did you mean "conv"? known: all-fake'.replace("?", r"\?")
    ):
        registry.find("decoder", "cnov")
    with pytest.raises(ConfigError, match='unknown map of clip-rn50 "layer5"; did you mean "layer'):
        registry.map_spec("clip-rn50/layer5")
    with pytest.raises(ConfigError, match=r'unknown backbone "clip"; did you mean .* clip:<model>'):
        registry.map_spec("clip/layer5")
    with pytest.raises(
        ConfigError, match=r'open_clip model "vit-b-32"; did you mean "ViT-B-32"\? [0-9]+ are listed by'
    ):
        registry.map_spec("clip:vit-b-32/layer5")
    with pytest.raises(ConfigError, match='unknown backbone "sam:x"'):
        registry.find("backbone", "sam:x")


def test_the_map_of_pixels_is_called_as_its_backbone() -> None:
    assert registry.map_spec("pixels") == MapSpec(3, 256, 256)
    for wrong in ("pixels/", "pixels/rgb"):
        with pytest.raises(ConfigError, match=r'unknown map of pixels ".*known: pixels, without a slash'):
            registry.map_spec(wrong)
    with pytest.raises(ConfigError, match='unknown map of srm ""; known: absolute, stats, variance'):
        registry.map_spec("srm")


def test_any_model_of_open_clip_is_a_backbone() -> None:
    row = registry.backbone("clip:ViT-S-32-alt")
    assert list(row.maps) == [*(f"layer{k}" for k in range(12)), "projected"]
    assert set(row.maps.values()) == {MapSpec(384, 7, 7, "tokens"), MapSpec(256, 1, 1, "vector")}
    assert (row.input_size, row.resize) == (224, "pil-bilinear")
    assert registry.map_spec("clip:RN50/layer3") == registry.map_spec("clip-rn50/layer3")
    assert registry.find("backbone", "clip:RN50") is registry.find("backbone", "clip-rn50")


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(name: str) -> object:
        if name == "dfloc.losses":
            raise ModuleNotFoundError("No module named 'other'", name="other")
        return import_module(name)

    monkeypatch.setattr(registry, "import_module", lost)
    with pytest.raises(ConfigError, match='loss "bce" needs the module other, which is not installed'):
        registry.find("loss", "bce")
