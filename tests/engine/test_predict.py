"""What a finished trial says of a photograph is what its evaluation saw."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pytest
import safetensors.torch
import torch
from PIL import Image
from upath import UPath

from dfloc import registry, repro
from dfloc.config import EvaluationSpec, Imported, LossSpec, SampleList, TrialSpec
from dfloc.data.manifest import list_digest
from dfloc.data.shards import Pixels, ShardReader, decode_image
from dfloc.engine import checkpoint
from dfloc.engine.batches import StoredMaps, look
from dfloc.engine.evaluate import evaluate
from dfloc.engine.labels import Classes
from dfloc.engine.predict import Prediction, Predictor, facts, protocol_of
from dfloc.errors import ConfigError, DataError, WorkspaceError
from dfloc.features.store import recipe_for
from dfloc.ledger import Ledger
from dfloc.models import decoders, srm
from dfloc.registry import map_spec
from dfloc.storage import Workspace
from tests.engine.conftest import SIZES, Data
from tests.engine.fakes import make_spec
from tests.metrics.image_rows import detected


def put_trial(
    workspace: Workspace, size: tuple[int, int] = (64, 48), spread: float = 4.0, **changes: object
) -> TrialSpec:
    """Put a decoder with random weights into the ledger; of noise of a size its logits lie on both sides of 0."""
    nothing = SampleList(digest="unknown", counts={})
    spec = make_spec(**({"train": nothing, "valid": nothing, "maps": (recipe_for("srm/stats"),)} | changes))
    shapes = [map_spec(one.map) for one in spec.maps]
    decoder = decoders.build(spec.decoder, shapes, repro.generator(1, "init"), spec.num_classes)
    head = getattr(getattr(decoder, "layers", None), "head", None)
    if head is not None:
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        with torch.no_grad():
            logit = decoder.eval()(look([noise], {"srm": srm.make("srm", "none", "cpu")}, spec.maps))
            head.weight *= spread / logit.std()
            head.bias.copy_((head.bias - logit.median()) * spread / logit.std())
    data = safetensors.torch.save(checkpoint.weights_of(decoder))
    spec = spec.model_copy(update={"init": Imported(imported=hashlib.sha256(data).hexdigest())})
    Ledger(workspace).put_imported(spec, data, {})
    return spec


HEAD = {"name": "linear", "pool": "mean+max"}


def put_head(workspace: Workspace, classes: tuple[str, ...] = (), **changes: object) -> TrialSpec:
    """Put a detector, or where classes are given a classifier, with random weights into the ledger."""
    task = "attribute" if classes else "detect"
    given = {"task": task, "classes": classes, "loss": LossSpec(name="ce"), "select": "ap", "decoder": HEAD}
    return put_trial(workspace, **(given | changes))


def put_valid(workspace: Workspace, spec: TrialSpec, fakes: list[float], reals: list[float] | None = None) -> None:
    """Put rows of validation images by image-1, of the best checkpoint."""
    for domain, scores in (("a/b", fakes), *([("a/real", reals)] if reals else [])):
        test = SampleList(digest=domain, counts={})
        one = EvaluationSpec(
            trial=spec.fingerprint, checkpoint="best", domain=domain, split="valid", test=test, protocol="image-1"
        )
        rows = detected("image-1", domain, scores)
        place = rows.column_names.index("split")
        rows = rows.set_column(place, "split", pa.array(["valid"] * len(rows))).drop_columns(["trial"])
        Ledger(workspace).put_rows(spec.fingerprint, one.key, rows)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_it_is_what_the_rows_of_the_same_images_were_counted_from(data: Data, workspace: Workspace) -> None:
    spec = put_trial(workspace, size=(256, 256))
    predictor = Predictor.load(workspace, spec, "best", "cpu")
    counts = SampleList(digest=list_digest(data.samples), counts={"a/one": len(data.samples)})
    evaluation = EvaluationSpec(
        trial=spec.fingerprint, checkpoint="best", domain="a/one", test=counts, protocol="declip-2025"
    )
    decoder = decoders.build(spec.decoder, [map_spec("srm/stats")], repro.generator(0, "init"))
    checkpoint.load(Ledger(workspace).weights(spec.fingerprint, "best"), decoder)
    rows = evaluate(decoder, StoredMaps(data.store, spec.maps), data.samples, data.folder, evaluation).to_pylist()
    reader = ShardReader(data.folder)
    called = 0
    for row, sample, size, fake_HW in zip(rows, data.samples, SIZES, data.fake, strict=True):
        image = decode_image(reader.group(sample.shard, 0)[sample.row]["image"]["bytes"])
        said = predictor(image)
        assert said.prob_HW.shape == size
        assert math.isclose(said.mean, row["mean_prob"], rel_tol=1e-5)
        called_HW = said.prob_HW.numpy() > 0.5
        assert abs(int((called_HW & fake_HW).sum()) - row["tp"]) <= 1
        assert math.isclose(said.area(0.5) * fake_HW.size, row["tp"] + row["fp"], abs_tol=1)
        called += row["tp"]
    assert 0 < called < sum(fake.sum() for fake in data.fake), "neither all nor nothing is called fake"


def test_an_image_says_the_same_whatever_was_looked_at_before(workspace: Workspace) -> None:
    predictor = Predictor.load(workspace, put_trial(workspace), "best", "cpu")
    draw = np.random.default_rng(0)
    one, other = (draw.integers(0, 256, (64, 48, 3), np.uint8) for _ in range(2))
    first = predictor(one).prob_HW
    predictor(other)
    assert torch.equal(predictor(one).prob_HW, first)
    assert not torch.equal(predictor(other).prob_HW, first)


def test_a_value_that_the_store_would_refuse_is_refused() -> None:
    class Loud:
        maps: ClassVar = registry.backbone("srm").maps

        def preprocess(self, image_HWC: Pixels) -> torch.Tensor:
            return torch.zeros(3, 8, 8)

        def __call__(self, images_BCHW: torch.Tensor, wanted: Sequence[str]) -> dict[str, torch.Tensor]:
            return {name: torch.full((1, 4, 8, 8), 65520.0) for name in wanted}

    with pytest.raises(DataError, match="srm/stats has a value that is not finite as float16"):
        look([np.zeros((8, 8, 3), np.uint8)], {"srm": Loud()}, [recipe_for("srm/stats")])


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (256, 256), (333, 512)])
def test_the_map_has_the_photographs_size(size: tuple[int, int], workspace: Workspace) -> None:
    predictor = Predictor.load(workspace, put_trial(workspace), "best", "cpu")
    said = predictor(np.full((*size, 3), 90, np.uint8))
    assert said.prob_HW.shape == size
    assert 0 <= float(said.prob_HW.min()) <= float(said.prob_HW.max()) <= 1


def test_several_maps_and_a_baseline(workspace: Workspace) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    two = put_trial(workspace, maps=(recipe_for("srm/stats"), recipe_for("srm/variance")))
    assert 0 < Predictor.load(workspace, two, "last", "cpu")(image).area(0.5) < 1
    fake = put_trial(workspace, decoder={"name": "all-fake"})
    said = Predictor.load(workspace, fake, "best", "cpu")(image)
    assert math.isclose(said.mean, 1 / (1 + math.exp(-10)), rel_tol=1e-6)
    assert (said.area(0.5), said.area(0.99999)) == (1.0, 0.0)


def test_what_is_no_number_is_said(workspace: Workspace) -> None:
    predictor = Predictor.load(workspace, put_trial(workspace, spread=float("nan")), "best", "cpu")
    with pytest.raises(DataError, match="no number"):
        predictor(np.zeros((8, 8, 3), np.uint8))


def test_lost_weights_and_a_missing_device_are_named(workspace: Workspace) -> None:
    spec = put_trial(workspace)
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            Predictor.load(workspace, spec, "best", "cuda")
    UPath(Ledger(workspace).weights(spec.fingerprint, "best")).unlink()
    with pytest.raises(WorkspaceError, match="the best weights of trial"):
        Predictor.load(workspace, spec, "best", "cpu")


def test_the_threshold_says_where_it_comes_from() -> None:
    spec = make_spec()
    usual, given = facts(spec, "best", None), facts(spec, "last", 0.3)
    assert (usual["threshold"], usual["threshold_source"]) == (0.5, "protocol declip-2025: 0.5")
    assert (given["threshold"], given["threshold_source"]) == (0.3, "given")
    assert (usual["checkpoint"], given["checkpoint"], usual["trial"]) == ("best", "last", spec.fingerprint)
    assert usual["task"] == "localize"
    assert usual["maps"] == [{"map": "srm/stats", "weights": "none"}]


@pytest.mark.parametrize("classes", [(), ("real", "one", "two")])
def test_images_are_called_what_their_rows_say(data: Data, workspace: Workspace, classes: tuple[str, ...]) -> None:
    spec = put_head(workspace, classes, size=(256, 256))
    counts = SampleList(digest=list_digest(data.samples), counts={"a/one": len(data.samples)})
    one = EvaluationSpec(trial=spec.fingerprint, checkpoint="best", domain="a/one", test=counts, protocol="image-1")
    decoder = decoders.build(spec.decoder, [map_spec("srm/stats")], repro.generator(0, "init"), spec.num_classes)
    checkpoint.load(Ledger(workspace).weights(spec.fingerprint, "best"), decoder)
    maps = StoredMaps(data.store, spec.maps)
    rows = evaluate(decoder, maps, data.samples, data.folder, one, Classes.of(spec)).to_pylist()
    predictor, reader = Predictor.load(workspace, spec, "best", "cpu"), ShardReader(data.folder)
    threshold = facts(spec, "best", None)["threshold"]
    for row, sample in zip(rows, data.samples, strict=True):
        said = predictor(decode_image(reader.group(sample.shard, 0)[sample.row]["image"]["bytes"]))
        assert (said.prob_HW, said.mean) == (None, None)
        assert said.score == pytest.approx(row["score"], rel=1e-5)
        assert said.called(threshold) == row["called"]
        assert said.probabilities == pytest.approx({name: row[f"prob_{name}"] for name in predictor.classes}, rel=1e-4)
    assert len({row["score"] for row in rows}) == len(rows)


def test_a_detectors_threshold_is_that_of_its_validation_images(workspace: Workspace) -> None:
    spec, ledger = put_head(workspace), Ledger(workspace)
    before = facts(spec, "best", None, ledger=ledger)
    assert (before["task"], before["threshold"], before["threshold_source"]) == ("detect", 0.5, "default")
    put_valid(workspace, spec, [0.9, 0.8, 0.7], [0.6, 0.1])
    found = facts(spec, "best", None, ledger=ledger)
    assert found["threshold"] == pytest.approx(0.65), "midway between the neighbours that it parts"
    assert found["threshold_source"] == "validation: best balanced accuracy on 5 images, protocol image-1"
    assert facts(spec, "last", None, ledger=ledger)["threshold_source"] == "default", "of another checkpoint"
    assert facts(spec, "best", 0.3, ledger=ledger)["threshold_source"] == "given"
    said = Prediction(probabilities={"real": 0.38, "fake": 0.62})
    assert [said.called(threshold) for threshold in (0.5, found["threshold"])] == ["fake", "real"]


def test_validation_images_of_one_class_choose_no_threshold(workspace: Workspace) -> None:
    spec = put_head(workspace)
    put_valid(workspace, spec, [0.9, 0.8])
    assert facts(spec, "best", None, ledger=Ledger(workspace))["threshold_source"] == "default"


def test_an_attribution_calls_the_likeliest_and_takes_no_threshold(workspace: Workspace) -> None:
    spec = put_head(workspace, ("real", "a", "b"))
    said = facts(spec, "best", None, ledger=Ledger(workspace))
    assert (said["task"], said["threshold"], said["threshold_source"]) == ("attribute", None, "argmax")
    assert Prediction(probabilities={"real": 0.4, "a": 0.35, "b": 0.25}).called(None) == "real"
    with pytest.raises(ConfigError, match="calls the likeliest class, whatever a threshold"):
        facts(spec, "best", 0.5)


def test_a_protocol_of_maps_judges_no_answer_an_image(workspace: Workspace) -> None:
    assert protocol_of(make_spec(), None) == "declip-2025"
    spec = put_head(workspace)
    assert (protocol_of(spec, None), protocol_of(spec, "thesis-2025")) == ("image-1", "thesis-2025")
    with pytest.raises(ConfigError, match="task detect gives no map, which protocol dolos-2024 measures"):
        protocol_of(spec, "dolos-2024")


def test_a_logit_that_is_no_number_is_said(workspace: Workspace) -> None:
    predictor = Predictor.load(workspace, put_head(workspace, spread=float("nan")), "best", "cpu")
    with pytest.raises(DataError, match="a logit that is no finite number"):
        predictor(np.zeros((8, 8, 3), np.uint8))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_says_the_same_to_rounding(workspace: Workspace) -> None:
    spec = put_trial(workspace, spread=1.0)
    image = np.asarray(Image.effect_noise((300, 200), 40).convert("RGB"))
    said = {device: Predictor.load(workspace, spec, "best", device)(image) for device in ("cpu", "cuda")}
    torch.testing.assert_close(said["cuda"].prob_HW, said["cpu"].prob_HW, atol=2e-3, rtol=0)
