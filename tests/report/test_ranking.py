import csv
import io

import pyarrow as pa
import pytest

from dfloc import storage
from dfloc.ledger import Ledger
from dfloc.metrics import native
from dfloc.report import areas, heatmaps, models, overview, ranking, trends
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import crossed as made
from tests.report import studies
from tests.report.conftest import texts
from tests.report.studies import DOLOS, Maker


@pytest.fixture(scope="module")
def study_for(tmp_path_factory):
    known: dict[str, Study] = {}

    def make(name: str) -> Study:
        if name not in known:
            record = getattr(made, name)()
            workspace = Workspace(tmp_path_factory.mktemp(name))
            studies.fill(workspace, record, made.truth, checkpoints=("best",))
            known[name] = Study(record, Results(workspace, record))
        return known[name]

    return make


def lines(table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.csv())))


def test_every_cell_of_train_x_test_has_its_number(study_for):
    study = study_for("generator_shift")
    found = lines(ranking.crossed(study, models.models(study)))
    assert [line["Test domain"] for line in found] == list(study.record.domains)
    for trial in (trial for trial in study.record.trials if trial.stage != "baselines"):
        column = trial.axes.get("domain") or f"without-{trial.axes['held_out']}"
        for line in found:
            assert float(line[column]) == pytest.approx(made.truth(trial, line["Test domain"]))
    assert float(found[0]["all fake"]) == pytest.approx(0.17)
    assert float(found[0]["mean training mask"]) == pytest.approx(0.21)


def test_in_domain_cells_are_bold(study_for):
    study = study_for("cross_domain")
    table = ranking.crossed(study, models.models(study))
    marks = [[cell.mark for cell in row.cells[2:7]] for row in table.rows]
    assert marks[0] == ["", "strong", "strong", "strong", "strong"]
    assert [line.index("") for line in marks] == [0, 1, 2, 3]


def test_models_are_ranked_by_validation_and_name_their_settings(study_for):
    study = study_for("sam2_decoders")
    table = ranking.ranked(study, models.models(study))
    trained = [row for row in table.rows if not row.muted]
    valid = [row.cells[2].exact[0] for row in trained]
    assert len(valid) == 12
    assert valid == sorted(valid, reverse=True)
    assert [row.cells[2].mark for row in trained] == ["strong", *[""] * 11]
    line = lines(table)[0]
    assert (line["Decoder"], line["Parameters trained"], line["Convolutions"]) == ("conv-20", "514561", "6")
    assert (line["Batch"], line["Schedule"], line["Selection"]) == ("32", "plateau", "valid. IoU")
    assert (line["Initialisation"], line["Epochs"], line["Input"]) == ("declip", "20", "224 then 1024")
    assert "loss bce" in table.caption
    assert "Loss" not in table.heads


def test_what_no_column_tells_is_said_of_models_of_one_kind(study_for):
    """By hand: 9,000 images at a batch of 32 are 282 steps; 30 epochs 8,460, 20 of the other model 5,640."""
    study = study_for("single_domain")
    steps = {model.name: model.spec.steps for model in models.models(study)}
    assert set(steps.values()) == {8460, 5640}
    first, other = (f"{steps[part.model.name]:,}" for part in models.parts(study, models.models(study))[models.ONE])
    caption = ranking.ranked(study, models.models(study)).caption
    assert f"The first of a block and the others also differ in steps {first} / {other}" in caption


def test_costs_are_those_of_the_ledger(study_for):
    study = study_for("cross_domain")
    line = lines(ranking.ranked(study, models.models(study)))[0]
    # studies.fill: two epochs of one second and 160 images each; four trainings.
    assert float(line["Images/s"]) == pytest.approx(160)
    assert float(line["Hours"]) == pytest.approx(4 * 2 / 3600)


def test_the_oracle_is_the_best_test_number(study_for):
    study = study_for("decoder_depth")
    table = ranking.ranked(study, models.models(study))
    for mean in ("ID", "OOD", "All"):
        place = table.heads.index(mean)
        values = {row.cells[place].exact[0]: row.cells[place].small for row in table.rows if not row.muted}
        assert [value for value, small in values.items() if "oracle" in small] == [max(values)]


def test_other_measures_are_those_of_the_protocol(study_for):
    study = study_for("segmenters")
    found = lines(ranking.measured(study, models.models(study)))
    names = {name.rpartition(",")[0] for name in found[0]} - {""}
    assert names == {"F1", "AP", "AUC", "MCC", "PBCA", "IoU per image", "Pooled IoU"}
    single = next(line for line in found if line["Trained on"] == "one domain")
    table = ranking.ranked(study, models.models(study))
    iou = next(float(line["ID"]) for line in lines(table) if line["Trained on"] == "one domain")
    assert float(single["AP, ID"]) == pytest.approx(iou + 0.12)  # studies.rows
    assert float(single["IoU per image, ID"]) == pytest.approx(iou)
    assert float(single["Pooled IoU, OOD"]) == pytest.approx(100 / 140)
    all_four = next(line for line in found if line["Trained on"] == "several domains")
    assert all_four["AP, OOD"] == "-"


def test_numbers_of_a_set_are_counted_on_its_images_and_on_those_of_validation(tmp_path):
    """By hand: validation is best at 0.3, where a test map of 20 right pixels, 10 wrong and 30 fake has F1 2/3."""
    maker = Maker(DOLOS[:2], ("pixels",), "none", 9, 2, 3, 4, None, protocol="dfloc-1", tests=[DOLOS[0]])
    trial = maker.plan("single", {DOLOS[0]: 9}, domain=DOLOS[0])
    (own, _) = trial.evaluations
    real = own.model_copy(update={"domain": "celebahq/real", "test": own.test.model_copy(update={"digest": "r" * 64})})
    valid = own.model_copy(update={"split": "valid", "test": own.test.model_copy(update={"digest": "v" * 64})})
    maker.trials[0] = trial.model_copy(update={"evaluations": (own, real, valid)})
    record = studies.record(maker, "paper")
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record, lambda *_: 0.4, checkpoints=("best",))
    ids = [f"{DOLOS[0]}/test/{k}.png" for k in range(4)]  # studies.rows
    storage.put_json(workspace.lists / f"{trial.spec.valid.digest}.json", ids)
    at = len(native.GRID) // 3
    for each, tp, fp, fn in ((own, 10, 0, 20), (real, 0, 40, 0), (valid, 5, 5, 5)):
        grid = [[10 if place == at else 0 for place in range(len(native.GRID))]] * 4
        counts = {"tp": tp, "fp": fp, "fn": fn, "tn": 160}
        rows = studies.rows(each, 0.4).to_pydict() | {name: [count] * 4 for name, count in counts.items()}
        rows["split"] = [each.split] * 4
        rows |= {"grid_tp": [[2 * k for k in grid[0]]] * 4 if each is own else grid, "grid_fp": grid}
        Ledger(workspace).put_rows(trial.fingerprint, each.key, pa.table(rows))
    study = Study(record, Results(workspace, record))
    table = ranking.measured(study, models.models(study))
    (line,) = lines(table)
    assert float(line["F1 at the validation threshold, ID"]) == pytest.approx(2 * 20 / (2 * 20 + 10 + 10))
    assert float(line["False-alarm area"]) == pytest.approx(40 / 200)
    assert line["F1 at the validation threshold, OOD"] == "-"
    assert "validation images" in table.caption


def test_all_numbers_of_a_row_are_of_the_runs_that_all_its_trainings_have(tmp_path):
    """Three seeds, by 0.1 better each; of one training the last is not there."""
    maker = Maker(num_test=36)
    for maker.seed in range(3):
        made.single(maker, "single", 9)
    record = made.named(maker, "single-domain", synthetic=True)
    workspace = Workspace(tmp_path)
    studies.fill(
        workspace,
        record,
        lambda trial, domain: 0.2 + 0.1 * trial.spec.seed + (0.3 if domain in trial.spec.train.counts else 0.0),
        lambda trial: "new" if (trial.axes["domain"], trial.spec.seed) == (studies.MINI[0], 2) else "",
        checkpoints=("best",),
    )
    study = Study(record, Results(workspace, record))
    found = models.models(study)
    table = ranking.ranked(study, found)
    (cells,) = [row.cells[2:6] for row in table.rows if not row.muted]
    assert [cell.small for cell in cells] == ["2 of 3 runs"] * 4
    assert [cell.exact[0] for cell in cells] == pytest.approx([0.55, 0.55, 0.25, 0.325])
    (other,) = lines(ranking.measured(study, found))
    assert float(other["IoU per image, ID"]) == pytest.approx(0.55)


def test_a_training_that_is_scored_in_part_does_not_rank_its_model(tmp_path):
    """Of three seeds, by 0.1 better each, one evaluation of the last one is not there yet."""
    maker = Maker(num_test=36)
    for maker.seed in range(3):
        made.single(maker, "single", 9)
    record, workspace = made.named(maker, "single-domain", synthetic=True), Workspace(tmp_path)
    studies.fill(workspace, record, lambda trial, _: 0.2 + 0.1 * trial.spec.seed, checkpoints=("best",))
    late = next(trial for trial in record.trials if (trial.axes["domain"], trial.spec.seed) == (studies.MINI[0], 2))
    lacking = next(each for each in late.evaluations if (each.checkpoint, each.domain) == ("best", studies.MINI[1]))
    (Ledger(workspace).folder(late.fingerprint) / "rows" / f"{lacking.key}.parquet").unlink()
    study = Study(record, Results(workspace, record))
    (valid, _, out) = next(row.cells[2:5] for row in ranking.ranked(study, models.models(study)).rows)
    assert [(cell.exact[0], cell.small) for cell in (valid, out)] == [(pytest.approx(0.25), "2 of 3 runs")] * 2


def test_random_weights_are_marked_at_the_model(tmp_path):
    record = made.single_domain()
    trials = []
    for trial in record.trials:
        maps = tuple(each.model_copy(update={"weights": "random:0"}) for each in trial.spec.maps)
        trials.append(trial.model_copy(update={"spec": trial.spec.model_copy(update={"maps": maps})}))
    record = record.model_copy(update={"trials": tuple(trials), "synthetic": True})
    study = Study(record, Results(Workspace(tmp_path), record))
    cell = ranking.ranked(study, models.models(study)).rows[0].cells[0]
    assert "path only, numbers mean nothing" in cell.small
    assert overview.warnings(study)[0] == "Random weights: path only, numbers mean nothing."


def test_heat_maps_hold_the_numbers_and_frame_what_is_in_domain(study_for):
    study = study_for("cross_domain")
    (panel,) = heatmaps.crossed(study, models.models(study)).panels
    assert list(panel.chart.rows) == list(DOLOS)
    trials = {trial.axes.get("held_out"): trial for trial in study.record.trials}
    for j, held_out in enumerate([*DOLOS, None]):
        for i, domain in enumerate(DOLOS):
            assert panel.chart.tiles[i][j].value == pytest.approx(made.truth(trials[held_out], domain))
    assert sum(tile.framed for row in panel.chart.tiles for tile in row) == 16


def test_a_hole_is_written_into_its_tile(tmp_path):
    record = made.cross_domain()
    workspace = Workspace(tmp_path)

    def skip(trial):
        return "failed" if trial.axes.get("held_out") == DOLOS[1] else ""

    studies.fill(workspace, record, made.truth, skip, checkpoints=("best",))
    study = Study(record, Results(workspace, record))
    (panel,) = heatmaps.crossed(study, models.models(study)).panels
    holes = [(j, tile.text) for row in panel.chart.tiles for j, tile in enumerate(row) if tile.value is None]
    assert holes == [(1, "failed")] * 4
    row = texts(ranking.ranked(study, models.models(study)), "vit-rn50-conv-12")
    assert row[2:6] == ["-", "failed", "failed", "failed"]


def test_only_the_best_models_have_a_panel(study_for):
    study = study_for("sam2_decoders")
    found = models.models(study)
    ranked = [part.model.name for part in models.parts(study, found)[models.ONE]]
    assert {model.name for model in models.best(study, found, 5)} == set(ranked[:5])
    assert models.best(study, found, 16) == found


def test_a_record_that_was_read_has_the_same_names(study_for, tmp_path):
    study = study_for("sam2_decoders")
    folder = Workspace(tmp_path).sweep(study.record.sweep)
    study.record.save(folder)
    read = study.record.load(folder)
    again = models.models(Study(read, study.results))
    assert [model.name for model in again] == [model.name for model in models.models(study)]
    assert again[0].name == "via-224, depth = 4, sam2.1-small/image_embed"


def test_layers_and_depths_are_axes(study_for):
    study = study_for("decoder_depth")
    by_map, by_depth = trends.trends(study, models.models(study))
    (panel,) = by_map.panels
    assert by_map.title == "Mean test IoU by layer."
    assert panel.title == "clip-vit-l14, one domain"
    assert {tuple(mark.x for mark in series.marks) for series in panel.chart.series} == {(3.0, 11.0, 20.0)}
    assert len(panel.chart.series) == 3 * 2
    assert {tuple(mark.x for mark in series.marks) for series in by_depth.panels[0].chart.series} == {(4.0, 12.0)}
    deep = next(series for series in panel.chart.series if series.name == "vit-conv, depth = 12, in-domain")
    wanted = [
        sum(made.truth(trial, trial.axes["domain"]) for trial in study.record.trials if fits(trial, layer)) / 4
        for layer in (3, 11, 20)
    ]
    assert [mark.value for mark in deep.marks] == pytest.approx(wanted)


def fits(trial, layer: int) -> bool:
    return (trial.axes["map"], trial.axes.get("depth")) == (f"clip-vit-l14/layer{layer}", 12)


def test_two_crossed_settings_are_a_heat_map(study_for):
    study = study_for("losses")
    figure = heatmaps.combined(study, models.models(study))
    titles = [panel.title for panel in figure.panels]
    assert titles == [
        f"{stage}: {kind}" for stage in ("segmenter", "frozen") for kind in ("in-domain", "out-of-domain")
    ]
    heat = figure.panels[1].chart
    trials = [trial for trial in study.record.trials if trial.stage == "segmenter"]
    bce_blur = [trial for trial in trials if (trial.axes["loss"], trial.axes["augment"]) == ("bce", "blur")]
    wanted = sum(made.truth(trial, trial.axes["held_out"]) for trial in bce_blur) / 4
    assert heat.tiles[1][1].value == pytest.approx(wanted)


def test_epochs_are_drawn_for_every_training(study_for):
    study = study_for("segmenters")
    figure = trends.epochs(study, models.models(study))
    assert [len({series.name for series in panel.chart.series}) for panel in figure.panels] == [8, 4, 4]
    marks = figure.panels[1].chart.series[0].marks
    assert [mark.x for mark in marks] == [1, 2]
    assert marks[1].shape == "circle-open"


def test_iou_by_area_counts_every_image_once(study_for):
    study = study_for("generator_shift")
    found = models.models(study)
    table = areas.table(study, found)
    assert len(table.rows) == 4 * 8
    for row in table.rows:
        assert sum(int(cell.small) for cell in row.cells[3:] if cell.small) == 12
    assert len(areas.figure(study, found).panels) == 4
    assert not areas.wanted(study_for("cross_domain"))


def test_bins_hold_the_mean_of_their_images(study_for):
    study = study_for("source_shift")
    group = models.models(study)[0].columns[1].group
    (score,) = group.first.scores.values()
    inside = (score.areas > 0.1) & (score.areas <= 0.2)
    value, count = areas.bins(group, "celebahq/repaint-p2")[2]
    assert (value, count) == (pytest.approx(score.values["iou"][inside].mean()), int(inside.sum()))


def test_no_two_lines_of_a_trend_look_alike():
    styles = trends._styles([f"line {place}" for place in range(11)])
    assert len(set(styles.values())) == 11
