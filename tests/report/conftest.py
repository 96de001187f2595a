from collections.abc import Callable, Iterator

import pytest

from dfloc.planned import PlannedTrial
from dfloc.record import SweepRecord
from dfloc.report.controls import blocks, controls_of
from dfloc.report.groups import Facet, Group, Study
from dfloc.report.results import Results
from dfloc.storage import Workspace
from tests.report import studies
from tests.report.planned import any_number_of_images

Make = Callable[..., Study]


@pytest.fixture(scope="module", autouse=True)
def few_test_images() -> Iterator[None]:
    """Made-up studies of Dolos are tested on a few images."""
    with any_number_of_images():
        yield


@pytest.fixture(scope="session")
def mini_workspace(tmp_path_factory) -> Workspace:
    """Every trial of the mini study is finished."""
    workspace = Workspace(tmp_path_factory.mktemp("mini"))
    record = studies.mini()
    studies.fill(workspace, record)
    record.save(workspace.sweep(record.sweep))
    return workspace


@pytest.fixture(scope="session")
def mini_study(mini_workspace: Workspace) -> Study:
    record = studies.mini()
    return Study(record, Results(mini_workspace, record))


@pytest.fixture(scope="session")
def paper_workspace(tmp_path_factory) -> Workspace:
    """The study on Dolos with three n and 12 test images; every trial is finished."""
    workspace = Workspace(tmp_path_factory.mktemp("paper"))
    studies.fill(workspace, small_paper())
    return workspace


@pytest.fixture(scope="session")
def paper_study(paper_workspace: Workspace) -> Study:
    record = small_paper()
    return Study(record, Results(paper_workspace, record))


def small_paper() -> SweepRecord:
    return studies.paper(ns=(250, 1000, 3000), num_test=12)


@pytest.fixture
def study_of(tmp_path) -> Make:
    """Makes the study of a record whose trials fared as told."""

    def make(record: SweepRecord, of=studies.truth, skip: Callable[[PlannedTrial], str] | None = None) -> Study:
        workspace = Workspace(tmp_path / "workspace")
        studies.fill(workspace, record, of, skip, checkpoints=("best",))
        return Study(record, Results(workspace, record))

    return make


def curve_of(study: Study, held_out: str, label: str = "", facet: Facet = ()) -> dict[int, Group]:
    """Return a curve of a held-out domain, by n: the main one, or the control of a label."""
    of = next((one for one in controls_of(study) if one.label == label), None)
    return next(curve for own, domain, curve in blocks(study, of) if domain == held_out and facet in ((), own))


def texts(table, first: str, n: str | None = None) -> list[str]:
    """Return the texts of the row that starts with these words."""
    for row in table.rows:
        cells = [cell.text for cell in row.cells]
        if cells[0] == first and (n is None or cells[1] == n):
            return cells
    raise AssertionError(f"no row {first} {n} in {table.id}")
