import re
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import open_clip
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from dfloc.errors import ConfigError
from dfloc.models import clip, hub
from tests.contracts.backbone import photographs
from tests.small_clip import save_archive, whole

NAMES = ["clip:small-vit-quickgelu", "clip:small-resnet"]


def model_of(name: str) -> nn.Module:
    return whole(name.removeprefix("clip:"))


def maps(backbone: clip.Clip) -> dict[str, Tensor]:
    images = torch.stack([backbone.preprocess(image) for image in photographs(2, (50, 60))])
    return backbone(images, list(backbone.maps))


def half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in state.items()}


FORMS: dict[str, Callable[[nn.Module, Path], None]] = {
    "whole.safetensors": lambda model, path: safetensors.torch.save_file(model.state_dict(), path),
    "tower.safetensors": lambda model, path: safetensors.torch.save_file(model.visual.state_dict(), path),
    "half.safetensors": lambda model, path: safetensors.torch.save_file(half(model.state_dict()), path),
    "whole.pt": lambda model, path: torch.save(model.state_dict(), path),
    "half-tower.pt": lambda model, path: torch.save(half(model.visual.state_dict()), path),
    "parallel.pt": lambda model, path: torch.save({f"module.{k}": v for k, v in model.state_dict().items()}, path),
    "parallel-tower.pt": lambda model, path: torch.save(
        {f"module.{k}": v for k, v in model.visual.state_dict().items()}, path
    ),
    "training.pt": lambda model, path: torch.save({"epoch": 1, "state_dict": model.state_dict()}, path),
    "declip.pth": lambda model, path: torch.save(
        {
            "model": {f"model.{k}": v for k, v in model.state_dict().items()} | {"fc.0.weight": torch.ones(2, 2)},
            "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]},
            "feature_layer": "layer20",
            "decoder_type": "conv-20",
        },
        path,
    ),
    "no-counters.pt": lambda model, path: torch.save(
        {k: v for k, v in model.state_dict().items() if "num_batches" not in k}, path
    ),
    "openai.pt": lambda model, path: save_archive(model, path),
    "half-openai.pt": lambda model, path: save_archive(model.half().float(), path),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_form_of_the_same_weights_is_the_same_backbone(tmp_path: Path, name: str) -> None:
    expected = maps(clip.from_tensors(name, model_of(name).state_dict(), "cpu", source="a test"))
    digests = set()
    for form, save in FORMS.items():
        path = tmp_path / form
        save(model_of(name), path)
        backbone = clip.make(name, str(path), "cpu")
        digests.add(backbone.digest)
        for each, values in maps(backbone).items():
            assert torch.equal(values, expected[each]), form
        assert {value.dtype for value in backbone.tower.parameters()} == {torch.float32}
    assert len(digests) == 1
    assert re.fullmatch("[0-9a-f]{64}", digests.pop())


def test_the_tower_of_a_checkpoint_has_the_digest_of_its_file(tmp_path: Path) -> None:
    name, state = "clip:small-resnet", model_of("clip:small-resnet").state_dict()
    path = tmp_path / "whole.safetensors"
    safetensors.torch.save_file(half(state), path)
    tower = clip.image_tower({f"model.{key}": value for key, value in state.items()})
    assert tower.keys() == {key.removeprefix("visual.") for key in state if key.startswith("visual.")}
    embedded = clip.from_tensors(name, tower, "cpu", source="a checkpoint")
    assert embedded.digest == clip.make(name, str(path), "cpu").digest


def test_two_image_towers_are_refused() -> None:
    state = {f"{prefix}.visual.conv1.weight": torch.ones(1) for prefix in "ab"}
    with pytest.raises(ConfigError, match="one image tower, not of 2: "):
        clip.image_tower(state)


def test_digest_tells_weights_activation_and_normalization_apart_and_not_counters() -> None:
    state = whole("small-vit").visual.state_dict()

    def digest(name: str = "clip:small-vit", change: str = "", tag: dict[str, object] | None = None) -> str:
        changed = {key: value + (key == change) for key, value in state.items()}
        return clip.from_tensors(name, changed, "cpu", source="a test", tag=tag).digest

    siglip = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    last = "transformer.resblocks.4.mlp.c_proj.bias"
    found = [
        digest(),
        digest("clip:small-vit-quickgelu"),
        digest(tag=siglip),
        digest(change=last),
        digest(change="proj"),
    ]
    assert len(set(found)) == len(found)
    state = whole("small-resnet").visual.state_dict()
    assert digest("clip:small-resnet", "bn1.num_batches_tracked") == digest("clip:small-resnet")
    assert digest("clip:small-resnet", "bn1.running_mean") != digest("clip:small-resnet")


@pytest.fixture
def tagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the small transformer a tag of OpenAI's, as the large ones have it."""
    table = open_clip.pretrained._PRETRAINED
    config = open_clip.get_pretrained_cfg("ViT-B-32", "openai") | {"hf_hub": "someone/small-vit/"}
    for name in ("small-vit", "small-vit-quickgelu"):
        monkeypatch.setitem(table, name, {"openai": config})


def cached(folder: Path, file: str, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a file where the hub's library keeps what it has fetched."""
    at = folder / "models--someone--small-vit"
    (at / "snapshots" / "0" / file).parent.mkdir(parents=True)
    (at / "refs").mkdir()
    (at / "refs" / "main").write_text("0")
    torch.save(state, at / "snapshots" / "0" / file)
    if file.endswith(".safetensors"):
        safetensors.torch.save_file(state, at / "snapshots" / "0" / file)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))


@pytest.mark.parametrize("file", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
@pytest.mark.usefixtures("tagged")
def test_a_tag_in_the_cache_needs_no_network(tmp_path: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_reach", lambda url: pytest.fail("asked the network"))
    state = whole("small-vit").state_dict()
    cached(tmp_path, file, state, monkeypatch)
    backbone = clip.make("clip:small-vit-quickgelu", "OpenAI", "cpu")
    expected = clip.from_tensors("clip:small-vit-quickgelu", state, "cpu", source="a test")
    assert backbone.digest == expected.digest
    assert all(torch.equal(values, maps(expected)[each]) for each, values in maps(backbone).items())


@pytest.mark.usefixtures("tagged")
def test_openais_weights_never_compute_with_gelu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = whole("small-vit")
    cached(tmp_path, "open_clip_model.safetensors", model.state_dict(), monkeypatch)
    save_archive(model, tmp_path / "openai.pt")
    quick = clip.from_tensors("clip:small-vit-quickgelu", model.state_dict(), "cpu", source="a test")
    plain = clip.from_tensors("clip:small-vit", model.state_dict(), "cpu", source="a test")
    assert not torch.equal(maps(quick)["layer0"], maps(plain)["layer0"])
    for weights in ("openai", str(tmp_path / "openai.pt")):
        backbone = clip.make("clip:small-vit", weights, "cpu")
        assert backbone.digest == quick.digest != plain.digest
        assert all(torch.equal(values, maps(quick)[each]) for each, values in maps(backbone).items())


def fails(name: str, weights: str) -> str:
    with pytest.raises(ConfigError) as told:
        clip.make(name, weights, "cpu")
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            "small-wide",
            r"do not fit clip:small-vit: class_embedding is 48, expected 32 \(and \d+ more\); give those of",
        ),
        ("small-resnet", r"do not fit clip:small-vit: it lacks class_embedding, .* in all; the model has no bn1"),
        ("small-timm-vit", r"do not fit clip:small-vit: it lacks .*; the model has no trunk.cls_token, .* in all"),
    ],
)
def test_weights_of_another_model_say_what_did_not_fit(tmp_path: Path, made: str, words: str) -> None:
    path = tmp_path / "weights.pt"
    torch.save(whole(made).state_dict(), path)
    told = fails("clip:small-vit", str(path))
    assert told.startswith(f"weights {path} do not fit")
    assert re.search(words, told)


def test_a_tower_with_one_tensor_too_few_or_too_many_is_refused(tmp_path: Path) -> None:
    state = whole("small-vit").visual.state_dict()
    for change, words in (({"proj": None}, "it lacks proj;"), ({"other": torch.ones(1)}, "the model has no other;")):
        changed = {key: value for key, value in (state | change).items() if value is not None}
        torch.save(changed, tmp_path / "weights.pt")
        assert words in fails("clip:small-vit", str(tmp_path / "weights.pt"))


def test_words_that_name_no_weights(tmp_path: Path) -> None:
    for word in ("random:abc", "random:", "random:-1", "random:1.5"):
        assert fails("clip:small-vit", word) == (
            f'weights "{word}": expected random or random:<seed>, a whole number, such as random:1'
        )
    assert 'unknown weights of clip-rn50 "opnai"; did you mean "openai"? known: cc12m, openai,' in fails(
        "clip-rn50", "opnai"
    )
    assert 'unknown weights of clip:small-vit "none"; ' in fails("clip:small-vit", "none")
    assert "expected a file, but it is missing" in fails("clip:small-vit", "none.pt")
    assert "expected a file, but it is a folder" in fails("clip:small-vit", str(tmp_path))


def test_models_that_are_none() -> None:
    assert 'unknown open_clip model "small-vti"; did you mean "small-vit"?' in fails("clip:small-vti", "random")
    assert "reads images of 32x64; expected a square input" in fails("clip:small-oblong", "random")


def test_a_seed_is_a_number() -> None:
    assert clip.make("clip:small-vit", "random:007", "cpu").digest == "random:7"
