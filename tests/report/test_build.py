import csv
import html
import itertools
import json
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from upath import UPath

import dfloc
from dfloc import repro, storage, tracking_uri
from dfloc.errors import ConfigError
from dfloc.ledger import Ledger
from dfloc.outcome import Done
from dfloc.record import SweepRecord
from dfloc.report import published
from dfloc.report.build import build
from dfloc.report.build import read as read_report
from dfloc.report.chart import Figure, Lines
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.conftest import small_paper
from tests.report.studies import DOLOS, MINI, Maker

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def mini_folder(mini_workspace) -> Path:
    return Path(build(mini_workspace, studies.mini()).path)


def read(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def body(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


CELLS = ("td", "th")
ENDED_BY = {"td": (*CELLS, "tr"), "th": (*CELLS, "tr"), "tr": ("tr",)}  # the HTML standard, 13.1.2.4: optional tags


class Tags(HTMLParser):
    """Collects addresses and whether every tag is closed: cells and rows by what comes next, or with their parent."""

    def __init__(self):
        super().__init__()
        self.links, self.open, self.ids, self.tags = [], [], [], set()

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if self.open[-1:] == [tag]:
            self.open.pop()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("src", "href")]
        while self.open and tag in ENDED_BY.get(self.open[-1], ()):
            self.open.pop()
        assert tag not in CELLS or self.open[-1] == "tr"
        if tag not in ("meta", "wbr", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        while tag in ("table", "thead", "tbody") and self.open[-1] in ENDED_BY:
            self.open.pop()
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_no_network(mini_folder):
    text = (mini_folder / "index.html").read_text(encoding="utf-8")
    assert len(text) < 1e6
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert "script" not in tags.tags
    assert len(tags.ids) == len(set(tags.ids))
    assert all(link[1:] in tags.ids or (mini_folder / link).exists() for link in tags.links)


def test_each_panel_is_a_picture_with_words_and_its_values_fold_beside_it(mini_folder, mini_workspace):
    text = body(mini_folder)
    report = read_report(mini_workspace, studies.mini())
    drawn = [block for section in report.sections for block in section.blocks if isinstance(block, Figure)]
    assert text.count('<svg xmlns="http://www.w3.org/2000/svg"') == sum(
        len(each.panels) + len(each.legend) for each in drawn
    )
    assert text.count('<details class="values">') == len(drawn) == 4
    for panel in (panel for each in drawn for panel in each.panels):
        assert f'role="img" aria-label="{html.escape(panel.words, quote=False)}"' in text
        for value in panel.chart.values:
            low, high = value.span or ("", "")
            numbers = "".join(f"<td>{each if each == '' else f'{each:.3f}'}" for each in (value.value, low, high))
            assert f"<td>{value.x}{numbers}" in text


def test_how_to_read_it_folds_before_the_sections(mini_folder):
    reading = body(mini_folder).partition('<details id="reading">')[2].partition("</details>")[0]
    for words in (
        "n = 0 is the base",
        "out-of-domain",
        "declip-2025",
        "the source images of a test list (6)",
        "test sampling only",
        "say nothing about Dolos",
    ):
        assert words in reading


def test_every_evaluation_has_a_line(mini_folder):
    lines = read(mini_folder, "evaluations.csv")
    record = studies.mini()
    assert len(lines) == sum(len(trial.evaluations) for trial in record.trials)
    trial = next(trial for trial in record.trials if trial.stage == "finetune" and trial.axes["n"] == 48)
    wanted = (trial.fingerprint, "best", MINI[0])
    line = next(each for each in lines if (each["trial"], each["checkpoint"], each["test_domain"]) == wanted)
    assert line["evaluation"] in {evaluation.key for evaluation in trial.evaluations}
    assert float(line["iou"]) == pytest.approx(studies.truth(trial, MINI[0]))
    assert float(line["iou_low"]) < float(line["iou"]) < float(line["iou_high"])
    assert (line["n"], line["steps"], line["protocol"]) == ("48", "40", "declip-2025")


def test_tables_are_written_as_csv_and_markdown(mini_folder):
    markdown = (mini_folder / "report.md").read_text(encoding="utf-8")
    for link in re.findall(r"\[CSV\]\((.*?)\)", markdown):
        assert (mini_folder / link).exists()
    (line,) = [x for x in read(mini_folder, "exposure.csv") if x["Held out"] == "mini/telea" and x["n"] == "16"]
    row = next(row for row in markdown.splitlines() if row.startswith("| mini/telea | 16 | 13 | 40 |"))
    assert f" {float(line['mini/telea']):.3f} (" in row
    assert len(line["mini/telea: low"]) > len("0.123")


def test_synthetic_reports_have_no_published_value(mini_folder):
    text = body(mini_folder)
    assert "Published beside measured" not in text
    assert "are not shown beside ours" in text


def names_of(chart) -> list[str]:
    return [line.name for line in chart.series] if isinstance(chart, Lines) else []


def scored_by(record: SweepRecord, protocol: str) -> SweepRecord:
    trials = [
        trial.model_copy(
            update={"evaluations": tuple(x.model_copy(update={"protocol": protocol}) for x in trial.evaluations)}
        )
        for trial in record.trials
    ]
    return record.model_copy(update={"protocol": protocol, "trials": tuple(trials)})


@pytest.mark.parametrize(
    ("record", "other"), [(crossed.generator_shift(), "declip-2025"), (small_paper(), "dolos-2024")]
)
def test_no_figure_holds_a_published_number_of_another_protocol(tmp_path, record, other):
    def drawn(record: SweepRecord) -> list[str]:
        blocks = [block for section in read_report(Workspace(tmp_path), record).sections for block in section.blocks]
        panels = [panel for block in blocks if isinstance(block, Figure) for panel in block.panels]
        names = [name for panel in panels for name in (panel.title, *names_of(panel.chart))]
        return [name for name in names if name.lower().startswith("published")]

    assert drawn(scored_by(record, record.protocol))
    assert drawn(scored_by(record, other)) == []


def test_undefined_values_are_counted_at_the_end(mini_folder):
    footer = body(mini_folder).partition("<footer>")[2]
    evaluations = sum(len(trial.evaluations) for trial in studies.mini().trials)
    assert f"f1_best {evaluations}" in footer.replace(",", "")


def test_a_trial_has_its_command_and_where_mlflow_is_served_a_link(mini_workspace, mini_folder, tmp_path):
    record = studies.mini()
    lines = read(mini_folder, "trials.csv")
    done = [line for line in lines if line["State"] == "finished"]
    assert done
    assert all(line["Predict"] == f"dfloc predict {line['Trial']} photo.jpg" for line in done)
    assert {line["Predict"] for line in lines if line not in done} <= {"-"}
    page = (mini_folder / "index.html").read_text(encoding="utf-8")
    assert f"<code>dfloc predict {done[0]['Trial']} photo.jpg</code>" in page
    assert "searchFilter" not in page

    served = Workspace(shutil.copytree(Path(mini_workspace.root.path), tmp_path / "served"))
    tracking_uri.note(served.sweep(record.sweep), "http://mlflow:5000", "7")
    folder = Path(build(served, record, with_panel=False).path)
    assert read(folder, "trials.csv") == lines
    page = (folder / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<a href="(http://mlflow:5000/#/experiments/7/runs\?[^"]*)">(\w+)</a>', page)
    assert [name for _, name in links] == [line["Trial"] for line in lines if line["State"] in ("finished", "FAILED")]
    assert all(f"%27{name}" in link for link, name in links)


def test_the_end_says_command_code_date_and_cost(mini_workspace, mini_folder):
    footer = html.unescape(body(mini_folder).partition("<footer>")[2])
    by = f"by dfloc {dfloc.__version__}{f', commit {repro.commit()}' if repro.commit() else ''}."
    assert f"This page: dfloc report exposure-mini-mini, {by}" in footer
    ledger, names = Ledger(mini_workspace), {trial.fingerprint for trial in studies.mini().trials}
    ended = [done for name in names if (done := ledger.done(name))]
    last = datetime.fromtimestamp(max(done.time for done in ended), UTC)
    assert f"Last trial finished on {last:%Y-%m-%d, %H:%M} UTC." in footer
    hours = sum(done.cost.seconds for done in ended) / 3600
    assert f"Hours of training, validation among them: {hours:.3g} on cpu ({len(ended)} trials)" in footer


def test_a_commit_is_that_of_the_code_and_of_no_repository_around_it(tmp_path, monkeypatch):
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "lib" / "dfloc" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(dfloc, "__file__", str(package))
    assert repro.commit.__wrapped__() == ""
    monkeypatch.setattr(dfloc, "__file__", str(package.parent))
    monkeypatch.delenv("GIT_DIR")
    head = git("rev-parse", "--short=12", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert repro.commit.__wrapped__() == head
    package.write_text("changed = 1")
    assert repro.commit.__wrapped__() == f"{head}-dirty"


def test_building_twice_changes_nothing(mini_workspace, mini_folder):
    before = {path.name: path.read_bytes() for path in mini_folder.iterdir()}
    build(mini_workspace, studies.mini())
    assert before == {path.name: path.read_bytes() for path in mini_folder.iterdir()}


def test_a_table_that_is_no_more_leaves_no_file_and_what_a_person_put_there_stays(tmp_path):
    workspace, maker = Workspace(tmp_path), Maker()
    maker.curves([4], epochs=4)
    record = studies.record(maker, "mini", synthetic=True)
    studies.fill(workspace, record, checkpoints=("best",))
    folder = build(workspace, record, with_panel=False)
    assert (folder / "forgetting.csv").is_file()
    (folder / "mine.csv").write_text("a")
    bases = tuple(trial for trial in record.trials if trial.stage == "base")
    build(workspace, record.model_copy(update={"trials": bases}), with_panel=False)
    assert not (folder / "forgetting.csv").exists()
    assert (folder / "mine.csv").is_file()


def test_other_published_numbers_change_no_measured_one(paper_workspace, tmp_path, monkeypatch):
    def measured() -> tuple[dict[str, str], list[list[str]]]:
        folder = Path(build(paper_workspace, small_paper()).path)
        ours = [
            [value for name, value in line.items() if not re.search("published|Published|difference|Alike", name)]
            for name in ("published-exposure.csv", "published-budgets.csv", "claims.csv")
            for line in read(folder, name)
        ]
        names = (path.name for path in folder.glob("*.csv") if not re.match("published|claims", path.name))
        return {name: (folder / name).read_text(encoding="utf-8") for name in names}, ours

    before = measured()
    changed = random_numbers(tmp_path)
    monkeypatch.setattr(published, "load", lambda **_: changed)
    assert measured() == before
    folder = Path(paper_workspace.report(small_paper().sweep).path)
    (line,) = [x for x in read(folder, "published-budgets.csv") if x["Data seen"] == "3000-each-train_all_4"]
    assert float(line["celebahq/ldm published"]) == pytest.approx(
        100 * changed["s000.budgets"].cells["3000-each-train_all_4", "celebahq/ldm"].value, abs=0.051
    )


def test_other_published_matrices_change_no_measured_number(tmp_path, monkeypatch):
    workspace, record = Workspace(tmp_path), crossed.generator_shift()
    studies.fill(workspace, record, crossed.truth, checkpoints=("best",))

    def measured() -> dict[str, list[list[str]]]:
        folder = Path(build(workspace, record).path)
        return {
            path.name: [
                [value for name, value in line.items() if not re.search("published$|difference", name)]
                for line in read(folder, path.name)
            ]
            for path in folder.glob("*.csv")
            if path.name != "claims.csv"
        }

    before = measured()
    assert len(before["published-s004-figure6.csv"]) == 4
    changed = random_numbers(tmp_path)
    monkeypatch.setattr(published, "load", lambda **_: changed)
    assert measured() == before


def random_numbers(folder: Path) -> dict[str, published.PublishedTable]:
    """Return the published tables with other numbers."""
    content = yaml.safe_load(published.SHIPPED.read_text(encoding="utf-8"))
    draw = random.Random(0)
    for study in content["studies"]:
        study["values"] = [[value and round(draw.uniform(0, 100), 1) for value in line] for line in study["values"]]
    path = folder / "published.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return published.load(path)


def test_everything_that_a_user_can_name_is_escaped(tmp_path):
    maker = Maker(domains=(f"mini/{EVIL}", *MINI[1:]))
    maker.curves([4], epochs=4)
    record = studies.record(maker, "mini", synthetic=True, notes=(EVIL,)).model_copy(update={"title": EVIL})
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record, skip=lambda trial: "failed" if trial.stage == "scratch" else "")
    folder = Path(build(workspace, record).path)
    assert "<img" not in (folder / "index.html").read_text(encoding="utf-8")
    assert "<img" not in (folder / "report.md").read_text(encoding="utf-8")


def test_a_sweep_of_which_nothing_ran_says_so(tmp_path):
    record = studies.mini()
    folder = Path(build(Workspace(tmp_path), record).path)
    text = body(folder)
    assert "47 distinct trials: 47 not run." in text
    assert "No trial of it is finished." in text
    assert {line["state"] for line in read(folder, "evaluations.csv")} == {"new"}


def test_a_study_of_train_x_test_has_its_sections(tmp_path):
    workspace, record = Workspace(tmp_path), crossed.segmenters()
    studies.fill(workspace, record, crossed.truth, checkpoints=("best",))
    folder = Path(build(workspace, record).path)
    tags = Tags()
    tags.feed(body(folder))
    assert tags.open == []
    text = body(folder)
    names = ("fig-combined", "fig-train-test", "fig-models", "models", "fig-epochs", "fig-areas")
    order = [text.index(f'id="{name}"') for name in names]
    assert order == sorted(order)
    assert "How many samples of a new domain?" not in text
    assert "without-&lt;domain&gt;" in text.partition("<main")[2].partition("</dl>")[0]
    (best,) = [x for x in read(folder, "models.csv") if x["Trained on"] == "one domain"]
    assert (best["Decoder"], best["Parameters trained"]) == ("unetplusplus / resnet50", "48985745")
    assert {line["protocol"] for line in read(folder, "evaluations.csv")} == {"dfloc-1"}
    assert float(read(folder, "evaluations.csv")[0]["auc"]) > 0
    pairs = {(line["domain"], line["test_domain"]) for line in read(folder, "evaluations.csv") if line["domain"]}
    assert pairs == set(itertools.product(DOLOS, DOLOS))  # trained on, tested on


def test_an_empty_record_has_a_page(tmp_path):
    record = studies.mini().model_copy(update={"trials": ()})
    assert "No trial is planned." in body(Path(build(Workspace(tmp_path), record).path))


def test_a_stage_that_no_section_knows_is_in_the_table_of_trials(tmp_path):
    maker = Maker()
    maker.plan("sideways", {MINI[0]: 4}, case="odd")
    record = studies.record(maker, "mini")
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record)
    (line,) = read(Path(build(workspace, record).path), "trials.csv")
    assert (line["Stage"], line["Case"], line["State"]) == ("sideways", "odd", "finished")


def test_mixed_versions_limits_and_failures_are_told(tmp_path):
    maker = Maker()
    for n in (4, 16, 48):
        maker.plan("scratch", {MINI[0]: n}, held_out=MINI[0], n=n)
    record = studies.record(maker, "mini", limit=16, notes=("one photograph lies in two splits",))
    workspace = Workspace(tmp_path)
    studies.fill(workspace, record, skip=lambda trial: "failed" if trial.axes["n"] == 48 else "")
    (done,) = (tmp_path / "trials" / maker.trials[0].fingerprint).glob("done.json")
    content = json.loads(done.read_text())
    content["versions"]["torch"] = "2.0.0"
    del content["sealed"]
    done.write_bytes(storage.sealed(Done.model_validate(content), UPath(done)))
    text = body(Path(build(workspace, record).path))
    assert "Mixed versions: torch 2.0.0, 2.14.1." in text
    assert "Limited by --limit 16" in text
    assert "one photograph lies in two splits" in text
    assert "the loss is NaN at step 17" in text


def test_on_built_in_data_one_sentence_stands_in_place_of_the_claims(mini_folder):
    assert not (mini_folder / "claims.csv").exists()
    text = (mini_folder / "report.md").read_text(encoding="utf-8")
    assert "8 claims. None is put to ours: the data are built-in." in text
    assert 'href="#claims-study"' in body(mini_folder)


def test_an_unknown_published_table_is_named(mini_workspace):
    record = studies.mini().model_copy(update={"tables": ("s000.exposure.lamma",)})
    with pytest.raises(ConfigError, match=r'unknown published table "s000.exposure.lamma"; did you mean'):
        build(mini_workspace, record)
