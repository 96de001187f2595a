import pytest
from pydantic import ValidationError

from dfloc.config import DecoderSpec, LossSpec, ScheduleSpec
from dfloc.errors import ConfigError
from dfloc.sweep import component_specs
from dfloc.sweep.sweep_keys import DecoderAsk
from tests.engine.fakes import make_spec


@pytest.mark.parametrize(
    ("name", "plugin", "found"),
    [("conv", None, "frozen"), ("smp", None, "frozen"), ("mine", "digest", "frozen"), ("linear", None, "train")],
)
def test_a_finished_decoder_goes_on_with_the_batch_norm_that_is_asked_for_where_it_has_one(
    name: str, plugin: str | None, found: str
) -> None:
    begun = DecoderSpec(name=name, plugin=plugin, depth=8)
    asked = DecoderAsk(name="conv", depth=4, batch_norm="frozen")
    assert component_specs.goes_on(begun, asked) == DecoderSpec(name=name, plugin=plugin, depth=8, batch_norm=found)


def test_a_loss_keeps_only_the_fields_that_it_reads() -> None:
    asked = {"reduction": "image", "smooth": 1.0, "alpha": 0.25, "gamma": 3.0}
    left = {
        "bce": {},
        "dice": {"reduction": "image", "smooth": 1.0},
        "jaccard": {"reduction": "image", "smooth": 1.0},
        "focal": {"alpha": 0.25, "gamma": 3.0},
        "lovasz": {"reduction": "image"},
    }
    for name, fields in left.items():
        assert component_specs.loss(LossSpec(name=name, **asked)) == LossSpec(name=name, **fields)


def test_a_schedule_keeps_the_measure_that_it_follows() -> None:
    assert component_specs.schedule(ScheduleSpec(name="plateau", watch="loss")).watch == "loss"
    assert component_specs.schedule(ScheduleSpec(name="constant", watch="loss")) == ScheduleSpec(name="constant")
    assert component_specs.schedule(ScheduleSpec(name="plateau")) == ScheduleSpec(name="plateau", watch="iou")
    for task in ("detect", "attribute"):
        assert component_specs.schedule(ScheduleSpec(name="plateau"), task) == ScheduleSpec(name="plateau", watch="ap")
        assert component_specs.schedule(ScheduleSpec(name="constant"), task) == ScheduleSpec(name="constant")
        written = ScheduleSpec(name="plateau", watch="loss")
        assert component_specs.schedule(written, task) == written


def test_a_delta_is_part_of_the_key_where_the_measure_has_another() -> None:
    plain = ScheduleSpec(name="plateau")
    for task, own, other in (("localize", 1e-5, 1e-3), ("detect", 1e-3, 1e-5)):
        same = component_specs.schedule(ScheduleSpec(name="plateau", delta=own), task)
        assert same == component_specs.schedule(plain, task)
        assert component_specs.schedule(ScheduleSpec(name="plateau", delta=other), task).delta == other
    assert component_specs.schedule(ScheduleSpec(name="one-cycle", delta=0.1)) == ScheduleSpec(name="one-cycle")
    others = [make_spec(schedule=ScheduleSpec(name="plateau", delta=delta)) for delta in (None, 1e-3)]
    assert [spec.fingerprint == make_spec(schedule=plain).fingerprint for spec in others] == [True, False]
    assert make_spec(schedule=plain).key["schedule"] == {"name": "plateau"}
    assert ScheduleSpec(name="plateau", watch="ap", delta=2e-3).called == "plateau on ap, delta 0.002"


@pytest.mark.parametrize("delta", [-1e-3, float("nan"), float("inf"), "small", True])
def test_a_delta_that_is_none_is_refused(delta: object) -> None:
    with pytest.raises(ValidationError, match="delta"):
        ScheduleSpec(name="plateau", delta=delta)


def test_a_sum_keeps_the_weights_of_its_terms_and_what_they_read() -> None:
    terms = (LossSpec(name="bce", weight=0.5, smooth=3.0), LossSpec(name="dice", gamma=3.0))
    found = component_specs.loss(LossSpec(name="sum", terms=terms, gamma=5.0))
    assert found == LossSpec(name="sum", terms=(LossSpec(name="bce", weight=0.5), LossSpec(name="dice")))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LossSpec(name="dise"), 'unknown loss "dise"; did you mean "dice"'),
        (LossSpec(name="sum"), "sum needs terms"),
        (LossSpec(name="sum", terms=(LossSpec(name="sum", terms=(LossSpec(name="bce"),)),)), "terms that are no sums"),
        (LossSpec(name="sum", terms=(LossSpec(name="dise"),)), "did you mean"),
        (LossSpec(name="dice", weight=2.0), "only a term of a sum has a weight"),
        (LossSpec(name="focal", gamma=0.5), "gamma is 0, or 1 and more"),
        (LossSpec(name="sum", terms=(LossSpec(name="focal", gamma=0.5),)), "gamma is 0, or 1 and more"),
    ],
)
def test_losses_that_cannot_be_are_refused_when_planned(spec: LossSpec, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        component_specs.loss(spec)


CE, DICE, LINEAR, CONV = (
    LossSpec(name="ce"),
    LossSpec(name="dice"),
    DecoderSpec(name="linear"),
    DecoderSpec(name="conv"),
)


@pytest.mark.parametrize(
    ("decoder", "loss", "num_classes", "message"),
    [
        (LINEAR, CE, None, "loss ce reads one answer an image, but the task is to localize; .* set task: detect"),
        (CONV, CE, None, "loss ce reads one answer an image, but the task is to localize"),
        (CONV, CE, 2, "loss ce reads one answer an image, but decoder conv gives a map; use .* decoder: linear"),
        (LINEAR, DICE, 2, "loss dice reads a map, but decoder linear gives one answer an image; use loss: ce"),
        (LINEAR, LossSpec(name="sum", terms=(CE, DICE)), 2, "loss dice reads a map"),
        (CONV, LossSpec(name="sum", terms=(CE, DICE)), None, "loss ce reads one answer an image"),
    ],
)
def test_a_loss_and_a_decoder_that_do_not_fit_are_told(
    decoder: DecoderSpec, loss: LossSpec, num_classes: int | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        component_specs.refuse_misfit(decoder, loss, num_classes)


def test_a_loss_and_a_decoder_that_fit() -> None:
    mine = LossSpec(name="mine", plugin="digest")
    for decoder, loss, num_classes in (
        *((LINEAR, loss, None) for loss in (DICE, mine)),
        *((LINEAR, loss, 5) for loss in (CE, mine, LossSpec(name="sum", terms=(CE,)))),
        (DecoderSpec(name="prior"), CE, 2),
    ):
        component_specs.refuse_misfit(decoder, loss, num_classes)
