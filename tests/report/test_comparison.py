import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest

from dfloc.config import SampleList
from dfloc.data import sample_lists
from dfloc.data.manifest import SampleRef, list_digest
from dfloc.frozen import fingerprint
from dfloc.metrics.metric import IOU
from dfloc.report import captions, comparison, latex, place, published, reading, render
from dfloc.report.estimate import Estimate
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.report.table import NO_INTERVAL, Cell
from dfloc.storage import Workspace
from tests.report.conftest import curve_of, small_paper, texts
from tests.report.studies import DOLOS, Maker, fill, truth
from tests.report.studies import record as record_of

FUSED = ("clip-vit-l14/layer20", "clip-rn50/layer3")


@pytest.fixture(scope="module")
def found(paper_study):
    return place.pairs(paper_study, published.choose(published.load(), paper_study.record.tables))


def of(found, where, n, domain):
    (pair,) = [pair for pair in found if (pair.where, pair.place.n, pair.col) == (where, n, domain)]
    return pair


def test_values_are_matched_by_domain_and_n(found, paper_study):
    pair = of(found, "celebahq/lama", 1000, "celebahq/pluralistic")
    assert pair.published.value == pytest.approx(0.6472)
    group = curve_of(paper_study, "celebahq/lama")[1000]
    assert pair.ours.value == pytest.approx(truth(group.first.trial, "celebahq/pluralistic"))
    assert pair.gaps == ()


def test_the_order_of_our_domains_moves_nothing(found, paper_workspace):
    record = small_paper()
    turned = record.model_copy(update={"domains": tuple(reversed(record.domains))})
    study = Study(turned, Results(paper_workspace, turned))
    again = place.pairs(study, published.choose(published.load(), turned.tables))
    key = [(pair.where, pair.row, pair.col, pair.published.value, pair.ours and pair.ours.value) for pair in found]
    assert key == [(p.where, p.row, p.col, p.published.value, p.ours and p.ours.value) for p in again]


def test_every_published_value_is_there_and_only_planned_n_have_ours(found):
    assert len(found) == 4 * 4 * 13 + 5 * 4
    assert of(found, "celebahq/ldm", 500, "celebahq/ldm").gaps == ("not planned",)


def test_suspect_and_mixed_values_have_no_difference(found, paper_study):
    pair = of(found, "celebahq/lama", 250, "celebahq/lama")
    assert pair.gaps[0].startswith("published value suspect")
    curves, budgets = comparison.tables(paper_study, found)
    row = texts(curves, "celebahq/lama", "250")
    assert row[8] == "79.1"
    assert row[10] in "abcdefgh"
    assert any(note.startswith(f"{row[10]}: published value suspect") for note in curves.notes)
    sound = texts(curves, "celebahq/lama", "1,000")
    assert float(sound[10]) == pytest.approx(float(sound[9]) - 70.1, abs=0.11)
    mixed = texts(budgets, "3000-each-per-model")
    assert mixed[1] == "40.8"
    assert not mixed[3].startswith(("+", "-"))


def compared(study, pair) -> list[Cell]:
    """Return the cells of published, ours and difference."""
    columns = comparison.columns_of(study, pair.col, {})
    return [column.cell(((), {pair.col: pair})) for column in columns]


def test_ours_and_the_difference_have_the_interval_of_ours_alone(found, paper_study):
    known = replace(
        of(found, "celebahq/lama", 1000, "celebahq/pluralistic"), ours=Estimate(0.65, 0.6, 0.71, 2, 9, 3, metric=IOU)
    )
    assert known.published.value == pytest.approx(0.6472)
    published, ours, difference = compared(paper_study, known)
    assert (published.text, published.span) == ("64.7", None)
    assert (ours.text, ours.span, ours.small) == ("65.0", ("60.0", "71.0"), "2 of 3 runs")
    assert (difference.text, difference.span, difference.small) == ("+0.3", ("-4.7", "+6.3"), "")
    np.testing.assert_allclose(ours.exact, [65, 60, 71])
    np.testing.assert_allclose(difference.exact, [0.28, -4.72, 6.28])
    assert known.told() == ["ours: 0.650 (0.600 … 0.710)", "difference: +0.003 (-0.047 … +0.063)"]
    few = replace(known, ours=Estimate(0.65, math.nan, math.nan, 2, 2, 3, metric=IOU))
    assert few.told() == [f"{words} ({NO_INTERVAL})" for words in ("ours: 0.650", "difference: +0.003")]
    refused = replace(known, lacks=("epochs 10, ours 11",))
    assert compared(paper_study, refused)[2].text == "a"
    assert refused.told()[1] == "no difference: epochs 10, ours 11"


def test_intervals_stand_in_csv_markdown_and_latex_and_no_number_is_the_best(study_of):
    maker = Maker(DOLOS, FUSED, "ab" * 32, 3000, 30, 300, 60, None, 12)
    base = maker.plan("base", dict.fromkeys((*DOLOS[:2], DOLOS[3]), 3000), held_out=DOLOS[2])
    for n in (1000, 2000):
        maker.plan("finetune", {DOLOS[2]: n}, parent=base, epochs=10, held_out=DOLOS[2], n=n)
    study = study_of(record_of(maker, "paper", tables=("s000.exposure.lama",)))
    (curves,) = comparison.tables(study, place.pairs(study, published.choose(published.load(), study.record.tables)))
    row = next(row for row in csv.DictReader(io.StringIO(curves.csv())) if row["n"] == "1,000")
    score = curve_of(study, DOLOS[2])[1000].score([DOLOS[3]])
    for name, less in (("ours", 0), ("difference", 0.6472)):
        ends = [float(row[f"{DOLOS[3]} {name}: {end}"]) for end in ("low", "high")]
        np.testing.assert_allclose(ends, [100 * (score.low - less), 100 * (score.high - less)])
    low, high = (f"{100 * (end - 0.6472):+.1f}" for end in (score.low, score.high))
    assert f"({low} … {high})" in render.markdown("table", block=curves)
    keys = [f"{DOLOS[3]}-{end}" for end in ("published", "ours", "difference")]
    body = latex.latex(curves, ["held-out", "n", *keys])
    assert f"[{low}, {high}]".replace("-", "$-$") in body
    assert "textbf" not in body.partition("midrule")[2]
    assert "how uncertain a published number is, is not known" in curves.caption


def test_the_caption_says_which_lists_and_masks_are_compared(found, paper_study):
    digest = fingerprint(["test", "celebahq/ldm"])[:10]
    for table in comparison.tables(paper_study, found):
        assert f"Test lists of ours: celebahq/ldm {digest}, celebahq/repaint-p2-9k " in table.caption
        assert "12 images each, kind of masks not recorded; by declip-2025: a pixel is fake where" in table.caption
        assert "celebahq/pluralistic, 900 images each, masks of Dolos; by declip-2025" in table.caption


def test_the_masks_of_a_list_that_is_kept_are_named_and_each_source_has_its_rule(tmp_path):
    domain = DOLOS[0]
    refs = [
        SampleRef(
            f"{domain}/test/{i}.png", f"p{i}", f"s{i % 3}", domain, "test", "a" * 64, "b" * 64, kind, "s", "d", 0, i
        )
        for i, kind in enumerate(["fake_is_black"] * 5 + ["real"])
    ]
    maker = Maker((domain,), FUSED, "ab" * 32)
    maker.plan("base", {domain: 30})
    test = SampleList(digest=list_digest(refs), counts={domain: 6})
    planned = maker.trials[0]
    asked = [each.model_copy(update={"test": test}) for each in planned.evaluations]
    maker.trials[0] = planned.model_copy(update={"evaluations": tuple(asked)})
    workspace, record = Workspace(tmp_path), record_of(maker, "paper")
    sample_lists.keep(workspace, test.digest, refs)
    fill(workspace, record)
    study = Study(record, Results(workspace, record))
    every = published.load()
    sources = [every[name] for name in ("s004.table2", "s002.leave_one_out", "s001.decoders")]
    sources.append(replace(every["s000.budgets"], protocol="their-own", aggregate=""))
    words = captions.compared(study, sources, study.results.scores())
    assert "celebahq/pluralistic, 900 images each, masks of Dolos; by their-own (s000.budgets)" in words
    assert f"{domain} {test.digest[:10]}, 6 images, masks fake_is_black, real; by declip-2025: " in words
    assert (
        "celebahq/repaint-p2, 8.5k images, masks of Dolos; by dolos-2024: a pixel is fake where the mask is not "
        in words
    )
    assert "test sets not stated, masks of Dolos; by a protocol that is not known; not stated; full sets" in words
    assert "by declip-2025; single-domain training; " in words


def test_on_built_in_data_nothing_published_stands(paper_study, study_of):
    record = paper_study.record.model_copy(update={"synthetic": True})
    study = Study(record, paper_study.results)
    tables = published.choose(published.load(), record.tables)
    assert place.pairs(study, tables) == []
    maker = Maker(weights="random:0")
    maker.curves([4], epochs=4)
    mini = study_of(record_of(maker, "mini", synthetic=True))
    assert mini.built_in
    assert place.pairs(mini, tables) == []
    assert place.unmatched(mini, [published.load()["s003.attribution"]], []) == []


@pytest.fixture
def random_study(study_of):
    maker = Maker(DOLOS, FUSED, "random:0", 3000, 30, 300, 6, None, 12)
    base = maker.plan("base", dict.fromkeys(DOLOS[1:], 3000), held_out=DOLOS[0])
    maker.plan("finetune", {DOLOS[0]: 250}, parent=base, epochs=10, held_out=DOLOS[0], n=250)
    return study_of(record_of(maker, "paper", tables=("s000.exposure.ldm",), synthetic=True))


def test_under_random_weights_published_values_are_context_and_only_the_difference_goes(random_study):
    pairs = place.pairs(random_study, published.choose(published.load(), random_study.record.tables))
    pair = of(pairs, DOLOS[0], 250, DOLOS[0])
    assert pair.ours is not None
    assert "random weights: our numbers mean nothing beside published ones" in pair.gaps
    (table,) = comparison.tables(random_study, pairs)
    assert not any("difference" in name for name in table.heads)
    row = texts(table, DOLOS[0], "250")
    assert row[2] == f"{100 * pair.published.value:.1f}"
    assert row[3] == f"{100 * pair.ours.value:.1f}"
    assert all(letter in "abcdefgh" for letter in row[4].split())


def test_the_page_says_what_random_weights_and_built_in_data_mean(random_study, mini_study):
    told = dict(reading.lines(random_study, published=True))
    assert "Diamonds" in told
    assert "Random weights" in told
    assert "Built-in data" not in told
    told = dict(reading.lines(mini_study, published=False))
    assert "not shown" in told["Built-in data"]
    assert "Random weights" not in told


def test_values_of_a_domain_that_is_not_tested_are_counted(paper_workspace):
    record = small_paper()
    record = record.model_copy(update={"domains": record.domains[:3]})
    study = Study(record, Results(paper_workspace, record))
    curves, budgets = comparison.tables(study, place.pairs(study, published.choose(published.load(), record.tables)))
    assert not any(column.startswith(DOLOS[3]) for column in [*curves.heads, *budgets.heads])
    (words,) = [note for note in budgets.notes if "left out" in note]
    assert words == "5 published values are left out: this study does not test on celebahq/pluralistic."
    assert "81 published values are left out: not planned." in curves.notes
    assert "39 published values are left out: this study does not test on celebahq/pluralistic." in curves.notes


def test_a_published_table_without_a_place_is_named_once_with_the_reason(paper_study):
    tables = published.choose(
        published.load(unpublished=True),
        ("s000.exposure.ldm", "s000.two_step.domain_only", "s004.figure6", "nb.single.vit_conv20", "declip.matrix"),
    )
    found = place.pairs(paper_study, tables)
    assert {pair.table.id for pair in place.matched(found)} == {"s000.exposure.ldm"}
    assert place.unmatched(paper_study, tables, found) == [
        "Published tables without a number of this study, which are not shown: s000.two_step.domain_only (no table "
        "here has iou by pipeline and test_domain); s004.figure6 (protocol dolos-2024, ours declip-2025); "
        "nb.single.vit_conv20 (not planned: no model here is what the table requires); declip.matrix (the source does "
        "not record its model)."
    ]
    assert [table.id for table in comparison.tables(paper_study, found)] == ["published-exposure"]


def test_published_tables_have_the_baselines_in_per_cent(found, paper_study):
    for table in comparison.tables(paper_study, found):
        assert "all fake 17.0 (celebahq/ldm 17.0, " in table.notes[-1]
        assert "mean training mask 21.0" in table.notes[-1]


def test_our_collapsed_number_is_marked(study_of):
    maker = Maker(DOLOS, FUSED, "ab" * 32, 3000, 30, 300, 36, None, 12)
    base = maker.plan("base", dict.fromkeys(DOLOS[1:], 3000), held_out=DOLOS[0])
    maker.plan("finetune", {DOLOS[0]: 250}, parent=base, epochs=10, held_out=DOLOS[0], n=250)
    record = record_of(maker, "paper", tables=("s000.exposure.ldm",))
    study = study_of(record, lambda trial, domain: 0.0 if domain == DOLOS[1] else 0.5)
    (table,) = comparison.tables(study, place.pairs(study, published.choose(published.load(), record.tables)))
    row = next(row for row in table.rows if row.cells[1].text == "250")
    assert [cell.small for cell in row.cells[3::3]] == ["", "empty predictions; not above all fake", "", ""]


def test_each_setting_of_a_curve_is_compared_on_its_own(study_of):
    maker = Maker(DOLOS, FUSED, "ab" * 32, 3000, 30, 300, 6, None, 12)
    base = maker.plan("base", dict.fromkeys(DOLOS[1:], 3000), held_out=DOLOS[0])
    for mode, epochs in (("restart", 10), ("cumulative", 11)):
        maker.plan("finetune", {DOLOS[0]: 250}, parent=base, epochs=epochs, held_out=DOLOS[0], n=250, mode=mode)
    study = study_of(record_of(maker, "paper", tables=("s000.exposure.ldm",)))
    pairs = place.pairs(study, published.choose(published.load(), study.record.tables))
    assert of(pairs, f"{DOLOS[0]}, restart", 250, DOLOS[0]).gaps == ()
    assert of(pairs, f"{DOLOS[0]}, cumulative", 250, DOLOS[0]).gaps == ("epochs 10, ours 11",)
