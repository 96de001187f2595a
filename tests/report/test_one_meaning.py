"""MLflow, the CSVs and the page say the same of a trial, cell by cell: one word has one meaning."""

import csv
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dfloc.data import dolos
from dfloc.metrics import protocols
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import captions
from dfloc.report.build import build, read
from dfloc.report.table import Table
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.planned import planned
from tests.tracked import runs_of, track

LDM = "celebahq/ldm"
KEPT = {"held_out": {LDM, "celebahq/lama"}, "n": {250, 3000}}


def kept(trial: PlannedTrial) -> bool:
    """Of the exposure study two held-out domains and two n; a second seed of one domain's curves alone."""
    axes = trial.axes
    return all(axes[axis] in some for axis, some in KEPT.items() if axis in axes) and (
        axes["seed"] == 0 or axes.get("held_out") == LDM
    )


def any_value(trial: PlannedTrial, domain: str) -> float:
    """A mean IoU that no two evaluations share."""
    return 0.1 + 0.8 * int(hashlib.sha256(f"{trial.fingerprint} {domain}".encode()).hexdigest()[:8], 16) / 16**8


class Told(NamedTuple):
    """What MLflow, evaluations.csv and the page say of a study.

    Attributes:
        metrics: fingerprint -> name -> value, in MLflow.
        params: fingerprint -> name -> text, in MLflow.
        rows: of evaluations.csv.
        tables: of the page, by id.
    """

    record: SweepRecord
    metrics: dict[str, dict[str, float]]
    params: dict[str, dict[str, str]]
    rows: list[dict[str, str]]
    tables: dict[str, Table]

    def mean(self, name: str, stage: str, case: str = "", **axes: Any) -> float:
        """Return the mean of a metric over the trials of a cell."""
        found = [self.metrics[trial][name] for trial in self.of(stage, case, **axes)]
        return sum(found) / len(found)

    def of(self, stage: str, case: str = "", **axes: Any) -> list[str]:
        """Return the fingerprints of a cell, over its seeds."""
        return [
            trial.fingerprint
            for trial in self.record.trials
            if (trial.stage, trial.case) == (stage, case) and axes.items() <= trial.axes.items()
        ]


def told_of(record: SweepRecord, root: Path, empty_database: Path) -> Told:
    shutil.copy(empty_database, root / "mlflow.db")
    workspace = Workspace(root)
    studies.fill(workspace, record, any_value)
    folder = build(workspace, record, with_panel=False)
    track(workspace, record)
    runs = {run.data.tags["dfloc.fingerprint"]: run.data for run in runs_of(workspace).values() if run.data.params}
    return Told(
        record,
        {name: run.metrics for name, run in runs.items()},
        {name: run.params for name, run in runs.items()},
        list(csv.DictReader((folder / "evaluations.csv").read_text().splitlines())),
        {table.id: table for table in read(workspace, record).tables},
    )


@pytest.fixture(scope="module")
def exposure(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Told:
    record = planned("exposure", keep=kept, seeds=2, checkpoints=("best", "last"))
    return told_of(record, tmp_path_factory.mktemp("exposure"), empty_database)


@pytest.fixture(scope="module", params=["cross-domain", "generator-shift"])
def crossed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Told:
    record = planned(request.param, keep=lambda trial: trial.case in ("", "vit-conv-12", "vit-rn50-conv-12"))
    return told_of(record, tmp_path_factory.mktemp(request.param), empty_database)


def groups_of(told: Told, trial: PlannedTrial) -> dict[str, list[str]]:
    """Return the test domains of each word by its definition: DESIGN of the words, from what was trained on."""
    by_name = {one.fingerprint: one for one in told.record.trials}
    line = [trial]
    while line[-1].parent:
        line.append(by_name[line[-1].parent])
    seen = {dolos.family(domain, {}) for one in line for domain in one.spec.train.counts}
    root = line[-1].spec.train.counts
    axes = [one.axes["held_out"] for one in told.record.trials if one.spec == trial.spec and "held_out" in one.axes]
    domains = told.record.domains
    return {
        "mean": [*domains],
        "id": [domain for domain in domains if dolos.family(domain, {}) in seen],
        "ood": [domain for domain in domains if dolos.family(domain, {}) not in seen],
        "base": [domain for domain in domains if domain in root],
        "held_out": [str(axes[0])] if axes else [domain for domain in domains if domain not in root],
    }


def from_rows(told: Told, trial: PlannedTrial) -> Iterator[tuple[str, float]]:
    """Yield what MLflow should have of a trial, computed from evaluations.csv alone."""
    measures = [each for each in protocols.find(told.record.protocol).tracked if each in told.rows[0]]

    def scores(name: str, checkpoint: str, measure: str) -> dict[str, float]:
        mine = [row for row in told.rows if (row["trial"], row["checkpoint"]) == (name, checkpoint)]
        return {row["test_domain"]: float(row[measure]) for row in mine}

    for measure in measures:
        for head, checkpoint in (("test", "best"), ("test_last", "last")):
            for domain, value in scores(trial.fingerprint, checkpoint, measure).items():
                yield f"{head}/{domain}/{measure}", value
        best = scores(trial.fingerprint, "best", measure)
        for word, domains in groups_of(told, trial).items():
            if domains:
                yield f"test/{word}/{measure}", sum(best[domain] for domain in domains) / len(domains)
    root = trial.spec.lineage.root
    old, new = (scores(name, "best", "iou") for name in (root, trial.fingerprint))
    for domain in groups_of(told, trial)["base"] if root else []:
        yield f"forgetting/{domain}", old[domain] - new[domain]


def check_mlflow(told: Told) -> None:
    others = [name for name in protocols.find(told.record.protocol).tracked if name not in told.rows[0]]
    for trial in told.record.trials:
        metrics = {
            name: value
            for name, value in told.metrics[trial.fingerprint].items()
            if name.startswith(("test", "forgetting")) and name.rpartition("/")[2] not in others
        }
        assert metrics == pytest.approx(dict(from_rows(told, trial))), trial.name
    assert {row["trial"] for row in told.rows} == told.metrics.keys() == {one.fingerprint for one in told.record.trials}


def check_trials(told: Told) -> None:
    names = {trial.fingerprint[:12]: trial.fingerprint for trial in told.record.trials}
    for row in lines(told.tables["trials"]):
        name = names[row["Trial"]]
        assert row["Steps"].replace(",", "") == told.params[name]["steps"]
        assert row["Train"].replace(",", "") == told.params[name]["train.images"]
        for domain in told.record.domains:
            shows(row[domain], told.metrics[name][f"test/{domain}/iou"])


def lines(table: Table) -> list[dict[str, str]]:
    return [dict(zip(table.heads, [cell.text for cell in row.cells], strict=True)) for row in table.rows]


def shows(text: str, value: float) -> None:
    assert abs(float(text) - value) < 5.001e-4, (text, value)


def test_mlflow_has_what_the_csv_has(exposure: Told) -> None:
    check_mlflow(exposure)
    check_trials(exposure)


def test_a_crossed_study_has_the_same_in_mlflow_csv_and_tables(crossed: Told) -> None:
    check_mlflow(crossed)
    check_trials(crossed)


def test_exposure_counts_the_images_of_the_held_out_domain(exposure: Told) -> None:
    """The axis n, with a parent and without one, and the trial that two stages share; the base has seen none."""
    checked = 0
    for trial in exposure.record.trials:
        params = exposure.params[trial.fingerprint]
        if "held_out" in trial.axes:
            n = trial.axes.get("n", 0)
            assert params["exposure"] == str(n)
            assert params["exposure.domains"] == (trial.axes["held_out"] if n else "none")
            checked += 1
            if trial.parent:
                assert n == trial.spec.lineage.exposure, "as the plan records it"
        elif trial.fingerprint not in exposure.of("scratch"):
            assert (params["exposure"], params["exposure.domains"]) == ("0", "none"), trial.name
    assert checked == 3 * (1 + 5 * 2)
    shared = {*exposure.of("scratch")} & {*exposure.of("budgets", "3000-each-per-model-same-backbone")}
    assert len(shared) == 2


def test_the_curves_are_those_of_mlflow(exposure: Told) -> None:
    told, baselines = exposure, {words: name for name, words in captions.BASELINES.items()}
    for row in lines(told.tables["exposure"]):
        if row["Held out"] in baselines:
            cell: dict[str, Any] = {"stage": "baselines", "decoder": baselines[row["Held out"]]}
        else:
            cell = point(row)
            assert {told.params[name]["exposure"] for name in told.of(**cell)} == {row["n"].replace(",", "")}
            assert {told.params[name]["steps"] for name in told.of(**cell)} == {row["Steps"].replace(",", "")}
            shows(row[row["Held out"]], told.mean("test/held_out/iou", **cell))
        shows(row["Valid. IoU"], told.mean("best/valid_iou", **cell))
        shows(row["Mean"], told.mean("test/mean/iou", **cell))
        for domain in told.record.domains:
            shows(row[domain], told.mean(f"test/{domain}/iou", **cell))
    for row in lines(told.tables["best-last"]):
        cell, last = point(row), f"test_last/{row['Held out']}"
        for head, name in {"IoU best": "test/held_out/iou", "IoU last": f"{last}/iou"}.items():
            shows(row[head], told.mean(name, **cell))
        for head, name in {"AP best": "test/held_out/ap", "AP last": f"{last}/ap"}.items():
            shows(row[head], told.mean(name, **cell))
        for head, name in {"All fake, IoU": "all-fake", "Mean mask, IoU": "mean-mask"}.items():
            shows(row[head], told.mean(f"test/{row['Held out']}/iou", "baselines", decoder=name))
    assert len(told.tables["exposure"].rows) == 2 * 3 + 3


def point(row: dict[str, str], stage: str = "finetune") -> dict[str, Any]:
    """Return the cell of a row of a curve."""
    n = int(row["n"].replace(",", ""))
    return {"held_out": row["Held out"]} | ({"stage": stage, "n": n} if n else {"stage": "base"})


def test_controls_and_forgetting_are_those_of_mlflow(exposure: Told) -> None:
    told = exposure
    for row in lines(told.tables["controls"]):
        tuned, scratch, replay = (
            {name: told.mean(f"test/{name}/iou", **point(row, stage)) for name in ("held_out", "base")}
            for stage in ("finetune", "scratch", "replay")
        )
        shows(row["Held out: fine-tuned"], tuned["held_out"])
        shows(row["Held out: scratch"], scratch["held_out"])
        shows(row["Held out: replay"], replay["held_out"])
        shows(row["Fine-tuned less scratch"], tuned["held_out"] - scratch["held_out"])
        shows(row["Fine-tuned less replay"], tuned["held_out"] - replay["held_out"])
        shows(row["Seen: fine-tuned"], tuned["base"])
        shows(row["Seen: replay"], replay["base"])
        shows(row["Fine-tuned less replay, seen"], tuned["base"] - replay["base"])
    equal = "fine-tuned, 940 steps at every n"
    stages = {"fine-tuned": "finetune", "with replay": "replay", equal: "finetune-equal-steps"}
    for row in lines(told.tables["forgetting"]):
        cell = point(row, stages[row["Model"]])
        of_base = [domain for domain in told.record.domains if domain != row["Held out"]]
        lost = [told.mean(f"forgetting/{domain}", **cell) for domain in of_base]
        for domain, value in zip(of_base, lost, strict=True):
            shows(row[domain], value)
        shows(row["Mean of seen"], sum(lost) / len(lost))
    for row in lines(told.tables["selected"]):
        row["n"] = row["n chosen"]
        shows(row["Test IoU"], told.mean("test/held_out/iou", **point(row)))
        shows(row["Valid. IoU"], told.mean("best/valid_iou", **point(row)))
    assert [len(told.tables[name].rows) for name in ("controls", "forgetting", "selected")] == [4, 12, 2]


def test_mixtures_and_baselines_are_those_of_mlflow(exposure: Told) -> None:
    told, checked = exposure, 0
    baselines = {words: name for name, words in captions.BASELINES.items()}
    for row in [*lines(told.tables["budgets"]), *lines(told.tables["equal-total"])]:
        name = row["Data seen"]
        if name in baselines:
            cell: dict[str, Any] = {"stage": "baselines", "decoder": baselines[name]}
        elif name.startswith("count = "):
            cell = {"stage": "equal-total", "count": int(name.removeprefix("count = "))}
        else:
            cell = {"stage": "budgets", "case": name}
        own = told.of(**cell, domain=LDM)
        checked += 1
        of = {domain: cell | ({"domain": domain} if own else {}) for domain in told.record.domains}
        for domain, one in of.items():
            shows(row[domain], told.mean(f"test/{domain}/iou", **one))
        for head, metric in {"Mean": "iou", "AP, mean": "ap"}.items():
            values = [told.mean(f"test/{domain}/{metric}", **one) for domain, one in of.items()]
            shows(row[head], sum(values) / len(values) if own else told.mean(f"test/mean/{metric}", **cell))
    assert checked == (6 + 3) + (2 + 3 + 3), "budgets, two totals with those of one domain, and each time the baselines"
    for row in lines(told.tables["baselines"]):
        metric, cell = row["Metric"].lower(), {"stage": "baselines", "decoder": baselines[row["Baseline"]]}
        shows(row["Mean"], told.mean(f"test/mean/{metric}", **cell))
        for domain in told.record.domains:
            shows(row[domain], told.mean(f"test/{domain}/{metric}", **cell))


def test_a_matrix_and_its_means_are_those_of_mlflow(crossed: Told) -> None:
    told = crossed
    trained: dict[tuple[str, str], PlannedTrial] = {}
    for trial in told.record.trials:
        where = f"without-{trial.axes['held_out']}" if "held_out" in trial.axes else trial.axes.get("domain")
        trained |= {(trial.case, str(where or "train_all_4")): trial} if trial.stage != "baselines" else {}
    matrix, heads = lines(told.tables["train-test"]), {head for _, head in trained}
    assert heads <= matrix[0].keys()
    for row in matrix:
        for case, head in trained:
            if case in ("", row["Model"]):
                name = trained[case, head].fingerprint
                shows(row[head], told.metrics[name][f"test/{row['Test domain']}/iou"])
    kinds = {"all but one": "without-", "one domain": "celebahq/", "several domains": "train_all"}
    ranked = [row for row in lines(told.tables["models"]) if row["Trained on"] in kinds]
    for row in ranked:
        is_own = {key: key[0] in ("", row["Model"]) and key[1].startswith(kinds[row["Trained on"]]) for key in trained}
        own = [trial.fingerprint for key, trial in trained.items() if is_own[key]]
        for head, word in {"ID": "id", "OOD": "ood", "All": "mean"}.items():
            values = [value for name in own if (value := told.metrics[name].get(f"test/{word}/iou")) is not None]
            if values:
                shows(row[head], sum(values) / len(values))
            else:
                assert row[head] == "-"
    assert (len(matrix), len(ranked)) == ((8, 4) if told.record.name == "cross-domain" else (4, 2))
