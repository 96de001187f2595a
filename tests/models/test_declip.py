"""A published checkpoint becomes our decoder, or one clear message."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dfloc import repro
from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError, DataError, DflocError
from dfloc.models import declip, decoders
from dfloc.registry import map_spec
from tests import published, small_clip
from tests.published import CHANNELS, FUSED, RESNET, VIT, WIDE


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> None:
    published.register(tmp_path_factory.mktemp("declip"))


def write(path: Path, arch: str, layer: str, kind: str = "conv-4", **how: int) -> torch.nn.Module:
    """Write a checkpoint and return its decoder."""
    channels = CHANNELS.get(arch, CHANNELS.get(layer, 0))
    sizes = {"layer1": 56, "layer2": 28, "layer3": 14, "layer4": 7}
    size = sizes[layer] if arch == RESNET else 16
    made = published.decoder(kind, how.get("channels", channels), size, resnet=RESNET in arch)
    clips = [] if arch == FUSED else [small_clip.whole(arch.removeprefix("clip:"))]
    torch.save(published.checkpoint(made, layer, kind, *clips), path)
    return made


@pytest.mark.parametrize(
    ("arch", "layer", "kind", "grid"),
    [
        (VIT, "layer2", "conv-4", 16),
        (VIT, "layer0", "conv-8", 16),
        (VIT, "layer1", "linear", 16),
        (RESNET, "layer1", "conv-4", 56),
        (RESNET, "layer2", "conv-4", 28),
        (RESNET, "layer3", "conv-4", 14),
        (RESNET, "layer4", "conv-4", 7),
        (FUSED, "layer0", "conv-4", 16),
    ],
)
def test_our_decoder_says_what_theirs_says(tmp_path: Path, arch: str, layer: str, kind: str, grid: int) -> None:
    theirs = write(tmp_path / "file.pth", arch, layer, kind)
    found = declip.read(tmp_path / "file.pth", arch)
    expected = (f"{VIT}/{layer}", f"{RESNET}/layer3") if arch == FUSED else (f"{arch}/{layer}",)
    assert found.maps == expected
    ours = decoders.build(found.decoder, [map_spec(name) for name in found.maps], repro.generator(0, "init"))
    ours.load_state_dict(found.weights)
    channels = sum(map_spec(name).channels for name in found.maps)
    x_BCHW = torch.randn(1, channels, grid, grid, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        said = ours.eval()(x_BCHW)[:, 0]
    wanted = published.logits(theirs, x_BCHW)
    assert float(wanted.std()) > 1e-2
    torch.testing.assert_close(said, wanted, rtol=1e-4, atol=1e-4)


def test_the_image_tower_comes_apart_from_the_text_tower(tmp_path: Path) -> None:
    write(tmp_path / "file.pth", VIT, "layer2")
    tower = declip.read(tmp_path / "file.pth", VIT).tower
    inside = small_clip.whole("declip-vit").visual.state_dict()
    assert set(tower) == {f"visual.{name}" for name in inside}
    assert all(torch.equal(tower[f"visual.{name}"], value) for name, value in inside.items())


def test_numbers_order_the_layers_whatever_order_the_file_has(tmp_path: Path) -> None:
    write(tmp_path / "file.pth", VIT, "layer2", "conv-8")
    straight = declip.read(tmp_path / "file.pth", VIT).weights
    held = torch.load(tmp_path / "file.pth", weights_only=True)
    held["model"] = dict(sorted(held["model"].items()))
    assert list(held["model"]).index("fc.10.bias") < list(held["model"]).index("fc.3.bias")
    torch.save(held, tmp_path / "sorted.pth")
    again = declip.read(tmp_path / "sorted.pth", VIT).weights
    assert list(again) == list(straight)
    assert all(torch.equal(again[name], straight[name]) for name in straight)


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda held: held["model"].pop("fc.4.weight"), r"fc\.4\.weight is missing for a decoder conv-4"),
        (lambda held: held["model"].pop("fc.1.running_var"), r"fc\.1\.running_var is missing"),
        (lambda held: [held["model"].pop(f"fc.16.{kind}") for kind in ("weight", "bias")], "1 layers are missing"),
        (lambda held: held["model"].update({"fc.18.weight": torch.ones(1)}), r"left over: fc\.18\.weight"),
        (lambda held: held["model"].update({"fc.0.scale": torch.ones(1)}), r"fc\.0\.scale is left over"),
        (lambda held: held["model"].update({"head.0.bias": torch.ones(1)}), r"neither CLIP's .*: head\.0\.bias"),
        (lambda held: held["model"].update({"model.odd": torch.ones(1)}), r"neither CLIP's .*: model\.odd"),
        (lambda held: held["model"].update({"more.visual.proj": torch.ones(1)}), r"more\.visual\.proj"),
        (lambda held: held["model"].update({"fc.0.bias": [1.0]}), r"fc\.0\.bias should be plain tensors"),
        (lambda held: held["model"].update({7: torch.ones(1)}), "7 should be plain tensors"),
        (lambda held: held["model"].update({"fc.0.bias": torch.ones(512).to_sparse()}), r"fc\.0\.bias .* plain"),
        (lambda held: held["model"].update({"fc.0.bias": torch.ones(512, device="meta")}), r"fc\.0\.bias .* plain"),
        (lambda held: held["model"].update({"fc.0.bias": torch.ones(512) * 1j}), r"fc\.0\.bias .* plain"),
        (
            lambda held: held["model"].update({"model.visual.proj": torch.eye(32, 16).to_sparse()}),
            "proj should be plain",
        ),
        (lambda held: held["model"].update({"model.visual.proj": torch.full((32, 16), torch.nan)}), "proj has a value"),
        (lambda held: held.update(decoder_type="conv-40000000"), "holds 30 tensors .* too few .* conv-40000000"),
        (lambda held: held["model"].update({"fc.0.bias": torch.full((512,), torch.nan)}), "no finite number"),
        (lambda held: held.pop("feature_layer"), "feature_layer should be a word"),
        (
            lambda held: held.update(feature_layer="layer9"),
            "the checkpoint reads layer9, but clip:declip-vit gives layer0 to layer2",
        ),
        (lambda held: held.update(feature_layer=None), "feature_layer should be a word, but it is None"),
        (lambda held: held.update(decoder_type="conv-12"), r"fc\.4\.weight is .*, expected .* conv-12"),
        (lambda held: held.update(decoder_type="conv-2"), "too few convolutions"),
        (lambda held: held.update(decoder_type="attention"), "tokens of a multiple of 64 values, not 32"),
        (lambda held: held.update(decoder_type="linaer"), 'did you mean "linear"'),
        (lambda held: held.update(decoder_type="linear"), "expected 1x32x1x1 for a decoder linear"),
        (lambda held: held.pop("model"), "is no checkpoint of DeCLIP: expected the keys model"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, spoil: Spoil, said: str) -> None:
    write(tmp_path / "file.pth", VIT, "layer2")
    held = torch.load(tmp_path / "file.pth", weights_only=True)
    spoil(held)
    torch.save(held, tmp_path / "file.pth")
    with pytest.raises(DflocError, match=said):
        declip.read(tmp_path / "file.pth", VIT)


@pytest.mark.parametrize(
    ("written", "asked", "said"),
    [
        (VIT, FUSED, "holds an image tower, but --arch"),
        (FUSED, VIT, "holds no image tower, but --arch"),
        (VIT, "clip-vit-l14", r"fc\.0\.weight is 512x32x5x5, expected 512x1024x5x5"),
        (VIT, "clip-vit-l41", 'did you mean "clip-vit-l14"'),
        (VIT, f"{VIT},{RESNET},{VIT}", "names 3 backbones"),
        (FUSED, f"{RESNET},{VIT}", "but clip:declip-resnet gives layer1 to layer4"),
    ],
)
def test_another_architecture_is_named(tmp_path: Path, written: str, asked: str, said: str) -> None:
    write(tmp_path / "file.pth", written, "layer0")
    with pytest.raises(ConfigError, match=said):
        declip.read(tmp_path / "file.pth", asked)


def test_what_is_not_built_of_a_fused_or_residual_one_is_said(tmp_path: Path) -> None:
    write(tmp_path / "file.pth", FUSED, "layer0")
    held = torch.load(tmp_path / "file.pth", weights_only=True)
    torch.save(held | {"feature_layer": "layer1"}, tmp_path / "quirk.pth")
    with pytest.raises(ConfigError, match="fused checkpoint of layer1 has a decoder of another shape"):
        declip.read(tmp_path / "quirk.pth", FUSED)
    for kind in ("linear", "attention"):
        torch.save(held | {"feature_layer": "layer3", "decoder_type": kind}, tmp_path / "other.pth")
        with pytest.raises(ConfigError, match=f"{kind} reads the tokens of one transformer"):
            declip.read(tmp_path / "other.pth", RESNET)


@pytest.mark.parametrize(
    "names", [("attention.0.", "attention.1.", "fc."), ("fc.0.", "fc.1.", "fc.2."), ("b.9.", "b.10.", "")]
)
def test_attention_says_what_theirs_says_whatever_the_blocks_are_called(tmp_path: Path, names: tuple[str, ...]) -> None:
    theirs = published.attention(64)
    held = published.checkpoint(theirs, "layer2", "attention", small_clip.whole("declip-wide"), names=names)
    torch.save(held, tmp_path / "file.pth")
    found = declip.read(tmp_path / "file.pth", WIDE)
    assert found.decoder == DecoderSpec(name="attention", init="declip", mask="causal", trained="declip")
    ours = decoders.build(found.decoder, [map_spec(f"{WIDE}/layer2")], repro.generator(0, "init")).eval()
    ours.load_state_dict(found.weights)
    x_BTC = torch.randn(2, 257, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        said = ours(x_BTC.transpose(1, 2)[:, :, None])[:, 0]
    torch.testing.assert_close(said, published.attention_logits(theirs, x_BTC), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda model: model.pop("fc.0.attn.in_proj_bias"),
            r"fc\.0\.attn\.in_proj_bias is missing for a decoder attention",
        ),
        (
            lambda model: [model.pop(f"fc.1.ln_2.{kind}") for kind in ("weight", "bias")],
            r"fc\.1\.ln_2\.weight is missing",
        ),
        (lambda model: model.update({"fc.2.weight": torch.ones(1, 32)}), "fc.2.weight is 1x32, expected 1x64"),
        (lambda model: model.update({"fc.2.scale": torch.ones(1)}), r"fc\.2\.scale is left over"),
        (lambda model: model.update({"fc.3.weight": torch.ones(1)}), "2 blocks of attention and 2 other layers"),
        (lambda model: [model.pop(name) for name in list(model) if name.startswith("fc.")], "0 blocks of attention"),
        (lambda model: model.update({"fc.5.ln_1.bias": torch.ones(64)}), "3 blocks of attention and 1 other layers"),
    ],
)
def test_what_does_not_fit_attention_is_named(
    tmp_path: Path, spoil: Callable[[dict[str, Any]], object], said: str
) -> None:
    clip = small_clip.whole("declip-wide")
    held = published.checkpoint(published.attention(64), "layer2", "attention", clip, names=("fc.0.", "fc.1.", "fc.2."))
    spoil(held["model"])
    torch.save(held, tmp_path / "file.pth")
    with pytest.raises(ConfigError, match=said):
        declip.read(tmp_path / "file.pth", WIDE)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_that_was_cut_is_one_message(tmp_path: Path, share: float) -> None:
    write(tmp_path / "file.pth", VIT, "layer2")
    data = (tmp_path / "file.pth").read_bytes()
    (tmp_path / "file.pth").write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match=r"file\.pth.*(cut off|damaged|is empty)"):
        declip.read(tmp_path / "file.pth", VIT)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise SystemExit('it ran')",)


def test_nothing_of_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"model": Evil()}, tmp_path / "file.pth")
    with pytest.raises(DataError, match="Python objects"):
        declip.read(tmp_path / "file.pth", VIT)
    with pytest.raises(ConfigError, match="missing"):
        declip.read(tmp_path / "gone.pth", VIT)
