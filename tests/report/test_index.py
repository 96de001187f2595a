import re
from pathlib import Path

from dfloc.report import index, models, ranking
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import DOLOS, MINI, Maker
from tests.report.test_search import searched


def filled(tmp_path: Path, *records) -> Workspace:
    workspace = Workspace(tmp_path)
    for record in records:
        studies.fill(workspace, record, crossed.truth, checkpoints=("best",))
        record.save(workspace.sweep(record.sweep))
    return workspace


def test_one_page_links_every_report(tmp_path):
    maker = Maker()
    maker.curves([4], epochs=4)
    exposure = studies.record(maker, "mini", synthetic=True)
    workspace = filled(tmp_path, exposure, crossed.cross_domain())
    page = Path(index.build_all(workspace, with_panel=False)[0].path)
    assert page == Path(workspace.report("index.html").path)
    text = page.read_text(encoding="utf-8")
    links = re.findall(r'href="(.*?)"', text)
    assert len(links) == 2 * 3
    assert all((page.parent / link).exists() for link in links)
    assert text.index("cross-domain-paper-dolos") < text.index("exposure-mini-mini")
    assert "2 sweeps" in text
    assert index.BUILT_IN in text


def test_the_headline_is_the_choice_of_validation(tmp_path):
    record = crossed.single_domain()
    workspace = filled(tmp_path, record)
    entry = index.entry(Study(record, Results(workspace, record)))
    trials = [trial for trial in record.trials if trial.case == "sam2-high-res-1-conv-20"]
    own = sum(crossed.truth(trial, trial.axes["domain"]) for trial in trials) / 4
    assert entry.headlines == [
        "Trained on one domain: sam2-high-res-1-conv-20 (best of 2 by validation): "
        f"IoU {own:.3f} in domain, 0.252 out of domain."
    ]
    assert (entry.mark, entry.state) == ("", "11 distinct trials: 11 finished.")
    assert len(DOLOS) == len(trials)


def test_sources_of_photographs_are_not_mixed_in_a_headline(tmp_path):
    record = crossed.source_shift()
    workspace = filled(tmp_path, record)
    study = Study(record, Results(workspace, record))
    own, other = (crossed.truth(trial, "celebahq/repaint-p2") for trial in record.trials)
    assert index.entry(study).headlines == [
        f"Trained on one domain: xception to block 2: IoU {own:.3f} trained on celebahq/repaint-p2, "
        f"{other:.3f} trained on ffhq/repaint-p2."
    ]
    assert own != other
    assert "the mean ID is also over trainings on ffhq" in ranking.ranked(study, models.models(study)).caption


def test_a_search_has_a_headline(tmp_path):
    entry = index.entry(searched(Workspace(tmp_path)))
    assert [line.partition(" (")[0] for line in entry.headlines] == ["Searched"]


def test_a_fine_tuning_study_says_what_n_gives(mini_study):
    (line,) = index.entry(mini_study).headlines
    assert line == "Fine-tuned: IoU on the held-out domain 0.150 at n = 0, 0.740 at n = 48."


def test_an_empty_workspace_has_a_page_that_says_what_to_do(tmp_path):
    page = Path(index.build_all(Workspace(tmp_path))[0].path)
    assert "dfloc sweep exposure" in page.read_text(encoding="utf-8")


def test_names_are_escaped(tmp_path):
    record = crossed.cross_domain().model_copy(update={"title": "<img src=x>", "domains": MINI, "trials": ()})
    record.save(Workspace(tmp_path).sweep(record.sweep))
    page = Path(index.build_all(Workspace(tmp_path))[0].path)
    assert "<img" not in page.read_text(encoding="utf-8")
