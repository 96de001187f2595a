"""The shipped studies beside their documents: what is compared, and the panels that stand for each table."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from dfloc.record import PlannedTrial
from dfloc.report import beside, models, placed, published
from dfloc.report.beside import Pair
from dfloc.report.groups import Study
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
        record = planned(folder, name, preset, keep)
        workspace = Workspace(folder)
        studies.fill(workspace, record, crossed.truth, checkpoints=("best",))
        return Study(record, Results(workspace, record))

    return make


def in_cases(*cases: str) -> Keep:
    return lambda trial: trial.case in cases


def few_points(trial: PlannedTrial) -> bool:
    return trial.stage in ("base", "budgets") or (trial.stage == "finetune" and trial.axes["n"] in (250, 3000))


def pairs(study: Study) -> list[Pair]:
    tables = published.choose(published.load(unpublished=True), study.record.tables)
    return [*beside.pairs(study, tables), *placed.pairs(study, models.models(study), tables)]


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
    drawn = [*beside.tables(study, found), *placed.tables(study, [pair for pair in found if pair.n is None])]
    assert all(table.rows for table in drawn)


def test_a_difference_is_ours_less_the_published_one(study_of: Make) -> None:
    study = study_of("source-shift")
    (table,) = placed.tables(study, pairs(study))
    (line,) = [row.cells for row in table.rows if row.cells[1].text == "C"]
    place = table.columns.index("ffhq/iou published")
    ours = crossed.truth(study.stage("single")[1].first.trial, "celebahq/repaint-p2")
    assert [cell.text for cell in line[place : place + 3]] == ["32.3", f"{100 * ours:.1f}", f"{100 * ours - 32.3:+.1f}"]


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
    assert all(any("BatchNorm moved" in gap for gap in pair.gaps) for pair in found if pair.table.id.startswith("nb"))


def test_every_table_of_a_study_stands_beside_it(tmp_path: Path) -> None:
    """published.yaml names the study of each table; two tables of the exposure study have no training of its own."""
    import yaml

    content = yaml.safe_load(published.SHIPPED.read_text(encoding="utf-8"))
    tables: dict[str, set[str]] = {}
    for each in (*content["studies"], *content["unpublished"]):
        tables.setdefault(each["study"], set()).add(each["id"])
    tables["exposure"] -= {"s000.reductions", "s000.exposure.lama.valid_log", "nb.thirds.vit_conv12"}
    for name in ("exposure", "single-domain", "cross-domain", "sam2-decoders", "segmenters", "generator-shift"):
        assert tables[name] <= set(planned(tmp_path, name, keep=lambda _: False).tables)
