from dataclasses import replace

import numpy as np
import pytest

from dfloc.report import comparison, heatmaps, models, place, published, render
from dfloc.report.build import read
from dfloc.report.chart import Figure
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import DOLOS, MINI, Maker

LDM, REPAINT = DOLOS[:2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    def make(record, **changes) -> tuple[Study, list[place.Pair]]:
        record = record.model_copy(update=changes)
        workspace = Workspace(tmp_path_factory.mktemp(record.name))
        studies.fill(workspace, record, crossed.truth, checkpoints=("best",))
        study = Study(record, Results(workspace, record))
        tables = published.choose(published.load(unpublished=True), record.tables)
        return study, place.pairs(study, tables)

    return make


def at(pairs, table, row, col):
    return [pair for pair in pairs if (pair.table.id, pair.published.row, pair.published.col) == (table, row, col)]


def trial_of(study, **axes):
    return next(t for t in study.record.trials if all(t.axes.get(key) == value for key, value in axes.items()))


def test_a_matrix_is_matched_by_model_data_and_test_domain(made):
    study, pairs = made(crossed.single_domain(num_test=60))
    (pair,) = at(pairs, "s000.single_domain.vit_rn50", REPAINT, LDM)
    assert pair.published.value == pytest.approx(0.462)
    assert (pair.where, pair.gaps) == ("vit-rn50-conv-12", ())
    ours = crossed.truth(trial_of(study, domain=LDM), REPAINT)
    assert pair.ours.value == pytest.approx(ours)
    (table,) = [each for each in comparison.tables(study, pairs) if "vit_rn50" in each.id]
    row = next(row for row in table.rows if row.cells[1].text == REPAINT)
    start = table.heads.index(f"{LDM} published")
    assert [cell.text for cell in row.cells[start : start + 3]] == [
        "46.2",
        f"{100 * ours:.1f}",
        f"{100 * ours - 46.2:+.1f}",
    ]
    spans = [cell.exact[1:] for cell in row.cells[start + 1 : start + 3]]
    assert np.subtract(*spans) == pytest.approx([46.2, 46.2])
    assert spans[0] == pytest.approx([100 * pair.ours.low, 100 * pair.ours.high])
    assert "900 images each, masks of Dolos; by declip-2025" in table.caption
    figure = heatmaps.crossed(study, models.models(study), pairs)
    (panel,) = [panel for panel in figure.panels if panel.title.endswith("vit_rn50")]
    tile = panel.chart.tiles[list(DOLOS).index(REPAINT)][list(DOLOS).index(LDM)]
    assert f"vit-rn50-conv-12, {pair.told()[1]}" in tile.notes
    assert "Test lists of ours: celebahq/ldm" in figure.caption


def test_what_a_source_does_not_state_is_no_difference(made):
    _, pairs = made(crossed.single_domain())
    (pair,) = at(pairs, "s000.single_domain.sam2_hrf1", LDM, LDM)
    assert pair.where == "sam2-high-res-1-conv-20"
    assert pair.gaps == ("the source does not state batch + lr schedule + selection + init",)


def test_another_order_of_the_plan_moves_no_number(made):
    record = crossed.single_domain()
    _, before = made(record)
    _, after = made(record, trials=tuple(reversed(record.trials)), domains=tuple(reversed(record.domains)))

    def values(pairs):
        return {(p.table.id, p.published.row, p.published.col): (p.where, p.ours.value) for p in pairs}

    assert values(before) == values(after)
    assert len(values(before)) == 32


def test_left_out_domains_and_all_four(made):
    study, pairs = made(crossed.cross_domain())
    (pair,) = at(pairs, "s000.cross_domain.vit_rn50", LDM, "without-ldm")
    assert pair.col == f"without-{LDM}"
    assert pair.ours.value == pytest.approx(crossed.truth(trial_of(study, held_out=LDM), LDM))
    assert pair.gaps == ()
    (mean,) = at(pairs, "s000.mean_over_domains", "train_all_4", "mean")
    every = next(trial for trial in study.record.trials if trial.stage == "all")
    assert mean.ours.value == pytest.approx(sum(crossed.truth(every, domain) for domain in DOLOS) / 4)
    assert mean.published.value == pytest.approx(0.637)
    (single,) = at(pairs, "s000.mean_over_domains", "best_single_domain", "mean")
    assert single.ours is None
    assert "not planned" in single.gaps[0]


def test_id_and_ood_of_a_decoder_are_of_the_whole_matrix(made):
    study, pairs = made(crossed.sam2_decoders())
    found = {pair.where: pair for pair in at(pairs, "s001.decoders", "conv-20/high_res_feats.1", "ood")}
    assert len(found) == 2
    via, once = (found[f"{case}, depth = 20, sam2.1-small/high_res_feats.1"] for case in ("via-224", "at-once"))
    trials = [
        trial
        for trial in study.record.trials
        if (trial.case, trial.axes["map"], trial.axes["depth"]) == ("via-224", "sam2.1-small/high_res_feats.1", 20)
    ]
    cells = [crossed.truth(trial, domain) for trial in trials for domain in DOLOS if domain != trial.axes["domain"]]
    assert len(cells) == 12
    assert via.ours.value == pytest.approx(sum(cells) / 12)
    assert not any("input" in gap for gap in via.gaps)
    assert "input 224 then 1024, ours 1024" in once.gaps


def test_figure_6_of_dolos_is_compared_where_an_epoch_has_500_iterations(made):
    study, pairs = made(crossed.generator_shift())
    assert len(pairs) == 32
    assert all(pair.gaps == () for pair in pairs)
    (pair,) = at(pairs, "s004.figure6", LDM, "without-repaint-p2-9k")
    assert pair.published.value == pytest.approx(0.198)
    assert pair.ours.value == pytest.approx(crossed.truth(trial_of(study, held_out=REPAINT), LDM))
    record = crossed.generator_shift()
    shorter = [
        trial.model_copy(update={"spec": trial.spec.model_copy(update={"epoch_steps": 100})}) for trial in record.trials
    ]
    _, other = made(record, trials=tuple(shorter))
    assert other[0].gaps == ("epochs of so many iterations: 500, ours 100",)


def test_setup_c_of_the_sources_has_both_metrics(made):
    study, pairs = made(crossed.source_shift())
    (pbca,) = at(pairs, "s004.table3", "C", "ffhq/pbca")
    assert (pbca.published.value, pbca.ours.value, pbca.gaps) == (pytest.approx(0.892), pytest.approx(0.9), ())
    (iou,) = at(pairs, "s004.table3", "C", "ffhq/iou")
    trial = trial_of(study, domain="ffhq/repaint-p2")
    assert iou.ours.value == pytest.approx(crossed.truth(trial, "celebahq/repaint-p2"))
    (weak,) = at(pairs, "s004.table3", "A", "ffhq/iou")
    assert weak.ours is None
    (patches,) = at(pairs, "s004.table2", "C", "iou/patches")
    assert (patches.published.value, patches.gaps) == (pytest.approx(0.845), ())
    (unseen,) = at(pairs, "s004.table4", "patches-trained-setup-c", "repaint-p2/iou")
    assert unseen.ours is not None
    assert any("context" in gap for gap in unseen.gaps)


def test_segmenters_stand_as_context_and_name_the_other_set(made):
    study, pairs = made(crossed.segmenters())
    (same,) = at(pairs, "s002.same_generator", "celebahq/repaint-p2", "iou")
    assert same.where == "unetplusplus, resnet50, jaccard"
    assert same.ours.value == pytest.approx(crossed.truth(trial_of(study, domain=REPAINT), REPAINT))
    assert "celebahq/repaint-p2, ours celebahq/repaint-p2-9k" in same.gaps
    (held,) = at(pairs, "s002.leave_one_out", LDM, "iou")
    assert held.ours.value == pytest.approx(crossed.truth(trial_of(study, held_out=LDM), LDM))
    assert "protocol unknown, ours dfloc-1" in held.gaps


def test_a_table_whose_model_is_not_recorded_says_so(made):
    _, pairs = made(crossed.single_domain(), tables=("declip.matrix",))
    assert {pair.ours for pair in pairs} == {None}
    assert pairs[0].gaps[0] == "the source does not record its model"


def test_built_in_data_have_no_published_number(made):
    study, pairs = made(crossed.losses(), tables=("s004.figure6",))
    assert MINI
    assert pairs == []
    assert place.unmatched(study, published.choose(published.load(), study.record.tables), pairs) == []


def test_rows_and_columns_without_a_number_of_ours_are_a_note(made):
    study, pairs = made(crossed.source_shift())
    assert place.matched(pairs) == pairs
    table = comparison.tables(study, pairs)[0]
    assert [[cell.text for cell in row.cells[:2]] for row in table.rows] == [["xception to block 2", "C"]]
    heads = [f"{source}/{metric} {end}" for source in ("celebahq", "ffhq") for metric in ("iou", "pbca")
             for end in ("published", "ours", "difference")]  # fmt: skip
    assert table.heads[2:] == heads
    assert any(note.startswith("12 published values are left out: not planned: no training or") for note in table.notes)


def test_a_table_of_another_protocol_has_no_number_here(made):
    study, pairs = made(crossed.generator_shift(), protocol="dfloc-1")
    assert pairs == []
    (words,) = place.unmatched(study, published.choose(published.load(), ("s004.figure6",)), pairs)
    assert words.endswith("which are not shown: s004.figure6 (protocol dolos-2024, ours dfloc-1).")


OWN = tuple(f"mine/{domain.split('/')[1]}" for domain in DOLOS)


def own_curves(tmp_path, domains):
    """Return the exposure study on some domains, and what its page says."""
    maker = Maker(domains, crossed.FUSED, crossed.OPENAI, 3000, 30, 300, 12, None, 12)
    maker.curves([250, 1000], epochs=10)
    record = crossed.named(maker, "exposure", tables=("s000.exposure.lama", "s000.budgets"))
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record, checkpoints=("best",))
    return Study(record, Results(workspace, record)), read(workspace, record)


def test_own_data_have_no_published_column_and_a_sentence_in_place_of_claims(tmp_path):
    study, page = own_curves(tmp_path, OWN)
    assert not study.built_in
    names = [table.id for table in page.tables]
    assert "exposure" in names
    assert not [name for name in names if name.startswith(("published", "claims"))]
    text = render.markdown("report", page=page)
    assert "Diamonds" not in text
    (claims,) = [section for section in page.sections if section.id == "claims-study"]
    assert claims.blocks == []
    assert "None is put to ours: this study has no celebahq/ldm (s000.c3, s000.c4, s000.c5, s000.c6, s000.c8, " in text
    (line,) = [line for line in page.footer if line.startswith("Published tables")]
    assert line.endswith(": s000.exposure.lama, s000.budgets (this study has no celebahq/ldm).")
    for section in page.sections:
        for block in (each for each in section.blocks if isinstance(each, Figure)):
            assert not [key.label for key in block.legend if "published" in key.label], block.id


def test_the_published_domains_have_their_columns_and_verdicts(tmp_path):
    _, page = own_curves(tmp_path, DOLOS)
    by_name = {table.id: table for table in page.tables}
    assert "celebahq/lama published" in by_name["published-exposure"].heads
    assert "published-budgets" not in by_name, "no budget is planned"
    assert {row.cells[0].small.split(",")[0] for row in by_name["claims"].rows} == {"s000.c3", "s000.c4", "s000.c5"}
    text = render.markdown("report", page=page)
    assert "Diamonds" in text
    assert "s000.budgets (not planned)" in text
    assert "Not put to ours: no number for celebahq/ldm and 3000 of s000.exposure.ldm (s000.c6); " in text


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rows_axis": "n"}, "no table here has iou by n and training_data"),
        ({"metric": "accuracy"}, "no table here has accuracy by test_domain and training_data"),
        ({"cells": {}}, "it has no number"),
    ],
)
def test_a_table_that_says_something_else_is_named_and_never_compared(made, change, why):
    study, _ = made(crossed.generator_shift())
    table = replace(published.load()["s004.figure6"], **change)
    found = place.pairs(study, [table])
    assert found == []
    assert place.unmatched(study, [table], found)[0].endswith(f"s004.figure6 ({why}).")
