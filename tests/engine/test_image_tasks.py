"""Tasks of images: labels, what is learned, what validation says of it, and the rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from dfloc.config import DecoderSpec, LossSpec, OptimizerSpec, TrialSpec
from dfloc.data.manifest import SampleRef
from dfloc.engine import labels
from dfloc.engine.batches import Batch, StoredMaps, StoredSource
from dfloc.engine.evaluate import evaluate
from dfloc.engine.fit import Member, fit
from dfloc.engine.labels import Classes
from dfloc.errors import DataError
from tests.engine.conftest import Data
from tests.engine.fakes import MAPS, FakeSource, make_spec
from tests.engine.test_evaluate import evaluation

HEAD = DecoderSpec(name="linear", pool="mean+max", standardize=True)
CE = LossSpec(name="ce")


def spec_of(task: str = "detect", **changes: Any) -> TrialSpec:
    made = make_spec(loss=CE, optimizer=OptimizerSpec(name="adam", lr=5e-2), select="ap", task=task, **changes)
    return made.model_copy(update={"decoder": HEAD})


def sample(domain: str, kind: str = "fake_is_white", name: str = "i") -> SampleRef:
    return SampleRef(name, "p", "s", domain, "train", "", "m", kind, "s", "d", 0, 0)  # type: ignore[arg-type]


class Labelled(FakeSource):
    """Maps of which one channel more is high for each class."""

    def __init__(self, num_classes: int, num_samples: int = 32, seed: int = 0):
        super().__init__(num_samples, seed)
        self.label = torch.arange(num_samples) % num_classes
        self.x[torch.arange(num_samples), self.label] += 0.7

    def batch(self, indices: Sequence[int], epoch: int) -> Batch:
        return super().batch(indices, epoch)._replace(label_B=self.label[list(indices)])


def test_labels_are_real_and_fake_or_the_families_of_the_trial() -> None:
    detect, attribute = spec_of(), spec_of("attribute", classes=("real", "lama", "repaint-p2"))
    listed = [sample("c/real", "real"), sample("c/lama"), sample("c/repaint-p2-9k"), sample("c/text2img", "generated")]
    assert [labels.label(detect)(one) for one in listed] == [0, 1, 1, 1]
    assert [labels.label(attribute)(one) for one in listed[:3]] == [0, 1, 2]
    with pytest.raises(DataError, match="sample i is of text2img, which is none of real, lama, repaint-p2"):
        labels.label(attribute)(listed[3])
    assert (labels.classes(detect), labels.classes(attribute)) == (("real", "fake"), attribute.classes)
    assert labels.classes(make_spec()) == ()


def test_a_localizer_is_what_it_was() -> None:
    assert make_spec().key == make_spec(task="localize", classes=(), targets="own").key
    assert {"task"} < spec_of().key.keys()
    order = [spec_of("attribute", classes=names).fingerprint for names in (("real", "a", "b"), ("real", "b", "a"))]
    assert order[0] != order[1]


@pytest.mark.parametrize(("task", "classes"), [("detect", ()), ("attribute", ("real", "a", "b"))])
def test_classes_are_learned_and_validation_says_how_well(task: str, classes: tuple[str, ...]) -> None:
    spec = spec_of(task, classes=classes, epochs=12, batch=8)
    source = Labelled(len(classes) or 2)
    member = Member.create(spec, MAPS)
    records = [result.record for (result,) in fit([member], source, Labelled(len(classes) or 2, seed=1))]
    valid = [record.valid for record in records if record]
    assert all(set(each) == {"ap", "accuracy", "loss"} for each in valid)
    assert valid[-1]["ap"] > 0.95
    assert valid[-1]["accuracy"] > 0.9
    assert valid[-1]["loss"] < valid[0]["loss"]
    assert member.best_epoch == 1 + int(np.argmax([each["ap"] for each in valid]))


@pytest.mark.parametrize(("select", "best"), [("ap", 1), ("accuracy", 2), ("loss", 3), ("last", 4)])
def test_each_measure_selects_its_own_epoch(select: str, best: int) -> None:
    spec = spec_of(epochs=4).model_copy(update={"select": select})
    member, weights = Member.create(spec, MAPS), []
    batch = Labelled(2).batch([0, 1, 2, 3], 0)
    for ap, accuracy, loss in ((0.9, 0.5, 0.5), (0.8, 0.7, 0.4), (0.7, 0.6, 0.3), (0.6, 0.5, 0.6)):
        member.step(batch.x, batch.target_BHW, batch.label_B)
        member.end_epoch({"ap": ap, "accuracy": accuracy, "loss": loss}, 1.0)
        weights.append(member.weights("last"))
    assert member.best_epoch == best
    assert member.weights("best") == weights[best - 1]


def test_stored_samples_have_labels_and_weak_targets_are_all_of_a_fake(data: Data) -> None:
    kinds = ["real", "fake_is_white", "real", "generated", "fake_is_white", "real"]
    listed = [one._replace(mask_kind=kind) for one, kind in zip(data.samples, kinds, strict=True)]  # type: ignore[arg-type]
    everything = list(range(6))
    found = StoredSource(data.store, [data.recipe], listed, label=labels.label(spec_of())).batch(everything, 1)
    assert found.label_B is not None
    assert found.label_B.tolist() == [0, 1, 0, 1, 1, 0]
    weak = StoredSource(data.store, [data.recipe], listed, "label").batch(everything, 1)
    assert weak.target_BHW.flatten(1).float().mean(1).tolist() == [0, 1, 0, 1, 1, 0]
    assert weak.target_BHW.shape == found.target_BHW.shape
    plain = StoredSource(data.store, [data.recipe], listed).batch(everything, 1)
    assert plain.label_B is None


def test_shuffled_labels_are_a_permutation_that_inverts_nothing(data: Data) -> None:
    """Masks of other images would give each photograph a fake's label and the other way round."""
    listed = [data.samples[place % 6]._replace(id=f"i{place:03d}", mask_kind="real" if place % 2 else "generated")
              for place in range(200)]  # fmt: skip
    label = labels.label(spec_of())
    own, shuffled = (
        [label(one) for one in StoredSource(data.store, [data.recipe], listed, targets, 3, label=label)._owners]
        for targets in ("own", "shuffled")
    )
    same = np.mean(np.array(own) == np.array(shuffled))
    assert sorted(own) == sorted(shuffled)
    assert 0.35 < same < 0.65


def test_rows_say_score_class_and_what_was_called(data: Data) -> None:
    spec = spec_of("attribute", classes=("real", "one", "two"))
    member = Member.create(spec, [data_map(data)])
    member.decoder.eval()
    told = evaluate(
        member.decoder,
        StoredMaps(data.store, [data.recipe]),
        data.samples,
        data.folder,
        evaluation(data.samples),
        Classes.of(spec),
    ).to_pylist()
    assert [row["id"] for row in told] == [one.id for one in data.samples]
    for row in told:
        probs = {name: row[f"prob_{name}"] for name in spec.classes}
        assert sum(probs.values()) == pytest.approx(1)
        assert row["score"] == pytest.approx(1 - probs["real"])
        assert row["called"] == max(probs, key=lambda name: probs[name])
        assert row["class"] == "one"
        assert row["tp"] is row["mask_area"] is None


def test_a_detectors_rows_have_the_raw_logit_and_a_logit_that_is_no_number_is_refused() -> None:
    classes = Classes.of(spec_of())
    logit_BK = torch.tensor([[0.0, 2.0], [3.0, -1.0]])
    listed = [sample("c/lama"), sample("c/real", "real")]
    found = classes.rows(logit_BK, listed)
    assert [row["fake_logit"] for row in found] == [2.0, -1.0]
    assert [row["class"] for row in found] == ["fake", "real"]
    assert [row["called"] for row in found] == ["fake", "real"]
    assert [row["score"] for row in found] == pytest.approx(logit_BK.double().softmax(1)[:, 1].tolist())
    with pytest.raises(DataError, match="no finite number"):
        classes.rows(torch.tensor([[0.0, float("nan")]]), listed[:1])


def data_map(data: Data) -> Any:
    from dfloc.registry import map_spec

    return map_spec(data.recipe.map)


def test_a_sum_of_losses_of_images_is_one_too() -> None:
    spec = spec_of(epochs=1).model_copy(update={"loss": LossSpec(name="sum", terms=(CE,))})
    member = Member.create(spec, MAPS)
    (found,) = next(fit([member], Labelled(2), Labelled(2, seed=1)))
    assert found.record is not None
