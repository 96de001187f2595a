import html
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import yaml

from dfloc.augmentation import AugmentOp, AugmentSpec
from dfloc.config import DecoderSpec, LossSpec
from dfloc.errors import ConfigError
from dfloc.registry import BACKBONES
from dfloc.report import claims, conclusions, published, render, sides
from dfloc.report.claims import Verdict, judge
from dfloc.report.formulas import FORMULAS, Outcome
from dfloc.report.formulas.numbers import Matrix
from dfloc.report.groups import Study
from dfloc.report.page import Report
from dfloc.report.resample import resample
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.sweep.inventory import Inventory
from dfloc.sweep.prepare import prepare
from dfloc.sweep.sweep_data import SweepRequest, data_of
from tests.report import studies
from tests.report.studies import DOLOS, MINI, Maker

TABLES = published.load(unpublished=True)
CLAIMS = claims.load()
FUSED = ("clip-vit-l14/layer20", "clip-rn50/layer3")
LDM, REPAINT, LAMA, PLURALISTIC = DOLOS
MODELS: Mapping[str, dict[str, Any]] = {
    "s000.single_domain.vit_rn50": {"maps": FUSED, "depth": 12},
    "s000.cross_domain.vit_rn50": {"maps": FUSED, "depth": 12},
    "nb.single.vit_conv20": {"maps": FUSED[:1], "depth": 20},
    "nb.sam2.image_embed_conv4": {"maps": ("sam2.1-small/image_embed",), "depth": 4, "via": 224},
    "nb.sam2.image_embed_conv12": {"maps": ("sam2.1-small/image_embed",), "depth": 12, "via": 224},
    "nb.sam2.image_embed_conv20": {"maps": ("sam2.1-small/image_embed",), "depth": 20, "via": 224},
    "nb.sam2.hrf0_conv20": {"maps": ("sam2.1-small/high_res_feats.0",), "depth": 20, "via": 224},
    "nb.sam2.hrf1_conv20": {"maps": ("sam2.1-small/high_res_feats.1",), "depth": 20, "via": 224},
    "nb.cross.sam2_image_embed": {"maps": ("sam2.1-small/image_embed",), "depth": 20, "via": 224},
    "nb.cross.sam2_hrf1": {"maps": ("sam2.1-small/high_res_feats.1",), "depth": 20, "via": 224},
    "s004.figure6": {"maps": ("pixels",), "decoder": DecoderSpec(name="xception", block=2)},
}


class Documents(Maker):
    """Plans the models of published tables on Dolos, and knows what they should score."""

    def __init__(self, domains: Sequence[str] = DOLOS, num_test: int = 12, protocol: str = "declip-2025"):
        super().__init__(domains, num_test=num_test, base_epochs=2, protocol=protocol)
        self.truth: dict[tuple[str, str], float] = {}

    def add(self, counts: dict[str, int], scores: Mapping[str, float], *, case: str = "", **model: Any) -> None:
        changes = {key: model.pop(key) for key in ("decoder", "loss", "augment") if key in model}
        via = model.pop("via", None)
        self.depth = model.pop("depth", 12)
        stage = model.pop("stage", "single" if len(counts) == 1 else "mixed")
        trial = self.plan(stage, counts, case=case, maps=model.pop("maps"), **model)
        recipes = tuple(recipe.model_copy(update={"via": via}) for recipe in trial.spec.maps)
        head, _, tail = recipes[0].map.partition("/")
        known = BACKBONES[head].channels if head in BACKBONES else {}
        widths = known.get(tail, trial.spec.decoder.channels)
        decoder = trial.spec.decoder.model_copy(update={"channels": widths})
        spec = trial.spec.model_copy(update={"decoder": decoder, **changes, "maps": recipes})
        name = spec.fingerprint
        evaluations = tuple(each.model_copy(update={"trial": name}) for each in trial.evaluations)
        self.trials[-1] = trial.model_copy(update={"spec": spec, "fingerprint": name, "evaluations": evaluations})
        self.truth |= {(name, domain): value for domain, value in scores.items()}

    def table(self, name: str, count: int = 9000) -> None:
        """Plan every model of a published train x test table, each with its published numbers."""
        table = TABLES[name]
        for col in dict.fromkeys(str(col) for _, col in table.cells):
            held = next((domain for domain in self.domains if col == f"without-{domain.split('/')[1]}"), "")
            trained = [col] if col in self.domains else [domain for domain in self.domains if domain != held]
            axes = {"domain": col} if col in self.domains else {"held_out": held} if held else {}
            scores = {str(row): cell.value for (row, each), cell in table.cells.items() if each == col}
            self.add(dict.fromkeys(trained, count), scores, case=name, **axes, **MODELS[name])

    def study(self, workspace: Workspace, name: str, **more: Any) -> Study:
        record = studies.record(self, "paper").model_copy(update={"name": name, **more})
        studies.fill(workspace, record, lambda trial, domain: self.truth[trial.fingerprint, domain], None, ("best",))
        return Study(record, Results(workspace, record))


Make = Callable[[str, Sequence[str]], Study]


@pytest.fixture
def study_with(tmp_path) -> Make:
    def make(name: str, tables: Sequence[str]) -> Study:
        maker = Documents(num_test=40, protocol=TABLES[tables[0]].protocol)
        for table in tables:
            maker.table(table)
        return maker.study(Workspace(tmp_path / "workspace"), name)

    return make


def ours(study: Study) -> dict[str, Verdict]:
    return {each.claim.id: each.ours for each in judge(study)}


def close(found: Verdict, expected: Mapping[str, Sequence[float]], slack: float = 0.5) -> None:
    """Compare with the references' numbers, to `slack` of their last printed digit."""
    assert set(found.numbers) >= set(expected)
    for name, values in expected.items():
        assert len(found.numbers[name]) == len(values), name
        for got, wanted in zip(found.numbers[name], values, strict=True):
            digits = len(str(wanted).partition(".")[2])
            assert abs(got - wanted) <= slack * 10**-digits + 1e-6, (name, got, wanted)


@pytest.mark.parametrize("name", CLAIMS)
def test_published_numbers_give_the_references_verdict_and_numbers(name):
    claim = CLAIMS[name]
    found = claims.on_published(claim, TABLES)
    assert found.state == claim.verdict
    close(found, claim.numbers)


def test_every_claim_has_a_formula():
    assert len(CLAIMS) == 67
    assert set(CLAIMS) == set(FORMULAS)


def test_a_claim_without_a_formula_is_said_to_have_none_yet_by_its_name(tmp_path, monkeypatch):
    maker = Documents(("celebahq/repaint-p2", "ffhq/repaint-p2"), protocol="dolos-2024")
    maker.add({"celebahq/repaint-p2": 30000}, dict.fromkeys(maker.domains, 0.8), maps=("pixels",), domain="x")
    study = maker.study(Workspace(tmp_path / "workspace"), "source-shift")
    monkeypatch.setattr(claims, "FORMULAS", {name: each for name, each in FORMULAS.items() if name != "s004.c9"})
    found = {each.claim.id: each for each in judge(study)}
    waiting = found["s004.c9"]
    assert waiting.published == waiting.ours == Verdict("no_formula", {}, "no formula yet")
    assert waiting.agree is None
    said = conclusions.summary([*found.values()])
    assert said.endswith(" s004.c9 has no formula yet.")
    assert "1 no formula yet" not in said


def test_a_verdict_is_computed_and_not_copied(monkeypatch):
    cells = dict(TABLES["s002.same_generator"].cells)
    key = ("celebahq/lama", "iou")
    cells[key] = type(cells[key])(**{**vars(cells[key]), "value": 0.5})
    changed = {**TABLES, "s002.same_generator": type(TABLES["s002.same_generator"])(
        **{**vars(TABLES["s002.same_generator"]), "cells": cells}
    )}  # fmt: skip
    assert claims.on_published(CLAIMS["s002.c4"], changed).state == "fails"
    assert claims.on_published(CLAIMS["s002.c6"], changed).state == "fails"


def test_suspect_numbers_are_left_out():
    lama = claims.matrix(TABLES["s000.exposure.lama"])
    assert (LAMA, 500) not in lama.cells
    assert lama.suspect[LAMA, 500] == pytest.approx(78.9)
    assert lama.cells[LAMA, 1000] == pytest.approx(70.1)


def test_ours_equal_to_the_published_numbers_give_the_published_verdicts_of_single_domain(study_with):
    names = ["s000.single_domain.vit_rn50", "nb.sam2.hrf1_conv20", "nb.sam2.image_embed_conv20"]
    found = ours(study_with("single-domain", names))
    assert set(found) == {"s000.c1", "s000.c12", "s000.c17", "s000.c18", "s000.c20", "s001.c7", "s001.c9"}
    for name in ("s000.c12", "s000.c20", "s001.c9"):
        assert found[name].state == CLAIMS[name].verdict
    close(found["s000.c20"], CLAIMS["s000.c20"].numbers)
    close(found["s001.c9"], CLAIMS["s001.c9"].numbers)
    np.testing.assert_allclose(
        found["s000.c17"].numbers["b_minus_a"], CLAIMS["s000.c17"].numbers["b_minus_a"], atol=0.06
    )
    assert found["s001.c7"].state == "fails"
    assert found["s001.c7"].numbers["sam2"] == pytest.approx([67.275])


def test_ours_equal_to_the_notebooks_give_the_verdicts_of_cross_domain(study_with):
    found = ours(
        study_with("cross-domain", ["s000.cross_domain.vit_rn50", "nb.cross.sam2_hrf1", "nb.cross.sam2_image_embed"])
    )
    assert set(found) == {"s000.c2", "s001.c8"}
    for name, verdict in found.items():
        assert verdict.state == "holds"
        close(verdict, CLAIMS[name].numbers)


def test_ours_equal_to_the_notebooks_give_the_verdicts_of_sam2_decoders(study_with):
    study = study_with("sam2-decoders", [name for name in MODELS if name.startswith("nb.sam2")])
    found = ours(study)
    for name in ("s001.c1", "s001.c3", "s001.c4", "s001.c5", "s001.c6"):
        assert found[name].state == "holds", name
        close(found[name], CLAIMS[name].numbers, slack=1)
    assert found["s001.c2"].state == "fails"
    assert found["s001.c2"].numbers["recomputed"] == pytest.approx([15.48, 16.09, 14.59], abs=0.006)
    assert found["s001.c2"].numbers["printed"] == pytest.approx([15.48, 16.09, 14.59], abs=0.006)


def test_ours_equal_to_figure_6_give_the_verdicts_of_generator_shift(study_with):
    found = ours(study_with("generator-shift", ["s004.figure6"]))
    for name in (f"s004.c{number}" for number in range(10, 18)):
        assert found[name].state == CLAIMS[name].verdict
        close(found[name], CLAIMS[name].numbers)
    assert found["s004.c18"].state == "cannot_be_computed"
    assert found["s004.c18"].why == "this study has no celebahq/repaint-p2"


def exposure(workspace: Workspace, domains: Sequence[str] = DOLOS, ns: Sequence[int] = (250, 1000, 3000)) -> Study:
    """Return a study whose curves are the published ones, suspect points left out."""
    maker = Maker(domains, FUSED, "ab" * 32, 3000, 30, 300, 12, None, 12)
    maker.curves(ns, epochs=10)
    for domain in domains:
        maker.plan("budgets", {domain: 9000}, case="9000-each-per-model", domain=domain)
        maker.plan("budgets", {domain: 3000}, case="3000-each-per-model-same-backbone", domain=domain)
    maker.plan("budgets", dict.fromkeys(domains, 3000), case="3000-each-train_all_4")
    for first, rest in ((1000, 500), (1750, 750)):
        counts = dict.fromkeys(domains, rest) | {domains[0]: first}
        maker.plan("budgets", counts, case=f"{first}-ldm-{rest}-rest")

    def of(trial, domain):
        place, case = DOLOS[list(domains).index(domain)], trial.case
        if trial.stage in ("base", "finetune"):
            held, n = DOLOS[list(domains).index(trial.axes["held_out"])], trial.axes.get("n", 0)
            return TABLES[f"s000.exposure.{held.split('/')[1]}"].cells[place, {16: 1000, 48: 3000}.get(n, n)].value
        if case == "9000-each-per-model":
            return (
                TABLES["s000.single_domain.vit_rn50"]
                .cells[place, DOLOS[list(domains).index(trial.axes["domain"])]]
                .value
            )
        return TABLES["s000.budgets"].cells[case.removesuffix("-same-backbone"), place].value if case else 0.3

    name = "mini" if domains is MINI else "paper"
    record = studies.record(maker, name)
    studies.fill(workspace, record, of, None, ("best",))
    return Study(record, Results(workspace, record))


@pytest.fixture(scope="module")
def curves(tmp_path_factory) -> Study:
    return exposure(Workspace(tmp_path_factory.mktemp("curves")))


def test_ours_equal_to_the_published_curves_give_the_verdicts_of_exposure(curves):
    found = ours(curves)
    assert found["s000.c3"].numbers["gain_at_3000"] == pytest.approx([11.5, 25.27, 12.1, 12.62])
    close(found["s000.c6"], CLAIMS["s000.c6"].numbers)
    for name in ("s000.c9", "s000.c10"):
        close(found[name], CLAIMS[name].numbers)
        assert found[name].state == CLAIMS[name].verdict
    assert found["s000.c5"].numbers["at_1000"] == pytest.approx([-2.42, 3.163, -2.22, -9.273], abs=0.01)


def test_a_share_of_a_gain_that_is_none_is_undecided():
    """With 50, 40 and 45 % after 0, 1,000 and 3,000 images the quotient would be 2; with 50 at 3,000 there is none."""
    cells = {"one": (10, 50, 60), "hurt": (50, 40, 45), "level": (50, 60, 50), "late": (10, 20, 60)}
    one, hurt, level, late = (
        Matrix(name, dict(zip(((name, 0), (name, 1000), (name, 3000)), values, strict=True)), held_out=name)
        for name, values in cells.items()
    )
    assert FORMULAS["s000.c6"]([one]) == Outcome(True, {"share": [0.8]})
    assert FORMULAS["s000.c6"]([one, late]) == Outcome(False, {"share": [0.8, 0.2]})
    for tables in ([one, hurt, level], [level, one, hurt]):
        found = claims._verdict(FORMULAS["s000.c6"], tables)
        assert found.state == "cannot_be_computed"
        assert found.numbers == {"gain_at_3000": [{"one": 50, "hurt": -5, "level": 0}[each.id] for each in tables]}
        assert found.why == f"there is no gain at 3000 on {', '.join(each.id for each in tables if each.id != 'one')}"
    states = [claims._verdict(FORMULAS["s000.c6"], [table]).state for table in (one, late, hurt)]
    assert claims._share(states) == pytest.approx(1 / 3), "where nothing is decided, it does not hold"
    assert claims._share(states[2:]) is None


def test_the_row_of_the_same_backbone_decides_what_the_documents_cannot(curves):
    each = next(each for each in judge(curves) if each.claim.id == "s000.c8")
    assert each.published.state == "cannot_be_computed"
    assert "another backbone" in each.published.why
    assert each.ours.state == "fails"
    close(each.ours, CLAIMS["s000.c8"].numbers)
    assert each.agree is None


def test_arithmetic_on_sizes_has_no_trial(curves):
    found = ours(curves)["s000.c7"]
    assert (found.state, found.why) == ("cannot_be_computed", "arithmetic on sizes: there is no trial to run")


def test_claims_about_other_domains_are_not_computed_and_one_sentence_says_so(tmp_path):
    study = exposure(Workspace(tmp_path / "workspace"), MINI, (16, 48))
    found = judge(study)
    assert {each.ours.state for each in found} == {"cannot_be_computed"}
    assert not any(each.is_put for each in found)
    (section,) = conclusions.sections(study)
    assert section.blocks == []
    assert section.text == (
        "8 claims. None is put to ours: "
        "this study has no celebahq/ldm (s000.c3, s000.c4, s000.c5, s000.c6, s000.c8, s000.c9, s000.c10); arithmetic "
        "on sizes: there is no trial to run (s000.c7)."
    )


def test_a_claim_about_a_model_that_is_not_there_is_not_computed(study_with):
    study = study_with("single-domain", ["s000.single_domain.vit_rn50"])
    found = ours(study)
    assert found["s000.c1"].state == "cannot_be_computed"
    assert found["s000.c1"].why == "not planned: no model here is what the table requires"
    assert found["s000.c20"].state == "holds"
    (section,) = conclusions.sections(study)
    (table,) = section.blocks
    assert [row.cells[0].small.split(",")[0] for row in table.rows] == ["s000.c12", "s000.c20"]
    assert "Not put to ours: not planned: no model here is what the table requires (s000.c1, s000.c17, " in section.text


def test_no_other_model_stands_in_and_no_other_way_into_it(tmp_path, study_with):
    other = ours(study_with("single-domain", ["nb.sam2.hrf1_conv20"]))["s000.c20"]
    assert (other.numbers, other.why) == ({}, "not planned: no model here is what the table requires")
    for via, expected in ((224, 16), (None, 0)):
        maker = Documents()
        for domain in DOLOS:
            model = {**MODELS["nb.sam2.hrf1_conv20"], "via": via}
            maker.add({domain: 9000}, dict.fromkeys(DOLOS, 0.5), domain=domain, **model)
        study = maker.study(Workspace(tmp_path / str(via)), "single-domain")
        assert len(sides.side(study, TABLES["s000.single_domain.sam2_hrf1"]).parts) == expected


def test_a_claim_of_another_protocol_is_not_computed(study_with):
    study = study_with("generator-shift", ["s004.figure6"])
    study.record = study.record.model_copy(update={"protocol": "dfloc-1"})
    assert {each.why for each in ours(study).values()} >= {"protocol dolos-2024, ours dfloc-1"}
    assert not any(each.numbers for each in ours(study).values())


def test_of_two_models_with_the_tables_maps_the_one_that_meets_more_of_it_is_taken(tmp_path):
    maker = Documents()
    maker.table("s000.single_domain.vit_rn50", count=3000)
    maker.table("s000.single_domain.vit_rn50", count=9000)
    for trial in maker.trials[:4]:
        maker.truth |= {(trial.fingerprint, domain): 0.5 for domain in DOLOS}
    maker.trials[:4] = [trial.model_copy(update={"case": "thirds"}) for trial in maker.trials[:4]]
    found = ours(maker.study(Workspace(tmp_path / "workspace"), "single-domain"))["s000.c20"]
    close(found, CLAIMS["s000.c20"].numbers)
    assert "3000" not in found.model


def segmenters(maker: Documents, name: str) -> None:
    plain = {"maps": ("pixels",), "stage": name}
    for encoder, value in (("resnet50", 0.6), ("resnet18", 0.5)):
        for loss, more in (("jaccard", 0.02), ("dice", 0.0), ("focal", -0.05)):
            decoder = DecoderSpec(name="smp", architecture="unetplusplus", encoder=encoder)
            scores = dict.fromkeys(DOLOS, value + more)
            maker.add(
                dict.fromkeys(DOLOS, 9000), scores, decoder=decoder, loss=LossSpec(name=loss), encoder=encoder, **plain
            )
            axes = maker.trials[-1].axes | {"loss": loss}
            maker.trials[-1] = maker.trials[-1].model_copy(update={"axes": axes})


def test_configurations_and_losses_that_no_document_prints_are_compared_on_ours(tmp_path):
    maker = Documents()
    segmenters(maker, "configurations")
    study = maker.study(Workspace(tmp_path / "workspace"), "segmenters")
    best = ours(study)["s002.c1"]
    assert best.state == "holds"
    assert best.numbers["unetplusplus/resnet18"] == pytest.approx([0.5 + (0.02 - 0.05) / 3])
    study.record = study.record.model_copy(update={"name": "losses"})
    loss = ours(study)["s002.c2"]
    assert loss.state == "holds"
    assert loss.numbers["jaccard"] == pytest.approx([0.57])
    assert ours(study)["s002.c3"].why == "no segmenter is trained with and without blur"


def test_blur_counts_on_domains_that_were_not_trained_on_alone(tmp_path):
    maker = Documents()
    decoder = DecoderSpec(name="smp", architecture="unetplusplus", encoder="resnet50")
    blur = AugmentSpec(ops=(AugmentOp(name="blur", probability=0.5, sigma=(0, 3)),))
    for held_out in DOLOS:
        counts = {domain: 9000 for domain in DOLOS if domain != held_out}
        for augment, unseen, seen in ((blur, 0.4, 0.1), (None, 0.3, 0.9)):
            scores = dict.fromkeys(DOLOS, seen) | {held_out: unseen}
            maker.add(counts, scores, decoder=decoder, augment=augment, maps=("pixels",), held_out=held_out)
            axes = maker.trials[-1].axes | {"augment": "blur" if augment else "none"}
            maker.trials[-1] = maker.trials[-1].model_copy(update={"axes": axes})
    found = ours(maker.study(Workspace(tmp_path / "workspace"), "losses"))["s002.c3"]
    assert found.state == "holds"
    assert found.numbers == {"blur": pytest.approx([0.4]), "none": pytest.approx([0.3])}


def test_setup_c_of_the_sources_is_ours_and_the_others_are_said_to_be_missing(tmp_path):
    domains = ("celebahq/repaint-p2", "ffhq/repaint-p2")
    maker = Documents(domains, protocol="dolos-2024")
    for domain, value in zip(domains, (0.8, 0.3), strict=True):
        decoder = DecoderSpec(name="xception", block=2)
        maker.add({domain: 30000}, dict.fromkeys(domains, value), maps=("pixels",), decoder=decoder, domain=domain)
    found = ours(maker.study(Workspace(tmp_path / "workspace"), "source-shift"))
    assert set(found) == {"s004.c7", "s004.c8", "s004.c9", "s004.c19", "s004.c20", "s004.c21"}
    assert found["s004.c7"].why == "no number for A and celebahq/iou of s004.table3"


def test_the_interval_of_one_number_is_that_of_the_other_tables(study_with):
    study = study_with("single-domain", ["s000.single_domain.vit_rn50"])
    ((low, high),) = ours(study)["s000.c20"].spans["id"]
    models = [(group, [group.axes["domain"]]) for group in study.groups]
    found = study.mean_of(models)
    assert (low / 100, high / 100) == pytest.approx((found.low, found.high), abs=1e-9)
    assert low < 73.45 < high


def test_a_resample_in_which_a_set_came_empty_counts_on_no_side(study_with, monkeypatch):
    def resampled(parts):
        known = resample(parts, num=1)
        lacking = np.repeat(known, 2, axis=0)
        lacking[[0, 1], [0, -1]] = np.nan
        return np.concatenate([known, lacking])

    monkeypatch.setattr(claims, "resample", resampled)
    found = ours(study_with("single-domain", ["s000.single_domain.vit_rn50"]))["s000.c20"]
    assert (found.state, found.share) == ("holds", 1)


def test_a_close_call_holds_in_a_part_of_the_resamples(tmp_path):
    maker = Documents(num_test=40)
    maker.table("s000.single_domain.vit_rn50")
    maker.truth = {
        (trial.fingerprint, test): 0.5 if test == trial.axes["domain"] else 0.301
        for trial in maker.trials
        for test in DOLOS
    }
    found = ours(maker.study(Workspace(tmp_path / "workspace"), "single-domain"))["s000.c20"]
    assert found.state == "fails"
    assert 0.02 < found.share < 0.98


def test_where_the_two_verdicts_part_the_page_says_so(tmp_path):
    maker = Documents(num_test=40)
    maker.table("s000.single_domain.vit_rn50")
    maker.truth = dict.fromkeys(((trial.fingerprint, test) for trial in maker.trials for test in DOLOS), 0.5)
    study = maker.study(Workspace(tmp_path / "workspace"), "single-domain")
    found = judge(study)
    assert [each.claim.id for each in found if each.agree is False] == ["s000.c20"]
    assert "On the published numbers: 5 hold, 2 fail." in conclusions.summary(found)
    assert "They decide differently: s000.c20." in conclusions.summary(found)
    made = conclusions.table(study, found)
    row = next(row for row in made.rows if row.cells[0].text.startswith("Localization generalizes badly"))
    assert [cell.text for cell in row.cells[2:]] == ["holds", "FAILS, holds in 0 % of resamples", "NO"]
    assert "id 73.45; ood 33.82" in row.cells[2].small
    assert re.search(r"id 50\.00 \(4\d\.\d\d … 5\d\.\d\d\)", row.cells[3].small)
    assert made.rows[0].cells[1].text == CLAIMS["s000.c1"].formula


def test_a_page_says_a_claim_by_two_chips_and_one_number_and_folds_the_rest(tmp_path, study_with):
    study = study_with("single-domain", ["s000.single_domain.vit_rn50"])
    (section,) = conclusions.sections(study)
    assert section.chip == ""
    (made,) = section.blocks
    report = Report("t", "s", [], [], [section], [])
    page = html.unescape(render.html("page", page=report))
    claim = next(each for each in made.judged if each.claim.id == "s000.c20")
    item = next(part for part in page.split("<li>") if part.startswith(claim.claim.claim))
    shown, _, folded = item.partition("<details>")
    assert '<span class="chip holds">published: holds</span>' in shown
    assert '<span class="chip holds">ours: holds</span>' in shown
    assert re.findall(r"\d+ %", shown) == [f"{100 * claim.ours.share:.0f} %"]
    assert claim.claim.formula in folded
    assert claim.claim.formula not in shown
    assert "id 73.45" in folded
    text = render.markdown("report", page=report)
    assert f"- {claim.claim.claim} Published: **holds**; ours: **holds**, holds in 100 % of resamples (s000.c20" in text
    assert claim.claim.formula not in text


def test_on_built_in_data_claims_show_the_path_only(mini_study):
    (section,) = conclusions.sections(mini_study)
    assert section.chip == "shows the path only"
    report = Report("t", "s", [], [], [section], [])
    assert '<p><span class="chip">shows the path only</span> 8 claims.' in render.html("page", page=report)
    assert "**shows the path only.** 8 claims." in render.markdown("report", page=report)


def test_halves_are_rounded_as_the_documents_round_them():
    found = claims.on_published(CLAIMS["s000.c1"], TABLES)
    assert conclusions.numbers(found) == "a 47.53, 15.75; b 16.13, 3.53."


def test_numbers_of_random_weights_decide_no_claim(tmp_path):
    maker = Documents()
    maker.weights = "random:0"
    maker.table("s000.single_domain.vit_rn50")
    study = maker.study(Workspace(tmp_path / "workspace"), "single-domain")
    found = ours(study)["s000.c20"]
    assert (found.numbers, found.why) == ({}, "random weights: our numbers mean nothing beside published ones")


def test_what_is_not_finished_is_missing(tmp_path):
    maker = Documents()
    maker.table("s000.single_domain.vit_rn50")
    record = studies.record(maker, "paper").model_copy(update={"name": "single-domain"})
    workspace = Workspace(tmp_path / "workspace")
    last = maker.trials[-1].fingerprint
    studies.fill(
        workspace, record, lambda trial, domain: 0.5, lambda trial: "new" * (trial.fingerprint == last), ("best",)
    )
    found = ours(Study(record, Results(workspace, record)))["s000.c20"]
    assert found.why == f"no number for {PLURALISTIC} and {PLURALISTIC} of s000.single_domain.vit_rn50"


def test_a_study_of_no_document_has_no_claims(study_with):
    assert judge(study_with("decoder-depth", ["nb.single.vit_conv20"])) == []


def test_a_claim_without_a_field_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [{"id": "s009.c1", "doc": "s009"}]}))
    with pytest.raises(ConfigError, match=r"claim s009\.c1 has no where"):
        claims.load(path)


@pytest.mark.parametrize(
    "name", ["single-domain", "cross-domain", "sam2-decoders", "losses", "segmenters", "generator-shift"]
)
def test_each_study_as_it_is_shipped_has_the_models_of_its_claims(name, tmp_path):
    workspace = Workspace(tmp_path / "workspace")
    options = SweepRequest(name, str(workspace.root), preset="paper")
    record = prepare(options, workspace, data_of(options, workspace), Inventory(workspace, load=False)).plan.record
    study = Study(record, Results(workspace, record))
    elsewhere = {"s004.table2", "s004.table3", "declip.matrix"}
    for claim in claims.of_study(name):
        own = claims.OURS.get(claim.id)
        read = [own(study)] if own else [sides.side(study, TABLES[table]) for table in claim.uses]
        assert {side.id for side in read if not side.parts} <= elsewhere, claim.id


def test_claims_use_tables_that_there_are():
    assert {name for claim in CLAIMS.values() for name in claim.uses} <= set(TABLES)
