import math
from pathlib import Path

import huggingface_hub.constants
import pytest
import segmentation_models_pytorch as library
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from dfloc.errors import ConfigError, DataError
from dfloc.models import encoders, hub, tensors

SMALL = "mobilenet_v2"  # of the library's own the quickest to build
TIMM = "tu-resnet10t"


def drawn(encoder: str, seed: int = 1) -> nn.Module:
    return encoders.build(encoder) if seed is None else _seeded(encoder, seed)


def _seeded(encoder: str, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return encoders.build(encoder)


def kept(state: dict[str, torch.Tensor], path: Path) -> str:
    save_file({name: value.contiguous() for name, value in state.items()}, path)
    return str(path)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("form", ["safetensors", "torch", "classifier", "segmenter", "wrapped"])
def test_a_file_gives_the_encoders_own_tensors(form, tmp_path):
    state = drawn(SMALL).state_dict()
    path = tmp_path / "encoder.bin"
    match form:
        case "safetensors":
            path = Path(kept(state, tmp_path / "encoder.safetensors"))
        case "torch":
            torch.save(state, path)
        case "classifier":
            torch.save(state | {"classifier.1.weight": torch.zeros(1000, 1280)}, path)
        case "segmenter":
            torch.save({f"encoder.{name}": value for name, value in state.items()} | {"decoder.x": torch.ones(1)}, path)
        case "wrapped":
            torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    found = encoders.weights(SMALL, str(path))
    assert (found.pop("mean").tolist(), found.pop("std").tolist()) == (
        pytest.approx([0.485, 0.456, 0.406]),
        pytest.approx([0.229, 0.224, 0.225]),
    )
    assert same(found, plain(state))


def test_torchvisions_own_resnet_fits_and_its_classifier_is_left_out(tmp_path):
    network = torchvision.models.resnet18(weights=None)
    found = encoders.weights("resnet18", kept(network.state_dict(), tmp_path / "resnet18.safetensors"))
    assert "fc.weight" not in found
    assert torch.equal(found["layer4.1.conv2.weight"], network.layer4[1].conv2.weight)


@pytest.mark.parametrize("model", ["resnet10t", "convnext_atto"])  # convnext's stages are renamed where maps are cut
def test_a_file_of_timm_fits_its_model_as_encoder(model, tmp_path):
    network = timm.create_model(model, pretrained=False)
    found = encoders.weights(f"tu-{model}", kept(network.state_dict(), tmp_path / "model.safetensors"))
    encoder = encoders.build(f"tu-{model}")
    encoders.fill(encoder, found)
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = network.eval().forward_features(image)
    torch.testing.assert_close(encoder.eval()(image)[-1], expected)


def test_random_weights_are_those_of_their_seed():
    first, again, other = (encoders.weights(SMALL, f"random:{seed}") for seed in (3, 3, 4))
    assert same(first, again)
    assert not same(first, other)
    assert tensors.digest(first) == tensors.digest(again) != tensors.digest(other)


def test_an_encoder_takes_over_what_it_has(tmp_path):
    given, encoder = encoders.weights(SMALL, "random:3"), drawn(SMALL)
    encoders.fill(encoder, given)
    assert all(torch.equal(value, given[name]) for name, value in plain(encoder.state_dict()).items())
    less = {name: value for name, value in given.items() if name != "features.0.1.bias"}
    with pytest.raises(ConfigError, match=r"do not fit the encoder: it lacks features.0.1.bias$"):
        encoders.fill(encoder, less)


# As the makers of the weights state them, for each kind of encoder that the library has.
@pytest.mark.parametrize(
    ("encoder", "tag", "mean", "std"),
    [
        ("resnet50", None, 0.485, 0.229),
        ("resnet50", "swsl", 0.485, 0.229),
        ("inceptionv4", "imagenet", 0.5, 0.5),
        ("inceptionresnetv2", "imagenet+background", 0.5, 0.5),
        ("xception", None, 0.5, 0.5),
        ("dpn68", None, 0.486275, 0.234824),
        ("mit_b0", None, 0.485, 0.229),
        ("efficientnet-b0", "advprop", 0.5, 0.5),
        ("efficientnet-b0", "imagenet", 0.485, 0.229),
        ("timm-tf_efficientnet_lite0", None, 0.5, 0.5),
        ("tu-resnet18", None, 0.485, 0.229),
        ("tu-inception_v4", None, 0.5, 0.5),
    ],
)
def test_normalization_is_the_encoders_own(encoder, tag, mean, std):
    found = encoders.normalization(encoder, tag)
    assert (found.mean[0], found.std[0]) == (pytest.approx(mean, abs=1e-6), pytest.approx(std, abs=1e-6))


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (
            "resnet5",
            r'"resnet5"; did you mean "resnet50"\? known: .*resnet18.*, and tu-<model of timm>',
        ),
        (
            "tu-resnet188",
            r'"tu-resnet188"; did you mean "tu-resnet18\w*"\? [0-9]+ are listed by python',
        ),
        ("tu-resnet18.nobody", r'unknown encoder "tu-resnet18.nobody": Invalid pretrained tag'),
    ],
)
def test_an_unknown_encoder_is_named_with_what_is_near(encoder, words):
    with pytest.raises(ConfigError, match=words):
        encoders.weights(encoder, "random:0")


def test_every_encoder_of_the_library_is_known():
    for name in library.encoders.get_encoder_names():
        encoders.check(name)
        assert all(math.isfinite(value) and value > 0 for value in encoders.normalization(name).std)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {**state, "features.0.0.weight": torch.ones(32, 3, 5, 5)}, "is 32x3x5x5, expected 32x3x3x3"),
        (lambda state: {name: state[name] for name in list(state)[3:]}, "it lacks features.0.0.weight, features.0.1"),
        (lambda state: {**state, "attention.weight": torch.ones(2)}, "the model has no attention.weight; give those"),
        (lambda state: {"a": torch.ones(1)}, "do not fit the encoder mobilenet_v2: it lacks features.0.0.weight"),
    ],
)
def test_the_file_of_another_network_is_refused(change, words, tmp_path):
    path = kept(change(drawn(SMALL).state_dict()), tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=words) as told:
        encoders.weights(SMALL, path)
    assert "other.safetensors" in str(told.value)


@pytest.mark.parametrize(("data", "words"), [(b"", "the file is empty"), (b"PK\x03\x04 nothing", "weights .*cut.pt")])
def test_a_broken_file_is_one_error(data, words, tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes(data)
    with pytest.raises(DataError, match=words):
        encoders.weights(SMALL, str(path))


def test_an_unknown_word_says_which_there_are():
    with pytest.raises(
        ConfigError, match=r'unknown weights of mobilenet_v2 "imagnet"; did you mean "imagenet"\? known: imagenet'
    ):
        encoders.weights(SMALL, "imagnet")
    with pytest.raises(ConfigError, match="expected a file, but it is missing"):
        encoders.weights(SMALL, "nowhere/encoder.pth")


@pytest.mark.parametrize(
    ("encoder", "repository"), [(SMALL, "smp-hub/mobilenet_v2.imagenet"), (TIMM, "timm/resnet10t")]
)
def test_without_a_network_imagenet_says_which_file_to_put_where(encoder, repository, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def nobody(url: str) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(hub, "_reach", nobody)
    with pytest.raises(ConfigError) as told:
        encoders.weights(encoder, "imagenet")
    message = str(told.value)
    assert message.startswith(f'weights "imagenet" of {encoder} are not in the cache and cannot be fetched (Network is')
    assert f"huggingface.co/{repository}" in message
    assert message.endswith(
        "model.safetensors where every node reads it, and name it by --set trial.decoder.weights=PATH"
    )


def test_a_tag_in_the_cache_is_read_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "_reach", lambda url: pytest.fail("asked the network"))
    where = library.encoders.encoders[SMALL]["pretrained_settings"]["imagenet"]
    folder = tmp_path / f"models--{where['repo_id'].replace('/', '--')}" / "snapshots" / where["revision"]
    folder.mkdir(parents=True)
    state = drawn(SMALL).state_dict()
    path = kept(state, folder / "model.safetensors")
    by_tag = encoders.weights(SMALL, "imagenet")
    assert same(by_tag, encoders.weights(SMALL, path))
