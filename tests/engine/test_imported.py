"""A model that was trained elsewhere is a finished trial: evaluated, predicted and fine-tuned like any other."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from dfloc import registry
from dfloc.config import InitFrom, SampleList
from dfloc.engine import checkpoint
from dfloc.engine.batches import look
from dfloc.engine.imported import import_checkpoint
from dfloc.engine.member import Member
from dfloc.engine.predict import Predictor
from dfloc.errors import ConfigError
from dfloc.features.weights import WeightsIndex
from dfloc.ledger import Ledger
from dfloc.storage import Workspace
from tests import published, small_clip
from tests.models.test_declip import write
from tests.published import FUSED, RESNET, VIT


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> None:
    published.register(tmp_path_factory.mktemp("declip"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


IMAGE = np.random.default_rng(5).integers(0, 256, (100, 140, 3), np.uint8)


def test_its_map_is_that_of_the_file(tmp_path: Path, workspace: Workspace) -> None:
    """From the image on: open_clip's own tower, the decoder written down plainly, and torch's own resize."""
    theirs = write(tmp_path / "file.pth", RESNET, "layer3")
    spec = import_checkpoint(workspace, tmp_path / "file.pth", RESNET)
    said = Predictor.load(workspace, spec, "best", "cpu")(IMAGE).prob_HW
    backbone = registry.find("backbone", RESNET)(RESNET, "random", "cpu")
    tower = small_clip.whole("declip-resnet").visual
    x_BCHW = (backbone.preprocess(IMAGE)[None].float() / 255 - backbone.mean) / backbone.std
    with torch.no_grad():
        maps_BCHW = tower.layer3(tower.layer2(tower.layer1(tower.stem(x_BCHW))))
    prob_BHW = published.logits(theirs, maps_BCHW.half().float()).sigmoid()
    wanted = functional.interpolate(prob_BHW[:, None], IMAGE.shape[:2], mode="bilinear", antialias=True)[0, 0]
    torch.testing.assert_close(said, wanted, rtol=0, atol=2e-3)
    assert float(wanted.std()) > 1e-2, "a flat map would show nothing"


def test_it_is_a_finished_trial_whose_training_is_said_or_unknown(tmp_path: Path, workspace: Workspace) -> None:
    write(tmp_path / "file.pth", VIT, "layer2")
    ledger = Ledger(workspace)
    unknown = import_checkpoint(workspace, tmp_path / "file.pth", VIT)
    assert (unknown.lineage.seen, unknown.lineage.base) == ((), ())
    attempts = workspace.trials / unknown.fingerprint / "attempts"
    before = [path.name for path in attempts.iterdir()]
    again = import_checkpoint(workspace, tmp_path / "file.pth", VIT)
    assert again == unknown
    assert [path.name for path in attempts.iterdir()] == before, "the same again writes nothing"
    told = import_checkpoint(workspace, tmp_path / "file.pth", VIT, ["celebahq/ldm", "a/b"])
    assert told.fingerprint == unknown.fingerprint
    assert ledger.spec(told.fingerprint).lineage.seen == ledger.spec(told.fingerprint).lineage.base
    assert ledger.spec(told.fingerprint).lineage.seen == ("a/b", "celebahq/ldm")
    silent = import_checkpoint(workspace, tmp_path / "file.pth", VIT)
    assert silent == told == ledger.spec(told.fingerprint), "nothing said is nothing taken back"
    corrected = import_checkpoint(workspace, tmp_path / "file.pth", VIT, ["a/b"])
    assert corrected.lineage.seen == ledger.spec(told.fingerprint).lineage.seen == ("a/b",)
    data = ledger.weights(told.fingerprint, "best").read_bytes()
    assert data == ledger.weights(told.fingerprint, "last").read_bytes()
    assert told.model_dump()["init"] == {"imported": hashlib.sha256(data).hexdigest()}
    done = ledger.done(told.fingerprint)
    assert done is not None
    assert done.versions["imported"] == "file.pth"


def test_other_numbers_are_another_trial(tmp_path: Path, workspace: Workspace) -> None:
    write(tmp_path / "file.pth", VIT, "layer2")
    held = torch.load(tmp_path / "file.pth", weights_only=True)
    found = {import_checkpoint(workspace, tmp_path / "file.pth", VIT).fingerprint}
    for name in ("fc.0.bias", "model.visual.class_embedding"):
        held["model"][name][0] += 1
        torch.save(held, tmp_path / "other.pth")
        found.add(import_checkpoint(workspace, tmp_path / "other.pth", VIT).fingerprint)
    held["model"]["model.logit_scale"] += 1
    torch.save(held, tmp_path / "other.pth")
    assert import_checkpoint(workspace, tmp_path / "other.pth", VIT).fingerprint in found, "the text tower is nothing"
    assert len(found) == 3


def test_the_tower_inside_is_kept_with_its_statistics(tmp_path: Path, workspace: Workspace) -> None:
    write(tmp_path / "file.pth", RESNET, "layer4")
    spec = import_checkpoint(workspace, tmp_path / "file.pth", RESNET)
    (tmp_path / "file.pth").unlink()
    backbone = WeightsIndex(workspace).make(RESNET, spec.maps[0].weights, "cpu")
    inside = small_clip.whole("declip-resnet").visual.state_dict()
    assert torch.equal(backbone.tower.state_dict()["layer4.0.bn1.running_mean"], inside["layer4.0.bn1.running_mean"])
    assert look([IMAGE], {RESNET: backbone}, spec.maps).shape == (1, 256, 7, 7)


def test_a_fused_one_takes_the_weights_that_are_named(tmp_path: Path, workspace: Workspace) -> None:
    write(tmp_path / "file.pth", FUSED, "layer0")
    spec = import_checkpoint(workspace, tmp_path / "file.pth", FUSED, weights="random:4")
    assert [(recipe.map, recipe.weights) for recipe in spec.maps] == [
        (f"{VIT}/layer0", "random:4"),
        (f"{RESNET}/layer3", "random:4"),
    ]
    assert Predictor.load(workspace, spec, "best", "cpu")(IMAGE).prob_HW.shape == IMAGE.shape[:2]
    write(tmp_path / "single.pth", VIT, "layer2")
    with pytest.raises(ConfigError, match=r"--weights is for a fused checkpoint"):
        import_checkpoint(workspace, tmp_path / "single.pth", VIT, weights="openai")


Spoil = Callable[[dict[str, torch.Tensor]], object]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda model: model.pop("model.visual.conv1.weight"), "it lacks conv1.weight"),
        (lambda model: model.update({"model.visual.odd": torch.ones(1)}), "the model has no odd"),
    ],
)
def test_a_tower_that_does_not_fit_leaves_nothing(
    tmp_path: Path, workspace: Workspace, spoil: Spoil, said: str
) -> None:
    write(tmp_path / "file.pth", VIT, "layer2")
    held = torch.load(tmp_path / "file.pth", weights_only=True)
    spoil(held["model"])
    torch.save(held, tmp_path / "file.pth")
    with pytest.raises(ConfigError, match=said):
        import_checkpoint(workspace, tmp_path / "file.pth", VIT)
    assert not workspace.trials.exists()
    assert not workspace.weights.exists()


def test_the_wrong_one_of_two_alike_is_told_by_its_tower(tmp_path: Path, workspace: Workspace) -> None:
    """Layer 1 of both small towers has 32 channels, as layer 3 of OpenAI's ResNet has a transformer's 1024."""
    write(tmp_path / "file.pth", VIT, "layer1")
    with pytest.raises(ConfigError, match=f"do not fit {RESNET}: it lacks"):
        import_checkpoint(workspace, tmp_path / "file.pth", RESNET)


def test_a_fine_tune_starts_from_its_weights(tmp_path: Path, workspace: Workspace) -> None:
    write(tmp_path / "file.pth", VIT, "layer2")
    spec = import_checkpoint(workspace, tmp_path / "file.pth", VIT)
    train = SampleList(digest="t", counts={"a/b": 4})
    start = {"decoder": InitFrom(parent=spec.fingerprint)}
    child = spec.model_copy(update={"train": train, "valid": train, "init": start})
    weights = checkpoint.read(Ledger(workspace).weights(spec.fingerprint, "best"))
    member = Member.create(child, [registry.map_spec(f"{VIT}/layer2")], "cpu", weights)
    found = safetensors.torch.load(Ledger(workspace).weights(spec.fingerprint, "best").read_bytes())
    assert all(torch.equal(value, found[name]) for name, value in member.decoder.state_dict().items())
    assert child.fingerprint != spec.fingerprint
