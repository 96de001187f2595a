import re
from pathlib import Path

import pytest
import yaml

from dfloc.errors import ConfigError
from dfloc.report import published
from dfloc.report.published import choose, load


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


def test_the_notebooks_matrices_are_read_only_when_asked_for():
    more = load(unpublished=True)
    assert len(more.keys() - load().keys()) == 12
    matrix = more["nb.sam2.hrf1_conv20"]
    assert matrix.cells["celebahq/lama", "celebahq/pluralistic"].value == pytest.approx(0.0823)
    assert (matrix.unit, more["s002.same_generator"].unit) == ("percent", "fraction")


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
