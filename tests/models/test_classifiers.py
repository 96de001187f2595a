from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image
from torch import Tensor, nn

from dfloc.config import DecoderSpec
from dfloc.errors import ConfigError, DflocError
from dfloc.features.weights import CLASSIFIER, WeightsIndex
from dfloc.models import classifiers, decoders, hub, tensors
from dfloc.models.xception import enlarged
from dfloc.registry import MapSpec, map_spec
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from tests.contracts.backbone import photographs
from tests.models.test_heads import Examples, HeadContract

PIXELS = (map_spec("pixels"),)
SMALL = "resnet10t"
SPEC = DecoderSpec(name="timm", model=SMALL)


class TestResNet(HeadContract):
    spec, maps, num = SPEC, PIXELS, 2

    def test_what_suits_is_checked_without_a_draw(self) -> None:
        before = torch.random.get_rng_state()
        decoders.check(SPEC, PIXELS, 3)
        classifiers.check(SPEC)
        assert decoders.weight_bytes(SPEC, PIXELS, 3) == 0
        assert torch.equal(torch.random.get_rng_state(), before)


def made(model: str = SMALL, num_classes: int = 3, seed: int = 0, **fields: Any) -> nn.Module:
    spec = DecoderSpec(name="timm", model=model, **fields)
    return decoders.build(spec, PIXELS, torch.Generator().manual_seed(seed), num_classes).eval()


def levels(num: int) -> Tensor:
    """Return images as stored pixels come: whole grey levels, float32."""
    return torch.from_numpy(np.stack(photographs(num, (256, 256)))).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(("model", "side", "half"), [(SMALL, 256, False), ("xception41", 299, True)])
def test_it_is_timms_model_on_images_that_pillow_enlarges(model: str, side: int, half: bool) -> None:
    """timm's own network with the same weights, normalised by hand; xception41: 299 by PIL, bilinear, no crop."""
    decoder, images = made(model), photographs(2, (256, 256))
    network = timm.create_model(model, num_classes=3).eval()
    network.load_state_dict(decoder.net.state_dict())
    resized = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)) for image in images]
    x_BCHW = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255
    mean, std = ([0.5] * 3, [0.5] * 3) if half else ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    expected_BK = network((x_BCHW - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1))
    torch.testing.assert_close(decoder(levels(2)), expected_BK, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("side", [256, 299, 331])
def test_images_are_enlarged_to_any_side_as_by_pillow(side: int) -> None:
    [image] = photographs(1, (256, 256))
    expected = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
    assert np.array_equal(enlarged(levels(1), side)[0].permute(1, 2, 0).numpy(), expected)


def test_the_models_of_the_study_have_their_sizes() -> None:
    """Parameters with two classes, as timm alone counted them."""
    with torch.device("meta"):
        for model, num in (("xception41", 24_924_658), ("legacy_xception", 20_811_050)):
            decoder = decoders.build(DecoderSpec(name="timm", model=model), PIXELS, torch.Generator("cpu"), 2)
            assert sum(parameter.numel() for parameter in decoder.parameters()) == num


def test_the_seed_draws_every_weight() -> None:
    first, again, other = (made(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["net.fc.weight"], other["net.fc.weight"])
    assert not torch.equal(first["net.conv1.0.weight"], other["net.conv1.0.weight"])


def test_it_learns() -> None:
    data = Examples(levels(4), torch.arange(4) % 2)
    data.x[1::2] = 255 - data.x[1::2]
    decoder = made(num_classes=2).train()
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-3)
    for _ in range(6):
        loss = nn.functional.cross_entropy(decoder(data.x), data.label_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.3


def test_frozen_statistics_never_move() -> None:
    decoder = made(batch_norm="frozen").train()
    before = {name: value.clone() for name, value in decoder.named_buffers()}
    decoder(levels(2))
    assert all(torch.equal(value, before[name]) for name, value in decoder.named_buffers())
    free = made().train()
    before = {name: value.clone() for name, value in free.named_buffers()}
    free(levels(2))
    assert not all(torch.equal(value, before[name]) for name, value in free.named_buffers())


def published(path: Path, seed: int = 4) -> dict[str, Tensor]:
    """Write a file as timm publishes one: the whole model with a head of 1,000 classes."""
    torch.manual_seed(seed)
    state = timm.create_model(SMALL).state_dict()
    safetensors.torch.save_file(state, path)
    return state


def test_it_begins_from_a_file_of_any_head_and_keeps_its_own(tmp_path: Path) -> None:
    state = published(tmp_path / "model.safetensors")
    decoder, plain = made(), made()
    decoder.begin_from(classifiers.weights(SMALL, str(tmp_path / "model.safetensors")))
    own = decoder.net.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own if not name.startswith("fc."))
    assert torch.equal(own["fc.weight"], plain.net.state_dict()["fc.weight"])
    without = {name: value for name, value in state.items() if not name.startswith("fc.")}
    torch.save({f"module.{name}": value for name, value in without.items()}, tmp_path / "bare.pth")
    torch.save(without | {"fc.weight": torch.ones(2, 512), "fc.bias": torch.ones(2)}, tmp_path / "two.pth")
    files = ("model.safetensors", "bare.pth", "two.pth")
    digests = {tensors.digest(classifiers.weights(SMALL, str(tmp_path / file))) for file in files}
    assert len(digests) == 1


def test_weights_of_another_model_do_not_fit(tmp_path: Path) -> None:
    published(tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"do not fit resnet18: .*; give those of this model of timm"):
        classifiers.weights("resnet18", str(tmp_path / "model.safetensors"))
    given = classifiers.weights(SMALL, "random:3")
    with pytest.raises(ConfigError, match="weights do not fit the model: "):
        made("resnet18").begin_from(given)


def test_the_index_knows_them_by_digest(tmp_path: Path) -> None:
    workspace, word = Workspace(tmp_path / "workspace"), str(tmp_path / "model.safetensors")
    state = published(tmp_path / "model.safetensors")
    known = Inventory(workspace)
    digest = known.encoder(SPEC.model_copy(update={"weights": word}))
    assert digest is not None
    assert len(digest) == 64
    assert known.words[digest] == word
    found = WeightsIndex(workspace).encoder(SMALL, digest, CLASSIFIER)
    assert torch.equal(found["layer4.0.conv2.weight"], state["layer4.0.conv2.weight"])
    assert known.encoder(SPEC) is known.encoder(SPEC.model_copy(update={"weights": "random"})) is None
    dry = Inventory(Workspace(tmp_path / "other"), load=False)
    assert dry.encoder(SPEC.model_copy(update={"weights": "imagenet"})) == "imagenet"
    published(tmp_path / "model.safetensors", seed=5)
    with pytest.raises(DflocError, match=f"weights of timm:{SMALL} .* have changed: "):
        WeightsIndex(workspace).encoder(SMALL, digest, CLASSIFIER)


def test_without_a_network_imagenet_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(url: str) -> None:
        raise OSError("no way out")

    monkeypatch.setattr(hub, "_reach", refused)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_, **__: None)
    words = (
        'weights "imagenet" of xception41 are not in .*no way out.*timm/xception41.tf_in1k/.*trial.decoder.weights=PATH'
    )
    with pytest.raises(ConfigError, match=words):
        classifiers.weights("xception41", "imagenet")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere")
    words = r"of legacy_xception are not in .*no way out.*put the file https.*43020ad28.pth at /nowhere/checkpoints/xce"
    with pytest.raises(ConfigError, match=words):
        classifiers.weights("legacy_xception", "imagenet")
    with pytest.raises(ConfigError, match=r"timm has no file of .* of botnet50ts_256 on the hub"):
        classifiers.weights("botnet50ts_256", "imagenet")


def test_a_file_that_is_not_on_the_hub_is_found_in_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    network = timm.create_model("legacy_xception")
    torch.save(network.state_dict(), tmp_path / "checkpoints" / "xception-43020ad28.pth")
    found = classifiers.weights("legacy_xception", "imagenet")
    assert torch.equal(found["block7.rep.1.pointwise.weight"], network.block7.rep[1].pointwise.weight)


def test_an_image_of_299_is_read_as_it_is_by_what_sees_299() -> None:
    large = (map_spec("pixels299"),)
    spec = DecoderSpec(name="timm", model="legacy_xception")
    decoders.check(spec, large, 2)
    classifiers.check_side(spec, large)
    decoder = decoders.build(spec, large, torch.Generator().manual_seed(0), 2).eval()
    with torch.no_grad():
        torch.testing.assert_close(decoder(enlarged(levels(1))), decoder(levels(1)))
    with pytest.raises(ConfigError, match=r"resnet10t sees 256 pixels, not 299; use maps: \[pixels\]"):
        decoders.build(SPEC, large, torch.Generator(), 2)


def test_a_tag_is_part_of_the_name_of_a_model() -> None:
    assert (
        classifiers.weights("resnet18.tv_in1k", "random:1").keys() == classifiers.weights("resnet18", "random:1").keys()
    )


@pytest.mark.parametrize(
    ("spec", "maps", "num_classes", "words"),
    [
        (DecoderSpec(name="timm"), PIXELS, 2, "needs a model: .*xception41"),
        (
            DecoderSpec(name="timm", model="xceptoin41"),
            PIXELS,
            2,
            'unknown model of timm "xceptoin41"; did you mean "xce',
        ),
        (DecoderSpec(name="timm", model="hf-hub:a/b"), PIXELS, 2, 'unknown model of timm "hf-hub:a/b"'),
        (DecoderSpec(name="timm", model="local-dir:/etc"), PIXELS, 2, 'unknown model of timm "local-dir:/etc"'),
        (DecoderSpec(name="timm", model="resnet18.nothing"), PIXELS, 2, 'unknown model of timm "resnet18.nothing"'),
        (DecoderSpec(name="timm", model=""), PIXELS, 2, "needs a model"),
        (DecoderSpec(name="timm", model="vit_tiny_patch16_224"), PIXELS, 2, "cannot be built for images of 256 pixels"),
        (SPEC, (MapSpec(5, 8, 8),), 2, r"on maps: \[pixels\] or \[pixels299\]; it cannot read 5x8x8"),
        (SPEC, (MapSpec(5, 1, 1, "vector"),), 2, r"is trained end to end on maps: \[pixels\]"),
        (SPEC, PIXELS, None, "answers once an image, but the task is to localize; use smp, or set task: detect"),
    ],
)
def test_one_clear_error_each(
    spec: DecoderSpec, maps: tuple[MapSpec, ...], num_classes: int | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):  # noqa: PT012
        decoders.check(spec, maps, num_classes)
        classifiers.check(spec)


@pytest.mark.parametrize("word", ["imagnet", "random:x", "", "1"])
def test_unknown_words_for_weights(word: str) -> None:
    with pytest.raises(ConfigError, match=f'unknown weights of {SMALL} "{word}".*imagenet'):
        classifiers.weights(SMALL, word)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"\xff" * 4096])
def test_files_that_are_no_weights(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "odd.pth").write_bytes(content)
    with pytest.raises(DflocError, match=r"odd\.pth"):
        classifiers.weights(SMALL, str(tmp_path / "odd.pth"))
