from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from dfloc import storage, summary
from dfloc.config import Checkpoint, DecoderSpec, EvaluationSpec, MapRecipe, SampleList, TrialSpec
from dfloc.errors import DataError
from dfloc.ledger import Ledger
from dfloc.planned import PlannedTrial
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.sweep.scores import line
from tests.ended import DOMAINS, finish, planned_of, record_of, rows_of, spec_of, train
from tests.engine.fakes import make_spec

LDM, LAMA, P2, P2_9K = DOMAINS


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(Workspace(tmp_path))


def test_means_go_by_family_and_by_the_root(ledger: Ledger) -> None:
    base = planned_of(spec_of(LDM, P2), "base")
    tuned = planned_of(spec_of(LAMA, parent=base), "finetune")
    record = record_of(base, tuned)
    finish(ledger, base, {LDM: 0.8, LAMA: 0.2, P2: 0.6, P2_9K: 0.4})
    finish(ledger, tuned, {LDM: 0.5, LAMA: 0.9, P2: 0.7, P2_9K: 0.3}, ap=0.25)

    alone = summary.summary(record, ledger, base)
    assert alone["test/celebahq/lama/iou"] == pytest.approx(0.2)
    assert alone["test_last/celebahq/ldm/iou"] == pytest.approx(0.4)
    assert alone["test/mean/iou"] == pytest.approx(0.5)
    assert alone["test/id/iou"] == pytest.approx(0.6), "p2-9k is of the family of p2, which it trained on"
    assert alone["test/ood/iou"] == pytest.approx(0.2)
    assert alone["test/base/iou"] == pytest.approx(0.7)
    assert alone["test/held_out/iou"] == pytest.approx(0.3)
    assert alone["cost/seconds"] == 6.0
    assert (alone["best/epoch"], alone["best/valid_iou"]) == (2.0, pytest.approx(0.2))
    assert not [key for key in alone if key.startswith("forgetting")]

    child = summary.summary(record, ledger, tuned)
    assert child["test/id/iou"] == pytest.approx(0.6), "all families were seen by it or its ancestor"
    assert not [key for key in child if key.startswith("test/ood")]
    assert child["test/base/iou"] == pytest.approx(0.6)
    assert child["test/held_out/iou"] == pytest.approx(0.6)
    assert child["forgetting/celebahq/ldm"] == pytest.approx(0.3)
    assert [key for key in child if key.startswith("forgetting")] == [f"forgetting/{LDM}", f"forgetting/{P2}"]
    assert child["test/mean/ap"] == pytest.approx(0.25)


def test_the_axis_says_which_domain_is_held_out(ledger: Ledger) -> None:
    """From scratch it is what the trial is trained on, and no domain outside of that; it is one domain."""
    scores = {LDM: 0.5, LAMA: 0.9, P2: 0.7, P2_9K: 0.3}
    held_out = {"held_out": LAMA}
    scratch, other = (planned_of(spec_of(LAMA), "scratch", **axes) for axes in (held_out, {}))
    base = planned_of(spec_of(LDM, LAMA), "base", held_out=P2)
    tuned = planned_of(spec_of(LAMA, P2_9K, parent=planned_of(spec_of(LDM), "base")), "finetune", **held_out)
    for trial in (scratch, base, tuned):
        finish(ledger, trial, scores)
    told = {
        trial.stage + str(len(trial.axes)): summary.summary(record_of(trial), ledger, trial)
        for trial in (scratch, other, base, tuned)
    }
    found = {name: numbers["test/held_out/iou"] for name, numbers in told.items()}
    assert found == pytest.approx({"scratch1": 0.9, "scratch0": 0.5, "base1": 0.7, "finetune1": 0.9})
    assert told["scratch1"]["test/base/iou"] == pytest.approx(0.9), "it is the root of itself"
    untested = planned_of(scratch.spec, "scratch", tested=(LDM,), **held_out)
    assert "test/held_out/iou" not in summary.summary(record_of(untested), ledger, untested)


def test_a_trial_of_two_stages_has_the_axes_of_both(ledger: Ledger) -> None:
    """The budgets' model of one domain is the one from scratch at the largest n."""
    scratch = planned_of(spec_of(LAMA), "scratch", held_out=LAMA, n=6, seed=0)
    budgets = planned_of(scratch.spec, "budgets", domain=LAMA, seed=0)
    finish(ledger, scratch, {LDM: 0.5, LAMA: 0.9, P2: 0.7, P2_9K: 0.3})
    record = record_of(budgets, scratch)
    for trial in record.trials:
        assert summary.summary(record, ledger, trial)["test/held_out/iou"] == pytest.approx(0.9)
        axes = {"domain": LAMA, "held_out": LAMA, "n": "6", "seed": "0"}
        told = summary.tags(record, ledger, trial)
        assert {name: told[f"dfloc.axis.{name}"] for name in axes} == axes


def test_only_what_the_root_was_trained_on_is_forgotten(ledger: Ledger) -> None:
    """Also the domain that is held out, where the root was trained on it nevertheless."""
    root = planned_of(spec_of(LDM, LAMA), "base")
    tuned = planned_of(spec_of(LAMA, P2, parent=root), "finetune", held_out=LAMA)
    finish(ledger, root, {LDM: 0.8, LAMA: 0.6, P2: 0.1, P2_9K: 0.1})
    finish(ledger, tuned, {LDM: 0.5, LAMA: 0.9, P2: 0.7, P2_9K: 0.3})
    scores = summary.summary(record_of(root, tuned), ledger, tuned)
    lost = {key: value for key, value in scores.items() if key.startswith("forgetting")}
    assert lost == pytest.approx({f"forgetting/{LDM}": 0.3, f"forgetting/{LAMA}": -0.3})


def test_where_nobody_knows_what_the_root_saw_no_domain_is_new(ledger: Ledger) -> None:
    spec = spec_of(LAMA, parent=planned_of(spec_of(LDM), "base"))
    unknown = spec.model_copy(update={"lineage": spec.lineage.model_copy(update={"seen": (), "base": ()})})
    child = planned_of(unknown, "finetune")
    finish(ledger, child, {LDM: 0.5, LAMA: 0.9, P2: 0.7, P2_9K: 0.3})
    scores = summary.summary(record_of(child), ledger, child)
    groups = {key.split("/")[1] for key in scores if key.endswith("/iou") and key.count("/") == 2}
    assert groups == {"mean", "id"}
    assert scores["test/id/iou"] == pytest.approx(0.9)
    assert summary.params(unknown, {})["base.domains"] == "none"


def test_no_mean_of_a_part_and_none_of_what_is_nan(ledger: Ledger) -> None:
    trial = planned_of(spec_of(LDM), "base", tested=(LDM, LAMA))
    record = record_of(trial)
    train(ledger, trial)
    best = {each.domain: each for each in trial.evaluations if each.checkpoint == "best"}
    ledger.put_rows(trial.fingerprint, best[LDM].key, rows_of(best[LDM], 0.6, 0.9))
    part = summary.summary(record, ledger, trial)
    assert part["test/celebahq/ldm/iou"] == pytest.approx(0.6)
    assert "test/mean/iou" not in part

    ledger.put_rows(trial.fingerprint, best[LAMA].key, rows_of(best[LAMA], float("nan"), 0.5))
    whole = summary.summary(record, ledger, trial)
    assert "test/celebahq/lama/iou" not in whole
    assert whole["test/mean/iou"] == pytest.approx(0.6)
    assert whole["test/mean/ap"] == pytest.approx(0.7)


def test_rows_of_another_protocol_are_refused(ledger: Ledger) -> None:
    trial = planned_of(spec_of(LDM), "base", tested=(LDM,))
    train(ledger, trial)
    table = rows_of(trial.evaluations[0], 0.6, 0.9).drop_columns(["protocol"])
    ledger.put_rows(trial.fingerprint, trial.evaluations[0].key, table.append_column("protocol", pa.array(["x", "x"])))
    with pytest.raises(DataError, match="declip-2025"):
        summary.summary(record_of(trial), ledger, trial)


def test_params_tell_trials_apart_and_can_be_plotted() -> None:
    base = planned_of(spec_of(LDM, P2), "base")
    few, many = (spec_of(LAMA, count=n, parent=base) for n in (2, 9))
    told = [
        summary.params(spec, {}) for spec in (base.spec, few, many, spec_of(LAMA, count=2), spec_of(LDM, P2, seed=1))
    ]
    assert len({tuple(sorted(params)) for params in told}) == 1
    assert len({tuple(params.items()) for params in told}) == len(told)
    assert [float(params["exposure"]) for params in told] == [0, 2, 9, 0, 0]
    assert [int(params["steps"]) for params in told] == [9, 3, 9, 3, 9]
    assert told[1]["exposure.domains"] == LAMA
    assert told[1]["train.domains"] == LAMA
    assert told[1]["base.domains"] == f"{LDM}, {P2}"
    assert told[0]["train.counts"] == "6, 6"
    assert told[0]["optimizer.lr"] == "0.0003"
    assert told[1]["init"] == f"best of {base.fingerprint[:12]}"


def test_exposure_is_of_the_held_out_domain_whatever_stands_before() -> None:
    base = planned_of(spec_of(LDM, P2), "base")
    both = spec_of(LAMA, P2_9K, count=5, parent=base)
    next_point = spec_of(LAMA, count=4, parent=base)
    asked = {"mode": "incremental", "skip": 12}
    next_point = next_point.model_copy(update={"train": next_point.train.model_copy(update={"asked": asked})})
    specs = {"base": base.spec, "scratch": spec_of(LAMA, count=7), "all": spec_of(LDM, LAMA), "replay": both}
    told = {name: summary.params(spec, {}, LAMA) for name, spec in (specs | {"next": next_point}).items()}
    assert {name: params["exposure"] for name, params in told.items()} == {
        "base": "0",
        "scratch": "7",
        "all": "6",
        "replay": "5",
        "next": "16",
    }
    assert {params["exposure.domains"] for name, params in told.items() if name != "base"} == {LAMA}
    assert told["base"]["exposure.domains"] == "none"
    assert summary.params(spec_of(LAMA, count=7), {})["exposure"] == "0", "no axis: no domain is outside of its base"


def test_a_curve_that_is_continued_keeps_its_domain() -> None:
    base = planned_of(spec_of(LDM, P2), "base")
    four = planned_of(spec_of(LAMA, count=4, parent=base), "finetune")
    lineage = {"seen": (LDM, P2, LAMA), "base": (LDM, P2), "root": base.fingerprint, "exposure": 16}
    spec = spec_of(LAMA, count=16, parent=four)
    cumulative = spec.model_copy(update={"lineage": spec.lineage.model_copy(update=lineage)})
    told = summary.params(cumulative, {})
    assert (told["exposure"], told["exposure.domains"]) == ("16", LAMA)
    again = summary.params(spec_of(P2_9K, parent=base), {})
    assert again["exposure.domains"] == "none", "p2-9k is of the family of p2, which the base trained on"


def test_tags_name_weights_failures_and_random_backbones(ledger: Ledger) -> None:
    done, lost, failed = (planned_of(spec_of(LDM, seed=seed), "base", held_out=LAMA) for seed in range(3))
    for trial in (done, lost):
        train(ledger, trial)
    ledger.weights(lost.fingerprint, "last").unlink()
    ledger.begin(failed.spec).fail("nan", "loss is no number at step 7")
    record = record_of(done, lost, failed)
    assert summary.tags(record, ledger, done) == {
        "dfloc.axis.held_out": LAMA,
        "dfloc.environment.torch": "2.14.1",
        "dfloc.weights": str(ledger.weights(done.fingerprint, "best")),
    }
    assert "dfloc.weights" not in summary.tags(record, ledger, lost)
    assert summary.tags(record, ledger, failed)["dfloc.failure"] == "loss is no number at step 7"
    recipe = MapRecipe(map="clip/x", weights="random:0", input_size=224, resize="pil-bilinear", semantics={})
    drawn = done.model_copy(update={"spec": done.spec.model_copy(update={"maps": (recipe,)})})
    assert summary.tags(record, ledger, drawn)["dfloc.random_weights"] == "true"


def test_a_tag_says_how_the_maps_of_a_trial_collapsed(ledger: Ledger) -> None:
    """Of the best weights alone; the baseline that is all fake by its name has none."""
    sound, full, named = (planned_of(spec_of(LDM, seed=seed), "base", (LDM, LAMA)) for seed in range(3))
    named = named.model_copy(update={"spec": named.spec.model_copy(update={"decoder": DecoderSpec(name="all-fake")})})
    for trial in (sound, full, named):
        finish(ledger, trial, {LDM: 0.5, LAMA: 0.4})
    for trial in (full, named):
        for each in trial.evaluations:
            rows = ledger.rows(each.trial, each.key).to_pandas().assign(tp=2, fp=2, fn=0, tn=0)
            ledger.put_rows(each.trial, each.key, pa.Table.from_pandas(rows, preserve_index=False))
    record = record_of(sound, full, named)
    found = [summary.tags(record, ledger, trial).get("dfloc.collapsed") for trial in record.trials]
    assert found == [None, "all fake", None]


def scored(
    evaluation: EvaluationSpec, tp: list[int], fp: list[int], fn: list[int], more: int = 0, first: int = 0
) -> pa.Table:
    """Rows of dfloc-1, of images of 100 pixels, that count alike at thresholds from 0.5 on; below, all is found.

    There `more` pixels more are wrong; images are numbered from `first`.
    """
    names = {name: getattr(evaluation, name) for name in ("protocol", "domain", "split", "condition", "checkpoint")}
    return pa.Table.from_pylist(
        [
            {
                **names,
                "id": f"{evaluation.domain}/{evaluation.split}/{k}",
                "stem": str(k),
                **dict.fromkeys(("iou", "f1", "ap", "auc", "mcc", "pbca"), 0.5),
                **{"tp": t, "fp": p, "fn": n, "tn": 100 - t - p - n, "mask_area": (t + n) / 100},
                "grid_tp": [t + n] * 9 + [t] * 10,
                "grid_fp": [p + more] * 9 + [p] * 10,
            }
            for k, (t, p, n) in enumerate(zip(tp, fp, fn, strict=True), first)
        ]
    )


def validating(ledger: Ledger) -> tuple[PlannedTrial, EvaluationSpec]:
    """Return a trained trial whose validation list has the first two images, and its evaluation on them."""
    own = SampleList(digest="v" * 64, counts={LDM: 2})
    trial = planned_of(spec_of(LDM).model_copy(update={"valid": own}), "base", tested=(LDM,), protocol="dfloc-1")
    valid = trial.evaluations[0].model_copy(update={"split": "valid", "test": own})
    storage.put_json(ledger.workspace.lists / f"{own.digest}.json", [f"{LDM}/valid/{k}" for k in range(2)])
    train(ledger, trial)
    return trial.model_copy(update={"evaluations": (*trial.evaluations, valid)}), valid


def test_f1_at_the_validation_threshold_needs_all_validation_rows(ledger: Ledger) -> None:
    trial, valid = validating(ledger)
    best, last = trial.evaluations[:2]
    for each in (best, last):
        ledger.put_rows(trial.fingerprint, each.key, scored(each, [10], [0], [10]))
    record = record_of(trial, protocol="dfloc-1")
    before = summary.summary(record, ledger, trial)
    assert "test/celebahq/ldm/f1_valid" not in before
    assert before["test/celebahq/ldm/pooled_iou"] == 0.5

    ledger.put_rows(trial.fingerprint, valid.key, scored(valid, [10, 5], [0, 5], [10, 0]))
    after = summary.summary(record, ledger, trial)
    assert after["test/celebahq/ldm/f1_valid"] == after["test/mean/f1_valid"] == 1, "0.45 finds all; 0.5 the half"
    assert "test_last/celebahq/ldm/f1_valid" not in after, "the other checkpoint has no validation rows"
    assert after.keys() - before.keys() == {f"test/{name}/f1_valid" for name in (LDM, "mean", "id", "base")}


@pytest.mark.parametrize("swept", [True, False])
def test_a_threshold_is_chosen_on_the_trials_own_list_by_whomever_it_is_asked(ledger: Ledger, swept: bool) -> None:
    """The two images of the list are best at 0.45, as above; with two more that were scored it would be 0.5."""
    trial, valid = validating(ledger)
    best, record, workspace = trial.evaluations[0], record_of(trial, protocol="dfloc-1"), ledger.workspace
    ledger.put_rows(trial.fingerprint, best.key, scored(best, [10, 10], [0, 0], [10, 10]))
    if swept:
        ledger.put_rows(trial.fingerprint, valid.key, scored(valid, [10, 5], [0, 5], [10, 0]))
    own, others = scored(valid, [10, 5], [0, 5], [10, 0]), scored(valid, [10, 10], [0, 0], [0, 0], 40, first=2)
    wide = valid.model_copy(update={"test": SampleList(digest="wide", counts={LDM: 4})})
    ledger.put_rows(trial.fingerprint, wide.key, pa.concat_tables([others, own]))
    assert summary.summary(record, ledger, trial)["test/celebahq/ldm/f1_valid"] == 1
    assert Results(workspace, record).all[0].scores["best", LDM].of_set["threshold"] == 0.45
    said = line(workspace, trial.spec, best, [])
    assert (said.of_set["threshold"], said.of_set["f1_valid"], said.num_valid) == (0.45, 1, 2)


def test_rows_that_a_threshold_is_chosen_on(ledger: Ledger) -> None:
    """Of the checkpoint and protocol, each image once; all of the list, or of any where nobody knows the list."""
    trial, valid = validating(ledger)
    unknown = trial.spec.model_copy(update={"valid": SampleList(digest="unknown", counts={})})
    other = valid.model_copy(update={"domain": LAMA})
    for spec in (trial.spec, unknown):
        put = partial(ledger.put_rows, spec.fingerprint)
        put("a", scored(valid, [1, 2], [0, 0], [0, 0], first=1))
        put("b", scored(other, [4, 5], [0, 0], [0, 0]))
        put("c", scored(valid.model_copy(update={"split": "test"}), [6], [0], [0]))
        put("d", scored(valid.model_copy(update={"protocol": "dolos-2024"}), [7], [0], [0]))

    def found(spec: TrialSpec, checkpoint: Checkpoint = "best", protocol: str = "dfloc-1") -> pa.Table | None:
        return summary.validated(ledger, spec.fingerprint, spec.valid, checkpoint, protocol)

    assert found(trial.spec) is None, "the first image of its list lacks"
    for spec in (trial.spec, unknown):
        ledger.put_rows(spec.fingerprint, "e", scored(valid, [8, 9], [0, 0], [0, 0]))
    assert found(trial.spec)["tp"].to_pylist() == [1, 8]
    assert sorted(found(unknown)["tp"].to_pylist()) == [1, 2, 4, 5, 8]
    assert found(unknown, checkpoint="last") is None
    assert found(unknown, protocol="dolos-2024") is None, "it chooses no threshold"
    (ledger.workspace.lists / f"{trial.spec.valid.digest}.json").unlink()
    assert found(trial.spec) is None


def test_dolos_measures(ledger: Ledger) -> None:
    trial = planned_of(spec_of(LDM), "base", tested=(LDM,), protocol="dolos-2024")
    finish(ledger, trial, {LDM: 0.8})
    scores = summary.summary(record_of(trial, protocol="dolos-2024"), ledger, trial)
    assert (scores["test/celebahq/ldm/iou"], scores["test/mean/pbca"]) == (pytest.approx(0.8), 0.5)
    assert not [key for key in scores if key.endswith("/ap")]


def test_params_tell_the_task_and_its_classes() -> None:
    told = [summary.params(make_spec(**given), {}) for given in (
        {}, {"task": "detect"}, {"task": "attribute", "classes": ("real", "lama", "ldm")}
    )]  # fmt: skip
    assert [(one["task"], one["classes"]) for one in told] == [
        ("localize", "none"),
        ("detect", "none"),
        ("attribute", "real, lama, ldm"),
    ]
