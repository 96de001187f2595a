"""The sentences that a study begins with: what they say where it is so, where it is not, and where nobody can tell."""

import json
import re
from dataclasses import replace
from unittest import mock

import pytest

from dfloc.config import LossSpec
from dfloc.metrics.metric import IOU
from dfloc.report import answer as answers
from dfloc.report import findings_models, reading
from dfloc.report.answer import NOTHING, Answer, answer, told
from dfloc.report.build import build
from dfloc.report.estimate import Estimate
from dfloc.report.finding import Finding
from dfloc.report.groups import Study
from dfloc.report.models import ONE, known, models, parts
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import DOLOS, MINI

SETTLED = ("gain", "cost", "keep", "control", "best", "sure")


def said(study: Study) -> dict[str, str]:
    return dict(answer(study).sentences)


def truth(trial, domain):
    """Fine-tuning learns the new, forgets the old; replay keeps it, a mixture knows all."""
    counts, base = trial.spec.train.counts, trial.spec.lineage.base
    if trial.stage == "baselines":
        return 0.1
    if len(counts) == 4 and trial.spec.start is None:
        return 0.75
    if domain in counts:
        return 0.70 if counts[domain] < 48 else 0.71
    return 0.3 if domain in base else 0.2


def test_a_fine_tuning_study_says_what_it_takes_what_it_costs_and_what_the_controls_say(study_of):
    found = said(study_of(studies.mini(), truth))
    assert tuple(found) == SETTLED
    assert found["gain"] == (
        "4 images of a new generator suffice: IoU on that generator rises from 0.20 to 0.70; 48 bring 0.71."
    )
    assert found["cost"] == (
        "Fine-tuned on 4 of them, the model forgets: on the known generators IoU falls from 0.71 to 0.30."
    )
    assert found["keep"].startswith(
        "Replay, 3 known images among 4 new ones, keeps more: 0.70 instead of 0.30 on the known generators"
    )
    assert found["control"].startswith("Without the base, from scratch on the same 4 images")
    assert found["control"].endswith("whether the base helps there is not decided.")
    assert re.match(
        r"Best over all 4 domains together: one model from scratch on \d+ mixed images 0\.75; then replay 0\.\d\d, "
        r"base 0\.\d\d, fine-tuned 0\.\d\d; the first two also differ in .+\.$",
        found["best"],
    )
    assert found["sure"].startswith("1 training of each, 6 source images a domain: differences under 0.0")
    assert found["sure"].endswith("not decided; another training may tell otherwise (--seeds 3 adds two of each).")


def test_one_missing_score_takes_one_held_out_domain_away_and_says_so(study_of, tmp_path):
    record = studies.mini()
    whole = said(study_of(record, truth))
    trial = next(each for each in record.trials if each.stage == "finetune" and each.axes["n"] == 4)
    best = (each for each in trial.evaluations if each.checkpoint == "best")
    known = next(each for each in best if each.domain != trial.axes["held_out"])
    (rows,) = (path for path in (tmp_path / "workspace").rglob("*.parquet") if known.key in str(path))
    rows.unlink()
    found = said(Study(record, Results(Workspace(tmp_path / "workspace"), record)))
    part = "(on 3 of 4 held-out domains)"
    assert {key for key, text in found.items() if part in text and part not in whole[key]} == {"cost", "keep", "best"}
    assert "fine-tuned 0." in found["best"]


def test_what_is_not_above_all_fake_is_called_so(study_of):
    found = said(study_of(studies.mini(), lambda trial, domain: 0.01))
    assert "stays at 0.01 (not above all fake)" in found["gain"]
    assert found["best"].count("(not above all fake)") == 4


def test_one_image_is_one(study_of):
    maker = studies.Maker()
    maker.curves([1, 2], epochs=4)
    found = said(study_of(studies.record(maker, "mini"), truth))
    assert found["gain"].startswith("1 image of a new generator suffices: ")
    assert found["cost"].startswith("Fine-tuned on it, the model forgets")
    assert "from scratch on the same 1 image" in found["control"]


def test_what_is_compared_and_equal_is_not_called_too_few_images(study_of):
    equal = Estimate(0.0, 0.0, 0.0, runs=1, photographs=6, p=float("nan"), metric=IOU)
    found = told(study_of(studies.mini(), truth), [Finding("one", "A", {}, [(equal, "b")])]).sentences["sure"]
    assert found == "1 training of each, 6 source images a domain: what is compared is equal."


def test_one_known_domain_is_one(study_of):
    maker = studies.Maker(MINI[:2])
    maker.curves([4, 16], epochs=4)
    found = said(study_of(studies.record(maker, "mini"), truth))
    assert "on the known generator IoU falls" in found["cost"]
    assert "Replay, 4 known images among 4 new ones" in found["keep"]
    assert "instead of 0.30 on the known generator," in found["keep"]


def test_a_facet_that_is_half_finished_is_not_compared(study_of):
    """By what is finished dice has 0.55 and bce 0.45; whole, bce has 0.45 and dice 0.375."""
    maker = studies.Maker()
    for held_out in MINI:
        base = maker.plan("base", {name: 53 for name in MINI if name != held_out}, held_out=held_out)
        for loss in ("bce", "dice"):
            for n in (4, 16):
                cell = {"held_out": held_out, "n": n, "mode": loss}
                spec = {"loss": LossSpec(name=loss)}
                maker.plan("finetune", {held_out: n}, parent=base, epochs=4, spec=spec, **cell)
    record = studies.record(maker, "mini")

    def valid(trial, domain):
        best = {("bce", 4): 0.3, ("bce", 16): 0.6, ("dice", 4): 0.2, ("dice", 16): 0.55}
        return best[trial.axes["mode"], trial.axes["n"]] if "mode" in trial.axes else 0.5

    def skip(trial):
        return "new" if trial.axes.get("mode") == "dice" and trial.axes.get("n") == 4 else ""

    half = said(study_of(record, valid, skip))["gain"]
    assert half.startswith("With bce, of which most is finished: ")
    alone = said(study_of(record, valid, lambda trial: "new" if trial.axes.get("mode") == "dice" else ""))["gain"]
    assert alone.startswith("With bce, of which most is finished: ")
    assert said(study_of(record, valid))["gain"].startswith("With bce, which validation chooses: ")


def test_where_it_is_the_other_way_round_it_says_that(study_of):
    """New images lower what the base has, which forgets nothing and learns from them for the old ones."""

    def other(trial, domain):
        tuned = trial.spec.start is not None
        return (0.3 if domain in trial.spec.train.counts else 0.8) if tuned else 0.6

    found = said(study_of(studies.mini(), other))
    assert re.match(
        r"\d+ images of a new generator do not help: IoU on that generator falls from 0\.60 to 0\.30", found["gain"]
    )
    assert "the model forgets nothing: on the known generators IoU rises from 0.60 to 0.80." in found["cost"]


def test_what_luck_may_explain_is_not_decided(study_of):
    found = answer(study_of(studies.mini(), lambda trial, domain: 0.5))
    assert "stays at 0.50" in found.sentences["gain"]
    assert found.sentences["gain"].endswith("whether that is a change is not decided.")
    assert found.sentences["cost"].endswith("whether that is forgetting is not decided.")
    assert found.sentences["best"].endswith("its lead is not decided.")
    assert {value for name, value in found.numbers.items() if name.endswith("/decided")} == {0.0}


def test_three_seeds_need_no_word_of_one_training(study_of):
    found = answer(study_of(studies.mini(seeds=3), truth))
    assert found.sentences["sure"].startswith("3 trainings of each, 6 source images a domain: differences under")
    assert "another training" not in found.sentences["sure"]
    assert "--seeds" not in found.sentences["sure"]
    assert found.numbers["gain/decided"] == found.numbers["cost/decided"] == 1.0


def test_the_numbers_are_those_of_the_sentences(study_of):
    numbers = answer(study_of(studies.mini(), truth)).numbers
    assert numbers["gain/n"] == 4
    assert numbers["gain/before"] == pytest.approx(0.2)
    assert numbers["gain/after"] == pytest.approx(0.7)
    assert numbers["gain/difference"] == pytest.approx(0.5)
    assert numbers["cost/difference"] == pytest.approx(numbers["cost/after"] - numbers["cost/before"])
    assert {name.partition("/")[0] for name in numbers} == {*SETTLED} - {"sure"}


def test_half_finished_it_speaks_of_what_is_there(study_of):
    """No trial of two held-out domains is finished, nor any replay."""

    def skip(trial):
        gone = trial.axes.get("held_out") in MINI[2:] or trial.stage == "replay"
        return "new" if gone else ""

    found = said(study_of(studies.mini(), truth, skip))
    assert found["gain"].startswith(
        "4 images of a new generator suffice: IoU on that generator rises from 0.20 to 0.70"
    )
    assert "keep" not in found
    assert re.search(r" \d+ of \d+ trials are not finished\.$", found["sure"])


def test_what_failed_is_counted_where_nothing_is_answered(study_of):
    study = study_of(studies.mini(), truth, lambda trial: "" if trial.stage == "base" else "failed")
    assert re.search(r"none answers the question yet\. \d+ of \d+ trials failed\.$", said(study)["none"])


def test_two_domains_have_no_diversity_since_one_and_all_others_are_one_training(study_of):
    maker = studies.Maker(MINI[:2])
    for name, other in (MINI[:2], MINI[1::-1]):
        one = maker.plan("single", {name: 8}, domain=name)
        maker.trials.append(one.model_copy(update={"stage": "without", "axes": {"held_out": other}}))
    study = study_of(studies.record(maker, "mini"), truth)
    assert len(study.results.by_fingerprint) == 2
    assert "diversity" not in said(study)


def test_what_is_scored_and_answers_nothing_is_counted(study_of):
    study = study_of(studies.mini(), truth, lambda trial: "" if trial.stage == "base" else "new")
    assert re.fullmatch(r"\d+ of \d+ trials are scored; none answers the question yet\.", said(study)["none"])


def test_without_test_scores_nothing_is_sure(study_of):
    found = told(study_of(studies.mini(), truth, lambda trial: "new"), [Finding("one", "Chosen by validation")])
    assert found.sentences["sure"] == "Nothing is scored on test images yet."


def test_the_largest_n_that_all_have_is_not_called_the_most_that_was_tried(study_of):
    def skip(trial):
        return "failed" if trial.axes.get("n", 0) > 4 and trial.axes.get("held_out") == MINI[0] else ""

    found = said(study_of(studies.mini(), truth, skip))
    assert found["gain"].startswith("4 images of a new generator, the most that every domain has, help")


def test_without_a_run_on_both_sides_nothing_is_decided(study_of):
    """Fine-tuned and mixture have no seed in common."""

    def skip(trial):
        fresh = trial.spec.start is None and trial.axes.get("held_out") is None
        return "new" if trial.stage != "baselines" and fresh == bool(trial.axes.get("seed", 0)) else ""

    found = answer(study_of(studies.mini(seeds=2), truth, skip))
    assert found.sentences["best"].endswith("its lead is not decided.")
    assert found.numbers["best/decided"] == 0.0


@pytest.mark.parametrize(
    ("loss", "augment", "keys"),
    [
        ("best", "augment", ("by-best", "augment")),
        ("lead", "sure", ("by-lead", "by-sure")),
        ("trial.loss.name", "trial.augment.name", ("augment", "loss")),
        ("a.mode", "b.mode", ("mode", "mode-2")),
    ],
)
def test_an_axis_may_be_called_as_a_finding_or_as_another(study_of, loss, augment, keys):
    called = {"loss": loss, "augment": augment}
    record = crossed.losses(num_test=40)
    axes = [{called.get(name, name): value for name, value in one.axes.items()} for one in record.trials]
    trials = [one.model_copy(update={"axes": of}) for one, of in zip(record.trials, axes, strict=True)]
    found = said(study_of(record.model_copy(update={"trials": tuple(trials)}), crossed.truth))
    assert found["best"].startswith("Trained on")
    assert found["sure"].startswith("1 training of each")
    assert {key for key, text in found.items() if text.startswith("By ")} == {*keys}


def test_of_a_measure_where_less_is_better_the_least_leads(study_of, monkeypatch):
    study = study_of(crossed.sam2_decoders(num_test=40), crossed.truth)
    less = replace(study.first, higher_is_better=False)
    monkeypatch.setattr(Study, "first", property(lambda self: less))
    assert re.match(r"(No other has less|Least) ", said(study)["lead"])


def test_half_of_the_domains_are_said(study_of):
    def skip(trial):
        return "new" if trial.axes.get("held_out") in MINI[1:] else ""

    assert said(study_of(studies.mini(), truth, skip))["gain"].endswith("(on 1 of 4 held-out domains).")


def test_nothing_scored_is_said(study_of):
    assert answer(study_of(studies.mini(), truth, lambda trial: "new")) == Answer({"none": NOTHING})


def test_names_of_stages_and_axes_say_nothing(study_of, tmp_path):
    """A stage and an axis by other names: sentence by sentence the same."""
    wanted = said(study_of(studies.mini(), truth))
    record = studies.mini()
    trials = [
        trial.model_copy(
            update={
                "stage": f"x-{trial.stage}",
                "axes": {name if name in ("held_out", "seed") else f"y{name}": v for name, v in trial.axes.items()},
            }
        )
        for trial in record.trials
    ]
    renamed = record.model_copy(update={"trials": tuple(trials)})
    workspace = Workspace(tmp_path / "workspace")
    assert said(Study(renamed, Results(workspace, renamed))) == wanted


def test_models_say_which_is_chosen_and_what_leads(study_of):
    found = said(study_of(crossed.sam2_decoders(num_test=40), crossed.truth))
    assert re.match(
        r"Trained on one domain, .+, which validation chooses of \d+, has IoU 0\.\d\d in domain and 0\.\d\d out of",
        found["best"],
    )
    assert found["lead"].startswith(("No other has more out of domain; the next is", "Most out of domain has"))


def test_a_setting_is_compared_where_all_else_is_equal(study_of):
    """Blur is worth 0.2, the losses nothing."""

    def blurred(trial, domain):
        return 0.6 if trial.axes.get("augment") == "blur" else 0.4

    found = answer(study_of(crossed.losses(num_test=40), blurred))
    assert (
        found.sentences["augment"]
        == "By augmentation, all else equal, out of domain: 0.60 with blur, 0.40 with no augment."
    )
    assert found.sentences["loss"].startswith("By loss, all else equal, out of domain: ")
    assert found.sentences["loss"].endswith("not told apart.") or found.sentences["loss"].endswith("is not decided.")
    assert found.numbers["augment/difference"] == pytest.approx(0.2)
    assert found.numbers["augment/decided"] == 0.0, "of one training a side nobody knows its luck"


def test_photographs_of_another_source_are_told_apart(study_of):
    record = crossed.source_shift(num_test=40)
    found = said(
        study_of(record, lambda trial, domain: 0.7 if "celebahq/repaint-p2" in trial.spec.train.counts else 0.4)
    )
    assert found["source"] == "Trained on source images of celebahq: 0.70, of ffhq: 0.40."


def test_more_domains_are_compared_on_those_that_neither_knows(study_of):
    def better(trial, domain):
        return 0.6 if len(trial.spec.train.counts) > 1 else 0.3

    found = answer(study_of(crossed.generator_shift(num_test=40), better))
    assert found.sentences["diversity"] == ("Out of domain a model of one domain has 0.30, one of all others 0.60.")
    assert found.numbers["diversity/difference"] == pytest.approx(0.3)


def estimate(value: float, half: float, p: float | None) -> Estimate:
    return Estimate(value, value - half, value + half, 3, 30, 3, p, metric=IOU)


def test_many_comparisons_need_more(mini_study):
    """By Holm's procedure p = 0.04 is enough alone and not beside another."""
    one = Finding("one", "One", {}, [(estimate(0.1, 0.09, 0.04), "undecided")])
    other = Finding("two", "Two", {}, [(estimate(0.1, 0.2, 0.3), "undecided")])
    assert told(mini_study, [one]).sentences["one"] == "One."
    assert told(mini_study, [one, other]).sentences["one"] == "One; undecided."


def test_how_to_read_it_says_why_what_is_decided_may_have_no_star(study_of, mini_study):
    assert "give no star" in dict(reading.lines(mini_study, published=False))["Intervals"]
    seeded = study_of(studies.mini(seeds=2), truth)
    assert (
        "what a sentence tells as decided may have no star" in dict(reading.lines(seeded, published=False))["Intervals"]
    )


def test_the_best_of_many_others_is_decided_as_one_of_them(study_of, monkeypatch):
    """Bonferroni's bound: each of the others could have been the best on test images."""
    study = study_of(crossed.sam2_decoders(num_test=40), crossed.truth)
    block = [part for part in parts(study, models(study))[ONE] if part.mean(study, known)]
    ranked = sorted(block, key=lambda part: part.mean(study, known).value)
    monkeypatch.setattr(findings_models, "_less", lambda *_: estimate(0.1, 0.05, 0.01))
    worst, best = (findings_models._lead(study, block, part, known, "in domain") for part in (ranked[0], ranked[-1]))
    assert worst.differences[0][0].p == pytest.approx(0.01 * (len(block) - 1))
    assert len(block) > 2
    assert best.differences[0][0].p == 0.01


def test_no_interval_decides_nothing(mini_study):
    nan = float("nan")
    none = Estimate(0.4, nan, nan, 1, 2, 1, nan, metric=IOU)
    found = told(mini_study, [Finding("one", "One", {}, [(none, "undecided")])])
    assert found.sentences["one"] == "One; undecided."
    assert "too few source images for an interval" in found.sentences["sure"]


@pytest.mark.parametrize("record", ["single_domain", "cross_domain", "decoder_depth", "segmenters", "losses"])
def test_every_study_answers_in_three_to_seven_sentences(record, study_of):
    found = answer(
        getattr(crossed, record)(num_test=40) and study_of(getattr(crossed, record)(num_test=40), crossed.truth)
    )
    assert 3 <= len(found.sentences) <= 7
    assert all(text.endswith(".") and "None" not in text and "nan" not in text for text in found.sentences.values())


def test_the_report_keeps_it_in_a_file(mini_workspace, mini_study, tmp_path):
    folder = build(mini_workspace, mini_study.record, with_panel=False)
    content = json.loads((folder / "answer.json").read_text())
    found = answer(mini_study)
    assert content == {
        "sentences": [{"key": key, "text": text} for key, text in found.sentences.items()],
        "numbers": found.numbers,
    }
    assert DOLOS[0] not in str(content)


def test_models_are_compared_where_there_are_several_and_the_unseen_is_asked_of_those_that_were_trained_so(study_of):
    maker = studies.Maker(MINI)
    for held_out in MINI:
        maker.plan("without", {name: 8 for name in MINI if name != held_out}, held_out=held_out)
    for loss in ("bce", "dice", "focal"):
        maker.plan("compare", dict.fromkeys(MINI, 8), spec={"loss": LossSpec(name=loss)}, loss=loss)
    best = {"bce": 0.6, "dice": 0.7, "focal": 0.5}

    def of(trial, domain):
        return (
            best[trial.axes["loss"]] if trial.stage == "compare" else 0.4 if domain in trial.spec.train.counts else 0.2
        )

    found = said(study_of(studies.record(maker, "mini"), of))
    assert found["best"].startswith("Trained on several domains, dice, which validation chooses of 3, has IoU 0.70 in")
    assert found["lead"].startswith("No other has more in domain; the next is bce with 0.60")
    assert found["unseen"] == "Trained on all but one, bce has IoU 0.40 in domain and 0.20 out of domain."


def test_an_answer_has_no_more_than_seven_sentences(study_of):
    many = [Finding(str(key), "A") for key in range(20)]
    with mock.patch.object(answers, "KINDS", [mock.Mock(return_value=many)]):
        assert list(said(study_of(studies.mini(), truth))) == ["0", "1", "2", "3", "4", "5", "sure"]
