from importlib import import_module

import pytest

from dfloc import registry
from dfloc.errors import ConfigError
from dfloc.registry import MapSpec


def test_maps_of_clip_are_those_of_its_blocks_at_224() -> None:
    vit = registry.backbone("clip-vit-l14").maps
    assert list(vit) == [f"layer{k}" for k in range(24)]
    assert set(vit.values()) == {MapSpec(1024, 224 // 14, 224 // 14, "tokens")}
    rn50 = registry.backbone("clip-rn50").maps
    assert {name: spec.channels * spec.height for name, spec in rn50.items()} == dict.fromkeys(rn50, 256 * 56)


@pytest.mark.parametrize("kind", ["backbone", "decoder", "loss", "protocol"])
def test_every_name_that_is_built_is_found(kind: registry.Kind) -> None:
    for name in registry.names(kind):
        if not name.startswith("clip"):
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
    with pytest.raises(ConfigError, match='unknown backbone "clip"'):
        registry.map_spec("clip/layer5")


def test_what_can_only_be_planned_says_so() -> None:
    with pytest.raises(ConfigError, match='"clip-rn50" can be planned, but this version of dfloc cannot run it yet'):
        registry.find("backbone", "clip-rn50")


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(name: str) -> object:
        if name == "dfloc.losses":
            raise ModuleNotFoundError("No module named 'other'", name="other")
        return import_module(name)

    monkeypatch.setattr(registry, "import_module", lost)
    with pytest.raises(ConfigError, match='loss "bce" needs the module other, which is not installed'):
        registry.find("loss", "bce")
