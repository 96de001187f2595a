"""A page by a plug-in's protocol, which has no IoU and whose first metric is the better the less it is."""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import dfloc
from dfloc import plugin, registry
from dfloc.errors import ConfigError
from dfloc.metrics.metric import IOU
from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report import build, exposure, latex, ranking
from dfloc.report.groups import Study
from dfloc.report.models import models
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.summary import summary
from tests.report import crossed, studies
from tests.report.conftest import texts
from tests.test_plugin import EXAMPLES

NAME = "balanced.py"


@pytest.fixture(autouse=True)
def balanced() -> Iterator[None]:
    plugin.use([plugin.Plugin(NAME, EXAMPLES[NAME])])
    yield
    plugin.use(())


def by_balanced(record: SweepRecord) -> SweepRecord:
    update = {"protocol": "balanced", "plugin": registry.plugin_of("protocol", "balanced")}
    trials = [
        trial.model_copy(update={"evaluations": tuple(each.model_copy(update=update) for each in trial.evaluations)})
        for trial in record.trials
    ]
    return record.model_copy(update={"protocol": "balanced", "trials": tuple(trials), "tables": ()})


@pytest.fixture
def filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Workspace, Study]]:
    """Make the study of a record whose rows have the balanced error that their IoU leaves, and half of it as recall."""
    real = studies.rows

    def rows(evaluation, mean: float) -> pa.Table:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(studies.protocols, "find", lambda _: type("Rule", (), {"per_image": {"iou": IOU}}))
            table = real(evaluation, mean)
        error = 0.5 * (1 - table["iou"].to_numpy())
        return table.drop(["iou"]).append_column("error", pa.array(error)).append_column("recall", pa.array(1 - error))

    def make(record: SweepRecord, of: Callable[[PlannedTrial, str], float]) -> tuple[Workspace, Study]:
        monkeypatch.setattr(studies, "rows", rows)
        workspace, record = Workspace(tmp_path / "workspace"), by_balanced(record)
        studies.fill(workspace, record, of)
        return workspace, Study(record, Results(workspace, record))

    return make


def test_the_page_of_a_curve_is_whole_and_says_the_metrics_name(filled) -> None:
    workspace, study = filled(studies.mini(), studies.truth)
    folder = build.write(workspace, study, with_panel=False)
    text = (folder / "report.md").read_text()
    quoted = r"valid[a-z.]* IoU|\*\*What the documents.*|.*\(s[0-9]+\.c.*"  # of training, and of published documents
    assert re.findall(r".{40}IoU.{40}", re.sub(quoted, "", text, flags=re.IGNORECASE)) == []
    assert "Test balanced error after fine-tuning on n images" in text
    assert all(
        section in text for section in ("What is forgotten", "Against starting anew", "Baselines, data and trials")
    )
    [row, *_] = csv.DictReader((folder / "evaluations.csv").open())
    assert float(row["error_low"]) <= float(row["error"]) <= float(row["error_high"])
    assert float(row["error_all_fake"]) == pytest.approx(0.5)
    assert "not above all fake" not in texts(exposure.curves(study), studies.MINI[0], "48")


def test_forgetting_is_how_much_worse_it_has_become_on_the_page_and_in_mlflow(filled) -> None:
    _, study = filled(studies.mini(), studies.truth)
    trial = next(trial for trial in study.record.trials if trial.stage == "finetune")
    own, root = study.results.by_fingerprint[trial.fingerprint], study.results.by_fingerprint[trial.spec.lineage.root]
    domain = trial.spec.lineage.base[0]
    worse = own.scores["best", domain].mean() - root.scores["best", domain].mean()
    assert worse > 0.1
    told = summary(study.record, study.results._ledger, trial)
    assert told[f"forgetting/{domain}"] == pytest.approx(worse)
    held_out, n = str(trial.axes["held_out"]), f"{trial.axes['n']:,}"
    row = next(
        row for row in exposure.forgetting(study).rows if [cell.text for cell in row.cells[1:3]] == [held_out, n]
    )
    assert row.cells[exposure.forgetting(study).heads.index(domain)].exact[0] == pytest.approx(worse)


def test_the_least_is_the_best_oracle_and_in_latex_bold(filled) -> None:
    _, study = filled(crossed.cross_domain(), crossed.truth)
    found = models(study)
    table = ranking.crossed(study, found)
    lines = [
        line
        for line in latex.latex(table).splitlines()
        if (line.endswith(r"\\") and "mini" in line) or "celeba" in line
    ]
    bold = [cell for line in lines for cell in line.split("&") if r"\textbf" in cell]
    for row in table.rows:
        least = min(
            cell.exact[0]
            for column, cell in zip(table.columns, row.cells, strict=True)
            if cell.exact and not column.muted
        )
        assert any(f"{least:.3f}" in cell for cell in bold)
    page = {row.cells[1].text: row for row in ranking.ranked(study, found).rows}
    numbers = [row.cells[5] for row in page.values() if row.cells[5].exact]
    oracles = [cell.exact[0] for cell in numbers if "oracle" in cell.small]
    assert not oracles or min(oracles) == min(cell.exact[0] for cell in numbers)


def test_rows_of_a_plug_in_that_is_not_here_or_has_changed_are_refused(filled) -> None:
    workspace, study = filled(studies.mini(), studies.truth)
    plugin.use([plugin.Plugin(NAME, EXAMPLES[NAME].replace("/ 2", "* 0.5"))])
    with pytest.raises(ConfigError, match=r'protocol "balanced" is of a plug-in with digest .*give the file of then'):
        Results(workspace, study.record)
    plugin.use(())
    with pytest.raises(ConfigError, match=r'protocol "balanced" is of a plug-in .* which is not loaded'):
        Results(workspace, study.record)


def test_a_notebook_reads_it_by_the_plug_in_that_it_names(filled, tmp_path) -> None:
    workspace, study = filled(studies.mini(), studies.truth)
    study.record.save(workspace.sweep(study.record.sweep))
    plugin.use(())
    with pytest.raises(ConfigError, match="balanced"):
        dfloc.results("exposure", str(workspace.root))
    file = tmp_path / NAME
    file.write_text(EXAMPLES[NAME])
    frame = dfloc.results("exposure", str(workspace.root), plugins=[str(file)])
    assert frame.error_all_fake.dropna().unique() == pytest.approx([0.5])
    assert "iou" not in frame.columns
