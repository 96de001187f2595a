"""Every study's report is the one that is kept (`reports`), and what the kept ones cannot see is known."""

import csv
import io
from functools import cache
from pathlib import Path

import pytest

from dfloc.sweep.sweep_file import shipped
from tests.golden import compare, reports
from tests.report.drawn import overlaps


@cache
def built(name: str) -> reports.Built:
    return reports.built(reports.CASES[name])


@pytest.mark.parametrize("name", reports.CASES)
def test_the_report_is_the_one_that_is_kept(name: str) -> None:
    found = reports.against(name, built(name).files)
    assert not found, f"{len(found)} differences\n{reports.shortly(found)}"


@pytest.mark.parametrize("name", reports.CASES)
def test_no_two_texts_of_a_figure_overlap(name: str) -> None:
    figures = built(name).figures
    assert figures
    assert {figure.id: meet for figure in figures if (meet := overlaps(figure))} == {}


def test_every_study_is_kept_at_paper_size_and_nothing_else_is() -> None:
    whole = {case.starts[0]["name"] for case in reports.CASES.values() if case.starts[0]["preset"] == "paper"}
    assert whole == set(shipped())
    assert {path.name for path in reports.REPORTS.iterdir()} == {reports.archive(name).name for name in reports.CASES}


def _column(text: str, head: str) -> list[str]:
    return [row[head] for row in csv.DictReader(io.StringIO(text))]


def test_what_is_kept_has_what_a_rewrite_can_get_wrong() -> None:
    kept = {name: compare.unpack(reports.archive(name)) for name in reports.CASES}
    every = "\n".join(text for files in kept.values() for text in files.values())
    states = {state for files in kept.values() for state in _column(files["evaluations.csv"], "state")}
    assert states == {"done", "failed", "new", "partial", "stopped"}
    for words in (
        "COLLAPSED",
        "empty predictions on",
        "not scored",
        "of 3 runs",
        "Mixed versions",
        "% of resamples",
        "None is put to ours",
    ):
        assert words in every, words
    judged = [row for files in kept.values() if "claims.csv" in files for row in _column(files["claims.csv"], "Ours")]
    assert {word.split(",")[0] for word in judged} == {"holds", "FAILS"}
    assert any(name.startswith("published-") for name in kept["exposure"])
    assert {*_column(kept["search"]["search.csv"], "State")} >= {"finished", "stopped early"}
    assert {*_column(kept["exposure-seeds"]["evaluations.csv"], "seed")} == {"0", "1", "2"}
    assert {*_column(kept["generator-shift-draws"]["evaluations.csv"], "draw")} == {"0", "1"}
    assert {*_column(kept["exposure-starts"]["evaluations.csv"], "protocol")} == {"declip-2025", "dfloc-1"}


def test_what_is_kept_is_small() -> None:
    assert sum(path.stat().st_size for path in reports.REPORTS.iterdir()) < 700_000


def test_the_same_files_are_packed_to_the_same_bytes(tmp_path: Path) -> None:
    files = {"b.csv": "a,b\n1,2\n", "a.md": "words\n"}
    data = compare.pack(files)
    assert data == compare.pack(dict(reversed(files.items())))
    (tmp_path / "x.tar.xz").write_bytes(data)
    assert compare.unpack(tmp_path / "x.tar.xz") == files


def test_the_command_says_what_has_changed_and_writes_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, folder = "source-shift", tmp_path / "reports"
    monkeypatch.setattr(reports, "HERE", tmp_path)
    monkeypatch.setattr(reports, "REPORTS", folder)
    assert reports.main([name]) == 1, "nothing is kept yet"
    assert not folder.exists()
    assert reports.main([name, "--write"]) == 0
    assert f"{name}/models.csv: is new" in capsys.readouterr().out
    data = reports.archive(name).read_bytes()
    assert data == compare.pack(compare.unpack(reports.archive(name)))
    assert reports.main([name]) == 0
    assert capsys.readouterr().out == f"reports/{name}.tar.xz: unchanged\n"
    kept = compare.unpack(reports.archive(name))
    kept["models.csv"] = kept["models.csv"].replace("xception", "Xception")
    reports.archive(name).write_bytes(compare.pack(kept))
    assert reports.main([name, "--write"]) == 0
    assert f"{name}/models.csv: row 2 (Xception" in capsys.readouterr().out
    assert reports.archive(name).read_bytes() == data


OLD = "Name,IoU,IoU: low\nbase,0.5,0.4\ntuned,0.75,0.7\nreplay,0.625,0.6\n"


def said(new: str, old: str = OLD, name: str = "exposure.csv") -> list[str]:
    return [str(one) for one in compare.differences({name: old}, {name: new})]


def test_a_cell_is_named_by_file_row_and_column_with_both_values() -> None:
    assert said(OLD.replace("0.75", "0.76")) == ["exposure.csv: row 3 (tuned), column 'IoU': was '0.75', is '0.76'"]
    assert said(OLD.replace("base", "Base")) == ["exposure.csv: row 2 (base), column 'Name': was 'base', is 'Base'"]


def test_numbers_are_compared_at_nine_digits() -> None:
    assert compare.kept("x\n0.12345678949\n1e-05\n2.0\n1.50e3\n83e912345678\n007\n") == (
        "x\n0.123456789\n1e-05\n2\n1500\n83e912345678\n007\n"
    )
    assert compare.alike("0.123456789", "0.1234567891")
    assert not compare.alike("0.123456789", "0.123456809")
    assert not compare.alike("0.5", f"{0.5 * (1 + 1e-6)}")
    assert compare.alike("0", "-1e-17")
    assert not compare.alike("1.0", "")
    assert not compare.alike("12", "13")


def test_a_digest_is_compared_by_its_first_digits() -> None:
    assert compare.kept(f"x\n{'ab' * 32}\n{'1' * 64}\n") == f"x\n{'ab' * 8}\n{'1' * 16}\n"


def test_a_row_or_a_column_that_is_gone_is_named_alone() -> None:
    assert said(OLD.replace("tuned,0.75,0.7\n", "")) == ["exposure.csv: row 3 (tuned): is gone"]
    assert said(OLD + "alone,0.1,0.0\n") == ["exposure.csv: row 5 (alone): is new"]
    without = "Name,IoU\nbase,0.5\ntuned,0.75\nreplay,0.625\n"
    assert said(without) == ["exposure.csv: columns: gone 'IoU: low'"]
    assert said("Name,IoU: low,IoU\nbase,0.4,0.5\ntuned,0.7,0.75\nreplay,0.6,0.625\n") == [
        "exposure.csv: columns: another order: Name, IoU: low, IoU"
    ]


def test_a_head_over_other_numbers_is_seen_in_each_row() -> None:
    swapped = OLD.replace("IoU,IoU: low", "IoU: low,IoU")
    assert len(said(swapped)) == 1 + 2 * 3


def test_a_file_that_is_gone_or_new_is_said() -> None:
    found = compare.differences({"a.csv": OLD}, {"b.csv": OLD})
    assert [str(one) for one in found] == ["a.csv: is not written any more", "b.csv: is new"]


def test_words_are_compared_in_their_order_and_space_is_none() -> None:
    old = "# Title\n\nOne two three.\n\n| a | b |\n|---|---:|\n| 1 | 0.812 |\n"
    assert said(old.replace("---:", "---").replace("two three", "two\nthree"), old, "report.md") == []
    [found] = said(old.replace("0.812", "0.813"), old, "report.md")
    assert "under 'Title'" in found
    assert "0.812" in found
    assert "0.813" in found
    assert said(old.replace("One two", "two One"), old, "report.md")
    assert said(old + "more\n", old, "report.md")
    assert said("# Title\n", old, "report.md")


def test_a_report_does_not_depend_on_the_order_of_its_trials_being_filled() -> None:
    """The numbers of a trial follow from its spec: the same trial in two sweeps has the same rows."""
    kept = {name: compare.unpack(reports.archive(name))["evaluations.csv"] for name in ("single-domain", "exposure")}
    found = [
        {(row["trial"], row["test_domain"]): row["iou"] for row in csv.DictReader(io.StringIO(text)) if row["iou"]}
        for text in kept.values()
    ]
    common = found[0].keys() & found[1].keys()
    assert common
    assert [key for key in common if found[0][key] != found[1][key]] == []
