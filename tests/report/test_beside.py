import pytest

from dfloc.report import beside, published
from dfloc.report.groups import Study
from dfloc.report.results import Results
from tests.report.conftest import small_paper, texts
from tests.report.studies import DOLOS, Maker, truth
from tests.report.studies import record as record_of

FUSED = ("clip-vit-l14/layer20", "clip-rn50/layer3")


@pytest.fixture(scope="module")
def found(paper_study):
    return beside.pairs(paper_study, published.choose(published.load(), paper_study.record.tables))


def of(found, where, n, domain):
    (pair,) = [pair for pair in found if (pair.where, pair.n, pair.domain) == (where, n, domain)]
    return pair


def test_values_are_matched_by_domain_and_n(found, paper_study):
    pair = of(found, "celebahq/lama", 1000, "celebahq/pluralistic")
    assert pair.published.value == pytest.approx(0.6472)
    group = paper_study.curve("finetune", "celebahq/lama")[1000]
    assert pair.ours.value == pytest.approx(truth(group.first.trial, "celebahq/pluralistic"))
    assert pair.gaps == ()


def test_the_order_of_our_domains_moves_nothing(found, paper_workspace):
    record = small_paper()
    turned = record.model_copy(update={"domains": tuple(reversed(record.domains))})
    study = Study(turned, Results(paper_workspace, turned))
    again = beside.pairs(study, published.choose(published.load(), turned.tables))
    key = [(pair.where, pair.n, pair.domain, pair.published.value, pair.ours and pair.ours.value) for pair in found]
    assert key == [(p.where, p.n, p.domain, p.published.value, p.ours and p.ours.value) for p in again]


def test_every_published_value_is_there_and_only_planned_n_have_ours(found):
    assert len(found) == 4 * 4 * 13 + 5 * 4
    assert of(found, "celebahq/ldm", 500, "celebahq/ldm").gaps == ("not planned",)


def test_suspect_and_mixed_values_have_no_difference(found, paper_study):
    pair = of(found, "celebahq/lama", 250, "celebahq/lama")
    assert pair.gaps[0].startswith("published value suspect")
    curves, budgets = beside.tables(paper_study, found)
    row = texts(curves, "celebahq/lama", "250")
    assert row[8] == "79.1"
    assert row[10] in "abcdefgh"
    assert any(note.startswith(f"{row[10]}: published value suspect") for note in curves.notes)
    sound = texts(curves, "celebahq/lama", "1,000")
    assert float(sound[10]) == pytest.approx(float(sound[9]) - 70.1, abs=0.11)
    mixed = texts(budgets, "3000-each-per-model")
    assert mixed[1] == "40.8"
    assert not mixed[3].startswith(("+", "-"))


def test_synthetic_numbers_stand_alone(paper_study):
    record = paper_study.record.model_copy(update={"synthetic": True})
    study = Study(record, paper_study.results)
    assert beside.pairs(study, published.choose(published.load(), record.tables)) == []


def test_a_limited_study_is_never_compared(paper_workspace):
    record = small_paper().model_copy(update={"limit": 8})
    study = Study(record, Results(paper_workspace, record))
    pairs = beside.pairs(study, published.choose(published.load(), record.tables))
    assert all(pair.gaps for pair in pairs)
    assert "the full test sets, ours are limited" in of(pairs, DOLOS[0], 1000, DOLOS[0]).gaps


def test_each_setting_of_a_curve_is_compared_on_its_own(study_of):
    maker = Maker(DOLOS, FUSED, "ab" * 32, 3000, 30, 300, 6, None, 12)
    base = maker.plan("base", dict.fromkeys(DOLOS[1:], 3000), held_out=DOLOS[0])
    for mode, epochs in (("restart", 10), ("cumulative", 11)):
        maker.plan("finetune", {DOLOS[0]: 250}, parent=base, epochs=epochs, held_out=DOLOS[0], n=250, mode=mode)
    study = study_of(record_of(maker, "paper", tables=("s000.exposure.ldm",)))
    pairs = beside.pairs(study, published.choose(published.load(), study.record.tables))
    assert of(pairs, f"{DOLOS[0]}, mode = restart", 250, DOLOS[0]).gaps == ()
    assert of(pairs, f"{DOLOS[0]}, mode = cumulative", 250, DOLOS[0]).gaps == ("epochs 10, ours 11",)
