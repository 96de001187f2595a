"""What the poster on detection and attribution concludes, on studies whose numbers are the published ones."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pyarrow as pa
import pytest

from dfloc import plugin
from dfloc.config import DecoderSpec, LossSpec, OptimizerSpec
from dfloc.metrics.metric import IMAGE_RIGHT, IOU
from dfloc.registry import SEMANTICS
from dfloc.report import claims, conclusions, place, sides
from dfloc.report.claims import Verdict, judge
from dfloc.report.formulas import FORMULAS
from dfloc.report.formulas.numbers import ALL, CLASSES, LAMA, LDM, PLURALISTIC, REAL, REPAINT, Matrix
from dfloc.report.groups import Study
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.test_claims import CLAIMS, TABLES, Documents, close

NAME = "called.py"
CALLED = """
from dfloc.metrics.metric import IMAGE_RIGHT
from dfloc.metrics.protocols import OVER_HALF, Protocol, bilinear, over_half
from dfloc.metrics.table import column


def called():
    return Protocol(
        name="called", metrics=(IMAGE_RIGHT,), threshold=0.5, binarise=over_half, resize=bilinear,
        measure=lambda prob, called, fake: {}, tracked=("image_right",), truth=OVER_HALF,
        of_images=lambda rows: {"image_right": column(rows, "image_right")},
    )


PROTOCOLS = {"called": called}
"""
DETECTORS = ("s003.xception41_scratch", "s003.xception41_pretrained", "s003.clip_linear", "s003.sam_linear")
RECALL = replace(TABLES["nb.classification.recall"], protocol="unknown")
REALS = 0.5  # of them are called real, by every detector here


MODELS = {
    "xception41_scratch": {"maps": ("pixels",), "decoder": DecoderSpec(name="timm", model="xception41")},
    "xception41_pretrained": {
        "maps": ("pixels",),
        "decoder": DecoderSpec(name="timm", model="xception41", weights="ab" * 32),
    },
    "clip": {"maps": ("clip-vit-l14/projected",), "decoder": DecoderSpec(name="linear")},
    "sam": {"maps": ("sam-vit-b/pooled",), "decoder": DecoderSpec(name="linear")},
}
ADAM = {"optimizer": OptimizerSpec(name="adam")}


@pytest.fixture(autouse=True)
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Score by a protocol that says of each image whether it is called right."""
    real = studies.rows

    def rows(evaluation, mean: float) -> pa.Table:
        if evaluation.protocol != "called":
            return real(evaluation, mean)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(studies.protocols, "find", lambda _: type("Rule", (), {"per_image": {"iou": IOU}}))
            table = real(evaluation, mean)
        return table.rename_columns([IMAGE_RIGHT.key if name == "iou" else name for name in table.column_names])

    monkeypatch.setattr(studies, "rows", rows)
    for name in ("decoder/timm", "loss/ce"):
        monkeypatch.setitem(SEMANTICS, name, 1)
    plugin.use([plugin.Plugin(NAME, CALLED)])
    yield
    plugin.use(())


class Images(Documents):
    """Plans detectors and classifiers; a detector's number is the mean of what it says of fakes and of reals."""

    def __init__(self, protocol: str = "called"):
        super().__init__(num_test=40, protocol=protocol)
        self.tests = (*self.domains, REAL)

    def _evaluations(self, name: str):
        digest = plugin_digest() if self.protocol == "called" else None
        return (each.model_copy(update={"plugin": digest}) for each in super()._evaluations(name))

    def detectors(self, name: str) -> None:
        table = TABLES[name]
        row = name.removeprefix("s003.").removesuffix("_linear")
        for train in dict.fromkeys(str(train) for train, _ in table.cells):
            cells = {str(test): cell.value for (each, test), cell in table.cells.items() if each == train}
            scores = {test: 2 * value - REALS for test, value in cells.items()} | {REAL: REALS}
            self.image({train: 9000, REAL: 9000}, scores, row, domain=train)

    def image(self, counts: dict[str, int], scores: Mapping[str, float], row: str, **more) -> None:
        model = {"loss": LossSpec(name="ce"), "spec": ADAM} | MODELS[row] | more
        self.add(counts, scores, case=row, stage="single", **model)


def plugin_digest() -> str:
    return plugin.Plugin(NAME, CALLED).digest


def study(maker: Images, workspace: Workspace, name: str) -> Study:
    return maker.study(workspace, name, plugin=plugin_digest() if maker.protocol == "called" else None)


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def verdicts(found: Study) -> dict[str, Verdict]:
    return {each.claim.id: each.ours for each in judge(found)}


def test_ours_equal_to_the_published_tables_give_the_verdicts_of_detection(workspace):
    maker = Images()
    for name in DETECTORS:
        maker.detectors(name)
    found = verdicts(study(maker, workspace, "detection"))
    for name in (f"s003.c{number}" for number in range(1, 8)):
        assert found[name].state == CLAIMS[name].verdict, found[name].why
        close(found[name], CLAIMS[name].numbers)
    assert found["s003.c4"].spans["diag"][0][0] < 0.8953 < found["s003.c4"].spans["diag"][0][1]
    assert found["s003.c8"].why == "not planned: no classifier here is what the table requires"


def test_where_axes_are_turned_ours_stand_by_test_and_train(workspace):
    maker = Images()
    maker.detectors("s003.clip_linear")
    made = study(maker, workspace, "detection")
    found = sides.side(made, TABLES["s003.clip_linear"])
    assert len(found.parts) == 16
    assert [test for _, test in found.parts[PLURALISTIC, LDM].models] == [PLURALISTIC, REAL]
    group = found.parts[PLURALISTIC, LDM].models[0][0]
    assert set(group.first.trial.spec.train.counts) == {LDM, REAL}
    published = claims.matrix(TABLES["s003.clip_linear"])
    assert published.at(PLURALISTIC, LDM) == pytest.approx(0.977)
    assert sides.side(made, TABLES["s003.sam_linear"]).parts == {}
    pair = next(pair for pair in place.pairs(made, [TABLES["s003.clip_linear"]]) if pair.matched)
    assert pair.difference is None
    assert place.CONTEXT in pair.gaps


def test_a_detector_that_is_not_scored_on_reals_has_no_accuracy(workspace):
    maker = Images()
    maker.tests = maker.domains
    maker.detectors("s003.xception41_scratch")
    found = verdicts(study(maker, workspace, "detection"))
    assert found["s003.c1"].numbers == {}
    assert found["s003.c1"].why == "not planned: no detector here is tested on the fakes and reals of the table"


def test_pretrained_and_scratch_are_two_models(workspace):
    maker = Images()
    maker.detectors("s003.xception41_pretrained")
    made = study(maker, workspace, "detection")
    assert len(sides.side(made, TABLES["s003.xception41_pretrained"]).parts) == 16
    assert sides.side(made, TABLES["s003.xception41_scratch"]).parts == {}
    assert verdicts(made)["s003.c1"].why == "not planned: no model here is what the table requires"


def classifiers(maker: Images, *, thesis: bool = False) -> None:
    every, table = dict.fromkeys(CLASSES, 9000), TABLES["s003.attribution"]
    for row in MODELS:
        maker.image(every, {name: table.cells[row, name].value for name in CLASSES}, row)
    if thesis:
        table = RECALL
        scores = {name: table.cells["classifier", name].value for name in CLASSES}
        counts = dict.fromkeys(ALL, 3000) | {REAL: 9000}
        maker.image(counts, scores, "clip", spec={"optimizer": OptimizerSpec(name="adamw")})


def test_ours_equal_to_the_published_captions_give_the_verdicts_of_attribution(workspace):
    maker = Images()
    classifiers(maker, thesis=True)
    made = study(maker, workspace, "attribution")
    found = verdicts(made)
    assert found.pop("s000.c19").why == "protocol thesis-2025, ours called"
    assert set(found) == {"s003.c9", "s003.c10"}
    for name, each in found.items():
        assert each.state == CLAIMS[name].verdict, each.why
        close(each, CLAIMS[name].numbers)
    recalls = sides.side(made, RECALL)
    assert len(recalls.parts) == 5
    (group,) = {group for part in recalls.parts.values() for group, _ in part.models}
    assert group.first.trial.spec.optimizer.name == "adamw"
    ours = claims.on_ours(CLAIMS["s000.c19"], {RECALL.id: RECALL}, made, lambda table: sides.side(made, table))
    assert (ours.state, ours.numbers["recall"]) == ("fails", pytest.approx([0.9478, 0.9733, 0.3689, 0.9767, 0.7833]))


def test_both_kinds_of_models_decide_what_needs_both(workspace):
    maker = Images()
    maker.detectors("s003.xception41_pretrained")
    classifiers(maker)
    found = verdicts(study(maker, workspace, "detection"))["s003.c8"]
    assert found.state == "holds", found.why
    close(found, CLAIMS["s003.c8"].numbers)


def test_a_study_of_pixels_puts_none_of_them_to_its_numbers_for_one_reason(workspace):
    maker = Images("declip-2025")
    for row in ("clip", "xception41_scratch"):
        maker.image({LDM: 9000, REAL: 9000}, dict.fromkeys((*ALL, REAL), 0.5), row, domain=LDM)
    made = study(maker, workspace, "detection")
    assert conclusions.summary(judge(made)) == (
        "8 claims. None is put to ours: no trial here says whether an image is fake, or who made it."
    )


def detector(diag: Mapping[str, float], off: float = 0.5, **more: float) -> Matrix:
    """Return a table whose off-diagonal numbers are equal, but those that are named `test_train`."""
    short = {"ldm": LDM, "repaint": REPAINT, "lama": LAMA, "pluralistic": PLURALISTIC}
    cells = {(test, train): off for test in ALL for train in ALL} | {(short[name],) * 2: v for name, v in diag.items()}
    named = {tuple(short[part] for part in name.split("_")): value for name, value in more.items()}
    return Matrix("t", cells | named)


HIGH = {"ldm": 0.9, "repaint": 0.9, "lama": 0.9, "pluralistic": 0.9}


@pytest.mark.parametrize(
    ("name", "tables", "holds"),
    [
        ("s003.c1", [detector(HIGH, 0.6)], True),
        ("s003.c1", [detector(HIGH, 0.61)], False),
        ("s003.c1", [detector(dict.fromkeys(HIGH, 0.5), 0.5)], False),
        ("s003.c2", [detector(HIGH | {"pluralistic": 0.95})], True),
        ("s003.c2", [detector(HIGH | {"lama": 0.95})], False),
        ("s003.c3", [detector({"ldm": 0.5, "repaint": 0.6, "lama": 0.7, "pluralistic": 0.8})], True),
        ("s003.c3", [detector({"ldm": 0.5, "repaint": 0.8, "lama": 0.7, "pluralistic": 0.6})], False),
        ("s003.c4", [detector(HIGH, 0.69)], True),
        ("s003.c4", [detector(HIGH, 0.71)], False),
        ("s003.c5", [detector(HIGH, ldm_repaint=0.9, repaint_ldm=0.6, lama_ldm=0.95)], True),
        ("s003.c5", [detector(HIGH, ldm_repaint=0.9, lama_ldm=0.8, ldm_lama=0.8)], False),
        ("s003.c6", [detector(dict.fromkeys(HIGH, 0.5)), detector(HIGH | {"ldm": 0.95, "lama": 0.95})], True),
        ("s003.c6", [detector(dict.fromkeys(HIGH, 0.5)), detector(HIGH | {"repaint": 0.95, "lama": 0.95})], False),
        ("s003.c6", [detector(HIGH), detector(HIGH | {"repaint": 0.8, "ldm": 0.95, "lama": 0.95})], False),
        ("s003.c7", [detector(dict.fromkeys(HIGH, 0.6)), detector(HIGH)], True),
        ("s003.c7", [detector(dict.fromkeys(HIGH, 0.6)), detector(HIGH, 0.75)], False),
        ("s003.c7", [detector(HIGH), detector(dict.fromkeys(HIGH, 0.8))], False),
    ],
)
def test_formulas_on_tables_made_for_them(name, tables, holds):
    assert FORMULAS[name](tables).holds is holds


def named(row: str, *recalls: float, overall: float | None = None) -> Matrix:
    cells = {(row, name): value for name, value in zip(CLASSES, recalls, strict=True)}
    return Matrix("t", cells | ({(row, "overall"): overall} if overall is not None else {}))


def test_formulas_of_classes_on_tables_made_for_them():
    low = detector({"ldm": 0.9, "repaint": 0.6, "lama": 0.9, "pluralistic": 0.7})
    for attribution, holds in (((50, 90, 20, 90, 30), True), ((50, 20, 90, 90, 30), False)):
        assert FORMULAS["s003.c8"]([low, named("xception41_pretrained", *attribution)]).holds is holds
    for classes, holds in (((0, 60, 10, 30, 30), True), ((0, 59, 10, 30, 30), False)):  # reals do not count
        assert FORMULAS["s003.c9"]([named("xception41_scratch", *classes)]).holds is holds
    for recalls, holds in (((0.6,) * 5, True), ((0.9, 0.9, 0.59, 0.9, 0.9), False)):
        assert FORMULAS["s000.c19"]([named("classifier", *recalls)]).holds is holds
    for more, holds in ((0.009, True), (0.02, False)):
        tables = [named(row, 50, 60, 70, 80, 90, overall=70 + more) for row in MODELS]
        whole = Matrix("t", {key: value for each in tables for key, value in each.cells.items()})
        assert FORMULAS["s003.c10"]([whole]).holds is holds
