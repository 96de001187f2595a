"""The trials of every study have the fingerprints that they had, and a dry run prints what it printed."""

import pytest

from dfloc.sweep.sweep_file import shipped
from tests.golden import reports, trials


def test_the_trials_of_40e56a3_are_planned_with_the_fingerprints_that_they_had() -> None:
    old = [line for line in trials.kept() if line.since]
    assert len(old) == 614
    assert {line.since for line in old} == {trials.MARK}
    later = {"attribution", "detection", "first-day", "masks-or-labels", "two-step", "weak"}
    assert {line.sweep for line in old} == set(shipped()) - later
    assert trials.lost(trials.today()) == []


def test_the_trials_of_today_are_those_on_file() -> None:
    assert reports.lines_apart(trials.FILE.read_text(), trials.written(trials.today())) == []


def test_a_trial_of_40e56a3_is_never_written_out_of_the_file() -> None:
    today, marked = trials.today(), next(line for line in trials.kept() if line.since)
    changed = [line._replace(fingerprint="0" * 64) if line == marked.trial else line for line in today]
    assert trials.lost(changed) == [marked]
    with pytest.raises(ValueError, match="1 trials of 40e56a3 are planned otherwise"):
        trials.written(changed)


def test_a_trial_that_is_new_has_no_mark() -> None:
    today = trials.today()
    new = today[0]._replace(stage="more", fingerprint="1" * 64)
    assert trials.written([*today, new]).splitlines()[-1] == "\t".join(new)


@pytest.mark.parametrize("name", shipped())
def test_a_dry_run_prints_the_lines_that_are_kept(name: str) -> None:
    assert reports.lines_apart(reports.kept_dry_runs()[name], reports.said(name)) == []
