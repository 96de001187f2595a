"""A sweep's checks: PASS, FAIL, not yet, or not of this data, on rows whose numbers are known."""

import re
from collections.abc import Mapping, Sequence

import pytest

from dfloc.checks import Check
from dfloc.errors import ConfigError
from dfloc.report import build, checks, evaluations, published
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from dfloc.sweep import yaml_text
from dfloc.sweep.messages import SweepEnd, of_end
from dfloc.sweep.sweep_file import shipped
from tests.report import studies
from tests.report.studies import DOLOS, MINI, Maker

FUSED = ("clip-vit-l14/layer20", "clip-rn50/layer3")
FILE = yaml_text.read(shipped()["first-day"]).values
CHECKS = tuple(Check.model_validate(each) for each in FILE["checks"])
THIRDS = (0.441, 0.624, 0.758, 0.727)  # of the slides, figure (c)
PATCHES = 0.864  # of Dolos, figure 6
PLURALISTIC = DOLOS[3]


def first_day(
    workspace: Workspace,
    ours: Sequence[float] = THIRDS,
    constant: float = 0.1891,
    *,
    patches: float = PATCHES,
    skip: str = "",
    domains: Sequence[str] = DOLOS,
    **more: object,
) -> Study:
    """Return the study with such an IoU on each domain; F1 of `studies.rows` is IoU + 0.1.

    `patches` is scored by Dolos' protocol, and has 0.1 on what it was not trained on.
    """
    maker = Maker(domains, FUSED, "ab" * 32, 3000, 30, 300, 12, None, 12)
    every = dict.fromkeys(domains, 3000)
    for decoder in ("all-fake", "mean-mask"):
        maker.plan("baselines", every, decoder=decoder, epochs=1, maps=("srm/variance",))
        axes = {"decoder": decoder, **maker.trials[-1].axes}
        maker.trials[-1] = maker.trials[-1].model_copy(update={"axes": axes})
    maker.protocol = "dolos-2024"
    maker.plan("patches", {domains[3]: 9000}, maps=("pixels",))
    maker.protocol = "declip-2025"
    maker.plan("all", every)
    known: Mapping[str, float] = dict(zip(domains, ours, strict=True))

    def of(trial, domain: str) -> float:
        name = trial.spec.decoder.name
        if trial.stage == "patches":
            return patches if domain == domains[3] else 0.1
        return {"all-fake": constant, "mean-mask": 0.5}.get(name, known[domain])

    fields = {"name": "first-day", "sweep": "first-day-paper-dolos", "checks": CHECKS}
    record = studies.record(maker, "paper").model_copy(update=fields | more)
    studies.fill(workspace, record, of, lambda trial: "new" if trial.stage == skip else "", ("best",))
    return Study(record, Results(workspace, record))


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def checked(workspace: Workspace, study: Study) -> list[checks.Checked]:
    """Return what becomes of the checks by all of the study's protocols, as a page and a command do."""
    return checks.checked(evaluations.by_protocol(workspace, study))


def states(workspace: Workspace, study: Study, metric: str | None = None) -> list[str]:
    return [each.state for each in checked(workspace, study) if each.check.metric == metric]


def test_the_file_checks_what_the_documents_print():
    tables = published.load()
    known = [(check.stage, check.domain, checks.known(check, tables)) for check in CHECKS]
    assert known[:4] == [("baselines", domain, 0.1891) for domain in DOLOS]
    assert known[4:8] == [("baselines", domain, 0.2359) for domain in DOLOS]
    assert known[8] == ("patches", PLURALISTIC, pytest.approx(PATCHES))
    assert known[9:] == [("all", domain, pytest.approx(value)) for domain, value in zip(DOLOS, THIRDS, strict=True)]
    assert {check.tolerance for check in CHECKS[:8]} == {0.00005}, "half of the last printed digit"
    first, second = tables["s000.single_domain.vit_rn50"].cells, tables["declip.matrix"].cells
    apart = max(abs(first[domain, domain].value - second[domain, domain].value) for domain in DOLOS)
    assert apart == pytest.approx(0.007), "as the reason of the tolerance says"
    assert {check.tolerance for check in CHECKS[8:]} == {0.02}


def test_what_is_as_published_passes_and_what_is_away_by_more_than_the_tolerance_fails(workspace):
    study = first_day(workspace, (0.441 + 0.0199, 0.624 - 0.0201, 0.758, 0.80), 0.18914)
    assert states(workspace, study) == ["PASS"] * 5 + ["PASS", "FAIL", "PASS", "FAIL"]
    assert states(workspace, study, "f1_fixed") == ["FAIL"] * 4, "0.28914 of these rows"
    lines = [each.line for each in checked(workspace, study)]
    assert lines[0] == (
        "PASS: all fake, celebahq/ldm: IoU 0.1891, published 0.1891 (+0.0000, at most 5e-05 either way)"
    )
    assert lines[10].startswith("FAIL: ViT+RN50 on thirds of all four, celebahq/repaint-p2-9k: IoU 0.6039")


@pytest.mark.parametrize(("patches", "state"), [(0.864 - 0.0199, "PASS"), (0.864 + 0.0201, "FAIL")])
def test_patches_is_checked_by_the_protocol_of_its_figure(workspace, patches, state):
    study = first_day(workspace, patches=patches)
    assert study.record.protocols == ("declip-2025", "dolos-2024")
    [found] = [each for each in checked(workspace, study) if each.check.stage == "patches"]
    assert (found.state, found.known) == (state, pytest.approx(0.864))
    assert found.ours is not None
    assert found.ours.value == pytest.approx(patches)
    alone = study.record.by("declip-2025")
    [other] = [
        each for each in checked(workspace, Study(alone, Results(workspace, alone))) if each.check == found.check
    ]
    assert (other.state, other.why) == ("not yet", "not planned here"), "the thesis' protocol has no such rows"


def test_all_fake_that_is_off_in_the_last_printed_digit_fails(workspace):
    assert states(workspace, first_day(workspace, constant=0.1892)) == ["FAIL"] * 4 + ["PASS"] * 5


def test_what_is_not_run_is_not_yet(workspace):
    study = first_day(workspace, skip="all")
    assert states(workspace, study) == ["PASS"] * 5 + ["not yet"] * 4
    assert checked(workspace, study)[-1].why == "not run"
    only = study.record.model_copy(update={"trials": study.record.trials[:2]})
    found = checks.checked([Study(only, Results(workspace, only))])
    assert [each.why for each in found[8:]] == ["not planned here"] * 5


def test_built_in_data_and_limited_runs_are_not_of_this_data(workspace, tmp_path):
    mini = first_day(workspace, domains=MINI, synthetic=True)
    assert {each.state for each in checks.checked([mini])} == {"not of this data"}
    limited = first_day(Workspace(tmp_path / "limited"), limit=100)
    assert {each.why for each in checks.checked([limited])} == {"limited to 100 images"}
    own = first_day(Workspace(tmp_path / "own"), domains=("own/a", "own/b", "own/c", "own/d"))
    assert {each.why for each in checks.checked([own])} >= {"celebahq/ldm is not tested"}


def test_the_page_begins_with_them_and_says_why_so_much_is_allowed(workspace):
    study = first_day(workspace, (0.441, 0.624, 0.758, 0.80))
    folder = build.write(workspace, study, with_panel=False)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="([\w-]+)"', page)[:2] == ["answer", "checks"]
    section = page.partition('<section id="checks">')[2].partition("</section>")[0]
    assert "8 PASS, 5 FAIL." in section
    assert all(check.because in section for check in CHECKS)
    rows = (folder / "checks.csv").read_text(encoding="utf-8")
    assert rows.count(",PASS,") == 8
    assert "s000.cross_domain.vit_rn50 celebahq/pluralistic train_all_4" in rows


def test_a_study_without_checks_has_no_such_section(workspace):
    study = first_day(workspace, checks=())
    assert checks.sections([study]) == []


def test_a_command_ends_by_one_where_a_check_fails_and_says_each_in_a_line(workspace):
    for value, code in ((0.727, 0), (0.80, 1)):
        kept = tuple(check for check in CHECKS if check.metric is None)
        place = Workspace(workspace.root / str(code))
        found = checked(place, first_day(place, (*THIRDS[:3], value), checks=kept))
        failed = any(each.state == "FAIL" for each in found)
        end = SweepEnd(None, (), "", 0, {}, False, [each.line for each in found], failed)
        lines, returned = of_end(end, "")
        assert returned == code
        assert len([line for line in lines if line.startswith(("PASS: ", "FAIL: "))]) == 9


def test_a_number_has_one_source():
    given = {"name": "a", "stage": "b", "domain": "c", "tolerance": 0.1, "because": "d"}
    for more in ({}, {"value": 0.5, "published": ["s000.budgets", "a", "b"]}):
        with pytest.raises(ValueError, match="one of them"):
            Check.model_validate(given | more)
    wrong = Check.model_validate(given | {"published": ["s000.budgets", "celebahq/ldm", "none"]})
    with pytest.raises(ConfigError, match=r"table s000.budgets has no number at \[celebahq/ldm, none\]"):
        checks.known(wrong, published.load())
    unknown = Check.model_validate(given | {"published": ["s000.budget", "a", "b"]})
    with pytest.raises(ConfigError, match="did you mean"):
        checks.known(unknown, published.load())
