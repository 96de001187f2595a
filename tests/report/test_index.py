import html
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from dfloc import storage
from dfloc.report import build, index, render
from dfloc.report.answer import Answer, answer
from dfloc.report.groups import Study
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import MINI, Maker


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
    assert len(links) == 2 * 3 + 1
    assert "claims.html" in links
    assert all((page.parent / link).exists() for link in links)
    assert text.index("cross-domain-paper-dolos") < text.index("exposure-mini-mini")
    assert "2 sweeps" in text
    assert index.BUILT_IN in text


def test_links_lead_to_a_sweep_of_any_name(tmp_path):
    """Data keep the name of their folder, which may be of any letters."""
    record = crossed.cross_domain()
    record = record.model_copy(update={"sweep": f'{record.name}-<b>#?%41" \N{GRINNING FACE}', "trials": ()})
    record.save(Workspace(tmp_path).sweep(record.sweep))
    page = Path(index.build_all(Workspace(tmp_path), with_panel=False)[0].path)
    links = [html.unescape(link) for link in re.findall(r'href="(.*?)"', page.read_text(encoding="utf-8"))]
    assert len(links) == 3 + 1
    assert all((page.parent / unquote(urlsplit(link).path)).exists() for link in links)


def test_each_study_answers_once_for_its_own_page_and_this_one(tmp_path, monkeypatch):
    found = list[Answer]()

    def answered(study: Study) -> Answer:
        found.append(answer(study))
        return found[-1]

    monkeypatch.setattr(build, "answer", answered)
    workspace = filled(tmp_path, crossed.cross_domain(), crossed.single_domain())
    page = Path(index.build_all(workspace, with_panel=False)[0].path).read_text(encoding="utf-8")
    assert len(found) == 2
    assert all(f"<li>{html.escape(line, quote=False)}</li>" in page for one in found for line in one.sentences.values())


def test_two_sentences_of_an_answer_and_how_sure_they_are_stand_open_and_the_rest_is_folded(mini_study):
    entry = index.entry(mini_study, [*answer(mini_study).sentences.values()])
    assert len(entry.sentences) > 3
    page = html.unescape(render.html("index", entries=[entry], failed={}, claims=""))
    before, _, folded = page.partition("<details>")
    assert all(f"<li>{line}</li>" in before for line in (*entry.sentences[:2], entry.sentences[-1]))
    assert all(f"<li>{line}</li>" in folded and line not in before for line in entry.sentences[2:-1])
    assert page.index(entry.sentences[0]) < page.index(entry.state)
    short = replace(entry, sentences=entry.sentences[:1])
    assert "<details>" not in render.html("index", entries=[short], failed={}, claims="")


def test_an_empty_workspace_has_a_page_that_says_what_to_do(tmp_path):
    page = Path(index.build_all(Workspace(tmp_path))[0].path)
    assert "dfloc sweep exposure" in page.read_text(encoding="utf-8")


def test_names_are_escaped(tmp_path):
    record = crossed.cross_domain().model_copy(update={"title": "<img src=x>", "domains": MINI, "trials": ()})
    record.save(Workspace(tmp_path).sweep(record.sweep))
    page = Path(index.build_all(Workspace(tmp_path))[0].path)
    assert "<img" not in page.read_text(encoding="utf-8")


def test_a_sweep_whose_report_fails_keeps_no_other_from_its_own(tmp_path, monkeypatch):
    first, broken = crossed.cross_domain(), crossed.single_domain()
    workspace = filled(tmp_path, first, broken)
    damaged = workspace.sweep("damaged")
    storage.put(damaged / "plan.json", b'{"version": 1')

    def answer_of(study: Study) -> Answer:
        if study.record.sweep == broken.sweep:
            raise TypeError("unhashable type: 'dict'")
        return answer(study)

    monkeypatch.setattr(build, "answer", answer_of)
    page, failed = index.build_all(workspace, with_panel=False)
    assert failed.keys() == {broken.sweep, "damaged"}
    assert f"TypeError: unhashable type: 'dict'; dfloc report {broken.sweep}" in failed[broken.sweep]
    text = Path(page.path).read_text(encoding="utf-8")
    assert f"{first.sweep}/index.html" in text
    assert f"The report of {broken.sweep} failed" in text
    assert "plan.json is no JSON" in failed["damaged"]
    assert "plan.json is no JSON" in text
