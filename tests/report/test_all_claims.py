"""The page of all claims: every one of the five documents, with what published numbers and each sweep's say."""

import csv
import html
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dfloc.report import all_claims, claims, index, render
from dfloc.report.groups import Study
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.studies import Maker
from tests.report.test_claims import CLAIMS, MODELS, TABLES, Documents
from tests.report.test_weak_claims import Weak, both_sources, made

SINGLE = ("s000.single_domain.vit_rn50",)


def on_record(workspace: Workspace, study: Study, sweep: str) -> Study:
    """Keep a study's record under a name, as its command would."""
    record = study.record.model_copy(update={"sweep": sweep})
    record.save(workspace.sweep(sweep))
    return Study(record, study.results)


def single_domain(workspace: Workspace, *, good: bool = True) -> Study:
    """Return ViT+RN50 on single domains: the published numbers, or models that are as good on any domain."""
    maker = Documents(num_test=40)
    if good:
        maker.table(SINGLE[0])
    else:
        for domain in maker.domains:
            maker.add({domain: 8000}, dict.fromkeys(maker.domains, 0.5), domain=domain, **MODELS[SINGLE[0]])
    name = "paper" if good else "flat"
    return on_record(workspace, maker.study(workspace, "single-domain", tables=SINGLE), f"single-domain-{name}-dolos")


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def lines(workspace: Workspace, *found: Study) -> dict[str, all_claims.ClaimLine]:
    return {line.claim.id: line for line in all_claims.gather(workspace, found, {}).lines}


def test_without_a_sweep_all_are_there_in_order_with_the_verdict_on_published_numbers(workspace):
    every = all_claims.gather(workspace, [], {})
    assert [line.claim.id for line in every.lines] == [*CLAIMS]
    assert [one.name for one in every.documents] == ["s000", "s001", "s002", "s003", "s004"]
    assert "WACV 2024" in every.documents[-1].cite
    states = [claim.verdict for claim in CLAIMS.values()]
    count = {state: states.count(state) for state in ("holds", "fails", "cannot_be_computed")}
    assert every.summary == (
        f"67 claims of 5 documents. On the published numbers {count['holds']} hold, {count['fails']} fail, "
        f"{count['cannot_be_computed']} undecided. On ours 67 are open."
    )
    assert all(line.state == "open" for line in every.lines)
    whys = {line.claim.id: line.why for line in every.lines}
    assert whys["s000.c13"] == "no sweep of two-step ran here"
    assert whys["s004.c19"] == "no sweep of unseen or source-shift ran here"


def test_a_claim_has_the_verdict_of_each_sweep_and_differing_ones_are_told(workspace):
    published, flat = single_domain(workspace), single_domain(workspace, good=False)
    only = lines(workspace, published)["s000.c20"]
    assert (only.state, [put.sweeps for put in only.shown]) == ("holds", [("single-domain-paper-dolos",)])
    assert only.shown[0].verdict.numbers["id"] == pytest.approx([73.45])
    assert lines(workspace, flat)["s000.c20"].state == "fails"
    both = lines(workspace, published, flat)["s000.c20"]
    assert (both.state, len(both.shown)) == ("differs", 2)
    assert lines(workspace, published)["s000.c13"].state == "open"


def test_a_sweep_that_ran_and_does_not_decide_says_why(workspace):
    found = lines(workspace, single_domain(workspace))["s000.c17"]
    assert (found.state, found.why) == ("open", "")
    assert [put.said for put in found.shown] == ["not planned: no model here is what the table requires."]


def test_a_claim_on_tables_of_several_sweeps_is_put_to_them_together(workspace):
    """s004.c18 by hand: what labels, the other source and other generators cost, from three tables' own numbers."""
    weak, shift = Weak(), Documents(num_test=40, protocol="dolos-2024")
    both_sources(weak, 0.2, 0.233)
    shift.table("s004.figure6")
    one = on_record(workspace, made(weak, workspace), "weak-paper-dolos")
    two = shift.study(workspace, "generator-shift", tables=("s004.figure6",))
    two = on_record(workspace, two, "generator-shift-paper-dolos")
    assert [lines(workspace, each)["s004.c18"].state for each in (one, two)] == ["open", "open"]
    found = lines(workspace, one, two)["s004.c18"]
    assert found.state == "holds"
    assert [put.sweeps for put in found.shown] == [("weak-paper-dolos", "generator-shift-paper-dolos")]
    cells = {key: 100 * cell.value for key, cell in TABLES["s004.figure6"].cells.items()}
    repaint, *others = [f"celebahq/{name}" for name in ("repaint-p2-9k", "ldm", "lama", "pluralistic")]
    numbers = found.shown[0].verdict.numbers
    assert numbers["supervision_A"] == pytest.approx([84.5 - 64.9])
    assert numbers["source"] == pytest.approx([84.5 - 32.3])
    generator = cells[repaint, repaint] - sum(cells[repaint, name] for name in others) / 3
    assert numbers["generator"] == pytest.approx([generator])
    other = on_record(workspace, two, "generator-shift-paper-elsewhere")
    apart = Study(other.record.model_copy(update={"data": "elsewhere"}), other.results)
    assert lines(workspace, one, apart)["s004.c18"].state == "open", "of other data"


def test_pages_and_csv_of_a_workspace_say_the_same(workspace):
    maker = Maker()
    maker.curves([4], epochs=4)
    mini = studies.record(maker, "mini", synthetic=True)
    studies.fill(workspace, mini, crossed.truth, checkpoints=("best",))
    mini.save(workspace.sweep(mini.sweep))
    single_domain(workspace)
    page = Path(index.build_all(workspace, with_panel=False)[0].path)
    text = html.unescape((page.parent / "claims.html").read_text(encoding="utf-8"))
    assert re.findall(r'<li id="([\w.]+)"', text) == [*CLAIMS]
    assert all(claim.claim in text for claim in CLAIMS.values())
    links = set(re.findall(r'href="([^"#]+)', text))
    assert links >= {"single-domain-paper-dolos/index.html", "index.html", "claims.md", "claims.csv"}
    assert all((page.parent / link).exists() for link in links)
    markdown = (page.parent / "claims.md").read_text(encoding="utf-8")
    assert all(f"({claim.id}, " in markdown for claim in CLAIMS.values())
    rows = list(csv.DictReader(io.StringIO((page.parent / "claims.csv").read_text(encoding="utf-8"))))
    assert [*dict.fromkeys(row["claim"] for row in rows)] == [*CLAIMS]
    held = [row["claim"] for row in rows if row["ours"] == "holds"]
    assert held == ["s000.c12", "s000.c20"]
    assert {row["ours"] for row in rows if row["sweep"] == "exposure-mini-mini"} == {"cannot_be_computed"}
    open_ = [row for row in rows if row["ours"] == "open"]
    assert {row["why"] for row in open_ if row["document"] == "s003"} == {
        f"no sweep of {name} ran here" for name in ("detection", "attribution")
    }
    first = text.partition("<nav")[0]
    assert "On ours 2 hold, 65 are open." in first
    assert 'href="claims.html"' in page.read_text(encoding="utf-8")
    assert "On ours 2 hold, 65 are open." in page.read_text(encoding="utf-8")


def test_a_sweep_whose_report_failed_is_named_and_nothing_is_said_of_it(workspace):
    every = all_claims.gather(workspace, [], {"exposure-mini-mini": "it is damaged"})
    assert "Nothing is said of exposure-mini-mini: it is damaged" in render.html("all_claims", page=every)
    assert "Nothing is said of exposure-mini-mini: it is damaged" in render.markdown("all_claims", page=every)


def test_names_and_words_are_escaped(workspace, monkeypatch):
    odd = {name: replace(each, claim="<b>& more") for name, each in claims.load().items() if name == "s000.c1"}
    monkeypatch.setattr(claims, "load", lambda: odd)
    assert "<b>& more" not in render.html("all_claims", page=all_claims.gather(workspace, [], {}))
