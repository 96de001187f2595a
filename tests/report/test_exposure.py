import pytest

from dfloc import summary
from dfloc.ledger import Ledger
from dfloc.report import budgets, exposure, figures, latex, overview, render
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.conftest import curve_of, texts
from tests.report.studies import MINI, Maker


def test_curves_have_a_row_for_each_n_and_the_baselines(mini_study):
    table = exposure.curves(mini_study)
    assert [cell.text for cell in table.rows[0].cells[:4]] == ["mini/checkerboard", "0", "39", "80"]
    row = texts(table, "mini/telea", "16")
    group = curve_of(mini_study, "mini/telea")[16]
    expected = [studies.truth(group.first.trial, domain) for domain in MINI]
    assert row[1:4] == ["16", "13", "40"]
    assert row[5:9] == [f"{value:.3f}" for value in expected]
    assert row[9] == f"{sum(expected) / 4:.3f}"
    assert texts(table, "mean training mask")[5] == "0.210"
    assert len(table.rows) == 4 * 4 + 3


def test_captions_name_protocol_data_seeds_and_what_intervals_are_of(mini_study):
    caption = exposure.curves(mini_study).whole("")
    assert "Protocol declip-2025." in caption
    assert "40 images a domain, of 6 source images (data mini, lists" in caption
    assert "Training seeds 0, sampling seeds 0." in caption
    assert "test sampling only" in caption


def test_several_seeds_are_named_and_resampled(study_of):
    caption = exposure.curves(study_of(studies.mini(seeds=2))).whole("")
    assert "Training seeds 0, 1" in caption
    assert "test sampling only" not in caption


def test_validation_chooses_and_the_oracle_is_marked(study_of):
    record = studies.mini()

    def of(trial, domain):
        if trial.stage == "finetune" and trial.axes["held_out"] == "mini/telea":
            return {4: 0.3, 16: 0.8, 48: 0.6}[trial.axes["n"]]
        return 0.5

    def chosen_by_validation(trial):
        return "new" if trial.stage in ("scratch", "replay") else ""

    study = study_of(record, of, chosen_by_validation)
    group = curve_of(study, "mini/telea")[48]
    object.__setattr__(group.results[0], "valid", 0.9)
    row = texts(exposure.selected(study), "mini/telea")
    assert row[1:7] == ["48", "13", "40", "0.900", "0.600", "0.800"]


def test_the_last_epoch_and_ap_stand_beside(mini_study):
    row = texts(exposure.best_last(mini_study), "mini/renoise", "48")
    best = studies.truth(curve_of(mini_study, "mini/renoise")[48].first.trial, "mini/renoise")
    expected = [best, best - 0.02, best + 0.12, best + 0.10, best + 0.1]
    assert row[4:9] == [f"{value:.3f}" for value in expected]
    assert row[10:] == ["0 %", "0.170", "0.210"]


def test_controls_are_subtracted_in_pairs(study_of):
    def of(trial, domain):
        held_out = domain == trial.axes.get("held_out")
        return {"finetune": 0.7, "scratch": 0.6, "replay": 0.65 if held_out else 0.9}.get(trial.stage, 0.5)

    table = exposure.controls(study_of(studies.mini(), of))
    row = texts(table, "mini/telea", "16")
    assert row[1:4] == ["16", "13", "40"]
    assert row[4:9] == ["0.700", "0.600", "+0.100", "0.650", "+0.050"]
    assert row[9:12] == ["0.700", "0.900", "-0.200"]


def test_a_difference_of_other_steps_is_no_answer(study_of):
    """10 steps an epoch: 4 epochs beside 8 are 40 steps beside 80; replay takes as many as fine-tuning."""
    table = exposure.controls(study_of(studies.mini()))
    cells = {head: table.rows[1].cells[place] for place, head in enumerate(table.heads)}
    less = cells["Fine-tuned less scratch"]
    assert (less.mark, less.small) == ("doubt", "on these two trainings; also steps 40 / 80, epochs 4 / 8")
    replay = cells["Fine-tuned less replay"]
    assert (replay.mark, replay.small) == ("", "on these two trainings")
    assert {column.head: column.under for column in table.columns if column.under} == {
        "Fine-tuned less scratch": "also differs: steps 40 / 80, epochs 4 / 8"
    }
    assert "no answer" in table.caption
    assert "<small>also differs: steps 40 / 80, epochs 4 / 8</small>" in render.html("table", block=table)
    head = "Fine-tuned less scratch (also differs: steps 40 / 80, epochs 4 / 8)"
    assert head in render.markdown("table", block=table)
    paper = latex.latex(table).replace(r"\allowbreak{}", "")
    assert head in paper
    assert table.csv().splitlines()[0].startswith("Held out,n,Valid. labels,Steps,")


def test_with_equal_steps_the_difference_is_an_answer(study_of):
    maker = Maker()
    maker.curves([4, 16], epochs=4)
    for trial in [trial for trial in maker.trials if trial.stage == "scratch"]:
        cell = {"held_out": trial.axes["held_out"], "n": trial.axes["n"], "lists": "curves"}
        maker.plan("anew", trial.spec.train.counts, epochs=4, **cell)

    def of(trial, domain):
        return {"finetune": 0.7, "scratch": 0.9, "anew": 0.65}.get(trial.stage, 0.5)

    table = exposure.controls(study_of(studies.record(maker, "mini", synthetic=True), of))
    row = dict(zip(table.heads, table.rows[1].cells, strict=True))
    assert row["Held out: scratch, equal steps"].text == "0.650"
    equal, longer = row["Fine-tuned less scratch, equal steps"], row["Fine-tuned less scratch"]
    assert (equal.text, equal.mark) == ("+0.050", "")
    assert (longer.text, longer.mark) == ("-0.200", "doubt")
    assert [column.head for column in table.columns if column.under] == ["Fine-tuned less scratch"]


def test_replay_of_twice_the_steps_is_no_answer(study_of):
    """By hand: 250 images at a batch of 64 are 4 steps, 10 epochs 40; with 249 old images beside, 8 and 80."""
    maker = Maker(epoch_steps=None)
    maker.curves([250], epochs=10)
    table = exposure.controls(study_of(studies.record(maker, "mini", synthetic=True)))
    less = table.rows[0].cells[table.heads.index("Fine-tuned less replay")]
    assert (less.mark, less.small) == ("doubt", "on these two trainings; also steps 40 / 80")


def test_controls_are_found_by_what_they_are_and_not_by_their_stage(study_of):
    record = studies.mini()
    called = {"scratch": "anew", "replay": "old-and-new"}
    trials = [trial.model_copy(update={"stage": called.get(trial.stage, trial.stage)}) for trial in record.trials]
    other = record.model_copy(update={"trials": tuple(trials)})
    for table in (exposure.controls, exposure.forgetting):
        assert table(study_of(other)).csv() == table(study_of(record)).csv()


def test_the_same_trainings_under_another_stage_are_no_control(study_of):
    record = studies.mini()
    again = [trial.model_copy(update={"stage": "again"}) for trial in record.trials if trial.stage == "finetune"]
    both = record.model_copy(update={"trials": (*record.trials, *again)})
    assert exposure.controls(study_of(both)).heads == exposure.controls(study_of(record)).heads


def test_a_fine_tuning_of_other_length_is_a_control(study_of):
    """By hand: 50 images at a batch of 64 are 1 step an epoch, 130 are 3; 3 an epoch for both are 30 in 10 epochs."""
    maker = Maker(epoch_steps=None)
    maker.curves([50, 130], epochs=10)
    maker.epoch_steps = 3
    bases = {trial.axes["held_out"]: trial for trial in maker.trials if trial.stage == "base"}
    for trial in [trial for trial in maker.trials if trial.stage == "finetune"]:
        cell = {"held_out": trial.axes["held_out"], "n": trial.axes["n"], "lists": "curves"}
        maker.plan("long", trial.spec.train.counts, parent=bases[cell["held_out"]], epochs=10, **cell)
    study = study_of(studies.record(maker, "mini", synthetic=True))
    columns = exposure.controls(study).heads
    assert "Fine-tuned less fine-tuned, 30 steps at every n" in columns
    assert "Fine-tuned less fine-tuned, 30 steps at every n, seen" in columns
    models = {row.cells[0].text for row in exposure.forgetting(study).rows}
    assert models == {"fine-tuned", "with replay", "fine-tuned, 30 steps at every n"}
    assert "Between the smallest n and the others also differ: steps 10 / 30." in figures.means(study).caption


def test_a_control_that_was_not_planned_says_so(study_of):
    record = studies.mini()
    planned = tuple(t for t in record.trials if t.stage != "replay" or t.axes["n"] != 16)
    row = texts(exposure.controls(study_of(record.model_copy(update={"trials": planned}))), "mini/telea", "16")
    assert row[7] == "not planned"
    none = tuple(t for t in record.trials if t.stage != "replay")
    table = exposure.controls(study_of(record.model_copy(update={"trials": none})))
    assert not any("less replay" in head for head in table.heads)


def test_forgetting_is_positive_where_something_is_lost(mini_study):
    table = exposure.forgetting(mini_study)
    row = next(row for row in table.rows if [cell.text for cell in row.cells[:3]] == ["fine-tuned", "mini/telea", "16"])
    base = curve_of(mini_study, "mini/telea")[0].first.trial
    lost = studies.truth(base, "mini/renoise") - 0.3
    assert [cell.text for cell in row.cells[5:9]] == [f"{lost:+.3f}"] * 3 + ["held out"]
    assert "mean training mask 0.210" in table.notes[0]


@pytest.mark.parametrize(("fate", "text"), [("failed", "failed"), ("new", "not run")])
def test_holes_are_marked(study_of, fate, text):
    record = studies.mini()
    study = study_of(record, skip=lambda trial: fate if trial.stage == "finetune" else "")
    row = texts(exposure.curves(study), "mini/telea", "16")
    assert row[5:] == [text] * 5
    assert texts(exposure.curves(study), "mini/telea", "0")[5] != text


def test_a_collapsed_trial_is_marked(study_of):
    def of(trial, domain):
        return 0.0 if trial.stage == "finetune" and trial.axes["n"] == 16 else 0.5

    table = exposure.curves(study_of(studies.mini(), of))
    marked = [row.cells[1].text for row in table.rows if row.cells[0].small == "COLLAPSED (empty)"]
    assert marked == ["16"] * 4


@pytest.mark.parametrize(("stage", "column"), [("finetune", 4), ("scratch", 5), ("replay", 7)])
def test_each_collapsed_control_is_marked_in_its_own_cells(study_of, stage, column):
    def of(trial, domain):
        return 0.0 if trial.stage == stage and trial.axes["n"] == 16 else 0.5

    row = next(row for row in exposure.controls(study_of(studies.mini(), of)).rows if row.cells[1].text == "16")
    marked = {place for place, cell in enumerate(row.cells) if "COLLAPSED" in cell.small}
    assert column in marked
    assert {row.cells[place].mark for place in marked} == {"bad"}
    assert marked == {"finetune": {0, 4, 9}, "scratch": {5}, "replay": {7, 10}}[stage]


def test_empty_maps_on_one_domain_are_told_though_the_trial_has_not_collapsed(study_of):
    def of(trial, domain):
        return 0.0 if trial.stage == "finetune" and trial.axes["n"] == 16 and domain == "mini/renoise" else 0.5

    study = study_of(studies.mini(), of)
    row = next(
        row for row in exposure.curves(study).rows if [cell.text for cell in row.cells[:2]] == ["mini/telea", "16"]
    )
    assert [cell.small for cell in row.cells[5:]] == [
        "",
        "",
        "empty predictions; not above all fake",
        "",
        "empty predictions on 1 of 4",
    ]
    assert row.cells[0].small == ""


def test_an_empty_last_epoch_is_told_beside_a_sound_best_one(tmp_path):
    record = studies.mini()
    trial = next(trial for trial in record.trials if trial.stage == "finetune")
    workspace = Workspace(tmp_path)
    held_out = trial.axes["held_out"]
    studies.fill(workspace, record, lambda t, domain: 0.02 if t is trial and domain == held_out else 0.5)
    row = exposure.best_last(Study(record, Results(workspace, record))).rows[1]
    assert [cell.small for cell in row.cells[4:8]] == [
        "not above all fake",
        "empty predictions; not above all fake",
        "IoU not above all fake",
        "empty predictions; IoU not above all fake",
    ]


def test_each_curve_has_the_baseline_of_its_own_setting(study_of):
    maker = Maker()
    for loss, count in (("bce", 50), ("dice", 51)):
        axis = {"trial.loss": loss}
        base = maker.plan("base", {MINI[0]: count}, held_out=MINI[1], **axis)
        maker.plan("finetune", {MINI[1]: 4}, parent=base, epochs=4, held_out=MINI[1], n=4, **axis)
        maker.plan("baselines", {MINI[0]: count}, decoder="mean-mask", epochs=1, **axis)
    record = studies.record(maker, "mini")
    table = exposure.best_last(study_of(record, lambda trial, _: trial.spec.train.size / 100))
    assert [(row.cells[0].text, row.cells[-1].text) for row in table.rows if row.cells[1].text == "4"] == [
        (f"{MINI[1]}, bce", "0.500"),
        (f"{MINI[1]}, dice", "0.510"),
    ]


def test_baselines_that_no_axis_of_a_row_tells_apart_are_said_to_be_several(study_of):
    maker = Maker()
    base = maker.plan("base", {MINI[0]: 53}, held_out=MINI[1])
    maker.plan("finetune", {MINI[1]: 4}, parent=base, epochs=4, held_out=MINI[1], n=4)
    for pairing, count in (("stems", 50), ("independent", 51)):
        maker.plan("baselines", {MINI[0]: count}, decoder="mean-mask", epochs=1, pairing=pairing)
    study = study_of(studies.record(maker, "mini"))
    row = texts(exposure.best_last(study), MINI[1], "4")
    assert row[-2:] == ["0.125", "several"], "all fake needs no trial: of 1,040 pixels 130 are fake (studies.rows)"
    assert "mean training mask, independent" in [row.cells[0].text for row in exposure.curves(study).rows]


def test_random_weights_are_told_under_every_table(study_of):
    maker = Maker(weights="random:0")
    maker.curves([4], epochs=4)
    study = study_of(studies.record(maker, "mini", synthetic=True))
    for table in (exposure.curves(study), exposure.forgetting(study), overview.data(study), overview.trials(study)):
        assert "Weights: random:0, so these numbers mean nothing." in table.whole("")


def test_what_the_base_knew_of_the_held_out_domain_is_told_as_forgotten(study_of):
    """Where a base was trained on the domain that is held out, it is one of the base's as in MLflow."""
    maker = Maker()
    base = maker.plan("base", dict.fromkeys(MINI[:2], 53), held_out=MINI[0])
    maker.plan("finetune", {MINI[0]: 4}, parent=base, epochs=4, held_out=MINI[0], n=4)
    study = study_of(studies.record(maker, "mini"), lambda trial, domain: 0.5 if trial.parent else 0.8)
    [row] = exposure.forgetting(study).rows
    assert [cell.text for cell in row.cells[5:]] == ["+0.300", "+0.300", "not of the base", "not of the base", "+0.300"]


def test_means_run_over_the_domains_that_are_tested(study_of, tmp_path):
    """As in MLflow; a domain that no trial is tested on has no column, and makes no mean a hole."""
    maker = Maker(tests=MINI[:3])
    maker.curves([4], epochs=4)
    maker.plan("budgets", dict.fromkeys(MINI, 53), case="train_all_4")
    maker.baselines()
    study = study_of(studies.record(maker, "mini"))
    row = texts(exposure.curves(study), MINI[0], "4")
    assert row[5:] == [f"{value:.3f}" for value in (0.74 - 0.1 * 44 / 48, 0.3, 0.3, (0.74 - 0.1 * 44 / 48 + 0.6) / 3)]
    [mixed, *_] = budgets.budgets(study).rows
    assert [cell.text for cell in mixed.cells[1:2]] == ["4 x 53"]
    assert [cell.text for cell in mixed.cells[6:10]] == ["0.740"] * 4
    assert "0.300" in [cell.text for cell in exposure.controls(study).rows[0].cells], "the base's tested domains"
    trial = curve_of(study, MINI[0])[4].first.trial
    numbers = summary.summary(study.record, Ledger(Workspace(tmp_path / "workspace")), trial)
    assert f"{numbers['test/mean/iou']:.3f}" == row[-1]
    assert numbers["test/base/iou"] == pytest.approx(0.3)


def test_seen_is_what_a_base_of_another_sweep_was_trained_on(study_of):
    maker = Maker()
    base = maker.plan("base", {MINI[1]: 53})
    maker.trials.clear()
    for n in (4, 16):
        maker.plan("finetune", {MINI[0]: n}, parent=base, epochs=4, held_out=MINI[0], n=n)
    study = study_of(studies.record(maker, "mini", synthetic=True))
    curve = curve_of(study, MINI[0])
    assert study.seen(curve) == [MINI[1]]
    seen = studies.truth(curve[4].first.trial, MINI[1])
    assert f"{seen:.3f}" in [cell.text for cell in exposure.controls(study).rows[0].cells]
    assert exposure.forgetting(study).rows == []  # what it had before is not of this study
    [panel] = figures.panels(study, []).panels
    assert f"Mean of the known domains: n = 4: {seen:.2f}" in panel.words
