import numpy as np
import pyarrow as pa
import pytest

from dfloc.config import DecoderSpec
from dfloc.errors import WorkspaceError
from dfloc.ledger import Ledger
from dfloc.report import index, overview
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.studies import DOLOS, MINI


def test_scores_are_those_of_the_rows(mini_workspace, mini_study):
    result = next(r for r in mini_study.results.all if r.trial.stage == "finetune")
    spec = next(e for e in result.trial.evaluations if e.checkpoint == "last")
    rows = Ledger(mini_workspace).rows(spec.trial, spec.key).to_pandas()
    score = result.scores["last", spec.domain]
    assert score.mean("iou") == pytest.approx(rows.iou.mean())
    assert score.mean("f1_best") == pytest.approx(rows.f1_best.dropna().mean())
    assert score.num_nan("f1_best") == 1
    assert (score.num_images, score.num_photographs) == (40, rows.stem.nunique())


def test_photographs_have_one_number_in_all_scores(mini_study):
    scores = mini_study.results.scores()
    assert all((score.photographs == scores[0].photographs).all() for score in scores)


def test_validation_is_that_of_the_best_epoch(mini_workspace, mini_study):
    result = mini_study.results.all[0]
    epochs = Ledger(mini_workspace).epochs(result.trial.fingerprint)
    assert result.done is not None
    assert result.valid == epochs[result.done.best_epoch - 1].valid["iou"]


def test_states_and_failures(study_of):
    record = studies.mini()
    fates = {record.trials[0].fingerprint: "failed", record.trials[1].fingerprint: "new"}
    study = study_of(record, skip=lambda trial: fates.get(trial.fingerprint, ""))
    first, second, third = study.results.all[:3]
    assert (first.state, first.failure) == ("failed", "the loss is NaN at step 17")
    assert (second.state, second.scores, second.valid) == ("new", {}, None)
    assert third.state == "done"
    assert study.results.counts() == {"failed": 1, "new": 1, "done": 45}


def test_over_ninety_per_cent_of_empty_maps_is_a_collapse(study_of):
    record = studies.mini()
    collapsed = record.trials[1].fingerprint
    half = record.trials[2].fingerprint

    def of(trial, domain):
        empty = trial.fingerprint == collapsed or (trial.fingerprint == half and domain < "mini/renoise")
        return 0.0 if empty else 0.5

    results = study_of(record, of=of).results.by_fingerprint
    assert (results[collapsed].empty, results[collapsed].collapsed) == (1.0, "empty")
    assert (results[half].empty, results[half].collapsed) == (0.5, "")


def test_rows_of_another_protocol_are_not_read(mini_workspace):
    record = studies.mini().model_copy(update={"protocol": "dfloc-1"})
    assert Results(mini_workspace, record).scores() == []


def test_damaged_rows_are_named(tmp_path):
    record = studies.mini()
    record = record.model_copy(update={"trials": record.trials[:1]})
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record)
    (path,) = list((tmp_path / "trials").glob(f"*/rows/{record.trials[0].evaluations[0].key}.parquet"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(WorkspaceError, match=r"damaged.*delete it"):
        Results(workspace, record)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: rows.slice(1), "39 rows of 39 images for mini/telea, expected one for each of 40 samples"),
        (lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]), "41 rows of 40 images"),
        (lambda rows: pa.concat_tables([rows.slice(1), rows.slice(1, 1)]), "40 rows of 39 images"),
        (lambda rows: rows.slice(0, 0), "0 rows of 0 images"),
    ],
)
def test_each_sample_has_exactly_one_row_or_the_rows_are_named(tmp_path, change, words):
    record = studies.mini()
    record = record.model_copy(update={"trials": record.trials[:1]})
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record)
    (spec,) = [each for each in record.trials[0].evaluations if (each.checkpoint, each.domain) == ("last", MINI[3])]
    ledger = Ledger(workspace)
    ledger.put_rows(spec.trial, spec.key, change(ledger.rows(spec.trial, spec.key)))
    with pytest.raises(WorkspaceError, match=rf"{words}.*delete rows/{spec.key}.parquet"):
        Results(workspace, record)


def test_a_metric_without_any_number_has_no_mean(mini_study):
    score = mini_study.results.scores()[0]
    empty = type(score)(score.spec, {"ap": np.full(40, np.nan)}, score.photographs, 0.0, score.areas, 0.0)
    assert empty.mean("iou") is None
    assert empty.mean("ap") is None


@pytest.mark.parametrize(
    ("decoder", "scratch"),
    [
        (DecoderSpec(name="smp", architecture="fpn", encoder="resnet18"), True),
        (DecoderSpec(name="smp", architecture="fpn", encoder="resnet18", weights="random:3"), True),
        (DecoderSpec(name="smp", architecture="fpn", encoder="resnet18", weights="ef" * 32), False),
        (DecoderSpec(name="xception", block=2), True),
    ],
)
def test_what_is_trained_from_random_weights_means_nothing_on_built_in_data_alone(study_of, decoder, scratch):
    for domain, built_in in ((MINI[0], True), (DOLOS[0], False)):
        maker = studies.Maker((domain,), ("pixels",))
        maker.plan("single", {domain: 9}, domain=domain, spec={"decoder": decoder})
        maker.plan("baselines", {domain: 9}, decoder="mean-mask", epochs=1)
        study = study_of(studies.record(maker, "mini", synthetic=built_in))
        own, baseline = study.results.all
        assert (own.from_scratch, own.path_only, study.path_only) == (
            scratch,
            scratch and built_in,
            scratch and built_in,
        )
        assert not baseline.path_only
        assert not study.random_weights, "published values stand beside it"
        said = "Encoders: random at the start, not pretrained." in overview.trials(study).whole("")
        assert said == (scratch and decoder.encoder is not None)
        assert ("path only" in index.entry(study).mark) == (scratch and built_in)
        assert (overview.PATH_ONLY in overview.warnings(study)) == (scratch and built_in)


def test_maps_out_of_range_are_counted_where_the_rows_say_it(tmp_path):
    record = studies.mini()
    record = record.model_copy(update={"trials": record.trials[:2]})
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record)
    assert told(workspace, record) == "not counted in 16 older evaluations."
    ledger = Ledger(workspace)
    for trial, outside in zip(record.trials, (3, 0), strict=True):
        for spec in trial.evaluations[: 1 + outside]:
            rows = ledger.rows(spec.trial, spec.key)
            ledger.put_rows(
                spec.trial,
                spec.key,
                rows.append_column("out_of_range", pa.array([True] * outside + [False] * (40 - outside))),
            )
    assert told(workspace, record) == "12 of 200 images here, not counted in 11 older evaluations."
    dolos = record.model_copy(update={"protocol": "dolos-2024"})
    assert not any("sigmoid" in line for line in overview.footer(Study(dolos, Results(workspace, dolos))))


def told(workspace, record) -> str:
    (line,) = [line for line in overview.footer(Study(record, Results(workspace, record))) if "sigmoid" in line]
    return line.rpartition("as it is: ")[2]
