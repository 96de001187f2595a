"""What Dolos concludes on supervision, on studies whose numbers are the published ones or their contrary."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn import metrics as sk

from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.config import DecoderSpec, LossSpec, OptimizerSpec, SampleList, ScheduleSpec
from dfloc.report import claims, place, setups, sides
from dfloc.report.address import SOURCES_TEST
from dfloc.report.claims import Verdict, judge
from dfloc.report.formulas import FORMULAS
from dfloc.report.formulas.numbers import Matrix
from dfloc.report.groups import Study
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.test_claims import CLAIMS, TABLES, Documents, close

TABLE = TABLES["s004.table2"]
REAL = "celebahq/real"
FLIP = AugmentSpec(ops=(AugmentOp(name="flip", probability=0.5),))
WEIGHTS = {"ab" * 32: "imagenet", "cd" * 32: "ffd"}
DECODERS: Mapping[str, Mapping[str, DecoderSpec]] = {
    "patches": {
        "label": DecoderSpec(name="xception", block=2, init="patches"),
        "mask": DecoderSpec(name="xception", block=2),
    },
    "gradcam": {
        "label": DecoderSpec(name="timm", model="legacy_xception", weights="ab" * 32),
        "mask": DecoderSpec(name="xception-fcn", block=11, weights="ab" * 32),
    },
    "attention": dict.fromkeys(("label", "mask"), DecoderSpec(name="xception-attention", block=7, weights="cd" * 32)),
}
HOW: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "patches": {
        "label": {"lr": 1e-3, "batch": 64, "epochs": 100, "targets": "label", "loss": "bce", "augment": FLIP},
        "mask": {"lr": 1e-3, "batch": 16, "epochs": 50, "loss": "bce"},
    },
    "gradcam": {
        "label": {"lr": 1e-3, "batch": 32, "epochs": 100, "task": "detect", "loss": "ce", "augment": FLIP},
        "mask": {"lr": 1e-3, "batch": 16, "epochs": 50, "loss": "bce"},
    },
    "attention": {
        "label": {"lr": 1e-4, "batch": 16, "epochs": 15, "task": "detect", "loss": "attention"},
        "mask": {"lr": 3e-4, "batch": 16, "epochs": 15, "loss": "bce"},
    },
}
NUM = 40


class Weak(Documents):
    """Plans the setups of Dolos, and knows what each is to score.

    Attributes:
        ranks: by fingerprint, by how much its fakes are ranked above its reals.
        steep: by fingerprint, how steeply IoU rises over mask area.
    """

    def __init__(self) -> None:
        super().__init__((SOURCES_TEST,), num_test=NUM, protocol="dolos-2024")
        self.tests = (SOURCES_TEST, REAL)
        self.pbca: dict[str, float] = {}
        self.ranks: dict[str, float] = {}
        self.steep: dict[str, float] = {}

    def setup(
        self,
        method: str,
        setup: str,
        iou: float,
        pbca: float = 0.9,
        *,
        rank: float = 0.3,
        steep: float = 0.1,
        source: str = "celebahq",
        generator: str = "",
        **fields: Any,
    ) -> None:
        """Plan one setup; `fields` replace those of its spec."""
        own = generator or {"A": "p2", "B": "repaint-p2-9k", "C": "repaint-p2"}[setup]
        counts = {f"{source}/{own}": 30000 if setup == "C" else 9000}
        counts |= {} if setup == "C" else {f"{source}/real": 9000}
        valid = {domain: 1000 if domain.endswith("/p2") else count // 10 for domain, count in counts.items()}
        kind = "mask" if setup == "C" else "label"
        how = dict(HOW[method][kind])
        spec = {
            "optimizer": OptimizerSpec(name="adam", lr=how.pop("lr")),
            "schedule": ScheduleSpec(name="constant"),
            "select": "loss",
            "epoch_steps": 500,
            "valid": SampleList(digest=f"{valid}", counts=valid),
            **{key: how[key] for key in ("batch", "epochs", "task", "targets") if key in how},
        }
        more = {"augment": how["augment"]} if "augment" in how else {}
        self.add(
            counts,
            dict.fromkeys(counts, iou) | {SOURCES_TEST: iou, REAL: 1.0},
            case=f"case {len(self.trials)}",  # no name tells what it is
            stage=f"stage {source}",
            decoder=DECODERS[method][kind],
            loss=LossSpec(name=how["loss"]),
            maps=("pixels299" if kind == "label" and method != "attention" else "pixels",),
            spec={**spec, **fields},
            **more,
        )
        name = self.trials[-1].fingerprint
        self.pbca[name], self.ranks[name], self.steep[name] = pbca, rank, steep

    def table(self, **ranks: float) -> None:
        """Plan every setup of table 2 with its published IoU and PBCA."""
        for method in HOW:
            for setup in "ABC":
                iou, pbca = (TABLE.cells[setup, f"{metric}/{method}"].value for metric in ("iou", "pbca"))
                self.setup(method, setup, iou, pbca, rank=ranks.get(f"{method}_{setup}", 0.3))


def made(maker: Weak, workspace: Workspace, name: str = "weak") -> Study:
    """Return the study, its rows as the maker has them: reals have an IoU of 1, by which a mean with them is known."""
    real = studies.rows

    def rows(evaluation: Any, mean: float) -> pa.Table:
        table, trial = real(evaluation, mean), evaluation.trial
        fake = evaluation.domain == SOURCES_TEST
        area = table["mask_area"].to_numpy()
        iou = mean + maker.steep[trial] * (area - area.mean()) if fake else np.ones(NUM)
        new = {
            "iou": iou,
            "pbca": np.full(NUM, maker.pbca[trial] if fake else 1.0),
            "mean_prob": scores(maker.ranks[trial] if fake else 0.0),
        }
        for key, values in new.items():
            table = table.set_column(table.column_names.index(key), key, pa.array(values))
        return table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(studies, "rows", rows)
        return maker.study(workspace, name, weights=WEIGHTS, tables=("s004.table2", "s004.table3"))


def scores(rank: float) -> np.ndarray:
    return np.random.default_rng(5).permutation(np.linspace(0, 0.5, NUM)) + rank


def ap(rank: float) -> float:
    """Return average precision of as many fakes and reals, in per cent, by scikit-learn."""
    both = np.concatenate([scores(rank), scores(0)])
    return 100 * float(sk.average_precision_score(np.r_[np.ones(NUM), np.zeros(NUM)], both))


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def ours(study: Study) -> dict[str, Verdict]:
    return {each.claim.id: each.ours for each in judge(study)}


def test_ours_equal_to_table_2_give_its_verdicts_and_numbers(workspace):
    maker = Weak()
    maker.table()
    study = made(maker, workspace)
    found = ours(study)
    for name in ("s004.c1", "s004.c3", "s004.c4"):
        assert found[name].state == CLAIMS[name].verdict, found[name].why
        close(found[name], CLAIMS[name].numbers)
    every = ap(0.3)
    assert found["s004.c5"].numbers == {"A": [pytest.approx(every)], "B": [pytest.approx(every)]}
    assert (found["s004.c5"].state, every > 90) == ("holds", True)
    assert found["s004.c6"].numbers["ap"] == pytest.approx([every] * 3)
    assert found["s004.c2"].numbers == {"wins": [5.0], "of": [8.0]}, "of equal AP none is highest"
    low, high = found["s004.c5"].spans["A"][0]
    assert low < every < high <= 100


def test_a_model_stands_by_what_it_is_trained_with_and_on_whatever_it_is_called(workspace):
    maker = Weak()
    maker.table()
    study = made(maker, workspace)
    pairs = place.pairs(study, [TABLE])
    matched = [pair for pair in pairs if pair.matched]
    assert len(matched) == len(TABLE.cells) == 24
    ious = {(pair.row, pair.col): pair.ours.value for pair in matched if pair.col.startswith("iou")}
    assert ious == pytest.approx({key: TABLE.cells[key].value for key in ious})
    assert {pair.gaps for pair in matched} == {()}, "all of them are trained as the paper and its code say"
    assert {tuple(pair.place.cells[0][1]) for pair in matched} == {(SOURCES_TEST,)}, "no real, whose IoU is 1"


@pytest.mark.parametrize(
    ("fields", "lack"),
    [
        ({"batch": 16}, "batch 64, ours 16"),
        ({"optimizer": OptimizerSpec(name="adam", lr=1e-4)}, "optimizer adam 0.001, ours adam 0.0001"),
        ({"select": "last"}, "selection loss, ours last"),
        ({"epochs": 50}, "epochs 100, ours 50"),
    ],
)
def test_a_setup_that_was_trained_otherwise_lacks_that(workspace, fields, lack):
    maker = Weak()
    maker.setup("patches", "A", 0.6, **fields)
    found = place.pairs(made(maker, workspace), [TABLE])
    (pair,) = (pair for pair in found if pair.matched and pair.col == "iou/patches")
    assert lack in pair.lacks


def test_labels_of_another_generator_are_no_setup_of_the_table(workspace):
    maker = Weak()
    maker.setup("patches", "B", 0.6, generator="lama")
    found = place.pairs(made(maker, workspace), [TABLE])
    assert not any(pair.matched for pair in found)
    assert setups.setup(maker.trials[0].spec) == "B"


def test_shuffled_masks_and_masks_with_reals_are_no_setup():
    maker = Weak()
    maker.setup("patches", "C", 0.6, targets="shuffled")
    maker.setup("patches", "B", 0.6, targets="own", task="localize")
    assert [setups.setup(trial.spec) for trial in maker.trials] == ["", ""]


def test_detection_that_is_weak_and_patches_that_are_worst_fail_the_claims(workspace):
    maker = Weak()
    for setup, iou in (("A", 0.2), ("B", 0.3), ("C", 0.6)):
        more = 0.2 if setup == "C" else 0.0
        maker.setup("patches", setup, iou, 0.5 + more, rank=0.05)
        maker.setup("gradcam", setup, iou + 0.2, 0.6 + more, rank=0.4)
        maker.setup("attention", setup, iou + 0.1, 0.55 + more, rank=0.1)
    found = ours(made(maker, workspace))
    assert {name: found[name].state for name in (f"s004.c{number}" for number in range(1, 7))} == {
        "s004.c1": "fails",
        "s004.c2": "fails",
        "s004.c3": "holds",
        "s004.c4": "fails",
        "s004.c5": "fails",
        "s004.c6": "fails",
    }
    assert found["s004.c2"].numbers["wins"] == [0.0]
    assert found["s004.c6"].numbers["ap"] == pytest.approx([ap(0.4), ap(0.05), ap(0.1)])


def both_sources(maker: Weak, slope_b: float, iou_b: float) -> None:
    for setup, near, far in (("A", 0.649, 0.251), ("B", 0.377, iou_b), ("C", 0.845, 0.323)):
        steep = slope_b if setup == "B" else 0.2
        maker.setup("patches", setup, near, steep=steep, rank=0.4)
        generator = "repaint-p2" if setup == "B" else ""
        maker.setup("patches", setup, far, 0.8, steep=steep + 0.1, rank=0.1, source="ffhq", generator=generator)


def test_both_sources_decide_the_claims_of_table_3_and_figure_5(workspace):
    maker = Weak()
    both_sources(maker, 0.5, 0.233)
    study = made(maker, workspace)
    found = ours(study)
    assert (found["s004.c7"].state, found["s004.c8"].state) == ("holds", "fails")
    close(found["s004.c8"], CLAIMS["s004.c8"].numbers)
    assert found["s004.c7"].numbers["ap"] == pytest.approx([ap(0.4) - ap(0.1)] * 2)
    figure = found["s004.c9"]
    assert (figure.state, figure.why) == ("holds", "")
    assert figure.numbers["slope_celebahq"] == pytest.approx([0.2, 0.5, 0.2])
    assert figure.numbers["slope_ffhq"] == pytest.approx([0.3, 0.6, 0.3])
    assert figure.numbers["gap"] == pytest.approx([0.398, 0.144, 0.522])
    assert len([pair for pair in place.pairs(study, [TABLES["s004.table3"]]) if pair.matched]) == 16
    lacks = {lack for pair in place.pairs(study, [TABLES["s004.table3"]]) if pair.matched for lack in pair.lacks}
    assert not lacks, "B of CelebA-HQ is of the 9k set"


@pytest.mark.parametrize(("slope_b", "iou_b"), [(0.1, 0.233), (0.5, -0.1), (-0.3, 0.233)])
def test_figure_5_fails_where_b_is_flat_far_or_falls(workspace, slope_b, iou_b):
    maker = Weak()
    both_sources(maker, slope_b, iou_b)
    assert ours(made(maker, workspace))["s004.c9"].state == "fails"


def test_one_source_and_one_setup_leave_figure_5_undecided(workspace):
    maker = Weak()
    maker.setup("patches", "C", 0.8)
    maker.setup("gradcam", "A", 0.3)
    study = made(maker, workspace, "source-shift")
    assert set(sides.areas(study).parts) == {("C", "celebahq/slope"), ("C", "celebahq/iou")}
    assert ours(study)["s004.c9"].state == "cannot_be_computed"
    assert ours(study)["s004.c9"].why == "no number for A and celebahq/slope of areas"


def test_two_step_formulas_on_tables_made_for_them():
    """Each a case on either side of its threshold; the published numbers are tested with all other claims."""
    a, b = (claims.matrix(TABLES[f"s000.two_step.{name}"]) for name in ("domain_only", "with_real"))
    more = {key: value + 2 * (key[0] == "classifier+4-specialists") for key, value in a.cells.items()}
    assert FORMULAS["s000.c13"]([replace(a, cells=more)]).holds, "-1.25 and 2"
    less = {key: value - 10 * (key[0] == "classifier+4-specialists") for key, value in b.cells.items()}
    assert not FORMULAS["s000.c14"]([replace(b, cells=less)]).holds, "9.5 less 10"
    uneven = dict(b.cells) | {("classifier+4-specialists", "celebahq/lama"): 93.9}
    assert not FORMULAS["s000.c15"]([a, replace(b, cells=uneven)]).holds
    tables = [claims.matrix(TABLES[name]) for name in CLAIMS["s000.c16"].uses]
    recall = {key: value + 0.01 * (key[1] == "celebahq/ldm") for key, value in tables[3].cells.items()}
    assert FORMULAS["s000.c16"]([*tables[:3], replace(tables[3], cells=recall)]).holds, "LDM recalled better than LaMa"
    means = [claims.matrix(TABLES[name]) for name in CLAIMS["s000.c11"].uses]
    stated = dict(means[0].cells) | {("best_single_domain", "mean"): 48.8}
    assert not FORMULAS["s000.c11"]([replace(means[0], cells=stated), *means[1:]]).holds


def weak_table(**cells: float) -> Matrix:
    """Return a table of 50 throughout but for the cells that are named `A_iou_patches`."""
    every = {(s, f"{m}/{t}"): 50.0 for s in "ABC" for m in ("iou", "pbca", "ap") for t in HOW}
    every = {key: value for key, value in every.items() if key[0] != "C" or not key[1].startswith("ap")}
    named = {(name[0], name[2:].replace("_", "/")): value for name, value in cells.items()}
    return Matrix("t", every | named)


@pytest.mark.parametrize(
    ("name", "table", "holds"),
    [
        ("s004.c1", weak_table(A_iou_patches=25, B_iou_patches=5), True),
        ("s004.c1", weak_table(A_iou_patches=24.9, B_iou_patches=50), False),
        ("s004.c2", weak_table(A_iou_patches=60, A_pbca_patches=60, B_iou_patches=60, B_pbca_patches=60), False),
        (
            "s004.c2",
            weak_table(A_iou_patches=60, A_pbca_patches=60, B_iou_patches=60, B_pbca_patches=60, B_ap_patches=60),
            True,
        ),
        ("s004.c3", weak_table(), False),
        ("s004.c3", weak_table(**{f"C_{m}_{t}": 51 for m in ("iou", "pbca") for t in HOW}), True),
        ("s004.c4", weak_table(B_iou_gradcam=51, B_iou_attention=51, A_iou_patches=51), True),
        ("s004.c4", weak_table(B_iou_gradcam=51, B_iou_attention=51, B_iou_patches=51), False),
        ("s004.c5", weak_table(A_ap_patches=90, B_ap_patches=90), True),
        ("s004.c5", weak_table(A_ap_patches=95, B_ap_patches=89.9), False),
        ("s004.c6", weak_table(B_ap_gradcam=90, B_ap_patches=90, B_ap_attention=90), True),
        ("s004.c6", weak_table(B_ap_gradcam=90, B_ap_patches=90, B_ap_attention=89.9), False),
    ],
)
def test_formulas_on_tables_made_for_them(name, table, holds):
    assert FORMULAS[name]([table]).holds is holds
