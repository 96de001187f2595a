"""The shipped studies beside their documents: what is compared, and the panels that stand for each table."""

from collections import Counter
from collections.abc import Callable

import pytest
import yaml

from dfloc.planned import PlannedTrial
from dfloc.report import areas, budgets, comparison, figures, heatmaps, models, place, published, ranking, trends
from dfloc.report.chart import Heat, Panel
from dfloc.report.groups import Study
from dfloc.report.place import Pair
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import crossed, studies
from tests.report.planned import Keep, planned

UNSTATED = "the source does not state batch + lr schedule + selection + init"
FIGURES = ("sam2-image-embed-conv-20", "sam2-high-res-0-conv-20", "sam2-high-res-1-conv-20")

Make = Callable[..., Study]


@pytest.fixture(scope="module")
def study_of(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a study whose trials, those that are kept, are finished with made-up numbers."""

    def make(name: str, preset: str = "paper", keep: Keep = lambda _: True) -> Study:
        folder = tmp_path_factory.mktemp(name)
        record = planned(name, preset, keep)
        workspace = Workspace(folder)
        studies.fill(workspace, record, crossed.truth, checkpoints=("best",))
        return Study(record, Results(workspace, record))

    return make


def in_cases(*cases: str) -> Keep:
    return lambda trial: trial.case in cases


def few_points(trial: PlannedTrial) -> bool:
    return trial.stage in ("base", "budgets") or (trial.stage == "finetune" and trial.axes["n"] in (250, 3000))


def curves(trial: PlannedTrial) -> bool:
    return trial.stage in ("base", "finetune", "budgets")


def pairs(study: Study) -> list[Pair]:
    tables = published.choose(published.load(unpublished=True), study.record.tables)
    return place.matched(place.pairs(study, tables))


def differences(found: list[Pair]) -> Counter[str]:
    """Return of each table how many numbers have a difference."""
    return Counter(pair.table.id for pair in found if pair.ours and not pair.gaps)


@pytest.mark.parametrize(
    ("name", "keep", "expected"),
    [
        (
            "single-domain",
            in_cases("vit-rn50-conv-12", "vit-rn50-equal"),
            {"s000.single_domain.vit_rn50": 16, "s000.mean_over_domains": 1},
        ),
        (
            "cross-domain",
            in_cases("vit-rn50-conv-12", "vit-conv-12"),
            {"s000.cross_domain.vit_rn50": 20, "s000.mean_over_domains": 1},
        ),
        ("generator-shift", lambda _: True, {"s004.figure6": 32}),
        (  # docs/REPRODUCE.md: the cheapest cell has its whole column
            "generator-shift",
            lambda trial: trial.axes.get("domain") == "celebahq/pluralistic",
            {"s004.figure6": 4},
        ),
        ("source-shift", lambda _: True, {"s004.table3": 4}),
        (
            "exposure",  # of 4 x 4 numbers at each n; 250 is doubtful for three of the four held-out domains
            few_points,
            {
                "s000.exposure.ldm": 12,
                "s000.exposure.repaint-p2-9k": 8,
                "s000.exposure.lama": 8,
                "s000.exposure.pluralistic": 8,
                "s000.budgets": 16,
                "s000.mean_over_domains": 3,
            },
        ),
    ],
)
def test_a_study_that_runs_as_published_has_its_differences(
    study_of: Make, name: str, keep: Keep, expected: dict[str, int]
) -> None:
    study = study_of(name, keep=keep)
    found = pairs(study)
    assert differences(found) == expected
    drawn = comparison.tables(study, found)
    assert all(table.rows for table in drawn)


def test_a_difference_is_ours_less_the_published_one(study_of: Make) -> None:
    study = study_of("source-shift")
    (table,) = comparison.tables(study, pairs(study))
    (line,) = [row.cells for row in table.rows if row.cells[1].text == "C"]
    start = table.heads.index("ffhq/iou published")
    ours = crossed.truth(study.stage("single")[1].first.trial, "celebahq/repaint-p2")
    assert [cell.text for cell in line[start : start + 3]] == ["32.3", f"{100 * ours:.1f}", f"{100 * ours - 32.3:+.1f}"]


@pytest.mark.parametrize(
    ("name", "keep", "table", "numbers"),
    [
        ("single-domain", in_cases(*FIGURES), "s000.single_domain.sam2_hrf1", 16),
        ("sam2-decoders", lambda trial: trial.case == "via-224", "s001.decoders", 10),
    ],
)
def test_sam_2_lacks_nothing_but_what_its_source_does_not_state(
    study_of: Make, name: str, keep: Keep, table: str, numbers: int
) -> None:
    """Its weights, by the library's own word, are those of the documents."""
    found = [pair for pair in pairs(study_of(name, keep=keep)) if pair.table.id == table]
    assert len(found) == numbers
    assert all(pair.ours for pair in found)
    assert {gap for pair in found for gap in pair.gaps if not gap.startswith("published value suspect")} == {UNSTATED}


def test_segmenters_and_notebooks_are_context(study_of: Make) -> None:
    context = "the table is context: its protocol or main settings are not known"
    best = study_of("segmenters", keep=lambda trial: trial.stage in ("same-generator", "leave-one-out"))
    alone = study_of("single-domain", keep=in_cases("rn50-conv-20"))
    found = [*pairs(best), *(pair for pair in pairs(alone) if pair.ours)]
    assert {pair.table.id for pair in found} == {
        "s002.same_generator",
        "s002.leave_one_out",
        "nb.single.rn50_conv20",
    }
    assert all(pair.ours and context in pair.gaps for pair in found)
    assert "Author's notebook: nb.single.rn50_conv20 (context)" in matrices(alone)
    assert "Published: nb.single.rn50_conv20" not in matrices(alone)
    assert all(any("BatchNorm moved" in gap for gap in pair.gaps) for pair in found if pair.table.id.startswith("nb"))


def test_every_table_of_a_study_stands_beside_it() -> None:
    """published.yaml names the study of each table; two tables of the exposure study have no training of its own."""
    content = yaml.safe_load(published.SHIPPED.read_text(encoding="utf-8"))
    tables: dict[str, set[str]] = {}
    for each in (*content["studies"], *content["unpublished"]):
        tables.setdefault(each["study"], set()).add(each["id"])
    tables["exposure"] -= {"s000.reductions", "s000.exposure.lama.valid_log", "nb.thirds.vit_conv12"}
    for name in ("exposure", "single-domain", "cross-domain", "sam2-decoders", "segmenters", "generator-shift"):
        assert tables[name] <= set(planned(name, keep=lambda _: False).tables)


def matrices(study: Study) -> dict[str, tuple[list[str], list[str]]]:
    """Return the rows and columns of each heat map of train x test, by its title; those of published tables too."""
    drawn = heatmaps.crossed(study, models.models(study), pairs(study)).panels
    return {each.title: heads(each) for each in drawn}


def heads(panel: Panel) -> tuple[list[str], list[str]]:
    """Return the heads of a heat map's rows and columns."""
    assert isinstance(panel.chart, Heat)
    return list(panel.chart.rows), list(panel.chart.columns)


# What stands for a published matrix: the model of the paper preset, and that of mini.
@pytest.mark.parametrize(
    ("name", "keep", "ours", "table"),
    [
        ("single-domain", in_cases("vit-rn50-conv-12"), "vit-rn50-conv-12", "s000.single_domain.vit_rn50"),
        (
            "single-domain",
            in_cases("sam2-high-res-1-conv-20"),
            "sam2-high-res-1-conv-20",
            "s000.single_domain.sam2_hrf1",
        ),
        ("cross-domain", in_cases("vit-rn50-conv-12"), "vit-rn50-conv-12", "s000.cross_domain.vit_rn50"),
        ("generator-shift", lambda trial: trial.stage != "baselines", "xception to block 2", "s004.figure6"),
    ],
)
def test_a_matrix_has_the_rows_and_columns_of_its_document(
    study_of: Make, name: str, keep: Keep, ours: str, table: str
) -> None:
    paper, mini = matrices(study_of(name, keep=keep)), matrices(study_of(name, "mini", keep))
    (document,) = published.choose(published.load(), (table,))
    rows = list(dict.fromkeys(str(row) for row, _ in document.cells))
    columns = [full(str(col)) for col in dict.fromkeys(col for _, col in document.cells)]
    assert set(paper[ours][0]) == set(rows)
    assert set(paper[ours][1]) == set(columns)
    assert [sorted(side) for side in paper[f"Published: {table}"]] == [sorted(rows), sorted(columns)]
    ((mini_rows, mini_columns),) = mini.values()  # another backbone, so another name
    assert Counter(map(kind, mini_columns)) == Counter(map(kind, columns))
    assert len(mini_rows) == len(rows)


def full(column: str) -> str:
    head, without, short = column.partition("without-")
    return f"{without}celebahq/{short}" if without else head


def kind(column: str) -> str:
    return column if column.startswith("train_all") else column.partition("-")[0] if "without" in column else "one"


def test_sam_2s_table_has_its_rows_and_means(study_of: Make) -> None:
    """s001's table: decoder and map x ID, OOD; figures by map and depth stand beside it."""
    rows = {tuple(str(row).split("/")) for row, _ in published.load()["s001.decoders"].cells}
    for preset, least in (("paper", 9), ("mini", 6)):
        study = study_of("sam2-decoders", preset, lambda trial: trial.case == "via-224")
        table = ranking.ranked(study, models.models(study))
        place = {name: table.heads.index(name) for name in ("Decoder", "Maps", "ID", "OOD")}
        trained = [row for row in table.rows if not row.muted]
        found = {(row.cells[place["Decoder"]].text, row.cells[place["Maps"]].text.partition("/")[2]) for row in trained}
        assert len(found) == least
        assert rows <= found if preset == "paper" else {each for _, each in rows} == {each for _, each in found}
        assert all(row.cells[place[mean]].exact for row in trained for mean in ("ID", "OOD"))
        (heat,) = [
            panel for panel in heatmaps.combined(study, models.models(study)).panels if "in-domain" in panel.title
        ]
        assert len(heads(heat)[0]) * len(heads(heat)[1]) == least


@pytest.mark.parametrize("preset", ["paper", "mini"])
def test_segmenters_have_their_two_tables_and_figures(study_of: Make, preset: str) -> None:
    """s002: table 1 and figure 1 train on one generator, table 2 and figure 2 on the three others."""
    study = study_of("segmenters", preset, lambda trial: trial.stage in ("same-generator", "leave-one-out"))
    ((_, (rows, columns)), *more) = [each for each in matrices(study).items() if "Published" not in each[0]]
    assert not more
    domains = list(study.record.domains)
    assert (rows, columns) == (domains, [*domains, *(f"without-{domain}" for domain in domains)])
    drawn = trends.epochs(study, models.models(study)).panels
    assert [[len(line.marks) for line in panel.chart.series] for panel in drawn] == [[2] * 4, [2] * 4]
    assert [panel.title.rpartition(": ")[2] for panel in drawn] == ["one domain", "all but one"]


@pytest.mark.parametrize("preset", ["paper", "mini"])
def test_sources_have_the_column_of_setup_c_and_iou_by_area(study_of: Make, preset: str) -> None:
    """s004 table 3 and figure 5: two trainings, one test set on Dolos; IoU and PBCA; a line for each training."""
    study = study_of("source-shift", preset, lambda trial: trial.stage == "single")
    found = models.models(study)
    ((_, (rows, columns)),) = [each for each in matrices(study).items() if "Published" not in each[0]]
    assert columns == list(study.record.domains)
    assert len(columns) == 2
    if preset == "paper":
        assert rows == ["celebahq/repaint-p2"]
        sources = {str(col).split("/")[0] for (row, col) in published.load()["s004.table3"].cells if row == "C"}
        assert {column.split("/")[0] for column in columns} == sources
    assert "PBCA, ID" in ranking.measured(study, found).heads
    assert all(len(panel.chart.series) == 2 for panel in areas.figure(study, found).panels)
    assert len(areas.figure(study, found).panels) == len(rows)


@pytest.mark.parametrize("preset", ["paper", "mini"])
def test_exposure_has_a_curve_for_each_held_out_domain_and_the_table_of_budgets(study_of: Make, preset: str) -> None:
    """s000: figures (a) to (d), a line for each test domain against n; five budgets x four test domains."""
    study = study_of("exposure", preset, few_points if preset == "paper" else curves)
    drawn = figures.panels(study, []).panels
    assert [panel.title for panel in drawn] == [f"Held out: {domain}" for domain in study.record.domains]
    ns = [0, 250, 3000] if preset == "paper" else [0, 4, 16, 48]
    for panel in drawn:
        lines = {line.name: line for line in panel.chart.series if line.name in study.record.domains}
        assert set(lines) == set(study.record.domains)
        assert all(len(line.marks) == len(ns) for line in lines.values())
    table = budgets.budgets(study)
    if preset == "paper":
        rows = {str(row) for row, _ in published.load()["s000.budgets"].cells}
        assert rows <= {row.cells[0].text for row in table.rows}
        trials = planned("exposure", keep=curves).trials
        columns = {col for _, col in published.load()["s000.exposure.ldm"].cells}
        assert {0, *(trial.axes["n"] for trial in trials if trial.stage == "finetune")} == columns
    assert set(study.record.domains) <= set(table.heads)
