import itertools
import json
import re
from pathlib import Path

import pytest
import yaml

from dfloc.errors import ConfigError
from dfloc.report import published
from dfloc.report.published import choose, load
from tests import golden

FACTS = json.loads((Path(golden.__file__).parent / "notebook-facts.json").read_text(encoding="utf-8"))


def test_values_are_fractions_with_full_domain_names():
    tables = load()
    budgets = tables["s000.budgets"]
    assert budgets.cells["3000-each-train_all_4", "celebahq/ldm"].value == pytest.approx(0.441)
    assert budgets.cells["9000-each-per-model", "celebahq/pluralistic"].value == pytest.approx(0.839)
    lama = tables["s000.exposure.lama"]
    assert lama.held_out == "celebahq/lama"
    assert lama.cells["celebahq/lama", 1000].value == pytest.approx(0.701)
    assert lama.cells["celebahq/repaint-p2-9k", 0].value == pytest.approx(0.6232)


def test_status_and_reason_of_cells():
    lama = load()["s000.exposure.lama"]
    assert {n for (_, n), cell in lama.cells.items() if cell.status == "suspect"} == {250, 500, 750}
    assert "proved by the saved logs" in lama.cells["celebahq/ldm", 500].reason
    assert lama.cells["celebahq/ldm", 1000].status == "ok"
    row = load()["s000.budgets"].cells["3000-each-per-model", "celebahq/lama"]
    assert row.status == "mixed_config"
    assert "ViT alone" in row.reason


def test_a_table_says_where_its_localizers_are_tested_and_what_it_averages():
    tables = load()
    assert tables["s004.table2"].tested == ("celebahq/repaint-p2",)
    assert tables["s000.exposure.ldm"].tested[0] == "celebahq/ldm"
    assert len(tables["s000.exposure.ldm"].tested) == 4
    assert tables["s002.same_generator"].tested == ()
    assert tables["s000.budgets"].aggregate.startswith("mean over the 900 test images")


def test_rows_and_columns_replace_what_is_required():
    tables = load()
    row = tables["s000.budgets"].cells["3000-each-per-model", "celebahq/ldm"].requires
    assert row["maps"] == ["clip-vit-l14/layer20"]
    assert row["train"] == {"own": 3000}
    assert row["epochs"] == 30
    base = tables["s000.exposure.ldm"].cells["celebahq/ldm", 0].requires
    assert (base["train"], base["epochs"]) == ({}, 0)
    tuned = tables["s000.exposure.ldm"].cells["celebahq/ldm", 250].requires
    assert (tuned["train"], tuned["epochs"]) == ({"celebahq/ldm": "n"}, 10)


def test_a_dash_has_no_cell_and_a_table_of_unknown_settings_is_context():
    tables = load()
    assert ("detector+generalist", "celebahq/ldm") not in tables["s000.two_step.domain_only"].cells
    assert tables["s000.budgets"].comparable
    assert not tables["s002.same_generator"].comparable


def test_the_counts_of_the_seed_text_are_there():
    text = published.SHIPPED.read_text(encoding="utf-8")
    assert len(load()) == len(yaml.safe_load(text)["studies"]) == 27
    assert len(re.findall(r"id: s000\.exposure\.\w[\w-]*$", text, flags=re.M)) == 4


def test_what_the_notebooks_hold_is_read_only_when_asked_for():
    more = load(unpublished=True)
    assert len(more.keys() - load().keys()) == 19
    matrix = more["nb.sam2.hrf1_conv20"]
    assert matrix.cells["celebahq/lama", "celebahq/pluralistic"].value == pytest.approx(0.0823)
    assert (matrix.unit, more["s002.same_generator"].unit) == ("percent", "fraction")


SHORT = {"ldm": "celebahq/ldm", "lama": "celebahq/lama", "pluralistic": "celebahq/pluralistic"} | {
    "repaint-p2-9k": "celebahq/repaint-p2-9k", "real": "celebahq/real", "all": "all",
}  # fmt: skip


def test_the_two_step_rows_with_reals_are_the_notebooks_printed_ones():
    more = load(unpublished=True)
    rows = {"detector+generalist": "detector+generalist"} | {
        f"classifier+4-specialists-{name}": f"classifier+4-{name}" for name in ("hrf0", "clip")
    }
    for table, key in (("nb.two_step.with_real", "two_step_with_real"), ("nb.two_step.domain_only", "two_step_fakes")):
        found = {(rows[row], col): 100 * cell.value for (row, col), cell in more[table].cells.items()}
        printed = {(row, SHORT[col]): value for row, line in FACTS[key].items() for col, value in line.items()}
        assert found == pytest.approx(printed, abs=1e-9)
    slide = more["s000.two_step.with_real"].cells
    for (row, col), cell in slide.items():
        own = "classifier+4-specialists-hrf0" if row == "classifier+4-specialists" else row
        assert cell.value == pytest.approx(more["nb.two_step.with_real"].cells[own, col].value, abs=0.0006)


def test_recalls_of_the_classifier_follow_from_its_printed_accuracies():
    """Right of 900 reals and 900 fakes give the accuracies that are printed, and no other whole numbers do."""
    right, cells = FACTS["classifier_right_of_900"], load(unpublished=True)["nb.classification.recall"].cells
    assert {col: round(900 * cell.value) for (_, col), cell in cells.items()} == {
        SHORT[name]: count for name, count in right.items()
    }
    printed = FACTS["accuracy_900_plus_900"]
    sums = {name: [k for k in range(1801) if round(k / 1800, 4) == value] for name, value in printed.items()}
    solutions = [
        (reals, *(fakes - reals for fakes in each))
        for reals in range(901)
        for each in itertools.product(*sums.values())
        if all(0 <= fakes - reals <= 900 for fakes in each)
        and round((sum(each) - (len(each) - 1) * reals) / 4500, 4) == FACTS["accuracy_4500"]
    ]
    assert solutions == [(right["real"], *(right[name] for name in printed))]


def test_the_posters_attribution_is_of_900_images_a_class_and_its_numbers_are_truncated():
    """Each recall is one count of 900, and their sums over 4,500 give what is printed over all, 46.20 included."""
    cells = load()["s003.attribution"].cells
    printed = {key: round(10_000 * cell.value) for key, cell in cells.items()}
    counts = {key: [k for k in range(901) if k * 10_000 // 900 == value] for key, value in printed.items()}
    for row in dict.fromkeys(row for row, _ in cells):
        of_classes = [counts[key] for key in cells if key[0] == row and key[1] != "overall"]
        assert [len(each) for each in of_classes] == [1] * 5
        assert sum(each[0] for each in of_classes) * 10_000 // 4500 == printed[row, "overall"]


def test_what_is_derived_is_never_called_published():
    table = load(unpublished=True)["derived.two_step.detector_generalist"]
    assert table.kind == "Derived from the author's notebook"
    assert {cell.status for cell in table.cells.values()} == {"derived"}
    cell = table.cells["detector+generalist", "celebahq/repaint-p2-9k"]
    assert "reals with an empty map 82.3 %" in cell.reason
    for (row, domain), each in table.cells.items():
        with_real = FACTS["two_step_with_real"][row][domain.rpartition("/")[2]]
        assert 100 * each.value == pytest.approx(2 * with_real - 82.3, abs=0.06)


def test_choose_names_an_unknown_table():
    with pytest.raises(ConfigError, match=r'unknown published table "s000.budget".*did you mean "s000.budgets"'):
        choose(load(), ("s000.budget",))
    assert [table.id for table in choose(load(), ("s000.budgets",))] == ["s000.budgets"]


def broken(tmp_path: Path, **update) -> Path:
    study = {
        "id": "t", "source": {"doc": "d", "where": "w"}, "metric": "iou", "unit": "percent", "rows_axis": "a",
        "cols_axis": "b", "rows": ["x"], "cols": ["y"], "values": [[1.0]], "protocol": "declip-2025",
        "comparable": "yes", "requires": {},
    }  # fmt: skip
    path = tmp_path / "published.yaml"
    content = {"names": {}, "sources": {"d": {"cite": "c"}}, "studies": [study | update]}
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def test_a_table_of_another_shape_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="t should have 1 x 1 values"):
        load(broken(tmp_path, values=[[1.0, 2.0]]))


def test_a_mark_on_no_cell_is_refused(tmp_path):
    mark = {"row": "x", "col": "z", "status": "suspect", "reason": "r"}
    with pytest.raises(ConfigError, match="marks cells that it does not have"):
        load(broken(tmp_path, cell_status=[mark]))
