"""Trials that are scored by a protocol of images, from rows to the numbers of MLflow and of pages."""

from pathlib import Path

import numpy as np
import pytest

from dfloc import summary
from dfloc.errors import DataError
from dfloc.ledger import Ledger
from dfloc.metrics import image
from dfloc.metrics.metric import IMAGE_AP
from dfloc.record import SweepRecord
from dfloc.report.estimate import Run, pooled
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.metrics.image_rows import called_as, detected
from tests.report.studies import VERSIONS, Maker, record
from tests.report.studies import _epoch as epoch

LAMA, LDM, REAL = "celebahq/lama", "celebahq/ldm", "celebahq/real"
NUM = 30
CLASSES = ("real", "lama", "ldm")


def scores_of(domain: str, checkpoint: str) -> np.ndarray:
    place = (REAL, LDM, LAMA).index(domain.replace("ffhq", "celebahq"))
    return np.random.default_rng([place, checkpoint == "best"]).beta(2 + place, 3, NUM)


def planned(tests: tuple[str, ...], domains: tuple[str, ...] = (LAMA, LDM)) -> SweepRecord:
    maker = Maker(domains, protocol="image-1", num_test=NUM, tests=tests)
    maker.plan("single", {LAMA: 60})
    return record(maker, "paper")


def filled(
    folder: Path, rows_of, tests: tuple[str, ...] = (LAMA, LDM, REAL), domains: tuple[str, ...] = (LAMA, LDM)
) -> tuple[Workspace, SweepRecord]:
    workspace, made = Workspace(folder), planned(tests, domains)
    ledger, (trial,) = Ledger(workspace), made.trials
    attempt = ledger.begin(trial.spec)
    attempt.save_epoch(b"state", [epoch(1, 0.5)])
    attempt.finish(b"best", b"last", 1, VERSIONS)
    for each in trial.evaluations:
        rows = rows_of(each)
        for name, value in (("checkpoint", each.checkpoint), ("trial", each.trial)):
            rows = rows.set_column(rows.schema.get_field_index(name), name, [[value] * len(rows)])
        ledger.put_rows(each.trial, each.key, rows)
    return workspace, made


def of_detector(each):
    return detected("image-1", each.domain, scores_of(each.domain, each.checkpoint).tolist())


@pytest.fixture
def detector(tmp_path: Path) -> tuple[Workspace, SweepRecord]:
    return filled(tmp_path, of_detector)


def test_mlflow_has_each_domain_beside_the_reals(detector) -> None:
    workspace, made = detector
    found = summary.summary(made, Ledger(workspace), made.trials[0])
    for head, checkpoint in (("test", "best"), ("test_last", "last")):
        real = scores_of(REAL, checkpoint)
        for domain in (LAMA, LDM):
            fake = scores_of(domain, checkpoint)
            assert found[f"{head}/{domain}/image_accuracy"] == pytest.approx(image.image_accuracy(fake, real))
            assert found[f"{head}/{domain}/image_ap"] == pytest.approx(image.image_ap(fake, real))
            assert found[f"{head}/{domain}/image_tpr"] == pytest.approx(image.image_tpr(fake))
            assert found[f"{head}/{domain}/image_tnr"] == pytest.approx(image.image_tnr(real))
        assert found[f"{head}/{REAL}/image_tnr"] == pytest.approx(image.image_tnr(real))
        assert f"{head}/{REAL}/image_accuracy" not in found
        both = np.concatenate([scores_of(domain, checkpoint) for domain in (LAMA, LDM)])
        assert found[f"{head}/all/image_ap"] == pytest.approx(image.image_ap(both, real))
    pair = [found[f"test/{domain}/image_ap"] for domain in (LAMA, LDM)]
    assert found["test/mean/image_ap"] == pytest.approx(np.mean(pair)), "reals are no domain of a mean"
    assert (found["test/id/image_ap"], found["test/ood/image_ap"]) == tuple(pair)
    assert summary.is_mean("test/all/image_ap")
    assert not summary.is_mean(f"test/{LAMA}/image_ap")


def test_without_reals_only_what_fakes_alone_have(tmp_path: Path) -> None:
    workspace, made = filled(tmp_path, of_detector, tests=(LAMA, LDM))
    found = summary.summary(made, Ledger(workspace), made.trials[0])
    assert {key.rpartition("/")[2] for key in found if key.startswith("test/")} == {"image_tpr"}
    (result,) = Results(workspace, made).all
    score = result.scores["best", LAMA]
    assert (score.mean(), score.number(IMAGE_AP)) == (None, None)
    assert pooled([Run(0, 0, [score])]) is None
    assert score.mean("image_tpr") == pytest.approx(image.image_tpr(scores_of(LAMA, "best")))


def test_a_score_that_is_no_number_is_told_with_its_file(tmp_path: Path) -> None:
    def of(each):
        scores = scores_of(each.domain, each.checkpoint)
        scores[2] = np.nan if each.domain == LDM else scores[2]
        return detected("image-1", each.domain, scores.tolist())

    workspace, made = filled(tmp_path, of)
    words = rf'trial {made.trials[0].fingerprint[:12]} on {LDM}: row 2 has a "score" of nan, .*delete rows/\w+.parquet'
    with pytest.raises(DataError, match=words):
        Results(workspace, made).scores()


def test_a_mean_of_pairs_waits_for_the_reals_of_every_source(tmp_path: Path) -> None:
    other = "ffhq/ldm"
    workspace, made = filled(tmp_path, of_detector, tests=(LAMA, other, REAL), domains=(LAMA, other))
    found = summary.summary(made, Ledger(workspace), made.trials[0])
    assert {f"test/{LAMA}/image_ap", f"test/{other}/image_tpr"} <= found.keys()
    assert f"test/{other}/image_ap" not in found, "no real image of its source is scored"
    assert not {"test/mean/image_ap", "test/mean/image_accuracy"} & found.keys()
    assert found["test/mean/image_tpr"] == pytest.approx(
        np.mean([found[f"test/{domain}/image_tpr"] for domain in (LAMA, other)])
    )
    assert found["test/id/image_ap"] == found[f"test/{LAMA}/image_ap"]


def test_a_page_reads_the_same_numbers_with_intervals(detector) -> None:
    workspace, made = detector
    results = Results(workspace, made)
    (result,) = results.all
    real = scores_of(REAL, "best")
    lama, ldm = (result.scores["best", domain] for domain in (LAMA, LDM))
    expected = [image.image_accuracy(scores_of(domain, "best"), real) for domain in (LAMA, LDM)]
    assert [lama.mean(), ldm.mean()] == pytest.approx(expected)
    assert lama.number(IMAGE_AP) == pytest.approx(image.image_ap(scores_of(LAMA, "best"), real))
    assert lama.num_nan("image_tnr") == 0
    both = pooled([Run(0, 0, [lama, ldm])])
    assert both.value == pytest.approx(np.mean(expected))
    assert both.low < both.value < both.high
    alone = pooled([Run(0, 0, [lama])], "image_tpr")
    assert alone.value == pytest.approx(lama.mean("image_tpr"))
    assert results.all_fake == {}
    assert (result.collapsed, result.empty) == ("", None)
    assert lama.called.counts.sum() == NUM


@pytest.mark.parametrize(("right", "word"), [(0, "all ldm"), (4, "")])
def test_a_classifier_that_calls_one_class_is_marked(tmp_path: Path, right: int, word: str) -> None:
    def rows(each):
        kind = each.domain.partition("/")[2]
        mine = NUM if kind == "ldm" else right
        return called_as("image-1", each.domain, kind, CLASSES, {"ldm": NUM - mine} | {kind: mine})

    workspace, made = filled(tmp_path, rows)
    (result,) = Results(workspace, made).all
    assert result.collapsed == word
    assert summary.tags(made, Ledger(workspace), made.trials[0]).get(summary.COLLAPSED, "") == word
    found = summary.summary(made, Ledger(workspace), made.trials[0])
    recalls = [right / NUM, right / NUM, 1.0]
    assert found["test/all/image_balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert found[f"test/{LAMA}/image_recall"] == pytest.approx(right / NUM)
    assert f"test/{LAMA}/image_balanced_accuracy" not in found
