"""Pages over the reports of all sweeps of a workspace: what each answers, and what becomes of the documents' claims."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from upath import UPath

from dfloc import parent_run, storage
from dfloc.errors import DflocError
from dfloc.record import SweepRecord
from dfloc.report import all_claims, evaluations, overview, render
from dfloc.report.build import write
from dfloc.report.find import records
from dfloc.report.groups import Study
from dfloc.report.results import Results
from dfloc.storage import Workspace

logger = logging.getLogger(__name__)

SYNTHETIC = "random weights: path only, numbers mean nothing"
BUILT_IN = "built-in data: the numbers say nothing about Dolos"


@dataclass(frozen=True)
class Entry:
    """One study of the page.

    Attributes:
        mark: what must be known of its numbers; empty where nothing.
        sentences: what it answers, sentence by sentence.
    """

    record: SweepRecord
    state: str
    mark: str
    sentences: Sequence[str]


def build_all(workspace: Workspace, *, with_panel: bool = True) -> tuple[UPath, dict[str, str]]:
    """Build the report of every sweep that a workspace has a record of, `reports/index.html` and `reports/claims.html`.

    Args:
        workspace: where the sweeps ran.
        with_panel: whether the pages show images.

    Returns:
        The page, and by its name why a sweep has no report: one that fails keeps no other from its own.
    """
    entries, failed, studies = [], dict[str, str](), list[Study]()
    for record in sorted(records(workspace.root, failed), key=lambda record: record.sweep):
        try:
            study = Study(record, Results(workspace, record))
            folder = write(workspace, study, with_panel=with_panel)
            entries.append(entry(study, parent_run.sentences(folder)))
            studies += evaluations.by_protocol(workspace, study)
        except DflocError as error:
            failed[record.sweep] = str(error)
        except Exception as error:
            logger.debug("the report of %s failed", record.sweep, exc_info=True)
            failed[record.sweep] = f"{type(error).__name__}: {error}; dfloc report {record.sweep} --debug says where"
    every = all_claims.gather(workspace, studies, failed)
    for name, text in (
        ("claims.html", render.html("all_claims", page=every)),
        ("claims.md", render.markdown("all_claims", page=every)),
        ("claims.csv", every.csv()),
    ):
        storage.put(workspace.report(name), text.encode())
    page = workspace.report("index.html")
    storage.put(page, render.html("index", entries=entries, failed=failed, claims=every.summary).encode())
    return page, failed


def entry(study: Study, sentences: Sequence[str] = ()) -> Entry:
    """Return what the page says of a study, with what its own page answers."""
    mark = SYNTHETIC if study.path_only else BUILT_IN if study.built_in else ""
    return Entry(study.record, overview.state_line(study), mark, sentences)
