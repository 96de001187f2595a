"""What differs between trainings, by hand-written specs."""

import pytest

from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.config import InitFrom, Lineage, LossSpec, SampleList
from dfloc.report import recipe
from dfloc.report.differs import Field, besides, fields, words
from tests.engine.fakes import RECIPE, make_spec


def test_fields_that_differ_by_their_paths() -> None:
    a = make_spec()
    b = make_spec(
        decoder={"depth": 8, "channels": (4, 8)},
        train=SampleList(digest="u", counts={"a/b": 10, "a/c": 2}, asked={"only": "recorded"}),
        epochs=5,
        init={"decoder": InitFrom(parent="p")},
        augment=AugmentSpec(ops=(AugmentOp(name="blur", sigma=(0, 3)),)),
    )
    found = {field.path: (field.a, field.b) for field in fields(a, b)}
    assert found == {
        "train.digest": ("t", "u"),
        "train.counts.a/c": ("-", "2"),
        "decoder.depth": ("4", "8"),
        "decoder.channels": ("[4, 4]", "[4, 8]"),
        "epochs": ("3", "5"),
        "steps": ("9", "15"),  # 10 and 12 images at a batch of 4 are 3 steps
    } | {key: value for key, value in found.items() if key.startswith(("init.", "augment"))}
    assert found["init.decoder.parent"] == ("-", "p")
    assert found["augment.ops.0.sigma"] == ("-", "[0.0, 3.0]")
    assert fields(a, a) == []
    assert fields(a, make_spec(maps=(a.maps[0].model_copy(update={"map": "srm/variance"}),))) == [
        Field("maps.0.map", "srm/stats", "srm/variance")
    ]


def images(digest: str, count: int) -> SampleList:
    return SampleList(digest=digest, counts={"a/b": count})


CHILD = {"decoder": InitFrom(parent="p")}


def test_steps_follow_from_epochs_batch_and_images() -> None:
    """By hand: 10 epochs of 250 images at a batch of 32 are 10 x 8 steps; 30 epochs 240; of 500 images 10 x 16."""
    tuned = make_spec(train=images("t", 250), batch=32, epochs=10, epoch_steps=None, init=CHILD)
    scratch = make_spec(train=images("t", 250), batch=32, epochs=30, epoch_steps=None)
    replay = make_spec(train=images("u", 500), batch=32, epochs=10, epoch_steps=None, init=CHILD)
    assert besides(tuned, scratch, ["init"]) == [Field("steps", "80", "240"), Field("epochs", "10", "30")]
    assert besides(tuned, replay, ["train"]) == [Field("steps", "80", "160")]
    assert besides(tuned, replay) == [Field("steps", "80", "160"), Field("training images", "250", "500")]


def test_nothing_differs_besides_what_is_compared() -> None:
    tuned = make_spec(init=CHILD, lineage=Lineage(root="p", exposure=10))
    assert besides(tuned, make_spec(), ["init"]) == []
    assert words([]) == ""
    assert besides(tuned, make_spec()) == [Field("start", "", "")]
    assert words(besides(tuned, make_spec())) == "other start"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"valid": SampleList(digest="w", counts={"a/b": 1300})}, "validation images {valid} / 1,300"),
        ({"optimizer": {"name": "adamw", "lr": 3e-4}}, "learning rate {lr} / 0.0003"),
        ({"schedule": {"name": "plateau"}}, "schedule constant / plateau"),
        ({"seed": 7}, "seed 0 / 7"),
        ({"loss": LossSpec(name="focal", gamma=3)}, "loss bce / focal(gamma=3.0)"),
        ({"augment": AugmentSpec(ops=(AugmentOp(name="blur", sigma=(0, 3)),))}, "augmentation none / {augment}"),
        (
            {"maps": (*make_spec().maps, RECIPE.model_copy(update={"map": "srm/variance"}))},
            "features srm/stats / {maps}",
        ),
        ({"select": "last"}, "selection iou / last"),
        ({"decoder": {"depth": 8, "batch_norm": "frozen"}}, "decoder depth 4 / 8, decoder batch norm train / frozen"),
        ({"batch": 3, "epoch_steps": 9}, "steps {steps} / 27, steps of an epoch {epoch_steps} / 9, batch {batch} / 3"),
    ],
)
def test_each_setting_is_said_in_words(changes, said) -> None:
    a, b = make_spec(), make_spec(**changes)
    known = {
        "valid": a.valid.size,
        "lr": a.optimizer.lr,
        "augment": recipe.augment(b.augment),
        "maps": "srm/stats + srm/variance",
        "steps": a.steps,
        "batch": a.batch,
        "epoch_steps": a.epoch_steps or "none",
    }
    assert words(besides(a, b)) == said.format(**known)


def test_a_digest_says_nothing_to_a_reader() -> None:
    a, b = (make_spec(decoder={"weights": digest * 64}) for digest in "ab")
    assert words(besides(a, b)) == "other decoder weights"
    a, b = (make_spec(train=images(digest, 10)) for digest in "ab")
    assert words(besides(a, b)) == "other training images"


def test_a_column_names_the_range_of_those_that_differ() -> None:
    """Three pairs: 80 / 240, 1,200 / 3,600, and one of equal steps."""
    a = [make_spec(epochs=10, epoch_steps=steps) for steps in (8, 120, 50)]
    b = [make_spec(epochs=epochs, epoch_steps=steps) for epochs, steps in ((30, 8), (30, 120), (10, 50))]
    assert words(besides(a, b)) == "steps 80 … 1,200 / 240 … 3,600, epochs 10 / 30"
    with pytest.raises(ValueError, match="shorter"):
        besides(a, b[:2])
